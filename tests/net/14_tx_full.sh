#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An interface that takes almost nothing for a while: its qdisc drops most of a burst.  Frames behind a dropped one must
# not stay in the port's ring, to leave with whatever is sent next; and when the interface is itself again, everything
# arrives.
# PLACEMENTS: stage
. "$(dirname "$0")/../lib/net.sh"
only_driver af_packet "af_xdp sends past the qdisc"
N=70
testbed_up
start_broker

mqtt() { "$BIN/toe" mqtt status --json | jq -e "$1"; }
SUBS=()
for i in $(seq $N); do
	cli_spawn "sub.$i" mosquitto_sub -h $SRV -t t -C 1 -W 60
	SUBS+=("$SPAWNED")
done
mkfifo "$LOGS/publish"
cli_spawn pub sh -c "exec mosquitto_pub -h $SRV -t t -l <'$LOGS/publish'"
exec 9>"$LOGS/publish"
wait_for 20 "$N subscribers and a publisher" mqtt ".connections == $N + 1 and .counters.ACTIVATED == $N"

# packets that the qdisc was given: sent, dropped or waiting
frames_tx() { "$BIN/toe" stats --json | jq .counters.frames_tx; }
given() { tc -n "$PREFIX-srv" -s -j qdisc show dev toe0 root | jq '.[0] | .packets + .drops + .qlen'; }
before=$(frames_tx)
tc -n "$PREFIX-srv" qdisc replace dev toe0 root tbf rate 8kbit burst 1600 limit 1000 || fail "tc"
echo message >&9
wait_for 10 "the fan-out" mqtt ".counters.DELIVERED == $N"
nothing_left() { local tx; tx=$(frames_tx) && [ "$(given)" -ge $((tx - before)) ]; }
wait_for 10 "all frames of the engine to reach the qdisc" nothing_left
dropped=$(tc -n "$PREFIX-srv" -s -j qdisc show dev toe0 root | jq '.[0].drops')
say "$(($(frames_tx) - before)) frames sent, $dropped dropped"
[ "$dropped" -ge $((N / 2)) ] || fail "the interface dropped only $dropped frames: nothing was tried"

tc -n "$PREFIX-srv" qdisc del dev toe0 root || fail "tc"
for sub in "${SUBS[@]}"; do
	wait "$sub" || fail "a subscriber did not get the message"
done
[ "$(cat "$LOGS"/sub.*.log | sort | uniq -c | awk '{ print $1, $2 }')" = "$N message" ] || fail "other messages"
