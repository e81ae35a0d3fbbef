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
only() { awk "/^[^ ]/ { keep = $1 } keep" requirements/dev.txt; }
only '!/^deepspeed==/' > "$parts/wheels.txt"
only '/^deepspeed==/' > "$parts/deepspeed.txt"

# uv unpacks beside each other what pip does one after another. One that is not the user's comes by pip, whose index it
# then takes: it reads none of pip's settings.
uv=$(command -v uv) || uv=$venv/bin/uv
if [ "$uv" -ef "$venv/bin/uv" ] || [ ! -x "$uv" ]; then
  "$python" -m venv "$venv"
  only '/^uv==/' > "$parts/uv.txt"
  "$venv/bin/python" -m pip install --quiet --require-hashes -r "$parts/uv.txt"
  index=${PIP_INDEX_URL:-$("$venv/bin/python" -m pip config get global.index-url 2>/dev/null || true)}
  [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
else
  "$uv" venv --quiet --allow-existing --python "$python" "$venv"
fi
install=("$uv" pip install --quiet --python "$venv/bin/python")
"${install[@]}" --require-hashes -r "$parts/wheels.txt"
echo "compiling DeepSpeed's CPU communication extension (about a minute)"
DS_ACCELERATOR=cpu DS_BUILD_SHM_COMM=1 PATH="$PWD/$venv/bin:$PATH" "${install[@]}" \
  --require-hashes --no-deps --no-build-isolation --no-cache -r "$parts/deepspeed.txt"
"${install[@]}" --no-deps --no-build-isolation -e .
# Now, all of them: pods of the test cluster can't write there, and would compile at each start.
"$venv/bin/python" -m compileall -q -j 0 "$venv/lib" >/dev/null || true # some packages hold templates
