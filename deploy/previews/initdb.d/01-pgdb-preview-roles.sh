#!/usr/bin/env bash
# Prepares a PostgreSQL server for previews: the operator, the dev role, the template's holder, and an empty template.
#
# In a container of PostgreSQL put it into /docker-entrypoint-initdb.d. On a server that exists already run it as a
# superuser, with PGHOST, PGUSER and PGPASSWORD; run again it changes nothing but the passwords that are given.
#
#   PGDB_OPERATOR_PASSWORD, or PGDB_OPERATOR_PASSWORD_FILE  needed unless the operator exists
#   PGDB_DEV_PASSWORD, or PGDB_DEV_PASSWORD_FILE            without it the dev role can log in where no password is asked
#   DB_PREVIEW_OWNER      the operator [zane_operator]
#   DB_PREVIEW_DEV_ROLE   the dev role [medusa_dev]
#   DB_TEMPLATE_NAME      the template [template_medusa]

# In a subshell, because the container's entry point may source this file.
pgdb_preview_roles() (
    set -euo pipefail

    fail() {
        printf 'pgdb previews: %s\n' "$1" >&2
        exit 1
    }

    # A secret from a variable, or from the file that VARIABLE_FILE names.
    secret() {
        local name="$1" file="$1_FILE"
        if [ -n "${!name:-}" ]; then
            printf '%s' "${!name}"
        elif [ -n "${!file:-}" ]; then
            [ -r "${!file}" ] || fail "${file}: cannot read ${!file}"
            cat -- "${!file}"
        fi
    }

    name() {
        local variable="$1" value="$2" longest="$3"
        [[ "$value" =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || fail "${variable}: letters, digits and _, not beginning with a digit"
        [ "${#value}" -le "$longest" ] || fail "${variable}: more than ${longest} characters"
    }

    export DB_PREVIEW_OWNER="${DB_PREVIEW_OWNER:-zane_operator}"
    export DB_PREVIEW_DEV_ROLE="${DB_PREVIEW_DEV_ROLE:-medusa_dev}"
    export DB_TEMPLATE_NAME="${DB_TEMPLATE_NAME:-template_medusa}"
    name DB_PREVIEW_OWNER "$DB_PREVIEW_OWNER" 63
    name DB_PREVIEW_DEV_ROLE "$DB_PREVIEW_DEV_ROLE" 63
    # The holder is called like the template, with _owner behind it.
    name DB_TEMPLATE_NAME "$DB_TEMPLATE_NAME" 57

    # Through the environment: arguments can be seen by everybody on the machine.
    PGDB_OPERATOR_PASSWORD="$(secret PGDB_OPERATOR_PASSWORD)"
    PGDB_DEV_PASSWORD="$(secret PGDB_DEV_PASSWORD)"
    export PGDB_OPERATOR_PASSWORD PGDB_DEV_PASSWORD
    export PGUSER="${PGUSER:-${POSTGRES_USER:-postgres}}"
    export PGDATABASE="${PGDATABASE:-postgres}"

    psql --no-psqlrc --quiet --no-password --set=ON_ERROR_STOP=1 --file=- >/dev/null <<'SQL'
\set VERBOSITY terse
\set operator `printf '%s' "$DB_PREVIEW_OWNER"`
\set dev `printf '%s' "$DB_PREVIEW_DEV_ROLE"`
\set template `printf '%s' "$DB_TEMPLATE_NAME"`
\set holder :template _owner
\set operator_password `printf '%s' "$PGDB_OPERATOR_PASSWORD"`
\set dev_password `printf '%s' "$PGDB_DEV_PASSWORD"`

-- Passwords go into no log and no statistics, and are stored as SCRAM verifiers.
SET client_min_messages = warning;
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET pg_stat_statements.track = 'none';
SET password_encryption = 'scram-sha-256';

SELECT :'operator_password' = '' AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'operator') AS missing \gset
\if :missing
DO $$ BEGIN RAISE EXCEPTION 'PGDB_OPERATOR_PASSWORD or PGDB_OPERATOR_PASSWORD_FILE has to give the operator a password'; END $$;
\endif

SELECT format('CREATE ROLE %I', :'operator') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'operator') \gexec
ALTER ROLE :"operator" LOGIN CREATEDB CREATEROLE;
SELECT format('ALTER ROLE %I PASSWORD %L', :'operator', :'operator_password') WHERE :'operator_password' <> '' \gexec
GRANT pg_signal_backend TO :"operator";

SELECT format('CREATE ROLE %I LOGIN', :'dev') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'dev') \gexec
SELECT format('ALTER ROLE %I PASSWORD %L', :'dev', :'dev_password') WHERE :'dev_password' <> '' \gexec

SELECT format('CREATE ROLE %I NOLOGIN', :'holder') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'holder') \gexec
GRANT :"holder" TO :"operator" WITH ADMIN OPTION;

-- An empty one, closed, because nobody can copy a database that others are in. One that exists only changes hands.
SELECT format('CREATE DATABASE %I OWNER %I ALLOW_CONNECTIONS false', :'template', :'operator')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'template') \gexec
SELECT format('ALTER DATABASE %I OWNER TO %I', :'template', :'operator')
WHERE EXISTS (SELECT FROM pg_database WHERE datname = :'template' AND pg_get_userbyid(datdba) <> :'operator') \gexec
SQL
    printf 'pgdb previews: %s may make previews of %s\n' "$DB_PREVIEW_OWNER" "$DB_TEMPLATE_NAME"
)

pgdb_preview_roles
