#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same clients against mosquitto on the kernel and against mosquitto under the engine: what they receive
# is equal (tests/mqtt/run_diff.py).  And the comparison can fail: it sees another setting of the broker, and
# messages that are lost, doubled, swapped, late or have another RETAIN bit.
# MQTT_CONF: other lines for the engine's configuration (default: the MQTT stage on every topic);
# ONLY: scenarios.
# PLACEMENTS: single spread
# TIMEOUT: 300
. "$(dirname "$0")/../lib/net.sh"
: "${MQTT_CONF=$MQTT_ON}" "${ONLY:=}"
write_config "$MQTT_CONF"
testbed_up
start_broker
ip -n "$PREFIX-cli" link set lo up

# kernel_broker PORT [LINE]: mosquitto on the kernel of the clients' namespace, pid in SPAWNED
kernel_broker()
{
	{
		write_mosquitto_conf "$1"
		cat "$LOGS/mosquitto.conf"
		echo "${2:-}"
	} >"$LOGS/mosquitto-$1.conf"
	cli_spawn "mosquitto-$1" mosquitto -c "$LOGS/mosquitto-$1.conf"
	wait_for 10 "mosquitto on the kernel" in_cli mosquitto_pub -h 127.0.0.1 -p "$1" -t up -m 1
}
kernel_broker 1884
kernel_broker 1885 "upgrade_outgoing_qos true"

# shellcheck disable=SC2086
in_cli tests/mqtt/run_diff.py 127.0.0.1:1884 $SRV:1883 $ONLY >"$LOGS/diff.txt" 2>&1
rc=$?
cat "$LOGS/diff.txt"
[ $rc -eq 0 ] || fail "differs: $(grep -c DIFFERS "$LOGS/diff.txt") scenarios"
not_in_kernel 1883 || fail "the kernel has connections of the broker"

# must_differ PORT SCENARIO WHAT: the suite has to see what is wrong with the broker on PORT
must_differ()
{
	in_cli tests/mqtt/run_diff.py 127.0.0.1:1884 "127.0.0.1:$1" "$2" >"$LOGS/control.txt" 2>&1 &&
		fail "not noticed: $3"
	grep -q "$2 *DIFFERS" "$LOGS/control.txt" && ! grep -q '^      A: ' "$LOGS/control.txt" || fail "$3: $(tail -3 "$LOGS/control.txt")"
}
must_differ 1885 overlaps "upgrade_outgoing_qos"
[ "$TOE_PLACEMENT" = single ] || exit 0 # once is enough: no engine takes part
kernel_broker 1886 # of the faulty ones' own: ClientIDs are the same on both sides
port=1900
for fault in drop twice swap retain late; do
	port=$((port + 1))
	cli_spawn "mutant-$fault" tests/mqtt/mutant.py $port 127.0.0.1:1886 $fault
	wait_for 10 "mutant" grep -q ready "$LOGS/mutant-$fault.log"
	must_differ $port storm "$fault"
done
