# The one entry to everything: `make demo` after a fresh clone, `make check test` before every commit.
.DEFAULT_GOAL := help
.PHONY: help setup check test demo fuzz sim bench docs deb image fmt clean lock

BIN := .venv/bin
ARGS ?=
SECONDS ?= 60
SEEDS ?= 1-50

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

setup: ## leave a .venv with everything pinned by hash; at once when nothing changed (PYTHON=… chooses one)
	@scripts/setup.sh

check: setup ## lint, formatting, types, layers and hygiene; all of them run, all are reported
	@scripts/check.sh

test: setup ## the tests (ARGS='tests/unit/types -k units'); those for Docker and root: see CONTRIBUTING.md
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadgroup $(ARGS)

demo: setup ## a network of three nodes on this machine deploys an ensemble; leaves nothing behind
	@$(BIN)/python scripts/demo.py $(ARGS)

fuzz: setup ## search for inputs that break a decoder, or a live node (SECONDS=60; ARGS='--keep --target token'); see CONTRIBUTING.md
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)
	@DMS_TEST_HEAVY=1 $(BIN)/python -m pytest --quiet --no-header tests/network/test_live_fuzz.py

sim: setup ## simulate whole networks in which things go wrong (SEEDS=A-B); see contributing/simulation.md
	@$(BIN)/python -m tests.sim --seeds $(SEEDS) $(ARGS)

bench: ## the figures, as JSON
	@scripts/setup.sh bench
	@$(BIN)/python -m bench $(ARGS)

docs: ## write the reference anew and build the manual into site/; a broken link fails
	@scripts/setup.sh docs
	@$(BIN)/python scripts/reference.py
	@$(BIN)/zensical build --clean --strict

deb: ## build the Debian package into dist/
	@scripts/setup.sh package
	@. scripts/registry.sh && use_pip_settings $(BIN)/python -m pip && $(BIN)/python scripts/package.py $(ARGS)

image: deb ## build a container image out of it (BASE=debian:bookworm-slim TAG=nunet-dms DOCKER=docker)
	@scripts/image.sh

fmt: setup ## format the code and mend what the linter can mend
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

lock: setup ## write requirements/ anew out of pyproject.toml (ARGS=--upgrade)
	@scripts/lock.sh $(ARGS)

clean: ## remove what the above made
	rm -rf .venv site dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
