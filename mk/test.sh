#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `make test`: everything that can run on this machine: `make check`, 60 s of each fuzz target from one seed
# (mk/fuzz.sh), then the network tests as root.
# Last line "N passed, N failed" and, if any, ", N skipped".
set -u
: "${B:=build}" "${MAKE:=make}"
cd "$(dirname "$0")/.." || exit 1
. mk/result.sh

mk/deps.sh || exit 1
rm -f "$B/check.result" "$B/fuzz.result" "$B/net.result"
"$MAKE" --no-print-directory check || true
result_add_file "$B/check.result"
echo "== fuzz targets"
B="$B" T='' FUZZ_SECONDS=60 FUZZ_SEED=1 mk/fuzz.sh || true
result_add_file "$B/fuzz.result"
echo "== network tests"
B="$B" T="${T:-}" tests/run-net || true
result_add_file "$B/net.result"
result_end "$B/test.result"
