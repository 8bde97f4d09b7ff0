# Everything a developer or a CI machine runs. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
SHARED ?= ../shared
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
export PATH := $(CURDIR)/$(BIN):$(PATH)
IMAGE := redis-cluster-bootstrap:$(VERSION)

.PHONY: help demo test unit check format bench soak lock image clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

$(VENV)/.ready: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.ready ## Six real servers and a DNS server on loopback, bootstrapped and shown (ARGS=--exit to stop them)
	$(BIN)/python -m bootstrap sandbox $(ARGS)

test: $(VENV)/.ready ## All tests that this machine allows; says what it left out and why
	$(BIN)/python -m pytest -n 2 --dist worksteal -rs --durations=10 $(ARGS)

unit: $(VENV)/.ready ## Pure tests only
	$(BIN)/python -m pytest tests/unit tests/property -m "not slow" $(ARGS)

check: $(VENV)/.ready ## Lint, types, import contracts; hadolint, shellcheck, actionlint (if there), manifest schemas
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -rs tests/packaging $(ARGS)

format: $(VENV)/.ready ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.ready ## Measure against redis-cli and valkey-cli and write docs/benchmarks.md
	$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/.ready ## Thousands of steps of the random walk (STEPS, SEED)
	SOAK_STEPS=$(or $(STEPS),3000) SOAK_SEED=$(SEED) $(BIN)/python -m pytest -s tests/integration/test_random_walk.py

lock: $(VENV)/.ready ## Resolve the dependencies anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header --no-emit-index-url --no-annotate -q --upgrade -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --universal --group dev --extra sandbox --generate-hashes --no-header --no-emit-index-url --no-annotate -q --upgrade -o requirements-dev.lock

image: ## Build the image on the test Kubernetes
	$(SHARED)/kube/build-image . $(IMAGE)

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
