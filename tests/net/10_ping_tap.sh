#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The kernel goes on behind the TAP: ping, large ping, TCP to a port nobody offloaded, refused ports; and all of it,
# with UDP and TCP in both directions, on the same address while an offloaded transfer runs.
# PLACEMENTS: single spread
. "$(dirname "$0")/../lib/net.sh"
testbed_up

in_cli ping -q -c 50 -i 0.02 -W 2 "$SRV" >"$LOGS/ping.log" || fail "ping loses"
in_cli ping -q -c 5 -i 0.02 -W 2 -M do -s 1472 "$SRV" >>"$LOGS/ping.log" || fail "full-size ping loses"

srv_spawn kernel-echo "$BIN/tests/progs/echo_server" --port 7001
wait_for 5 "kernel echo server" grep -q ready "$LOGS/kernel-echo.log"
in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7001 --bytes 4M --timeout 30 ||
	fail "TCP of the kernel through the TAP"
not_in_kernel 7001 || fail "connection outlives its program"

begin=$(date +%s%N)
in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7999 --bytes 1 --timeout 5 2>"$LOGS/refused.log" &&
	fail "a port nobody listens on accepts"
grep -q refused "$LOGS/refused.log" || fail "no listener: $(cat "$LOGS/refused.log"), not refused"
[ $((($(date +%s%N) - begin) / 1000000)) -lt 1000 ] || fail "refusal took longer than 1 s"

# ---- the same while the engine is at work on this address
# shellcheck disable=SC2016 # the dollars are perl's
UDP_SERVER='use IO::Socket::INET; $| = 1;
	my $s = IO::Socket::INET->new(Proto => "udp", LocalAddr => $ARGV[0], LocalPort => 7777) or die "bind: $!";
	print "ready\n"; while ($s->recv(my $m, 2000)) { $s->send($m) }'
# shellcheck disable=SC2016
UDP_CLIENT='use IO::Socket::INET; alarm 10;
	my $s = IO::Socket::INET->new(Proto => "udp", PeerAddr => $ARGV[0], PeerPort => 7777) or die "socket: $!";
	for my $i (1 .. 200) {
		my $m = $i . "x" x ($i * 7);
		$s->send($m); $s->recv(my $back, 2000);
		die "datagram $i: other bytes\n" unless $back eq $m;
	}'
srv_spawn udp-srv perl -e "$UDP_SERVER" "$SRV"
cli_spawn udp-cli perl -e "$UDP_SERVER" "$CLI"
wait_for 5 "UDP servers" grep -q ready "$LOGS/udp-srv.log"
wait_for 5 "UDP servers" grep -q ready "$LOGS/udp-cli.log"
cli_spawn kernel-echo-cli "$BIN/tests/progs/echo_server" --port 7100
wait_for 5 "echo server of the client" grep -q ready "$LOGS/kernel-echo-cli.log"

start_echo 7000 et
cli_spawn offloaded "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 24M --rate 4M --timeout 40
offloaded=$SPAWNED
wait_for 5 "offloaded transfer" grep -q connected "$LOGS/offloaded.log"
# sessions of the kernel, in and out
cli_spawn in "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7001 --bytes 2M --rate 1M --timeout 30
in=$SPAWNED
srv_spawn out "$BIN/tests/progs/tcp_client" --host "$CLI" --port 7100 --bytes 2M --rate 1M --timeout 30
out=$SPAWNED
wait_for 5 "session in" grep -q connected "$LOGS/in.log"
wait_for 5 "session out" grep -q connected "$LOGS/out.log"
not_in_kernel 7000 || fail "the kernel has the offloaded connection"
not_in_kernel 7001 && fail "the kernel does not have its own connection"
[ "$("$BIN/toe" conns --json | jq '.conns | length')" = 1 ] || fail "the engine has more than the one connection"
in_cli perl -e "$UDP_CLIENT" "$SRV" || fail "UDP to the address"
in_srv perl -e "$UDP_CLIENT" "$CLI" || fail "UDP from the address"
in_cli ping -q -c 50 -i 0.02 -W 2 "$SRV" >>"$LOGS/ping.log" || fail "ping beside a transfer loses"
in_srv ping -q -c 20 -i 0.02 -W 2 "$CLI" >>"$LOGS/ping.log" || fail "ping out beside a transfer loses"
gone "$offloaded" && fail "the transfer ended before the rest had run beside it"
wait "$in" || fail "kernel session in: $(tail -1 "$LOGS/in.log")"
wait "$out" || fail "kernel session out: $(tail -1 "$LOGS/out.log")"
wait "$offloaded" || fail "offloaded transfer: $(tail -1 "$LOGS/offloaded.log")"
