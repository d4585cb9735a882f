#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `make soak`: the tests that find more the longer they run, with other seeds or more messages than in `make
# test`: wire soak (TOE_SOAK=100 rounds), fuzz targets (FUZZ_SECONDS=600 each), 1 000 connections through each of
# 16 bad networks (27_integrity, root), MQTT order (MESSAGES=1e7 in each
# placement, root).  Durations: docs/TESTING.md.  Last line "N passed, N failed", also in $B/soak.result.
set -u
: "${B:=build}" "${MAKE:=make}" "${TOE_SOAK:=100}" "${MESSAGES:=1e7}"
[ -n "${FUZZ_SECONDS:-}" ] || FUZZ_SECONDS=600
cd "$(dirname "$0")/.." || exit 1
. mk/result.sh
export B TOE_SOAK MESSAGES FUZZ_SECONDS
rm -f "$B/fuzz.result" "$B/net.result"

echo "== wire soak, $TOE_SOAK rounds"
if "$MAKE" --no-print-directory -s "$B/tests/test_wire_soak" && "$B/tests/test_wire_soak" >"$B/soak.log" 2>&1; then
	result_add 1 0 0
else
	echo "  FAILED, $B/soak.log:"
	grep -E 'FAILED|LINE|status' "$B/soak.log" | head -10
	result_add 0 1 0
fi
echo "== fuzz targets, $FUZZ_SECONDS s each"
T='' mk/fuzz.sh || true
result_add_file "$B/fuzz.result"
echo "== integrity, the whole matrix"
INTEGRITY=matrix NET_TIMEOUT=7200 T=27_integrity tests/run-net || true
result_add_file "$B/net.result"
echo "== MQTT order, $MESSAGES messages"
# a tenth of the slowest rate measured
LIMIT=$(awk -v n="$MESSAGES" 'BEGIN { printf "%d", 200 + n / 500 }')
LIMIT=$LIMIT NET_TIMEOUT=$((LIMIT + 60)) T=34_mqtt_order tests/run-net || true
result_add_file "$B/net.result"

echo "== MQTT publishers that come back"
CONNECTIONS=10000 NET_TIMEOUT=1200 T=39_mqtt_again tests/run-net || true
result_add_file "$B/net.result"
result_end "$B/soak.result"
