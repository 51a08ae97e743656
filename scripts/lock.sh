#!/usr/bin/env bash
# Write requirements.lock and environment.yml from a fresh resolution of pyproject.toml.
# Run it when a dependency changes; commit both files.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.13.0"
"$folder/venv/bin/pip" install --quiet setuptools wheel "$PWD[test]"
"$folder/venv/bin/pip" freeze --all --exclude prefvec --exclude torch --exclude pip >"$folder/freeze"
python3 scripts/write_lock.py "$folder/freeze"
