# Two commands on a fresh machine: `make repro` and `make test`.
# EXTRA=cpu (default) installs onnxruntime, EXTRA=gpu onnxruntime-gpu.

EXTRA ?= cpu
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
READY := .venv/ready-$(EXTRA)

PORT ?= 3000
HOST ?= 127.0.0.1
# BentoML and onnxruntime send no telemetry; BentoML's store is here, so that it can be emptied.
export BENTOML_DO_NOT_TRACK := True
export ORT_DISABLE_TELEMETRY := 1
export BENTOML_HOME := $(CURDIR)/.bentoml
IMAGE := sisa:latest$(if $(filter gpu,$(EXTRA)),-gpu)
BASE_IMAGE ?= python:3.11-slim-bookworm

.PHONY: help repro serve bento containerize test test-all image-test test-nightly test-gpu setup requirements
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

repro: setup ## run the pipeline on params.yaml and show the results
	. .venv/bin/activate && sisa check && dvc repro && sisa publish && sisa summary && sisa status

# What is served is not DVC's: `sisa publish` publishes the release candidate that `dvc pull` or `dvc repro` left.
serve: setup ## answer over HTTP on the models there are: http://localhost:3000 (HOST=… PORT=…)
	. .venv/bin/activate && sisa publish && bentoml serve serving.service:Sisa --host $(HOST) --port $(PORT)

# Older bentos are deleted: they hold models that know what has been forgotten since. The SBOM lists what the image's Python
# installs: requirements-*.txt are for all Pythons.
bento: setup ## build the service and its models into one folder, .bentoml/bentos/sisa/… (EXTRA=gpu)
	rm -rf .bentoml/bentos && mkdir -p .bentoml
	. .venv/bin/activate && sisa publish && \
		generation=$$(python -c 'import json; print(json.load(open("models/ensemble.json"))["generation"])') && \
		sed -e 's/requirements-cpu/requirements-$(EXTRA)/' -e "/MIN_GENERATION/{n;s/0/$$generation/;}" \
			bentofile.yaml > .bentoml/bentofile.yaml && \
		bentoml build --bentofile .bentoml/bentofile.yaml . && \
		$(UV) pip compile --quiet --no-deps --python-version 3.11 --python-platform linux \
			--output-file .bentoml/requirements.txt serving/requirements-$(EXTRA).txt && \
		python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible \
			--output-file .bentoml/bentos/sisa/$$(cat .bentoml/bentos/sisa/latest)/sbom.cdx.json .bentoml/requirements.txt

# Not by `bentoml containerize`, which refuses a Containerfile from a template (1.4.40) unless its temporary folder is below here.
containerize: bento ## make the image sisa:latest of it (BASE_IMAGE=…); without a Docker engine, only say how
	@bento=.bentoml/bentos/sisa/$$(cat .bentoml/bentos/sisa/latest) && cp $$bento/env/docker/Dockerfile $$bento/Containerfile && \
		build="docker build --tag $(IMAGE) --build-arg BASE_IMAGE=$(BASE_IMAGE) --file $$bento/Containerfile $$bento" && \
		if docker info > /dev/null 2>&1; then \
			$$build; \
		else \
			echo "No Docker engine is running here, so no image was built. Build it elsewhere:" && echo "  $$build" && exit 1; \
		fi

test: setup ## lint, types, and all tests but those below: 5 minutes on 2 cores
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy
	. .venv/bin/activate && pytest -m "not heavy and not nightly and not gpu"

test-all: setup ## the heavy tests, after `make test`: browser, bento environment, kill loops; 15 minutes
	. .venv/bin/activate && pytest -m "heavy and not nightly and not gpu"

image-test: setup ## build and run the image without an engine, as root with buildah and debootstrap
	. .venv/bin/activate && pytest -n0 -m nightly tests/test_image.py

test-nightly: setup ## what takes longer or needs much: image builds, long kill loops
	. .venv/bin/activate && pytest -m nightly

test-gpu: setup ## what only a GPU can show; EXTRA=gpu also serves on it
	. .venv/bin/activate && pytest -n0 -m gpu

requirements: $(UV) ## what the bento installs, from uv.lock
	for extra in cpu gpu; do $(UV) export --quiet --locked --only-group serving --only-group $$extra \
		--no-hashes --no-annotate --no-header > serving/requirements-$$extra.txt; done

setup: $(READY) ## only the environment: the lock file's, in .venv

$(READY): uv.lock pyproject.toml | $(UV)
	$(UV) sync --locked --group $(EXTRA)
	@rm -f .venv/ready-* && touch $@

# Only when no uv is installed.
.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet uv==$(UV_VERSION)
