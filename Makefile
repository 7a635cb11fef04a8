# Everything that people run. Each target sets up what it needs in ${NAVE_CACHE:-~/.cache/nave} and nowhere else.

.PHONY: help demo test net bench fuzz lint generate clean-cache
.DEFAULT_GOAL := help

CACHE := $(if $(NAVE_CACHE),$(NAVE_CACHE),$(HOME)/.cache/nave)
# Paths of the fetched tools; read when a recipe runs, after setup.sh wrote them.
TOOLS := set -a && . $(CACHE)/tools.env && set +a
# What cargo builds for (.cargo/config.toml says host-tuple).
BIN = target/$$(rustc -vV | sed -n 's/^host: //p')/debug

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/' | expand -t 14

demo: ## a fleet on this machine, to look at; ARGS=--once checks it and ends
	@tests/setup.sh controlplane weed kubectl helm model
	@echo 'demo: building Nave' >&2
	@cargo build --quiet --workspace --bins
	@exec $(BIN)/nave-demo $(ARGS)

test: lint ## everything, all classes of tests
	tests/setup.sh
	@[ "$$(id -u)" != 0 ] || tests/setup.sh node
	cargo build --workspace --bins
	$(TOOLS) && $(BIN)/nave-testenv -- $$NAVE_TOOL_CARGO_NEXTEST nextest run --workspace $(ARGS)
	cargo test --workspace --doc --quiet

net: ## sites behind thin and lossy links in network namespaces; also what is too long for make test (root, a few minutes)
	tests/setup.sh
	tests/setup.sh node
	cargo build --workspace --bins
	$(TOOLS) && $(BIN)/nave-testenv -- $$NAVE_TOOL_CARGO_NEXTEST nextest run --workspace --run-ignored all --no-capture -E 'binary(net)' $(ARGS)

bench: ## throughput, latency, memory; results as a table
	tests/setup.sh controlplane weed kubectl helm s5cmd rclone awscli finetune
	tests/bench/run.sh $(ARGS)

fuzz: ## libFuzzer on everything that reads foreign bytes, 10 minutes each; ARGS names targets, SECONDS_EACH=60 shortens it
	tests/setup.sh cargo-fuzz
	$(TOOLS) && tests/fuzz/run.sh $(ARGS)

lint: ## formatting, clippy, licenses and sources of dependencies
	tests/setup.sh deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(TOOLS) && $$NAVE_TOOL_CARGO_DENY --log-level error check bans licenses sources

generate: ## writes the committed generated files anew: CRDs, the chart's copy of them, the gRPC code
	tests/setup.sh nextest helm kubectl
	$(TOOLS) && UPDATE=1 $$NAVE_TOOL_CARGO_NEXTEST nextest run --workspace -E 'binary(generated) or test(generated)'

clean-cache: ## removes what setup.sh fetched and built
	rm -rf $(CACHE)
