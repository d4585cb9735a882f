#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Floods of each kind of forged frame at a listener and at a connection in use: the connection's bytes stay right and
# keep coming, new clients get in meanwhile, the engine counted what it threw away, and in the end holds no more than
# before.  And an application that uses up its local ports.
# docs/COMPLIANCE.md has the list of attacks and what answers each.
# PLACEMENTS: single spread
# TIMEOUT: 180
. "$(dirname "$0")/../lib/net.sh"

RATE=20000
SYNS=50000
RSS_GROWTH_KB=16384

write_config 'tcp: { time_wait_ms = 8000; };'
testbed_up
# SYN-ACKs to nobody leave by the port and get lost there
in_srv ip route add 198.18.0.0/15 via "$CLI" || fail "route"
MAC=$(in_srv cat /sys/class/net/toe-tap/address)

counters() { "$BIN/toe" stats --json | jq "[.drops, .counters | .${1//,/ // 0, .} // 0] | add"; }
fragments() { echo $(($(counters fragment) + $(in_srv nstat -asz IpReasmReqds | awk '/^IpReasm/ { print $2 }'))); }
status() { "$BIN/toe" status --json | jq ".controlplane.$1"; }
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
as_before() { [ "$(engine_held)" = "$held" ]; }
no_connections() { [ "$("$BIN/toe" status --json | jq '.controlplane | .connections + .time_wait')" = 0 ]; }

# A connection that is in use all the time: 2 MB/s, compared byte by byte.
start_victim()
{
	cli_spawn victim "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 200M --rate 2M --timeout 170
	VICTIM=$SPAWNED
	wait_for 10 "the connection" grep -q connected "$LOGS/victim.log"
	FROM=$(in_cli ss -Htn state established dst "$SRV" | awk '{ print $3; exit }')
	[ -n "$FROM" ] || fail "no connection"
}
victim_got() { in_cli ss -Htin state established src "$FROM" | grep -o 'bytes_received:[0-9]*' | cut -d: -f2; }

# attack KIND COUNT
attack()
{
	cli_spawn "attack.$1" "$BIN/tests/progs/attacker" --interface cli0 --mac "$MAC" --to "$SRV:7000" \
		--from "$FROM" --count "$2" --rate $RATE --seed 29 "$1"
	ATTACK=$SPAWNED
}

# under KIND COUNT [WHAT-IS-COUNTED]: new clients and the connection in use, while it goes on
under()
{
	local kind=$1 got counted resets
	got=$(victim_got)
	counted=$([ -z "${3:-}" ] || counters "$3")
	resets=$(status counters.resets)
	attack "$kind" "$2"
	in_cli "$BIN/tests/progs/conn_storm" --host "$SRV" --port 7000 --rate 100 --count 100 --timeout 10 \
		>"$LOGS/storm.$kind.json" || fail "$kind: new clients: $(cat "$LOGS/storm.$kind.json")"
	wait "$ATTACK" || fail "$kind: $(tail -1 "$LOGS/attack.$kind.log")"
	gone "$VICTIM" && fail "$kind: the connection in use broke: $(tail -1 "$LOGS/victim.log")"
	wait_for 10 "bytes of the connection in use ($kind)" eval "[ \$(victim_got) -gt $((got + 500000)) ]"
	[ "$(status counters.resets)" = "$resets" ] || fail "$kind: a connection was reset"
	[ -n "${3:-}" ] && counted=$(($(counters "$3") - counted)) && [ "$counted" -lt $(($2 / 10)) ] &&
		fail "$kind: only $counted of $2 frames were counted as $3"
	say "$kind: $2 frames, ${3:-nothing} counted ${counted:-}, clients $(jq -c .connect_and_echo_us "$LOGS/storm.$kind.json")"
}

start_echo 7000 et
in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 5M >/dev/null || fail "warming up"
wait_for 20 "the first connection to end" no_connections
held=$(engine_held)
for name in toe-datapath toe-keeper toe-controlplane; do
	p=$(pid_of $name) || fail "no $name"
	echo "$name $p $(rss "$p")"
done >"$LOGS/before.proc"

start_victim
under syn $SYNS
[ "$(status half_open)" -le 1024 ] || fail "$(status half_open) half-open connections"
[ "$(status counters.cookies_sent)" -gt 0 ] || fail "50 000 SYNs and no cookie"
under ack 10000
# those of the real clients, while the table is full
[ "$(status counters.cookies_valid)" -le 200 ] || fail "cookies nobody gave out were taken"
under rst 10000
under syn-in-flight 10000
under data 10000
under flags 10000 tcp_flags,no_ack_flag
under options 10000
under addresses 10000
under lengths 10000 short,ip_header,tcp_header
under checksums 10000 tcp_checksum,ip_header
# with af_packet the kernel collects fragments in front of the engine, within net.ipv4.ipfrag_high_thresh
before=$(fragments)
under fragments 10000
say "fragments: $(counters fragment) by the engine, $(($(fragments) - before)) in all"
[ $(($(fragments) - before)) -ge 2000 ] || fail "fragments: $(($(fragments) - before)) of 10000 counted"
under icmp 10000

# ---- local ports: each is used once, then there is none until TIME-WAITs end ----
in_srv sysctl -qw net.ipv4.ip_local_port_range="50000 50063"
cli_spawn kernel-echo "$BIN/tests/progs/echo_server" --port 7001
wait_for 5 "echo server of the kernel" grep -q ready "$LOGS/kernel-echo.log"
app ports "$BIN/tests/progs/port_churn" --host "$CLI" --port 7001 --ports 64
wait "$SPAWNED" || fail "ports: $(tail -1 "$LOGS/ports.log")"
tail -1 "$LOGS/ports.log"

# ---- afterwards, nothing of all that ----
end_process "$VICTIM"
# what half-open connections wait for: the client's ACK, 63 s
wait_for 90 "half-open connections to be forgotten" eval "[ \$(\"$BIN/toe\" status --json | jq .controlplane.half_open) = 0 ]"
wait_for 20 "connections to end" no_connections
for _ in $(seq 100); do as_before && break; sleep 0.05; done
as_before || fail "the engine holds on to something: before: $held; now: $(engine_held)"
while read -r name p kb; do
	[ "$(pid_of "$name")" = "$p" ] || fail "$name died"
	[ $(($(rss "$p") - kb)) -lt $RSS_GROWTH_KB ] || fail "$name: $kb KB resident before, $(rss "$p") KB now"
done <"$LOGS/before.proc"
