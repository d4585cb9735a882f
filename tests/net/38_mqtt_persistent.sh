#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A broker with a database is started again: sessions it restores are known to the stage, so topics stay fast when
# their clients come back, who get what they are subscribed to and nothing else, once.  With a configuration nobody
# sees they are unknown, and status says so and what to do.  A session that is resumed through the kernel makes only its own
# topics slow.  So are sessions unknown if a script starts the broker again within one `toe run`; two brokers in one are
# told apart.
# PLACEMENTS: single spread
# TIMEOUT: 150
. "$(dirname "$0")/../lib/net.sh"
write_config 'mqtt: { ports = (1883, 1884); offload = ("fast/#"); canary = 0; };'
testbed_up
DB=$LOGS/db
mkdir -m 777 "$DB"
write_mosquitto_conf
sed -i '/^persistence/d' "$LOGS/mosquitto.conf"
cat >>"$LOGS/mosquitto.conf" <<-END
	persistence true
	persistence_location $DB
	persistence_file sessions.db
	user root
END

CLIENTS=()
m() { "$BIN/toe" mqtt "$@" || fail "toe mqtt $*: exit code $?"; }
of() { m status --json | jq -r "$1"; }
is() { [ "$(of "$1")" = "$2" ]; }
# states ID: "filter state ..." of its subscriptions
states() { m subs --json | jq -r "[.[] | select(.client_id == \"$1\") | \"\(.filter) \(.state)\"] | sort | join(\", \")"; }
states_are() { [ "$(states "$1")" = "$2" ]; }
start_db() # N: for the Nth time
{
	app "mosquitto.$1" mosquitto -c "$LOGS/mosquitto.conf"
	BROKER_PID=$SPAWNED
	wait_for 10 mosquitto broker_answers
}
stop_db() { end_process "$BROKER_PID" && wait_for 10 "its clients to go" is .connections 0; }
# keeps NAME ARGS...: a client that leaves a session, MQTT 3.1.1, with those subscriptions
keeps() { local n=$1; shift; in_cli mosquitto_sub -i "$n" -c -h $SRV -E "$@" || fail "$n"; }
# back NAME ARGS...: it comes back
back()
{
	local n=$1
	shift
	cli_spawn "sub.$n" stdbuf -oL mosquitto_sub -d -i "$n" -c -h $SRV -v "$@"
	CLIENTS+=("$SPAWNED")
	wait_for 10 "$n to be back" grep -q 'received CONNACK (0)' "$LOGS/sub.$n.log"
}
publish() { seq "$2" "$3" | in_cli mosquitto_pub -h $SRV -t "$1" -l || fail mosquitto_pub; }
# has NAME TOPIC FIRST LAST: those, once, in order
has()
{
	wait_for 10 "message $4 of $2 at $1" grep -qx "$2 $4" "$LOGS/sub.$1.log"
	cmp -s <(grep "^$2 " "$LOGS/sub.$1.log") <(seq "$3" "$4" | sed "s|^|$2 |") || fail "$1, $2: not $3 to $4, once, in order"
}

start_db 1
keeps one -q 1 -t 'fast/+' -t gone
keeps one -q 1 -t fast/one -U gone # one more and one less
keeps two -q 1 -V 5 -x 3600 -t fast/two -D subscribe subscription-identifier 300
keeps old -V 31 -t 'fast/old/#'
# shellcheck disable=SC2016 # as it is
keeps none -t '$share/g/fast/shared' # not in a database of mosquitto's: nor is it there afterwards
stop_db
[ -s "$DB/sessions.db" ] || fail "the broker has written no database"

# ---- known: nothing is unknown when they come back, and everything is fast
start_db 2
grep -q 'sessions.db: 4 sessions, known' "$LOGS/mosquitto.2.log" || fail "libtoe does not tell: $(cat "$LOGS/mosquitto.2.log")"
is .counters.RESTORED 4 || fail "not restored: $(m status --json)"
states_are one 'fast/+ active, fast/one active' && states_are two 'fast/two active' && states_are old 'fast/old/# active' &&
	states_are none '' || fail "subscriptions: $(m subs)"
# -t: as mosquitto_sub needs one; a topic of nobody else's
back one -q 1 -t more/one
back two -V 5 -x 3600 -q 1 -t more/two
back old -V 31 -t more/old
back none -t more/none
is .unknown_sessions 0 || fail "unknown: $(m sessions)"
proven() { states_are one 'fast/+ active, fast/one active, more/one active' && states_are two 'fast/two active, more/two active' &&
	states_are old 'fast/old/# active, more/old active'; }
wait_for 10 "their subscriptions to be proven" proven
before=$(of .publishes.FAST)
publish fast/one 1 20
publish fast/two 1 20
publish fast/old/x 1 20
publish fast/shared 1 20
has one fast/one 1 20
has one fast/shared 1 20
has one fast/two 1 20
has two fast/two 1 20
has old fast/old/x 1 20
is .publishes.FAST $((before + 80)) || fail "not fast: $(m slow)"
grep -q '^fast/shared' "$LOGS/sub.none.log" && fail "a shared subscription the broker does not have"
[ "$(grep -c '^fast/' "$LOGS/sub.two.log" "$LOGS/sub.old.log" | cut -d: -f2 | paste -sd' ')" = "20 20" ] || fail "too much was delivered"
stop_db

# ---- started so that nobody sees which configuration it has: unknown, and said; known again after the next start
app mosquitto.3 sh -c "exec mosquitto -c '$LOGS/mosquitto.conf'"
BROKER_PID=$SPAWNED
wait_for 10 mosquitto broker_answers
is .counters.RESTORED 4 || fail "restored: $(m status --json)"
wait_for 10 "all of them to be back" is .unknown_sessions 4
m status | grep -q '^all slow for  *4 sessions.*toe mqtt sessions.*start the broker again' || fail "status does not say why: $(m status)"
before=$(of .publishes.UNKNOWN)
publish fast/one 21 40
has one fast/one 1 40
is .publishes.UNKNOWN $((before + 20)) || fail "not slow: $(m slow)"
# one more session, of a client through the kernel
ip -n "$PREFIX-srv" link set lo up
in_srv mosquitto_sub -i local -c -h 127.0.0.1 -E -q 1 -t fast/local || fail local
stop_db
start_db 4
wait_for 10 "all of them to be back" is .connections 4
is .unknown_sessions 0 || fail "unknown: $(m sessions)"

# ---- it comes back, through the kernel: what it is subscribed to is slow, and nothing else
srv_spawn sub.local stdbuf -oL mosquitto_sub -d -i local -c -h 127.0.0.1 -v -q 1 -t fast/more
CLIENTS+=("$SPAWNED")
wait_for 10 "local to subscribe" grep -q 'Subscribed (mid' "$LOGS/sub.local.log"
is '"\(.kernel_conns) \(.kernel_followed)"' "1 1" || fail "not followed: $(m status --json)"
wait_for 10 "all subscriptions to be proven" proven
fast=$(of .publishes.FAST) kernel=$(of .publishes.KERNEL)
publish fast/one 41 60
publish fast/local 1 20
publish fast/more 1 20
has one fast/one 1 60
has local fast/local 1 20
has local fast/more 1 20
is .publishes.FAST $((fast + 20)) && is .publishes.KERNEL $((kernel + 40)) || fail "not as it should be: $(m slow)"

# ---- started again by a script, within one `toe run`: what the stage knows is of the broker before, and the database is
# older than that
for p in "${CLIENTS[@]}"; do
	end_process "$p"
done
stop_db
rm -f "$DB"/*
conf=$LOGS/mosquitto.conf
app mosquitto.5 sh -c "mosquitto -c '$conf'; exec mosquitto -c '$conf'"
BROKER_PID=$SPAWNED
wait_for 10 mosquitto broker_answers
keeps again -q 1 -t fast/then
first=$(cat "/proc/$BROKER_PID/task/$BROKER_PID/children")
kill -USR1 "$first"
wait_for 10 "the database" [ -s "$DB/sessions.db" ]
keeps again -q 1 -t fast/later
states_are again 'fast/later active, fast/then active' || fail "subscriptions: $(m subs)"
kill -9 "$first"
wait_for 10 "the next mosquitto" broker_answers
before=$(of .publishes.UNKNOWN)
back again -q 1 -t more/again
publish fast/later 1 20
publish fast/then 1 20
has again fast/then 1 20
grep -q '^fast/later' "$LOGS/sub.again.log" && fail "delivered, though the broker knows of no such subscription"
is .publishes.UNKNOWN $((before + 40)) || fail "not slow: $(m slow)"

# ---- two brokers within one `toe run`: nothing of one reaches clients of the other
for p in "${CLIENTS[@]}"; do
	end_process "$p"
done
stop_db
rm -f "$DB"/*
printf 'listener 1884\nallow_anonymous true\n' >"$LOGS/second.conf"
app mosquitto.6 sh -c "mosquitto -c '$LOGS/second.conf' & exec mosquitto -c '$conf'"
BROKER_PID=$SPAWNED
wait_for 10 "both brokers" eval 'broker_answers 1884 && broker_answers'
PIDS+=("$(cat "/proc/$BROKER_PID/task/$BROKER_PID/children")") # the second
wait_for 10 "nobody to be there" is .connections 0
back here -q 1 -t 'fast/#'
cli_spawn sub.there stdbuf -oL mosquitto_sub -d -h $SRV -p 1884 -v -t 'fast/#'
wait_for 10 "the second's client to subscribe" grep -q 'Subscribed (mid' "$LOGS/sub.there.log"
is .untracked 1 || fail "not told apart: $(m status --json)"
publish fast/here 1 20
has here fast/here 1 20
in_cli mosquitto_pub -h $SRV -p 1884 -t fast/there -m 1
has there fast/there 1 1
! grep -q '^fast/here' "$LOGS/sub.there.log" || fail "of the first broker, delivered to a client of the second"
! grep -q '^fast/there' "$LOGS/sub.here.log" || fail "of the second broker, delivered to a client of the first"
