#!/usr/bin/env bash
# `make fuzz`: libFuzzer on every target for some time each (SECONDS_EACH, 600 unless it is set), beginning with the seeds and with
# what earlier runs found. Arguments name the targets (none = all). A crash ends it with the file that causes it.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${SECONDS_EACH:-600}
corpus=${NAVE_CACHE:-$HOME/.cache/nave}/fuzz
mapfile -t targets < <(cargo run --quiet -p nave-fuzz --bin seeds -- "$corpus/seeds")
[ $# -eq 0 ] || targets=("$@")
# Everything is built once more, for coverage, in a folder of its own. RUSTC_BOOTSTRAP lets the pinned compiler do it; memory
# needs no watching where nothing is unsafe.
export RUSTC_BOOTSTRAP=1
for target in "${targets[@]}"; do
  mkdir -p "$corpus/found/$target"
  echo "fuzz: $target for $seconds s" >&2
  "$NAVE_TOOL_CARGO_FUZZ" fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none "$target" \
    "$corpus/found/$target" "$corpus/seeds/$target" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
done
