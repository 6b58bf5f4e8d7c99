#!/usr/bin/env bash
# Sends what /openapi.json allows, and what it does not, to a daemon of its own, and checks every answer against it.
set -euo pipefail
scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$scripts/lib.sh"

pgdb="${CARGO_TARGET_DIR:-$root_dir/target}/debug/pgdb"
"$scripts/install-test-deps.sh" schemathesis
[ -x "$pgdb" ] || die "$pgdb is missing; build it with: cargo build"

work="$(mktemp -d)"
# The servers' own user has to get through to their data.
chmod 711 "$work"
daemon=
cleanup() {
  if [ -n "$daemon" ]; then
    "$pgdb" down >/dev/null 2>&1 || true
    # It has been asked to end; after ten seconds it is made to.
    for _ in $(seq 100); do
      kill -0 "$daemon" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

port="$(free_port)"
token="$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
export PGDB_DATA_DIR="$work/data" PGDB_LISTEN="127.0.0.1:$port" PGDB_TOKEN="$token"
export PGDB_SERVER_URL="http://127.0.0.1:$port" XDG_CONFIG_HOME="$work/config" NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
unset PORT
mkdir "$PGDB_DATA_DIR"
chmod 711 "$PGDB_DATA_DIR"

"$pgdb" serve >"$work/log" 2>&1 &
daemon=$!
for attempt in $(seq 301); do
  curl --silent --fail --max-time 2 --output /dev/null "$PGDB_SERVER_URL/readiness" && break
  if ! kill -0 "$daemon" 2>/dev/null || [ "$attempt" -gt 300 ]; then
    tail -n 20 "$work/log" >&2
    die "the daemon did not become ready"
  fi
  sleep 0.1
done

cd "$work"
# The token is in a configuration file: arguments can be read by everybody on the machine.
umask 077
cat >schemathesis.toml <<TOML
headers = { Authorization = "Bearer $token" }

# With follow=true the answer has no end.
[[operations]]
include-name = "GET /v1/db/{name}/logs"
parameters = { follow = false }
TOML
if ! "$parts_dir/venv/bin/schemathesis" --config-file schemathesis.toml run "$PGDB_SERVER_URL/openapi.json" \
  --url "$PGDB_SERVER_URL" --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
  --exclude-path /v1/shutdown --max-examples "${PGDB_SCHEMATHESIS_EXAMPLES:-20}" --request-timeout 30 --seed 1; then
  say "the end of the daemon's log:"
  tail -n 40 "$work/log" >&2
  exit 1
fi
