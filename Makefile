# All targets do the set-up themselves, in their own .venv; a second call is quick.
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(if $(shell command -v $(p) && $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo yes),$(p))))
BIN := .venv/bin

.PHONY: test types tests prove prove-long mutants quickstart clean

.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "JMSNAS needs Python 3.11 or newer; install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# mypy takes a minute of one core: it runs beside the tests, which often wait.
test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MAKE) --no-print-directory --jobs=2 types tests

types: .venv/installed
	$(BIN)/mypy
	$(BIN)/mypy examples
	$(BIN)/lint-imports

tests: .venv/installed
	$(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile

# The tests behind docs/guarantees.md, with a summary of their figures: minutes, and most of a day.
prove: .venv/installed
	JMSNAS_PROVE=prove $(BIN)/pytest -p no:logging tests/prove

prove-long: .venv/installed
	JMSNAS_PROVE=long $(BIN)/pytest -p no:logging tests/prove

# One-line mutations of the source, each of which its test must notice; a part of `make prove`.
mutants: .venv/installed
	JMSNAS_PROVE=prove $(BIN)/pytest -p no:logging tests/prove/test_mutants.py

quickstart: .venv/installed
	$(BIN)/jmsnas quickstart

clean:
	rm -rf .venv build *.egg-info
