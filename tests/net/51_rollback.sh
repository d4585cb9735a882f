#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An offloaded broker is stopped with clients connected, so that the engine keeps their TIME-WAITs, and started
# again without toe run: clients connect at once, also from a port that is in TIME-WAIT, and so do programs that
# connect from the broker's port.  And back again under toe run.  Over both families.
# PLACEMENTS: single spread
# TIMEOUT: 90
. "$(dirname "$0")/../lib/net.sh"
testbed_up
CLIENTS=20
REUSED=45001 # source port of a client that comes back

status() { "$BIN/toe" status --json | jq -r ".controlplane.$1"; }
at_least() { [ "$(status "$1")" -ge "$2" ]; }
none() { [ "$(status "$1")" = 0 ]; }
listens() { [ -n "$(in_srv ss -Htln '( sport = :1883 )')" ]; }

# client HOST PORT FROM: a connection from a port of its own, made with the first SYN, open until the peer ends it
client()
{
	cat <<-END
	import socket, sys
	s = socket.socket(socket.AF_INET6 if ":" in "$1" else socket.AF_INET)
	s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
	s.bind(("", $3))
	s.settimeout(0.9)
	s.connect(("$1", $2))
	print("connected", flush=True)
	s.settimeout(30)
	s.recv(1)
	END
}

# offloaded: the broker under the engine, with clients
offloaded()
{
	local i
	start_broker
	for i in $(seq $CLIENTS); do
		cli_spawn "sub$i" stdbuf -oL mosquitto_sub -d -h "$([ $((i % 2)) = 0 ] && echo "$SRV" || echo "$SRV6")" -t "t/$i"
		wait_for 10 "client $i" grep -q 'Subscribed (mid' "$LOGS/sub$i.log"
	done
	cli_spawn old4 python3 -c "$(client "$SRV" 1883 $REUSED)"
	cli_spawn old6 python3 -c "$(client "$SRV6" 1883 $REUSED)"
	for i in old4 old6; do
		wait_for 10 "$i" grep -q connected "$LOGS/$i.log"
	done
	not_in_kernel 1883 || fail "clients of toe run are the kernel's"
}

stop_broker()
{
	kill "$BROKER_PID"
	wait_for 5 "the broker to end" gone "$BROKER_PID"
}

# the broker of Debian's listens on both families
write_mosquitto_conf() { printf 'listener 1883\nallow_anonymous true\npersistence false\n' >"$LOGS/mosquitto.conf"; }
offloaded
stop_broker
wait_for 10 "TIME-WAITs" at_least time_wait $CLIENTS
wait_for 10 "the connections to be gone" none connections
waits=$(status time_wait)

# ---- from the broker's port to somebody else
for host in $CLI "$CLI6"; do
	cli_spawn other python3 -c "
import socket
s = socket.create_server(('$host', 9000), family=socket.AF_INET6 if ':' in '$host' else socket.AF_INET)
print('ready', flush=True)
s.accept()[0].send(b'x')"
	wait_for 10 "a server of the other side's" grep -q ready "$LOGS/other.log"
	in_srv python3 -c "$(client "$host" 9000 1883)" || fail "connecting from the broker's port to $host"
done

# ---- without toe run
srv_spawn plain mosquitto -c "$LOGS/mosquitto.conf"
BROKER_PID=$SPAWNED
wait_for 10 "the kernel to listen" listens
broker_answers || fail "a client of the broker on the kernel"
in_cli mosquitto_pub -h "$SRV6" -t up -m 1 || fail "a client over IPv6"
at_least time_wait "$waits" || fail "TIME-WAITs ended before their time: $(status time_wait) of $waits"
for host in $SRV "$SRV6"; do
	cli_spawn again python3 -c "$(client "$host" 1883 $REUSED)"
	wait_for 5 "a connection to $host from a port in TIME-WAIT" grep -q connected "$LOGS/again.log"
done
[ "$(status counters.time_wait_reused)" = 2 ] || fail "$(status counters.time_wait_reused) TIME-WAITs gave way, not 2"
at_least time_wait $((waits - 2)) || fail "others gave way, too: $(status time_wait) of $waits"
fanout --subscribers 20 --publishes 200 --timeout 30 || fail "fan-out on the kernel: $(cat "$LOGS/fanout.json")"
not_in_kernel 1883 && fail "clients are not the kernel's"

# ---- and back
stop_broker
app mosquitto mosquitto -c "$LOGS/mosquitto.conf"
BROKER_PID=$SPAWNED
port_told() { [ "$("$BIN/toe" listeners --json | jq '.listeners | length')" -ge 1 ]; }
wait_for 10 "the engine to listen" port_told
broker_answers || fail "a client of the broker under toe run"
fanout --subscribers 20 --publishes 200 --timeout 30 || fail "fan-out on the engine: $(cat "$LOGS/fanout.json")"
not_in_kernel 1883 || fail "clients are the kernel's still"
