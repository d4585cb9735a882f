#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Debian's mosquitto and its clients: QoS 0, 1 and 2, retained, wildcard, large payload, will.
# PLACEMENTS: single spread
. "$(dirname "$0")/../lib/net.sh"
testbed_up
start_broker

# subscribe NAME ARGS...: returns when SUBACK is there
subscribe()
{
	local name=$1
	shift
	cli_spawn "$name" stdbuf -oL mosquitto_sub -d -h "$SRV" "$@"
	wait_for 10 "$name to subscribe" grep -q 'Subscribed (mid' "$LOGS/$name.log"
}
payloads() { grep -v '^Client \|^Subscribed ' "$LOGS/$1.log"; }

for qos in 0 1 2; do
	subscribe "sub$qos" -t "t/$qos/#" -q $qos -C 20 -W 20
	sub=$SPAWNED
	for i in $(seq 20); do echo "message $i"; done |
		in_cli mosquitto_pub -h "$SRV" -t "t/$qos/x" -q $qos -l || fail "publish with QoS $qos"
	wait "$sub" || fail "QoS $qos: not everything arrived"
	[ "$(payloads "sub$qos")" = "$(for i in $(seq 20); do echo "message $i"; done)" ] ||
		fail "QoS $qos: other messages or another order"
done

in_cli mosquitto_pub -h "$SRV" -t keep -m kept -r -q 1 || fail "publish retained"
[ "$(in_cli mosquitto_sub -h "$SRV" -t keep -C 1 -W 10)" = kept ] || fail "retained message"

head -c 3M /dev/urandom | base64 -w0 >"$LOGS/large"
cli_spawn large sh -c "exec mosquitto_sub -h $SRV -t large -C 1 -W 30 -N >'$LOGS/large.out'"
sub=$SPAWNED
in_cli mosquitto_pub -h "$SRV" -t large -r -q 1 -f "$LOGS/large" || fail "publish 4 MB"
wait "$sub" || fail "4 MB message does not arrive"
cmp -s "$LOGS/large" "$LOGS/large.out" || fail "4 MB message differs"

# a client that dies: the broker sees it and publishes the will
subscribe watcher -t will -C 1 -W 20
watcher=$SPAWNED
subscribe mortal -t x --will-topic will --will-payload died
kill -9 "$SPAWNED"
wait "$watcher" || fail "no will after the client was killed"
grep -q died "$LOGS/watcher.log" || fail "will has another text"
not_in_kernel 1883 || fail "the kernel has connections of the broker"
