# Shared by every script here; source it, do not run it.
# Sets ROOT and CACHE, and the variables that make cargo link the cached RocksDB archive.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${MUSTER_CACHE:-$HOME/.cache/muster}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# took START: seconds since START as "3 min 12 s".
took() {
  local s=$(($(date +%s) - $1))
  if [ "$s" -ge 60 ]; then echo "$((s / 60)) min $((s % 60)) s"; else echo "$s s"; fi
}

# The version of a crate in Cargo.lock, e.g. `locked_version librocksdb-sys`.
locked_version() {
  awk -v name="$1" '$1 == "name" && $3 == "\"" name "\"" { getline; gsub(/"/, "", $3); print $3; exit }' "$ROOT/Cargo.lock"
}

# Flags the archive is built with; part of its cache key.
rocksdb_flags() {
  local flags="-O2 -std=c++20"
  case $(uname -m) in
    x86_64) flags="$flags -msse4.2 -mpclmul" ;;       # hardware CRC-32C
    aarch64) flags="$flags -march=armv8-a+crc+crypto" ;;
  esac
  echo "$flags"
}

rocksdb_dir() {
  local key
  key=$(printf '%s\n' "$(locked_version librocksdb-sys)" "$(${CXX:-g++} --version 2>/dev/null | head -n 1)" "$(rocksdb_flags)" | cksum | cut -d' ' -f1)
  echo "$CACHE/rocksdb-$(locked_version librocksdb-sys | tr '+' '-')-$key"
}

# Builds binaries, tests and examples in one invocation, so that each dependency is compiled once.
build_all() {
  say "building the muster binary and all tests in $CARGO_TARGET_DIR (cold: about 8 minutes on two cores)"
  cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" --workspace --bins --tests --examples
}

# Points cargo at the cached archive when there is one; else the crate builds RocksDB itself (slow, but right).
use_rocksdb_archive() {
  local dir
  dir=$(rocksdb_dir)
  if [ -s "$dir/librocksdb.a" ]; then
    export ROCKSDB_LIB_DIR=$dir ROCKSDB_STATIC=1
  fi
}
use_rocksdb_archive
