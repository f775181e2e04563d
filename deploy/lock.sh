#!/bin/sh
# Writes deploy/requirements-cpu.lock and deploy/requirements-gpu.lock: every package of an
# environment at one version, for Python 3.11 on x86-64 Linux.
# Needs PyTorch's CPU wheels: from their index, or from a folder named by UV_FIND_LINKS.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
"$python" -m uv --version >/dev/null 2>&1 || "$python" -m pip install --quiet uv

lock() {
    extra=$1
    shift
    "$python" -m uv pip compile pyproject.toml --extra "$extra" --group dev \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "make lock" --output-file "deploy/requirements-$extra.lock" "$@"
}

# A folder with CPU wheels would give the GPU its torch.
(unset UV_FIND_LINKS && lock gpu "$@")
[ -n "${UV_FIND_LINKS:-}" ] || set -- --index https://download.pytorch.org/whl/cpu "$@"
lock cpu --index-strategy unsafe-best-match --override deploy/lock-overrides.txt "$@"
