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
# What Linux counts when segments, or what it sent, arrive in another order, or with older timestamps than the ones
# before (PAWS; it throws these away).  Twice is something else, either way: a probe whose ACK was late.
REORDERING='TcpExtTCPOFOQueue TcpExtTCPSACKReorder TcpExtTCPTSReorder TcpExtTCPRenoReorder
	TcpExtTCPDSACKOfoRecv TcpExtTCPDSACKOfoSent TcpExtTCPFastRetrans TcpExtPAWSEstab'
# shellcheck disable=SC2086
peer_counters() { in_cli nstat -asz $REORDERING | awk '/^Tcp/ { print $1, $2 }'; }
counter() { "$BIN/toe" stats --json | jq ".counters.$1 // 0"; }
dropped() { cat "/sys/class/net/$1/statistics/rx_dropped" "/sys/class/net/$1/statistics/tx_dropped"; }
export -f dropped

# Frames that were lost: by the engine's port (tx_full), by the kernel's queue behind the veth pair, which has room for
# netdev_max_backlog frames, on the way in (segs_ooo).  A loaded machine does lose some, and then holes are right.
# A retransmission is no proof of loss: reordering causes it too.
losses()
{
	"$BIN/toe" stats --json | jq -r '"tx_full \(.drops.tx_full // 0)", "segs_ooo \(.counters.segs_ooo // 0)"'
	in_srv bash -c 'dropped toe0' | awk '{ n += $1 } END { print "port_dropped", n }'
	in_cli bash -c 'dropped cli0' | awk '{ n += $1 } END { print "peer_dropped", n }'
}
changes() { diff <(echo "$1") <(echo "$2") | grep '^[<>]' | tr '\n' ' '; }

start_echo $port et
ordered() # ROUND: three paced transfers; 0 in order, 1 frames were lost on the way
{
	local before after lost_before lost_after held rtx connection client pids=()
	before=$(peer_counters)
	lost_before=$(losses)
	[ "$(wc -l <<<"$before")" -eq 8 ] || fail "nstat lacks counters: $before"
	held=$(counter held)
	rtx=$(counter segs_rtx)
	for connection in 1 2 3; do
		cli_spawn "ordered$connection" "$BIN/tests/progs/tcp_client" --host "$SRV" --port $port --bytes 12M \
			--rate 4M --timeout 30
		pids+=("$SPAWNED")
	done
	for client in "${pids[@]}"; do
		wait "$client" || fail "ordered transfer: $(tail -qn 1 "$LOGS"/ordered*.log)"
	done
	after=$(peer_counters)
	lost_after=$(losses)
	held=$(($(counter held) - held))
	say "round $1: held back inside $held, held for a full port $(counter tx_held)," \
		"retransmitted $(($(counter segs_rtx) - rtx)), lost: $(changes "$lost_before" "$lost_after")"
	[ $held -gt 100 ] || fail "the replicas hardly overtook each other ($held times): nothing was tested"
	[ "$after" = "$before" ] && return 0
	say "peer: $(changes "$before" "$after")"
	[ "$lost_after" != "$lost_before" ] && return 1
	fail "the peer saw reordering, and nothing was lost: $(changes "$before" "$after")"
}
in_order=0
for round in 1 2 3; do
	ordered $round && in_order=1 && break
done
[ $in_order = 1 ] || fail "frames were lost in each of three rounds: whether the peer sees reordering was not tested"
