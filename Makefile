# The habits of this project; CI calls the same targets. `make demo` is the place to start.
VENV ?= .venv
BIN := $(VENV)/bin
LOCK := deploy/requirements-cpu.lock
READY := $(VENV)/.ready
GPU_PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help setup demo test check rgw format bench bench-model gpu-test lock clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 16

$(READY): $(LOCK) deploy/setup.sh pyproject.toml
	@deploy/setup.sh $(VENV)
	@touch $(READY)

setup: $(READY) ## Install everything into .venv, from the lock

demo: $(READY) ## Caption a few hundred drawings with the bundled model, and show them
	@$(BIN)/gemma3-batch demo

test: $(READY) ## Run the tests
	@$(BIN)/python -m pytest

check: $(READY) ## Lint, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

rgw: $(READY) ## Start Ceph RGW, a real S3 server in memory, until Ctrl-C
	@$(BIN)/python -m tests.rgw

bench: $(READY) ## Measure throughput on this machine
	@$(BIN)/gemma3-batch bench

bench-model: $(READY) ## Compare our text model's speed with vLLM's own, on this CPU
	@$(BIN)/python -m tests.speed.text_cpu

gpu-test: ## Parity, CUDA graphs and speed on a GPU; GPU_PYTHON has vLLM for CUDA
	@$(GPU_PYTHON) -m pytest -m gpu -s tests/gpu

format: $(READY) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(READY) ## Choose new versions for the lock
	@deploy/lock.sh

clean: ## Remove the environment and every cache
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
