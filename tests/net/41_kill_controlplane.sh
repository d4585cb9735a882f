#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The control plane is killed, twice, while messages flow and a file is transferred: nothing is lost or
# reset, it comes back, and new connections work.
# PLACEMENTS: single spread stage
. "$(dirname "$0")/../lib/net.sh"
testbed_up
start_broker
start_echo 7000 et
engine=$(pid_of toe-datapath) || fail "no datapath"

cli_spawn fan "$BIN/tests/progs/mqtt_fanout" --host "$SRV" --subscribers 50 --publishes 600 --rate 100 \
	--timeout 40 --progress
fan=$SPAWNED
cli_spawn bulk "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 12M --rate 2M --timeout 40
bulk=$SPAWNED
wait_for 10 "messages to flow" grep -qE '[1-9][0-9]* published' "$LOGS/fan.log"
wait_for 10 "transfer to begin" grep -q connected "$LOGS/bulk.log"

another() { [ "$(pid_of toe-controlplane)" != "$1" ] && pid_of toe-controlplane; }
for round in 1 2; do
	old=$(pid_of toe-controlplane) || fail "no control plane"
	kill -9 "$old"
	wait_for 10 "control plane to come back ($round)" another "$old"
	wait_for 10 "new connections ($round)" broker_answers
done
wait "$fan" || fail "fan-out: $(tail -1 "$LOGS/fan.log")"
wait "$bulk" || fail "transfer: $(tail -1 "$LOGS/bulk.log")"
[ "$(pid_of toe-datapath)" = "$engine" ] || fail "the datapath was restarted too"
fanout --subscribers 50 --publishes 50 --timeout 30 || fail "afterwards: $(cat "$LOGS/fanout.json")"

# ---- stopped for seconds, and so is the broker: what is fast goes on, also between slow messages nothing changes order
[ "$TOE_PLACEMENT" = stage ] || exit 0
published() { tr '\r' '\n' <"$LOGS/fan.log" | sed -n 's/.* \([0-9]*\) published.*/\1/p' | tail -1; }
beyond() { [ "$(published)" -ge "$1" ]; }
for p in "$(pid_of toe-controlplane)" "$BROKER_PID"; do
	cli_spawn order "$BIN/tests/progs/mqtt_order" --host "$SRV" --messages 20000 --timeout 60
	order=$SPAWNED
	cli_spawn fan "$BIN/tests/progs/mqtt_fanout" --host "$SRV" --subscribers 50 --publishes 600 --rate 100 \
		--timeout 40 --progress
	fan=$SPAWNED
	wait_for 10 "messages to flow" beyond 1
	kill -STOP "$p"
	before=$(published)
	wait_for 20 "messages beside a stopped process" beyond $((before + 300))
	kill -CONT "$p"
	wait "$fan" || fail "fan-out beside a stopped process: $(tail -1 "$LOGS/fan.log")"
	wait "$order" || fail "order: $(tail -1 "$LOGS/order.log")"
done
