# gemma3-batch for NVIDIA GPUs. From the repository's root:
#
#     docker build --file deploy/docker/cuda.Dockerfile --tag gemma3-batch:0.1.0-cuda .
#     docker run --rm --gpus all --shm-size=8g gemma3-batch:0.1.0-cuda --help
#
# CUDA's libraries are packages of the lock, at the versions that torch and vLLM were built with, so
# the base is plain Debian 12. The driver comes from the machine, through NVIDIA's container toolkit.
FROM debian:bookworm-20261005-slim@sha256:7c7b2c966bc9ee8cedfeef67e0e279108992c77681fa595db4a9d65c06ccc587 AS base
# gcc, libc6-dev, python3-dev: Triton builds what starts its kernels. wget: KubeRay asks Ray's
# health with it.
# Without versions: Debian's stable release changes for security alone, and keeps no older ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates gcc libc6-dev python3 python3-dev wget \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/gemma3-batch
ENV PATH=/opt/gemma3-batch/bin:$PATH
WORKDIR /source
COPY deploy/docker/gpu.lock deploy/docker/
# --no-deps: the lock is complete.
RUN pip install --no-cache-dir --no-deps --requirement deploy/docker/gpu.lock
COPY LICENSE README.md pyproject.toml ./
COPY gemma3_model gemma3_model
COPY jobs jobs
COPY pipeline pipeline
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM base
LABEL org.opencontainers.image.title="gemma3-batch" \
    org.opencontainers.image.description="Captions, translates and moderates very large datasets with Gemma 3, on NVIDIA GPUs" \
    org.opencontainers.image.licenses="Apache-2.0"
# A volume at the cache keeps models; an empty one takes over the folder's owner.
RUN useradd --uid 1000 --create-home --shell /bin/bash gemma \
    && install --directory --owner=gemma --group=gemma /home/gemma/.cache
COPY --from=build /opt/gemma3-batch /opt/gemma3-batch
ENV PATH=/opt/gemma3-batch/bin:$PATH \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /home/gemma
# A number: Kubernetes' runAsNonRoot cannot look names up.
USER 1000:1000
ENTRYPOINT ["gemma3-batch"]
CMD ["--help"]
