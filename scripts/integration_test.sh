#!/usr/bin/env bash
# Deploys a database on a running daemon, runs SELECT 1 in it, destroys it, and looks at every answer on the way.
#
#   PGDB_SERVER_URL=http://127.0.0.1:8080 PGDB_TOKEN=... scripts/integration_test.sh
#
# Needs curl and psql on this machine, and the database's port within its reach. Leaves nothing behind.
set -euo pipefail

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

url="${PGDB_SERVER_URL:-}" token="${PGDB_TOKEN:-}"
[ -n "$url" ] || die "PGDB_SERVER_URL is not set; it is where the daemon answers, such as http://127.0.0.1:8080"
[ -n "$token" ] || die "PGDB_TOKEN is not set; it is the daemon's token"
url="${url%/}"
command -v curl >/dev/null || die "curl is missing"
psql="$(command -v psql || printf '%s\n' /usr/lib/postgresql/*/bin/psql | tail -n 1)"
[ -x "$psql" ] || die "psql is missing; Debian has it in the package postgresql-client"

work="$(mktemp -d)"
name="it-$(od -An -N5 -tx1 /dev/urandom | tr -d ' \n')"
# In a file, for everybody on the machine can read arguments.
(umask 077 && printf 'Authorization: Bearer %s\n' "$token" >"$work/token")

# call METHOD PATH [BODY]: the answer's body goes to $work/answer, its status into `status`.
call() {
  local arguments=(--silent --show-error --max-time 300 --request "$1" --output "$work/answer" --write-out '%{http_code}')
  [ -z "${anonymous:-}" ] && arguments+=(--header "@$work/token")
  [ $# -lt 3 ] || arguments+=(--header 'Content-Type: application/json' --data "$3")
  status="$(curl "${arguments[@]}" "$url$2")" || die "$1 $2 was not answered"
}

expect() {
  [ "$status" = "$1" ] || die "$2 was answered with $status instead of $1: $(head -c 500 "$work/answer")"
}

# A field of the answer that is text or a number.
field() {
  sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p" "$work/answer" | head -n 1
}

deployed=
clean_up() {
  if [ -n "$deployed" ]; then (call DELETE "/v1/db/$name") || true; fi
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

anonymous=1
call GET /v1/status
expect 401 "a request without a token"
anonymous=

# What is asked for may be made though the answer is lost.
deployed=1
call POST /v1/deploy "{\"name\":\"$name\"}"
expect 200 "the deploy"
PGHOST="$(field host)" PGPORT="$(field port)" PGDATABASE="$(field db)" PGUSER="$(field user)" PGPASSWORD="$(field password)"
export PGHOST PGPORT PGDATABASE PGUSER PGPASSWORD PGCONNECT_TIMEOUT=10
rm "$work/answer"
say "deployed $name at $PGHOST:$PGPORT"

sql() { "$psql" --no-psqlrc --no-password --no-align --tuples-only --set ON_ERROR_STOP=1 --command "$1"; }
[ "$(sql 'SELECT 1')" = 1 ] || die "SELECT 1 does not answer 1"
sql 'CREATE TABLE integration_test (n int); INSERT INTO integration_test VALUES (41), (1)' >/dev/null
[ "$(sql 'SELECT sum(n) FROM integration_test')" = 42 ] || die "what was written cannot be read"
say "SELECT 1 and a table of its own: fine"

call POST /v1/deploy "{\"name\":\"$name\"}"
expect 409 "a second deploy of the same name"
call GET /v1/status
expect 200 "the status"
grep --quiet "\"$name\"" "$work/answer" || die "the status does not list $name"

call DELETE "/v1/db/$name"
expect 200 "the destroy"
deployed=
call DELETE "/v1/db/$name"
expect 404 "a second destroy"
if sql 'SELECT 1' >/dev/null 2>&1; then die "the database still answers after the destroy"; fi
say "destroyed $name"
say "ok"
