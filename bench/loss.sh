#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Goodput through losses: one bulk connection through tests/progs/netem, which loses that share of the IP frames in
# each direction and delays each frame, with the same seeds for all.  The server on the kernel with reno, cubic and
# bbr, and under `toe run`, in turn.  The client is the kernel's in every case, with the congestion control that the
# line names: "up", client to server, therefore compares receivers, "down" senders.
# Prints a JSON line per transfer, then a table of toe beside each.  A transfer is given up after LIMIT seconds and
# counts with what arrived by then.  Needs root; about 4 minutes per round, at most 30.
# LOSS="0 0.01" CC="reno" ROUNDS=3 BYTES=20000000 DELAY_US=1000 change what is measured; BUF=4194304 is the engine's
# send and receive buffer, as large as the kernel's may grow.
set -u
cd "$(dirname "$0")/.." || exit 1
B=${B:-build} ROUNDS=${ROUNDS:-1} BYTES=${BYTES:-20000000} LIMIT=${LIMIT:-30} DELAY_US=${DELAY_US:-1000}
LOSS=${LOSS:-0 0.001 0.01 0.02 0.05} BUF=${BUF:-4194304}
BIN=$PWD/$B OUT=$PWD/$B/bench PREFIX=lbench K=lkbench SRV=10.99.0.1
export TOE_RUN_DIR=/run/toe-$PREFIX
mkdir -p "$OUT"

[ "$(id -u)" -eq 0 ] || { echo "bench: needs root"; exit 77; }

. bench/lib.sh
. tests/lib/emulator.sh
loss_end() { bench_end; for n in "$PREFIX-mid" "$K-mid"; do [ -e "/run/netns/$n" ] && ip netns del "$n"; done; }
bench_begin
trap loss_end EXIT

# What of these this kernel has.
available=" $(sysctl -n net.ipv4.tcp_available_congestion_control) "
CCS=()
for cc in ${CC:-reno cubic bbr}; do
	[[ $available == *" $cc "* ]] && CCS+=("$cc")
done
[ ${#CCS[@]} -gt 0 ] || { echo "bench: this kernel has none of ${CC:-reno cubic bbr}"; exit 77; }

wait_port()
{
	for _ in $(seq 100); do
		ip netns exec "$1" timeout 1 bash -c "exec 3<>/dev/tcp/$SRV/7001" 2>/dev/null && return 0
		sleep 0.1
	done
	echo "bench: nothing answers"
	exit 1
}

declare -A SERVERS=()

# server WHO NAME: the bulk server there, instead of the one there may be
server()
{
	local run=()
	[ "$1" = toe ] && run=("$BIN/toe" run --)
	[ -n "${SERVERS[$1]:-}" ] && pid_end "${SERVERS[$1]}"
	ip netns exec "$2-srv" "${run[@]}" "$BIN/bench/bulk" -l -p 7001 >/dev/null 2>&1 &
	SERVERS[$1]=$!
	PIDS+=($!)
	emulator_start "$2-mid" "$TMP/netem" || exit 1
	wait_port "$2-cli"
	emulator_stop "$TMP/netem" || exit 1
}

# The server's MAC address may have been asked for in vain while the emulator was down.
wait_path()
{
	for _ in $(seq 20); do
		ip netns exec "$1" ping -qc1 -W1 $SRV >/dev/null 2>&1 && return 0
	done
	echo "bench: no path to $SRV"
	exit 1
}

# transfer WHO NAME CC LOSS SEED: both directions, a JSON line each
transfer()
{
	local who=$1 name=$2 cc=$3 loss=$4 seed=$5 dir line
	# by route: a namespace's default can only be what tcp_allowed_congestion_control has, which is the whole machine's
	ip -n "$name-cli" route replace $SRV/32 dev cli0 congctl "$cc" || exit 1
	[ "$who" = toe ] || ip -n "$name-srv" route replace 10.99.0.2/32 dev toe0 congctl "$cc" || exit 1
	# what one connection learned about the path is not for the next
	ip netns exec "$name-cli" ip tcp_metrics flush all >/dev/null 2>&1
	ip netns exec "$name-srv" ip tcp_metrics flush all >/dev/null 2>&1
	for dir in up down; do
		emulator_start "$name-mid" "$TMP/netem" --seed "$seed" --loss "$loss" --delay-us "$DELAY_US" || exit 1
		wait_path "$name-cli"
		line=$(ip netns exec "$name-cli" timeout $((LIMIT + 30)) "$BIN/bench/bulk" -h $SRV -p 7001 -d $dir \
			-b "$BYTES" -t "$LIMIT") || { echo "bench: $dir over $who/$cc, loss $loss, failed"; exit 1; }
		emulator_stop "$TMP/netem" || exit 1
		jq -nc --arg who "$who" --arg cc "$cc" --argjson loss "$loss" --argjson seed "$seed" --argjson r "$line" \
			--argjson e "$(tail -1 "$TMP/netem")" '{who: $who, cc: $cc, loss: $loss, seed: $seed}
			+ ($r | {direction, complete, bytes, MB_per_s})
			+ {data_segments: (if $r.direction == "up" then $e.ba else $e.ab end | .data_segments),
			   lost: [$e.ab, $e.ba | .loss] | add,
			   other_drops: [$e.ab, $e.ba | .full, .oversize, .send_failed, .missed] | add}' |
			tee -a "$OUT/loss.jsonl"
		# it may not know that the connection has ended: the RST may be lost as well
		[ "$(jq .complete <<<"$line")" = true ] || server "$who" "$name"
	done
}

: >"$OUT/loss.jsonl"
kernel_up $SRV
emulator_path $K-srv $K-cli $K-mid || exit 1
echo "tcp: { rx_buf = $BUF; tx_buf = $BUF; };" >"$TMP/toe.conf"
"$BIN/toe" testbed up --prefix $PREFIX --config-extra "$TMP/toe.conf" >/dev/null || exit 1
emulator_path $PREFIX-srv $PREFIX-cli $PREFIX-mid || exit 1
server kernel $K
server toe $PREFIX

for round in $(seq "$ROUNDS"); do
	for loss in $LOSS; do
		for cc in "${CCS[@]}"; do
			transfer kernel $K "$cc" "$loss" "$round"
			transfer toe $PREFIX "$cc" "$loss" "$round"
		done
	done
done

echo
echo "medians of $ROUNDS rounds, MB/s: loss, direction, client's congestion control (kernel: both ends'), kernel, toe, toe/kernel"
jq -rs 'def median: sort | .[length / 2 | floor];
	group_by([.loss, .direction, .cc])[] | .[0] as $f
	| ([.[] | select(.who == "kernel") | .MB_per_s] | median) as $a
	| ([.[] | select(.who == "toe") | .MB_per_s] | median) as $b
	| "\($f.loss * 100) %\t\($f.direction)\t\($f.cc)\t\($a)\t\($b)\t"
	+ "\(if $a > 0 then $b / $a * 100 | round / 100 else "-" end)\t"
	+ (if all(.[]; .complete) then "" else "gave up" end)' "$OUT/loss.jsonl" | column -t -s "$(printf '\t')"
