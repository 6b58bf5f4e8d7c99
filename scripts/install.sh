#!/usr/bin/env bash
# Installs pgdb as a service of this machine: the program, its environment, the unit, and an engine if asked.
#
#   install.sh --binary PATH --env-file PATH [--engine docker|none]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

binary='' env_file='' engine=none
while [ "$#" -gt 1 ]; do
  case "$1" in
    --binary) binary="$2" ;;
    --env-file) env_file="$2" ;;
    --engine) engine="$2" ;;
    *) die "unknown argument '$1'" ;;
  esac
  shift 2
done
[ "$(id -u)" -eq 0 ] || die "this needs root"
[ -x "$binary" ] || die "--binary names the program"
[ -f "$env_file" ] || die "--env-file names a file with the daemon's environment"

if [ "$engine" = docker ] && ! command -v docker >/dev/null; then
  env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update --quiet --quiet
  env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install --yes --quiet --quiet --no-install-recommends docker.io iptables
fi

id pgdb >/dev/null 2>&1 || useradd --system --user-group --home-dir /var/lib/pgdb --shell /usr/sbin/nologin pgdb
if getent group docker >/dev/null && [ "$engine" = docker ]; then usermod --append --groups docker pgdb; fi

# By rename: the old program may be running.
install -m 0755 "$binary" /usr/local/bin/pgdb.new
mv -f /usr/local/bin/pgdb.new /usr/local/bin/pgdb
install -d -m 0755 /etc/pgdb
install -m 0600 "$env_file" /etc/pgdb/pgdb.env.new
mv -f /etc/pgdb/pgdb.env.new /etc/pgdb/pgdb.env
install -m 0644 "$here/../systemd/pgdb.service" /etc/systemd/system/pgdb.service

systemctl daemon-reload
systemctl enable --quiet pgdb.service
systemctl restart pgdb.service
