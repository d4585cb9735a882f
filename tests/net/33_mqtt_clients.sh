#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Real clients against mosquitto under the engine: mosquitto_sub/pub, paho (Debian), mqtt.js (npm): 1 000
# messages from each to each, every one checked, in order.  MQTT_CONF: as in 32_mqtt_diff.sh.
# PLACEMENTS: single spread
# TIMEOUT: 240
. "$(dirname "$0")/../lib/net.sh"
: "${MQTT_CONF=$MQTT_ON}"
N=1000

# mqtt.js comes from the registry once and stays in build/npm.
mqttjs_ready()
{
	command -v npm >/dev/null && command -v node >/dev/null || return 1
	[ -d "$ROOT/build/npm/node_modules/mqtt" ] && return 0
	timeout 90 npm install --no-audit --no-fund --loglevel=error --prefix "$ROOT/build/npm" mqtt \
		>"$LOGS/npm.log" 2>&1 </dev/null
}
KINDS="mosquitto paho"
if mqttjs_ready; then
	KINDS+=" mqttjs"
else
	say "SKIP: mqtt.js: no npm, or its package does not install"
fi

write_config "$MQTT_CONF"
testbed_up
start_broker

# kind_sub KIND TOPIC QOS: a subscriber, prints what it gets and ends after N messages; says "subscribed".
kind_sub()
{
	local name=sub.$1.${2//\//-}.$3
	case $1 in
	mosquitto) cli_spawn "$name" stdbuf -oL mosquitto_sub -d -h $SRV -t "$2/#" -q "$3" -C $N -W 60 ;;
	paho) cli_spawn "$name" tests/mqtt/paho_client.py sub $SRV "$2/#" "$3" $N ;;
	mqttjs) cli_spawn "$name" env NODE_PATH="$ROOT/build/npm/node_modules" \
		node tests/mqtt/mqttjs_client.js sub $SRV "$2/#" "$3" $N ;;
	esac
	wait_for 20 "$name to subscribe" grep -qi '^subscribed' "$LOGS/$name.log"
}
# kind_pub KIND TOPIC QOS: publishes "m 1" to "m N".
kind_pub()
{
	case $1 in
	mosquitto) seq -f "m %.0f" $N | in_cli mosquitto_pub -h $SRV -t "$2/$1" -q "$3" -l ;;
	paho) in_cli tests/mqtt/paho_client.py pub $SRV "$2/$1" "$3" $N ;;
	mqttjs) in_cli env NODE_PATH="$ROOT/build/npm/node_modules" \
		node tests/mqtt/mqttjs_client.js pub $SRV "$2/$1" "$3" $N ;;
	esac
}

for qos in 0 1; do
	for from in $KINDS; do
		topic=clients/$from/$qos
		subs=()
		for to in $KINDS; do
			kind_sub "$to" "$topic" $qos
			subs+=("$SPAWNED")
		done
		kind_pub "$from" "$topic" $qos || fail "$from does not publish with QoS $qos"
		for p in "${subs[@]}"; do
			wait "$p" || fail "a subscriber did not get $N messages of $from with QoS $qos"
		done
		for to in $KINDS; do
			cmp -s <(grep '^m ' "$LOGS/sub.$to.${topic//\//-}.$qos.log") <(seq -f "m %.0f" $N) ||
				fail "$from to $to, QoS $qos: other messages or another order"
			say "$from to $to, QoS $qos: $N messages"
		done
	done
done
not_in_kernel 1883 || fail "the kernel has connections of the broker"
