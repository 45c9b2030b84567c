#!/usr/bin/env bash
# What a host launches: this process becomes the adapter, with tee.mjs between it and
# the host. So a signal of the host, SIGKILL too, meets the adapter itself.
#
#   tee.sh <node> <port> <adapter> [argument...]

set -euo pipefail

pipes=$(mktemp -d)
mkfifo "$pipes/in" "$pipes/out" "$pipes/err"
"$1" "$(dirname -- "${BASH_SOURCE[0]}")/tee.mjs" "$2" "$pipes" <&0 &
# The proxy variables keep the hosts on loopback. The adapter runs without them.
unset HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy
exec "${@:3}" <"$pipes/in" >"$pipes/out" 2>"$pipes/err"
