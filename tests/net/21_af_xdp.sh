#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The port driven by net_af_xdp instead of net_af_packet: an echo of 10 MB, the kernel behind the TAP, a fan-out that
# takes one packet buffer after the other until all have been used, and an XDP program that is somebody else's.
# PLACEMENTS: single
. "$(dirname "$0")/../lib/net.sh"
DRIVER=af_xdp
write_config "$MQTT_ON"
testbed_up
xdp_program() { ip -n "$PREFIX-srv" -d link show dev toe0 | grep -o 'prog/xdp.* name [^ ]*'; }
xdp_program >/dev/null || fail "the port has no XDP program: which driver is this?"
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
# some are on a busy machine, where ACKs come late
[ $again -lt 10000 ] || fail "$again segments of 100 000 were lost and sent again"

# ---- an XDP program that nobody knows of, here the one that a killed engine has left, stays, and is said to be in the way
keeper=$(cat "$RUN_DIR/keeper.pid")
end_process "$ECHO_PID"
end_process "$BROKER_PID"
kill -9 "$keeper"
for program in toe-datapath toe-controlplane; do
	dead() { ! pid_of "$program"; }
	wait_for 10 "$program to end with its keeper" dead
done
rm "/run/toe-port-toe0.$(stat -Lc %i "/run/netns/$PREFIX-srv").lock"
left=$(xdp_program) || fail "no XDP program is left to try it with"
in_srv "$BIN/toe" up --config "$ENGINE_CONFIG" >"$LOGS/up.log" 2>&1 && fail "up, with an XDP program on the port"
grep -q 'XDP program.*ip link set toe0 xdp off' "$LOGS/up.log" || fail "up says: $(cat "$LOGS/up.log")"
[ "$(xdp_program)" = "$left" ] || fail "somebody's XDP program is gone"
ip -n "$PREFIX-srv" link set toe0 xdp off || fail "ip link"
in_srv "$BIN/toe" up --config "$ENGINE_CONFIG" >"$LOGS/up.log" 2>&1 || fail "up without it: $(cat "$LOGS/up.log")"
in_cli ping -q -c 2 -i 0.05 -W 2 "$SRV" >/dev/null || fail "ping without it"
in_srv "$BIN/toe" down >"$LOGS/down.log" || fail "down: $(cat "$LOGS/down.log")"
xdp_program && fail "toe down leaves an XDP program"

# ---- tags that a device takes off, or a veth's peer does not put on, are not seen: frames of any VLAN would be taken
checks() { in_srv "$BIN/toe" check --config "$ENGINE_CONFIG"; }
checks | grep -q 'veth peer.* txvlan off' || fail "check says nothing of VLAN tags: $(checks)"
[ "$(in_cli ethtool -k cli0 | awk '/^tx-vlan-offload/ { print $2 }')" = off ] || fail "the testbed's veth pair hides tags"

# ---- frames that come to another queue than the first, which nobody would take
if ip netns exec "$PREFIX-srv" ethtool -L toe0 rx 2; then # not with one CPU
	in_srv "$BIN/toe" up --config "$ENGINE_CONFIG" >"$LOGS/up.log" 2>&1 && fail "up with two receive queues"
	grep -q '2 receive queues.*ethtool -L toe0 rx 1' "$LOGS/up.log" || fail "up with two queues says: $(cat "$LOGS/up.log")"
	checks | grep -q '^FAIL.*queues.*ethtool -L toe0 rx 1' || fail "check says nothing of two queues: $(checks)"
	in_srv ethtool -L toe0 rx 1 || fail ethtool
fi

# ---- an MTU whose frames do not fit
ip -n "$PREFIX-srv" link set toe0 mtu 1961 || fail "MTU"
sed 's/driver = .*/&\nmtu = 1961;/' "$ENGINE_CONFIG" >"$LOGS/large.conf"
in_srv "$BIN/toe" up --config "$LOGS/large.conf" >"$LOGS/up.log" 2>&1 && fail "up with an MTU of 1961"
grep -q 'MTU of at most 1960' "$LOGS/up.log" || fail "up with an MTU of 1961 says: $(cat "$LOGS/up.log")"
