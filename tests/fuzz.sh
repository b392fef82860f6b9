#!/usr/bin/env bash
# Fuzzes each target for a while (FUZZ_SECONDS, 20 unless told), from the seeds in fuzz/corpus.
#
# Ends with the first input that breaks a promise, and leaves it in fuzz/artifacts. What is found on the way
# goes to a corpus under fuzz/target, which the next run begins from; the seeds stay as they are.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds="${FUZZ_SECONDS:-20}"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(client_ip resource attribute)

# cargo-fuzz asks for a nightly compiler, whose sanitizers find what unsafe code does: there is none here.
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
