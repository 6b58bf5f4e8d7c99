#!/usr/bin/env bash
# Installs pgdb as a service on a Linux server: the binary, a user, a unit for systemd, and settings with a token.
# Run again it changes what differs and nothing else; databases go on meanwhile.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() {
  cat <<'TEXT'
Usage: sudo -E scripts/install.sh [--binary FILE] [--user NAME] [--docker] [--no-packages] [--no-start] [--root DIR] [--dry-run]
       sudo scripts/install.sh --uninstall [--purge] [--root DIR] [--dry-run]

  --binary FILE   what to install; without it target/release/pgdb of this checkout, else the pgdb of PATH
  --user NAME     whom the service runs as: pgdb, or root for data of a daemon that ran as root
  --docker        databases are containers: the user gets the Docker socket, which is as good as root's rights; where
                  pgdbd was, it goes without saying
  --no-packages   install no packages; without it, PostgreSQL or Docker if it is missing
  --no-start      neither enable nor start the service
  --root DIR      install below DIR, for a package or an image: files alone, no user, no service
  --uninstall     end the daemon and its databases, remove service and binary; data, settings and user stay
  --purge         with --uninstall: remove data, settings and user too
  --dry-run       say what would be done

Settings are taken from the environment, and from the settings of an earlier run for the rest: PGDB_TOKEN, PGDB_LISTEN,
PGDB_PUBLIC_HOST, PGDB_DATA_DIR, PGDB_PORT_RANGE, PGDB_RUNTIME and every other PGDB_ or DB_ variable of `pgdb serve`; with
Docker also DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH and DOCKER_CONFIG. At last from the unit of pgdbd, if there is one.
Without a token one is made. They are kept in /etc/pgdb/pgdb.env, for root alone.
TEXT
}

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

binary='' user=pgdb docker='' packages=1 start=1 root='' uninstall='' purge='' dry=''
while [ $# -gt 0 ]; do
  case "$1" in
    --binary | --user | --root)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      declare "${1#--}=$2"
      shift
      ;;
    --docker) docker=1 ;;
    --no-packages) packages='' ;;
    --no-start) start='' ;;
    --uninstall) uninstall=1 ;;
    --purge) purge=1 ;;
    --dry-run) dry=1 ;;
    --help | -h) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
root="${root%/}"
[[ "$user" =~ ^[a-z_][a-z0-9_-]{0,31}$ ]] || die "'$user' is no name of a user"
[ -z "$purge" ] || [ -n "$uninstall" ] || die "--purge belongs to --uninstall"
[ -n "$root" ] || [ -n "$dry" ] || [ "$(id -u)" -eq 0 ] || die "this needs root: sudo -E $0"

program=/usr/local/bin/pgdb
unit=/etc/systemd/system/pgdb.service
extra=/etc/systemd/system/pgdb.service.d/install.conf
# What a daemon that pgdb takes over from was started by.
old_unit=/etc/systemd/system/pgdbd.service
old_unit_kept=/etc/pgdb/pgdbd.service.before-pgdb
settings=/etc/pgdb/pgdb.env
# There while something was changed that the service was not started with: this run may end before that.
restart=/etc/pgdb/.restart
changed=''

# Does something, or says that it would.
act() {
  if [ -n "$dry" ]; then say "would run: $*"; else "$@"; fi
}

note_change() {
  changed=1
  if live && [ -z "$dry" ]; then
    mkdir -p "$(dirname "$restart")"
    : >"$restart"
  fi
}

# Puts standard input into a file if that differs. Its content may be secret and is not shown.
put() {
  local path="$1" mode="$2" new
  new="$(mktemp)"
  cat >"$new"
  if [ -e "$root$path" ] && cmp --silent "$new" "$root$path" && [ "$(stat --format=%a "$root$path")" = "$mode" ]; then
    rm "$new"
    return
  fi
  note_change
  if [ -n "$dry" ]; then
    say "would write: $root$path ($mode)"
    rm "$new"
    return
  fi
  mkdir -p "$root$(dirname "$path")"
  # Whole or not at all, and never open to others on the way; a program that runs can be replaced, not written over.
  install -m "$mode" "$new" "$root$path.new"
  mv "$root$path.new" "$root$path"
  rm "$new"
  say "wrote $root$path"
}

remove() {
  [ ! -e "$root$1" ] && [ ! -L "$root$1" ] && return
  act rm -rf "$root${1:?}"
}

# Whether systemd runs here, and its service is ours to change.
live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# A setting of the file, without the quotes around it.
kept() { [ ! -r "$root$settings" ] || sed -n "s/^$1=//p" "$root$settings" | tail -n 1 | sed "s/^'\(.*\)'$/\1/; s/^\"\(.*\)\"$/\1/"; }

# Asks the service of this machine where its settings say that it listens, and never another: neither the environment nor
# root's own configuration has a say in it.
ask() (
  unset HOME XDG_CONFIG_HOME PGDB_SERVER_URL PORT
  PGDB_LISTEN="$(kept PGDB_LISTEN)" PGDB_TLS_CERT="$(kept PGDB_TLS_CERT)" PGDB_TOKEN="$(kept PGDB_TOKEN)" "$program" "$@"
)

# answers TENTHS: whether the service does within so many tenths of a second.
answers() {
  local try
  for ((try = 0; try < $1; try++)); do
    ask health >/dev/null 2>&1 && return
    sleep 0.1
  done
  return 1
}

uninstall() {
  local data
  data="$(kept PGDB_DATA_DIR)"
  data="${data:-/var/lib/pgdb}"
  if [ -z "$root" ] && [ -x "$program" ]; then
    # The databases end with it, properly. It may be about to be started again.
    if [ -n "$dry" ]; then
      say "would run: $program down"
    elif answers 50; then
      ask down
    else
      say "warning: the daemon does not answer; databases that run without it go on"
    fi
  fi
  if live; then
    act systemctl disable --now pgdb.service 2>/dev/null || true
  fi
  remove "$unit"
  remove "$(dirname "$extra")"
  remove "$program"
  remove "$restart"
  if live; then act systemctl daemon-reload; fi
  if [ -n "$purge" ]; then
    remove "$(dirname "$settings")"
    if [ -z "$root" ] && mountpoint --quiet "$data"; then
      act find "$data" -mindepth 1 -delete
      say "$data is a mount of its own and stays, empty; see /etc/fstab"
    else
      remove "$data"
    fi
    if [ -z "$root" ] && [ "$user" != root ] && getent passwd "$user" >/dev/null; then
      act userdel "$user" || say "warning: the user $user stays; remove it when its processes have ended: userdel $user"
    fi
    say "pgdb is gone, and its data; containers and volumes of databases, if there are any, are Docker's"
  else
    say "pgdb is gone; what stays: $data, $settings, the user $user (--uninstall --purge removes them)"
  fi
}

# Which file to install.
find_binary() {
  local found
  for found in "$binary" "$here/../target/release/pgdb" "$(command -v pgdb || true)"; do
    [ -n "$found" ] || continue
    if [ -x "$found" ]; then
      realpath "$found"
      return
    fi
    [ "$found" != "$binary" ] || die "$binary is not a program"
  done
  die "there is no pgdb to install: build it with 'make build', or name one with --binary"
}

install_packages() {
  [ -n "$packages" ] && [ -z "$root" ] || return 0
  local missing=()
  if uses_docker; then
    # The engine publishes ports with iptables, and Debian's package only recommends it.
    [ -n "$(getent group docker)" ] || missing+=(docker.io iptables)
  elif ! has postgres && ! compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
    missing+=(postgresql)
    # Debian's package would start a server of its own.
    [ -e /etc/postgresql-common/createcluster.conf ] ||
      put /etc/postgresql-common/createcluster.conf 644 <<<'create_main_cluster = false'
  fi
  [ "${#missing[@]}" -gt 0 ] || return 0
  has apt-get || die "this system has no apt-get; install what Debian calls ${missing[*]}, then try again with --no-packages"
  say "installing ${missing[*]}"
  act apt-get -o DPkg::Lock::Timeout=300 update --quiet --quiet
  act env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install --yes --quiet --quiet \
    --no-install-recommends "${missing[@]}"
}

# Whether a variable is a setting of the service.
is_setting() {
  [[ "$1" =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || return 1
  case "$1" in
    PGDB_SERVER_URL) return 1 ;;
    PGDB_* | DB_* | API_AUTH_TOKEN | INTERNAL_API_KEY) ;;
    DOCKER_HOST | DOCKER_TLS_VERIFY | DOCKER_CERT_PATH | DOCKER_CONFIG) uses_docker ;;
    *) return 1 ;;
  esac
}

uses_docker() { [ -n "$docker" ] || [ "${PGDB_RUNTIME:-$(kept PGDB_RUNTIME)}" = docker ]; }

# The daemon that was before ours, until we are started in its place: then its name is only another one of ours.
has_old_unit() { [ -f "$root$old_unit" ] && [ ! -L "$root$old_unit" ]; }

# Its unit, with what was added to it.
old_unit_text() {
  if live; then systemctl cat pgdbd.service; else cat "$root$old_unit"; fi
}

# What it was told: by its unit's lines, and by its files, which win.
old_settings() {
  local file
  old_unit_text | sed -n 's/^Environment=//p' | tr ' ' '\n'
  old_unit_text | sed -n 's/^EnvironmentFile=-\{0,1\}//p' | while IFS= read -r file; do
    if [ -r "$root$file" ]; then cat "$root$file"; fi
  done
}

# Takes that over, where neither the environment nor settings of ours say otherwise.
adopt_settings() {
  local line name
  while IFS= read -r line; do
    name="${line%%=*}"
    if is_setting "$name" && [ -z "${!name:-}$(kept "$name")" ]; then export "$name=${line#*=}"; fi
  done < <(old_settings | tr -d "\"'" | tac)
  [ -n "${PGDB_LISTEN:-$(kept PGDB_LISTEN)}" ] ||
    say "note: $old_unit has no PGDB_LISTEN, and without it pgdb listens on 127.0.0.1:8080 alone; :8080 is every address"
}

# The settings: of the environment, then of the file, then ours.
write_settings() {
  local line name value all=()
  declare -A given=() taken=()
  if [ -r "$root$settings" ]; then mapfile -t all <"$root$settings"; fi
  while IFS= read -r -d '' line; do
    name="${line%%=*}" value="${line#*=}"
    is_setting "$name" || continue
    [[ "$value" != *$'\n'* && "$value" != *"'"* ]] || die "the value of $name has a line break or a single quote in it"
    given[$name]="$name='$value'"
  done < <(env --null)
  if [ -n "$docker" ]; then given[PGDB_RUNTIME]="PGDB_RUNTIME='docker'"; fi
  if [ -z "${given[PGDB_TOKEN]:-}" ] && [ -z "$(kept PGDB_TOKEN)" ]; then
    if has_old_unit; then
      die "$root$old_unit is there: set PGDB_TOKEN to that daemon's token, or its clients will be refused"
    fi
    given[PGDB_TOKEN]="PGDB_TOKEN='$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')'"
    say "a new token: it is in $settings"
  fi
  local lines=()
  for line in "${all[@]}"; do
    name="${line%%=*}"
    # Comments and blank lines stay as they are. A name that comes twice would win over its first line.
    if is_setting "$name" && [ -n "${given[$name]:-}" ]; then
      [ -n "${taken[$name]:-}" ] || lines+=("${given[$name]}")
      taken[$name]=1
    else
      lines+=("$line")
    fi
  done
  for name in "${!given[@]}"; do
    [ -n "${taken[$name]:-}" ] || lines+=("${given[$name]}")
  done
  put "$settings" 600 < <(printf '%s\n' "${lines[@]}")
}

# Whether the service listens at a port that is root's.
has_low_port() {
  local listen port
  for listen in "$(kept PGDB_LISTEN)" $(kept PGDB_EXTRA_LISTEN | tr , ' '); do
    port="${listen##*:}"
    if [[ "$port" =~ ^[0-9]+$ ]] && [ "$port" -lt 1024 ]; then return; fi
  done
  return 1
}

# What this machine has otherwise than the unit says.
write_extra() {
  local data="$1" of_unit=() lines=() rights=''
  if [ "$user" != pgdb ]; then lines+=("User=$user" "Group=$(id -gn "$user" 2>/dev/null || printf '%s' "$user")"); fi
  # As root the daemon starts databases as another user, who has to own their files.
  if [ "$user" = root ]; then
    rights='CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID'
    lines+=("StateDirectoryMode=0755")
  fi
  if has_low_port; then
    rights="${rights:+$rights }CAP_NET_BIND_SERVICE"
    [ "$user" = root ] || lines+=("AmbientCapabilities=CAP_NET_BIND_SERVICE")
  fi
  [ -z "$rights" ] || lines+=("CapabilityBoundingSet=$rights")
  if uses_docker; then
    [ "$user" = root ] || lines+=("SupplementaryGroups=docker")
  fi
  if [ "$data" != /var/lib/pgdb ]; then
    of_unit=('[Unit]' "RequiresMountsFor=$data")
    lines+=("ReadWritePaths=$data")
  fi
  if [ "${#lines[@]}" -gt 0 ]; then
    put "$extra" 644 < <(printf '%s\n' '# Written by scripts/install.sh.' "${of_unit[@]}" '[Service]' "${lines[@]}")
  elif [ -e "$root$extra" ]; then
    note_change
    remove "$extra"
  fi
}

ensure_user() {
  [ -z "$root" ] && [ "$user" != root ] || return 0
  getent passwd "$user" >/dev/null && return
  # A user of the system: its shared memory is not taken away when nobody is logged in.
  act useradd --system --user-group --home-dir "$1" --no-create-home --shell /usr/sbin/nologin "$user"
}

ensure_data_dir() {
  local data="$1" owner
  if [ -d "$root$data" ] && [ -z "$root" ]; then
    owner="$(stat --format=%U "$data")"
    if [ "$owner" != "$user" ] && [ -e "$data/state.db" ]; then
      die "$data belongs to $owner, and pgdb keeps databases there: install with --user $owner"
    fi
  fi
  act mkdir -p "$root$data"
  if [ -z "$root" ] && [ "$user" != root ]; then
    act chmod 750 "$data"
    # Not what lies in it: an original's registry.json is read by its new owner alone, and nothing else is there yet.
    act chown "$user:$user" "$data"
    if [ -e "$data/registry.json" ]; then act chown "$user:$user" "$data/registry.json"; fi
    if [ -e "$data/registry.lock" ]; then act chown "$user:$user" "$data/registry.lock"; fi
  fi
}

# Enables and starts, or restarts what has changed, and waits until it answers.
start_service() {
  [ -n "$start" ] || return 0
  if ! live; then
    [ -n "$root" ] || say "systemd does not run here; start it yourself: set -a; . $settings; $program serve"
    return 0
  fi
  if has_old_unit; then
    # Its name becomes another name of ours. The containers that it made go on.
    act systemctl disable --now pgdbd.service
    act mv "$old_unit" "$old_unit_kept"
  fi
  act systemctl daemon-reload
  act systemctl enable --quiet pgdb.service
  local verb=start
  [ -z "$changed" ] || verb=restart
  if act systemctl "$verb" pgdb.service && { [ -n "$dry" ] || answers 300; }; then
    if [ -z "$dry" ]; then
      rm -f "$restart"
      say "pgdb runs, and is ready"
    fi
    return
  fi
  journalctl --unit pgdb.service --lines 10 --no-pager --output cat >&2 || true
  if [ -e "$old_unit_kept" ]; then
    say "to go back to pgdbd: systemctl disable --now pgdb && mv $old_unit_kept $old_unit && systemctl daemon-reload && systemctl enable --now pgdbd" >&2
  fi
  die "pgdb did not become ready; above is the end of its log (journalctl -u pgdb)"
}

if [ -n "$uninstall" ]; then
  uninstall
  exit
fi
binary="$(find_binary)"
[ -f "$here/../systemd/pgdb.service" ] || die "$here/../systemd/pgdb.service is missing; run this in a checkout of pgdb"
if live && [ -z "$dry" ]; then "$binary" --version >/dev/null || die "$binary does not run here"; fi
if [ -e "$root$restart" ]; then changed=1; fi
if has_old_unit; then
  # Its databases are containers.
  [ -n "${PGDB_RUNTIME:-$(kept PGDB_RUNTIME)}" ] || docker=1
  adopt_settings
fi
data="${PGDB_DATA_DIR:-$(kept PGDB_DATA_DIR)}"
data="${data:-/var/lib/pgdb}"
# It stands in the unit, where blanks and percent signs mean something.
[[ "$data" =~ ^/[A-Za-z0-9._/@+-]+$ ]] || die "PGDB_DATA_DIR has to begin with a slash and may have letters, digits and ._/@+- only: $data"
case "$data/" in
  /home/* | /root/* | /run/user/* | /tmp/* | /var/tmp/*)
    die "PGDB_DATA_DIR cannot be $data: the service sees neither people's folders nor temporary ones"
    ;;
esac
if [ -e "$root$data/registry.json" ] && [ ! -e "$root$data/state.db" ] && [ -z "${PGDB_RUNTIME:-$(kept PGDB_RUNTIME)}" ]; then docker=1; fi
install_packages
ensure_user "$data"
write_settings
ensure_data_dir "$data"
put "$program" 755 <"$binary"
put "$unit" 644 <"$here/../systemd/pgdb.service"
write_extra "$data"
start_service
[ -n "$changed" ] || say "everything was as it should be"
