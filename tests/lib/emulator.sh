# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Sourced by tests/net/*.sh and bench/loss.sh: puts tests/progs/netem between two namespaces that share a veth pair
# toe0 - cli0, of the testbed or of bench/lib.sh.  The client's end moves into a third namespace:
#
#    SRV toe0 ---- mid-a [netem] mid-b ---- cli0 CLI (10.99.0.2)
#
# So that a = the server's side: netem counts "ab" from server to client, "ba" from client to server.
# Needs BIN and an array PIDS of processes to end; functions return 1 and say why.

EMULATOR_PID=''

# pid_end PID: ends a process of PIDS and forgets it; the number may soon be somebody else's.
pid_end()
{
	local p left=()
	kill "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	for p in "${PIDS[@]}"; do
		[ "$p" != "$1" ] && left+=("$p")
	done
	PIDS=("${left[@]}")
}

# emulator_path SRV CLI MID: before there was any traffic; the client's end is a new one, with a new MAC address.
emulator_path()
{
	local srv=$1 cli=$2 mid=$3 dev
	ip netns add "$mid" &&
		ip netns exec "$mid" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 &&
		ip -n "$cli" link set cli0 down &&
		ip -n "$cli" link set cli0 netns "$mid" name mid-a &&
		ip link add cli0 netns "$cli" type veth peer name mid-b netns "$mid" || return 1
	for dev in mid-a mid-b; do
		ip netns exec "$mid" ethtool -K $dev tx off rx off tso off gso off gro off >/dev/null 2>&1
		# nobody resolves addresses here, and nothing is for us
		ip -n "$mid" link set $dev arp off up || return 1
	done
	ip netns exec "$cli" ethtool -K cli0 tx off rx off tso off gso off gro off >/dev/null 2>&1
	ip -n "$cli" addr add 10.99.0.2/24 dev cli0 && ip -n "$cli" link set cli0 up || return 1
	for _ in $(seq 200); do
		[ "$(ip -n "$mid" -br link | grep -c '^mid-.* UP ')" = 2 ] &&
			ip -n "$srv" -br link show toe0 | grep -q ' UP ' &&
			ip -n "$cli" -br link show cli0 | grep -q ' UP ' && return 0
		sleep 0.02
	done
	echo "emulator: links are not up"
	return 1
}

# emulator_start MID LOG ARGS...: forwards from when this returns; pid in EMULATOR_PID.
emulator_start()
{
	local mid=$1 log=$2
	shift 2
	: >"$log"
	ip netns exec "$mid" "$BIN/tests/progs/netem" --a mid-a --b mid-b "$@" >"$log" 2>&1 </dev/null &
	EMULATOR_PID=$!
	PIDS+=("$EMULATOR_PID")
	for _ in $(seq 200); do
		grep -q ready "$log" && return 0
		kill -0 "$EMULATOR_PID" 2>/dev/null || break
		sleep 0.02
	done
	echo "emulator: $(tail -1 "$log")"
	return 1
}

# emulator_stop LOG: what happened is then the last line of LOG.
emulator_stop()
{
	pid_end "$EMULATOR_PID"
	grep -q '^{"ab"' "$1" && return 0
	echo "emulator: $(tail -1 "$1")"
	return 1
}
