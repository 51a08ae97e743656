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
export OMP_WAIT_POLICY=PASSIVE  # threads of one worker don't spin while the other's compute
exec python -m pytest -n 2 --durations 25 "$@"
