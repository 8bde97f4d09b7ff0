# Everything that a developer or a CI machine runs. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
export PATH := $(CURDIR)/$(BIN):$(PATH)
IMAGE = $(shell $(PYTHON) scripts/release image)
# Most tests wait for servers: more of them at once than the machine has cores.
TEST_WORKERS ?= $(shell echo $$((3 * $$(getconf _NPROCESSORS_ONLN))))
# Each of them starts pods of its own on the Kubernetes cluster.
E2E_WORKERS ?= 2
# Modules outside of core that decide, read or write text. What awaits is left out, see pyproject.toml.
PURE := $(shell echo bootstrap/{settings,settings_checks,validation,errors}.py \
  bootstrap/process/{cleaning,summary}.py bootstrap/report/*.py bootstrap/commands/metrics.py \
  bootstrap/net/{announced,commands,connect_errors,connection_lock,databases,dns_causes,node_view,replies}.py \
  bootstrap/net/{resolv_conf,server_ports}.py \
  bootstrap/net/migration/{key_conflicts,link,reply_errors,server_tasks,session,slot_states}.py | tr ' ' ,)
# Called with a directory, a tag and IMAGE_ARGS.
BUILD_IMAGE ?= scripts/build-image

.PHONY: help demo test unit check e2e prose format mutants bench pictures fuzz soak servers lock image wheel release clean

help: ## List the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

$(VENV)/.ready: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.ready ## Six real servers and a DNS server on loopback, bootstrapped, and a prompt (ARGS=--exit to stop them)
	$(BIN)/python -m bootstrap sandbox $(ARGS)

test: $(VENV)/.ready ## All tests that this machine allows; reports what was skipped and why
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -rs --durations=10 $(ARGS)

unit: $(VENV)/.ready ## Pure tests only
	$(BIN)/python -m pytest tests/unit tests/property -m "not slow" $(ARGS)

check: $(VENV)/.ready prose ## Lint, types, import contracts, prose, branch coverage by unit tests; hadolint, shellcheck, actionlint (if installed), manifest schemas
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/coverage run -m pytest tests/unit -m "not slow"
	$(BIN)/coverage report --include='bootstrap/core/*' --fail-under=100
	$(BIN)/coverage report --include='$(PURE)' --fail-under=90
	$(BIN)/python -m pytest tests/property -m "not slow"
	$(BIN)/python -m pytest -n auto -rs tests/packaging $(ARGS)

e2e: $(VENV)/.ready ## Tests on the Kubernetes cluster that KUBECONFIG names (E2E=full: the drills too)
	$(BIN)/python -m pytest tests/e2e -m "kind and not machines" -n $(E2E_WORKERS) --dist loadfile -rs $(ARGS)
	$(BIN)/python -m pytest tests/e2e -m machines -rs $(ARGS)

prose: $(VENV)/.ready ## Words and phrases of the documents
	$(BIN)/python -m docs.prose

format: $(VENV)/.ready ## Format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

mutants: $(VENV)/.ready ## Change core and the loop in thousands of ways: the unit tests must notice (ARGS: names of mutants)
	HYPOTHESIS_PROFILE=mutants $(BIN)/python -m tests.mutation $(ARGS)

bench: $(VENV)/.ready ## Measure against redis-cli and valkey-cli and write docs/benchmarks.json, .md and .svg
	$(BIN)/python -m bench $(ARGS)

pictures: $(VENV)/.ready ## Draw the pictures of the documents again, without a measurement
	$(BIN)/python -m docs.pictures
	$(BIN)/python -m bench --draw

fuzz: $(VENV)/.ready ## Feed damaged replies to every parser (EXAMPLES a parser)
	FUZZ_EXAMPLES=$(or $(EXAMPLES),20000) $(BIN)/python -m pytest tests/fuzz $(ARGS)

soak: $(VENV)/.ready ## Thousands of steps of the random walk (STEPS, SEED)
	SOAK_STEPS=$(or $(STEPS),3000) SOAK_SEED=$(SEED) $(BIN)/python -m pytest -s tests/integration/test_random_walk.py

servers: ## Fetch Redis 6.2 to 8.6 and Valkey 8.1 and 9.1 for the tests (TEST_SERVERS names the directory)
	scripts/get-servers

lock: $(VENV)/.ready ## Resolve the dependencies again
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header --no-emit-index-url --no-annotate -q --upgrade -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --universal --group dev --extra sandbox --generate-hashes --no-header --no-emit-index-url --no-annotate -q --upgrade -o requirements-dev.lock

image: ## Build the image with docker, podman or buildah (BUILD_IMAGE names another command)
	$(BUILD_IMAGE) . $(IMAGE) $(IMAGE_ARGS)

wheel: $(VENV)/.ready ## Build the wheel and the source archive into dist/
	$(BIN)/hatchling build

release: ## Name OWNER everywhere, and VERSION if it is a new one, check that all places agree, commit and tag
	$(PYTHON) scripts/release prepare "$(OWNER)" "$(VERSION)"

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
