# Nothing has to be done before any of these: each installs what it needs into .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The environment is good if it was made for this very folder and its Python still runs.
VENV_GOOD := $(shell test "$$(cat $(STAMP) 2>/dev/null)" = "$(CURDIR)" \
	&& $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo yes)

.PHONY: help setup demo serve browser screenshots test test-browser check lint types layers learn bench soak clean distclean rebuild
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:
	@echo "make demo       install, then segment a bundled photo by a click, a box and whole"
	@echo "make serve      install, then serve the API and the demo at http://127.0.0.1:8000"
	@echo "make setup      install sam-composer and its tools into $(VENV) (once; again when the pins change)"
	@echo "make test       run the tests, with the coverage gate"
	@echo "make check      lint, types, layers, then the tests: what CI runs"
	@echo "make bench      run every script in benchmarks/, and write the tables of docs/performance.md"
	@echo "make learn      train a small model for three minutes, and fail if it learns too little: CI does it, too"
	@echo "make soak       ten thousand mixed requests to a server: memory, open files"
	@echo "make test-browser  the tests in a real browser, which 'make test' leaves out; installs Chromium with apt, as root"
	@echo "make screenshots  draw the pictures of docs/demo.md anew (needs Chromium)"
	@echo "make clean      remove caches, builds and out/demo; distclean removes $(VENV) too"
	@echo "PYTHON=python3.12 chooses the interpreter, PYTEST_ARGS='-n 0 -k boxes --no-cov' is passed on to pytest."

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt apps/annotator/vendor.py $(if $(VENV_GOOD),,rebuild)
	@rm -f $@
	@echo "Installing into $(VENV): about 3 GB to download, most of it PyTorch; this happens once."
	$(BIN)/python -m pip install $(if $(CI),--quiet) --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m apps.annotator.vendor --optional
	@printf '%s' "$(CURDIR)" > $@

rebuild:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "sam-composer needs Python 3.10 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make setup PYTHON=python3.12" >&2; exit 6; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu, install the package python3-venv." >&2; exit 6; }

demo: setup
	@$(BIN)/python examples/demo.py

# Never fails: without Chromium the tests that need one are skipped, and say so.
browser:
	@sh tests/browser/install-chromium.sh

screenshots: setup
	@$(BIN)/python docs/screenshots.py

serve: setup
	@$(BIN)/sam-composer serve

soak: setup
	@$(BIN)/python benchmarks/soak.py

# Two at a time, as many as CI has cores; a file's tests stay together, since they share what is slow to make.
test: setup
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS) --cov

test-browser: setup browser
	@SAM_COMPOSER_BROWSER_TESTS=1 $(BIN)/python -m pytest tests/browser --no-cov $(PYTEST_ARGS)

check: lint types layers test

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy

layers: setup
	@$(BIN)/lint-imports

# Whole or not at all: what is left of an earlier run would be gone on with, and nothing be learned.
learn: setup
	@rm -rf out/quick
	@$(BIN)/sam-composer train --config configs/training/quick.yaml --out out/quick --device cpu

bench: setup
	@set -e; for script in $(filter-out benchmarks/_% benchmarks/soak.py benchmarks/search.py benchmarks/table.py,$(sort $(wildcard benchmarks/*.py))) \
		benchmarks/table.py; do echo "== $$script"; $(BIN)/python "$$script"; done

clean:
	rm -rf build dist out/demo out/quick htmlcov .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) *.egg-info
