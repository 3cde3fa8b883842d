# Everything runs in a private virtual environment, .venv; nothing is installed elsewhere.
PYTHON ?= python3
BOT ?= echo
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: help demo test check format bench clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/ready  ## one whole simulated call with real speech: make demo [BOT=echo]
	@$(BIN)/voicebridge demo --bot $(BOT) --out demo-out

test: $(VENV)/ready-dev  ## all tests
	@$(BIN)/python -m pytest

check: $(VENV)/ready-dev  ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/ready-dev  ## rewrite to the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/ready-dev  ## benchmarks of this machine (minutes)
	@$(BIN)/python -m benchmarks

clean:  ## remove what make made
	rm -rf $(VENV) demo-out build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "voicebridge needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making a private environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }

# PESQ, the standard measure of speech quality, ships as C source. Without a compiler the
# demo and the tests go on without it and say so.
$(VENV)/ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing voicebridge (once, about half a minute) ..."
	@$(PIP) install -c constraints.txt -e .
	@$(PIP) install -c constraints.txt pesq 2>/dev/null || \
	  echo "Without PESQ: it needs a C compiler (Debian: apt-get install gcc python3-dev)."
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	@echo "Installing the test tools ..."
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@
