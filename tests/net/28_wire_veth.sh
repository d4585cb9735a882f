#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Wire scripts (tests/wire) against the running engine: exact segments over a veth pair, exact answers, a program under
# `toe run` for the application.  Those that need virtual time or another configuration are skipped and counted by reason.
# TOE_WIRE=text selects by name, as for build/tests/test_wire.  SIX=1: over IPv6 (28_wire_veth_ipv6.sh).
# PLACEMENTS: single spread
# TIMEOUT: 150
. "$(dirname "$0")/../lib/net.sh"
: "${JOBS:=8}" "${TABLES=--tables}" "${LEAST:=600}" "${SIX:=}"
export TOE_WIRE

# as the scripts' engine: tests/wire/virtual.h, WIRE_MTU
write_config 'tcp: { rx_buf = "64K"; tx_buf = "64K"; ecn = false; };' "port: { mtu = $((SIX ? 1520 : 1500)); };"
testbed_up
# the peer is a packet socket: the client's kernel is to answer nothing
PEER_MAC=02:00:0a:63:00:02
in_cli ip addr flush dev cli0
in_srv ip neigh replace "$CLI" lladdr $PEER_MAC dev toe-tap nud permanent || fail "neighbour"
in_cli ip link set cli0 promisc on
if [ -n "$SIX" ]; then
	in_srv ip addr del $SRV6/64 dev toe-tap && in_srv ip addr add 2001:db8::1/64 dev toe-tap nodad &&
		in_srv ip neigh replace 2001:db8::2 lladdr $PEER_MAC dev toe-tap nud permanent || fail "IPv6 address"
	moved() { [ "$("$BIN/toe" status --json | jq -r .ipv6)" = 2001:db8::1 ]; }
	wait_for 5 "the engine to follow the address" moved
fi

no_connections() { [ "$("$BIN/toe" status --json | jq '.controlplane | .connections + .half_open + .orphans')" = 0 ]; }
as_before() { [ "$(engine_held)" = "$held" ]; }

agents=()
for ((i = 0; i < JOBS; i++)); do
	app "agent.$i" "$BIN/tests/progs/wire_agent" "$LOGS/agent.$i"
	agents+=("$SPAWNED")
done
for ((i = 0; i < JOBS; i++)); do
	wait_for 10 "an application" grep -q ready "$LOGS/agent.$i.log"
done
held=$(engine_held)
in_cli "$BIN/tests/progs/wire_veth" --interface cli0 --engine-mac "$(in_srv cat /sys/class/net/toe-tap/address)" \
	--peer-mac $PEER_MAC --engine "$SRV" --peer "$CLI" --agents "$LOGS/agent" --jobs "$JOBS" --control "$RUN_DIR/control.sock" \
	${TABLES:+$TABLES} ${SIX:+--six} >"$LOGS/wire.log" 2>&1
rc=$?
grep -v '^FAILED' "$LOGS/wire.log" | tail -60
say "$(grep -c '^again' "$LOGS/wire.log") tried again"
grep -q '^FAILED' "$LOGS/wire.log" && fail "$(grep '^FAILED' "$LOGS/wire.log" | head -20 | tr '\n' ' ')"
[ $rc = 0 ] || fail "scripts: exit code $rc"
[ -n "${TOE_WIRE:-}" ] || [ "$(tail -1 "$LOGS/wire.log" | jq .scripts)" -ge "$LEAST" ] || fail "hardly any scripts were run"
for p in "${agents[@]}"; do
	gone "$p" && fail "an application died"
done
wait_for 90 "connections to end" no_connections
for _ in $(seq 100); do as_before && break; sleep 0.05; done
as_before || fail "the engine holds on to something: before: $held; now: $(engine_held)"
# nothing failed, but for some scripts no moment was quiet enough for times to mean anything
busy=$(grep -c '^BUSY' "$LOGS/wire.log")
[ "$busy" = 0 ] || skip "this machine is too busy: $busy scripts"
