#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Frames that come while the engine is stopped, more than the port's receive ring holds: the ring keeps as many as
# DATAPATH.md says, every frame is counted, as received or as lost, by the driver's own name for it; and the port works
# as before.
# PLACEMENTS: single
. "$(dirname "$0")/../lib/net.sh"
FRAMES=20000 # more than any ring of ours

drops() { "$BIN/toe" stats drops "$@"; }
lost() { drops --json | jq '.port_rx_full + .port_rx_no_buf'; }
received() { "$BIN/toe" stats counters --json | jq .frames_rx; }
on_wire() { in_srv cat /sys/class/net/toe0/statistics/rx_packets; }
# counts of the kernel and of the engine are not taken at one moment: the other frames there are (ND, ARP) may be between
all_counted() { [ $(($(received) + $(lost) - before)) -ge "$1" ]; }

# stopped_flood DRIVER RING
stopped_flood()
{
	local dp wire

	write_config "port: { driver = \"$1\"; };"
	if ! ("$BIN/toe" testbed up --prefix "$PREFIX" --config-extra "$CONFIG") \
		>"$LOGS/testbed.log" 2>&1 </dev/null; then
		[ "$1" = af_xdp ] && say "not tried: af_xdp does not start here" && return
		fail "$1: $(tail -1 "$LOGS/testbed.log")"
	fi
	in_cli ping -q -c 2 -i 0.05 -W 5 "$SRV" >/dev/null || fail "$1: ping"
	[ "$(lost)" = 0 ] || fail "$1: $(lost) frames lost before anything happened"
	dp=$(pid_of toe-datapath) || fail "no datapath"
	before=$(($(received) + $(lost)))
	kill -STOP "$dp" || fail "stop"
	wire=$(on_wire)
	in_cli bash -c "exec 3>/dev/udp/$SRV/9 && for ((i = 0; i < $FRAMES; i++)); do printf x >&3; done"
	wire=$(($(on_wire) - wire))
	kill -CONT "$dp" || fail "continue"
	[ $wire -ge $FRAMES ] || fail "$1: only $wire frames were sent"
	wait_for 10 "$1: $wire frames to be received or lost" all_counted $((wire - 5))
	say "$1: $wire frames, $(lost) lost"
	[ $((wire - $(lost))) -ge "$2" ] || fail "$1: $(lost) of $wire frames lost, with a ring of $2"
	[ "$(lost)" -ge $((FRAMES / 4)) ] || fail "$1: only $(lost) of $wire frames lost: nothing was tried"
	[ $(($(received) + $(lost) - before)) -lt $((wire + 100)) ] || fail "$1: frames counted twice"
	drops | grep -qE '^port_rx_(full|no_buf) +[0-9]+ +[a-z]' || fail "$1: no text: $(drops)"
	[ "$(drops netif_rx --json | jq '.port_rx_full + .port_rx_no_buf')" = "$(lost)" ] || fail "$1: not of netif_rx"
	[ "$(drops netif_tx --json | jq '.port_rx_full + .port_rx_no_buf')" = 0 ] || fail "$1: of netif_tx, too"
	wire=$(lost)
	in_cli ping -q -c 5 -i 0.05 -W 5 "$SRV" >/dev/null || fail "$1: ping afterwards"
	[ "$(lost)" = "$wire" ] || fail "$1: counted again: $wire, $(lost)"
	"$BIN/toe" testbed down --prefix "$PREFIX" >>"$LOGS/testbed.log" 2>&1 </dev/null || fail "$1: down"
}

[ "$(id -u)" -eq 0 ] || skip "needs root"
trap net_end EXIT
trap 'exit 130' INT TERM
NET_UP=1
stopped_flood af_packet 4096
stopped_flood af_xdp 2048
"$BIN/toe" testbed up --prefix "$PREFIX" >>"$LOGS/testbed.log" 2>&1 </dev/null || fail "up again"
