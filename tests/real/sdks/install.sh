#!/usr/bin/env bash
# Installs the client libraries, pinned: the npm packages below node_modules/, and
# a Python environment below venvs/ for each file in requirements/. What is
# installed already stays.

set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

stamp=node_modules/.installed
if [ ! -e "$stamp" ] || [ package-lock.json -nt "$stamp" ]; then
  echo "# npm ci (client libraries)"
  ../again npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
  touch "$stamp"
fi

for requirements in requirements/*.txt; do
  venv=venvs/$(basename "$requirements" .txt)
  if [ ! -e "$venv/.installed" ] || [ "$requirements" -nt "$venv/.installed" ]; then
    echo "# pip install -r $requirements"
    rm -rf -- "$venv"
    python3 -m venv "$venv"
    ../again "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    touch "$venv/.installed"
  fi
done
