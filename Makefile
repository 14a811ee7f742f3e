# hospital-chaos: every target sets up what it needs and says what it does. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/hospital-chaos
SEED ?= 7
# Most tests wait for something most of the time; those that share an engine or FUSE stay fewer.
WORKERS ?= 3
FEWER ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow teeth all-teeth lint bench heal clean load-ui image containers arrays campaigns

help: ## Print this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: pyproject.toml
	@echo "==> Creating $(VENV) and installing hospital-chaos (once; about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hospital-chaos needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 64; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv module: on Debian, apt-get install python3-venv"; exit 64; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "==> Adding what developers need (tests, lint)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

setup: $(VENV)/.dev ## Create .venv with everything developers need
	@$(RUN) doctor

demo: $(VENV)/.run ## The Saint-Luc outage: raise a hospital, crash servers, judge its claims, write a report
	@echo "==> Several servers of a hospital crash at 16:00. Which of its claims hold?"
	@$(RUN) run saint-luc --seed $(SEED)

test: $(VENV)/.dev ## Every fast test, storage arrays where FUSE is, then one experiment: a node of the record crashes (about 6 minutes)
	@echo "==> Fast tests"
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow and not teeth and not campaign and not docker and not storage and not kubernetes"
	@echo "==> Storage arrays"
	@$(MAKE) --no-print-directory arrays
	@echo "==> One experiment: a node of the record crashes"
	@$(RUN) run app-node-crash --preset smoke --seed $(SEED)

slow: $(VENV)/.dev ## Tests on real PostgreSQL, the whole hospital and engines in trouble; kill -9 at random moments
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "slow and not teeth and not campaign"

campaigns: $(VENV)/.dev ## Long repetitions: failovers once more on etcd, fifty kills of a kind (15 minutes)
	@KILL9_MOMENTS=50 $(BIN)/python -m pytest -q -n $(FEWER) --dist worksteal -m campaign

containers: $(VENV)/.dev image ## What needs a Docker engine: every runtime's contract, faults on containers, your own Compose project
	@$(BIN)/python -m pytest -q -n $(FEWER) --dist loadfile -m "docker and not slow and not teeth and not campaign"

arrays: $(VENV)/.dev ## What needs FUSE: storage arrays that fail (under containers: make containers)
	@$(BIN)/python -m pytest -q -n $(FEWER) --dist loadfile -m "storage and not slow and not teeth and not campaign and not docker"

teeth: $(VENV)/.dev ## Plant each defect of the quick set: exactly its claims must break (ten in containers where there is an engine)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "teeth and not slow and not docker" tests/teeth
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "teeth and not slow and docker" tests/teeth

all-teeth: $(VENV)/.dev ## The same with every defect, and every sound run, on both runtimes (hours)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m teeth tests/teeth

lint: $(VENV)/.dev ## ruff, mypy --strict, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.dev ## Measure; one JSON line per figure
	@$(BIN)/python -m benchmarks

image: $(VENV)/.run ## The container image that `--runtime docker` needs; no registry needed (a minute; 5 s for code)
	@$(BIN)/python -m stacks.hospital.image

load-ui: $(VENV)/.run ## Raise the hospital and open the same traffic in Locust's web UI
	@$(RUN) load-ui

heal: $(VENV)/.run ## Undo whatever a killed harness left in the world
	@$(RUN) heal

clean: ## Remove the virtual environment, caches and run folders (not the committed sample)
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find reports -mindepth 1 -maxdepth 1 -type d ! -name sample -exec rm -rf {} +
	@echo "clean"
