#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same clients against mosquitto on the kernel and against mosquitto under the engine: what they receive
# is equal (tests/mqtt/run_diff.py).  And the comparison can fail: a broker with another setting differs.
# MQTT_CONF: other lines for the configuration of the engine (default: the MQTT stage on every topic); ONLY: scenarios.
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

if in_cli tests/mqtt/run_diff.py 127.0.0.1:1884 127.0.0.1:1885 overlaps >"$LOGS/control.txt" 2>&1; then
	fail "a broker with upgrade_outgoing_qos was not told from one without"
fi
grep -q 'overlaps *DIFFERS' "$LOGS/control.txt" || fail "negative control: $(tail -3 "$LOGS/control.txt")"
