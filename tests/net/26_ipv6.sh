#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# IPv6 beside IPv4 with a peer on the kernel: echo in both roles, listeners of both families, IPv6 only, link-local,
# ping meanwhile, a broker on both families with the MQTT stage, and the addresses, which come and go with the engine.
# PLACEMENTS: single spread
# TIMEOUT: 180
. "$(dirname "$0")/../lib/net.sh"
# canary: none, so that every message is what it should be
write_config 'mqtt: { ports = (1883); offload = ("#"); canary = 0; };'
testbed_up

status() { "$BIN/toe" status --json | jq -r "$1"; }
opens() { status '.controlplane.counters | "\(.passive_opens) \(.active_opens)"'; }
unsupported() { "$BIN/toe" stats --unsupported --json | jq '.listen_address + .listen_refused + .connect_route + .connect_family'; }
conn() { "$BIN/toe" conns --json | jq -e ".conns[] | select($1)"; }
client() { in_cli "$BIN/tests/progs/tcp_client" --timeout 20 "$@" >"$LOGS/client.log" 2>&1; }

wait_for 10 "link-local address of the TAP" link_local srv toe-tap
wait_for 10 "link-local address of the client" link_local cli cli0
SRV_LL=$(link_local srv toe-tap)
CLI_LL=$(link_local cli cli0)
known() { [ "$(status '"\(.address) \(.ipv6) \(.ipv6_link_local)"')" = "$SRV $SRV6 $SRV_LL" ]; }
wait_for 5 "the engine to know its addresses" known

# ---- what is not ours: ICMPv6, neighbour discovery, while everything below happens
cli_spawn ping ping -6 -i 0.2 "$SRV6"
PING=$SPAWNED

# ---- a server: 10 MB of random bytes over IPv6, then over IPv4 through the same listener
head -c 10M /dev/urandom >"$LOGS/in"
want=$(sha256sum <"$LOGS/in")
start_echo 7000 et --addr ::
for host in $SRV6 "$SRV_LL%cli0" $SRV; do
	cli_spawn transfer "$BIN/tests/progs/tcp_client" --host "$host" --port 7000 --file "$LOGS/in" --out "$LOGS/out" --timeout 40
	wait_for 5 "connection" grep -q connected "$LOGS/transfer.log"
	not_in_kernel 7000 || fail "$host: the kernel has the connection"
	wait "$SPAWNED" || fail "$host: $(tail -1 "$LOGS/transfer.log")"
	[ "$(sha256sum <"$LOGS/out")" = "$want" ] || fail "$host: other bytes came back"
done
[ "$(opens)" = '3 0' ] || fail "opens: $(opens)"

# ---- toe conns: RFC 5952
cli_spawn slow "$BIN/tests/progs/tcp_client" --host "$SRV6" --port 7000 --bytes 1M --rate 200K --timeout 30
SLOW=$SPAWNED
wait_for 5 "connection" conn ".local == \"[$SRV6]:7000\" and (.remote | startswith(\"[$CLI6]:\"))"
"$BIN/toe" conns --brief | grep -qE "^ESTAB +[0-9]+ +[0-9]+ +[0-9]+ +\\[$SRV6\\]:7000 +\\[$CLI6\\]:[0-9]+$" ||
	fail "toe conns: $("$BIN/toe" conns --brief)"
listener() { "$BIN/toe" listeners --json | jq -e ".listeners[] | select(.local == \"$1\")" >/dev/null; }
listener '*:7000' || fail "both families: $("$BIN/toe" listeners)"

# ---- a new control plane goes on with both
old=$(pid_of toe-controlplane) || fail "no control plane"
kill -9 "$old"
another() { [ "$(pid_of toe-controlplane)" != "$old" ] && pid_of toe-controlplane; }
wait_for 10 "control plane to come back" another
wait_for 10 "a connection afterwards" client --host $SRV6 --port 7000 --bytes 100K
listener '*:7000' || fail "both families, afterwards: $("$BIN/toe" listeners)"

# ---- loopback is the kernel's, on the same listener
in_srv "$BIN/tests/progs/tcp_client" --host ::1 --port 7000 --bytes 100K --timeout 20 >"$LOGS/loop.log" 2>&1 ||
	fail "::1: $(tail -1 "$LOGS/loop.log")"

# ---- IPv6 only: IPv4 is refused
start_echo 7001 lt --addr :: --v6only
listener '[::]:7001' || fail "IPv6 only: $("$BIN/toe" listeners)"
client --host $SRV6 --port 7001 --bytes 1M || fail "IPv6 only: $(cat "$LOGS/client.log")"
client --host $SRV --port 7001 --bytes 1M && fail "IPv4 client of a listener of IPv6 only"
grep -qi refused "$LOGS/client.log" || fail "IPv4 client: $(cat "$LOGS/client.log")"
# and the other half of the port is another program's
app other "$BIN/tests/progs/echo_server" --addr 0.0.0.0 --port 7001
wait_for 10 "the IPv4 listener" grep -q ready "$LOGS/other.log"
client --host $SRV --port 7001 --bytes 1M || fail "IPv4 beside IPv6 only: $(cat "$LOGS/client.log")"
# one address, and the link-local one
start_echo 7002 thread --addr $SRV6
client --host $SRV6 --port 7002 --bytes 1M || fail "one address: $(cat "$LOGS/client.log")"
start_echo 7003 lt --addr "$SRV_LL%toe-tap"
client --host "$SRV_LL%cli0" --port 7003 --bytes 1M || fail "link-local: $(cat "$LOGS/client.log")"
client --host $SRV6 --port 7003 --bytes 1M && fail "a listener on the link-local address answers for another"
# tied to the TAP: the same; to another interface: not ours
start_echo 7004 lt --addr :: --device toe-tap
client --host $SRV6 --port 7004 --bytes 1M || fail "tied to the TAP: $(cat "$LOGS/client.log")"
[ "$(unsupported)" = 0 ] || fail "left to the kernel: $("$BIN/toe" stats --unsupported)"

start_echo 7005 lt --addr :: --device lo
for host in $SRV $SRV6; do
	client --host "$host" --port 7005 --bytes 1M && fail "a listener tied to lo answers on $host"
done
in_srv "$BIN/tests/progs/tcp_client" --host ::1 --port 7005 --bytes 100K --timeout 20 >"$LOGS/loop.log" 2>&1 ||
	fail "tied to lo: $(tail -1 "$LOGS/loop.log")"
[ "$(unsupported)" = 1 ] || fail "not counted: $("$BIN/toe" stats --unsupported)"

# ---- a client: what the calls say is what the kernel says
cli_spawn kernel-echo "$BIN/tests/progs/echo_server" --addr :: --port 7100
wait_for 5 "echo server" grep -q ready "$LOGS/kernel-echo.log"
ways() { in_srv timeout 30 "$@" "$BIN/tests/progs/connect_ways" --host "$host" --port "$port" --way "$way" --timeout 8; }
before=$(status .controlplane.counters.active_opens)
for host in $CLI6 "$CLI_LL%toe-tap" "::ffff:$CLI"; do
	for port in 7100 7999; do
		for way in blocking epoll; do
			ways >"$LOGS/ways.kernel"
			ways "$BIN/toe" run -- >"$LOGS/ways.engine"
			diff "$LOGS/ways.kernel" "$LOGS/ways.engine" || fail "$way connect to $host, port $port"
			[ $port = 7999 ] || grep -q 'echo: right' "$LOGS/ways.engine" || fail "$host: $(cat "$LOGS/ways.engine")"
		done
	done
done
[ "$(status .controlplane.counters.active_opens)" -ge $((before + 12)) ] || fail "connections were not the engine's"
app out "$BIN/tests/progs/tcp_client" --host $CLI6 --port 7100 --file "$LOGS/in" --out "$LOGS/out" --timeout 40
wait "$SPAWNED" || fail "transfer: $(tail -1 "$LOGS/out.log")"
[ "$(sha256sum <"$LOGS/out")" = "$want" ] || fail "transfer: other bytes came back"
wait "$SLOW" || fail "slow transfer: $(tail -1 "$LOGS/slow.log")"
rm -f "$LOGS/in" "$LOGS/out"

# ---- a broker on both families: IPv6 subscriber, IPv4 publisher, and the other way round; all fast
printf '%s\n' 'listener 1883' 'allow_anonymous true' 'persistence false' >"$LOGS/mosquitto.conf"
app mosquitto mosquitto -c "$LOGS/mosquitto.conf"
BROKER_PID=$SPAWNED
for host in $SRV $SRV6; do
	wait_for 10 "mosquitto on $host" in_cli mosquitto_pub -h "$host" -t up -m 1
done
fast() { "$BIN/toe" mqtt status --json | jq .publishes.FAST; }
# exchange SUBSCRIBER-HOST PUBLISHER-HOST
exchange()
{
	local sub before
	cli_spawn sub stdbuf -oL mosquitto_sub -d -h "$1" -t t -C 200 -W 20
	sub=$SPAWNED
	wait_for 10 "subscription" grep -q 'Subscribed (mid' "$LOGS/sub.log"
	before=$(fast)
	seq 200 | in_cli mosquitto_pub -h "$2" -t t -l || fail "publish to $2"
	wait "$sub" || fail "subscriber on $1: not everything arrived from $2"
	[ "$(grep -v '^Client \|^Subscribed ' "$LOGS/sub.log")" = "$(seq 200)" ] || fail "other messages or another order"
	[ $(($(fast) - before)) -eq 200 ] || fail "$(($(fast) - before)) of 200 messages were fast: $("$BIN/toe" mqtt status)"
}
exchange $SRV6 $SRV
exchange $SRV $SRV6
[ "$(status '.controlplane.apps[] | select(.name == "mosquitto") | .kernel_conns')" = 0 ] || fail "the kernel has clients"
end_process "$BROKER_PID"

kill -INT "$PING"
wait "$PING"
# the last one may have been under way
read -r sent got < <(awk '/packets transmitted/ { print $1, $4 }' "$LOGS/ping.log")
[ "${got:-0}" -gt 10 ] && [ "$sent" -le $((got + 1)) ] || fail "ping: $(tail -2 "$LOGS/ping.log")"

# ---- addresses: a new one is followed, and all of them go back to the port
in_srv ip addr add fd00:99::7/64 dev toe-tap nodad
in_srv ip addr del $SRV6/64 dev toe-tap
moved() { [ "$(status .ipv6)" = fd00:99::7 ]; }
wait_for 5 "the engine to follow the address" moved
client --host fd00:99::7 --port 7000 --bytes 1M || fail "new address: $(cat "$LOGS/client.log")"
# a router's prefix, as the kernel's settings say; on the TAP, which has the port's MAC
in_srv sysctl -qw net.ipv6.conf.toe-tap.accept_ra=2 net.ipv6.conf.toe-tap.addr_gen_mode=0
in_cli python3 - cli0 fd00:77:: <<-'END' || fail "router advertisement"
	import socket, struct, sys
	link = socket.if_nametoindex(sys.argv[1])
	s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
	s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
	s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link)
	advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
	prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 1800, 0) + socket.inet_pton(socket.AF_INET6, sys.argv[2])
	s.sendto(advertisement + prefix, ("ff02::1", 0, 0, link))
END
SLAAC=fd00:77::${SRV_LL#fe80::}
slaac() { ip -n "$PREFIX-srv" -6 -o addr show dev toe-tap dynamic -tentative | grep -qF " $SLAAC/64 "; }
wait_for 10 "the TAP to have $SLAAC" slaac
[ -n "$(ip -n "$PREFIX-srv" -6 route show default dev toe-tap proto ra)" ] || fail "no default route from the router"
ip -n "$PREFIX-cli" addr add fd00:77::2/64 dev cli0 nodad
client --host "$SLAAC" --port 7000 --bytes 1M || fail "advertised prefix: $(cat "$LOGS/client.log")"
in_srv "$BIN/toe" down --config "$ENGINE_CONFIG" >"$LOGS/down.log" 2>&1 || fail "down: $(cat "$LOGS/down.log")"
back() { [ "$(ip -n "$PREFIX-srv" -6 -o addr show dev toe0 -tentative | awk '{ print $4 }' | sort | tr '\n' ' ')" = "$SRV6/64 $SRV_LL/64 " ]; }
wait_for 10 "the addresses to be the port's again" back
in_cli ping -6 -c 1 -W 5 $SRV6 >"$LOGS/ping.log" 2>&1 || fail "the kernel does not answer: $(cat "$LOGS/ping.log")"
# after a crash too: the next start finds them in the lock file
ip -n "$PREFIX-srv" -6 route add fd00:98::/64 via $CLI6 dev toe0
in_srv "$BIN/toe" up --config "$ENGINE_CONFIG" >"$LOGS/up.log" 2>&1 || fail "up: $(cat "$LOGS/up.log")"
[ -n "$(ip -n "$PREFIX-srv" -6 route show fd00:98::/64 dev toe-tap)" ] || fail "the route was not taken over"
kill -9 "$(pid_of toe-keeper)"
engine_gone() { ! pid_of toe-datapath; }
wait_for 10 "the engine to be gone" engine_gone
in_srv "$BIN/toe" down --config "$ENGINE_CONFIG" >"$LOGS/down.log" 2>&1
wait_for 10 "the addresses to be the port's again" back
[ -n "$(ip -n "$PREFIX-srv" -6 route show fd00:98::/64 dev toe0)" ] || fail "the route was not given back: $(ip -n "$PREFIX-srv" -6 route; cat "$LOGS/down.log")"
