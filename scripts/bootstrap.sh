# Shared by run_all.sh and run_tests.sh: preflight, virtual environment, LaTeX. Sourced, not run.
# Everything is idempotent: with the environment in place it takes about a second.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${PREFVEC_VENV:-$ROOT/.venv}
TORCH="torch==2.13.0"
LATEX_PACKAGES="latexmk texlive-latex-recommended texlive-latex-extra texlive-fonts-recommended \
texlive-science texlive-bibtex-extra texlive-luatex lmodern fonts-dejavu-core fonts-droid-fallback poppler-utils"
BROWSER_PACKAGES="chromium"  # the dashboard's tests alone

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }

find_python() {
  local name
  for name in ${PYTHON:-} python3.11 python3.12 python3; do
    if "$name" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
      command -v "$name"; return
    fi
  done
  fail "Python 3.11 or 3.12 with venv is needed (Debian: apt-get install python3.11-venv); or set PYTHON=/path/to/python"
}

free_mib() { # free space of the folder that will hold $1
  local folder=$1
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  df -Pm "$folder" | awk 'NR==2 {print $4}'
}

environment_stamp() {
  { cat "$ROOT/requirements.lock" "$ROOT/pyproject.toml"; echo "$ROOT $(torch_kind)"; } | cksum | cut -d' ' -f1
}

torch_kind() { if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then echo cuda; else echo cpu; fi; }

environment_ready() { [ -x "$VENV/bin/python" ] && [ "$(cat "$VENV/.stamp" 2>/dev/null)" = "$(environment_stamp)" ]; }

latex_ready() { command -v latexmk >/dev/null && kpsewhich siunitx.sty booktabs.sty fontspec.sty luaotfload.sty natbib.sty microtype.sty adjustbox.sty 2>/dev/null | awk 'END {exit NR != 7}'; }

as_root() { # how to become root without a question: nothing, sudo, or not at all
  if [ "$(id -u)" = 0 ]; then echo env; elif sudo -n true 2>/dev/null; then echo "sudo -n env"; else return 1; fi
}

preflight() { # names what is missing before anything long starts
  PYTHON_FOUND=$(find_python) || exit 2
  local cache=${PREFVEC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prefvec} memory
  if [ -r /proc/meminfo ]; then
    memory=$(awk '/MemTotal/ {print int($2/1024)}' /proc/meminfo)
    [ "$memory" -ge 5500 ] || fail "memory: ${memory} MiB found, 6 GiB are needed"
  fi
  if ! environment_ready; then
    [ "$(free_mib "$VENV")" -ge 4000 ] || fail "disk: 4 GiB are needed for $VENV, $(free_mib "$VENV") MiB are free"
    "$PYTHON_FOUND" - <<'PY' || fail "network: the package index does not answer and $VENV is not set up; connect once, or configure pip (PIP_INDEX_URL, PIP_PROXY)"
import subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--retries", "1",
                           "--timeout", "15", "--disable-pip-version-check", "-d", folder,
                           "--only-binary", ":all:", "filelock"], capture_output=True)
sys.exit(done.returncode)
PY
  fi
  if [ ! -d "$cache/models" ]; then
    [ "$(free_mib "$cache")" -ge 6000 ] || fail "disk: 6 GiB are needed for models in $cache, $(free_mib "$cache") MiB are free; set PREFVEC_CACHE to another folder"
  fi
  if [ "${WANT_LATEX:-1}" = 1 ] && ! latex_ready && ! as_root >/dev/null; then
    fail "LaTeX is missing; install it with: sudo apt-get install --no-install-recommends $LATEX_PACKAGES   (or run with --no-pdf)"
  fi
}

install_latex() {
  local root; root=$(as_root) || return 0
  $root DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
    $root DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $LATEX_PACKAGES
}

install_browser() { # without one, the tests that need it are skipped and say so
  if command -v chromium >/dev/null || command -v chromium-browser >/dev/null; then return 0; fi
  local root log="$ROOT/.prefvec/browser.log"; root=$(as_root) || return 0
  command -v apt-get >/dev/null || return 0
  say "browser: installing Debian's Chromium for the tests (once; log in .prefvec/browser.log)"
  { $root DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
      $root DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $BROWSER_PACKAGES
  } >"$log" 2>&1 || say "the browser could not be installed (see $log): its tests are skipped"
}

install_environment() {
  say "environment: $VENV ($(torch_kind) build of torch; once, about 3 minutes)"
  [ -x "$VENV/bin/python" ] || "$PYTHON_FOUND" -m venv "$VENV"
  local pip=("$VENV/bin/python" -m pip install -qq --disable-pip-version-check)
  if [ "$(torch_kind)" = cuda ]; then
    "${pip[@]}" "$TORCH"
  else
    # PyTorch's own index has CPU-only wheels; use it where it answers, else whatever pip is set up with.
    "${pip[@]}" $(cpu_index) "$TORCH"
  fi
  "${pip[@]}" --no-deps -r "$ROOT/requirements.lock"
  "${pip[@]}" --no-deps --no-build-isolation --editable "$ROOT"
  environment_stamp >"$VENV/.stamp"
}

cpu_index() {
  local url=https://download.pytorch.org/whl/cpu
  "$PYTHON_FOUND" -c "import urllib.request as u; u.urlopen('$url/torch/', timeout=5)" 2>/dev/null && echo "--extra-index-url $url" || true
}

bootstrap() {
  preflight
  local latex_job="" latex_log="$ROOT/.prefvec/latex.log"
  mkdir -p "$ROOT/.prefvec"
  if [ "${WANT_LATEX:-1}" = 1 ] && ! latex_ready; then
    say "LaTeX: installing Debian's packages (once, about a minute; log in .prefvec/latex.log)"
    install_latex >"$latex_log" 2>&1 & latex_job=$!
  fi
  environment_ready || install_environment
  if [ -n "$latex_job" ]; then
    wait "$latex_job" || { tail -n 5 "$latex_log" >&2; fail "LaTeX could not be installed (see $latex_log)"; }
    latex_ready || fail "LaTeX is still incomplete; install: apt-get install --no-install-recommends $LATEX_PACKAGES"
  fi
  export PATH="$VENV/bin:$PATH" VIRTUAL_ENV="$VENV" TOKENIZERS_PARALLELISM=false PYTHONUTF8=1
  unset PYTHONHOME
}
