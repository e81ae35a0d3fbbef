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

if command -v uv >/dev/null; then
  uv venv --quiet --allow-existing --python "$python" "$venv"
  uv pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/dev.txt
  uv pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
else
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --require-hashes -r requirements/dev.txt
  "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
fi

echo "compiling DeepSpeed's CPU communication extension (once, about a minute)"
DS_ACCELERATOR=cpu PATH="$PWD/$venv/bin:$PATH" "$venv/bin/python" -m darkroom_trainer.zero
