#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Bulk echo: 100 MB of random bytes come back with the same SHA-256, for each way a server can be written.
# Spread: replicas overtake each other inside on purpose, and the peer's kernel never sees it.
# PLACEMENTS: single spread
# TIMEOUT: 240
. "$(dirname "$0")/../lib/net.sh"
testbed_up

head -c 100M /dev/urandom >"$LOGS/in"
want=$(sha256sum <"$LOGS/in")
end()
{
	local status=$?
	rm -f "$LOGS/in" "$LOGS/out"
	net_end $status
}
trap end EXIT
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

[ "$TOE_PLACEMENT" = spread ] || exit 0
# What Linux counts when segments, or what it sent, arrive in another order, or twice.  The rate leaves no room for loss.
REORDERING='TcpExtTCPOFOQueue TcpExtTCPSACKReorder TcpExtTCPTSReorder TcpExtTCPRenoReorder TcpExtTCPDSACKRecv
	TcpExtTCPDSACKOfoRecv TcpExtTCPDSACKOldSent TcpExtTCPDSACKOfoSent TcpExtTCPFastRetrans'
# shellcheck disable=SC2086
peer_counters() { in_cli nstat -asz $REORDERING | awk '/^Tcp/ { print $1, $2 }'; }
counter() { "$BIN/toe" stats --json | jq ".counters.$1"; }
start_echo $port et
before=$(peer_counters)
[ "$(wc -l <<<"$before")" -eq 9 ] || fail "nstat lacks counters: $before"
held=$(counter held)
for connection in 1 2 3; do
	cli_spawn "ordered$connection" "$BIN/tests/progs/tcp_client" --host "$SRV" --port $port --bytes 12M --rate 4M \
		--timeout 30
	eval "ordered$connection=$SPAWNED"
done
# shellcheck disable=SC2154 # by eval
for client in "$ordered1" "$ordered2" "$ordered3"; do
	wait "$client" || fail "ordered transfer: $(tail -qn 1 "$LOGS"/ordered*.log)"
done
after=$(peer_counters)
held=$(($(counter held) - held))
say "held back inside: $held"
[ $held -gt 100 ] || fail "the replicas hardly overtook each other ($held times): nothing was tested"
[ "$after" = "$before" ] || fail "the peer saw reordering: $(diff <(echo "$before") <(echo "$after") | tr '\n' ' ')"
