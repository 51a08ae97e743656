#!/usr/bin/env bash
# Measure prefvec against its peers; arguments go to run.py (--only WORKS, --repeat N, --output FILE).
set -euo pipefail
WANT_LATEX=0
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/bootstrap.sh"
cd "$ROOT"
bootstrap
exec python benchmarks/run.py "$@"
