#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Many connections of random sizes and half-closes in both roles through a bad network: both ends' SHA-256 of both
# streams agree, nobody hangs, no connection is reset, and afterwards the engine holds no more than before.  Replication is 1 in
# placement single, 2 in spread.
# COUNT connections of up to MAX bytes, half of them opened by the engine, for each line of MATRIX: "name netem-options".
# INTEGRITY=matrix: the whole matrix with 1 000 connections of up to 10 MB (make soak).
# PLACEMENTS: single spread
# TIMEOUT: 150
. "$(dirname "$0")/../lib/net.sh"
. tests/lib/emulator.sh

PATH_ARGS="--delay-us 500 --jitter-us 100"
BAD="--reorder 0.1 --duplicate 0.02 --corrupt 0.01"
if [ "${INTEGRITY:-}" = matrix ]; then
	: "${COUNT:=1000}" "${MAX:=10M}" "${DEADLINE:=600}" "${PARALLEL:=100}"
	lines=$(for loss in 0 0.001 0.01 0.05; do
		for bad in "--reorder 0.1" "--duplicate 0.02" "--corrupt 0.01" "$BAD"; do
			echo "loss $loss $bad: --loss $loss $bad"
		done
	done)
elif [ "$TOE_PLACEMENT" = single ]; then
	lines="5 %: --loss 0.05 $BAD"
else
	lines="1 %: --loss 0.01 $BAD"
fi
: "${MATRIX:=$lines}"
: "${COUNT:=200}" "${MAX:=4M}" "${SEED:=27}" "${DEADLINE:=60}" "${PARALLEL:=40}"
HALF=$((COUNT / 2))

# longer than a FIN may have to be repeated
write_config 'tcp: { time_wait_ms = 8000; };'
testbed_up
emulator_path "$PREFIX-srv" "$PREFIX-cli" "$PREFIX-mid" || fail "emulator's path"

# ends NAME WHERE PORT ARGS...: a program of COUNT/2 connections; WHERE is app (the engine) or cli_spawn (the kernel)
ends()
{
	local name=$1 where=$2 port=$3
	shift 3
	"$where" "$name" "$BIN/tests/progs/integrity" --port "$port" --count $HALF --max "$MAX" --seed "$SEED" \
		--parallel $((PARALLEL / 2)) --deadline "$DEADLINE" --out "$LOGS/$name.sums" "$@"
	ENDS+=("$name $SPAWNED")
}

ended() { grep -q '^{"ok"' "$LOGS/$1.log"; }
# A connection's addresses as both programs and toe conns know them.
hangs()
{
	grep -h '^FAILED' "$LOGS"/{engine,kernel}-*.log | head -10
	"$BIN/toe" conns --json >"$LOGS/conns.json"
	jq -c '.conns[] | select(.state != "TIME-WAIT")' "$LOGS/conns.json" | head -10
	"$BIN/toe" status --json >"$LOGS/status.json"
	in_cli ss -tino state connected dst "$SRV" | head -20
}
all_ended()
{
	local e all=0
	for e in "${ENDS[@]}"; do
		ended "${e% *}" && continue
		all=1
		gone "${e#* }" && { hangs; fail "${e% *} died: $(tail -1 "$LOGS/${e% *}.log")"; }
	done
	return $all
}

# Connections that were reset, seen from either end.  RSTs as such are no fault: a late duplicate, or what was overtaken
# by the last ACK, finds no connection any more and is answered so.
resets()
{
	in_cli nstat -asz TcpEstabResets | awk '/^Tcp/ { print $1, $2 }'
	"$BIN/toe" status --json | jq -r '.controlplane.counters | "resets \(.resets) timeouts \(.timeouts)"'
}
no_time_waits() { [ "$("$BIN/toe" status --json | jq .controlplane.time_wait)" = 0 ]; }
as_before() { [ "$(engine_held)" = "$held" ]; }
# Slots of applications that still run, all of which began with as many.
slots_back()
{
	[ "$("$BIN/toe" status --json | jq '[.controlplane | .connections, .half_open, .orphans, .syn_sent,
		(.apps[] | .slots_free - '"$slots"')] | all(. == 0)')" = true ]
}

# round NAME NETEM-ARGS...
round()
{
	local name=$1 e before begin=$SECONDS
	shift
	ENDS=()
	before=$(resets)
	# shellcheck disable=SC2086
	emulator_start "$PREFIX-mid" "$LOGS/netem.log" --seed "$SEED" $PATH_ARGS "$@" || fail "emulator"
	ends engine-listens app 7100 --listen
	ends kernel-listens cli_spawn 7200 --listen
	wait_for 10 "the engine's end to listen" grep -q ready "$LOGS/engine-listens.log"
	wait_for 10 "the kernel's end to listen" grep -q ready "$LOGS/kernel-listens.log"
	ends kernel-connects cli_spawn 7100 --connect "$SRV"
	ends engine-connects app 7200 --connect "$CLI"
	until all_ended; do
		[ $((SECONDS - begin)) -lt $((DEADLINE * 2)) ] || { hangs; fail "$name: hangs"; }
		sleep 0.1
	done
	grep -q '^FAILED' "$LOGS"/{engine,kernel}-*.log && { hangs; fail "$name: $(grep -hm1 '^FAILED' "$LOGS"/{engine,kernel}-*.log)"; }
	for e in "engine-listens kernel-connects" "kernel-listens engine-connects"; do
		[ "$(wc -l <"$LOGS/${e% *}.sums")" = $HALF ] || fail "$name: $e: not all connections are there"
		cmp -s <(sort "$LOGS/${e% *}.sums") <(sort "$LOGS/${e#* }.sums") || fail "$name: $e: SHA-256 differ"
	done
	say "$name: $((SECONDS - begin)) s, $(grep -h '^{' "$LOGS/engine-listens.log" "$LOGS/engine-connects.log" |
		jq -s 'map(.bytes) | add / 1e6 | round') MB, $(tail -n1 "$LOGS/engine-connects.log")"
	wait_for 30 "slots and connections to be free again: $(engine_held)" slots_back
	wait_for 20 "TIME-WAITs to end" no_time_waits
	for e in "${ENDS[@]}"; do
		end_process "${e#* }"
	done
	[ "$(resets)" = "$before" ] || fail "$name: connections were reset: before: $before; now: $(resets)"
	emulator_stop "$LOGS/netem.log" || fail "emulator"
	tail -1 "$LOGS/netem.log"
	for _ in $(seq 200); do as_before && break; sleep 0.05; done
	as_before || fail "$name: the engine holds on to something: before: $held; now: $(engine_held)"
}

start_echo 7000 et # so that there is an application all the time
wait_for 5 "the application" test "$("$BIN/toe" status --json | jq '.controlplane.apps | length')" = 1
slots=$("$BIN/toe" status --json | jq '.controlplane.apps[0].slots_free')
held=$(engine_held)
while IFS=: read -r name args; do
	# shellcheck disable=SC2086
	round "$name" $args
done <<<"$MATRIX"
