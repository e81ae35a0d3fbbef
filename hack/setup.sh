#!/usr/bin/env bash
# Builds the virtual environment: hack/setup.sh VENV. Run by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "darkroom needs Python 3.11 or newer; $python is $("$python" --version). Try: make setup PYTHON=python3.11" >&2
  exit 1
}
command -v g++ >/dev/null || {
  echo "g++ is missing: DeepSpeed compiles its CPU communication extension. Debian: apt-get install g++" >&2
  exit 1
}

# DeepSpeed is built against the torch that it runs with, hence after it, and never from a wheel in a
# cache: with its CPU communication extension in it, nothing is compiled when a training begins.
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
awk '/^[^ ]/ { keep = !/^deepspeed==/ } keep' requirements/dev.txt > "$parts/wheels.txt"
awk '/^[^ ]/ { keep = /^deepspeed==/ } keep' requirements/dev.txt > "$parts/deepspeed.txt"

if command -v uv >/dev/null; then
  uv venv --quiet --allow-existing --python "$python" "$venv"
  install=(uv pip install --quiet --python "$venv/bin/python")
  no_cache=--no-cache
else
  "$python" -m venv "$venv"
  install=("$venv/bin/python" -m pip install --quiet)
  no_cache=--no-cache-dir
fi
"${install[@]}" --require-hashes -r "$parts/wheels.txt"
echo "compiling DeepSpeed's CPU communication extension (about a minute)"
DS_ACCELERATOR=cpu DS_BUILD_SHM_COMM=1 PATH="$PWD/$venv/bin:$PATH" "${install[@]}" \
  --require-hashes --no-deps --no-build-isolation "$no_cache" -r "$parts/deepspeed.txt"
"${install[@]}" --no-deps --no-build-isolation -e .
