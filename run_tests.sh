#!/usr/bin/env bash
# Everything CI checks, on a bare machine: environment, lint, unit tests, every notebook, the paper.
# Arguments go to pytest, e.g. ./run_tests.sh -m "not real" tests/test_stats.py
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/bootstrap.sh"
cd "$ROOT"
bootstrap
install_browser
ruff check paper_src tests scripts notebooks benchmarks
ruff format --check paper_src tests scripts benchmarks
WORKERS=2
export OMP_NUM_THREADS=$((($(nproc) + WORKERS - 1) / WORKERS))  # each worker its share of the cores
exec python -m pytest -n "$WORKERS" --durations 25 "$@"
