#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The port driven by net_af_xdp instead of net_af_packet: an echo of 10 MB, the kernel behind the TAP, and a
# fan-out that takes one packet buffer after the other until all have been used.
# PLACEMENTS: single
. "$(dirname "$0")/../lib/net.sh"
compgen -G '/usr/lib/*/dpdk/pmds-*/librte_net_af_xdp.so*' >/dev/null || skip "DPDK has no net_af_xdp here"
write_config 'port: { driver = "af_xdp"; };' "$MQTT_ON"
if ! (testbed_up) >"$LOGS/try.log" 2>&1; then
	# only what the driver itself says counts as "cannot": anything else is a failure
	why=$(grep -rhiE 'xdp|xsk|umem' "$LOGS/engine-log" "$LOGS/testbed.log" "$LOGS/try.log" 2>/dev/null | tail -1)
	[ -n "$why" ] && skip "net_af_xdp does not start here: $why"
	fail "engine with af_xdp: $(tail -1 "$LOGS/testbed.log")"
fi
testbed_up
start_echo 7000 et
in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 10M --timeout 60 || fail "echo with af_xdp"
not_in_kernel 7000 || fail "the kernel has the connection"
in_cli ping -q -c 5 -i 0.05 -W 2 "$SRV" >/dev/null || fail "ping with af_xdp"

start_broker
counter() { "$BIN/toe" stats counters --json | jq ".$1 // 0"; }
there() { in_srv cat /sys/class/net/toe0/statistics/tx_packets; }
were=$(there) sent=$(counter frames_tx) again=$(counter segs_rtx) # in this order: frames between count as there
in_cli "$BIN/tests/progs/mqtt_fanout" --host "$SRV" --subscribers 1000 --publishes 100 --window 1 >"$LOGS/fanout.json" ||
	fail "fan-out with af_xdp: $(cat "$LOGS/fanout.json")"
sent=$(($(counter frames_tx) - sent)) again=$(($(counter segs_rtx) - again))
all_there() { [ $(($(there) - were)) -ge "$sent" ]; }
wait_for 5 "$sent frames to be on the interface, there are $(($(there) - were))" all_there
[ $again -lt 100 ] || fail "$again segments of 100 000 were lost and sent again"
