# The commands of the project; `make` alone lists them.
#
#   PYTHON  the interpreter that makes the environment (default python3; 3.11 or newer)
#   VENV    where the environment lives (default .venv)
#   ARGS    more arguments for pytest, `headrace run` or the benchmarks

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

PACKAGES := bridge analytics sim_adapters
BIN := $(VENV)/bin
# Asked of the interpreter once; empty where it cannot be started.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# One stamp a version, so that `make PYTHON=python3.12 test` makes the environment anew.
FULL := $(VENV)/.setup-$(VERSION)-full
USER_ONLY := $(VENV)/.setup-$(VERSION)-demo

.PHONY: help setup demo test lint types unit format bench constraints clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(FULL)  ## make the environment with everything in it (nothing to do when up to date)

# $(call install,EXTRAS): the environment with these extras, at the versions of constraints.txt.
define install
@if [ -z "$(VERSION)" ]; then \
	echo "The interpreter '$(PYTHON)' cannot be started. Name one with PYTHON=..." >&2; exit 1; fi
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "Headrace needs Python 3.11 or newer; '$(PYTHON)' is $(VERSION). Name one with PYTHON=..." >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "'$(PYTHON)' cannot make environments. On Debian, install the package python3-venv." >&2; exit 1; }
@if [ "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" != "$(VERSION)" ]; then \
	echo "Making $(VENV) with Python $(VERSION)."; $(PYTHON) -m venv --clear $(VENV); fi
@echo "Installing headrace[$(1)] into $(VENV) (a minute or two the first time)."
@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(1)]'
@touch $@
@echo "The environment $(VENV) is ready."
endef

$(FULL): pyproject.toml constraints.txt
	$(call install,all$(comma)test)

$(USER_ONLY): pyproject.toml constraints.txt
	$(call install,all)

comma := ,

# The demonstration needs no test tools: it takes the full environment only where it is there.
demo: $(if $(wildcard $(FULL)),$(FULL),$(USER_ONLY))  ## run the main job: steered alanine dipeptide, then the report
	$(BIN)/headrace run examples/alanine_dipeptide/run.toml $(ARGS)

test: lint types unit  ## set up, then all linters, type checks and tests

lint: setup  ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy on the three packages
	$(BIN)/mypy --strict $(PACKAGES)

unit: setup  ## the tests, with coverage by package (ARGS="-k name" for some of them)
	$(BIN)/coverage erase
	MPLBACKEND=Agg $(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	@for package in $(PACKAGES); do \
		total=$$($(BIN)/coverage report --format=total --include="$$package/*" 2>/dev/null) || total=0; \
		printf 'coverage  %-14s %3s %%\n' "$$package" "$$total"; \
	done

format: setup  ## let ruff repair what it can
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

bench: setup  ## run every benchmark, quickly; one JSON object a line at its end
	$(BIN)/python -m benchmarks all --quick --json $(ARGS)

constraints: setup  ## write constraints.txt anew from the environment in use
	@{ sed -n '/^#/p' constraints.txt; \
	   { $(BIN)/python -m pip freeze --exclude headrace --exclude torch; \
	     grep '^torch==' constraints.txt; } | LC_ALL=C sort --ignore-case --unique; } > constraints.new
	@mv constraints.new constraints.txt
	@touch $(FULL)

clean:  ## remove caches, builds and coverage (the environment stays)
	rm -rf build dist *.egg-info .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests $(wildcard benchmarks examples) -type d -name __pycache__ -prune -exec rm -rf {} +
