#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The broker is killed with subscribers connected: they hear of it at once, nothing of it stays in the engine,
# and a new broker takes the same port at once.
# PLACEMENTS: single spread
. "$(dirname "$0")/../lib/net.sh"
testbed_up
start_broker
engine=$(pid_of toe-datapath) || fail "no datapath"

cli_spawn victims "$BIN/tests/progs/mqtt_fanout" --host "$SRV" --subscribers 50 --publishes 100000 --rate 200 \
	--timeout 60 --progress
victims=$SPAWNED
wait_for 10 "messages to flow" grep -qE '[1-9][0-9]* published' "$LOGS/victims.log"
kill -9 "$BROKER_PID"
wait_for 5 "clients to see the end" gone "$victims"
grep -qE 'closed by broker|recv \((104|32)\)|publish \((104|32)\)' "$LOGS/victims.log" ||
	fail "clients saw something else: $(tail -1 "$LOGS/victims.log")"

start_broker
fanout --subscribers 50 --publishes 100 --timeout 30 || fail "new broker: $(cat "$LOGS/fanout.json")"
[ "$(pid_of toe-datapath)" = "$engine" ] || fail "the datapath is another process now"
end_process "$BROKER_PID"
no_connections() { [ "$("$BIN/toe" conns --json | jq '[.. | objects | select(.state? == "ESTABLISHED")] | length')" = 0 ]; }
wait_for 10 "connections to be gone" no_connections
