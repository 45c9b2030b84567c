#!/usr/bin/env bash
# Installs the pinned npm packages of these checks, and the Python packages into two
# virtual environments, one per era. Does nothing if they are up to date.

set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

stamp=node_modules/.installed-by-install-sh
if [ ! -e "$stamp" ] || [ package-lock.json -nt "$stamp" ]; then
  echo "# npm ci (eras)"
  ../again npm ci --no-audit --no-fund --loglevel=error >&2
  touch "$stamp"
fi

# venv <folder>: on Debian, installs the package python3-venv if needed.
venv() {
  python3 -m venv --clear "$1" && return
  echo "# apt-get install python3-venv"
  ../again apt-get update >&2
  DEBIAN_FRONTEND=noninteractive ../again apt-get install -y --no-install-recommends python3-venv >&2
  python3 -m venv --clear "$1"
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python 3.11 or newer is needed for the Python SDK and FastMCP" >&2
  exit 2
}
for era in legacy dual; do
  stamp=venvs/$era/.installed-by-install-sh
  if [ ! -e "$stamp" ] || [ "requirements-$era.txt" -nt "$stamp" ]; then
    echo "# pip install ($era)"
    venv "venvs/$era" >&2
    ../again "venvs/$era/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "requirements-$era.txt" >&2
    touch "$stamp"
  fi
done
