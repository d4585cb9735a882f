#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The broker is told to read its configuration again (SIGHUP), and then has an ACL: nothing is fast any more, so what
# the ACL forbids is not delivered; the status says why and what to type; fast again once that has been done.
# PLACEMENTS: single spread
# TIMEOUT: 60
. "$(dirname "$0")/../lib/net.sh"
write_config 'mqtt: { ports = (1883); offload = ("fast/#"); canary = 0; };'
testbed_up
printf 'topic readwrite #\ntopic deny fast/secret\n' >"$LOGS/acl"
chmod 644 "$LOGS/acl"
write_mosquitto_conf
echo "user root" >>"$LOGS/mosquitto.conf" # reads the files of this test
app mosquitto mosquitto -c "$LOGS/mosquitto.conf"
BROKER_PID=$SPAWNED
wait_for 10 mosquitto broker_answers

m() { "$BIN/toe" mqtt "$@" || fail "toe mqtt $*: exit code $?"; }
of() { m status --json | jq -r "$1"; }
is() { [ "$(of "$1")" = "$2" ]; }
active() { [ "$(m subs --json | jq '[.[] | select(.client_id == "watcher" and .state == "active")] | length')" = 1 ]; }
publish() { in_cli mosquitto_pub -h $SRV -t "$1" -m "$2" || fail mosquitto_pub; }
arrives() { publish "$1" "$2"; wait_for 10 "$1 $2" grep -qx "$1 $2" "$LOGS/sub.log"; }
# reload N: SIGHUP, for the Nth time
reload()
{
	kill -HUP "$BROKER_PID"
	wait_for 10 "the broker to read its configuration" eval "[ \$(grep -c 'Reloading config' '$LOGS/mosquitto.log') -ge $1 ]"
}

cli_spawn sub stdbuf -oL mosquitto_sub -i watcher -h $SRV -t 'fast/#' -v
wait_for 10 "the subscription" active
arrives fast/open 1
arrives fast/secret 1
is .publishes.FAST 2 && is .reloaded false || fail "not fast: $(m slow)"

echo "acl_file $LOGS/acl" >>"$LOGS/mosquitto.conf"
reload 1
is .reloaded true || fail "SIGHUP is not noticed: $(m status)"
publish fast/secret 2
arrives fast/open 2
is .publishes.FAST 2 && is .publishes.RELOAD 2 || fail "still fast: $(m slow)"
grep -q 'fast/secret 2' "$LOGS/sub.log" && fail "delivered what the ACL forbids"
m status | grep -q '^all slow for .*SIGHUP.*toe mqtt recheck' || fail "status does not say why: $(m status)"
"$BIN/toe" mqtt recheck "$LOGS/mosquitto.conf" >"$LOGS/recheck.txt" 2>&1 && fail "recheck does not see the ACL"
grep -q acl_file "$LOGS/recheck.txt" || fail "recheck does not name it: $(cat "$LOGS/recheck.txt")"
is .reloaded true || fail "fast again in spite of it"

# ---- without it again; the mode is what it was
sed -i '/^acl_file/d' "$LOGS/mosquitto.conf"
reload 2
arrives fast/secret 3
is .publishes.RELOAD 3 || fail "fast before anybody looked: $(m slow)"
m recheck "$LOGS/mosquitto.conf" >"$LOGS/recheck.txt"
arrives fast/open 4
is .publishes.FAST 3 && is .reloaded false || fail "not fast again: $(m slow)"

# ---- an operator who knows; a broker that is started anew
reload 3
m mode on
arrives fast/open 5
is .publishes.FAST 4 || fail "mode on: $(m slow)"
reload 4
end_process "$BROKER_PID"
wait_for 10 "the subscriber to go" is .connections 0
start_broker
wait_for 10 "the subscription" active
is .reloaded false || fail "SIGHUP of another broker counts"
arrives fast/open 6
is .publishes.FAST 5 || fail "not fast after a restart: $(m slow)"
