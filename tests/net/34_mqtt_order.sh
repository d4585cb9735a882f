#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Order while RETAIN and QoS flip and subscribers come and go: 100 000 messages, sequence numbers checked at
# every subscriber.  MESSAGES: another number (1e7 in a soak); MQTT_CONF: as in 32_mqtt_diff.sh.
# PLACEMENTS: single spread single+af_xdp
# TIMEOUT: 240
. "$(dirname "$0")/../lib/net.sh"
: "${MQTT_CONF=$MQTT_ON}" "${MESSAGES:=1e5}" "${LIMIT:=200}"
write_config "$MQTT_CONF"
testbed_up
start_broker
in_cli "$BIN/tests/progs/mqtt_order" --host $SRV --messages "$MESSAGES" --timeout "$LIMIT" >"$LOGS/order.json" ||
	fail "order: $(cat "$LOGS/order.json")"
cat "$LOGS/order.json"
not_in_kernel 1883 || fail "the kernel has connections of the broker"
