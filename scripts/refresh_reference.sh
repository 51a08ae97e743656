#!/usr/bin/env bash
# Keep the numbers and answers of a smoke run as what other machines' runs are held against
# (tests/test_notebooks.py): scripts/refresh_reference.sh [data/results/smoke]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
run=${1:-data/results/smoke} kept=tests/smoke_reference
[ -f "$run/manifest_09.json" ] || { echo "error: $run: no finished run: ./run_all.sh --profile smoke" >&2; exit 2; }
rm -rf "$kept"
mkdir -p "$kept"
(cd "$run" && find . -name 'numbers_*.json' -o -name 'generations_*.jsonl' -o -name manifest_09.json -o -name verdicts.json) |
  tar -C "$run" -cf - -T - | tar -C "$kept" -xf -
