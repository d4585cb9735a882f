#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Fan-out: 100 subscribers, 1 000 publishes, 100 000 deliveries checked for order and content.
# PLACEMENTS: single spread stage spread+af_xdp
. "$(dirname "$0")/../lib/net.sh"
testbed_up
start_broker

fanout --subscribers 100 --publishes 1000 --size 128 --timeout 60 ||
	fail "fan-out: $(cat "$LOGS/fanout.json" "$LOGS/fanout.log")"
cat "$LOGS/fanout.json"
fanout --subscribers 20 --publishes 50 --size 20000 --window 2 --timeout 60 ||
	fail "fan-out of messages of many segments: $(cat "$LOGS/fanout.json" "$LOGS/fanout.log")"
