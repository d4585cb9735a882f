#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients that speak TLS, through the engine and through the kernel: what they subscribe to is read out of the broker's
# SSL_read(), only those topics go slow, nobody misses a message, and they are fast again when the client has left.
# PLACEMENTS: single spread
# TIMEOUT: 120
. "$(dirname "$0")/../lib/net.sh"
. tests/lib/mqtt_slow.sh
write_config 'mqtt: { ports = (1883); offload = ("#"); canary = 0; };'
testbed_up
ip -n "$PREFIX-srv" link set lo up
make_cert
write_mosquitto_conf
cat >>"$LOGS/mosquitto.conf" <<-END
	listener 8883 0.0.0.0
	certfile $LOGS/cert.pem
	keyfile $LOGS/key.pem
END
app mosquitto mosquitto -c "$LOGS/mosquitto.conf"
BROKER_PID=$SPAWNED
wait_for 10 mosquitto broker_answers
MANY=()
TLS=(-p 8883 --cafile "$LOGS/cert.pem")

cli_spawn sub stdbuf -oL mosquitto_sub -i watcher -h $SRV -t '#' -v
wait_for 10 "the subscription" state_is '#' active
why FAST a 1 20

# ---- through the engine
subscribed cli_spawn one -h $SRV "${TLS[@]}" -t 'b/+' -t c
ONE=$SPAWNED
conns 1 1 0 0 || fail "not followed: $(m status --json)"
only_its_topics_are_slow one
m status | grep -q '^slow for  *topics of 1 clients' || fail "status does not say what is slow: $(m status)"

# ---- fast and slow in turn, from one publisher
fast_and_slow one

# ---- a publisher with TLS: the broker delivers, to clients with and without
slow_publisher mosquitto_pub -h $SRV "${TLS[@]}" -t b/x -l

# ---- through the kernel, MQTT 5
through_the_kernel "${TLS[@]}"

# ---- a session that lasts, begun through the engine, resumed through the kernel
session_begins g "${TLS[@]}"
session_resumed g h "${TLS[@]}"

# ---- a session of the port's that TLS takes over and changes: what it has when it comes back nobody knows
subscribed cli_spawn port -h $SRV -c -i moves -q 1 -t p
PORT=$SPAWNED
kill -STOP "$PORT" # or it would connect again
subscribed cli_spawn taken -h $SRV "${TLS[@]}" -c -i moves -q 1 -t q
kill -9 "$PORT"
end_process "$SPAWNED"
wait_for 10 "it to be gone" conns 1 1 1 1
why FAST q 1 20
subscribed cli_spawn back -h $SRV -c -i moves -q 1 -t p
why UNKNOWN q 21 40
has back q 21 40
end_process "$SPAWNED"
wait_for 10 "it to be gone" is .unknown_sessions 0

# ---- what cannot be followed: a session nobody knows (MQTT 3.1 does not say); nothing yet in the TLS; no TLS yet
subscribed cli_spawn three -h $SRV "${TLS[@]}" -V mqttv31 -c -i kept -q 1 -t f
conns 2 1 1 1 || fail "one with a session from before is said to be followed: $(m status --json)"
why OTHER_PORT e 21 40
m status | grep -q '^all slow for  *1 .*not of mqtt.ports' || fail "status does not say why: $(m status)"
end_process "$SPAWNED"
wait_for 10 "it to be gone" conns 1 1 1 1
why FAST e 41 60
cli_spawn silent openssl s_client -quiet -connect $SRV:8883
wait_for 10 "the one that says nothing in TLS to be counted" conns 2 1 1 1
why OTHER_PORT e 61 80
end_process "$SPAWNED"
wait_for 10 "it to be gone" conns 1 1 1 1
cli_spawn plain bash -c "exec 3<>/dev/tcp/$SRV/8883; exec sleep 60"
wait_for 10 "the one that says nothing to be counted" conns 2 1 1 1
why OTHER_PORT e 81 100
end_process "$SPAWNED"
wait_for 10 "it to be gone" conns 1 1 1 1
why FAST e 101 120

# ---- fast again when they have left, by themselves or not
end_process "$TWO"
kill -9 "$ONE"
wait_for 10 "both to be gone" conns 0 0 0 0
why FAST d/x 21 40
why FAST b/x 1061 1080
[ -z "$(state 'b/+')$(state 'd/#')" ] || fail "subscriptions stay: $(m subs)"

# ---- many of them: each is followed, and each leaves
for i in $(seq 80); do
	cli_spawn "many.$i" mosquitto_sub -h $SRV "${TLS[@]}" -t "many/$i"
	MANY+=("$SPAWNED")
done
wait_for 30 "80 to be followed" conns 80 80 0 0
wait_for 10 "80 subscriptions" sh -c "[ \"\$('$BIN/toe' mqtt subs many/ | grep -c kernel)\" = 80 ]"
why FAST e 121 140
why KERNEL many/80 1 20
for pid in "${MANY[@]}"; do kill "$pid"; done
wait_for 20 "them to leave" conns 0 0 0 0
why FAST many/80 21 40
