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
cargo nextest run --workspace
"$scripts/schemathesis.sh"
