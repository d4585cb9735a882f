#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The MQTT stage as its operator sees it: broker, subscriber and publishers under the engine; what is fast, what
# is slow and why, filters and modes at run time, clients that make topics slow until they leave.
# PLACEMENTS: single spread
# TIMEOUT: 120
. "$(dirname "$0")/../lib/net.sh"

m() { "$BIN/toe" mqtt "$@" || fail "toe mqtt $*: exit code $?"; }
# of PATH: a value of the status
of() { m status --json | jq -r "$1"; }
is() { [ "$(of "$1")" = "$2" ]; }
reason() { of ".publishes.$1"; }
# refused TEXT ARGS...: one line with that text and exit code 1
refused()
{
	local text=$1
	shift
	"$BIN/toe" mqtt "$@" >"$LOGS/refused.out" 2>"$LOGS/refused.err"
	[ $? -eq 1 ] || fail "toe mqtt $*: exit code is not 1"
	grep -qF -- "$text" "$LOGS/refused.err" && [ "$(wc -l <"$LOGS/refused.err")" = 1 ] ||
		fail "toe mqtt $*: $(cat "$LOGS/refused.err")"
}

# ---- no engine; an engine that does not follow MQTT
TOE_RUN_DIR=$RUN_DIR.none "$BIN/toe" mqtt status 2>"$LOGS/none.err"
[ $? -eq 69 ] || fail "status without engine: exit code is not 69"
write_config
testbed_up
refused "mqtt.ports is empty: set it in" status
refused "mqtt.ports is empty: set it in" filter add 'a/#'
"$BIN/toe" testbed down --prefix "$PREFIX" >>"$LOGS/testbed.log" 2>&1 || fail "testbed down"

# canary: none, so that every message is what it should be
write_config 'mqtt: { ports = (1883); offload = ("fast/#"); canary = 0; subscriptions = 1024; };'
testbed_up

# ---- nobody listens
nobody='no program started with toe run listens on 1883: '
m status | grep -q "^broker  *$nobody" || fail "status without a broker: $(m status)"
is '.not_listening | join(",")' 1883 || fail "status --json without a broker"

# ---- toe run says what is unsafe now that there is a filter; it is the broker of this test all the same
write_mosquitto_conf
printf 'max_packet_size 1000000\nlistener 1884 0.0.0.0\n' >>"$LOGS/mosquitto.conf"
app mosquitto mosquitto -c "$LOGS/mosquitto.conf"
BROKER_PID=$SPAWNED
wait_for 10 "mosquitto" broker_answers
grep -q 'mosquitto.conf:5: note for MQTT offload: max_packet_size' "$LOGS/mosquitto.log" ||
	fail "toe run does not look at the broker's configuration: $(head -3 "$LOGS/mosquitto.log")"

m status | grep -q "$nobody" && fail "status with a broker: $(m status)"
is '.not_listening | length' 0 || fail "status --json with a broker"

# ---- who is there
cli_spawn sub stdbuf -oL mosquitto_sub -i watcher -h $SRV -t 'fast/#' -t 'other/+' -v
active() { [ "$(m subs --json | jq '[.[] | select(.client_id == "watcher" and .state == "active")] | length')" = 2 ]; }
wait_for 10 "both subscriptions to be active" active
[ "$(m sessions --json | jq -r '[.[] | select(.client_id == "watcher") | "\(.level) \(.online) \(.keep)"] | join(",")')" = \
	"4 true false" ] || fail "sessions: $(m sessions)"
[ "$(m subs 'fast/#' --json | jq -r '.[] | "\(.client_id) \(.filter) \(.qos)"')" = 'watcher fast/# 0' ] || fail "subs: $(m subs)"
[ "$(m subs er/ --json | jq length)" = 1 ] || fail "subs by part of a filter"
m subs | grep -q '^fast/# ' || fail "subs: no table"

# publish TOPIC FIRST LAST: numbered messages, one connection
publish() { seq "$2" "$3" | in_cli mosquitto_pub -h $SRV -t "$1" -l || fail "mosquitto_pub"; }
# arrived TOPIC FIRST LAST: each once, in order, and none of that topic behind them
arrived()
{
	wait_for 10 "message $3 of $1" grep -q "^$1 $3\$" "$LOGS/sub.log"
	cmp -s <(grep "^$1 " "$LOGS/sub.log" | tail -n +"$2") <(seq "$2" "$3" | sed "s|^|$1 |") ||
		fail "$1: not $2 to $3, once, in order"
}
decided() { [ "$(of '.publishes | add')" -ge "$1" ]; }
# why REASON TOPIC FIRST LAST: all of them are counted so, and arrive
why()
{
	local n=$(($4 - $3 + 1)) before all
	before=$(reason "$1") all=$(of '.publishes | add')
	publish "$2" "$3" "$4"
	wait_for 10 "$n publishes to be decided" decided $((all + n))
	[ "$(reason "$1")" -eq $((before + n)) ] ||
		fail "$2: $(($(reason "$1") - before)) of $n are $1: $(m slow)"
	arrived "$2" "$3" "$4"
}
why FAST fast/a 1 20
why NO_FILTER other/a 1 20
[ "$(m slow --json | jq -r '.[0].reason')" = NO_FILTER ] || fail "slow is not sorted: $(m slow)"
m status >"$LOGS/status.txt"
grep -q '^slow .*NO_FILTER' "$LOGS/status.txt" && grep -q '^fast/# ' "$LOGS/status.txt" ||
	fail "status: $(cat "$LOGS/status.txt")"
is '.filters[0] | "\(.filter) \(.closed) \(.fast) \(.slow)"' "fast/# false 20 0" || fail "filters: $(m filter list)"

# ---- filters at run time
m filter add 'other/#' --closed
[ "$(m filter list --json | jq -r '.[1] | "\(.filter) \(.closed)"')" = 'other/# true' ] || fail "filter add: $(m filter list)"
why FAST other/a 21 40
m filter del 'other/#'
why NO_FILTER other/a 41 60
refused 'no topic filter' filter add 'a/#/b'
refused 'no topic filter' filter add "\$share/g/a"
refused 'no filter "a/#"' filter del 'a/#'
for i in $(seq 63); do m filter add "f/$i"; done
refused 'at most 64' filter add f/64
for i in $(seq 63); do m filter del "f/$i"; done

# ---- modes
m mode suspend
why SUSPENDED fast/a 21 40
m mode shadow
why SHADOW fast/a 41 60
is .mode shadow || fail "mode: $(of .mode)"

# ---- shadow mode compares: what the broker delivers is what the stage would have; its copies are advice
compared() { [ "$(m shadow --json | jq -r '.[0] | "\(.matched) \(.missing) \(.extra) \(.skipped)"')" = "$1 0 0 0" ]; }
why SHADOW fast/s 1 100
wait_for 10 "the comparison" compared 120
m shadow >"$LOGS/shadow.txt"
grep -q '^fast/# .* 120 .* same$' "$LOGS/shadow.txt" && grep -qxF "toe mqtt filter add 'fast/#'" "$LOGS/shadow.txt" &&
	grep -qx 'toe mqtt mode on' "$LOGS/shadow.txt" || fail "shadow: $(cat "$LOGS/shadow.txt")"
[ "$(m audit)" = 'no difference seen' ] || fail "audit: $(m audit)"
m mode on
why FAST fast/a 61 80

# ---- a subscriber that the engine does not see: the kernel's
ip -n "$PREFIX-srv" link set lo up
srv_spawn local stdbuf -oL mosquitto_sub -h 127.0.0.1 -t 'fast/#' -v
wait_for 10 "the kernel's connection to be known" is .kernel_conns 1
subscribed() { in_srv mosquitto_pub -h 127.0.0.1 -t fast/probe -m 1; grep -q probe "$LOGS/local.log"; }
wait_for 10 "the local subscriber" subscribed
wait_for 10 "its prober to leave" is .kernel_conns 1
why KERNEL fast/a 81 100
wait_for 10 "the local subscriber's copy" grep -q '^fast/a 100$' "$LOGS/local.log"
cmp -s <(grep '^fast/a' "$LOGS/local.log") <(seq 81 100 | sed 's|^|fast/a |') || fail "the local subscriber missed something"
m status | grep -q '^slow for .*read along' || fail "status does not say why: $(m status)"
m filter add 'fast/#' --closed # somebody who knows
why FAST fast/a 101 120
m filter add 'fast/#'
end_process "$SPAWNED"
wait_for 10 "it to be gone" is .kernel_conns 0
why FAST fast/a 121 140

# ---- a client that is not MQTT: the beginning of TLS
cli_spawn tls bash -c 'exec 3<>/dev/tcp/'$SRV'/1883; printf "\026\003\001" >&3; exec sleep 60'
wait_for 10 "it to be noticed" is .untracked 1
why UNTRACKED fast/a 141 160
m status | grep -q '^all slow for .*TLS' || fail "status does not say why: $(m status)"
end_process "$SPAWNED"
wait_for 10 "it to be gone" is .untracked 0
why FAST fast/a 161 180

# ---- a subscriber on a listener that is not followed, in the engine all the same
cli_spawn other stdbuf -oL mosquitto_sub -h $SRV -p 1884 -t 'fast/#' -v
there() { in_cli mosquitto_pub -h $SRV -p 1884 -t fast/probe -m 1; grep -q probe "$LOGS/other.log"; }
wait_for 10 "the subscriber on port 1884" there
wait_for 10 "its prober to leave" is .other_conns 1
why OTHER_PORT fast/a 181 200
wait_for 10 "its copy" grep -q '^fast/a 200$' "$LOGS/other.log"
cmp -s <(grep '^fast/a' "$LOGS/other.log") <(seq 181 200 | sed 's|^|fast/a |') || fail "the one on port 1884 missed something"
m status | grep -q '^all slow for .*not of mqtt.ports' || fail "status does not say why: $(m status)"
end_process "$SPAWNED"
wait_for 10 "it to be gone" is .other_conns 0
why FAST fast/a 201 220

# ---- a hundred bad clients of the module socket: a good one is answered, and messages are as fast
srv_spawn operators tests/mqtt/operators.py "$RUN_DIR/modules.sock" 100
OPERATORS=$SPAWNED
wait_for 10 "bad operators" grep -q ready "$LOGS/operators.log"
for i in 1 2 3; do
	[ "$(m subs 'fast/#' --json | jq length)" = 1 ] || fail "subs beside bad operators: $(m subs)"
	why FAST fast/a $((201 + 20 * i)) $((220 + 20 * i))
done
end_process "$OPERATORS"
[ "$(stat -c '%a %U' "$RUN_DIR/modules.sock")" = '660 root' ] || fail "modules.sock: $(stat -c '%a %U' "$RUN_DIR/modules.sock")"

# ---- more subscriptions than the table holds: nobody knows what the rest would match, whatever is asserted
# shellcheck disable=SC2046 # many words
cli_spawn many mosquitto_sub -i many -h $SRV $(seq -f '-t x/%.0f' 1100)
wait_for 10 "the table to be full" is .table_full true
m filter add 'fast/#' --closed
why FULL fast/a 281 300
m status | grep -q '^all slow for .*table' || fail "status does not say why: $(m status)"

not_in_kernel 1883 || fail "the kernel has connections of clients"
