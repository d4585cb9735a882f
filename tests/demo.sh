#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `make demo`, as root: engine and Debian's mosquitto in a testbed of its own; 100 kernel-TCP subscribers and
# one publisher exchange 100 000 deliveries, each checked for order and content; 100 MB go through an echo
# server and come back with the same SHA-256; ping works meanwhile.  Then a table.
# Last line "demo: OK" or "demo: FAILED: why", exit code alike; cleans up whatever happens.
# KEEP=1 leaves the engine and the broker up.  PREFIX names the testbed (default demo).

# The outer half runs the demo and has the last word, after the inner half has cleaned up.
if [ "${1:-}" != inner ]; then
	log=$(mktemp)
	trap ':' INT TERM # the inner half ends and undoes; we report
	bash "$0" inner 2>&1 | tee "$log"
	rc=${PIPESTATUS[0]}
	why=$(sed -n 's/^\(FAIL\|SKIP\): //p' "$log" | head -1)
	rm -f "$log"
	if [ "$rc" -eq 0 ]; then
		echo "demo: OK"
		exit 0
	fi
	echo "demo: FAILED: ${why:-interrupted (exit code $rc)}"
	exit 1
fi

export PREFIX=${PREFIX:-demo} TOE_PLACEMENT=${TOE_PLACEMENT:-single} LOGS=${B:-build}/demo-logs
rm -rf "$LOGS"
. "$(dirname "$0")/lib/net.sh"

engine_ticks()
{
	local sum=0 p
	for p in toe-datapath toe-controlplane toe-keeper; do
		p=$(pid_of $p) && sum=$((sum + $(cpu_ticks "$p")))
	done
	echo $sum
}

# Percent of one CPU: ticks (1/100 s) over milliseconds.
percent() { echo $((($2 - $1) * 1000 / ($3 > 0 ? $3 : 1))); }
ms() { date +%s%3N; }

# Two numbers of a saved `ping -q` report: sent and received.
ping_counts() { sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) received.*/\1 \2/p' "$1"; }

demo_fanout()
{
	local t0 b0 e0
	say "100 subscribers, 1 publisher, 1 000 messages ..."
	t0=$(ms) b0=$(cpu_ticks "$BROKER_PID") e0=$(engine_ticks)
	in_cli "$BIN/tests/progs/mqtt_fanout" --host $SRV --subscribers 100 --publishes 1000 --size 128 \
		--window 4 --timeout 90 --progress >"$LOGS/fanout.json" ||
		fail "fan-out: $(json "$LOGS/fanout.json" .error)"
	t0=$(($(ms) - t0))
	BROKER_CPU=$(percent "$b0" "$(cpu_ticks "$BROKER_PID")" $t0)
	ENGINE_CPU=$(percent "$e0" "$(engine_ticks)" $t0)
}

demo_file()
{
	local want client
	say "100 MB to an echo server and back ..."
	head -c 100M /dev/urandom >"$LOGS/in"
	want=$(sha256sum <"$LOGS/in")
	start_echo 7000 et
	cli_spawn file "$BIN/tests/progs/tcp_client" --host $SRV --port 7000 --file "$LOGS/in" \
		--out "$LOGS/out" --timeout 90
	client=$SPAWNED
	wait_for 5 "connection of the file" grep -q connected "$LOGS/file.log"
	not_in_kernel 7000 || fail "the kernel has the connection, not the engine"
	wait "$client" || fail "file: $(tail -1 "$LOGS/file.log")"
	[ "$(sha256sum <"$LOGS/out")" = "$want" ] || fail "file: another SHA-256 came back"
	rm -f "$LOGS/in" "$LOGS/out"
	say "  same SHA-256: ${want%% *}"
}

row() { printf '  %-34s %s\n' "$1" "$2"; }

table()
{
	local f=$LOGS/fanout.json c
	read -r -a c < <(ping_counts "$LOGS/ping.log")
	say
	row "messages delivered" "$(json "$f" .delivered)"
	row "lost / twice / out of order" "$(json "$f" '"\(.lost) / \(.duplicated) / \(.reordered)"')"
	row "deliveries per second" "$(json "$f" .deliveries_per_s)"
	row "latency to the last subscriber" "$(json "$f" '"p50 \(.last_us.p50) us, p99 \(.last_us.p99) us"')"
	row "100 MB file, both ways" "$(tail -1 "$LOGS/file.log" | jq -r '"\(.MB_per_s) MB/s"')"
	row "pings answered meanwhile" "${c[1]} of ${c[0]}"
	row "CPU during the fan-out" "broker $BROKER_CPU %, engine $ENGINE_CPU % of one core"
	row "segments per stage" ""
	stage_items "$LOGS/stats.json" | while read -r name items; do
		row "    $name" "$items"
	done
	say
}

testbed_up
say "engine is up in namespace $PREFIX-srv, clients are in $PREFIX-cli"
start_broker
say "mosquitto runs under toe run (pid $BROKER_PID)"
not_in_kernel 1883 || fail "the kernel has connections of the broker"
cli_spawn ping ping -q -i 0.2 -W 2 $SRV
ping=$SPAWNED
demo_fanout
demo_file
kill -INT "$ping" # ping prints its report
wait_for 5 "ping to end" gone "$ping"
read -r sent got < <(ping_counts "$LOGS/ping.log")
[ "${sent:-0}" -gt 0 ] && [ "$sent" -le $((got + 1)) ] || fail "ping: $got of $sent answered"
"$BIN/toe" stats --json >"$LOGS/stats.json" || fail "toe stats"
table
if [ -n "${KEEP:-}" ]; then
	trap - EXIT
	disown -a
	say "left running (KEEP=1).  Explore:"
	say "  export TOE_RUN_DIR=$RUN_DIR"
	say "  $B/toe conns; $B/toe stats"
	say "  ip netns exec $PREFIX-cli mosquitto_sub -h $SRV -t '#' -v"
	say "  ip netns exec $PREFIX-srv $B/toe run -- PROGRAM"
	say "end it with: kill $BROKER_PID $ECHO_PID; $B/toe testbed down --prefix $PREFIX"
fi
exit 0
