# What `pgdb infra bootstrap` asks a server first. Comes to `sh` on its standard input; changes nothing but for a folder
# for what is sent next.
# shellcheck shell=sh
set -eu

if [ "$(id -u)" -eq 0 ]; then
  root=
elif sudo -n true 2>/dev/null; then
  root='sudo -n'
else
  echo "this user is not root and may not use sudo without a password" >&2
  exit 3
fi

# What was sent earlier and never used: the connection broke, or the command was killed.
find /tmp -maxdepth 1 -name 'pgdb-bootstrap.*' -user "$(id -un)" -mmin +60 -exec rm -rf {} + 2>/dev/null || :

echo "machine $(uname -m)"
echo "root $root"
echo "folder $(mktemp -d /tmp/pgdb-bootstrap.XXXXXX)"

# What a unit is told: its own lines, then its files, which win.
told() {
  systemctl show --property Environment --value "$1" | tr ' ' '\n'
  systemctl show --property EnvironmentFiles --value "$1" | sed 's/ (.*//' | while read -r file; do
    $root cat "$file" </dev/null 2>/dev/null || :
  done
}

# What is installed already: clients have its token, and somebody has chosen its settings. The original is called pgdbd.
for unit in pgdb.service pgdbd.service; do
  [ "$(systemctl show --property LoadState --value "$unit" 2>/dev/null)" = loaded ] || continue
  echo "installed $unit"
  settings="$(told "$unit" | tr -d "\"'")"
  for pair in token=PGDB_TOKEN listen=PGDB_LISTEN runtime=PGDB_RUNTIME tls=PGDB_TLS_CERT; do
    value="$(printf '%s\n' "$settings" | sed -n "s/^${pair#*=}=//p" | tail -n 1)"
    if [ -z "$value" ] && [ "$pair $unit" = 'runtime=PGDB_RUNTIME pgdbd.service' ]; then value=docker; fi
    if [ -n "$value" ]; then echo "${pair%%=*} $value"; fi
  done
  break
done
