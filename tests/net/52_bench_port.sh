#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# bench/mqtt_port is a TCP of its own: a PUBLISH that is lost is sent again and counted, not the end of the measurement;
# and what an earlier run has left at the server, without a reset, does not stand in the way of the next one.
# PLACEMENTS: stage
. "$(dirname "$0")/../lib/net.sh"
. tests/lib/emulator.sh
testbed_up
emulator_path "$PREFIX-srv" "$PREFIX-cli" "$PREFIX-mid" || fail "emulator's path"
emulator_start "$PREFIX-mid" "$LOGS/netem.log" || fail "emulator"
start_broker
in_cli nft -f - <<-'END' || fail "nft"
	add table netdev bench
	add chain netdev bench in { type filter hook ingress device cli0 priority 0; }
	add rule netdev bench in tcp sport 1883 drop
END
MAC=$(in_srv cat /sys/class/net/toe0/address)
PORT=("$BIN/bench/mqtt_port" --host "$SRV" --mac "$MAC" --subscribers 2 --timeout 20)

in_cli "${PORT[@]}" --rounds 20 >"$LOGS/port.json" || fail "without losses: $(cat "$LOGS/port.json")"

# with data to the server: 3 CONNECTs, 2 SUBSCRIBEs, then PUBLISHes
emulator_stop "$LOGS/netem.log" || fail "emulator"
emulator_start "$PREFIX-mid" "$LOGS/netem.log" --drop ba:8 || fail "emulator"
in_cli "${PORT[@]}" --rounds 20 >"$LOGS/port.json" || fail "with a loss: $(cat "$LOGS/port.json")"
jq -e '.retransmits >= 1' "$LOGS/port.json" >/dev/null || fail "one PUBLISH was lost: $(cat "$LOGS/port.json")"

cli_spawn killed "${PORT[@]}" --rounds 100000
killed=$SPAWNED
established() { [ "$("$BIN/toe" status --json | jq .controlplane.connections)" = "$1" ]; }
wait_for 10 "three connections" established 3
kill -9 "$killed"
wait_for 5 "its end" gone "$killed"
established 3 || fail "the server knows the connections no more: nothing is tried"
in_cli "${PORT[@]}" --rounds 20 >"$LOGS/port.json" || fail "behind a run that was killed: $(cat "$LOGS/port.json")"
