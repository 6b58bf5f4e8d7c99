#!/usr/bin/env bash
# Builds pgdb and its peers and measures them side by side: tables on standard output. Arguments go to bench.py, with
# `--only previews` to previews.py, with `--only migrations` to migrations.py, with `--only docker` to containers.py.
set -euo pipefail
bench="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$bench")"
target="${CARGO_TARGET_DIR:-$root/target}"
cd "$root"
cargo build --release --package pgdb
if [[ "${1:-} ${2:-}" == "--only previews" ]]; then
    exec python3 bench/previews.py "$target/release/pgdb" "$@"
fi
if [[ "${1:-} ${2:-}" == "--only docker" ]]; then
    "$root/scripts/install-test-deps.sh" containers
    "$root/scripts/install-test-deps.sh" images
    exec python3 bench/containers.py "$target/release/pgdb" "${@:3}"
fi
CARGO_TARGET_DIR="$target/bench" cargo build --release --manifest-path bench/Cargo.toml
if [[ "${1:-} ${2:-}" == "--only migrations" ]]; then
    exec python3 bench/migrations.py "$target/release/pgdb" "$target/bench/release/pgdb-bench" "$target/bench/peers" "$@"
fi
exec python3 bench/bench.py "$target/release/pgdb" "$target/bench/release/pgdb-bench" "$@"
