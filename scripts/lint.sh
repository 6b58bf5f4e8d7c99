#!/usr/bin/env bash
# Format, lints, documentation, shell scripts, and the rules about dependencies.
set -euo pipefail
scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$scripts/lib.sh"

"$scripts/install-test-deps.sh" lint
has cargo || PATH="$HOME/.cargo/bin:$PATH"
cd "$root_dir"
cargo fmt --all --check
cargo clippy --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
shellcheck --external-sources scripts/*.sh scripts/image/*.sh scripts/kube/*.sh crates/testkit/src/docker/engine.sh \
  crates/infra/src/remote/*.sh .ci/run deploy/previews/initdb.d/*.sh deploy/docker/*.sh bench/run.sh
cargo deny --log-level warn check bans licenses sources
