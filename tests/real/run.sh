#!/usr/bin/env bash
# Drives an mcp-remote binary with the official MCP inspector and the official
# TypeScript SDK client against the official reference server, over both HTTP
# transports, and against a protected server behind a certified authorization
# server, alone and beside npm's mcp-remote; against third-party protected servers; with hosts and
# servers of both protocol eras; and with real hosts and client libraries. See README.md.
#
#   run.sh <path-to-mcp-remote-binary>

set -euo pipefail

if [ "$#" -ne 1 ]; then
  echo "usage: $0 <path-to-mcp-remote-binary>" >&2
  exit 2
fi
adapter=$(realpath -- "$1")
if [ ! -f "$adapter" ] || [ ! -x "$adapter" ]; then
  echo "not an executable file: $adapter" >&2
  exit 2
fi

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cd -- "$here"

call_limit=30     # seconds, one inspector call
session_limit=120 # seconds, one SDK session
group_limit=180   # seconds, all checks of authorization, or all beside npm's
stacks_limit=300  # seconds, all third-party servers
hosts_limit=240   # seconds, the short run of the real hosts
eras_limit=300    # seconds, all pairs of both eras: 106 pairs take 165 s on two cores

# --- packages ---------------------------------------------------------------

# install <folder>
install() {
  local stamp=$1/node_modules/.installed-by-run-sh
  if [ ! -e "$stamp" ] || [ "$1/package-lock.json" -nt "$stamp" ]; then
    echo "# npm ci in $1"
    if ! (cd -- "$1" && "$here/again" npm ci --no-audit --no-fund --loglevel=error >&2); then
      echo "npm ci failed in $1" >&2
      exit 2
    fi
    touch "$stamp"
  fi
}
install .
install hosts

# Some Debian machines have no Python, or one without the module that makes environments.
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  echo "# apt-get install python3-venv"
  { ./again apt-get update && DEBIAN_FRONTEND=noninteractive ./again apt-get install -y --no-install-recommends python3 python3-venv; } >&2
fi

if ! eras/install.sh; then
  echo "the packages of eras/ could not be installed" >&2
  exit 2
fi

if ! sdks/install.sh >&2; then
  echo "the client libraries could not be installed" >&2
  exit 2
fi

node=$here/node_modules/node/bin/node
if ! "$node" --version >/dev/null 2>&1; then
  # The `node` package fetches its binary in an install script; where those are
  # off, a Node of the machine serves as well if it is new enough.
  node=$(command -v node)
fi
echo "# stacks/setup.sh"
if ! stacks/setup.sh; then
  echo "stacks/setup.sh failed" >&2
  exit 2
fi
"$node" -e '
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < 22 || (major === 22 && minor < 19)) {
    console.error(`Node ${process.versions.node} is too old for the inspector, 22.19 is needed`);
    process.exit(2);
  }'

inspector=$here/node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js
everything=$here/node_modules/@modelcontextprotocol/server-everything/dist/index.js

# --- surroundings -----------------------------------------------------------

tmp=$(mktemp -d "${TMPDIR:-/tmp}/mcp-remote-real.XXXXXX")
server_pids=()
stacks_pid=

clean_up() {
  local pid
  for pid in "${server_pids[@]}" $stacks_pid; do
    kill "$pid" 2>/dev/null || true
  done
  for pid in "${server_pids[@]}" $stacks_pid; do
    wait "$pid" 2>/dev/null || true
  done
  rm -rf -- "$tmp"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
unset BROWSER CI
unset NODE_OPTIONS NODE_EXTRA_CA_CERTS DEBUG MCP_DEBUG MCP_CATALOG_PATH MCP_CLIENT_CONFIG_PATH
export HOME=$tmp/home
export MCP_REMOTE_CONFIG_DIR=$tmp/mcp-auth
export MCP_INSPECTOR_SECRET_STORE=memory
export TMPDIR=$tmp
mkdir -p "$HOME" "$MCP_REMOTE_CONFIG_DIR"

# --- the reference servers --------------------------------------------------

free_port() {
  "$node" -e '
    const server = require("net").createServer();
    server.listen(0, "127.0.0.1", () => {
      console.log(server.address().port);
      server.close();
    });'
}

# start_server <streamableHttp|sse> <port>
start_server() {
  env -i PATH="$PATH" HOME="$HOME" PORT="$2" \
    "$node" --import "$here/bind-loopback.mjs" "$everything" "$1" \
    >"$tmp/server-$1.log" 2>&1 </dev/null &
  server_pids+=("$!")
  local pid=$! deadline=$((SECONDS + 30))
  until (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; do
    if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      echo "the reference server ($1) did not come up on port $2:" >&2
      cat "$tmp/server-$1.log" >&2
      exit 2
    fi
    sleep 0.05
  done
}

http_port=$(free_port)
start_server streamableHttp "$http_port"
sse_port=$(free_port)
start_server sse "$sse_port"
http_url=http://127.0.0.1:$http_port/mcp
sse_url=http://127.0.0.1:$sse_port/sse

# --- the inspector's list of servers ----------------------------------------
# Through the adapter: http, sse, sse-only. Straight to the server: direct-*.

ADAPTER=$adapter HTTP_URL=$http_url SSE_URL=$sse_url "$node" -e '
  const { ADAPTER: command, HTTP_URL, SSE_URL, MCP_REMOTE_CONFIG_DIR } = process.env;
  const adapter = (...args) => ({ type: "stdio", command, args, env: { MCP_REMOTE_CONFIG_DIR } });
  console.log(JSON.stringify({ mcpServers: {
    "http": adapter(HTTP_URL),
    "sse": adapter(SSE_URL),
    "sse-only": adapter(SSE_URL, "--transport", "sse-only"),
    "direct-http": { type: "streamable-http", url: HTTP_URL },
    "direct-sse": { type: "sse", url: SSE_URL },
  } }));' >"$tmp/servers.json"

# --- checks -----------------------------------------------------------------

passed=0
failed=0

pass() {
  passed=$((passed + 1))
  printf 'ok %s\n' "$1"
}

# fail <name> <reason> [file...]
fail() {
  failed=$((failed + 1))
  printf 'FAIL %s: %s\n' "$1" "$2"
  local file
  for file in "${@:3}"; do
    if [ -s "$file" ]; then
      tail -c 3000 -- "$file" | sed 's/^/    | /'
      echo
    fi
  done
}

# inspect <server> <answer file> <inspector arguments...>
inspect() {
  timeout -k 5 "$call_limit" "$node" "$inspector" --cli --config "$tmp/servers.json" \
    --server "$1" --format json "${@:3}" >"$2" 2>"$2.err" </dev/null
}

# asked <name> <server> <answer file> <inspector arguments...>: counts a failed call
asked() {
  local rc=0
  inspect "$2" "$3" "${@:4}" || rc=$?
  if [ "$rc" -ne 0 ]; then
    fail "$1" "the inspector ended with $rc$([ "$rc" -eq 124 ] && echo " (over $call_limit s)")" "$3" "$3.err"
    return 1
  fi
}

# holds <name> <answer file> <JS expression over r, the result>
holds() {
  local reason
  if reason=$("$node" -e '
    const r = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")).result;
    if (!(0, eval)(`(r) => (${process.argv[2]})`)(r)) throw new Error(`not so: ${process.argv[2]}`);
    ' "$2" "$3" 2>&1); then
    pass "$1"
  else
    fail "$1" "$(grep -m1 -E "^[A-Za-z]*Error" <<<"$reason" || echo "$reason")" "$2" "$2.err"
  fi
}

# same <name> <answer file> <direct answer file> <JS expression: what to report of r>
same() {
  local said
  if said=$("$node" -e '
    const { isDeepStrictEqual, inspect } = require("util");
    const read = (f) => JSON.parse(require("fs").readFileSync(f, "utf8"));
    const [mine, direct] = process.argv.slice(1, 3).map(read);
    const tell = (0, eval)(`(r) => (${process.argv[3]})`);
    if (!isDeepStrictEqual(mine, direct)) {
      throw new Error(`through the adapter ${inspect(tell(mine.result))}, directly ${inspect(tell(direct.result))}`);
    }
    console.log(tell(mine.result));
    ' "$2" "$3" "$4" 2>&1); then
    pass "$1 ($said)"
  else
    fail "$1" "$(grep -m1 -E "^[A-Za-z]*Error" <<<"$said" || echo "$said")" "$2" "$3"
  fi
}

document=demo://resource/static/document/features.md

# The answers without the adapter, to compare with.
for kind in http sse; do
  for call in initialize tools/list resources/list resources/templates/list prompts/list; do
    asked "direct-$kind: $call" "direct-$kind" "$tmp/direct-$kind.${call//\//-}" --method "$call" || true
  done
  asked "direct-$kind: resources/read" "direct-$kind" "$tmp/direct-$kind.resources-read" \
    --method resources/read --uri "$document" || true
done
if [ "$failed" -ne 0 ]; then
  echo "the inspector cannot talk to the reference server even without the adapter" >&2
  echo "$passed passed, $failed failed"
  exit 1
fi

inspector_checks() {
  local s=$1 direct=$tmp/direct-$2 out=$tmp/$1

  asked "$s: initialize" "$s" "$out.initialize" --method initialize &&
    same "$s: initialize is the same as directly" "$out.initialize" "$direct.initialize" \
      '`${r.serverInfo.name}, protocol ${r.protocolVersion}`'

  # A host that knows the newer, sessionless protocol first asks server/discover. The
  # adapter answers it from the old server's own initialize.
  asked "$s: server/discover" "$s" "$out.auto" --method initialize --protocol-era auto &&
    holds "$s: server/discover is answered for the old server" "$out.auto" \
      'r.protocolVersion === "2026-07-28" && r.serverInfo.name === "mcp-servers/everything" && r.capabilities.tools.listChanged && r.instructions.length > 100'

  asked "$s: tools/list" "$s" "$out.tools" --method tools/list &&
    same "$s: tools/list is the same as directly" "$out.tools" "$direct.tools-list" '`${r.tools.length} tools`'

  asked "$s: tools/call echo" "$s" "$out.echo" --method tools/call --tool-name echo \
    --tool-args-json '{"message":"héllo wörld \"quoted\" \u2028 🦀"}' &&
    holds "$s: tools/call echo" "$out.echo" \
      'r.content.length === 1 && r.content[0].text === "Echo: héllo wörld \"quoted\" \u2028 🦀"'

  asked "$s: tools/call get-sum" "$s" "$out.sum" --method tools/call --tool-name get-sum --tool-arg a=2 b=40.5 &&
    holds "$s: tools/call get-sum" "$out.sum" 'r.content[0].text === "The sum of 2 and 40.5 is 42.5."'

  asked "$s: tools/call get-tiny-image" "$s" "$out.image" --method tools/call --tool-name get-tiny-image &&
    holds "$s: tools/call get-tiny-image" "$out.image" \
      'r.content.some((c) => c.type === "image" && c.mimeType === "image/png" && Buffer.from(c.data, "base64").subarray(1, 4).toString() === "PNG")'

  asked "$s: resources/list" "$s" "$out.resources" --method resources/list &&
    same "$s: resources/list is the same as directly" "$out.resources" "$direct.resources-list" \
      '`${r.resources.length} resources`'

  asked "$s: resources/templates/list" "$s" "$out.templates" --method resources/templates/list &&
    same "$s: resources/templates/list is the same as directly" "$out.templates" "$direct.resources-templates-list" \
      '`${r.resourceTemplates.length} templates`'

  asked "$s: resources/read" "$s" "$out.read" --method resources/read --uri "$document" &&
    same "$s: resources/read is the same as directly" "$out.read" "$direct.resources-read" \
      '`${r.contents[0].text.length} characters`'

  asked "$s: prompts/list" "$s" "$out.prompts" --method prompts/list &&
    same "$s: prompts/list is the same as directly" "$out.prompts" "$direct.prompts-list" '`${r.prompts.length} prompts`'

  asked "$s: prompts/get" "$s" "$out.prompt" --method prompts/get --prompt-name args-prompt \
    --prompt-args city=Oslo state=NO &&
    holds "$s: prompts/get" "$out.prompt" \
      'r.messages.length === 1 && r.messages[0].role === "user" && r.messages[0].content.text === "What'\''s weather in Oslo, NO?"'

  return 0
}

# script_checks <name> <limit in seconds> <script> <arguments...>: a script that
# prints its checks itself
script_checks() {
  local out=$tmp/script-${1//[^a-z-]/-} rc=0
  timeout -k 5 "$2" "$node" "$here/$3" "${@:4}" >"$out" 2>"$out.err" </dev/null || rc=$?
  count_checks "$1" "$out" "$rc"
}

# count_checks <name> <output> <exit code>: shows what a script has printed, and counts it
count_checks() {
  local s=$1 out=$2 rc=$3 ok bad
  cat -- "$out"
  ok=$(grep -c '^ok ' "$out" || true)
  bad=$(grep -c '^FAIL ' "$out" || true)
  passed=$((passed + ok))
  failed=$((failed + bad))
  # A script that ended badly without saying so counts as a failure too.
  if { [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; } || [ $((ok + bad)) -eq 0 ]; then
    fail "$s" "ended with $rc" "$out.err"
  fi
}

# session_checks <name> <url> [adapter flags...]
session_checks() {
  CHECK_LABEL="$1, SDK" script_checks "$1, SDK: the session" "$session_limit" sdk-session.mjs "$adapter" "${@:2}"
}

echo "# inspector"
inspector_checks http http
inspector_checks sse sse
inspector_checks sse-only sse

echo "# SDK client"
session_checks http "$http_url"
session_checks sse "$sse_url"
session_checks sse-only "$sse_url" --transport sse-only

echo "# authorization"
script_checks authorization "$group_limit" authorization.mjs "$adapter"

echo "# first start"
# These checks mostly wait for a person who takes 90 s, so the stacks run meanwhile.
timeout -k 5 "$stacks_limit" "$node" "$here/stacks.mjs" "$adapter" \
  >"$tmp/script-stacks" 2>"$tmp/script-stacks.err" </dev/null &
stacks_pid=$!
script_checks first-start "$group_limit" first-start.mjs "$adapter"

echo "# third-party protected servers"
rc=0
wait "$stacks_pid" || rc=$?
stacks_pid=
count_checks stacks "$tmp/script-stacks" "$rc"
echo "# client libraries as hosts"
script_checks client-libraries "$group_limit" sdks/sdks.mjs "$adapter" --quick

echo "# doubles of hosts"
script_checks doubles-of-hosts "$group_limit" sdks/doubles.mjs "$adapter" --quick

echo "# pages in a browser"
browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
if ! browser >/dev/null; then
  echo "# apt-get install chromium"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
    >"$tmp/apt.log" 2>&1 || true
fi
if browser >/dev/null; then
  script_checks pages "$group_limit" pages.mjs "$adapter" "$(browser)"
else
  fail "pages" "no Chromium, and it could not be installed" "$tmp/apt.log"
fi

echo "# beside npm's mcp-remote"
script_checks beside-npm "$group_limit" beside-npm.mjs "$adapter"

echo "# hosts and servers of both eras"
script_checks eras "$eras_limit" eras/eras.mjs "$adapter"
script_checks carried "$group_limit" eras/carried.mjs "$adapter"
echo "# real hosts"
script_checks hosts "$hosts_limit" hosts/hosts.mjs "$adapter" --quick

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
