#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A subscriber that stops reading while the broker has megabytes for it loses copies of its own and nothing else
# happens: everything that can be fast stays fast, arrives at all others at once, also between slow messages of the
# same publisher; what the stopped one gets in the end is in order, and what it does not get is counted.
# PLACEMENTS: single spread
# TIMEOUT: 120
. "$(dirname "$0")/../lib/net.sh"
write_config 'mqtt: { ports = (1883); offload = ("live/#"); canary = 0; queue_messages = 500; };'
testbed_up
start_broker

m() { "$BIN/toe" mqtt "$@" || fail "toe mqtt $*: exit code $?"; }
of() { m status --json | jq -r "$1"; }
session() { m sessions --json | jq -r ".[] | select(.client_id == \"$1\") | .$2"; }
active() { [ "$(m subs --json | jq "[.[] | select(.client_id == \"$1\" and .state == \"active\")] | length")" = "$2" ]; }
blocked() { [ "$(session "$1" blocked)" = true ]; }
publish() { in_cli tests/mqtt/pub_lines.py $SRV || fail "pub_lines.py"; }
# counted REASON N: so many publishes since the last call of start_count
start_count() { m status --json >"$LOGS/before.json"; }
counted() { echo $(($(of ".publishes.$1") - $(json "$LOGS/before.json" ".publishes.$1"))); }
got() { awk -v t="$2" '$1 == t { print $2 }' "$LOGS/$1.log"; }
# all TOPIC FIRST LAST: each healthy subscriber has them all, once, in order
all()
{
	local s
	for s in sub.1 sub.2 sub.3; do
		wait_for 20 "message $3 of $1 at $s" grep -q "^$1 $3 *\$" "$LOGS/$s.log"
		cmp -s <(got $s "$1") <(seq "$2" "$3") || fail "$s, $1: not $2 to $3, once, in order"
	done
}

for i in 1 2 3; do
	cli_spawn sub.$i stdbuf -oL mosquitto_sub -i healthy$i -h $SRV -t 'live/#' -v
	wait_for 10 "subscription $i" active healthy$i 1
done
cli_spawn stopped stdbuf -oL mosquitto_sub -i stopped -h $SRV -t 'live/#' -t 'bulk/#' -v
STOPPED=$SPAWNED
wait_for 10 "the one that will stop" active stopped 2

# ---- it stops; the broker gets more for it than buffers take
kill -STOP "$STOPPED"
seq 200 | awk '{ print "bulk/" $1, 1, $1, 60000 }' | publish
wait_for 20 "the broker to fall behind with it" blocked stopped

# ---- fast messages stay fast
start_count
seq 2000 | awk '{ print "live/a", 0, $1 }' | publish
all live/a 1 2000
[ "$(counted FAST)" = 2000 ] || fail "$(counted FAST) of 2000 were fast: $(m slow)"
blocked stopped || fail "it is not stopped any more"
[ "$(of .counters.DROP_QUEUE)" -ge 1500 ] || fail "its queue is not bounded: $(session stopped deferred) copies wait"

# ---- every other message slow: nobody waits a second for each
start_count
before=$SECONDS
seq 400 | awk '{ print "live/b", $1 % 2, $1 }' | publish
all live/b 1 400
[ $((SECONDS - before)) -lt 20 ] || fail "the publisher was made to wait: $((SECONDS - before)) s"
[ "$(counted FAST)" = 200 ] && [ "$(counted RETAIN)" = 200 ] || fail "$(counted FAST) of 200 were fast: $(m slow)"

# ---- it goes on: what the broker had for it, then what waited, none twice, none out of order
kill -CONT "$STOPPED"
wait_for 30 "what it missed" grep -q '^live/b 399 *$' "$LOGS/stopped.log"
unblocked() { ! blocked stopped; }
wait_for 20 "the broker to catch up" unblocked
echo 'live/end 0 1' | publish
wait_for 20 "the last message" grep -q '^live/end' "$LOGS/stopped.log"
for t in live/a live/b; do
	got stopped $t | sort -nuc || fail "$t out of order at the one that had stopped"
done
[ "$(got stopped live/b | awk '$1 % 2' | wc -l)" = 200 ] || fail "what the broker delivers was lost"
[ "$(grep -c '^bulk/' "$LOGS/stopped.log")" = 200 ] || fail "bulk messages were lost"
n=$(($(got stopped live/a | wc -l) + $(got stopped live/b | awk '!($1 % 2)' | wc -l) + $(session stopped dropped)))
[ $n = 2200 ] || fail "$n of 2200 copies arrived or were counted as dropped"

# ---- one that subscribes to the same megabytes and reads nothing of them: slow for a moment, then not
cli_spawn mute bash -c 'exec 3<>/dev/tcp/'$SRV'/1883
printf "\020\020\0\004MQTT\004\002\0\0\0\004mute\202\024\0\001\0\006bulk/#\0\0\006live/#\0" >&3; exec sleep 100'
MUTE=$SPAWNED
wait_for 20 "the broker to fall behind with the mute one" blocked mute
fast_again() { start_count; echo 'live/probe 0 1' | publish; [ "$(counted FAST)" = 1 ]; }
wait_for 20 "its topics to be fast" fast_again
start_count
seq 1000 | awk '{ print "live/c", 0, $1 }' | publish
all live/c 1 1000
[ "$(counted FAST)" = 1000 ] || fail "$(counted FAST) of 1000 were fast: $(m slow)"
[ "$(of .counters.DROP_UNPROVEN)" -ge 1000 ] || fail "its copies are not counted"
end_process "$MUTE"
not_in_kernel 1883 || fail "the kernel has connections of the broker"
say "fast share stays; $(of '.counters | "dropped for the stopped ones: \(.DROP_QUEUE) \(.DROP_BLOCKED) \(.DROP_UNPROVEN)"')"
