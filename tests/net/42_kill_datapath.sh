#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The datapath is killed: programs get ECONNRESET at once, whatever they are blocked in (poll, recv, epoll, a
# connect() under way), so do peers that only receive; none hangs, `toe up` starts again, and then everything works.
# PLACEMENTS: single spread stage stage+af_xdp
. "$(dirname "$0")/../lib/net.sh"
testbed_up
# the addresses are the port's own, so the kernel has them when the engine is gone
in_srv "$BIN/toe" down >"$LOGS/down.log" 2>&1 || fail "toe down: $(tail -1 "$LOGS/down.log")"
ip -n "$PREFIX-srv" addr add $SRV/24 dev toe0
in_srv "$BIN/toe" up --config "$ENGINE_CONFIG" >"$LOGS/up.log" 2>&1 || fail "toe up: $(tail -1 "$LOGS/up.log")"
CLIENT=$BIN/tests/progs/tcp_client

# servers with a connection on which nothing happens: blocked in recv, in epoll of either kind; they end
# by themselves when that connection is broken
SERVERS=()
port=7000
for mode in thread lt et; do
	start_echo $port $mode --max-conns 1
	SERVERS+=("$ECHO_PID")
	cli_spawn "passive.$mode" "$CLIENT" --host "$SRV" --port $port --bytes 100M --rate 1 --timeout 60
	wait_for 10 "inbound connection" grep -q connected "$LOGS/passive.$mode.log"
	port=$((port + 1))
done
start_broker
# peers that only receive, one behind a SUBSCRIBE of QoS 0 and without keep alive, one over IPv6
PEERS=()
start_echo 7003 lt --addr ::
# peer NAME ADDRESS PORT [PRINTF]: sends that, then only reads until the end
peer()
{
	cli_spawn "peer.$1" bash -c "exec 3<>/dev/tcp/$2/$3; printf '${4:-x}' >&3; echo connected; cat <&3; echo"
	PEERS+=("$SPAWNED")
}
peer mqtt "$SRV" 1883 '\020\020\0\004MQTT\004\002\0\0\0\004mute\202\006\0\001\0\001t\0'
peer v4 "$SRV" 7003
peer v6 "$SRV6" 7003
for p in mqtt v4 v6; do wait_for 10 "peer $p" eval "[ \$(wc -c <'$LOGS/peer.$p.log') -gt 10 ]"; done
# clients under the engine: blocked in poll with data flowing, in poll with none, in connect()
cli_spawn kernel-echo "$BIN/tests/progs/echo_server" --port 7100
wait_for 5 "kernel echo server" grep -q ready "$LOGS/kernel-echo.log"
cli_spawn silent "$BIN/tests/progs/endings" server idle --port 7101
wait_for 5 "silent server" grep -q listening "$LOGS/silent.log"
in_cli nft -f - <<-'END' || fail "nft"
	table inet silent {
		chain in {
			type filter hook input priority 0
			tcp dport 7998 drop
		}
	}
	END
app active "$CLIENT" --host "$CLI" --port 7100 --bytes 100M --rate 1M --expect reset --timeout 60
active=$SPAWNED
app waiting "$BIN/tests/progs/endings" client idle --host "$CLI" --port 7101
waiting=$SPAWNED
app connecting "$BIN/tests/progs/connect_ways" --host "$CLI" --port 7998
connecting=$SPAWNED
wait_for 10 "outbound connection" grep -q connected "$LOGS/active.log"
wait_for 10 "silent connection" grep -q staged "$LOGS/silent.log"
syn_sent() { [ "$("$BIN/toe" status --json | jq .controlplane.syn_sent)" = 1 ]; }
wait_for 10 "connect() to be under way" syn_sent

old=$(pid_of toe-datapath) || fail "no datapath"
kill -9 "$old"
begin=$(date +%s%N)
for p in "$active" "$waiting" "$connecting" "${SERVERS[@]}"; do
	wait_for 5 "process $p to see the end" gone "$p"
done
took=$((($(date +%s%N) - begin) / 1000000))
[ $took -lt 2000 ] || fail "the programs saw the end after $took ms"
wait "$active" || fail "client: $(tail -1 "$LOGS/active.log")"
grep -q 'then ECONNRESET' "$LOGS/waiting.log" || fail "waiting client: $(tail -1 "$LOGS/waiting.log")"
grep -qE 'connect: (ECONN|ENET|ETIMEDOUT)' "$LOGS/connecting.log" || fail "connect(): $(cat "$LOGS/connecting.log")"
for log in "$LOGS"/echo.700[0-2].log; do
	grep -q '"closed":1,"resets":1' "$log" || fail "server: $(tail -1 "$log")"
done
for log in mosquitto echo.7000 active; do
	wait_for 5 "$log to say that its engine is gone" grep -q 'engine is gone' "$LOGS/$log.log"
	[ "$(grep -c 'engine is gone: this program stays with the kernel' "$LOGS/$log.log")" = 1 ] ||
		fail "not once in $log: $(grep 'engine is gone' "$LOGS/$log.log")"
done
for p in "${PEERS[@]}"; do
	wait_for 10 "peer $p to see the end" gone "$p"
done
[ "$(grep -l 'Connection reset' "$LOGS"/peer.*.log | wc -l)" = 3 ] || fail "peers: $(tail -n 1 "$LOGS"/peer.*.log)"
end_process "$BROKER_PID"

# at once, with the old keeper still giving the port back or gone: toe up waits for it
in_srv "$BIN/toe" up --config "$ENGINE_CONFIG" >"$LOGS/up.log" 2>&1 || fail "toe up: $(tail -1 "$LOGS/up.log")"
wait_for 10 "datapath" pid_of toe-datapath
start_echo 7010 lt
in_cli "$CLIENT" --host "$SRV" --port 7010 --bytes 10M --timeout 30 || fail "after toe up"

start_broker
fanout --subscribers 20 --publishes 50 --timeout 30 || fail "broker after toe up: $(cat "$LOGS/fanout.json")"
in_cli ping -q -c 5 -i 0.05 -W 2 "$SRV" >/dev/null || fail "ping after toe up"
