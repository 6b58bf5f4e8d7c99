# shellcheck shell=bash
# What the scripts share. To be sourced.

root_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# Not exported: only the scripts that source this use it.
# shellcheck disable=SC2034
parts_dir="$root_dir/.parts"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root, through sudo if need be.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif has sudo; then
    sudo "$@"
  else
    die "this needs root and there is no sudo; as root, run: $*"
  fi
}

# Installs Debian packages. The package lists are only read again if a package is not found in those at hand.
apt_install() {
  has apt-get || die "this system has no apt-get; install what Debian calls: $*"
  say "installing $*"
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install
    --yes --quiet --quiet --no-install-recommends "$@")
  as_root "${install[@]}" >/dev/null 2>&1 && return
  as_root apt-get -o DPkg::Lock::Timeout=300 update --quiet --quiet
  as_root "${install[@]}" >&2
}

# The newest server programs that the system's packages put on this machine, or nothing.
system_postgres() {
  local bin newest=''
  for bin in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort); do
    if [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ]; then newest="$bin"; fi
  done
  printf '%s' "$newest"
}

# A TCP port of this machine that nothing listens on.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
