# The two commands of the README. Both make the virtual environment they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-slow fuzz check clean

quickstart: $(VENV)/ready  ## raw data in, a trained model's answers out
	$(BIN)/python -m pipeline.quickstart

test: check  ## format, lint, types, and every test of a few seconds
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/ready  ## the tests that take longer: real clusters, installed packages, kills, memory
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/ready  ## ten minutes of random recipes, records and folders; a failure prints its seed
	$(BIN)/python -m tests.fuzz

check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# torch comes first and by its exact version: where a CPU build of it is at hand pip takes that.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@echo "installing into $(VENV): one to two minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet -e '.[pipeline,train,dev]' -c constraints.txt
	touch $@

clean:
	rm -rf out build *.egg-info $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
