#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients of the broker that come through the kernel: only the topics they subscribe to go slow, and they miss
# nothing; what cannot be followed (a session nobody knows, no MQTT) makes all topics slow until it has left.
# PLACEMENTS: single spread
# TIMEOUT: 120
. "$(dirname "$0")/../lib/net.sh"
. tests/lib/mqtt_slow.sh
write_config 'mqtt: { ports = (1883); offload = ("#"); canary = 0; };'
testbed_up
start_broker
ip -n "$PREFIX-srv" link set lo up

# local_sub NAME ARGS...: past the engine; returns when the broker has subscribed it
local_sub() { local name=$1; shift; subscribed srv_spawn "$name" -h 127.0.0.1 "$@"; }

cli_spawn sub stdbuf -oL mosquitto_sub -i watcher -h $SRV -t '#' -v
wait_for 10 "the subscription" state_is '#' active
why FAST a 1 20

# ---- by TCP on the wildcard listener's loopback
local_sub one -t 'b/+' -t c
ONE=$SPAWNED
is '"\(.kernel_conns) \(.kernel_followed)"' "1 1" || fail "not followed: $(m status --json)"
only_its_topics_are_slow one

# ---- fast and slow in turn, from one publisher: each subscriber has each message in its order
seq 1000 | awk '{ print $1 % 2 ? "b/x" : "a", 0, 20 + $1 }' | in_cli tests/mqtt/pub_lines.py $SRV || fail pub_lines.py
wait_for 10 "the last of them" grep -qx 'a 1020' "$LOGS/sub.log"
cmp -s <(grep '^b/x ' "$LOGS/sub.log" | tail -500) <(seq 21 2 1020 | sed 's|^|b/x |') || fail "sub, b/x"
cmp -s <(grep '^a ' "$LOGS/sub.log" | tail -500) <(seq 22 2 1020 | sed 's|^|a |') || fail "sub, a"
wait_for 10 "the last one at the local one" grep -qx 'b/x 1019' "$LOGS/one.log"
cmp -s <(grep '^b/x ' "$LOGS/one.log" | tail -500) <(seq 21 2 1020 | sed 's|^|b/x |') || fail "local, b/x"

# ---- a publisher only, and a second subscriber, MQTT 5
in_srv mosquitto_pub -h 127.0.0.1 -t a -m local || fail "a local publisher"
wait_for 10 "its message" grep -qx 'a local' "$LOGS/sub.log"
local_sub two -V 5 -t 'd/#'
wait_for 10 "the publisher to go" is .kernel_conns 2
why FAST a 1021 1040
why KERNEL d/x 1 20
has two d/x 1 20
end_process "$SPAWNED"
wait_for 10 "it to be gone" is .kernel_conns 1
why FAST d/x 21 40
why KERNEL c 21 40

# ---- a session that lasts: the broker says that there was none before; and then it is known
local_sub lasts -c -i lasts -q 1 -t g
is '"\(.kernel_conns) \(.kernel_followed)"' "2 2" || fail "not followed: $(m status --json)"
why KERNEL g 1 20
end_process "$SPAWNED"
wait_for 10 "it to be gone" is .kernel_conns 1
why FAST g 21 40
local_sub again -c -i lasts -q 1 -t h
is '"\(.kernel_conns) \(.kernel_followed)"' "2 2" || fail "not followed when it comes back: $(m status --json)"
why KERNEL g 41 60
has again g 41 60
end_process "$SPAWNED"
wait_for 10 "it to be gone" is .kernel_conns 1

# ---- one of MQTT 3.1, where nobody says what it has
local_sub three -V mqttv31 -c -i kept -q 1 -t e
wait_for 10 "all three to be counted" is '"\(.kernel_conns) \(.kernel_followed)"' "2 1"
why KERNEL a 1041 1060
m status | grep -q '^all slow for  *1 .*kernel' && m status | grep -q '^slow for  *topics of 1 clients' || fail "status does not say why: $(m status)"
end_process "$SPAWNED"
wait_for 10 "it to be gone" is .kernel_conns 1
why FAST a 1061 1080

# ---- no MQTT
srv_spawn tls bash -c 'exec 3<>/dev/tcp/127.0.0.1/1883; printf "\026\003\001" >&3; exec sleep 60'
wait_for 10 "it to be counted" is '"\(.kernel_conns) \(.kernel_followed)"' "2 1"
why KERNEL a 1081 1100
end_process "$SPAWNED"
wait_for 10 "it to be gone" is .kernel_conns 1
why FAST a 1101 1120

end_process "$ONE"
wait_for 10 "the last one to be gone" is .kernel_conns 0
why FAST b/x 1021 1040
[ -z "$(state 'b/+')" ] || fail "its subscriptions stay: $(m subs)"

# ---- one that was there before any client of the engine's
end_process "$BROKER_PID"
wait_for 10 "all to go" is .connections 0
: >"$LOGS/sub.log"
app mosquitto mosquitto -c "$LOGS/mosquitto.conf"
wait_for 10 mosquitto in_srv mosquitto_pub -h 127.0.0.1 -t up -m 1
local_sub early -t early
wait_for 10 "the watcher" state_is '#' active
why FAST a 1 20
why KERNEL early 1 20
has early early 1 20
