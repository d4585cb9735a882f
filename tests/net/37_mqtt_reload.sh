#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The broker is told to read its configuration again (SIGHUP).  With nothing unsafe in it topics are fast again by
# themselves.  With an ACL nothing is fast any more, so what it forbids is not delivered; the status names it; fast
# again once it has gone.  A broker whose configuration nobody knows stays slow until an operator has looked.
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

# rechecked FILE TEXT: refused, and the last line says what happens now
rechecked()
{
	"$BIN/toe" mqtt recheck "$1" >"$LOGS/recheck.txt" 2>&1
	[ $? -eq 1 ] && tail -1 "$LOGS/recheck.txt" | grep -qF "$2" || fail "recheck $1: $(cat "$LOGS/recheck.txt")"
}

cli_spawn sub stdbuf -oL mosquitto_sub -i watcher -h $SRV -t 'fast/#' -v
wait_for 10 "the subscription" active
arrives fast/open 1
arrives fast/secret 1
is .publishes.FAST 2 && is .reloaded false || fail "not fast: $(m slow)"

# ---- nobody has sent SIGHUP: an unsafe file changes nothing
printf 'listener 1883\nacl_file %s\n' "$LOGS/acl" >"$LOGS/other.conf"
rechecked "$LOGS/other.conf" 'offload is ON and goes on although this file is unsafe: toe mqtt mode suspend'
rechecked "$LOGS/none.conf" 'offload is ON and goes on although this file cannot be read: toe mqtt mode suspend'
m mode suspend
rechecked "$LOGS/other.conf" 'offload is off (mode suspended) and stays off'
m mode on
arrives fast/open 1a
is .publishes.FAST 3 || fail "not fast: $(m slow)"

# ---- as it was, and with a harmless change
reload 1
wait_for 2 "the configuration to be looked at" is .reloaded false
echo "max_queued_messages 100" >>"$LOGS/mosquitto.conf"
reload 2
wait_for 2 "the configuration to be looked at" is .reloaded false
[ "$(grep -c 'nothing makes MQTT offload unsafe' "$LOGS/mosquitto.log")" = 2 ] || fail "libtoe does not say so"
arrives fast/open 1b
is .publishes.FAST 4 && is .publishes.RELOAD 0 || fail "not fast: $(m slow)"

# ---- with an ACL
echo "acl_file $LOGS/acl" >>"$LOGS/mosquitto.conf"
reload 3
wait_for 2 "the configuration to be looked at" is .blocker "$LOGS/mosquitto.conf:7: acl_file"
is .reloaded true || fail "SIGHUP is not noticed: $(m status)"
publish fast/secret 2
arrives fast/open 2
is .publishes.FAST 4 && is .publishes.RELOAD 2 || fail "still fast: $(m slow)"
grep -q 'fast/secret 2' "$LOGS/sub.log" && fail "delivered what the ACL forbids"
m status | grep -q '^all slow for .*SIGHUP.*mosquitto.conf:7: acl_file; remove it' || fail "status does not say why: $(m status)"
rechecked "$LOGS/mosquitto.conf" 'offload stays suspended: this file is unsafe; all the same: toe mqtt mode on'
grep -q acl_file "$LOGS/recheck.txt" || fail "recheck does not name it: $(cat "$LOGS/recheck.txt")"
rechecked "$LOGS/none.conf" 'offload stays suspended: this file cannot be read'
is .reloaded true || fail "fast again in spite of it"

# ---- an operator who knows; the next time it is looked at again
m mode on
arrives fast/open 3
is .publishes.FAST 5 && is .blocker "" || fail "mode on: $(m slow)"
reload 4
wait_for 2 "the configuration to be looked at" is .blocker "$LOGS/mosquitto.conf:7: acl_file"

# ---- without it again
sed -i '/^acl_file/d' "$LOGS/mosquitto.conf"
reload 5
wait_for 2 "the configuration to be looked at" is .reloaded false
arrives fast/secret 4
is .publishes.FAST 6 || fail "not fast again: $(m slow)"

# ---- a broker that is started anew, so that nobody sees which configuration it has
echo "acl_file $LOGS/acl" >>"$LOGS/mosquitto.conf"
reload 6
wait_for 2 "the configuration to be looked at" is .blocker "$LOGS/mosquitto.conf:7: acl_file"
sed -i '/^acl_file/d' "$LOGS/mosquitto.conf"
end_process "$BROKER_PID"
wait_for 10 "the subscriber to go" is .connections 0
app mosquitto sh -c "exec mosquitto -c '$LOGS/mosquitto.conf'"
BROKER_PID=$SPAWNED
wait_for 10 mosquitto broker_answers
wait_for 10 "the subscription" active
is .reloaded false || fail "SIGHUP of another broker counts"
arrives fast/open 6
is .publishes.FAST 7 || fail "not fast after a restart: $(m slow)"
reload 1
arrives fast/open 7
is .publishes.FAST 7 && is .blocker "" || fail "fast before anybody looked: $(m slow)"
m status | grep -q '^all slow for .*SIGHUP.*toe mqtt recheck' || fail "status does not say what to do: $(m status)"
m recheck "$LOGS/mosquitto.conf" >"$LOGS/recheck.txt"
is .reloaded false || fail "not fast again: $(m status)"
arrives fast/open 8
is .publishes.FAST 8 || fail "not fast again: $(m slow)"
