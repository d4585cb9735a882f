#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `make check`: dependencies, build, unit tests, lint; no root.  Goes on after a failure so that one run
# shows everything.  Last line "N passed, N failed", also in $B/check.result.  Seconds, except for what
# clang-tidy has not seen yet (mk/lint-tidy.sh): minutes on a fresh clone.
set -u
: "${B:=build}" "${MAKE:=make}"
cd "$(dirname "$0")/.." || exit 1
. mk/result.sh
. mk/jobs.sh

mk/deps.sh || exit 1
mkdir -p "$B"
echo "== build"
if "$MAKE" --no-print-directory -s -k "${JOBS[@]}" all; then
	result_add 1 0 0
else
	echo "  build FAILED"
	result_add 0 1 0
fi
echo "== unit tests"
"$MAKE" --no-print-directory unit || true
result_add_file "$B/unit.result"
echo "== lint"
"$MAKE" --no-print-directory lint || true
result_add_file "$B/lint.result"
result_end "$B/check.result"
