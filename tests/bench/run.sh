#!/usr/bin/env bash
# `make bench`: builds for release (NAVE_BENCH_PROFILE=dev takes what the tests use) and measures; the table goes to
# stdout, what is going on to stderr. Arguments name the parts: planner pull large small delta idle told assigned labels hub
# (none = all).
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${NAVE_BENCH_PROFILE:-release}
folder=$profile
[ "$profile" != dev ] || folder=debug
host=$(rustc -vV | sed -n 's/^host: //p')
parts=()
planner=$([ $# = 0 ] && echo yes || echo no)
for part in "$@"; do
  if [ "$part" = planner ]; then planner=yes; else parts+=("$part"); fi
done
if [ "$planner" = yes ]; then
  nice -n 10 cargo bench --quiet --workspace --bench planner --no-run
  cargo bench --quiet --workspace --bench planner
  [ $# = 0 ] || [ ${#parts[@]} -gt 0 ] || exit 0
fi
nice -n 10 cargo build --quiet --profile "$profile" --workspace --bins
exec "target/$host/$folder/nave-bench" --profile "$profile" "${parts[@]}"
