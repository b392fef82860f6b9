#!/usr/bin/env bash
# Fuzzes each target for FUZZ_SECONDS (default 20), beginning with the seeds in fuzz/corpus.
#
# Stops at the first input that breaks a promise, and saves it in fuzz/artifacts. Interesting inputs go to a
# corpus under fuzz/target, from which the next run begins, too. The seeds stay as they are.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds="${FUZZ_SECONDS:-20}"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(client_ip resource attribute)

# cargo-fuzz wants a nightly compiler for its sanitizers, which find the faults of unsafe code. There is none
# here, so the stable compiler will do.
export RUSTC_BOOTSTRAP=1
fuzz=(cargo fuzz)
if ! cargo fuzz --version >/dev/null 2>&1; then
  cargo install cargo-fuzz --locked --root target/tools
  PATH="$PWD/target/tools/bin:$PATH"
fi

for target in "${targets[@]}"; do
  printf '\n==> %s, %s s\n' "$target" "$seconds"
  found="target/corpus/$target"
  mkdir -p "$found"
  "${fuzz[@]}" run --sanitizer none "$target" "$found" "corpus/$target" -- \
    -max_total_time="$seconds" -max_len=2048 -timeout=10 -rss_limit_mb=1024 \
    -dict="dictionaries/$target.dict" -print_final_stats=1 -verbosity=0
done
