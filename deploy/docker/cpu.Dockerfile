# gemma3-batch for machines without a GPU. From the repository's root:
#
#     docker build --file deploy/docker/cpu.Dockerfile --tag gemma3-batch:0.1.0-cpu .
#     docker run --rm --shm-size=2g gemma3-batch:0.1.0-cpu demo
#
# `tests/deploy/image_root.py` runs these very lines in a folder where there is no Docker.
# Debian 12, whose Python (3.11) is the one that the lock is for.
FROM debian:bookworm-20261005-slim@sha256:7c7b2c966bc9ee8cedfeef67e0e279108992c77681fa595db4a9d65c06ccc587 AS base
# libnuma1: vLLM's CPU kernels are linked to it. wget: KubeRay asks Ray's health with it.
# Without versions: Debian's stable release changes for security alone, and keeps no older ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libnuma1 python3 wget \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/gemma3-batch
ENV PATH=/opt/gemma3-batch/bin:$PATH
WORKDIR /source
COPY deploy/docker/cpu.lock deploy/docker/
# PyTorch's build for CPUs is not on PyPI; from its own index comes this one package alone.
RUN pip install --no-cache-dir --no-deps --index-url https://download.pytorch.org/whl/cpu \
    "$(grep '^torch==' deploy/docker/cpu.lock)"
# --no-deps: the lock is complete.
RUN pip install --no-cache-dir --no-deps --requirement deploy/docker/cpu.lock
COPY LICENSE README.md pyproject.toml ./
COPY gemma3_model gemma3_model
COPY jobs jobs
COPY pipeline pipeline
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM base
LABEL org.opencontainers.image.title="gemma3-batch" \
    org.opencontainers.image.description="Captions, translates and moderates very large datasets with Gemma 3, on CPUs" \
    org.opencontainers.image.licenses="Apache-2.0"
# A volume at the cache keeps models; an empty one takes over the folder's owner.
RUN useradd --uid 1000 --create-home --shell /bin/bash gemma \
    && install --directory --owner=gemma --group=gemma /home/gemma/.cache
COPY --from=build /opt/gemma3-batch /opt/gemma3-batch
ENV PATH=/opt/gemma3-batch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /home/gemma
# A number: Kubernetes' runAsNonRoot cannot look names up.
USER 1000:1000
ENTRYPOINT ["gemma3-batch"]
CMD ["--help"]
