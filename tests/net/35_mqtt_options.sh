#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Brokers with options that make fan-out offload unsafe, from the start or since SIGHUP: with the stage following
# their connections but no filter, clients cannot tell them from the same broker on the kernel.  `toe mqtt check` names
# the option, and with a filter so does `toe run`.  And shadow mode sees what a plugin does to messages.
# PLACEMENTS: single
# TIMEOUT: 300
. "$(dirname "$0")/../lib/net.sh"
write_config 'mqtt: { ports = ( 1901, 1902, 1903, 1904, 1905, 1906 ); };'
testbed_up
ip -n "$PREFIX-cli" link set lo up
SCENARIOS="many_in_one_segment matrix overlaps resumption retain_options no_local topic_alias wildcards"

printf 'topic readwrite #\ntopic deny secret/#\n' >"$LOGS/acl"
chmod 644 "$LOGS/acl"
cc -shared -fPIC -o "$LOGS/plugin.so" tests/mqtt/plugin.c || fail "the plugin is not built"

reloaded() { [ "$(cat "$LOGS/kernel.$1.log" "$LOGS/toe.$1.log" | grep -c 'Reloading config')" = 2 ]; }
# one PORT NAME LINE [hup]: the same configuration on the kernel and under the engine; hup: LINE comes later
one()
{
	local port=$1 name=$2 conf=$LOGS/$2.conf kernel
	{
		write_mosquitto_conf "$port"
		cat "$LOGS/mosquitto.conf"
		echo "user root" # reads the files of this test
		[ "${4:-}" = hup ] || echo "$3"
	} >"$conf"
	cli_spawn "kernel.$name" mosquitto -c "$conf"
	kernel=$SPAWNED
	app "toe.$name" mosquitto -c "$conf"
	wait_for 10 "mosquitto on the kernel" in_cli mosquitto_pub -h 127.0.0.1 -p "$port" -t up -m 1
	wait_for 10 "mosquitto under toe" broker_answers "$port"
	if [ "${4:-}" = hup ]; then
		echo "$3" >>"$conf"
		kill -HUP "$kernel" "$SPAWNED"
		wait_for 10 "the brokers to read it again" reloaded "$name"
	fi
	"$BIN/toe" mqtt check "$conf" >"$LOGS/$name.check" 2>&1 && fail "$name: toe mqtt check calls it safe"
	grep -q "${3%% *}" "$LOGS/$name.check" || fail "$name: not named: $(cat "$LOGS/$name.check")"
	# shellcheck disable=SC2086
	in_cli tests/mqtt/run_diff.py "127.0.0.1:$port" "$SRV:$port" $SCENARIOS >"$LOGS/$name.diff" 2>&1 ||
		fail "$name: $(grep -A3 DIFFERS "$LOGS/$name.diff" | head -4)"
	say "$name: $(tail -1 "$LOGS/$name.diff")"
}
one 1901 upgrade "upgrade_outgoing_qos true"
one 1902 queue0 "queue_qos0_messages true"
one 1903 mount "mount_point up/"
one 1904 acl "acl_file $LOGS/acl"
one 1905 plugin "plugin $LOGS/plugin.so"
in_cli mosquitto_pub -h $SRV -p 1905 -t probe -r -m 'm 1'
[ "$(in_cli timeout 10 mosquitto_sub -h $SRV -p 1905 -t probe -C 1)" = 'M 1' ] || fail "the plugin does nothing"
one 1906 hup "acl_file $LOGS/acl" hup
"$BIN/toe" mqtt status --json >"$LOGS/status.json" || fail "toe mqtt status"
[ "$(json "$LOGS/status.json" .publishes.FAST)" = 0 ] || fail "something was fast without a filter"

# ---- with a filter, toe run says it; the port is taken, so the broker ends
"$BIN/toe" mqtt filter add 'any/#' || fail "filter add"
named() { in_srv timeout 20 "$BIN/toe" run -- mosquitto -c "$LOGS/$1.conf" 2>&1 | grep -q "toe run: .*unsafe.*$2"; }
for of in upgrade:upgrade_outgoing_qos queue0:queue_qos0_messages mount:mount_point acl:acl_file plugin:plugin hup:acl_file; do
	named "${of%:*}" "${of#*:}" || fail "toe run does not name ${of#*:}"
done

# ---- shadow mode sees that the plugin's broker sends something else
"$BIN/toe" mqtt filter add 'plug/#' && "$BIN/toe" mqtt mode shadow || fail "shadow mode"
cli_spawn sub mosquitto_sub -i watcher -h $SRV -p 1905 -t 'plug/#'
active() { [ "$("$BIN/toe" mqtt subs --json | jq -r '.[] | select(.client_id == "watcher") | .state')" = active ]; }
wait_for 10 "the subscription" active
seq -f 'm %.0f' 20 | in_cli mosquitto_pub -h $SRV -p 1905 -t plug/a -l || fail mosquitto_pub
differs() { [ "$("$BIN/toe" mqtt shadow --json | jq -r '.[] | select(.filter == "plug/#") | "\(.missing) \(.verdict)"')" = "20 differs" ]; }
wait_for 20 "the differences" differs
