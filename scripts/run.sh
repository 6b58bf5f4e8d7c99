#!/usr/bin/env bash
# Builds pgdb, starts the daemon, deploys a first database, and says how to go on.
set -euo pipefail
scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$scripts/lib.sh"

"$scripts/install-deps.sh"
has cargo || PATH="$HOME/.cargo/bin:$PATH"
cd "$root_dir"
cargo build --release --package pgdb
pgdb="${CARGO_TARGET_DIR:-$root_dir/target}/release/pgdb"

if [ -z "${PGDB_DATA_DIR:-}" ]; then
  if [ "$(id -u)" -eq 0 ]; then PGDB_DATA_DIR=/var/lib/pgdb; else PGDB_DATA_DIR="${XDG_DATA_HOME:-$HOME/.local/share}/pgdb"; fi
fi
export PGDB_DATA_DIR
log="$PGDB_DATA_DIR/pgdb.log"
mkdir -p "$PGDB_DATA_DIR"

# Where the daemon listens: `HOST:PORT` or `:PORT`, else PORT, else 8080.
port="${PORT:-8080}"
host=127.0.0.1
if [ -n "${PGDB_LISTEN:-}" ]; then
  port="${PGDB_LISTEN##*:}"
  case "${PGDB_LISTEN%:*}" in '' | 0.0.0.0 | '[::]' | '*' | "$PGDB_LISTEN") ;; *) host="${PGDB_LISTEN%:*}" ;; esac
fi
url="http://$host:$port"
export PGDB_SERVER_URL="$url"

port_taken() { (exec 3<>"/dev/tcp/${host//[\[\]]/}/$port") 2>/dev/null; }
# Not through a proxy: it is this machine that is asked.
answers() { curl --silent --fail --noproxy '*' --max-time 2 --output /dev/null "$url$1"; }
# Ours is the one that takes our token, not whatever says 200 to everything.
is_ours() { answers /readiness && "$pgdb" status >/dev/null 2>&1; }

log_end() {
  say "the end of $log:"
  tail -n 20 "$log" >&2 || true
}

start() {
  local started waited=0
  (umask 077 && : >>"$log")
  setsid "$pgdb" serve >>"$log" 2>&1 </dev/null &
  started=$!
  until answers /readiness; do
    if ! kill -0 "$started" 2>/dev/null; then
      log_end
      die "the daemon ended while it was starting"
    fi
    waited=$((waited + 1))
    if [ "$waited" -ge 600 ]; then
      kill "$started" 2>/dev/null || true
      log_end
      die "the daemon was not ready after a minute"
    fi
    sleep 0.1
  done
  say "daemon started: $url, log in $log"
}

if is_ours; then
  say "the daemon runs already: $url"
elif port_taken; then
  die "port $port is taken by something that is not this pgdb (data in $PGDB_DATA_DIR); free it, or choose another: make run PORT=8090"
else
  start
fi

if "$pgdb" show first >/dev/null 2>&1; then
  say "the database 'first' is there already"
  printf 'DATABASE_URL: %s\n' "$("$pgdb" url first --reveal)"
else
  "$pgdb" deploy --name first
fi

short="${pgdb#"$root_dir"/}"
cat <<TEXT

PostgreSQL runs. Try next:

  $short psql first                       a prompt in it
  $short url first --reveal               the URL again
  $short deploy --name second             another server
  $short status                           what runs
  $short doctor                           whether all is well
  $short --help                           everything else

Stop with 'make stop': the daemon and its databases end; the data stays in $PGDB_DATA_DIR.
TEXT
if [ -n "${PGDB_LISTEN:-}" ] || [ "$port" != 8080 ]; then
  printf "The port is not the usual one, so first: export PGDB_SERVER_URL=%s\n" "$url"
fi
