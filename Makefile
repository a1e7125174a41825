# make up      set everything up and serve it on http://127.0.0.1:8000, until Ctrl-C
# make down    stop it from another shell; the data stays
# make check   linters, types, layers
# make test    every test, on real components
# make format  put the code in order
# make clean   remove what make installed; the data stays

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(firstword $(shell for python in python3.11 python3.12 python3; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python; done))
INSTALL = @$(BIN)/python tools/install.py
# Three lanes for what needs no Ray, made for two cores, since a lane often waits for the database or a timer; each with
# one thread for arithmetic: more would wait for each other. In order, because what is compiled first decides what later
# tests find compiled. One seed for hashes, so that all collect the same tests.
LANES = -n 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help up down test check format clean

help:
	@sed -n 's/^# make/make/p' Makefile

up: $(VENV)/.runtime
	@exec $(BIN)/compute up

down:
	@if [ -x $(BIN)/compute ]; then exec $(BIN)/compute down; else echo "not running"; fi

test: $(VENV)/.dev
	@status=0; \
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/pytest $(LANES) tests/unit tests/integration tests/providers || status=1; \
	$(BIN)/pytest tests/cluster || status=1; \
	$(BIN)/pytest tests/acceptance || status=1; \
	exit $$status

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# Stamps: dependencies are installed once, and again when their lists change.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) "the dependencies" $(VENV)/install.log --constraint constraints.txt --editable '.[server]'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(INSTALL) "the tools for development" $(VENV)/install-dev.log --constraint constraints.txt --editable '.[server,dev]'
	@touch $@

$(BIN)/python:
	@if ! $(or $(PYTHON),false) -c '$(SUPPORTED)' 2>/dev/null; then \
		echo "Compute needs Python 3.11 or 3.12: install one, or name it with make PYTHON=/path/to/python" >&2; exit 1; fi
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$(PYTHON) has no venv module: install it (on Debian: apt install python3-venv)" >&2; exit 1; fi
	@$(PYTHON) -m venv $(VENV)
