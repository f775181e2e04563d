#!/bin/sh
# Writes deploy/requirements-cpu.lock and deploy/requirements-gpu.lock: every package of an
# environment at one version, for Python 3.11 on x86-64 Linux. And, of the same versions, what images
# have: deploy/docker/cpu.lock and deploy/docker/gpu.lock, without what only tests need.
# `deploy/lock.sh images` writes these two alone, from the locks that are there.
# Needs PyTorch's CPU wheels: from their index, or from a folder named by UV_FIND_LINKS.
set -eu
cd "$(dirname "$0")/.."
uv=.venv/uv/bin/uv
pinned=$(sed -n "s/.* \(uv==[0-9.]*\).*/\1/p" deploy/setup.sh | head -n 1)
[ -x "$uv" ] || .venv/bin/python -m pip install --quiet --target .venv/uv "$pinned"

compile() {
    "$uv" pip compile pyproject.toml --quiet \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
}

lock() {
    extra=$1
    shift
    compile --extra "$extra" --group dev --output-file "deploy/requirements-$extra.lock" "$@"
}

# Not the extras `images` and `video`, which are GPL.
image_lock() {
    extra=$1
    shift
    compile --extra "$extra" --extra azure --extra gguf --no-annotate \
        --constraint "deploy/requirements-$extra.lock" --output-file "deploy/docker/$extra.lock" "$@"
}

kinds="lock image_lock"
if [ "${1:-}" = images ]; then
    shift
    kinds=image_lock
fi
# A folder with CPU wheels would give the GPU its torch.
for kind in $kinds; do (unset UV_FIND_LINKS && "$kind" gpu "$@"); done
[ -n "${UV_FIND_LINKS:-}" ] || set -- --index https://download.pytorch.org/whl/cpu "$@"
set -- --index-strategy unsafe-best-match --override deploy/lock-overrides.txt "$@"
for kind in $kinds; do "$kind" cpu "$@"; done
