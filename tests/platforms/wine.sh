#!/usr/bin/env bash
# Runs a Windows program under the wine that obtain.sh has unpacked: wine.sh PROGRAM ARGUMENTS...
#
# PLATFORMS_CACHE names the cache folder. Wine comes from another Debian suite than the system, so it runs in a root of its
# own: a mount namespace in which this process enters the unpacked packages. It sees the system's /tmp, /proc and /dev, and
# the folders of the cache and of this repository under their own names. Windows knows all of them as drive Z:.

set -euo pipefail
: "${PLATFORMS_CACHE:?names the cache folder}"
repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
export root=$PLATFORMS_CACHE/wine repository

namespaces=(--mount)
if [ "$(id -u)" != 0 ]; then
  namespaces+=(--user --map-root-user)
fi
# shellcheck disable=SC2016 # the inner shell expands it
exec unshare "${namespaces[@]}" bash -c '
  set -e
  for folder in /dev /proc /tmp "$PLATFORMS_CACHE" "$repository"; do
    mkdir -p "$root$folder"
    mount --rbind "$folder" "$root$folder"
  done
  # Settings of the user that a program would heed.
  unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY BROWSER NODE_EXTRA_CA_CERTS NODE_OPTIONS \
    SSL_CERT_FILE SSL_CERT_DIR MCP_REMOTE_CONFIG_DIR RUST_LOG
  exec chroot "$root" /usr/bin/env -C "$PWD" \
    PATH="$PLATFORMS_CACHE/browser:/usr/bin" HOME="$PLATFORMS_CACHE/home" USER=user LOGNAME=user LANG=C.UTF-8 \
    WINEPREFIX="$PLATFORMS_CACHE/prefix" WINEDEBUG="${WINEDEBUG:--all}" WINEDLLOVERRIDES="mscoree=;mshtml=" \
    /usr/lib/wine/wine64 "$@"' wine "$@"
