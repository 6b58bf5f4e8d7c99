#!/usr/bin/env bash
# Ends what `make run` started. Nothing to end is fine.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

pgdb="${CARGO_TARGET_DIR:-$root_dir/target}/release/pgdb"
if [ ! -x "$pgdb" ]; then
  say "nothing was built, so nothing runs"
  exit 0
fi
exec "$pgdb" down
