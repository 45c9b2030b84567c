#!/usr/bin/env bash
# Installs the packages of the stacks below this folder: npm packages, and two Python
# environments, because some frameworks need version 1 of the Python SDK. Does
# nothing if they are up to date.

set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

# newer <stamp> <file...>: succeeds if a file is newer than the stamp, or no stamp exists
newer() {
  local stamp=$1 file
  [ -e "$stamp" ] || return 0
  for file in "${@:2}"; do
    [ "$file" -nt "$stamp" ] && return 0
  done
  return 1
}

stamp=node_modules/.installed-by-setup-sh
if newer "$stamp" package-lock.json; then
  ../again npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
  touch "$stamp"
fi

# python_packages <folder> <requirements>
python_packages() {
  newer "$1/.installed-by-setup-sh" "$2" setup.sh || return 0
  python3 -m venv --clear "$1"
  ../again "$1/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$2" >&2
  if [ "$2" = requirements.txt ]; then python_sdk_example "$1"; fi
  touch "$1/.installed-by-setup-sh"
}

# python_sdk_example <folder>: unpacks the SDK's protected server and authorization
# server, which only its source package contains
python_sdk_example() {
  local version
  version=$(sed -n 's/^mcp==//p' requirements.txt)
  mkdir "$1/source" "$1/examples"
  ../again "$1/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary mcp --dest "$1/source" "mcp==$version" >&2
  tar -xzf "$1/source/mcp-$version.tar.gz" -C "$1/examples" --strip-components=4 "mcp-$version/examples/servers/simple-auth/mcp_simple_auth"
}

python_packages .venv requirements.txt
python_packages .venv-mcp1 requirements-mcp1.txt
