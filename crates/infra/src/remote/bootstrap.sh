#!/usr/bin/env bash
# Puts pgdb on this server. Sent and run by `pgdb infra bootstrap`, as root; the daemon's settings come on standard input,
# a line each, for the token is one of them. Can be run again at any time.
#
#   bootstrap.sh --engine docker|none [--volume no] [--path FOLDER [--repo-url URL]]
#
# Without --path the program beside this file is installed; with it, one that is built from the checkout there.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
trap 'rm -rf "$here"' EXIT

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

engine='' volume='' path='' repo_url=''
while [ "$#" -gt 1 ]; do
  case "$1" in
    --engine) engine="$2" ;;
    --volume) volume="$2" ;;
    --path) path="$2" ;;
    --repo-url) repo_url="$2" ;;
    *) die "unknown argument '$1'" ;;
  esac
  shift 2
done
[ "$(id -u)" -eq 0 ] || die "this needs root"

# Kept out of every file but the one that the installer writes, and out of every program but the installer.
mapfile -t settings

# Only one at a time: an earlier one may still be at work although its connection broke.
exec 9>/run/pgdb-bootstrap.lock
flock --wait 600 9 || die "another bootstrap is at work on this server"

apt_install() {
  has apt-get || die "this system has no apt-get; install what Debian calls: $*"
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install
    --yes --quiet --quiet --no-install-recommends "$@")
  say "installing $*"
  "${install[@]}" >/dev/null 2>&1 && return
  apt-get -o DPkg::Lock::Timeout=300 update --quiet --quiet >&2
  "${install[@]}" >&2
}

# A server that starts for the first time is still being set up.
if has cloud-init; then
  say "waiting for cloud-init"
  timeout 600 cloud-init status --wait >/dev/null 2>&1 || say "cloud-init has not ended well; going on"
fi

# A line of /etc/fstab for a place, unless it has one.
fstab() {
  grep --quiet --extended-regexp "^[^#[:space:]]+[[:space:]]+$2[[:space:]]" /etc/fstab || printf '%s %s %s\n' "$1" "$2" "$3" >>/etc/fstab
}

# What is in the place of a folder of the volume would be hidden. It is not for a script to move what may be in use.
vacant() {
  mountpoint --quiet "$2" || [ -z "$(ls -A "$2" 2>/dev/null)" ] ||
    die "there is something in $2 that is not on the volume. To leave it there, give --no-volume. To have it on the volume, stop" \
      "what uses it first (pgdb down; systemctl stop pgdbd docker.socket docker), mount the volume at /mnt/pgdb, move it to $1," \
      "then run this again"
}

# A folder of the volume in the place where it is looked for.
bind() {
  mkdir -p "$1" "$2"
  if ! mountpoint --quiet "$2"; then
    fstab "$1" "$2" 'none bind,nofail,x-systemd.requires-mounts-for=/mnt/pgdb 0 0'
    systemctl daemon-reload
    mount "$2"
  fi
}

# A unit waits for its data: without that it would begin anew on the server's own disk.
needs_mount() {
  mkdir -p "/etc/systemd/system/$1.d"
  printf '[Unit]\nRequiresMountsFor=%s\n' "$2" >"/etc/systemd/system/$1.d/pgdb-volume.conf"
}

# The data of an earlier server belongs to the number that its user had there.
adopt_data() {
  local owner
  owner="$(stat --format=%u /var/lib/pgdb)"
  [ "$owner" -ne 0 ] || return 0
  # As install.sh makes it.
  getent passwd pgdb >/dev/null ||
    useradd --system --user-group --home-dir /var/lib/pgdb --no-create-home --shell /usr/sbin/nologin pgdb
  [ "$owner" -eq "$(id -u pgdb)" ] || chown --recursive --from="$owner" pgdb:pgdb /mnt/pgdb/pgdb
}

mount_volume() {
  local devices=(/dev/disk/by-id/scsi-0HC_Volume_*) elsewhere
  [ "$volume" != no ] && [ -e "${devices[0]}" ] || return 0
  vacant /mnt/pgdb/pgdb /var/lib/pgdb
  [ "$engine" != docker ] || vacant /mnt/pgdb/docker-volumes /var/lib/docker/volumes
  if ! mountpoint --quiet /mnt/pgdb; then
    mkdir -p /mnt/pgdb
    if ! grep --quiet --extended-regexp '[[:space:]]/mnt/pgdb[[:space:]]' /etc/fstab; then
      [ "${#devices[@]}" -eq 1 ] ||
        die "this server has several volumes; mount the one for pgdb at /mnt/pgdb, or give --no-volume, then run this again"
      elsewhere="$(findmnt --noheadings --first-only --output TARGET --source "$(realpath "${devices[0]}")" || true)"
      [ -z "$elsewhere" ] ||
        die "the volume ${devices[0]} is mounted at $elsewhere; mount it at /mnt/pgdb if it is for pgdb, or give --no-volume to leave it alone"
      [ -n "$(blkid --output value --match-tag TYPE "${devices[0]}")" ] || die "the volume ${devices[0]} has no file system"
      fstab "${devices[0]}" /mnt/pgdb 'auto discard,nofail 0 2'
    fi
    say "mounting the volume"
    systemctl daemon-reload
    mount /mnt/pgdb
  fi
  bind /mnt/pgdb/pgdb /var/lib/pgdb
  adopt_data
  needs_mount pgdb.service /var/lib/pgdb
  if [ "$engine" = docker ]; then
    # Only the databases: images and containers are made anew.
    bind /mnt/pgdb/docker-volumes /var/lib/docker/volumes
    needs_mount docker.service /var/lib/docker/volumes
  fi
}

build() {
  has git || apt_install git ca-certificates
  if [ -n "$repo_url" ]; then
    if [ -d "$path/.git" ]; then
      say "updating $path"
      git -C "$path" remote set-url origin "$repo_url"
      git -C "$path" fetch --quiet --depth 1 origin HEAD >&2
      git -C "$path" checkout --quiet --detach FETCH_HEAD >&2
    else
      say "cloning into $path"
      git clone --quiet --depth 1 "$repo_url" "$path" >&2
    fi
  fi
  [ -f "$path/Cargo.toml" ] || die "$path is no checkout of pgdb"
  has cc || apt_install gcc libc6-dev
  export PATH="$PATH:${HOME:-/root}/.cargo/bin"
  if ! has cargo; then
    apt_install rustup
    rustup toolchain install --profile minimal stable >&2
  fi
  say "building pgdb; this takes some minutes"
  (cd "$path" && cargo build --quiet --release --locked --package pgdb >&2)
}

binary="$here/pgdb"
if [ -n "$path" ]; then
  build
  binary="$path/target/release/pgdb"
fi
"$binary" --version >/dev/null || die "this pgdb does not run here: it was built for another system; use --repo-url to build it on the server"

mount_volume
say "installing pgdb"
arguments=(--binary "$binary")
if [ "$engine" = docker ]; then
  arguments+=(--docker)
  # Docker does not start without it, and its package only recommends it.
  has iptables || apt_install iptables
fi
for setting in "${settings[@]}"; do export "${setting?}"; done
bash "$here/scripts/install.sh" "${arguments[@]}" >&2
