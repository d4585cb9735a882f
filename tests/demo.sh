#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `make demo`, as root: Debian's mosquitto twice, on the kernel and under the engine with the MQTT stage on, each
# between two namespaces over veth with the same settings.  The same 100 kernel-TCP subscribers and one publisher
# load them in turn, ROUNDS times; every delivery is checked for order and content.  100 MB go through an echo
# server and come back with the same SHA-256; ping works meanwhile.  Then a table, medians of the rounds.
# Last line "demo: OK" or "demo: FAILED: why", exit code alike; cleans up whatever happens.
# KEEP=1 leaves the engine and the broker up.  TESTBED names the testbed (default demo).

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

export PREFIX=${TESTBED:-demo} TOE_PLACEMENT=${TOE_PLACEMENT:-single} LOGS=${B:-build}/demo-logs
rm -rf "$LOGS"
. "$(dirname "$0")/lib/net.sh"

ROUNDS=${ROUNDS:-3} SUBSCRIBERS=100
K=$PREFIX-k # the kernel broker's testbed: $K-srv, $K-cli

# ---- the broker on the kernel -----------------------------------------------------------------------

# Same addresses, and offloads off, as the engine's testbed has them.
kernel_up()
{
	local end
	ip netns add "$K-srv" && ip netns add "$K-cli" || fail "namespaces of the kernel broker"
	ip link add toe0 netns "$K-srv" type veth peer name cli0 netns "$K-cli" || fail "veth of the kernel broker"
	ip -n "$K-srv" addr add $SRV/24 dev toe0
	ip -n "$K-cli" addr add $CLI/24 dev cli0
	for end in srv:toe0 cli:cli0; do
		ip netns exec "$K-${end%:*}" ethtool -K "${end#*:}" tx off rx off tso off gso off gro off >/dev/null 2>&1
		ip -n "$K-${end%:*}" link set lo up
		ip -n "$K-${end%:*}" link set "${end#*:}" up
	done
	spawn kernel-mosquitto ip netns exec "$K-srv" mosquitto -c "$LOGS/mosquitto.conf"
	KERNEL_PID=$SPAWNED
	wait_for 10 "mosquitto on the kernel" ip netns exec "$K-cli" mosquitto_pub -h $SRV -t up -m 1
}

kernel_down()
{
	[ -n "${KERNEL_PID:-}" ] && end_process "$KERNEL_PID"
	ip netns del "$K-srv" 2>/dev/null
	ip netns del "$K-cli" 2>/dev/null
}

# shellcheck disable=SC2317 # by the trap
demo_end()
{
	local status=$?
	trap - EXIT
	kernel_down
	net_end "$status"
}

# ---- measuring --------------------------------------------------------------------------------------

# CPU time of processes with all their threads, in ns.
cpu_ns()
{
	local p
	for p in "$@"; do
		cat "/proc/$p/task/"*/schedstat
	done | awk '{ n += $1 } END { printf "%.0f\n", n }'
}
engine_pids() { pid_of toe-datapath; pid_of toe-controlplane; pid_of toe-keeper; }

# Two numbers of a saved `ping -q` report: sent and received.
ping_counts() { sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) received.*/\1 \2/p' "$1"; }

# load WHO CLIENT_NETNS TEST ARGS...: one JSON line more, with the CPU time of broker and engine
load()
{
	local who=$1 ns=$2 test=$3 broker=$KERNEL_PID engine='' b0 e0
	shift 3
	[ "$who" = offload ] && broker=$BROKER_PID engine=$(engine_pids)
	# shellcheck disable=SC2086 # several processes
	b0=$(cpu_ns "$broker") e0=$(cpu_ns $engine)
	ip netns exec "$ns" "$BIN/tests/progs/mqtt_fanout" --host $SRV --subscribers $SUBSCRIBERS --size 128 \
		--timeout 90 "$@" >"$LOGS/fanout.json" || fail "$who broker, $test: $(json "$LOGS/fanout.json" .error)"
	# shellcheck disable=SC2086
	jq -c --arg who "$who" --arg test "$test" --argjson b $(($(cpu_ns "$broker") - b0)) \
		--argjson e $(($(cpu_ns $engine) - e0)) \
		'{who: $who, test: $test, broker_us: ($b / 1000 / .delivered), engine_us: ($e / 1000 / .delivered)} + .' \
		"$LOGS/fanout.json" >>"$LOGS/loads.jsonl"
}

demo_fanout()
{
	local round who ns
	: >"$LOGS/loads.jsonl"
	for round in $(seq "$ROUNDS"); do
		say "$SUBSCRIBERS subscribers, 1 publisher, round $round of $ROUNDS: kernel, then offload ..."
		for who in kernel offload; do
			ns=$PREFIX-cli
			[ $who = kernel ] && ns=$K-cli
			load $who "$ns" saturation --publishes 1000 --window 16
			load $who "$ns" latency --publishes 100 --window 1 --rate 100
		done
	done
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

# of EXPRESSION over the array of all loads; median(test; who; value) is defined
of_loads()
{
	jq -rs 'def median($t; $w; f): [.[] | select(.test == $t and .who == $w) | f] | sort | .[length / 2 | floor];
		def r(n): if . >= 100 then round else . * n | round / n end;
		'"$1" "$LOGS/loads.jsonl"
}

# side TEXT TEST VALUE UNIT RATIO: both brokers and the factor by RATIO of $k and $o, above 1 is better; 0: none
side()
{
	local v
	read -r -a v < <(of_loads "median(\"$2\"; \"kernel\"; $3) as \$k | median(\"$2\"; \"offload\"; $3) as \$o
		| ($5) as \$f | [(\$k, \$o | if . == 0 then \"-\" else r(100) end), if \$f == 0 then \"-\" else \$f | r(10) end]
		| map(tostring) | join(\" \")")
	printf '  %-34s %11s %11s  %-2s %8s\n' "$1" "${v[0]}" "${v[1]}" "$4" "${v[2]}"
}

fast_publishes()
{
	"$BIN/toe" mqtt status --json >"$LOGS/mqtt.json" || fail "toe mqtt status"
	[ "$(json "$LOGS/mqtt.json" .publishes.FAST)" -gt 0 ] || fail "no publish was fast"
	# shellcheck disable=SC2016 # variables of jq
	json "$LOGS/mqtt.json" '.publishes | .FAST as $f | add as $all
		| "\($f) of \($all)" + ([to_entries[] | select(.key != "FAST" and .value > 0) | " \(.key) \(.value)"]
		| if length > 0 then "; through the broker:" + join(",") else "" end)'
}

# shellcheck disable=SC2016 # variables of jq
table()
{
	local c fast
	fast=$(fast_publishes) || fail "${fast#FAIL: }"
	read -r -a c < <(ping_counts "$LOGS/ping.log")
	say
	printf '  %-34s %11s %11s  %-2s %8s\n' '' 'kernel' 'offload' '' 'factor'
	side "deliveries per second" saturation .deliveries_per_s '' '$o / $k'
	side "latency to the last, p50" latency .last_us.p50 us '$k / $o'
	side "latency to the last, p99" latency .last_us.p99 us '$k / $o'
	side "broker CPU per delivery" saturation .broker_us us 'if $o < 0.01 then 0 else $k / $o end'
	side "engine CPU per delivery" saturation .engine_us us 0
	side "both together" saturation '(.broker_us + .engine_us)' us '$k / $o'
	say
	row "messages delivered" "$(of_loads 'map(.delivered) | add')"
	row "lost / twice / out of order" "$(of_loads '"\(map(.lost) | add) / \(map(.duplicated) | add) / \(map(.reordered) | add)"')"
	row "publishes that were fast" "$fast"
	row "100 MB file, both ways" "$(tail -1 "$LOGS/file.log" | jq -r '"\(.MB_per_s) MB/s"')"
	row "pings answered meanwhile" "${c[1]} of ${c[0]}"
	row "segments per stage" ""
	stage_items "$LOGS/stats.json" | while read -r name items; do
		row "    $name" "$items"
	done
	say
}

write_config 'mqtt: { ports = (1883); offload = ("#"); };'
testbed_up
trap demo_end EXIT
say "engine is up in namespace $PREFIX-srv, clients are in $PREFIX-cli"
start_broker
say "mosquitto runs under toe run (pid $BROKER_PID), MQTT stage on for #"
kernel_up
say "a second one runs on the kernel (pid $KERNEL_PID), with the same configuration"
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
kernel_down
if [ -n "${KEEP:-}" ]; then
	trap - EXIT
	disown -a
	say "left running (KEEP=1).  Explore:"
	say "  export TOE_RUN_DIR=$RUN_DIR"
	say "  $B/toe mqtt status; $B/toe conns; $B/toe stats"
	say "  ip netns exec $PREFIX-cli mosquitto_sub -h $SRV -t '#' -v"
	say "  ip netns exec $PREFIX-srv $B/toe run -- PROGRAM"
	say "end it with: kill $BROKER_PID $ECHO_PID; $B/toe testbed down --prefix $PREFIX"
fi
exit 0
