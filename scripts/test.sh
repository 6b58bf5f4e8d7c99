#!/usr/bin/env bash
# Installs what the tests need and runs all of them.
set -euo pipefail
scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$scripts/lib.sh"

"$scripts/install-test-deps.sh"
has cargo || PATH="$HOME/.cargo/bin:$PATH"
cd "$root_dir"
export PGDB_ENGINES_DIR="$parts_dir/pg" PGDB_IMAGES_DIR="$parts_dir/images"
# Here the tests find kube-apiserver, unless the machine has one.
export PATH="$PATH:$parts_dir/kube"

# Container engines end when the test runner has, however that was; it takes them a moment.
wait_for_engines() {
  local lock
  for lock in "${TMPDIR:-/tmp}/pgdb-testkit-$(id -u)"/engines/*.watched; do
    [ ! -e "$lock" ] || flock --timeout 60 "$lock" true || say "warning: a container engine still runs; $lock.log may say why"
  done
}
trap wait_for_engines EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# Engines need root, and nobody is there to type a password.
filter='all()'
if [ "$(id -u)" -ne 0 ] && ! sudo --non-interactive true 2>/dev/null; then
  say "warning: without root, or sudo that asks no password, the tests with a container engine are left out"
  filter='not test(/docker|podman/)'
fi
# Machines with systemd, and what a pod finds in its files, are made of namespaces and mounts, which only root may.
if [ "$(id -u)" -ne 0 ]; then
  say "warning: without root the tests of 'pgdb infra bootstrap' are left out, and that of the watcher in a pod"
  filter="$filter and not test(infra::bootstrap::) and not test(infra::again::)"
  filter="$filter and not test(kubernetes_api_server::is_found_in_a_pod)"
fi
cargo nextest run --workspace --filterset "$filter"
"$scripts/schemathesis.sh"
