#!/usr/bin/env bash
# build.sh OUT: builds Kubernetes' API server, version 1.20, and writes the program to OUT.
#
# Debian has it as source only: Debian 12's source package `kubernetes`, built with Debian 12's Go, without what talks to
# clouds. That takes about 7 minutes of one core, and 2 GB of disk meanwhile.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$here/../lib.sh"

out="$1"
go=/usr/lib/go-1.19
reflect2=/usr/share/gocode/src/github.com/modern-go/reflect2

packages=()
[ -x "$go/bin/go" ] || packages+=(golang-1.19-go)
[ -d "$reflect2" ] || packages+=(golang-github-modern-go-reflect2-dev)
for program in make rsync jq; do has "$program" || packages+=("$program"); done
[ "${#packages[@]}" -eq 0 ] || apt_install "${packages[@]}"

mkdir -p "$(dirname "$out")"
# One at a time: the second finds what the first has built, and whoever comes first removes what a build that was killed left.
exec 9>"$out.lock"
flock 9
[ ! -x "$out" ] || exit 0
rm -rf "$(dirname "$out")"/.build.*
work="$(mktemp -d "$(dirname "$out")/.build.XXXXXX")"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The system's own package sources, as sources of source packages: in files aside, so that the system stays as it is, and
# nobody has to be root.
mkdir -p "$work/apt/sources.d" "$work/apt/lists/partial"
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
  [ -f "$list" ] || continue
  case "$list" in
    *.list) sed --quiet 's/^deb[[:space:]]/deb-src /p' "$list" >"$work/apt/sources.d/$(basename "$list")" ;;
    *.sources) sed 's/^Types:.*/Types: deb-src/' "$list" >"$work/apt/sources.d/$(basename "$list")" ;;
  esac
done
sources=(-o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/apt/sources.d"
  -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache::PkgCache=" -o "Dir::Cache::SrcPkgCache="
  -o "APT::Sandbox::User=")
# A source that has no source packages is no trouble, as long as one of them has ours.
apt-get "${sources[@]}" update --quiet --quiet >&2 || true
(cd "$work" && apt-get "${sources[@]}" source --quiet --quiet --download-only kubernetes >&2)
mkdir -p "$work/go/src/k8s.io/kubernetes"
cd "$work/go/src/k8s.io/kubernetes"
tar --extract --file "$(find "$work" -maxdepth 1 -name 'kubernetes_*.orig.tar.*' -print -quit)" --strip-components=1
version="$(sed --quiet 's/^Version: //p' "$work"/kubernetes_*.dsc | sed 's/.*really//; s/-.*//')"
[[ "$version" == 1.20.* ]] ||
  die "the source package 'kubernetes' here is $version, not 1.20 as in Debian 12; put a kube-apiserver into PATH instead"

# The vendored reflect2 reads the insides of a map as they were before Go 1.18, and crashes.
rm -rf vendor/github.com/modern-go/reflect2
cp -RL "$reflect2" vendor/github.com/modern-go/
# Since Go 1.18 reflect.Zero gives the same pointer each time, so that "" and 0 are taken for null when a custom resource is
# checked.
sed --in-place 's/if data == nil || reflect\.DeepEqual(.*{$/if data == nil {/' \
  vendor/k8s.io/kube-openapi/pkg/validation/validate/type.go vendor/github.com/go-openapi/validate/type.go

# Not the commit of the repository that this folder may be in.
cat >"$work/version" <<VERSION
KUBE_GIT_COMMIT='$(printf '0%.0s' {1..40})'
KUBE_GIT_TREE_STATE='archive'
KUBE_GIT_VERSION='v$version'
KUBE_GIT_MAJOR='1'
KUBE_GIT_MINOR='20'
VERSION
say "building kube-apiserver $version (some minutes, once)"
if ! env PATH="$go/bin:$PATH" HOME="$work" GOPATH="$work/go" GO111MODULE=off GOPROXY=off GOFLAGS=-tags=providerless \
  CGO_ENABLED=0 KUBE_GIT_VERSION_FILE="$work/version" \
  make WHAT=cmd/kube-apiserver GOLDFLAGS='-s -w' >"$work/log" 2>&1; then
  tail -n 40 "$work/log" >&2
  die "kube-apiserver could not be built"
fi
# Renamed into its place: what is there is whole.
cp --dereference _output/bin/kube-apiserver "$work/kube-apiserver"
"$work/kube-apiserver" --version >&2
mv "$work/kube-apiserver" "$out"
