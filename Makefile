# zimg: `make run` starts the whole service, `make test` tests it, `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8080
DATA_DIR ?= data
TESTS ?= tests

STAMPS := $(VENV)/.stamps
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --progress-bar=off --disable-pip-version-check
PINS := requirements/constraints.txt requirements/core.txt requirements/api.txt requirements/scheduler.txt \
	requirements/worker.txt requirements/client.txt requirements/run.txt
TOOLS := "chromium-headless-shell|chromium" nginx redis-server faketime

# The model that draws: ZIMG_MODEL, else the starter model where it lies, else the tiny one, built here from a seed.
ifdef ZIMG_MODEL
MODEL := $(ZIMG_MODEL)
else ifneq ($(wildcard models/starter/model_index.json),)
MODEL := models/starter
else
MODEL := models/tiny
endif
TINY := models/tiny/model_index.json

.DEFAULT_GOAL := help
.PHONY: help run audit ledger install test tools check format bench soak faults starter-model lock clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

run: install ## start the whole service on http://127.0.0.1:8080 (PORT= DATA_DIR= REDIS_URL= S3_ENDPOINT_URL= ZIMG_MODEL=)
	@ZIMG_MODEL="$(MODEL)" exec $(BIN)/python -m deploy.local --port "$(PORT)" --data-dir "$(DATA_DIR)" --stop-with-parent

audit: ## compare the queue's records with the ledger, of the service in DATA_DIR (ARGS=--repair mends)
	@exec $(BIN)/python -m deploy.local.tool --data-dir "$(DATA_DIR)" scheduler.auditor $(ARGS)

ledger: ## the bill of the service in DATA_DIR as JSON lines (ARGS="--day 2026-11-28", ARGS=--help)
	@exec $(BIN)/python -m deploy.local.tool --data-dir "$(DATA_DIR)" scheduler.ledger export $(ARGS)

install: $(STAMPS)/run $(filter $(TINY),$(MODEL)/model_index.json) ## install what `make run` needs into .venv

# Hundreds of processes start: what one has compiled the next one finds, even where compiled files are not wanted else.
test: $(STAMPS)/dev $(TINY) ## run all tests that need no GPU (TESTS= chooses)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile $(TESTS)

tools: ## install what tests need beside Python packages: Chromium, nginx, redis-server, faketime (Debian, Ubuntu)
	@sh deploy/local/install_tools.sh $(TOOLS)

check: $(STAMPS)/dev ## lint, formatting, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMPS)/dev ## format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

bench: $(STAMPS)/dev $(TINY) ## measure latency, throughput, start-up and memory (benchmarks/README.md)
	@$(BIN)/python -m benchmarks

soak: $(STAMPS)/dev $(TINY) ## the long tests
	@$(BIN)/python -m pytest -m slow $(TESTS)
	@$(BIN)/python -m tests.mutants
	@$(BIN)/python -m tests.mutants_engine

faults: $(STAMPS)/dev $(TINY) ## kill, freeze and cut off every part, seeded
	@$(BIN)/python -m pytest -m faults $(TESTS)

starter-model: $(STAMPS)/run ## train the starter model anew into build/starter/model (one data-centre GPU, about 20 minutes)
	@$(BIN)/python -m models.recipe --out build/starter

lock: $(STAMPS)/dev ## write the versions that are installed to requirements/constraints.txt
	@{ head -1 requirements/constraints.txt; $(BIN)/python -m pip freeze --exclude torch --exclude pip --exclude setuptools; } > $(STAMPS)/lock
	@mv $(STAMPS)/lock requirements/constraints.txt

clean: ## remove the environment, the tiny model and caches (never data/)
	rm -rf "$(VENV)" models/tiny build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "zimg needs Python 3.11 or newer; say which with: make run PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv "$(VENV)" \
		|| { echo "Python can not make virtual environments here; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/torch: $(STAMPS)/venv requirements/torch.txt deploy/local/install_torch.py
	@$(BIN)/python deploy/local/install_torch.py requirements/torch.txt
	@touch $@

$(STAMPS)/run: $(STAMPS)/torch $(PINS)
	@echo "zimg: installing the other packages into $(VENV) (once, about a minute)"
	@$(PIP) -r requirements/run.txt
	@touch $@

$(STAMPS)/dev: $(STAMPS)/run requirements/dev.txt
	@echo "zimg: installing what the tests need into $(VENV) (once)"
	@$(PIP) -r requirements/dev.txt
	@touch $@

$(TINY): $(STAMPS)/run models/tiny.py
	@echo "zimg: building the tiny model (once)"
	@$(BIN)/python -m models.tiny >$(STAMPS)/tiny.log 2>&1 || { cat $(STAMPS)/tiny.log; exit 1; }
	@touch $@
