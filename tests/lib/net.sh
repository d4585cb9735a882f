# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Sourced by tests/net/*.sh and tests/demo.sh: a testbed of two namespaces, programs in them, waiting for
# conditions, and an EXIT trap that undoes everything by what this script itself started.
#
#    PREFIX-cli (kernel TCP, 10.99.0.2) ---- veth ---- toe0 PREFIX-srv (engine, TAP 10.99.0.1)
#               fd00:99::2                                              fd00:99::1
#
# Environment from tests/run-net: B, PREFIX, TOE_PLACEMENT (single|spread|stage), LOGS, DRIVER (port.driver of the
# testbed's engine, empty: the configuration's).

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
: "${B:=build}" "${TOE_PLACEMENT:=single}" "${DRIVER:=}"
: "${PREFIX:=tn$$}" "${LOGS:=$B/test-logs/$(basename "$0" .sh).$TOE_PLACEMENT}"
mkdir -p "$LOGS"
LOGS=$(realpath "$LOGS")
ROOT=$PWD
BIN=$ROOT/$B
SRV=10.99.0.1
CLI=10.99.0.2
# shellcheck disable=SC2034
SRV6=fd00:99::1 CLI6=fd00:99::2
RUN_DIR=/run/toe-$PREFIX
CONFIG=$LOGS/toe.conf           # what this test wants
ENGINE_CONFIG=$RUN_DIR/testbed.conf # that and the testbed's own, for toe up
export TOE_RUN_DIR=$RUN_DIR
# Configuration lines that put every topic through the MQTT stage.
# shellcheck disable=SC2034
MQTT_ON='mqtt: { ports = ( 1883 ); offload = ( "#" ); };'
PIDS=()
NET_UP=0

say() { printf '%s\n' "$*"; }
fail() { say "FAIL: $*"; exit 1; }
skip() { say "SKIP: $*"; exit 77; }

# Runs in the namespace, replacing nothing: exec all the way, so that a background pid is the program's.
in_srv() { ip netns exec "$PREFIX-srv" "$@"; }
in_cli() { ip netns exec "$PREFIX-cli" "$@"; }

# wait_for SECONDS WHAT COMMAND...: until the command succeeds; fails the test after SECONDS.
wait_for()
{
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -ge $end ] && fail "waited in vain for $what"
		sleep 0.05
	done
}

# spawn NAME COMMAND...: in the background, output in $LOGS/NAME.log, pid in $SPAWNED and PIDS.
spawn()
{
	local name=$1
	shift
	: >"$LOGS/$name.log" # before anybody looks: a name may be used again
	"$@" >"$LOGS/$name.log" 2>&1 </dev/null &
	SPAWNED=$!
	PIDS+=("$SPAWNED")
}
srv_spawn() { local n=$1; shift; spawn "$n" ip netns exec "$PREFIX-srv" "$@"; }
cli_spawn() { local n=$1; shift; spawn "$n" ip netns exec "$PREFIX-cli" "$@"; }
# app NAME COMMAND...: a program whose TCP is the engine's.
app() { local n=$1; shift; srv_spawn "$n" "$BIN/toe" run -- "$@"; }

gone() { ! kill -0 "$1" 2>/dev/null; }

# end_process PID [SECONDS]: SIGTERM, then SIGKILL; only pids of ours.
end_process()
{
	local i
	kill "$1" 2>/dev/null || return 0
	for ((i = 0; i < ${2:-3} * 20; i++)); do
		gone "$1" && return 0
		sleep 0.05
	done
	kill -9 "$1" 2>/dev/null
}

# pid_of toe-datapath: of this testbed's engine, by program file and run directory.
pid_of()
{
	local p
	for p in $(ip netns pids "$PREFIX-srv" 2>/dev/null); do
		if [ "$(readlink "/proc/$p/exe")" = "$BIN/$1" ]; then
			echo "$p"
			return 0
		fi
	done
	return 1
}

# CPU time of a process with all its threads, in clock ticks (100 per second).
cpu_ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }

# ---- engine -----------------------------------------------------------------------------------------

# write_config [LINES...]: the placement asked for, plus lines of other groups.
write_config()
{
	{
		if [ "$TOE_PLACEMENT" = spread ]; then
			cat <<-'END'
			pipeline: {
				pre = 2; post = 2; reorder_inject = 7;
				lcores = ( "0: netif_rx netif_tx exception seq reorder egress stream sched ctrl pre.0 post.0",
				           "1: pre.1 post.1 proto dma ctxq" );
			};
			END
		else
			echo 'pipeline: { lcores = ( "0: all" ); };'
		fi
		[ "$TOE_PLACEMENT" = stage ] && echo "$MQTT_ON"
		printf '%s\n' "$@"
	} >"$CONFIG"
}

# only_driver NAME WHY: with others the test has no meaning
only_driver() { [ "${DRIVER:-$1}" = "$1" ] || skip "only with $1: $2"; }

# skip_without_driver: this machine cannot have it, so that anything else is a failure
skip_without_driver()
{
	[ "$DRIVER" = af_xdp ] || return 0
	compgen -G '/usr/lib/*/dpdk/pmds-*/librte_net_af_xdp.so*' >/dev/null || skip "DPDK has no net_af_xdp here"
	python3 -c 'import socket; socket.socket(44, socket.SOCK_RAW, 0)' 2>"$LOGS/socket.log" ||
		skip "no AF_XDP sockets here: $(tail -1 "$LOGS/socket.log")"
}

testbed_up()
{
	[ "$(id -u)" -eq 0 ] || skip "needs root"
	skip_without_driver
	[ "$TOE_PLACEMENT" = spread ] && [ "$(nproc)" -lt 2 ] && skip "needs two CPUs"
	[ -x "$BIN/toe" ] && [ -x "$BIN/toe-datapath" ] && [ -e "$BIN/libtoe.so" ] ||
		fail "engine is not built"
	[ -e "$CONFIG" ] || write_config
	# not ours to undo
	[ -e "/run/netns/$PREFIX-srv" ] || [ -e "/run/netns/$PREFIX-cli" ] &&
		fail "a testbed $PREFIX is up already; when nobody uses it: $B/toe testbed down --prefix $PREFIX"
	trap net_end EXIT
	trap 'exit 130' INT TERM
	NET_UP=1
	"$BIN/toe" testbed up --prefix "$PREFIX" --config-extra "$CONFIG" ${DRIVER:+--set "port.driver=$DRIVER"} \
		>"$LOGS/testbed.log" 2>&1 </dev/null ||
		{ tail -5 "$LOGS/testbed.log"; fail "testbed does not come up"; }
}

# net_end [STATUS]: undoes everything, whatever happened; never by a name that another test could have.
net_end()
{
	local rc=${1:-$?} p left
	trap - EXIT
	for p in "${PIDS[@]}"; do
		end_process "$p"
	done
	if [ $NET_UP = 1 ]; then
		cp -r "$RUN_DIR/log" "$LOGS/engine-log" 2>/dev/null
		"$BIN/toe" testbed down --prefix "$PREFIX" >>"$LOGS/testbed.log" 2>&1 </dev/null
		[ $? -ne 0 ] && [ "$rc" -eq 0 ] && say "FAIL: testbed down" && rc=1
		# of emulator_path and the like; the engine's port may go with it, so not before the testbed
		for p in mid far; do
			[ -e "/run/netns/$PREFIX-$p" ] && ip netns del "$PREFIX-$p"
		done
		# whatever is still in our own namespaces is ours
		left=$(ip netns pids "$PREFIX-srv" 2>/dev/null; ip netns pids "$PREFIX-cli" 2>/dev/null)
		for p in $left; do
			[ "$rc" -eq 0 ] && say "FAIL: left behind: $p $(readlink "/proc/$p/exe")" && rc=1
			kill -9 "$p" 2>/dev/null
		done
		for p in srv cli; do
			if [ -e "/run/netns/$PREFIX-$p" ]; then
				[ "$rc" -eq 0 ] && say "FAIL: namespace $PREFIX-$p left behind" && rc=1
				ip netns del "$PREFIX-$p" 2>/dev/null
			fi
		done
		if [ -d "$RUN_DIR" ]; then
			[ "$rc" -eq 0 ] && say "FAIL: $RUN_DIR left behind: $(ls "$RUN_DIR")" && rc=1
			rm -rf "$RUN_DIR"
		fi
	fi
	exit "$rc"
}

# The kernel of the server's namespace knows nothing of connections to PORT: the engine has them.
not_in_kernel()
{
	[ -z "$(in_srv ss -Htn state established "( sport = :$1 )")" ]
}

# link_local NAMESPACE-END INTERFACE: its address once nobody else can have it, as in `link_local srv toe-tap`
link_local()
{
	ip -n "$PREFIX-$1" -6 -o addr show dev "$2" scope link -tentative |
		awk '{ sub("/.*", "", $4); print $4; n++ } END { exit n != 1 }'
}

# Items and packet buffers in use.  With af_xdp 2048 buffers are the port's, and those that have been sent come back when
# others are sent, up to a ring of 1024 of them: that many are "the port's".
pools_held()
{
	local ports=0
	[ "$DRIVER" = af_xdp ] && ports=$((2048 + 1024))
	"$BIN/toe" stats pools --json | jq -r --argjson ports $ports '.mbuf.in_use |= (if . > 0 and . <= $ports then
		"the port'\''s" else . end) | [.[] | .in_use] | join(",")'
}

# What the engine holds, for comparison with before: pools_held, "connections half-open orphans SYN-SENT", "applications
# processes", "application free-slots" of each, listeners.
engine_held()
{
	local status
	status=$("$BIN/toe" status --json)
	pools_held
	jq -r '.controlplane | "\(.connections) \(.half_open) \(.orphans) \(.syn_sent)"' <<<"$status"
	jq -r '"\(.applications) \(.processes)", (.controlplane.apps[] | "\(.app) \(.slots_free)")' <<<"$status"
	"$BIN/toe" listeners --json | jq length
}

# ---- programs ---------------------------------------------------------------------------------------

# start_echo PORT MODE [ARGS...]: under the engine, returns when it listens.
start_echo()
{
	local port=$1 mode=$2
	shift 2
	app "echo.$port" "$BIN/tests/progs/echo_server" --port "$port" --mode "$mode" "$@"
	ECHO_PID=$SPAWNED
	wait_for 10 "echo server on port $port" grep -q ready "$LOGS/echo.$port.log"
}

write_mosquitto_conf()
{
	cat >"$LOGS/mosquitto.conf" <<-END
	listener ${1:-1883} 0.0.0.0
	allow_anonymous true
	persistence false
	max_queued_messages 0
	END
}

broker_answers() { in_cli mosquitto_pub -h $SRV -p "${1:-1883}" -t up -m 1; }

# start_broker [PORT]: Debian's mosquitto under the engine, pid in BROKER_PID, returns when it serves.
start_broker()
{
	write_mosquitto_conf "${1:-1883}"
	app mosquitto mosquitto -c "$LOGS/mosquitto.conf"
	BROKER_PID=$SPAWNED
	wait_for 10 "mosquitto" broker_answers "${1:-1883}"
}

# fanout ARGS...: result line in $LOGS/fanout.json; fails unless everything arrived in order.
fanout()
{
	in_cli "$BIN/tests/progs/mqtt_fanout" --host $SRV "$@" >"$LOGS/fanout.json" 2>"$LOGS/fanout.log"
}

json() { jq -r "$2" "$1"; }

# "instance items" lines out of the answer of toe stats --json.
stage_items() { jq -r '.stages | to_entries[] | "\(.key) \(.value.items)"' "$1"; }
