#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The broker is killed with subscribers connected: they hear of it within a second, nothing of it stays in the
# engine, a new broker takes the same port at once, and after 50 killed brokers the engine is as it was.
# PLACEMENTS: single spread stage
# TIMEOUT: 180
. "$(dirname "$0")/../lib/net.sh"
write_config 'tcp: { time_wait_ms = 1000; };'
testbed_up
start_echo 7000 lt # an application that stays
start_broker
engine=$(pid_of toe-datapath) || fail "no datapath"
keeper=$(pid_of toe-keeper) || fail "no keeper"

cli_spawn victims "$BIN/tests/progs/mqtt_fanout" --host "$SRV" --subscribers 50 --publishes 100000 --rate 200 \
	--timeout 60 --progress
victims=$SPAWNED
wait_for 10 "messages to flow" grep -qE '[1-9][0-9]* published' "$LOGS/victims.log"
cli_spawn idle "$BIN/tests/progs/tcp_client" --host "$SRV" --port 1883 --bytes 1M --rate 1 --expect reset --timeout 20
idle=$SPAWNED
wait_for 5 "silent client" grep -q connected "$LOGS/idle.log"
kill -9 "$BROKER_PID"
begin=$(date +%s%N)
wait_for 5 "clients to see the end" gone "$victims"
wait_for 5 "silent client to see the end" gone "$idle"
took=$((($(date +%s%N) - begin) / 1000000))
[ $took -lt 1000 ] || fail "clients saw the end after $took ms"
grep -qE 'closed by broker|recv \((104|32)\)|publish \((104|32)\)' "$LOGS/victims.log" ||
	fail "clients saw something else: $(tail -1 "$LOGS/victims.log")"
wait "$idle" || fail "silent client: $(tail -1 "$LOGS/idle.log")"
"$BIN/toe" conns --json >"$LOGS/conns.json" || fail "toe conns"
[ "$(json "$LOGS/conns.json" '[.conns[] | select(.orphan | not)] | length')" = 0 ] ||
	fail "connections of the dead broker that are not orphans"
no_connections() { [ "$("$BIN/toe" conns --json | jq '.conns | length')" = 0 ]; }
wait_for 10 "orphans to be gone" no_connections

start_broker
fanout --subscribers 50 --publishes 100 --timeout 30 || fail "new broker: $(cat "$LOGS/fanout.json")"
[ "$(pid_of toe-datapath)" = "$engine" ] || fail "the datapath is another process now"
end_process "$BROKER_PID"

published() { in_cli mosquitto_pub -h "$SRV" -q 1 -t up -m 1; }
# rounds FROM TO: a broker starts, answers a publish, is killed
rounds()
{
	local i
	for i in $(seq "$1" "$2"); do
		app "broker$i" mosquitto -c "$LOGS/mosquitto.conf"
		wait_for 5 "broker $i" published
		kill -9 "$SPAWNED"
		wait "$SPAWNED" 2>/dev/null
	done
}
one_application() { [ "$("$BIN/toe" status --json | jq -c '[.applications, .controlplane.connections]')" = '[1,0]' ]; }
rss_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
# what must not grow: "datapath KiB" apart, it may by a little
holdings()
{
	local status
	status=$("$BIN/toe" status --json) || fail "toe status"
	echo "fds of keeper $(find "/proc/$keeper/fd" -type l | wc -l), of datapath" \
		"$(find "/proc/$engine/fd" -type l | wc -l);" \
		"$(jq -c '{applications, processes, apps: [.controlplane.apps[] | {slots_free, gone}]}' <<<"$status")"
}
rounds 1 5
wait_for 15 "everything to be recycled" one_application
wait_for 5 "connections to be gone" no_connections
before=$(holdings)
rss=$(rss_kb "$engine")
rounds 6 55
wait_for 15 "everything to be recycled" one_application
wait_for 5 "connections to be gone" no_connections
after=$(holdings)
grown=$(($(rss_kb "$engine") - rss))
say "$after; datapath grew by $grown KiB"
[ "$after" = "$before" ] || fail "50 brokers leave something: $before, then $after"
[ $grown -lt 4096 ] || fail "50 brokers cost the datapath $grown KiB"
[ "$(pid_of toe-datapath)" = "$engine" ] || fail "the datapath is another process now"
in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 1M --timeout 20 || fail "the other application"
