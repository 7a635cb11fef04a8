#!/usr/bin/env bash
# `make bench`: builds for release (NAVE_BENCH_PROFILE=dev takes what the tests use) and measures; the table goes to
# stdout, what is going on to stderr. Arguments name the parts: pull idle told assigned labels hub (none = all).
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${NAVE_BENCH_PROFILE:-release}
folder=$profile
[ "$profile" != dev ] || folder=debug
host=$(rustc -vV | sed -n 's/^host: //p')
nice -n 10 cargo build --quiet --profile "$profile" --workspace --bins
exec "target/$host/$folder/nave-bench" --profile "$profile" "$@"
