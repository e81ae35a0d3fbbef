# darkroom: every command a developer needs. `make` alone explains them.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What `make cluster-up` starts: tests/harness/README.md.
TIER ?= api
# Where tests that need a Kubernetes run: local (one that is started for them), existing (that of
# $KUBECONFIG) or none. What a machine can't run is skipped with the reason: tests/harness/README.md.
CLUSTER ?= local
# What needs neither Ray nor a cluster runs beside each other, a file's tests one after another; then the rest by itself.
# Beside each other, each has one thread: more would wait for the cores that the others have.
QUICK := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not cluster" --numprocesses=auto --dist=loadfile
REST := $(BIN)/python -m pytest -m "slow or cluster" --cluster=$(CLUSTER)
# Where DeepSpeed was installed without its CPU extension, it is compiled with the ninja of the virtual environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export TOKENIZERS_PARALLELISM := false
# Hundreds of processes that tests start import the same modules: they are compiled once, whatever the user's shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test quick test-exhaustive check format crds requirements bench bench-trainer bench-operator bench-demo cluster-up cluster-down clean

help: ## Show this help
	@echo "Usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Build .venv with everything in it (by uv, which pip brings where it is missing)

$(VENV)/.ready: requirements/dev.txt pyproject.toml hack/setup.sh
	PYTHON=$(PYTHON) hack/setup.sh $(VENV)
	touch $@

demo: setup ## Train a subject, serve it, draw it: writes demo/contact-sheet.png
	$(BIN)/darkroom demo

test: setup ## Run every test; the exhaustive ones take turns (CLUSTER=existing: on your cluster, none: without)
	$(QUICK)
	$(REST)

quick: setup ## Run what needs neither Ray nor a cluster
	$(QUICK) --exhaustive=none

test-exhaustive: setup ## Run every test and all that is exhaustive
	$(QUICK) --exhaustive=all
	$(REST) --exhaustive=all

check: setup ## Format, lint, types, import contracts, generated files
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m darkroom_api --check
	$(BIN)/python -m darkroom.reference --check
	$(BIN)/python charts/render.py --check
	$(BIN)/python hack/render_map.py --check

format: setup ## Format the code and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

crds: setup ## Render the CRD, the reference pages and the map from the code
	$(BIN)/python -m darkroom_api
	$(BIN)/python -m darkroom.reference
	$(BIN)/python charts/render.py
	$(BIN)/python hack/render_map.py

requirements: setup ## Renew requirements/*.txt from pyproject.toml
	hack/compile-requirements.sh

bench: bench-trainer bench-operator bench-demo ## Run all benchmarks

bench-trainer: setup ## Our training loop beside diffusers' script (DIFFUSERS_DREAMBOOTH_SCRIPT=path)
	$(BIN)/python -m benchmarks.bench_trainer

bench-operator: setup ## What the operator costs on a real apiserver: writes, CPU, memory
	PYTHONPATH=tests/support $(BIN)/python -m benchmarks.bench_operator

bench-demo: setup ## The demo alone and beside a busy program, in seconds and in units of the machine
	$(BIN)/python -m benchmarks.bench_demo

cluster-up: setup ## Start a Kubernetes of our own and say how to use it (TIER=api|scale|node)
	PYTHONPATH=tests/support $(BIN)/python -m darkroom_testing.cluster up --tier $(TIER)

cluster-down: setup ## Take it down; nothing of it is left
	PYTHONPATH=tests/support $(BIN)/python -m darkroom_testing.cluster down

clean: ## Remove what was built and trained here; keeps the sources
	rm -rf $(VENV) demo .darkroom models .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
