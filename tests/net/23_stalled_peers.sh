#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Peers and applications that stop reading for seconds, and peers that vanish in the middle: windows close and
# open again without a byte lost, also when the segment that says so is; nothing is left behind.
# PLACEMENTS: single spread
# TIMEOUT: 120
. "$(dirname "$0")/../lib/net.sh"
write_config 'tcp: { time_wait_ms = 1000; };'
testbed_up

CLIENT=$BIN/tests/progs/tcp_client

conns() { "$BIN/toe" conns --json | jq "[.conns[] | select($1)] | length"; }
no_connections() { [ "$(conns '.state != "TIME-WAIT"')" = 0 ]; }
pools() { "$BIN/toe" stats pools --json | jq -r '[.[] | .in_use] | join(",")'; }
counter() { "$BIN/toe" stats --json | jq ".counters.$1 // 0"; }
stands_still() { local n; n=$(counter segs_data_rx) && sleep 0.3 && [ "$(counter segs_data_rx)" = "$n" ]; }

# client NAME BYTES [ARGS...]: in CLIENT_PID, returns when it is connected
client()
{
	local name=$1 bytes=$2
	shift 2
	cli_spawn "$name" "$CLIENT" --host "$SRV" --port 7000 --bytes "$bytes" --timeout 60 "$@"
	CLIENT_PID=$SPAWNED
	wait_for 5 "$name: connection" grep -q connected "$LOGS/$name.log"
}
ends_well() { wait "$1" || fail "$2: $(tail -1 "$LOGS/$2.log")"; }

# the program behind toe run, not toe run
program()
{
	local p
	for p in $(ip netns pids "$PREFIX-srv"); do
		[ "$(readlink "/proc/$p/exe")" = "$BIN/tests/progs/echo_server" ] && echo "$p" && return
	done
	fail "no echo_server"
}

start_echo 7000 et
client warm 100000
ends_well "$CLIENT_PID" warm
wait_for 5 "connections to end" no_connections

client reader 30000000 --rate 10000000
kill -STOP "$CLIENT_PID" # the peer reads nothing: its window closes
wait_for 5 "peer's window to close" stands_still
sleep 2
kill -CONT "$CLIENT_PID"
ends_well "$CLIENT_PID" reader

client writer 30000000
server=$(program)
kill -STOP "$server" # our application reads nothing: our window closes
wait_for 5 "our window to close" stands_still
sleep 2
kill -CONT "$server"
ends_well "$CLIENT_PID" writer

# the window opens while nothing gets through
client deaf 10000000
kill -STOP "$server"
wait_for 5 "our window to close" stands_still
in_cli nft -f - <<-'END' || fail "nft"
	table ip deaf {
		chain in {
			type filter hook input priority 0
			tcp sport 7000 drop
		}
	}
END
kill -CONT "$server"
sleep 1.5
in_cli nft flush ruleset
ends_well "$CLIENT_PID" deaf

wait_for 10 "connections to end" no_connections
for i in 1 2 3 4 5; do # peers that die in the middle: RST
	client "victim.$i" 200000000
	kill -KILL "$CLIENT_PID"
	wait "$CLIENT_PID" 2>/dev/null
done
wait_for 10 "connections to end" no_connections
client last 1000000
ends_well "$CLIENT_PID" last
wait_for 10 "connections to end" no_connections
say "pools: $(pools), $(counter probes) probes, $(counter rto) timeouts"
