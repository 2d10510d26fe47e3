# Two commands on a fresh machine: `make repro` and `make test`.
# EXTRA=cpu (default) installs onnxruntime, EXTRA=gpu onnxruntime-gpu.

EXTRA ?= cpu
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
READY := .venv/ready-$(EXTRA)

.PHONY: help repro test setup
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

repro: setup ## run the pipeline on params.yaml and show the results
	. .venv/bin/activate && dvc repro && python -m training.evaluation.summary

test: setup ## lint, types, tests
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy
	. .venv/bin/activate && pytest

setup: $(READY) ## only the environment: the lock file's, in .venv

$(READY): uv.lock pyproject.toml | $(UV)
	$(UV) sync --locked --group $(EXTRA)
	@rm -f .venv/ready-* && touch $@

# Only when no uv is installed.
.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet uv==$(UV_VERSION)
