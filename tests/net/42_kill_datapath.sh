#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The datapath is killed: programs get ECONNRESET at once, in blocking calls too, `toe up` starts again, and
# then everything works.
# PLACEMENTS: single
. "$(dirname "$0")/../lib/net.sh"
testbed_up
start_echo 7000 thread

# a client under the engine, outbound, blocked in poll, and a server thread blocked in recv
cli_spawn kernel-echo "$BIN/tests/progs/echo_server" --port 7100
wait_for 5 "kernel echo server" grep -q ready "$LOGS/kernel-echo.log"
app active "$BIN/tests/progs/tcp_client" --host "$CLI" --port 7100 --bytes 100M --rate 1M --expect reset \
	--timeout 60
active=$SPAWNED
wait_for 10 "outbound connection" grep -q connected "$LOGS/active.log"
cli_spawn passive "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 100M --rate 1M --timeout 60
wait_for 10 "inbound connection" grep -q connected "$LOGS/passive.log"

old=$(pid_of toe-datapath) || fail "no datapath"
kill -9 "$old"
wait_for 3 "ECONNRESET in the client" gone "$active"
wait "$active" || fail "client: $(tail -1 "$LOGS/active.log")"
end_process "$ECHO_PID"
grep -q '"closed":1,"resets":1' "$LOGS/echo.7000.log" || fail "server: $(tail -1 "$LOGS/echo.7000.log")"

in_srv "$BIN/toe" up --config "$ENGINE_CONFIG" >"$LOGS/up.log" 2>&1 || fail "toe up: $(tail -1 "$LOGS/up.log")"
wait_for 10 "datapath" pid_of toe-datapath
start_echo 7001 lt
in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7001 --bytes 10M --timeout 30 || fail "after toe up"
in_cli ping -q -c 5 -i 0.05 -W 2 "$SRV" >/dev/null || fail "ping after toe up"
