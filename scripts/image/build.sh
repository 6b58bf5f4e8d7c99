#!/usr/bin/env bash
# build.sh VERSION TREE OUT: makes OUT, an image `postgres:MAJOR` as `docker save` writes it, from a PostgreSQL tree and
# the programs and libraries of this machine. Needs neither root nor an engine nor a network.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
version="$1" tree="$2" out="$3"
major="${version%%.*}"
home="/usr/lib/postgresql/$major"

# What scripts of the official image's users find there, and what our health checks and tests run.
programs=(awk base64 basename bash cat chmod chown cmp cp cut date dd df diff dirname du env expr false find getent grep
  gunzip gzip head hostname id install link ln locale ls mkdir mktemp mv nproc od printf pwd readlink realpath rm rmdir
  sed seq setpriv sh sha256sum sleep sort stat stty sync tail tar tee test timeout touch tr true truncate tty uname uniq
  wc whoami xargs xz)

work="$(mktemp -d "$(dirname "$out")/.build.XXXXXX")"
trap 'rm -rf "$work"' EXIT
root="$work/root"
mkdir -p "$root"/{dev,proc,root,sys,tmp,docker-entrypoint-initdb.d,etc,run/postgresql} \
  "$root"/usr/{bin,sbin,lib,lib64,share,local/bin,lib/locale} "$root$home" "$root/var/lib/postgresql"
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
ln -s ../run "$root/var/run"

cp -a "$tree/bin" "$tree/lib" "$tree/share" "$root$home/"
find "$root$home/lib" -name '*.a' -delete
rm -rf "$root$home/lib/pkgconfig" "$root$home/lib/postgresql/pgxs" "$root$home/lib/pgxs"
# The official image's server listens on all addresses.
find "$root$home/share" -name postgresql.conf.sample -exec sed -i "s/^#\?listen_addresses = .*/listen_addresses = '*'/" {} +

for name in "${programs[@]}"; do
  path="$(type -P "$name")" || { printf 'error: %s is not on this machine\n' "$name" >&2; exit 1; }
  cp --dereference "$path" "$root/usr/bin/$name"
done
cp --dereference "$here/entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"
chmod 755 "$root/usr/local/bin/docker-entrypoint.sh"

# Libraries keep their place, where the loader looks without a cache; the tree's own lie beside its programs. An
# extension whose library this machine lacks, such as PL/Perl, cannot be made in the image, and nothing else.
find "$root/usr/bin" "$root$home" -type f \( -perm -u+x -o -name '*.so*' \) -print0 >"$work/programs"
# It says no to what is no program, such as a script.
LD_LIBRARY_PATH="$root$home/lib" xargs -0 ldd <"$work/programs" >"$work/needed" 2>/dev/null || true
awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\/lib.*ld-/ { print $1 }' "$work/needed" |
  awk -v root="$root" 'index($0, root) != 1 && !/python|perl|libtcl/' | sort --unique >"$work/libraries"
LD_LIBRARY_PATH="$root$home/lib" ldd "$root$home"/bin/{postgres,initdb,psql,pg_dump,pg_restore} >"$work/needed"
if grep 'not found' "$work/needed" >&2; then
  printf 'error: this machine lacks libraries that PostgreSQL needs; the package postgresql brings them\n' >&2
  exit 1
fi
while read -r library; do
  folder="$(realpath "$(dirname "$library")")"
  # The loader is named by /lib64, which on some systems is a link to another folder's file.
  [[ "$library" != /lib64/* ]] || folder=/usr/lib64
  mkdir -p "$root$folder"
  cp --dereference "$library" "$root$folder/"
done <"$work/libraries"

printf '%s\n' root:x:0:0:root:/root:/bin/bash postgres:x:999:999::/var/lib/postgresql:/bin/bash \
  nobody:x:65534:65534::/:/bin/false >"$root/etc/passwd"
printf '%s\n' root:x:0: postgres:x:999: nogroup:x:65534: >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
[ ! -d /usr/share/zoneinfo ] || cp -a --dereference /usr/share/zoneinfo "$root/usr/share/zoneinfo"
rm -rf "$root"/usr/share/zoneinfo/{right,posix}
[ ! -d /usr/lib/locale/C.utf8 ] || cp -a /usr/lib/locale/C.utf8 "$root/usr/lib/locale/"

# Owners are written into the archive, so that nobody has to be root.
pack=(tar --create --file "$work/layer.tar" --directory "$root" --sort=name --numeric-owner --mtime=@0)
chmod -R u+rwX,go+rX "$root"
"${pack[@]}" --owner=0 --group=0 --exclude=./tmp --exclude=./run/postgresql --exclude=./var/lib/postgresql .
pack[1]=--append
"${pack[@]}" --owner=0 --group=0 --mode=1777 ./tmp
"${pack[@]}" --owner=999 --group=999 --mode=3777 ./run/postgresql
data=/var/lib/postgresql/data volume=/var/lib/postgresql/data
if [ "$major" -ge 18 ]; then data="/var/lib/postgresql/$major/docker" volume=/var/lib/postgresql; fi
mkdir -p "$root$volume"
"${pack[@]}" --owner=999 --group=999 --mode=1777 ./var/lib/postgresql

digest() { sha256sum "$1" | cut --delimiter=' ' --fields=1; }
layer="$(digest "$work/layer.tar")"
cat >"$work/config.json" <<JSON
{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z",
 "config":{"Env":["PATH=$home/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8",
  "PG_MAJOR=$major","PG_VERSION=${version%.0}","PGDATA=$data"],"ExposedPorts":{"5432/tcp":{}},"Volumes":{"$volume":{}},
  "StopSignal":"SIGINT","Entrypoint":["docker-entrypoint.sh"],"Cmd":["postgres"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},
 "history":[{"created":"2026-01-01T00:00:00Z","created_by":"a test image of pgdb"}]}
JSON
config="$(digest "$work/config.json")"
mv "$work/config.json" "$work/$config.json"
printf '[{"Config":"%s.json","RepoTags":["docker.io/library/postgres:%s"],"Layers":["layer.tar"]}]\n' "$config" "$major" \
  >"$work/manifest.json"
tar --create --file "$work/image.tar" --directory "$work" manifest.json "$config.json" layer.tar
mv "$work/image.tar" "$out"
