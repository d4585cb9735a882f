#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Programs under the engine that connect out: mosquitto's clients, every way to call connect(), ports that refuse,
# hosts that are not there or silent, and loopback, which stays the kernel's.  What the calls say is
# compared with the same program on the kernel.
# PLACEMENTS: single spread
. "$(dirname "$0")/../lib/net.sh"
testbed_up
WAYS=$BIN/tests/progs/connect_ways
opens() { "$BIN/toe" status --json | jq .controlplane.counters.active_opens; }
not_in_kernel_to() { [ -z "$(in_srv ss -Htn state established "( dport = :$1 )")" ]; }

# ---- mosquitto's clients, broker on the kernel of the other host
write_mosquitto_conf 1883
cli_spawn mosquitto mosquitto -c "$LOGS/mosquitto.conf"
wait_for 10 "mosquitto" in_cli mosquitto_pub -h "$CLI" -t up -m 1
want=$(for i in $(seq 30); do echo "message $i"; done)
for qos in 0 1 2; do
	app "sub$qos" stdbuf -oL mosquitto_sub -d -h "$CLI" -t "t/$qos" -q $qos -C 30 -W 20
	sub=$SPAWNED
	wait_for 10 "subscription" grep -q 'Subscribed (mid' "$LOGS/sub$qos.log"
	not_in_kernel_to 1883 || fail "the kernel has the subscriber's connection"
	app "pub$qos" sh -c "for i in \$(seq 30); do echo \"message \$i\"; done |
		mosquitto_pub -h $CLI -t t/$qos -q $qos -l"
	wait "$SPAWNED" || fail "publish with QoS $qos: $(tail -1 "$LOGS/pub$qos.log")"
	wait "$sub" || fail "QoS $qos: not everything arrived"
	[ "$(grep -v '^Client \|^Subscribed ' "$LOGS/sub$qos.log")" = "$want" ] ||
		fail "QoS $qos: other messages or another order"
done
[ "$(opens)" -ge 6 ] || fail "only $(opens) of 6 connections were the engine's"

# ---- every way to connect, beside the kernel
cli_spawn kernel-echo "$BIN/tests/progs/echo_server" --port 7100
wait_for 5 "echo server" grep -q ready "$LOGS/kernel-echo.log"
# silent: the SYN is swallowed
in_cli nft -f - <<-'END' || fail "nft"
	table inet silent {
		chain in {
			type filter hook input priority 0
			tcp dport 7998 drop
		}
	}
	END

# both HOST PORT WAY: one transcript per stack; the engine's has SECONDS of bound
both()
{
	local name="$1.$2.$3" begin=$SECONDS
	in_srv timeout 30 "$WAYS" --host "$1" --port "$2" --way "$3" --timeout 8 >"$LOGS/$name.kernel"
	in_srv timeout 30 "$BIN/toe" run -- "$WAYS" --host "$1" --port "$2" --way "$3" --timeout 8 >"$LOGS/$name.engine"
	[ $((SECONDS - begin)) -lt 25 ] || fail "$name takes too long"
	diff "$LOGS/$name.kernel" "$LOGS/$name.engine" || fail "$name: unlike the kernel"
}
expect() { grep -q "$2" "$LOGS/$1.engine" || fail "$1: $2 expected: $(cat "$LOGS/$1.engine")"; }

for way in blocking poll select epoll; do
	before=$(opens)
	both "$CLI" 7100 $way
	expect "$CLI.7100.$way" 'echo: right'
	[ "$(opens)" -eq $((before + 1)) ] || fail "$way: the connection was not the engine's"
	both "$CLI" 7999 $way
	expect "$CLI.7999.$way" ECONNREFUSED
done
for way in blocking epoll; do
	both 10.99.0.77 7100 $way
	expect "10.99.0.77.7100.$way" EHOSTUNREACH
done
both 192.0.2.1 7100 blocking
expect 192.0.2.1.7100.blocking ENETUNREACH

# a silent host: the attempt lasts, the program goes on and can give it up, and nothing stays behind
in_srv timeout 20 "$BIN/toe" run -- "$WAYS" --host "$CLI" --port 7998 --way poll --timeout 2 >"$LOGS/silent"
[ $? -eq 1 ] || fail "silent host: $(cat "$LOGS/silent")"
grep -q 'not over in 2000 ms' "$LOGS/silent" || fail "silent host: $(cat "$LOGS/silent")"
app blocked "$WAYS" --host "$CLI" --port 7998
syn_sent() { [ "$("$BIN/toe" status --json | jq .controlplane.syn_sent)" = "$1" ]; }
wait_for 5 "connect() to be under way" syn_sent 1
kill -9 "$SPAWNED"
wait_for 5 "the attempt to be given up with its program" syn_sent 0

# ---- a transfer out, and loopback
app out "$BIN/tests/progs/tcp_client" --host "$CLI" --port 7100 --bytes 10M --timeout 30
wait "$SPAWNED" || fail "transfer: $(tail -1 "$LOGS/out.log")"
before=$(opens)
srv_spawn loop-echo "$BIN/tests/progs/echo_server" --addr 127.0.0.1 --port 7200
wait_for 5 "echo server on loopback" grep -q ready "$LOGS/loop-echo.log"
for way in blocking epoll; do
	both 127.0.0.1 7200 $way
	expect 127.0.0.1.7200.$way 'echo: right'
done
[ "$(opens)" = "$before" ] || fail "the engine took a connection to loopback"
# a server under the engine is reached over loopback too, by the kernel
start_echo 7201 lt
in_srv "$BIN/tests/progs/tcp_client" --host 127.0.0.1 --port 7201 --bytes 1M --timeout 20 ||
	fail "a server under the engine over loopback"
no_connections() { [ "$("$BIN/toe" conns --json | jq '[.conns[] | select(.state != "TIME-WAIT")] | length')" = 0 ]; }
wait_for 10 "connections to be gone" no_connections
