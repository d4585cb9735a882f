#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The keeper is killed: toe status says what is left taken over, toe down puts it back without being told a
# configuration, and removes what is stale, also when the engine's copy of the configuration is gone.  DPDK's files go
# with every engine: after toe down, after a killed datapath, after a killed keeper.
# PLACEMENTS: single single+af_xdp
. "$(dirname "$0")/../lib/net.sh"
testbed_up
LOCK=/run/toe-port-toe0.$(stat -Lc %i "/run/netns/$PREFIX-srv").lock

dpdk_dir() { echo "/run/dpdk/$(cat "$RUN_DIR/datapath.prefix")"; }
DPDK=$(dpdk_dir)
up() { in_srv "$BIN/toe" up --config "$ENGINE_CONFIG" >"$LOGS/up.log" 2>&1 || fail "toe up: $(tail -1 "$LOGS/up.log")"; }
# port: all that is taken over
port()
{
	ip -n "$PREFIX-srv" -o addr show dev toe0 | awk '{ print $4 }' | sort
	ip -n "$PREFIX-srv" route show dev toe0
	in_srv sysctl -n net.ipv6.conf.toe0.disable_ipv6
	in_srv nft list tables
	in_srv ip -d link show dev toe0 | grep -o 'prog/xdp.* name [^ ]*'
}
# as_before WHAT: nothing of the engine is left
as_before()
{
	local file
	diff <(port) "$LOGS/port.before" || fail "$1: the port is not as before"
	[ ! -e "$LOCK" ] || fail "$1: $LOCK is left"
	for file in control.sock keeper.sock modules.sock keeper.pid engine.conf datapath.prefix; do
		[ ! -e "$RUN_DIR/$file" ] || fail "$1: $file is left"
	done
	[ ! -e "$DPDK" ] || fail "$1: $DPDK is left: $(ls "$DPDK")"
}
kill_keeper()
{
	local keeper
	keeper=$(cat "$RUN_DIR/keeper.pid")
	kill -9 "$keeper"
	wait_for 5 "the keeper to go" gone "$keeper"
}
# down WANT TEXT [LINES]: exit code and what is said by toe down, in the namespace of the port, without a configuration
down()
{
	in_srv "$BIN/toe" down >"$LOGS/down.log" 2>&1
	rc=$?
	[ $rc -eq "$1" ] && [ "$(wc -l <"$LOGS/down.log")" = "${3:-1}" ] && grep -qF "$2" "$LOGS/down.log" ||
		fail "toe down: exit code $rc, $(cat "$LOGS/down.log")"
}

[ -e "$DPDK/config" ] || fail "DPDK keeps its files elsewhere than in $DPDK"
down 0 'engine is down'
[ ! -e "$DPDK" ] || fail "toe down: $DPDK is left: $(ls "$DPDK")"
in_srv ip addr add 192.0.2.1/24 dev toe0
in_srv ip route add 198.51.100.0/24 via 192.0.2.2
port >"$LOGS/port.before"
as_before "toe down"
down 69 'no engine is running'

# ---- with the copy of the configuration
up
kill_keeper
in_srv "$BIN/toe" status 2>"$LOGS/status.log"
[ $? -eq 69 ] && grep -q 'a killed engine left toe0 taken over: toe down$' "$LOGS/status.log" ||
	fail "status: $(cat "$LOGS/status.log")"
[ "$(in_srv "$BIN/toe" status --json | jq -c .taken_over)" = '["toe0"]' ] || fail "status --json"
in_srv setpriv --reuid=65534 --regid=65534 --clear-groups "$BIN/toe" status 2>&1 | grep -q 'left toe0' ||
	fail "status of another user says nothing"
in_srv setpriv --reuid=65534 --regid=65534 --clear-groups "$BIN/toe" down >/dev/null 2>&1
[ $? -eq 77 ] || fail "toe down of another user: exit code is not 77"
down 0 'keeper was gone; put back toe0'
as_before "killed keeper"
down 69 'no engine is running'

# ---- without; another file that DPDK did not make stays, where a link leads to as well
up
touch "$LOGS/elsewhere"
ln -s "$LOGS/elsewhere" "$DPDK/fbarray_link"
touch "$DPDK/mine"
kill_keeper
rm "$RUN_DIR/engine.conf"
"$BIN/toe" status 2>&1 | grep -q 'taken over' && fail "in another namespace there is no such port"
down 0 'put back toe0' 2 # and that this file is in the way
[ "$(ls "$DPDK")" = mine ] && [ -e "$LOGS/elsewhere" ] || fail "not only DPDK's files: $(ls "$DPDK")"
rm "$DPDK/mine"
rmdir "$DPDK"
as_before "killed keeper, no engine.conf"

# ---- a killed datapath is the end of the engine
up
kill -9 "$(pid_of toe-datapath)"
wait_for 10 "the keeper to end" [ ! -e "$RUN_DIR/keeper.pid" ]
as_before "killed datapath"

# ---- a testbed whose engine was killed and whose port is gone
up
kill_keeper
ip -n "$PREFIX-srv" link del toe0
"$BIN/toe" testbed down --prefix "$PREFIX" >"$LOGS/down.log" 2>&1 || fail "testbed down: $(cat "$LOGS/down.log")"
[ ! -e "$DPDK" ] || fail "testbed down: $DPDK is left"
NET_UP=0
for file in "/run/netns/$PREFIX-srv" "/run/netns/$PREFIX-cli" "$RUN_DIR"; do
	[ ! -e "$file" ] || fail "$file is left"
done
