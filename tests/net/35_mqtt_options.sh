#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Brokers with options that make fan-out offload unsafe: with the stage following their connections but no filter,
# clients cannot tell them from the same broker on the kernel; and `toe mqtt check` names the option.
# PLACEMENTS: single
# TIMEOUT: 240
. "$(dirname "$0")/../lib/net.sh"
write_config 'mqtt: { ports = ( 1901, 1902, 1903, 1904 ); };'
testbed_up
ip -n "$PREFIX-cli" link set lo up
SCENARIOS="many_in_one_segment matrix overlaps resumption retain_options no_local topic_alias wildcards"

printf 'topic readwrite #\ntopic deny secret/#\n' >"$LOGS/acl"
chmod 644 "$LOGS/acl"

# one PORT NAME LINE: the same configuration on the kernel and under the engine
one()
{
	local port=$1 name=$2 conf=$LOGS/$2.conf
	{
		write_mosquitto_conf "$port"
		cat "$LOGS/mosquitto.conf"
		echo "user root" # reads the files of this test
		echo "$3"
	} >"$conf"
	"$BIN/toe" mqtt check "$conf" >"$LOGS/$name.check" 2>&1 && fail "$name: toe mqtt check calls it safe"
	grep -q "${3%% *}" "$LOGS/$name.check" || fail "$name: not named: $(cat "$LOGS/$name.check")"
	cli_spawn "kernel.$name" mosquitto -c "$conf"
	app "toe.$name" mosquitto -c "$conf"
	wait_for 10 "mosquitto on the kernel" in_cli mosquitto_pub -h 127.0.0.1 -p "$port" -t up -m 1
	wait_for 10 "mosquitto under toe" broker_answers "$port"
	# shellcheck disable=SC2086
	in_cli tests/mqtt/run_diff.py "127.0.0.1:$port" "$SRV:$port" $SCENARIOS >"$LOGS/$name.diff" 2>&1 ||
		fail "$name: $(grep -A3 DIFFERS "$LOGS/$name.diff" | head -4)"
	say "$name: $(tail -1 "$LOGS/$name.diff")"
}
one 1901 upgrade "upgrade_outgoing_qos true"
one 1902 queue0 "queue_qos0_messages true"
one 1903 mount "mount_point up/"
one 1904 acl "acl_file $LOGS/acl"
"$BIN/toe" mqtt status --json >"$LOGS/status.json" || fail "toe mqtt status"
[ "$(json "$LOGS/status.json" .publishes.FAST)" = 0 ] || fail "something was fast without a filter"
