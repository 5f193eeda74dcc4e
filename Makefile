# `make demo` and `make test` do everything from a fresh clone; `make help` lists the other targets.
# Any setting can be given on the command line: make train TOTAL_STEPS=200 KD_TAU=1.1

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --no-compile -c constraints.txt
# pip compiles on one processor, and also what is never imported, for half a minute. What is left out here is compiled
# when it is first imported.
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/(tests?|testing/_internal|transformers/models)/' \
	"$(CURDIR)/$(VENV)/lib" || true
STAGES := teacher collect train eval dryrun pipeline
SOURCES := bitnet_core bitnet_tui tests benchmarks

# Variables given on make's command line become --set options; bitnet refuses a name that is not a setting.
# PYTHON is for make itself, and so are the variables that make defines (MAKE…, -…).
quote = '$(subst ','\'',$(1))'
given := $(foreach v,$(.VARIABLES),$(if $(filter command line,$(origin $(v))),$(v)))
SETS := $(foreach v,$(filter-out PYTHON CASES MAKE% -%,$(given)),--set $(call quote,$(v)=$($(v))))

CASES := 8000
SEED := 0
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

.PHONY: help demo test test-storage tui install $(STAGES) ensure_dirs check_env lint style fuzz format docs pictures bench clean

help: ## list the targets
	@grep -hE '^[a-z_$$() A-Z]+:.*## ' Makefile | sed -e 's/$$(STAGES)/$(STAGES)/' \
		| awk -F ':.*## ' '{ printf "  %-46s %s\n", $$1, $$2 }'
	@echo; echo "  Settings go on the command line: make train TOTAL_STEPS=200 KD_TAU=1.1"

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "bitnet: Python 3.11 or newer is needed; install it, or name it: make PYTHON=…" >&2; exit 2; }
	@echo "Installing into $(VENV): a minute with a warm cache, longer where torch has to be downloaded."
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(PIP_INSTALL) -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP_INSTALL) -q -e '.[test]'
	@$(COMPILE)
	@touch $@

install: $(VENV)/.installed-test ## set up .venv with everything, checks included

demo: $(VENV)/.installed ## distil a student from the embedded teacher: no key, no GPU, minutes
	@$(BIN)/bitnet demo $(SETS)

tui: $(VENV)/.installed ## open the app
	@$(BIN)/bitnet-tui

$(STAGES): $(VENV)/.installed ## run one stage, or all of them in order
	@$(BIN)/bitnet $@ $(SETS)

ensure_dirs: $(VENV)/.installed ## create the experiment's folders
	@$(BIN)/bitnet init $(SETS)

check_env: $(VENV)/.installed ## report every problem in the settings, with its line
	@$(BIN)/bitnet config --check $(SETS)

test: style ## every check: format, lint, types, layers, tests
	@# Types are checked beside the tests: alone, mypy would leave the other processors idle for half a minute.
	@# Three workers more than there are processors, six at most: tests wait for servers, timers and processes half of the time.
	@# Bytecode is kept, whatever the environment says: else each worker and process compiles every module again.
	@$(BIN)/mypy & types=$$!; failed=0; \
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder -rs -n \
		$$($(BIN)/python -c 'import os; print(min(6, 3 + (os.cpu_count() or 1)))') || failed=1; \
	wait $$types || { echo "mypy has found errors; \`make lint\` shows them alone" >&2; failed=1; }; \
	exit $$failed

test-storage: $(VENV)/.installed-test ## every storage target, with 5 GB, faults and kills (minutes)
	@STORAGE_LONG=1 $(BIN)/python -m pytest tests/storage -rs --timeout=0 --durations=10

lint: style ## format, lint, types, layers
	@$(BIN)/mypy

style: $(VENV)/.installed-test
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/lint-imports --no-logo

fuzz: $(VENV)/.installed-test ## give every reader 8,000 files or replies of any bytes (CASES=…, SEED=…)
	@# Only the files with such tests: the others' imports would count as the readers' memory.
	@FUZZ_CASES=$(CASES) $(BIN)/python -m pytest $$(grep -rl --include='test_*.py' 'from tests.fuzzing import' tests) \
		-m fuzz --hypothesis-seed=$(SEED) --timeout=0 --durations=0

format: $(VENV)/.installed-test ## rewrite the sources in the project's format
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

docs: $(VENV)/.installed ## write .env.example, docs/settings.md and docs/events.md from the code
	@$(BIN)/python -m bitnet_core.settings.docs
	@$(BIN)/python -m bitnet_core.runs.events_docs

pictures: $(VENV)/.installed-test ## draw the documents' pictures of the app anew, of the demo and a second training (minutes)
	@test -d experiments/demo || $(BIN)/bitnet demo
	@test -d experiments/half-rate || { $(BIN)/bitnet experiments duplicate --traces demo half-rate && \
		sed 's/^LR=.*/LR=2.5e-4/; s/^SCHEDULER_ETA_MIN=.*/SCHEDULER_ETA_MIN=2.5e-5/' experiments/demo/.env \
			> experiments/half-rate/.env && $(BIN)/bitnet train --root experiments/half-rate; }
	@$(BIN)/python -m tests.tui.gallery

bench: $(VENV)/.installed-test ## the benchmarks, as ratios measured in one run
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

clean: ## remove what the tools left; keeps .venv and every experiment
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find bitnet_core bitnet_tui tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
