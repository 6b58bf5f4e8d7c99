#!/usr/bin/env bash
# Installs what building and running pgdb needs and this machine lacks: a C compiler and a PostgreSQL server.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# rustup puts cargo where a shell that was not started anew does not look.
if ! has cargo && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
  die "cargo is missing; install Rust 1.95 or newer with rustup, then try again"
fi

packages=()
has cc || packages+=(gcc libc6-dev)
has curl || packages+=(curl ca-certificates)
if [ -z "$(system_postgres)" ] && ! has postgres; then
  packages+=(postgresql-15)
  # Debian's package sets up and starts a server of its own, on the very port that people expect to be free.
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    as_root mkdir -p /etc/postgresql-common
    printf 'create_main_cluster = false\n' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
fi
if [ "${#packages[@]}" -gt 0 ]; then apt_install "${packages[@]}"; fi
