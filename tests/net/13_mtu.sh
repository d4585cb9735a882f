#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The port at the largest MTU of its driver (9000; af_xdp: 1960), and peers of other MTUs: one on the same link with as
# much; one of 9000 behind two routers with a link of 576 (IPv6: 1280) between them, which both ends learn of by ICMP;
# one whose own MTU is 576 (1280), which its MSS says.  Over IPv4 and IPv6, in both roles, every byte both ways.  That
# segments have the size they should have is counted on arrival, where nothing has been merged.
#
#    srv toe0 --MTU-- cli0 CLI n0 --narrow-- n1 MID w0 --9000-- w1 FAR
#
# PLACEMENTS: single spread single+af_xdp
# TIMEOUT: 150
. "$(dirname "$0")/../lib/net.sh"
MTU=9000
[ "$DRIVER" = af_xdp ] && MTU=1960
write_config "port: { mtu = $MTU; };"
testbed_up

FAR=10.97.0.2 FAR6=fd00:97::2
BYTES=$((4 << 20))

# ---- the path behind the client
on() { local ns=$1; shift; ip netns exec "$PREFIX-$ns" "$@"; }
offloads_off() { on "$1" ethtool -K "$2" tx off rx off tso off gso off gro off >/dev/null 2>&1; }
# link NS DEVICE NS DEVICE MTU
link()
{
	ip link add "$2" mtu "$5" netns "$PREFIX-$1" type veth peer name "$4" mtu "$5" netns "$PREFIX-$3" &&
		offloads_off "$1" "$2" && offloads_off "$3" "$4" &&
		ip -n "$PREFIX-$1" link set "$2" up && ip -n "$PREFIX-$3" link set "$4" up
}
address() { ip -n "$PREFIX-$1" addr add "$3" dev "$2" ${4:+"$4"}; }
route() { ip -n "$PREFIX-$1" route add "$2" via "$3"; }
path()
{
	local ns
	for ns in mid far; do
		ip netns add "$PREFIX-$ns" || return 1
	done
	for ns in cli mid; do
		on $ns sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	done
	link cli n0 mid n1 9000 && link mid w0 far w1 9000 &&
		address cli n0 10.98.0.1/24 && address cli n0 fd00:98::1/64 nodad &&
		address mid n1 10.98.0.2/24 && address mid n1 fd00:98::2/64 nodad &&
		address mid w0 10.97.0.1/24 && address mid w0 fd00:97::1/64 nodad &&
		address far w1 $FAR/24 && address far w1 $FAR6/64 nodad &&
		route cli 10.97.0.0/24 10.98.0.2 && route cli fd00:97::/64 fd00:98::2 &&
		route mid 10.99.0.0/24 10.98.0.1 && route mid fd00:99::/64 fd00:98::1 &&
		route far default 10.97.0.1 && route far default fd00:97::1 &&
		route srv 10.97.0.0/24 $CLI && route srv fd00:97::/64 $CLI6
}
# mtu NS DEVICE NS DEVICE MTU: of both ends of a link
mtu()
{
	ip -n "$PREFIX-$1" link set "$2" mtu "$5" && ip -n "$PREFIX-$3" link set "$4" mtu "$5" || fail "MTU of $2"
}

# ---- what arrives, before the engine's own table has its say
# watch NS DEVICE MTU: bytes of TCP in packets of exactly MTU, and of more
watch()
{
	on "$1" nft -f - <<-END || fail "nft in $1"
	table netdev sizes-$2
	delete table netdev sizes-$2
	table netdev sizes-$2 {
		counter full { }
		counter more { }
		chain in {
			type filter hook ingress device $2 priority -500;
			meta l4proto tcp meta length $3 counter name full
			meta l4proto tcp meta length > $3 counter name more
		}
	}
	END
}
seen() { on "$1" nft -j list counter netdev "sizes-$2" "$3" | jq '.nftables[] | .counter? // empty | .bytes'; }
# sizes WHAT NS DEVICE: of two transfers much was in packets of the size watched for (how much depends on how the
# programs' writes fall), nothing in larger ones
sizes()
{
	local full more
	[ "$3.$DRIVER" = toe0.af_xdp ] && return # past nft
	full=$(seen "$2" "$3" full) more=$(seen "$2" "$3" more)
	say "$1: $full bytes in full packets at $2 $3, $more in larger ones"
	[ "$more" = 0 ] || fail "$1: $more bytes in larger packets arrived at $2 $3"
	[ "$full" -gt $((BYTES / 2)) ] || fail "$1: only $full bytes in full packets arrived at $2 $3"
}

# ---- transfers
counter() { "$BIN/toe" status --json | jq ".controlplane.counters | $1"; }
same() { [ "$(sha256sum <"$LOGS/out")" = "$want" ] || fail "$1: other bytes came back"; }
client="$BIN/tests/progs/tcp_client --file $LOGS/in --out $LOGS/out --timeout 40"

# what it learned of paths, its kernel would tell the next peer by its MSS
forget() { ip -n "$PREFIX-$1" route flush cache && ip -n "$PREFIX-$1" -6 route flush cache; }

# both_roles WHAT NS ENGINE'S-ADDRESS PEER'S-ADDRESS: a client of NS asks the engine's echo server, then the other way round
both_roles()
{
	local opens
	opens=$(counter ".passive_opens + .active_opens")
	# shellcheck disable=SC2086
	on "$2" $client --host "$3" --port 7000 >"$LOGS/client.log" 2>&1 || fail "$1, engine serves: $(tail -1 "$LOGS/client.log")"
	same "$1, engine serves"
	forget "$2"
	# shellcheck disable=SC2086
	app asks $client --host "$4" --port 7100
	wait "$SPAWNED" || fail "$1, engine asks: $(tail -1 "$LOGS/asks.log")"
	same "$1, engine asks"
	[ "$(counter ".passive_opens + .active_opens")" = $((opens + 2)) ] || fail "$1: connections were not the engine's"
}

# same_link FAMILY ENGINE'S PEER'S: full segments of the port's MTU both ways
same_link()
{
	watch cli cli0 $MTU
	watch srv toe0 $MTU
	both_roles "$1, $MTU" cli "$2" "$3"
	sizes "$1, $MTU" cli cli0
	sizes "$1, $MTU" srv toe0
}

# behind_routers FAMILY ENGINE'S PEER'S MTU: only the routers know
behind_routers()
{
	local lowered before
	mtu cli n0 mid n1 "$4"
	forget far
	before=$(counter .pmtu_lowered)
	watch cli cli0 "$4"
	watch far w1 "$4"
	watch srv toe0 "$4"
	both_roles "$1, path of $4" far "$2" "$3"
	sizes "$1, path of $4" far w1
	sizes "$1, path of $4" srv toe0
	lowered=$(($(counter .pmtu_lowered) - before))
	[ $lowered -ge 2 ] || fail "$1, path of $4: $lowered connections learned of it"
	say "$1, path of $4: $(seen cli cli0 more) bytes in larger packets came to the first router"
	[ "$(seen cli cli0 more)" -gt 0 ] || fail "$1, path of $4: there was nothing to learn"
}

# small_peer FAMILY ENGINE'S PEER'S MTU: its MSS says it, nobody else has to
small_peer()
{
	local before
	mtu cli n0 mid n1 9000
	mtu mid w0 far w1 "$4"
	before=$(counter .icmp_errors)
	watch cli cli0 "$4"
	watch srv toe0 "$4"
	both_roles "$1, peer of $4" far "$2" "$3"
	sizes "$1, peer of $4" cli cli0
	sizes "$1, peer of $4" srv toe0
	[ "$(counter .icmp_errors)" = "$before" ] || fail "$1, peer of $4: a router had to say it"
}

path || fail "path"
start_echo 7000 et --addr ::
spawn echo.cli ip netns exec "$PREFIX-cli" "$BIN/tests/progs/echo_server" --addr :: --port 7100
spawn echo.far ip netns exec "$PREFIX-far" "$BIN/tests/progs/echo_server" --addr :: --port 7100
wait_for 5 "an echo server" grep -q ready "$LOGS/echo.cli.log"
wait_for 5 "an echo server" grep -q ready "$LOGS/echo.far.log"
head -c $BYTES /dev/urandom >"$LOGS/in"
want=$(sha256sum <"$LOGS/in")
known() { [ "$("$BIN/toe" status --json | jq -r .ipv6)" = "$SRV6" ]; }
wait_for 5 "the engine to know its addresses" known

same_link IPv4 $SRV $CLI
same_link IPv6 $SRV6 $CLI6
# a link of less than 1280 takes its IPv6 addresses away
behind_routers IPv6 $SRV6 $FAR6 1280
small_peer IPv6 $SRV6 $FAR6 1280
mtu mid w0 far w1 9000
behind_routers IPv4 $SRV $FAR 576
small_peer IPv4 $SRV $FAR 576
rm -f "$LOGS/in" "$LOGS/out"
