# Sourced by the scripts beside it: finds Python, creates .venv and keeps it in step with the locks.
# Call prepare with the lock to install: requirements.lock or requirements-dev.lock.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=.venv
MINIMUM="3.11 to 3.13"

say() { printf '==> %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

find_python() {
  local candidate
  for candidate in python3.13 python3.12 python3.11 python3; do
    # Run, not only looked up: a name may stand in the PATH for a version that is not installed.
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
      >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python $MINIMUM with its venv module is needed; none of python3.13, python3.12, python3.11, python3 is it"
}

# Runs a step quietly and says how long it took; shows what it printed only when it fails.
step() {
  local what=$1 output started=$SECONDS
  shift
  output=$(mktemp)
  printf '==> %s … ' "$what"
  if "$@" >"$output" 2>&1; then
    printf 'done in %d s\n' "$((SECONDS - started))"
    rm -f "$output"
  else
    printf 'failed\n'
    cat "$output" >&2
    rm -f "$output"
    fail "$what failed"
  fi
}

fingerprint() { cksum <"$1" | tr ' ' '-'; }

# Whether .venv works and has what a lock lists.
has() {
  [[ -f $VENV/$1.installed ]] && [[ $(<"$VENV/$1.installed") == "$(fingerprint "$1")" ]] \
    && "$VENV/bin/python" -c 'import segments' 2>/dev/null
}

prepare() {
  local lock=$1 python
  # What the tests need includes what the service needs.
  if has "$lock" || has requirements-dev.lock; then
    say "using $VENV, which is as $lock says"
    return
  fi
  if ! has requirements.lock; then
    python=$(find_python)
    say "setting up with $("$python" --version) at $python"
    rm -rf "$VENV"
    step "making $VENV" "$python" -m venv "$VENV"
  fi
  step "installing what $lock lists, each file checked against its hash" \
    "$VENV/bin/python" -m pip install --require-hashes -r "$lock"
  step "installing the service itself" \
    "$VENV/bin/python" -m pip install --no-deps --no-build-isolation -e .
  fingerprint "$lock" >"$VENV/$lock.installed"
}
