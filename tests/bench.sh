#!/usr/bin/env bash
# Installs what the benchmark needs, builds it, and runs it: `bash tests/bench.sh [arguments]`.
#
#   --rounds N --seconds N --only a,b --quick --write     see the driver's arguments.rs
#
# Needs Rust and, unless redis-server, wrk and python3 with venv are there already, a package manager.
set -euo pipefail
cd "$(dirname "$0")/.."

source tests/install.sh

command -v redis-server >/dev/null || install redis-server -- redis -- redis -- redis -- redis
command -v wrk >/dev/null || install wrk -- wrk -- wrk -- wrk -- wrk

# The FastAPI application runs on this. Without it, everything else is measured, and the report says so.
venv=target/bench/venv
requirements=tests/bench/fastapi/requirements.txt
if ! cmp -s "$requirements" "$venv/installed"; then
  python3 -c 'import ensurepip, venv' 2>/dev/null ||
    install python3 python3-venv -- python3 -- python3 py3-pip -- python -- python || true
  if python3 -m venv --clear "$venv" && "$venv/bin/python" -m pip install --quiet -r "$requirements"; then
    cp "$requirements" "$venv/installed"
  else
    echo "FastAPI can't be installed: it is left out" >&2
    rm -rf "$venv"
  fi
fi

cargo=(cargo build --release --locked --manifest-path tests/bench/Cargo.toml --target-dir target/bench)

# limitador offers its Redis storage only together with its disk storage, RocksDB, which takes very long to
# build. Nothing here calls RocksDB, so linking with empty libraries is enough. Its bindings are still generated,
# which needs libclang, and limitador's Redis client links to OpenSSL.
with_limitador_redis() {
  local stub=$PWD/target/bench/stub
  mkdir -p "$stub"
  ar rcs "$stub/librocksdb.a" && ar rcs "$stub/libsnappy.a" || return
  ROCKSDB_LIB_DIR=$stub ROCKSDB_STATIC=1 SNAPPY_LIB_DIR=$stub SNAPPY_STATIC=1 \
    "${cargo[@]}" --ignore-rust-version --features tower-rate-limiter,limitador-redis
}

# Peers that can't be built here are left out, and named in the report. The Rust version of the manifest is
# ignored for tower-rate-limiter, which asks for a newer Rust than its source needs.
with_limitador_redis ||
  { install libclang-dev libssl-dev pkg-config gcc -- clang-devel openssl-devel pkgconf gcc \
      -- clang-dev openssl-dev pkgconf build-base -- clang openssl pkgconf gcc -- llvm openssl pkgconf &&
    with_limitador_redis; } ||
  "${cargo[@]}" --ignore-rust-version --features tower-rate-limiter ||
  "${cargo[@]}"

exec target/bench/release/driver "$@"
