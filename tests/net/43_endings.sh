#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A program is killed with its connection in each of eleven states: what the other side sees, and how soon, is
# what Linux would have given it.  The same cases run on the kernel and on the engine; the transcripts must agree.
# PLACEMENTS: single spread
. "$(dirname "$0")/../lib/net.sh"
write_config 'tcp: { time_wait_ms = 1000; };'
testbed_up
ENDINGS=$BIN/tests/progs/endings
CASES='idle queued halfclosed unread both word linger backlog talk drain child'

conns() { "$BIN/toe" conns --json | jq "[.conns[] | select($1)] | length"; }
only_orphans() { [ "$(conns .orphan)" -ge 1 ] && [ "$(conns '.orphan | not')" = 0 ]; }
nothing_left() { [ "$(conns true)" = 0 ]; }
ms() { echo $(($(date +%s%N) / 1000000)); }

# one_case STACK CASE PORT: appends the client's transcript
one_case()
{
	local stack=$1 name=$2 port=$3 log=$1.$2 server client begin limit=1000
	if [ "$stack" = engine ]; then
		app "$log.server" "$ENDINGS" server "$name" --port "$port"
	else
		srv_spawn "$log.server" "$ENDINGS" server "$name" --port "$port"
	fi
	server=$SPAWNED
	wait_for 10 "$log: listening" grep -q listening "$LOGS/$log.server.log"
	cli_spawn "$log.client" "$ENDINGS" client "$name" --host "$SRV" --port "$port" --go "$LOGS/$log.go"
	client=$SPAWNED
	wait_for 10 "$log: staged" grep -q staged "$LOGS/$log.server.log"
	kill -9 "$server"
	wait "$server" 2>/dev/null
	if [ "$name" = drain ]; then
		if [ "$stack" = engine ]; then
			wait_for 3 "$log: an orphan and nothing else in toe conns" only_orphans
		fi
		gone "$client" && fail "$log: client ended early: $(cat "$LOGS/$log.client.log")"
	fi
	touch "$LOGS/$log.go"
	begin=$(ms)
	[ "$name" = drain ] && limit=4000 # a window that had been shut opens by probes
	[ "$name" = child ] && limit=3000
	wait_for 10 "$log: the client to see the end" gone "$client"
	wait "$client" || fail "$log: $(tail -1 "$LOGS/$log.client.log")"
	begin=$(($(ms) - begin))
	[ $begin -lt $limit ] || fail "$log: the end was seen after $begin ms"
	{
		echo "$name:"
		uniq -c "$LOGS/$log.client.log"
	} >>"$LOGS/transcript.$stack"
	if [ "$stack" = engine ]; then
		wait_for 5 "$log: engine to forget the connection" nothing_left
	fi
}

for stack in kernel engine; do
	port=7300
	for name in $CASES; do
		# a port of its own each: the kernel's TIME-WAIT is not the subject
		one_case $stack "$name" $port
		port=$((port + 1))
	done
done
diff "$LOGS/transcript.kernel" "$LOGS/transcript.engine" || fail "the engine ends connections unlike the kernel"
cat "$LOGS/transcript.engine"
