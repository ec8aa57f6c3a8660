# Every target works on a fresh checkout: the virtual environment is made when it is missing or
# when the pins change. Without make, the README gives the same commands.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= runs/demo

.PHONY: setup demo test check lint types clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    train on the embedded demo set, print the results, draw the label tree"
	@echo "make test    run the test suite"
	@echo "make check   format, lint, types, tests"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[offline,test]'
	touch $@

demo: setup
	$(BIN)/hyperlm train --data demo --geometry poincare --output $(DEMO) --overwrite
	$(BIN)/hyperlm visualize $(DEMO) --output $(DEMO)/labels.html
	@echo "Model, results and figure: $(DEMO)/ (open $(DEMO)/labels.html to explore the labels)"

# One process a core. Files stay whole: many share a run or a browser made for the file, which any
# finer division would make again in every process.
test: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) build dist *.egg-info
