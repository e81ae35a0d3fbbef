#!/usr/bin/env bash
# Renews requirements/*.txt from pyproject.toml. dev.txt (everything) is solved first and constrains the others,
# so that a package has one version in all of them. Run by `make requirements`; needs uv.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
  local name=$1
  shift
  uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header --no-annotate --output-file "requirements/$name.txt" "$@"
}

compile dev --all-extras
compile base --constraint requirements/dev.txt
compile operator --extra operator --constraint requirements/dev.txt
compile trainer --extra trainer --constraint requirements/dev.txt
compile adamw8bit --extra adamw8bit --constraint requirements/dev.txt
compile serving --extra serving --constraint requirements/dev.txt

# What diffusers' DreamBooth script needs beside our dependencies: see benchmarks/README.md.
echo "torchvision==0.29.2" | uv pip compile - --quiet --universal --python-version 3.11 --no-deps \
  --generate-hashes --no-emit-index-url --no-header --no-annotate --output-file requirements/bench.txt
