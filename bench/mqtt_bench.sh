#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# MQTT fan-out: mosquitto on the kernel and under `toe run`, the same kernel clients over veth pairs with the
# same settings, in turn, in one run; with mosquitto's default configuration and with
# allow_duplicate_messages true (the default costs it a search per copy).  64 bytes, QoS 0.  Needs root.
#
#    COUNTS="100 500 1000 5000"  subscribers      ROUNDS=1       of everything
#    PUBLISHES=100               one every 20 ms  SATURATION=2e5 deliveries with WINDOW=16 publishes under way
#    NAPI=threaded               the clients' end of the veth pair receives in a thread of its own, both times
#    DRIVER=af_packet            of the engine's port, or af_xdp
#    PIN=1                       clients have CPU 1 and servers (broker, engine) CPU 0, as if they were two machines
#    SPIN=50                     microseconds an lcore looks for work before it sleeps (pipeline.idle_spin_us)
#    TESTS="latency saturation port"
#    MQTT_CONF=...               lines for the engine's configuration, default the stage on every topic; MQTT_CONF= without
#
# latency: from just before the PUBLISH is written to the read of the last subscriber's copy.
# floor: the same clients, fed by raw frames (mqtt_floor.c): what no server can beat with kernel clients.
# port: clients without a TCP stack (mqtt_port.c), from the PUBLISH to the last copy's arrival at their interface;
# its floor (raw frames again) is from the first copy to the last.
# CPU per delivered copy from /proc/PID/task/*/schedstat: broker, and the engine's three processes.  A sender
# on a veth pair pays for the receiver's softirq, in both cases.  JSON lines in OUT/mqtt.jsonl, then a table.
set -u
cd "$(dirname "$0")/.." || exit 1
B=${B:-build} ROUNDS=${ROUNDS:-1} COUNTS=${COUNTS:-100 500 1000 5000}
DRIVER=${DRIVER:-af_packet} PUBLISHES=${PUBLISHES:-100} SATURATION=${SATURATION:-200000} WINDOW=${WINDOW:-16}
TESTS=${TESTS:-latency saturation port}
[ -n "${MQTT_CONF+x}" ] || MQTT_CONF='mqtt: { ports = (1883); offload = ( "#" ); };'
SATURATION=$(printf '%.0f' "$SATURATION")
BIN=$PWD/$B OUT=$PWD/$B/bench PREFIX=tmb$$ K=kmb$$ SRV=10.99.0.1
export TOE_RUN_DIR=/run/toe-$PREFIX
mkdir -p "$OUT"
ulimit -n 20000

[ "$(id -u)" -eq 0 ] || { echo "mqtt_bench: needs root"; exit 77; }

. bench/lib.sh
bench_begin

# run_broker NETNS CLIENT_NETNS CONFIG RUNNER...: pid in BROKER
run_broker()
{
	local ns=$1 cli=$2 dup=$3
	shift 3
	{
		echo "listener 1883 0.0.0.0"
		echo "allow_anonymous true"
		echo "persistence false"
		echo "max_queued_messages 100000" # none of the broker's own drops
		[ "$dup" = duplicates ] && echo "allow_duplicate_messages true"
	} >"$TMP/mosquitto.conf"
	"${ON_SERVER[@]}" ip netns exec "$ns" "$@" mosquitto -c "$TMP/mosquitto.conf" >"$TMP/mosquitto.log" 2>&1 &
	BROKER=$!
	PIDS+=("$BROKER")
	for _ in $(seq 100); do
		ip netns exec "$cli" mosquitto_pub -h $SRV -t up -m 1 2>/dev/null && return 0
		sleep 0.1
	done
	echo "mqtt_bench: mosquitto does not answer"
	exit 1
}

# engine_pids NETNS: datapath, control plane, keeper, with a comma before each
engine_pids()
{
	local p
	for p in $(ip netns pids "$1"); do
		case $(readlink "/proc/$p/exe") in
		"$BIN"/toe-*) printf ',%s' "$p" ;;
		esac
	done
}

# in front of a command
ON_SERVER=() ON_CLIENT=()
[ -n "${PIN:-}" ] && ON_SERVER=(taskset -c 0) ON_CLIENT=(taskset -c 1)

tests() { [[ " $TESTS " == *" $1 "* ]]; }

# load WHO CONFIG TEST CLIENT_NETNS PROGRAM ARGS...: one JSON line more
load()
{
	local who=$1 config=$2 test=$3 cli=$4 program=$5 line
	shift 5
	line=$("${ON_CLIENT[@]}" ip netns exec "$cli" "$BIN/bench/$program" --host $SRV "$@")
	[ -n "$line" ] || line='{"ok":false,"error":"no result"}'
	jq -c --arg who "$who" --arg config "$config" --arg test "$test" \
		'{who: $who, config: $config, test: $test} + .
		 + {broker_us_each: (.cpu_us_each[0] // 0), engine_us_each: ((.cpu_us_each[1:] | add) // 0)}' \
		<<<"$line" | tee -a "$OUT/mqtt.jsonl" |
		jq -r '"  \(.who) \(.config) \(.test) N=\(.subscribers): \(if .ok then "\(if .per_s > 0 then "\(.per_s) copies/s, " else "" end)to last p50 \(.last_us.p50) us" else "FAILED: \(.error)" end)"'
}

# measure WHO CONFIG SERVER_NETNS CLIENT_NETNS PIDS
measure()
{
	local n rounds mac
	for n in $COUNTS; do
		tests latency && load "$1" "$2" latency "$4" mqtt_load --subscribers "$n" --rounds "$PUBLISHES" --interval-us 20000 --watch "$5"
		rounds=$((SATURATION / n > 100 ? SATURATION / n : 100))
		tests saturation && load "$1" "$2" saturation "$4" mqtt_load --subscribers "$n" --rounds $rounds --window "$WINDOW" --watch "$5"
	done
	tests port || return 0
	own_tcp "$4"
	mac=$(ip netns exec "$3" cat /sys/class/net/toe0/address)
	for n in $COUNTS; do
		load "$1" "$2" port "$4" mqtt_port --mac "$mac" --subscribers "$n" --rounds "$PUBLISHES" --watch "$5"
	done
	ip netns exec "$4" nft delete table netdev bench
}

# own_tcp NETNS: the kernel there knows nothing of the connections that mqtt_port has, and would reset them
own_tcp()
{
	ip netns exec "$1" nft -f - <<-EOF || exit 1
		add table netdev bench
		add chain netdev bench in { type filter hook ingress device cli0 priority 0; }
		add rule netdev bench in tcp sport 1883 drop
	EOF
}

start_floor()
{
	"${ON_SERVER[@]}" ip netns exec "$K-srv" "$BIN/bench/mqtt_floor" --interface toe0 --clients "$1" \
		--rounds $((PUBLISHES + 10)) >"$TMP/floor.log" 2>&1 &
	PIDS+=($!)
	until grep -q ready "$TMP/floor.log"; do sleep 0.05; done
}

floor()
{
	local n mac
	kernel_up
	mac=$(ip netns exec "$K-srv" cat /sys/class/net/toe0/address)
	ip -n "$K-cli" neigh replace $SRV lladdr "$mac" dev cli0 nud permanent
	for n in $COUNTS; do
		tests latency || break
		start_floor "$n"
		load floor raw latency "$K-cli" mqtt_load --raw --subscribers "$n" --rounds "$PUBLISHES" --watch "${PIDS[-1]}"
		stop_all
	done
	own_tcp "$K-cli"
	for n in $COUNTS; do
		tests port || break
		start_floor "$n"
		load floor raw port "$K-cli" mqtt_port --raw --mac "$mac" --subscribers "$n" --rounds "$PUBLISHES"
		stop_all
	done
	kernel_down
}

: >"$OUT/mqtt.jsonl"
printf '%s\n' "pipeline: { lcores = ( \"0: all\" ); idle_spin_us = ${SPIN:-50}; };" "port: { driver = \"$DRIVER\"; };" "$MQTT_CONF" >"$TMP/toe.conf"
for round in $(seq "$ROUNDS"); do
	echo "round $round of $ROUNDS"
	floor
	for config in default duplicates; do
		kernel_up $SRV
		run_broker "$K-srv" "$K-cli" $config
		measure kernel $config "$K-srv" "$K-cli" "$BROKER"
		stop_all
		kernel_down
		"${ON_SERVER[@]}" "$BIN/toe" testbed up --prefix $PREFIX --config-extra "$TMP/toe.conf" >/dev/null || exit 1
		client_napi $PREFIX-cli $PREFIX-srv
		run_broker $PREFIX-srv $PREFIX-cli $config "$BIN/toe" run --
		measure toe $config $PREFIX-srv $PREFIX-cli "$BROKER$(engine_pids $PREFIX-srv)"
		stop_all
		"$BIN/toe" testbed down --prefix $PREFIX >/dev/null || exit 1
	done
done

echo
echo "medians of $ROUNDS rounds: to the last of N subscribers, us (one publish every 20 ms); floor: raw frames"
jq -rs 'def median: sort | .[length / 2 | floor];
	def r2: . * 100 | round / 100;
	[.[] | select(.ok)] as $all
	| (["config", "N", "kernel_p50", "toe_p50", "floor_p50", "kernel/toe", "toe/floor", "kernel_p99", "toe_p99"] | @tsv),
	($all | [.[] | select(.test == "latency" and .who != "floor") | {config, subscribers}] | unique[]) as $k
	| ($all | [.[] | select(.test == "latency" and .subscribers == $k.subscribers)]) as $rows
	| def m($who; f): [$rows[] | select(.who == $who and (.config == $k.config or $who == "floor")) | f] | median;
	if ([$rows[].who] | unique | length) < 3 then empty else
	[$k.config, $k.subscribers, m("kernel"; .last_us.p50), m("toe"; .last_us.p50), m("floor"; .last_us.p50),
	 (m("kernel"; .last_us.p50) / m("toe"; .last_us.p50) | r2),
	 (m("toe"; .last_us.p50) / m("floor"; .last_us.p50) | r2),
	 m("kernel"; .last_us.p99), m("toe"; .last_us.p99)] | @tsv end' "$OUT/mqtt.jsonl" | column -t
echo
echo "at the port: from the PUBLISH to the last of N copies at the clients' interface, us (spread: from the first copy);"
echo "CPU in us per copy"
jq -rs 'def median: sort | .[length / 2 | floor];
	def r2: . * 100 | round / 100;
	[.[] | select(.ok and .test == "port")] as $all
	| (["config", "N", "kernel_p50", "toe_p50", "kernel/toe", "kernel_p99", "toe_p99", "k_spread", "t_spread",
	   "floor_spread", "k_cpu", "t_cpu"] | @tsv),
	($all | [.[] | select(.who != "floor") | {config, subscribers}] | unique[]) as $k
	| ($all | [.[] | select(.subscribers == $k.subscribers and (.config == $k.config or .who == "floor"))]) as $rows
	| def m($who; f): [$rows[] | select(.who == $who) | f] | median;
	if ([$rows[].who] | unique | length) < 3 then empty else
	[$k.config, $k.subscribers, m("kernel"; .last_us.p50), m("toe"; .last_us.p50),
	 (m("kernel"; .last_us.p50) / m("toe"; .last_us.p50) | r2), m("kernel"; .last_us.p99), m("toe"; .last_us.p99),
	 m("kernel"; .spread_us.p50), m("toe"; .spread_us.p50), m("floor"; .spread_us.p50),
	 m("kernel"; .broker_us_each), (m("toe"; .broker_us_each + .engine_us_each) | r2)] | @tsv end' \
	"$OUT/mqtt.jsonl" | column -t
echo
echo "medians at saturation, $WINDOW publishes under way: copies per second, CPU in us per copy"
jq -rs 'def median: sort | .[length / 2 | floor];
	def r2: . * 100 | round / 100;
	[.[] | select(.ok and .test == "saturation")] as $all
	| (["config", "N", "kernel/s", "toe/s", "toe/kernel", "k_broker", "t_broker", "t_engine", "t_all/k", "k_client_cpu",
	   "t_client_cpu", "k_p99", "t_p99"] | @tsv),
	($all | [.[] | {config, subscribers}] | unique[]) as $k
	| ($all | [.[] | select(.subscribers == $k.subscribers and .config == $k.config)]) as $rows
	| def m($who; f): [$rows[] | select(.who == $who) | f] | median;
	if ([$rows[].who] | unique | length) < 2 then empty else
	[$k.config, $k.subscribers, m("kernel"; .per_s), m("toe"; .per_s), (m("toe"; .per_s) / m("kernel"; .per_s) | r2),
	 m("kernel"; .broker_us_each), m("toe"; .broker_us_each), (m("toe"; .engine_us_each) | r2),
	 (m("toe"; .broker_us_each + .engine_us_each) / m("kernel"; .broker_us_each) | r2),
	 m("kernel"; .client_cpu), m("toe"; .client_cpu), m("kernel"; .last_us.p99), m("toe"; .last_us.p99)]
	| @tsv end' "$OUT/mqtt.jsonl" | column -t
failed=$(jq -rs '[.[] | select(.ok | not)] | length' "$OUT/mqtt.jsonl")
[ "$failed" = 0 ] || { echo "$failed measurements failed"; exit 1; }
