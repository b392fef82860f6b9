#!/usr/bin/env bash
# Installs what the tests need, and runs them all.
#
# Needs Rust with a C compiler (for ring) and, unless Redis 6.2 or later is there already, a package manager.
set -euo pipefail
cd "$(dirname "$0")/.."

source tests/install.sh

# Sentinels are run by redis-server, too.
{ command -v redis-server && command -v redis-cli; } >/dev/null ||
  install redis-server redis-tools -- redis -- redis -- redis -- redis
redis-server --version

# The unit tests of the attribute and the stores, and the tests of real servers, compiler messages and examples.
cargo test --workspace --all-features --locked
# The unit tests without default features.
cargo test -p axum-rate-limit --no-default-features --lib --locked

# Threads that share the memory store, in every interleaving: about 20 seconds. This is built in a directory of
# its own, since the flag applies to all crates.
echo "every interleaving of threads in the memory store, by loom:"
RUSTFLAGS="${RUSTFLAGS:-} --cfg interleavings" CARGO_TARGET_DIR=target/interleavings \
  cargo test -p axum-rate-limit --no-default-features --features test-util --lib --locked \
  -- interleavings --nocapture --test-threads 2
