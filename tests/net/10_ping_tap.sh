#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The kernel goes on behind the TAP: ping, large ping, TCP to a port nobody offloaded, refused ports.
# PLACEMENTS: single spread
. "$(dirname "$0")/../lib/net.sh"
testbed_up

in_cli ping -q -c 50 -i 0.02 -W 2 "$SRV" >"$LOGS/ping.log" || fail "ping loses"
in_cli ping -q -c 5 -i 0.02 -W 2 -M do -s 1472 "$SRV" >>"$LOGS/ping.log" || fail "full-size ping loses"

srv_spawn kernel-echo "$BIN/tests/progs/echo_server" --port 7001
wait_for 5 "kernel echo server" grep -q ready "$LOGS/kernel-echo.log"
in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7001 --bytes 4M --timeout 30 ||
	fail "TCP of the kernel through the TAP"
not_in_kernel 7001 || fail "connection outlives its program"

begin=$(date +%s%N)
in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7999 --bytes 1 --timeout 5 2>"$LOGS/refused.log" &&
	fail "a port nobody listens on accepts"
grep -q refused "$LOGS/refused.log" || fail "no listener: $(cat "$LOGS/refused.log"), not refused"
[ $((($(date +%s%N) - begin) / 1000000)) -lt 1000 ] || fail "refusal took longer than 1 s"
