#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Echo RTT and rate, and bulk transfer: the same server on the kernel and under `toe run`, over veth pairs
# with the same settings, in turn, ROUNDS times in one run.  Prints a line per measurement, then medians
# with the ratio toe/kernel, and cycles per segment of each stage.  Needs root; about ROUNDS x 1.5 minutes.
#
# CPU seconds per request: everything in the server's namespace (application, engine, control plane,
# keeper); the client's is beside it.  Packets cross the kernel on the client side in both cases, and a
# sender on a veth pair pays for the receiver's softirq: see docs/BENCHMARKS.md.
set -u
cd "$(dirname "$0")/.." || exit 1
B=${B:-build} ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-3} BULK=${BULK:-300000000}
BIN=$PWD/$B OUT=$PWD/$B/bench PREFIX=tbench K=kbench SRV=10.99.0.1
export TOE_RUN_DIR=/run/toe-$PREFIX
mkdir -p "$OUT"

[ "$(id -u)" -eq 0 ] || { echo "bench: needs root"; exit 77; }

. bench/lib.sh
bench_begin

# CPU time, in clock ticks, of all processes in a namespace.
ns_ticks()
{
	local p sum=0 t
	for p in $(ip netns pids "$1"); do
		t=$(awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$p/stat" 2>/dev/null) || continue
		sum=$((sum + ${t:-0}))
	done
	echo $sum
}

wait_port()
{
	for _ in $(seq 100); do
		ip netns exec "$2" timeout 1 bash -c "exec 3<>/dev/tcp/$SRV/$1" 2>/dev/null && return 0
		sleep 0.1
	done
	echo "bench: nothing answers on port $1"
	exit 1
}

# measure WHO SRV_NS CLI_NS RUNNER...
measure()
{
	local who=$1 srv=$2 cli=$3 c t0 t1 line dir
	shift 3
	ip netns exec "$srv" "$@" "$BIN/tests/progs/echo_server" --port 7000 --mode lt >/dev/null 2>&1 &
	PIDS+=($!)
	ip netns exec "$srv" "$@" "$BIN/bench/bulk" -l -p 7001 >/dev/null 2>&1 &
	PIDS+=($!)
	wait_port 7000 "$cli"
	wait_port 7001 "$cli"
	for c in 1 16 64; do
		t0=$(ns_ticks "$srv")
		line=$(ip netns exec "$cli" "$BIN/bench/rpc_client" -h $SRV -p 7000 -c "$c" -s 64 -t "$SECONDS_EACH") ||
			{ echo "bench: echo over $who failed"; exit 1; }
		t1=$(ns_ticks "$srv")
		echo "$line" | jq -c --arg who "$who" --argjson ticks $((t1 - t0)) --argjson s "$SECONDS_EACH" \
			'{who: $who, test: "echo\(.conns)", rps, p50_us, p99_us,
			  server_cpu_us_per_req: ($ticks * 10000 / (.rps * $s)), client_cpu_us_per_req}'
	done
	for dir in up down; do
		t0=$(ns_ticks "$srv")
		line=$(ip netns exec "$cli" "$BIN/bench/bulk" -h $SRV -p 7001 -d $dir -b "$BULK") ||
			{ echo "bench: bulk over $who failed"; exit 1; }
		t1=$(ns_ticks "$srv")
		echo "$line" | jq -c --arg who "$who" --argjson ticks $((t1 - t0)) \
			'{who: $who, test: "bulk_\(.direction)", MB_per_s,
			  server_cpu_ns_per_byte: ($ticks * 1e7 / .bytes), client_cpu_s}'
	done
	stop_all
}

: >"$OUT/results.jsonl"
for round in $(seq "$ROUNDS"); do
	echo "round $round of $ROUNDS: kernel"
	kernel_up $SRV
	measure kernel $K-srv $K-cli env | tee -a "$OUT/results.jsonl"
	kernel_down
	echo "round $round of $ROUNDS: toe"
	"$BIN/toe" testbed up --prefix $PREFIX >/dev/null || exit 1
	measure toe $PREFIX-srv $PREFIX-cli "$BIN/toe" run -- | tee -a "$OUT/results.jsonl"
	"$BIN/toe" stats --json >"$OUT/stages.json"
	"$BIN/toe" testbed down --prefix $PREFIX >/dev/null || exit 1
done

echo
echo "medians of $ROUNDS rounds (kernel, toe, toe/kernel)"
jq -rs 'def median: sort | .[length / 2 | floor];
	group_by(.test)[] | .[0].test as $t
	| (["rps", "p50_us", "p99_us", "MB_per_s", "server_cpu_us_per_req", "server_cpu_ns_per_byte"][]) as $k
	| select(.[0][$k] != null)
	| ([.[] | select(.who == "kernel") | .[$k]] | median) as $a
	| ([.[] | select(.who == "toe") | .[$k]] | median) as $b
	| "\($t)\t\($k)\t\($a * 10 | round / 10)\t\($b * 10 | round / 10)\t\($b / $a * 100 | round / 100)"' \
	"$OUT/results.jsonl" | column -t
echo
echo "cycles per item of each stage, last round (all loads together)"
jq -r '.stages | to_entries[] | "\(.key)\t\(.value.items)\t\(.value.cycles_per_item)"' "$OUT/stages.json" | column -t
