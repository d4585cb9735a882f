#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients over WebSocket, with TLS and without, through the engine and through the kernel: what they subscribe to is read
# along with the broker, only those topics go slow, nobody misses a message, and they are fast again when the client has
# left.  mosquitto with libwebsockets.
# PLACEMENTS: single spread
# TIMEOUT: 180
. "$(dirname "$0")/../lib/net.sh"
. tests/lib/mqtt_slow.sh
BROKER=$(tests/mqtt/mosquitto_ws.sh) || fail "no broker with WebSocket"
write_config 'mqtt: { ports = (1883); offload = ("#"); canary = 0; };'
testbed_up
ip -n "$PREFIX-srv" link set lo up
make_cert
write_mosquitto_conf
echo known:right >"$LOGS/passwords"
mosquitto_passwd -U "$LOGS/passwords"
chmod 644 "$LOGS/passwords"
cat >>"$LOGS/mosquitto.conf" <<-END
	password_file $LOGS/passwords
	listener 8080 0.0.0.0
	protocol websockets
	listener 8443 0.0.0.0
	protocol websockets
	certfile $LOGS/cert.pem
	keyfile $LOGS/key.pem
END
app mosquitto "$BROKER" -c "$LOGS/mosquitto.conf"
BROKER_PID=$SPAWNED
wait_for 10 mosquitto broker_answers
MANY=()
WEB=(-p 8080)
TLS=(-p 8443 --cafile "$LOGS/cert.pem")
SUBSCRIBER=(tests/mqtt/web_sub.py)

cli_spawn sub stdbuf -oL mosquitto_sub -i watcher -h $SRV -t '#' -v
wait_for 10 "the subscription" state_is '#' active
why FAST a 1 20

# ---- through the engine
subscribed cli_spawn one -h $SRV "${WEB[@]}" -t 'b/+' -t c
ONE=$SPAWNED
conns 1 1 0 0 || fail "not followed: $(m status --json)"
only_its_topics_are_slow one

# ---- fast and slow in turn, from one publisher
fast_and_slow one

# ---- a publisher over WebSocket: the broker delivers, to clients with and without
slow_publisher tests/mqtt/web_sub.py -h $SRV "${WEB[@]}" --publish b/x

# ---- through the kernel, MQTT 5
through_the_kernel "${WEB[@]}"

# ---- WebSocket in TLS, through both
subscribed cli_spawn three -h $SRV "${TLS[@]}" -t 'f/#'
THREE=$SPAWNED
subscribed srv_spawn four -h 127.0.0.1 "${TLS[@]}" -t 'g/#'
FOUR=$SPAWNED
conns 2 2 2 2 || fail "not followed: $(m status --json)"
why KERNEL f/x 1 20
why KERNEL g/x 1 20
has three f/x 1 20
has four g/x 1 20
why FAST e 21 40
end_process "$FOUR"
kill -9 "$THREE"
wait_for 10 "both to be gone" conns 1 1 1 1
why FAST f/x 21 40

# ---- a session that lasts: begun through the engine, where CONNACK says that it is new, resumed through the kernel
session_begins h "${WEB[@]}"
# refused ARGS...: the broker refuses it, and who it says it is loses nothing
refused() { in_cli tests/mqtt/web_sub.py -h $SRV "${WEB[@]}" -u known -P wrong -t x "$@" >>"$LOGS/refused.log" 2>&1 && fail "not refused: $*"; }
refused -V 5 --expiry 1000 -i lasts
refused -i lasts
refused -i "$(printf 'z%.0s' $(seq 170))"
[ "$(grep -c '^refused: ' "$LOGS/refused.log")" = 3 ] || fail "no answer of the broker: $(tail -3 "$LOGS/refused.log")"
wait_for 10 "them to be gone" conns 1 1 1 1
session_resumed h i "${WEB[@]}"

# ---- what brokers take, against the standards
cli_spawn odd tests/mqtt/web_odd.py $SRV 8080 o
wait_for 10 "it to subscribe" grep -q 'Subscribed (mid' "$LOGS/odd.log"
conns 2 2 1 1 || fail "not followed: $(m status --json)"
why KERNEL o 1 20
has odd o 1 20
end_process "$SPAWNED"
wait_for 10 "it to be gone" conns 1 1 1 1

# ---- what is no MQTT yet, or never: HTTP, half a handshake, nothing at all
for hello in '' 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' 'GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n'; do
	cli_spawn http bash -c "exec 3<>/dev/tcp/$SRV/8080; printf '$hello' >&3; exec sleep 60"
	wait_for 10 "it to be counted: $hello" conns 2 1 1 1
	N=$(of '.publishes.OTHER_PORT')
	why OTHER_PORT e $((41 + N)) $((60 + N))
	end_process "$SPAWNED"
	wait_for 10 "it to be gone" conns 1 1 1 1
done
m status | grep -q 'all slow' && fail "all topics are said to be slow: $(m status)"

# ---- fast again when they have left, by themselves or not
end_process "$TWO"
kill -9 "$ONE"
wait_for 10 "both to be gone" conns 0 0 0 0
why FAST d/x 21 40
why FAST b/x 1061 1080
[ -z "$(state 'b/+')$(state 'd/#')" ] || fail "subscriptions stay: $(m subs)"
