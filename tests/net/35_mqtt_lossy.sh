#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Order and completeness of 34_mqtt_order over a path that loses, repeats and reorders: what the stage copies into its
# queues is sent again out of them.  MESSAGES, LOSS: others.
# PLACEMENTS: single spread
# TIMEOUT: 120
. "$(dirname "$0")/../lib/net.sh"
. tests/lib/emulator.sh
: "${MESSAGES:=5e3}" "${LOSS:=0.02}" "${LIMIT:=80}"
write_config "$MQTT_ON"
testbed_up
emulator_path "$PREFIX-srv" "$PREFIX-cli" "$PREFIX-mid" || fail "emulator's path"
emulator_start "$PREFIX-mid" "$LOGS/netem.log" --seed 35 --loss "$LOSS" --duplicate 0.01 --reorder 0.05 --corrupt 0.002 \
	--delay-us 1000 --jitter-us 300 || fail "emulator"
start_broker
nobody() { [ "$("$BIN/toe" status --json | jq .controlplane.connections)" = 0 ]; }
wait_for 10 "the end of the first client" nobody
held=$(engine_held)
of() { "$BIN/toe" mqtt status --json | jq -r "$1"; }

in_cli "$BIN/tests/progs/mqtt_order" --host $SRV --messages "$MESSAGES" --timeout "$LIMIT" >"$LOGS/order.json" ||
	fail "order: $(cat "$LOGS/order.json")"
cat "$LOGS/order.json"
[ "$(of .publishes.FAST)" -gt "$(of .publishes.RETAIN)" ] || fail "hardly anything was fast: $("$BIN/toe" mqtt slow)"
[ "$("$BIN/toe" stats --json | jq '.counters.segs_rtx')" -gt 10 ] || fail "the engine sent hardly anything again"
as_before() { [ "$(engine_held)" = "$held" ]; }
wait_for 20 "the end of all connections, items and buffers" as_before
emulator_stop "$LOGS/netem.log" || fail "emulator"
say "$(tail -1 "$LOGS/netem.log")"
[ "$(tail -1 "$LOGS/netem.log" | jq '[.ab, .ba | .loss, .duplicate, .reorder] | min > 0')" = true ] ||
	fail "not all of it happened in both directions"
