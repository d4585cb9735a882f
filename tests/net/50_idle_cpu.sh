#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An idle engine with 20 idle connections costs less than 3 % of a CPU, all processes together.
# PLACEMENTS: single spread stage
. "$(dirname "$0")/../lib/net.sh"
testbed_up
start_broker
for i in $(seq 20); do
	cli_spawn "sub$i" stdbuf -oL mosquitto_sub -d -k 600 -h "$SRV" -t idle
done
subscribed() { [ "$(grep -l 'Subscribed (mid' "$LOGS"/sub*.log | wc -l)" -eq 20 ]; }
wait_for 10 "subscribers" subscribed

total_ticks()
{
	local sum=0 p
	for p in toe-datapath toe-controlplane toe-keeper; do
		p=$(pid_of $p) || fail "an engine process is missing"
		sum=$((sum + $(cpu_ticks "$p")))
	done
	echo $sum
}
before=$(total_ticks) || fail "$before"
sleep 5 # the thing measured is time
after=$(total_ticks) || fail "$after"
used=$((after - before))
say "idle: $used ticks of 500"
[ $used -lt 15 ] || fail "idle engine used $used of 500 ticks: the limit is 15, 3 %"
# and it still wakes up
in_cli mosquitto_pub -h "$SRV" -t idle -m x || fail "asleep"
arrived() { [ "$(grep -l '^x$' "$LOGS"/sub*.log | wc -l)" -eq 20 ]; }
wait_for 5 "all subscribers to get the message" arrived
