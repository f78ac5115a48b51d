# The two commands a newcomer needs are `make demo` and `make test`; both install what is missing first.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO ?= cargo

.PHONY: help deps lab build demo check test bench

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

deps: ## install what is missing on a Debian machine: compiler parts and the test oracles
	@tests/lab/deps.sh

lab: deps ## fetch the kernel and the Docker that the tests run
	@tests/lab/fetch.sh

build: deps ## build the release binary
	$(CARGO) build --release --locked

demo: build lab ## convert the bundled root, show what came out, run a command in a converted image
	@tests/lab/demo.sh

check: deps ## formatting, lints, documentation, licences
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	@tests/lab/deny.sh

test: deps lab ## every test: in-file, library, command line, and the lab (real kernel, real Docker)
	$(CARGO) test --locked --features kernel-tests

bench: deps ## the figures of docs/benchmarks.md
	$(CARGO) bench --locked
