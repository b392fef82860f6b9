#!/usr/bin/env bash
# Installs what the tests need, and runs them all.
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
    # The tests start their own servers. RUNLEVEL keeps the distribution's from being started.
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

# Sentinels are run by redis-server, too.
{ command -v redis-server && command -v redis-cli; } >/dev/null || install_redis
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
