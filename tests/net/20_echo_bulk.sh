#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Bulk echo: 100 MB of random bytes come back with the same SHA-256, for each way a server can be written.
# PLACEMENTS: single spread
# TIMEOUT: 240
. "$(dirname "$0")/../lib/net.sh"
testbed_up

head -c 100M /dev/urandom >"$LOGS/in"
want=$(sha256sum <"$LOGS/in")
trap 'rm -f "$LOGS/in" "$LOGS/out"; net_end' EXIT
port=7000
for mode in lt et thread; do
	start_echo $port $mode
	cli_spawn "client.$mode" "$BIN/tests/progs/tcp_client" --host "$SRV" --port $port --file "$LOGS/in" \
		--out "$LOGS/out" --timeout 70
	client=$SPAWNED
	wait_for 5 "connection" grep -q connected "$LOGS/client.$mode.log"
	not_in_kernel $port || fail "the kernel has the connection"
	wait "$client" || fail "$mode: $(tail -1 "$LOGS/client.$mode.log")"
	[ "$(sha256sum <"$LOGS/out")" = "$want" ] || fail "$mode: other bytes came back"
	tail -1 "$LOGS/client.$mode.log"
	end_process "$ECHO_PID"
	grep -q '"closed":1,"resets":0' "$LOGS/echo.$port.log" || fail "$mode: $(tail -1 "$LOGS/echo.$port.log")"
	port=$((port + 1))
done
