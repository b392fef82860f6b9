#!/usr/bin/env bash
# Installs what the tests need, and runs all of them.
#
# Needs Rust with a C compiler (for ring) and, unless Redis is there already, a package manager.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_redis() {
  echo "redis-server or redis-cli is missing: installing them"
  if command -v apt-get >/dev/null; then
    as_root apt-get update -qq
    # The tests start servers of their own; the distribution's is not wanted.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends redis-server redis-tools
  elif command -v dnf >/dev/null; then as_root dnf install -y redis
  elif command -v apk >/dev/null; then as_root apk add redis
  elif command -v pacman >/dev/null; then as_root pacman -S --noconfirm redis
  elif command -v brew >/dev/null; then brew install redis
  else
    echo "no package manager is known here: install redis-server and redis-cli (6.2 or later) yourself" >&2
    exit 1
  fi
}

# A sentinel is redis-server, too.
{ command -v redis-server && command -v redis-cli; } >/dev/null || install_redis
redis-server --version

# The attribute's and the stores' own tests, the real servers, the compiler's messages, the examples.
cargo test --workspace --all-features --locked
# What a program with fewer features sees.
cargo test -p axum-rate-limit --no-default-features --lib --locked

# Threads that share the memory store, in every order in which they can meet: about 20 seconds. Built apart, since
# the flag is one for all crates.
echo "every interleaving of threads in the memory store, by loom:"
RUSTFLAGS="${RUSTFLAGS:-} --cfg interleavings" CARGO_TARGET_DIR=target/interleavings \
  cargo test -p axum-rate-limit --no-default-features --features test-util --lib --locked \
  -- interleavings --nocapture --test-threads 2
