# The commands of the project; `make` alone lists them.
#
#   PYTHON  the interpreter that makes the environment (default python3; 3.11 or newer)
#   VENV    where the environment lives (default .venv; those of Flink and Spark get -flink, -spark)
#   ARGS    more arguments for pytest, `headrace run` or the benchmarks
#   COVERAGE=1  run tests under coverage

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
# Flink and Spark cannot share an environment: each has one of its own.
FLINK := $(VENV)-flink/.setup-$(VERSION)
SPARK := $(VENV)-spark/.setup-$(VERSION)

.PHONY: help setup setup-flink setup-spark demo test lint types unit coverage test-core \
	test-flink test-spark format bench constraints clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(FULL)  ## make the environment with everything in it (nothing to do when up to date)

setup-flink: $(FLINK)  ## make the environment of Flink

setup-spark: $(SPARK)  ## make the environment of Spark

# $(call install,VENV,EXTRAS,CONSTRAINTS): an environment with these extras, at these versions.
define install
@if [ -z "$(VERSION)" ]; then \
	echo "The interpreter '$(PYTHON)' cannot be started. Name one with PYTHON=..." >&2; exit 1; fi
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "Headrace needs Python 3.11 or newer; '$(PYTHON)' is $(VERSION). Name one with PYTHON=..." >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "'$(PYTHON)' cannot make environments. On Debian, install the package python3-venv." >&2; exit 1; }
@if [ "$$($(1)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" != "$(VERSION)" ]; then \
	echo "Making $(1) with Python $(VERSION)."; $(PYTHON) -m venv --clear $(1); fi
@echo "Installing headrace[$(2)] into $(1) (a minute or two the first time)."
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c $(3) -e '.[$(2)]'
@touch $@
@echo "The environment $(1) is ready."
endef

$(FULL): pyproject.toml constraints.txt
	$(call install,$(VENV),all$(comma)test,constraints.txt)

$(USER_ONLY): pyproject.toml constraints.txt
	$(call install,$(VENV),all,constraints.txt)

$(FLINK): pyproject.toml constraints-flink.txt
	$(call install,$(VENV)-flink,flink$(comma)$(with_engines),constraints-flink.txt)

$(SPARK): pyproject.toml constraints-spark.txt
	$(call install,$(VENV)-spark,spark$(comma)$(with_engines),constraints-spark.txt)

# PyFlink and PySpark leave pipes and sockets of their JVM open until the end.
# Other tests run beside these: each test gets three times as long.
unruly := --timeout=400 -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning
with_engines := analysis,learning,openmm,report,test-engines
comma := ,

# The demonstration needs no test tools: it takes the full environment only where it is there.
demo: $(if $(wildcard $(FULL)),$(FULL),$(USER_ONLY))  ## run the main job: steered alanine dipeptide, then the report
	$(BIN)/headrace run examples/alanine_dipeptide/run.toml $(ARGS)

test: lint types unit  ## set up, then all linters, type checks and tests, on all engines

lint: setup  ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy on the three packages
	$(BIN)/mypy --strict $(PACKAGES)

# What `pytest` is started by: with COVERAGE=1 under coverage, which costs a third of the time.
PYTEST = MPLBACKEND=Agg $(1)/bin/$(if $(COVERAGE),coverage run -m,python -m) pytest -o cache_dir=.pytest_cache/$(notdir $(1))
# $(call run_tests,VENV,ARGUMENTS). Real simulations, clusters and browsers share the machine with
# the tests, and whoever else uses it: up to three tests that failed are run once more, by
# themselves. Both outcomes are printed; what is broken fails twice.
define run_tests
$(call PYTEST,$(1)) $(2) || { code=$$?; \
	failed=$$(grep -c '": true' .pytest_cache/$(notdir $(1))/v/cache/lastfailed 2>/dev/null || true); \
	[ $$code = 1 ] && [ "$${failed:-0}" -ge 1 ] && [ "$$failed" -le 3 ] || exit $$code; \
	echo "$$failed of these tests failed. Once more, by themselves:"; \
	$(call PYTEST,$(1)) $(2) --last-failed --last-failed-no-failures=none; }
endef

# Each engine's tests run in its environment. Tests wait for processes more than they compute: the
# engines' environments are made, and the engines tested, beside the tests that need no cluster.
unit: setup  ## the tests on all engines
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	$(MAKE) --no-print-directory test-spark test-flink >"$$log" 2>&1 & engines=$$!; \
	$(MAKE) --no-print-directory test-core || { kill $$engines 2>/dev/null || true; exit 1; }; \
	wait $$engines || { cat "$$log" >&2; exit 1; }; cat "$$log"

coverage: setup  ## the same tests, and how much of each package they reach
	$(BIN)/coverage erase
	$(MAKE) --no-print-directory unit COVERAGE=1
	$(BIN)/coverage combine --quiet
	@for package in $(PACKAGES); do \
		total=$$($(BIN)/coverage report --format=total --include="$$package/*" 2>/dev/null) || total=0; \
		printf 'coverage  %-14s %3s %%\n' "$$package" "$$total"; \
	done

test-core: setup  ## the tests that need no cluster (ARGS="-k name" for some of them)
	@$(call run_tests,$(VENV),$(ARGS))

test-flink: $(FLINK)  ## the tests on Flink
	@$(call run_tests,$(VENV)-flink,$(unruly) tests/flink tests/conformance/engines $(ARGS))

test-spark: $(SPARK)  ## the tests on Spark
	@$(call run_tests,$(VENV)-spark,$(unruly) tests/spark tests/conformance/engines $(ARGS))

format: setup  ## let ruff repair what it can
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

bench: setup  ## run every benchmark, quickly; one JSON object a line at its end
	$(BIN)/python -m benchmarks all --quick --json $(ARGS)

# $(call freeze,VENV,FILE): the versions in use, for the next installation.
define freeze
@{ sed -n '/^#/p' $(2); \
   { $(1)/bin/python -m pip freeze --exclude headrace --exclude torch; \
     grep '^torch==' $(2) || true; } | LC_ALL=C sort --ignore-case --unique; } > $(2).new
@mv $(2).new $(2)
endef

constraints: setup $(FLINK) $(SPARK)  ## write the constraints anew from the environments in use
	$(call freeze,$(VENV),constraints.txt)
	$(call freeze,$(VENV)-flink,constraints-flink.txt)
	$(call freeze,$(VENV)-spark,constraints-spark.txt)
	@touch $(FULL) $(FLINK) $(SPARK)

clean:  ## remove caches, builds and coverage (the environment stays)
	rm -rf build dist *.egg-info .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests $(wildcard benchmarks examples) -type d -name __pycache__ -prune -exec rm -rf {} +
