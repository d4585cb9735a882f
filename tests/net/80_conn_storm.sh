#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# 1 000 connections per second, 5 000 in all, the first data in the same burst as the handshake's last ACK or in
# the same segment: none lost, and the engine is empty afterwards.
# PLACEMENTS: single spread stage
. "$(dirname "$0")/../lib/net.sh"
write_config 'tcp: { time_wait_ms = 1000; };'
testbed_up
start_echo 7000 et

for size in 64 4000; do
	in_cli "$BIN/tests/progs/conn_storm" --host "$SRV" --port 7000 --rate 1000 --count 5000 --size $size \
		>"$LOGS/storm.json" || fail "size $size: $(cat "$LOGS/storm.json")"
	cat "$LOGS/storm.json"
done
empty() { [ "$("$BIN/toe" conns --json | jq '[.. | objects | select(has("state"))] | length')" = 0 ]; }
wait_for 15 "connections to be recycled" empty
end_process "$ECHO_PID"
grep -q '"closed":10000,"resets":0' "$LOGS/echo.7000.log" || fail "server: $(tail -1 "$LOGS/echo.7000.log")"
