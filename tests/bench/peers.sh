#!/usr/bin/env bash
# Installs the packages that peers.txt lists into a folder, where they are missing, and prints one line
# for each: NAME=COMMAND, as the benchmark's option --peer takes it. The Rust peer takes some minutes.
# A package that cannot be installed is reported on stderr and left out.
#
#   peers.sh FOLDER

set -euo pipefail

if [ "$#" -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
mkdir -p -- "$1"
folder=$(cd -- "$1" && pwd)
if [[ $folder = *[[:space:]]* ]]; then
  echo "the benchmark splits commands at spaces, so the folder must not have any: $folder" >&2
  exit 2
fi
again=$here/../real/again

# install REGISTRY PACKAGE VERSION FOLDER
install() {
  case $1 in
    npm) (cd -- "$4" && echo '{ "private": true }' >package.json &&
      "$again" npm install --no-audit --no-fund --loglevel=error "$2@$3") ;;
    pip) python3 -m venv "$4" && "$again" "$4/bin/pip" install --quiet --disable-pip-version-check "$2==$3" ;;
    cargo) nice "$again" cargo install --quiet --locked --root "$4" "$2@$3" ;;
    *) echo "unknown registry: $1" && return 1 ;;
  esac
}

trim() {
  sed -E 's/^ +| +$//g' <<<"$1"
}

while IFS='|' read -r name registry package version command <&3; do
  [[ $name = \#* ]] && continue
  name=$(trim "$name") registry=$(trim "$registry") package=$(trim "$package") version=$(trim "$version")
  dir=$folder/$package-$version
  if [ ! -e "$dir/.installed" ]; then
    echo "# installing $package $version" >&2
    mkdir -p -- "$dir"
    if ! install "$registry" "$package" "$version" "$dir" >&2; then
      echo "# $name is left out, because it could not be installed" >&2
      continue
    fi
    touch -- "$dir/.installed"
  fi
  command=$(trim "$command")
  echo "$name=${command//'{dir}'/$dir}"
done 3<"$here/peers.txt"
