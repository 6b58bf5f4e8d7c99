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

# The token of a daemon that is installed already: clients have it.
env_file="$(systemctl show --property EnvironmentFiles --value pgdb.service 2>/dev/null | sed -n '1s/ (.*//p')" || :
if [ -n "$env_file" ]; then
  token="$($root sed -n "s/^PGDB_TOKEN='\\{0,1\\}\\([^']*\\)'\\{0,1\\}\$/\\1/p" "$env_file" 2>/dev/null | tail -n 1)" || :
  if [ -n "$token" ]; then echo "token $token"; fi
fi
