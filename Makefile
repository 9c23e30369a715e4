# What can be done here. Each target is one line that can as well be typed; `make` alone lists them.

NAME := vault-plugin-secrets-openai
BIN := bin/$(NAME)
# The command line of Vault, or of OpenBao, which takes the same commands.
CLI = $(or $(VAULT_BIN),$(shell command -v vault || command -v bao),vault)
# Where cargo puts a release: it names the host as its target (.cargo/config.toml).
BUILT = $${CARGO_TARGET_DIR:-target}/$(shell rustc -vV | sed -n 's/^host: //p')/release
SHA256 = $(firstword $(shell sha256sum $(BIN) 2>/dev/null || shasum -a 256 $(BIN)))

# Twice as many tests at a time as there are processors: most of a test on a server is waiting.
TEST_THREADS = $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

.DEFAULT_GOAL := help
.PHONY: help build test torture check lint audit demo register enable dev-setup load bench peer micro arm64 image test-container release clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the plugin into bin/; on Linux it is one static program, as shipped
	BUILD_COMMIT="$$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)" cargo build --release --locked --bin $(NAME)
	@mkdir -p bin
	@install -m 755 $(BUILT)/$(NAME) $(BIN)

test: ## Run every test; on a real OpenBao, and on Vault too where VAULT_BIN or the PATH has one
	BAO_BIN="$$(scripts/openbao.sh)" RUST_TEST_THREADS=$(TEST_THREADS) cargo test --features failpoints

torture: ## Print what comes of kills, floods and outages at full size: up to 20 minutes
	cargo test --profile torture --test integration --no-run
	BAO_BIN="$$(scripts/openbao.sh)" timeout 20m cargo test --profile torture --test integration torture::full -- --ignored --nocapture

check: ## Format, lints and documentation, without a warning
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --all-targets --features failpoints -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items

lint: ## Shell scripts, Vagrant machine and Terraform's files, as far as their linters are here
	@scripts/lint.sh

audit: ## Licenses, sources and known faults of the dependencies; says loudly what cannot be asked here
	@scripts/audit.sh

demo: ## Show the Quick Start from beginning to end, on a server and an OpenAI of its own
	@scripts/demo.sh

register: ## Enter bin/'s plugin into the catalog of the server at VAULT_ADDR
	@test -f $(BIN) || { echo "make register: there is no $(BIN): run make build first" >&2; exit 1; }
	$(CLI) plugin register -sha256=$(SHA256) secret $(NAME)

enable: ## Mount the plugin at openai/
	$(CLI) secrets enable -path=openai $(NAME)

dev-setup: ## Run a development server with the plugin mounted, until Ctrl-C
	@scripts/dev-setup.sh

load: build ## Measure credentials a second: 64 clients, 100 ms for each call of OpenAI
	cargo build --release --workspace --bin openai-simulator --example load
	@scripts/load.sh

bench: peer build ## Measure beside the Go plugin at PEER=, in turn on one server, and keep the table in docs/performance.md
	cargo build --release --workspace --bin openai-simulator --example load
	@python3 scripts/bench --keep "$(PEER)"

# Before anything is built for it.
peer:
	@test -f "$(PEER)" || { echo "make bench: PEER= has to name the Go plugin's program" >&2; exit 1; }

micro: ## Count the instructions of each kind of request, under callgrind
	CARGO_PROFILE_RELEASE_DEBUG=1 CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		cargo build --release --target-dir target/micro --bin $(NAME)
	cargo build --release --workspace --bin openai-simulator --example load
	@python3 scripts/bench/micro.py target/micro/$(shell rustc -vV | sed -n 's/^host: //p')/release/$(NAME)

arm64: ## Build the plugin for Linux on arm64 and show the demo with it, under qemu-user
	@scripts/arm64.sh

image: ## Make the container image in Docker and print its id, Vault's -sha256
	@scripts/image.sh

test-container: ## From the image to a credential on a real Vault, under runc and gVisor
	@./vault_container_plugin_integration_test.sh

release: ## Program, image, list of contents and checksums into dist/, built twice
	@scripts/release.sh --twice

clean: ## Remove what was built and fetched
	cargo clean
	rm -rf bin dist .cache
