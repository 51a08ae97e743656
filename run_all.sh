#!/usr/bin/env bash
# From a fresh clone to the paper: environment, models, notebooks, figures, PDF.
#   ./run_all.sh --quick      one pair, about 8 minutes after set-up
#   ./run_all.sh              the paper: six pairs of models, four traits (hours on two cores; it resumes)
#   ./run_all.sh --replay     the paper from the committed results, with no model
#   ./run_all.sh --explore    two models side by side in a browser
#   ./run_all.sh --help       everything else
set -euo pipefail
WANT_LATEX=1 SETUP_ONLY=0 COMMAND=run
arguments=()
for argument in "$@"; do
  case $argument in --plan | --replay | --verify | --figures-only | --explore) ;; *) arguments+=("$argument") ;; esac
  case $argument in
    --plan) COMMAND=plan WANT_LATEX=0 ;;
    --replay) COMMAND=replay ;;
    --verify) COMMAND=verify WANT_LATEX=0 ;;
    --figures-only) COMMAND=figures WANT_LATEX=0 ;;
    --explore) COMMAND=explore WANT_LATEX=0 ;;
    --no-pdf | --validate) WANT_LATEX=0 ;;
    --setup-only) SETUP_ONLY=1 ;;
    -h | --help) sed -n '/^usage:/,/^END/p' "$0" | sed '$d'; exit 0 ;;
  esac
done
source "$(dirname "${BASH_SOURCE[0]}")/scripts/bootstrap.sh"
here=$PWD
cd "$ROOT"
bootstrap
cd "$here"  # paths that were given are the caller's
if [ "$SETUP_ONLY" = 1 ]; then
  say "set up: activate with  source $VENV/bin/activate  and start  jupyter lab"
  exit 0
fi
exec python -m prefvec.cli "$COMMAND" ${arguments[@]+"${arguments[@]}"}

: <<'END'
usage: ./run_all.sh [options]

  --quick                  one pair (Qwen2.5 to SmolLM2), one trait
  (default)                profile paper: six pairs of models, four traits
  --full                   7B-class models on a GPU
  --profile NAME           a profile of config/ (smoke, quick, summarise, paper, full) or a .yaml file
  --source-model ID        another source; with --target-models, your own pairs
  --target-models A,B      targets, separated by commas
  --trait NAME             a built-in trait or a trait file
  --num-pairs N            evaluation questions per cell
  --intervention-layer N   source layer (default: chosen on the selection split)
  --dtype NAME             float32, bfloat16 or float16 (default: float32 for paper, else the faster
                           one here)
  --cores N                processor cores for the pipeline (default: all)
  --validate               sources alone: find each vector (notebook 01), does it steer its own
                           model (02)? without a target and without LaTeX
  --no-pdf                 figures, tables and numbers, without LaTeX
  --setup-only             the environment alone, for working in Jupyter
  --dry-run                say what would run, and why
  --plan                   time, memory and disk of the profile here, and of full on GPUs, instead
                           of a run (with --gpus N, --gpu NAME of data/plan.yaml, --json)
  --replay [DIR]           figures, tables, numbers and PDF from saved results, with no model, in
                           minutes (default: data/results/paper)
  --verify [DIR]           run the profile, or the pair and trait given, afresh, and hold every number
                           against the saved one (default: data/results/<profile>); --record NAME puts
                           it into the paper's appendix
  --figures-only DIR       the figures of saved results alone
  --explore                steer two models side by side in a browser, instead of a run (with --port N,
                           --no-browser, -p name=value of notebooks/explore.ipynb); Ctrl-C stops it
  --executor NAME          where jobs run: local (default), slurm, cluster-generic, … (docs/scaling.md)
  --jobs N                 jobs at once on a cluster (default: 10)
  -- OPTIONS               options for Snakemake itself
END
