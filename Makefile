# Everything starts here: `make help`. Each target does its own set-up: the virtual environment from
# requirements.lock, and MicroPython and mosquitto into .tools where the system has none.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
VENV_STAMP := .venv/.stamp
TOOLS_STAMP := .tools/.stamp

IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(IS_NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
endif

# Test processes; a test may itself start several programs.
JOBS ?= auto
PYTEST = $(BIN)/pytest -q -n $(JOBS) --maxprocesses 4 --dist loadfile

.PHONY: help setup python-is-new-enough demo demo-check demo-month scenarios street test test-fast lint format lock fuzz bench bench-accuracy powerloss relay-search relay-year chaos chaos-mutants board flash monitor clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/\1\t\2/p' $(MAKEFILE_LIST) \
	    | while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

demo: setup  ## three meters, gateway and utility, live (RESET=1 starts anew, RATE=n, DEMO_ARGS=)
	@$(BIN)/bijli demo run $(if $(RESET),--reset) $(if $(RATE),--rate $(RATE)) $(DEMO_ARGS)

demo-check: setup  ## the same story headless, as fast as possible; PASS or FAIL at the end
	@$(BIN)/bijli demo check $(DEMO_ARGS)

demo-month: setup  ## a month of one household, explained to the milli-paisa by meter and gateway
	@$(BIN)/python -m demo.month

scenarios: setup  ## live through every shipped story and judge it (SCENARIO_ARGS=--quick)
	@failed=; for story in demo/scenarios/*.toml; do \
	    $(BIN)/bijli scenario run $$story $(SCENARIO_ARGS) || failed="$$failed $$story"; done; \
	    test -z "$$failed" || { echo "scenarios: FAIL:$$failed"; exit 1; }

street: setup  ## a month of 20 different households; takes hours (STREET_ARGS="--days 3")
	@$(BIN)/python -m demo.street $(STREET_ARGS)

test: setup  ## all tests (TEST_ARGS= is handed to pytest)
	@$(PYTEST) $(TEST_ARGS)

test-fast: setup  ## the tests that take seconds
	@$(PYTEST) -m "not slow" $(TEST_ARGS)

lint: setup  ## ruff (rules and format) and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: setup
	@$(BIN)/ruff check --fix-only -q
	@$(BIN)/ruff format

fuzz: setup  ## every parser against mutated inputs (FUZZ_S=60 seconds, FUZZ_ARGS=)
	@$(BIN)/python -m host_tests.fuzz --seconds $(or $(FUZZ_S),60) $(FUZZ_ARGS)

bench: setup  ## measure speed and memory
	@$(BIN)/python -m host_tests.bench $(BENCH_ARGS)

bench-accuracy: setup  ## the meter's error on the worst sensor, before and after calibration
	@$(BIN)/python -m host_tests.accuracy $(ACCURACY_ARGS)

powerloss: setup  ## cut the power at every flash operation (POINT= one cut, POWERLOSS_ARGS="--share 1/4", --short)
	@$(BIN)/python -m host_tests.powerloss $(if $(POINT),--point '$(POINT)') \
	    $(if $(PART),--part '$(PART)') $(POWERLOSS_ARGS)

relay-search: setup  ## every state that the rules of the relay can reach, and what must hold there
	@$(BIN)/python -m host_tests.relay

relay-year: setup  ## a year of 1,000 households on the rules of the relay alone (YEAR_ARGS=)
	@$(BIN)/python -m host_tests.relay.year $(YEAR_ARGS)

chaos: setup  ## kill, cut and confuse everything, then check every account (SEED=, CHAOS_ARGS=)
	@$(BIN)/python -m host_tests.chaos $(if $(SEED),--seed $(SEED)) $(CHAOS_ARGS)

chaos-mutants: setup  ## plant known bugs: a short chaos run must catch each
	@$(BIN)/python -m host_tests.chaos.mutants $(CHAOS_ARGS)

board: setup  ## run one emulated meter, its console here (BOARD_ARGS=, see bijli board run --help)
	@$(BIN)/bijli board run $(BOARD_ARGS)

flash: setup  ## put the firmware on a board (PORT=, BOARD=)
	@$(BIN)/bijli board flash $(if $(PORT),--port $(PORT)) $(if $(BOARD),--board $(BOARD))

monitor: setup  ## the serial console of a board (PORT=); Ctrl-] leaves
	@$(BIN)/mpremote connect $(or $(PORT),auto) repl

clean:  ## remove .venv, .tools, build outputs; keeps the demo's data (see make demo RESET=1)
	@rm -rf .venv .tools build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
	@echo "clean: done; the demo's data was kept, 'make demo RESET=1' starts it anew"

# The two halves of the set-up do not depend on each other, and both wait for the network.
setup: python-is-new-enough
	@$(MAKE) -s -j2 $(VENV_STAMP) $(TOOLS_STAMP)

python-is-new-enough:
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(IS_NEW_ENOUGH)' 2>/dev/null || { \
	    echo "Python 3.11 or newer is needed; $(or $(PYTHON),none found)" \
	         "$$($(or $(PYTHON),true) -V 2>&1 || true)." \
	         "Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }

# A set-up that was cut off leaves .incomplete and no stamp, and is begun afresh.
$(VENV_STAMP): requirements.lock pyproject.toml toolchain/venv.py
	@$(PYTHON) toolchain/venv.py
	@touch $@

$(TOOLS_STAMP): toolchain/fetch.py toolchain/locate.py
	@$(PYTHON) toolchain/fetch.py --into .tools micropython micropython32 mosquitto
	@touch $@

# After a change of dependencies in pyproject.toml; needs uv, which is not part of the set-up.
lock:
	@uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-index-url \
	    --no-header --no-annotate --output-file requirements.lock pyproject.toml
	@if grep -nE '://' requirements.lock; then echo "lock: an address got into the file" >&2; exit 1; fi
