# `make demo` and `make test` install what they need into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_RUN := runs/demo
DEMO_BUDGET ?= 150s
# A GPU machine may come with its own torch and no network: what is installed there is used as it is.
ANY_PYTHON := $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
GPU_FLAGS ?=
# docs/cli.md is generated.
DOCUMENTS := $(filter-out docs/cli.md,$(wildcard *.md docs/*.md experiments/*/README.md))
# Containers often ask Python to keep no byte code: each process of a search would compile SciPy, scikit-learn and torch anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check fix bench bench-gpu gpu clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Make .venv and install naxcli with its tools

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "naxcli needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[dev,html,onnx]"
	touch $@

demo: $(STAMP) ## Search, report and export on the embedded digits, in a few minutes on a CPU
	$(BIN)/naxcli search --space nexception --data digits --budget $(DEMO_BUDGET) --run $(DEMO_RUN)
	$(BIN)/naxcli report $(DEMO_RUN) --html $(DEMO_RUN)/report.html
	$(BIN)/naxcli export $(DEMO_RUN) --format python --out $(DEMO_RUN)/export --overwrite

test: $(STAMP) ## Run the tests (CPU, no network)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal -m "not gpu and not slow"

test-all: $(STAMP) ## Run every test that this machine can, the slow ones included
	$(BIN)/python -m pytest -q

check: $(STAMP) ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mdformat --check $(DOCUMENTS)
	$(BIN)/mypy

fix: $(STAMP) ## Mend what the linter and formatter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mdformat $(DOCUMENTS)

bench: $(STAMP) ## Side-by-side measurements on this machine
	$(BIN)/python -m benchmarks

bench-gpu: ## Training benchmarks on a GPU, beside timm's pipeline
	$(ANY_PYTHON) -m benchmarks.gpu $(GPU_FLAGS)

gpu: ## All that needs a GPU: tests, benchmarks, the CIFAR-100 study; run again to go on (GPU_FLAGS="--help")
	$(ANY_PYTHON) benchmarks/gpu_study.py $(GPU_FLAGS)

clean: ## Remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
