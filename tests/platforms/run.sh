#!/usr/bin/env bash
# Builds mcp-remote for the systems that this machine is not, and runs what can be run of that here.
#
#   tests/platforms/run.sh [OPTIONS]
#
#   --cache FOLDER          where compilers and wine are kept ($XDG_CACHE_HOME/mcp-remote-platforms)
#   --rustc rustup|debian   where std for other targets comes from: rustup, or Debian's source and build-std. Without
#                           this flag, rustup if it can add a target
#   --only WORD             only the rows whose name has this word; repeatable
#   --jobs N                jobs of cargo (2)
#
# Each check is a row of the table at the end: name, result, seconds, what was found. Exit code 1 if a row failed.
#
# It needs a Debian on x86_64 with Rust, gcc, bash, unshare (as root, or with user namespaces), Python with pip, and Node
# with npm. It obtains the rest by itself and installs nothing on the system (obtain.sh): with an empty cache 0.7 GB of
# packages, 4 GB on the disk. Then all traffic stays on 127.0.0.1. With a warm cache the whole run takes about half an
# hour on two cores, which is why .ci/run has no such step.
#
# What is used, and the reasons that do not show:
#
# - Windows is x86_64-pc-windows-gnu, linked by mingw's gcc of the system's own suite, and run by wine 10 of a newer suite.
#   Older ones have no bcryptprimitives.dll, without which no program in Rust starts. Wine needs zlib1.dll before its first
#   start. wine.sh says how it is entered.
# - Apple's targets are only type-checked: linking needs Apple's frameworks. zig compiles the C code of ring for them.
# - The Linux programs are static (musl), with zig as compiler, C library and linker. One starts in a root that holds only
#   itself, as in a container from scratch, the one for aarch64 under qemu-user.
# - Without rustup, std is built from Debian's rust-src by Debian's rustc of the same version, which is newer than that of
#   the system and may not run on its C library. It runs on the C library that was unpacked beside it (rustc.c).
#   Such programs are for these checks only.
#
# What wine does not show: permissions (ACLs) of real users, Defender and SmartScreen, the certificate store (a TLS
# handshake fails in it, so the tests with TLS are ignored on Windows), the system's proxy settings, console windows that
# flash, control events of a console, sleep, the package folders of Claude Desktop, and programs built with MSVC.

set -uo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
repository=$(cd -- "$here/../.." && pwd -P)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mcp-remote-platforms
std=
only=()
jobs=2
while [ "$#" -gt 0 ]; do
  case $1 in
    --cache) cache=$2 ;;
    --rustc) std=$2 ;;
    --only) only+=("$2") ;;
    --jobs) jobs=$2 ;;
    *)
      sed -n '2,/^#$/p; 4,12s/^# \{0,1\}//p' "$0" | head -n 12 >&2
      exit 2
      ;;
  esac
  shift 2 || exit 2
done
mkdir -p "$cache/bin"
cache=$(cd -- "$cache" && pwd -P)
export PLATFORMS_CACHE=$cache
# shellcheck source=tests/platforms/obtain.sh
. "$here/obtain.sh"
cd -- "$repository" || exit 2

work=$(mktemp -d "${TMPDIR:-/tmp}/mcp-remote-platforms.XXXXXX")
server=
clean_up() {
  [ -z "$server" ] || kill "$server" 2>/dev/null
  [ ! -e "$cache/wine.ready" ] || "$here/wine.sh" wineserver -k >/dev/null 2>&1
  rm -rf -- "$work"
}
trap clean_up EXIT

windows=x86_64-pc-windows-gnu
musl=x86_64-unknown-linux-musl
arm=aarch64-unknown-linux-musl
apple=(aarch64-apple-darwin x86_64-apple-darwin)

# --- the table --------------------------------------------------------------

rows=()
failed=0

# row NAME COMMAND...: runs a check. The last line that it prints to $found is shown in the table.
row() {
  local name=$1 began=$SECONDS result=ok word wanted=${#only[@]}
  shift
  for word in "${only[@]}"; do
    [[ $name != *"$word"* ]] || wanted=0
  done
  [ "$wanted" -eq 0 ] || return 0
  printf '\n=== %s\n' "$name"
  found=$work/found
  : >"$found"
  if ! "$@" </dev/null; then
    result=FAIL
    failed=1
  fi
  rows+=("$(printf '%-46s %-5s %5d s  %s' "$name" "$result" $((SECONDS - began)) "$(tail -n 1 "$found")")")
  printf '%s\n' "${rows[-1]}"
}

say() {
  tee -a "$found" <<<"$*"
}

size() {
  local bytes packed
  bytes=$(stat -c %s -- "$1")
  packed=$(gzip -9 -c -- "$1" | wc -c)
  say "$bytes bytes, $packed with gzip"
}

# --- compilers --------------------------------------------------------------

obtain_std() {
  local targets=("$windows" "$musl" "$arm" "${apple[@]}")
  if [ -z "$std" ]; then
    if command -v rustup >/dev/null && timeout 300 rustup target add "${targets[@]}"; then
      std=rustup
    else
      std=debian
    fi
  fi
  say "std of $std"
  if [ "$std" = debian ]; then
    unpack forky "$cache/forky" rustc rust-src || return 1
    gcc -O2 -DROOT="\"$cache/forky\"" -o "$cache/bin/rustc" "$here/rustc.c" || return 1
    say "std of $std: $("$cache/bin/rustc" --version)"
  fi
}

obtain_tools() {
  local name native
  read -r _ native < <(debian_mirror)
  unpack_only "$native" "$cache/mingw" gcc-mingw-w64-x86-64-win32 gcc-mingw-w64-base \
    gcc-mingw-w64-x86-64-win32-runtime binutils-mingw-w64-x86-64 mingw-w64-x86-64-dev mingw-w64-common || return 1
  ln -sf x86_64-w64-mingw32-gcc-win32 "$cache/mingw/usr/bin/x86_64-w64-mingw32-gcc"
  obtain_zig && obtain_node && unpack_only trixie "$cache/qemu" qemu-user || return 1
  unpack trixie "$cache/wine" wine64 wine dash coreutils libz-mingw-w64 || return 1
  for name in bin lib lib64 sbin; do
    ln -sfn "usr/$name" "$cache/wine/$name"
  done
  printf '127.0.0.1 localhost\n::1 localhost\n' >"$cache/wine/etc/hosts"
  mkdir -p "$cache"/{home,browser}
  # Wine hands URLs to xdg-open. This one notes what it was given; person.mjs does the rest.
  printf '#!/bin/dash\nprintf "%%s\\t%%s\\n" $# "$1" >"%s"\n' "$cache/browser/notes" >"$cache/browser/xdg-open"
  chmod +x "$cache/browser/xdg-open"
  if [ ! -e "$cache/prefix/ready" ]; then
    mkdir -p "$cache/prefix/drive_c/windows/system32"
    cp -- "$cache/wine/usr/x86_64-w64-mingw32/lib/zlib1.dll" "$cache/prefix/drive_c/windows/system32" || return 1
    timeout 120 "$here/wine.sh" wineboot --init || return 1
    touch "$cache/prefix/ready"
  fi
  say "$(du -sh "$cache" | cut -f 1) in the cache"
}

# cross TARGET COMMAND...: runs cargo with the compilers for a target.
cross() {
  local target=$1 command=$2 cc name build=()
  shift 2
  local variables=(PATH="$cache/mingw/usr/bin:$PATH")
  name=${target//-/_}
  case $target in
    *musl) cc=$(zig_cc "$target" "${target%%-*}-linux-musl") ;;
    *darwin) cc=$(zig_cc "$target" "${target%%-*}-macos") ;;
    *) cc= ;;
  esac
  if [ -n "$cc" ]; then
    printf '#!/bin/sh\nexec %s ar "$@"\n' "$cache/zig/ziglang/zig" >"$cache/bin/zig-ar"
    chmod +x "$cache/bin/zig-ar"
    variables+=("CC_$name=$cc" "AR_$name=$cache/bin/zig-ar" "CARGO_TARGET_${name^^}_LINKER=$cc" SDKROOT="$cache/zig")
  fi
  # zig brings the start files, which Rust would bring too.
  case $target in
    *musl) variables+=("CARGO_TARGET_${name^^}_RUSTFLAGS=-Clink-self-contained=no") ;;
  esac
  if [ "$std" = debian ]; then
    variables+=(RUSTC="$cache/bin/rustc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$repository/target/platforms-debian")
    case " $* " in
      *" --release "*) build=(-Zbuild-std=std,panic_abort) ;;
      *) build=(-Zbuild-std) ;; # tests unwind
    esac
  fi
  env "${variables[@]}" nice -n 5 cargo "$command" --locked --jobs "$jobs" --target "$target" "${build[@]}" "$@"
}

# built TARGET PROFILE NAME: prints where cargo has put a file.
built() {
  local folder=target
  [ "$std" != debian ] || folder=target/platforms-debian
  echo "$repository/$folder/$1/$2/$3"
}

# --- Windows ----------------------------------------------------------------

wine() {
  timeout 120 "$here/wine.sh" "$@"
}

check_quietly() {
  local target=$1
  shift
  cross "$target" check "$@" 2>&1 | tee "$work/check" || return 1
  if grep -q '^warning' "$work/check"; then
    say "$(grep '^warning' "$work/check" | tail -n 1)"
    return 1
  fi
  say "no warning"
}

build_windows() {
  cross $windows build --release --bins || return 1
  size "$(built $windows release mcp-remote.exe)"
}

build_windows_tests() {
  cross $windows test --no-run --lib --test it 2>&1 | tee "$work/built" && cross $windows build --bins --example demo
}

version_on_windows() {
  local said
  said=$(wine "$(built $windows release mcp-remote.exe)" --version | tr -d '\r') && say "$said" && [[ $said == mcp-remote* ]]
}

demo_on_windows() {
  wine "$(built $windows debug examples/demo.exe)" && say "both transports, sign-in, refresh, step-up"
}

login_on_windows() {
  local program person code=0
  program=$(built $windows release mcp-remote.exe)
  rm -rf -- "$cache/prefix/drive_c/users/user/.mcp-auth" "$cache/browser/notes"
  node "$here/person.mjs" "$cache/browser/notes" >"$work/person" 2>&1 &
  person=$!
  wine "$program" login "$url/mcp" || code=1
  wait "$person" || code=1
  cat -- "$work/person"
  find "$cache/prefix/drive_c/users/user/.mcp-auth" -type f
  node "$here/session.mjs" "$here/wine.sh" "$program" "$url/mcp" | tee "$work/second" || code=1
  say "$(tail -n 1 "$work/person"); with the stored token: $(tail -n 1 "$work/second")"
  return "$code"
}

client_on_windows() {
  wine "$(built $windows release mcp-remote-client.exe)" "$url/mcp" >"$work/client"
  local code=$?
  tr -d '\r' <"$work/client"
  say "exit $code, $(grep -c '^ok' "$work/client") steps ok"
  [ "$code" -eq 0 ] && ! grep -q '^FAIL' "$work/client"
}

node_on_windows() {
  # Into a file: this Node cannot write to a pipe that Linux has made.
  wine "$cache/node/package/bin/node.exe" "$here/session.mjs" "$(built $windows release mcp-remote.exe)" "$url/open/mcp" \
    >"$work/node" || return 1
  say "$(tr -d '\r' <"$work/node")"
  grep -q 'exit 0' "$work/node"
}

open_streams() {
  node -e 'fetch(process.argv[1]).then((answer) => answer.json()).then(({ streams }) => console.log(streams))' "$url/state"
}

# The adapter of this row is a program of its own, so that its process is found by its name.
killed_host_on_windows() {
  local program=$work/orphan.exe host tries
  cp -- "$(built $windows release mcp-remote.exe)" "$program"
  KEEP=1 "$here/wine.sh" "$cache/node/package/bin/node.exe" "$here/session.mjs" "$program" "$url/open/mcp" >"$work/host" &
  host=$!
  for ((tries = 0; tries < 300; tries++)); do
    ! grep -q connected "$work/host" || break
    sleep 0.1
  done
  grep -q connected "$work/host" && pgrep -f orphan.exe >/dev/null || return 1
  [ "$(open_streams)" = 1 ] || return 1
  kill -KILL "$host"
  for ((tries = 0; tries < 100; tries++)); do
    if ! pgrep -f 'orphan\.exe' >/dev/null && [ "$(open_streams)" = 0 ]; then
      say "gone, and its stream closed, within $((tries * 100 + 100)) ms"
      return 0
    fi
    sleep 0.1
  done
  return 1
}

# tests_on_windows SOURCE SECONDS ARGUMENTS...: the program of tests that cargo has made of this file
tests_on_windows() {
  local source=$1 limit=$2 program code=0
  shift 2
  [ -e "$work/built" ] || build_windows_tests || return 1
  program=$(sed -n "s|^ *Executable .*$source (\(.*\))\$|\1|p" "$work/built")
  RUST_BACKTRACE=0 timeout "$limit" "$here/wine.sh" "$program" "$@" >"$work/tests" 2>&1 || code=$?
  grep -aE '^test .*FAILED|panicked at|^test result' -A 3 "$work/tests" | tail -n 100
  say "$(grep -a '^test result' "$work/tests" | tr -d '\r' || echo "not finished in $limit s")"
  return "$code"
}

# --- Linux ------------------------------------------------------------------

build_linux() {
  cross "$1" build --release --bin mcp-remote || return 1
  size "$(built "$1" release mcp-remote)"
}

# Enters a root that holds only the program.
empty_root() {
  local root=$work/empty
  mkdir -p "$root/home"
  cp -- "$(built $musl release mcp-remote)" "$root/mcp-remote"
  printf '#!/bin/sh\nexec unshare %s chroot %s /mcp-remote "$@"\n' \
    "$([ "$(id -u)" = 0 ] && echo --mount || echo --map-root-user --mount)" "$root" >"$work/enter"
  chmod +x "$work/enter"
}

session_in_empty_root() {
  empty_root
  say "$(env -i PATH="$PATH" HOME=/home node "$here/session.mjs" "$work/enter" "$url/open/mcp")" || return 1
  grep -q 'exit 0' "$found"
}

https_in_empty_root() {
  empty_root
  # A handshake fails before a certificate is looked at unless the server has one.
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null || return 1
  node -e '
    const { readFileSync } = require("fs");
    const [key, cert] = process.argv.slice(1).map((file) => readFileSync(file));
    const server = require("https").createServer({ key, cert }, (_, response) => response.end());
    server.listen(0, "127.0.0.1", () => console.log(server.address().port));' "$work/key.pem" "$work/cert.pem" \
    >"$work/port" &
  local https=$! code=0
  until [ -s "$work/port" ]; do sleep 0.05; done
  env -i PATH="$PATH" HOME=/home EXPECT_CODE=no_ca_certificates node "$here/session.mjs" "$work/enter" \
    "https://127.0.0.1:$(cat "$work/port")/mcp" --start wait >"$work/said" 2>&1 || code=1
  kill "$https"
  cat -- "$work/said"
  say "$(tail -n 1 "$work/said")"
  return "$code"
}

session_under_qemu() {
  say "$(env -i PATH="$PATH" HOME="$work" node "$here/session.mjs" "$cache/qemu/usr/bin/qemu-aarch64" \
    "$(built $arm release mcp-remote)" "$url/open/mcp")"
  grep -q 'exit 0' "$found"
}

# --- the run ----------------------------------------------------------------

began=$SECONDS
if ! obtain_std_output=$(mktemp -p "$work") || ! { found=$obtain_std_output; obtain_std; }; then
  echo "no std for other targets could be obtained" >&2
  exit 1
fi
rows+=("$(printf '%-46s %-5s %5d s  %s' 'obtain std' ok $((SECONDS - began)) "$(tail -n 1 "$found")")")
all=("${only[@]}")
only=()
row 'obtain compilers, wine, Node, qemu' obtain_tools
only=("${all[@]}")
[ "$failed" -eq 0 ] || exit 1

coproc SERVER { exec node "$here/server.mjs"; }
server=$SERVER_PID
read -r url <&"${SERVER[0]}"

row 'windows: check of everything, no warning' check_quietly $windows --all-targets
row 'windows: release build' build_windows
row 'windows: build of tests and demo' build_windows_tests
row 'wine: --version' version_on_windows
row 'wine: the demo' demo_on_windows
row 'wine: login through a browser, then a session' login_on_windows
row 'wine: mcp-remote-client' client_on_windows
row 'wine: Node for Windows as the host' node_on_windows
row 'wine: killed host' killed_host_on_windows
row 'wine: unit tests' tests_on_windows src/lib.rs 300 --test-threads 4
row 'wine: integration tests' tests_on_windows tests/it/main.rs 1500 --test-threads 4
for target in "${apple[@]}"; do
  row "apple: check of all tests for $target" check_quietly "$target" --tests
done
row 'musl: static release build for x86_64' build_linux $musl
row 'musl: session in an empty root' session_in_empty_root
row 'musl: https without CA certificates' https_in_empty_root
row 'musl: static release build for aarch64' build_linux $arm
row 'qemu: session of the aarch64 program' session_under_qemu

printf '\n%s\n' '--- result'
printf '%s\n' "${rows[@]}"
exit "$failed"
