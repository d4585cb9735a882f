#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Bridges of the broker, one through the engine and one through the kernel: topics they take out go slow, no others,
# nothing is lost or overtaken on the way, also when a bridge has to connect again, and without bridges all is fast.
# PLACEMENTS: single spread
# TIMEOUT: 120
. "$(dirname "$0")/../lib/net.sh"
. tests/lib/mqtt_slow.sh
write_config 'mqtt: { ports = (1883); offload = ("#"); canary = 0; };'
testbed_up
ip -n "$PREFIX-srv" link set lo up
for other in far near; do
	[ $other = far ] && listener="1884 $CLI" || listener="1885 127.0.0.1"
	printf '%s\n' "listener $listener" 'allow_anonymous true' >"$LOGS/$other.conf"
done
start_far() { cli_spawn far mosquitto -c "$LOGS/far.conf"; FAR=$SPAWNED; }
start_far
srv_spawn near mosquitto -c "$LOGS/near.conf"
NEAR=$SPAWNED
write_mosquitto_conf
cat >>"$LOGS/mosquitto.conf" <<-END
	connection to-far
	address $CLI:1884
	restart_timeout 1
	topic up/# out 0 # and a remark
	topic down/# in 0
	connection to-near
	address 127.0.0.1:1885
	restart_timeout 1
	topic n/+ both 0 local/ remote/
END
app mosquitto mosquitto -c "$LOGS/mosquitto.conf"
BROKER_PID=$SPAWNED
wait_for 10 mosquitto broker_answers
wait_for 20 "both bridges to be followed" conns 1 1 1 1

subscribed cli_spawn at-far -h $CLI -p 1884 -t '#'
subscribed srv_spawn at-near -h 127.0.0.1 -p 1885 -t '#'
cli_spawn sub stdbuf -oL mosquitto_sub -i watcher -h $SRV -t '#' -v
wait_for 10 "the subscription" state_is '#' active
[ "$(state 'up/#') $(state 'local/n/+') $(state 'down/#')" = "kernel,kernel kernel,kernel " ] || fail "topics: $(m subs)"
# it takes messages when it has subscribed; the broker says nothing of that
until grep -q '^up/ready ' "$LOGS/at-far.log" && grep -q '^remote/n/ready ' "$LOGS/at-near.log"; do
	[ $SECONDS -lt 30 ] || fail "nothing comes through the bridges"
	publish up/ready 1 1
	publish local/n/ready 1 1
done

# ---- only what they take is slow, and they get it
why FAST a 1 20
why KERNEL up/x 1 20
why KERNEL local/n/x 1 20
why FAST local/m 1 20
why FAST down/x 1 20
has at-far up/x 1 20
has at-near remote/n/x 1 20
m status | grep -q 'all slow' && fail "all topics are said to be slow: $(m status)"
m status | grep -q '^slow for  *topics of 2 clients' || fail "status does not say what is slow: $(m status)"

# ---- what they bring
seq 21 40 | in_cli mosquitto_pub -h $CLI -p 1884 -t down/y -l || fail "publish at the other broker"
has sub down/y 21 40
seq 21 40 | in_srv mosquitto_pub -h 127.0.0.1 -p 1885 -t remote/n/y -l || fail "publish at the other broker"
has sub local/n/y 21 40

# ---- fast and slow in turn, from one publisher
fast=$(of .publishes.FAST) slow=$(of .publishes.KERNEL)
seq 1000 | awk '{ print $1 % 2 ? "up/x" : "a", 0, 20 + $1 }' | in_cli tests/mqtt/pub_lines.py $SRV || fail pub_lines.py
wait_for 10 "the last of them" grep -qx 'a 1020' "$LOGS/sub.log"
wait_for 10 "the last one at the other broker" grep -qx 'up/x 1019' "$LOGS/at-far.log"
[ "$(of .publishes.FAST) $(of .publishes.KERNEL)" = "$((fast + 500)) $((slow + 500))" ] || fail "not in turn: $(m slow)"
for who in sub at-far; do
	cmp -s <(grep '^up/x ' "$LOGS/$who.log" | tail -500) <(seq 21 2 1019 | sed 's|^|up/x |') || fail "$who, up/x"
done
cmp -s <(grep '^a ' "$LOGS/sub.log" | tail -500) <(seq 22 2 1020 | sed 's|^|a |') || fail "sub, a"

# ---- the other broker goes away and comes back
end_process "$FAR"
wait_for 10 "the bridge to be gone" conns 0 0 1 1
why FAST a 1021 1040
start_far
wait_for 10 "the bridge to be followed again" conns 1 1 1 1
subscribed cli_spawn again -h $CLI -p 1884 -t '#'
until grep -q '^up/ready ' "$LOGS/again.log"; do
	[ $SECONDS -lt 60 ] || fail "nothing comes through the bridge any more"
	publish up/ready 1 1
done
why KERNEL up/x 1021 1040
has again up/x 1021 1040
why FAST a 1041 1060

# ---- SIGHUP: as before; and with other bridges, which it has not told anybody of
kill -HUP "$BROKER_PID"
wait_for 10 "the configuration to be looked at" grep -q 'it goes on' "$LOGS/mosquitto.log"
why FAST a 1061 1080
why KERNEL up/x 1041 1060
has again up/x 1021 1060
sed -i 's/^topic up/topic other/' "$LOGS/mosquitto.conf"
kill -HUP "$BROKER_PID"
wait_for 10 "what is unsafe" grep -q 'suspended: .*other bridges: start the broker again' "$LOGS/mosquitto.log"
why RELOAD a 1081 1100
publish up/x 1061 1080 # the broker goes on with the ones it has
has again up/x 1021 1080
sed -i 's/^topic other/topic up/' "$LOGS/mosquitto.conf"
kill -HUP "$BROKER_PID"
wait_for 10 "the old ones to be back" is .reloaded false
why FAST a 1101 1120

# ---- none is left
end_process "$FAR"
end_process "$NEAR"
# each second they try to connect, and their topics are slow for that moment
all_fast()
{
	local before
	before=$(of .publishes.FAST)
	publish "$1" 1 20
	is .publishes.FAST $((before + 20))
}
wait_for 10 "topics of no bridge to be fast" all_fast up/x
wait_for 10 "topics of no bridge to be fast" all_fast local/n/x
