# Everything that CI does is a target here. `make help` lists them.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/mesh-target
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH):/usr/local/go/bin

LAB := cargo run -q --profile quick -p mesh-lab --bin lab --

.DEFAULT_GOAL := help
.PHONY: help test test-fast test-lab test-repeat fmt lint deny build images demo demo-down \
	acceptance release bench soak clean-lab packages

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## everything, from a fresh machine; the last line is `N passed, N failed`
	@tools/test-all all

test-fast: ## all that needs no cluster and no root
	@tools/test-all fast

test-lab: ## the tests on real clusters; T=name for those whose name holds it
	@tools/test-all lab $(T)

test-repeat: ## N runs (20) of the lab's tests whose name holds T; without T the whole tier, for MINUTES (120)
	@tools/test-repeat $(or $(T),--all) $(or $(N),20) $(MINUTES)

fmt: ## format the code
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml

lint: ## clippy, warnings are errors
	cargo clippy --profile quick --workspace --all-targets --all-features -- -D warnings
	@tools/fuzz lint

deny: ## licences, duplicate versions, bans and sources of the crates we build on
	@tools/install-cargo-deny
	cargo deny check licenses bans sources

build: ## all programs, static, in the quick profile
	cargo build --profile quick --workspace

images: build ## container images of the programs
	$(LAB) images

demo: packages build ## two clusters, one link, one request through everything
	$(LAB) demo

demo-down: ## remove the demo's clusters
	$(LAB) demo down

acceptance: ## the acceptance rows, and the tests that carry them
	@tools/acceptance

release: ## the sidecar as it is to be run, optimised for what it does under load; needs root
	@tools/release

# Ratios of another profile than trained or release mean nothing.
BENCH_PROFILE ?= trained
BENCH := cargo run -q --release -p mesh-bench --bin bench --
bench: ## our sidecars beside HAProxy, Envoy and nginx; ARGS="--quick --only http1" for less
	@tools/system-packages bench
	cargo build --release -p mesh-bench
	@programs=$$(tools/release $(BENCH_PROFILE)) && peers=$$(tools/bench-peers) && \
		$(BENCH) --programs "$$programs" --peers "$$peers" $(ARGS)

soak: ## proof that takes hours: MINUTES (60) of fuzzing for each target, and more
	@tools/fuzz run $$(($(or $(MINUTES),60) * 60))
	MESH_RUNS=10000 cargo test --profile quick -p mesh-mirror m11_histories

clean-lab: ## remove every cluster and whatever a lab that was cut off left
	$(LAB) down

packages:
	@tools/system-packages lab
