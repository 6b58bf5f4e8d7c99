.DEFAULT_GOAL := help
.PHONY: run stop build test lint bench clean help

run: ## install what is missing, build, start the daemon, deploy a first database
	@scripts/run.sh

stop: ## end the daemon and its databases; the data stays
	@scripts/stop.sh

build: ## build target/release/pgdb
	@scripts/install-deps.sh
	cargo build --release --package pgdb

test: ## install what the tests need and run all of them
	@scripts/test.sh

lint: ## format, clippy, documentation, shellcheck, dependency rules
	@scripts/lint.sh

bench: ## measure what docs promise
	@if [ -x bench/run.sh ]; then bench/run.sh; else echo "no benches yet (bench/run.sh)"; fi

clean: ## remove what was built and downloaded; data of databases stays
	cargo clean
	rm -rf .parts .run

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
