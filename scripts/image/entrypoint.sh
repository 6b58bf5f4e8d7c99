#!/usr/bin/env bash
# What the test images of PostgreSQL start with. Keeps what the official image promises: its variables and their _FILE
# forms, the folder of scripts for the first start, the volume, and a server that runs as postgres.
set -Eeuo pipefail
shopt -s nullglob

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# setting NAME [DEFAULT]: puts into NAME what it or the file of NAME_FILE says.
setting() {
  local name="$1" file="$1_FILE"
  [[ -z "${!name:-}" || -z "${!file:-}" ]] || fail "$name and $file are both set"
  if [[ -n "${!file:-}" ]]; then
    printf -v "$name" '%s' "$(<"${!file}")"
  elif [[ -z "${!name:-}" ]]; then
    printf -v "$name" '%s' "${2:-}"
  fi
  unset "$file"
}

as_owner() { psql --no-psqlrc --no-password --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" "$@"; }

run_scripts() {
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    printf '%s: running %s\n' "$0" "$script"
    case "$script" in
      *.sh)
        if [[ -x "$script" ]]; then
          "$script"
        else
          # shellcheck source=/dev/null
          source "$script"
        fi
        ;;
      *.sql) as_owner --dbname "$POSTGRES_DB" --file "$script" ;;
      *.sql.gz) gunzip --stdout "$script" | as_owner --dbname "$POSTGRES_DB" ;;
      *.sql.xz) xz --decompress --stdout "$script" | as_owner --dbname "$POSTGRES_DB" ;;
      *) printf '%s: ignoring %s\n' "$0" "$script" ;;
    esac
  done
}

# At every start, also where nothing of it is used: so a file that is named has to be there each time.
read_settings() {
  setting POSTGRES_PASSWORD
  setting POSTGRES_USER postgres
  setting POSTGRES_DB "$POSTGRES_USER"
  setting POSTGRES_INITDB_ARGS
}

first_start() {
  local auth="${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" initdb_args=()
  [[ -n "$POSTGRES_PASSWORD" || "$auth" == trust ]] ||
    fail 'there is no database yet and POSTGRES_PASSWORD is empty: give the superuser a password'

  # The variable holds words as a shell reads them, quotes and all.
  eval "initdb_args=($POSTGRES_INITDB_ARGS)"
  [[ -z "${POSTGRES_INITDB_WALDIR:-}" ]] || initdb_args+=(--waldir "$POSTGRES_INITDB_WALDIR")
  initdb --username "$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${initdb_args[@]}"
  printf '\nhost all all all %s\n' "$auth" >>"$PGDATA/pg_hba.conf"
  # Where the official image's programs look for the socket, and where these do.
  printf "\nunix_socket_directories = '/var/run/postgresql,/tmp'\n" >>"$PGDATA/postgresql.conf"

  # Until everything is made, the server can be reached through its socket alone.
  export PGPASSWORD="$POSTGRES_PASSWORD" POSTGRES_USER POSTGRES_DB
  PGUSER="$POSTGRES_USER" pg_ctl --pgdata "$PGDATA" --options "-c listen_addresses=''" --wait start
  if [[ "$POSTGRES_DB" != postgres ]]; then
    as_owner --dbname postgres --set name="$POSTGRES_DB" <<<'CREATE DATABASE :"name";'
  fi
  run_scripts
  PGUSER="$POSTGRES_USER" pg_ctl --pgdata "$PGDATA" --mode fast --wait stop
  unset PGPASSWORD
  printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

# From 18 on the data is one level deeper; a volume at the old place would stay empty, or be forgotten.
refuse_old_place() {
  local old=/var/lib/postgresql/data
  ((PG_MAJOR >= 18)) || return 0
  [[ "$PGDATA" != "$old" ]] || return 0
  if [[ -s "$old/PG_VERSION" || -s /var/lib/postgresql/PG_VERSION ]] || grep --quiet " $old " /proc/self/mountinfo; then
    fail "from 18 on the volume belongs at /var/lib/postgresql; there is data or a volume at $old"
  fi
}

[[ "${1:-}" != -* ]] || set -- postgres "$@"
if [[ "${1:-}" == postgres && " $* " != *' --help '* && " $* " != *' --version '* && " $* " != *' -V '* ]]; then
  if ((EUID == 0)); then
    mkdir -p "$PGDATA" /run/postgresql
    chmod 700 "$PGDATA"
    chmod 3775 /run/postgresql
    find "$PGDATA" /run/postgresql ! -user postgres -exec chown postgres {} +
    if [[ -n "${POSTGRES_INITDB_WALDIR:-}" ]]; then
      mkdir -p "$POSTGRES_INITDB_WALDIR"
      chown -R postgres "$POSTGRES_INITDB_WALDIR"
    fi
    exec setpriv --reuid=postgres --regid=postgres --init-groups "${BASH_SOURCE[0]}" "$@"
  fi
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA" || true
  refuse_old_place
  read_settings
  if [[ -s "$PGDATA/PG_VERSION" ]]; then
    printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
  else
    first_start
  fi
fi
exec "$@"
