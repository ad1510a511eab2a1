# Everything a developer or a CI job calls. Needs make, Python 3.11 or newer (PYTHON=...) and pip's index; the rest is
# installed into .venv, pinned and with hashes, once: stamps in .venv say what is there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What is installed, and from which file; `dev` holds all of `demo`, in the same versions.
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev
PROJECT := $(VENV)/.installed-project

# uv's words for a file of pins that is good on any machine and names no place to download from.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --no-annotate $(if $(UPGRADE),--upgrade) pyproject.toml requirements/build.in

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test chaos check bench lock docs pictures clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO) $(PROJECT)  ## run the Antwerp NDVI example on a local openEO back-end, into ./demo
	@$(BIN)/openeo-fleet demo

test: $(DEV) $(PROJECT)  ## run all tests, as many at once as there are processors (PYTEST_ARGS="..." goes to pytest)
	@$(BIN)/pytest --numprocesses=auto --dist=worksteal $(PYTEST_ARGS)

chaos: $(DEV) $(PROJECT)  ## the long form of the chaos tests: 300 tiles, minutes (CHAOS_TILES, CHAOS_SEED)
	@CHAOS_TILES=$${CHAOS_TILES:-300} $(BIN)/pytest -s tests/acceptance/test_chaos.py $(PYTEST_ARGS)

check: $(DEV) $(PROJECT)  ## lint, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tools benchmarks
	$(BIN)/lint-imports

bench: $(DEV) $(PROJECT)  ## run each benchmarks/bench_*.py
	@set -e; for program in benchmarks/bench_*.py; do echo "== $$program"; $(BIN)/python $$program; done

docs: $(DEV) $(PROJECT)  ## write the generated parts of the documents anew
	@$(BIN)/python tools/render_docs.py

pictures: $(DEV) $(PROJECT)  ## take docs/pictures anew from a run of the demo (needs Chromium)
	@$(BIN)/python tools/take_pictures.py

lock: $(DEV)  ## write requirements/*.txt anew (UPGRADE=1: with the newest versions)
	$(LOCK) --all-extras --output-file requirements/dev.txt
	$(LOCK) --extra sandbox --extra embedded-redis --extra dashboard --constraint requirements/dev.txt --output-file requirements/demo.txt
	$(LOCK) --extra dashboard --constraint requirements/dev.txt --output-file requirements/worker.txt

clean:  ## remove what the targets made: .venv, ./demo, caches
	rm -rf $(VENV) demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "openeo-fleet needs Python 3.11 or newer; '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(DEMO): requirements/demo.txt | $(BIN)/python
	@echo "installing requirements/demo.txt into $(VENV) (a minute or two, once)"
	@$(PIP) install --require-hashes --requirement requirements/demo.txt
	@touch $@

$(DEV): requirements/dev.txt | $(BIN)/python
	@echo "installing requirements/dev.txt into $(VENV) (a minute or two, once)"
	@$(PIP) install --require-hashes --requirement requirements/dev.txt
	@touch $(DEMO) $@

# After one of the two above: its build tools are pinned there.
$(PROJECT): pyproject.toml | $(BIN)/python
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
