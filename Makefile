# The two commands a newcomer needs are `make demo` and `make test`; both install what is missing first.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO ?= cargo
PREFIX ?= /usr/local
SECONDS ?= 60

.PHONY: help deps deps-build deps-test lab build install clean demo check test fuzz bench

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

deps: deps-build deps-test ## install what is missing on a Debian machine for all of these

deps-build: ## install what the build lacks
	@tests/lab/machine.sh build
	@tests/lab/deps.sh build

deps-test: ## install what the demo, the tests and the benchmarks lack
	@tests/lab/deps.sh test

lab: deps-test ## fetch the kernel and the Docker that the tests run
	@tests/lab/fetch.sh

build: deps-build ## build the release binary, target/release/aufs2dm
	$(CARGO) build --release --locked

install: ## install the release binary into $(PREFIX)/bin; PREFIX and DESTDIR as usual
	@test -x target/release/aufs2dm || { echo "nothing is built: make build" >&2; exit 1; }
	install -D -m 755 target/release/aufs2dm "$(DESTDIR)$(PREFIX)/bin/aufs2dm"

clean: ## remove all that was built and fetched: target/ and .lab/
	$(CARGO) clean
	rm -rf .lab

demo: ## convert the bundled root, start Docker on the result, compare before and after
	@tests/lab/machine.sh demo
	@echo "make demo: the first time it takes about 3 minutes on two cores, fetches about 200 MB and needs 1 GB in target/ and .lab/"
	@$(MAKE) --no-print-directory deps lab
	$(CARGO) fetch --locked
	$(CARGO) test --release --locked --features kernel-tests --test kernel --no-run
	@tests/lab/demo.sh

check: deps ## formatting, lints, documentation, licences
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	@tests/lab/deny.sh

test: ## every test: in-file, library, command line, faults, the lab (real kernel, real Docker), a little fuzzing
	@tests/lab/machine.sh test
	@echo "make test: the first time it takes about 23 minutes on two cores, fetches about 200 MB and needs 4 GB in target/ and .lab/"
	@$(MAKE) --no-print-directory deps lab
	$(CARGO) test --locked --features kernel-tests
	FUZZ_OPTIONS=-seed=1 tests/fuzz/run.sh 10

fuzz: deps-build ## fuzz each target for SECONDS (60), two at a time
	tests/fuzz/run.sh $(SECONDS) $(TARGETS)

bench: deps lab ## the figures of docs/benchmarks.md
	$(CARGO) bench --locked
	$(CARGO) bench --locked --features kernel-tests --test kernel -- --nocapture
