#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The engine counts a broker's connections that the kernel carries: through a wildcard listener's
# loopback, through a listener that is not offloaded, of a bridge; and forgets those of a dead process.
# PLACEMENTS: single spread
. "$(dirname "$0")/../lib/net.sh"
testbed_up

kernel_conns() { "$BIN/toe" status --json | jq ".controlplane.apps[] | select(.name == \"$1\") | .kernel_conns"; }
count_is() { [ "$(kernel_conns mosquitto)" = "$1" ]; }
app_gone() { [ -z "$(kernel_conns mosquitto)" ]; }
# local_sub NAME PORT: a client past the engine; returns when the broker has subscribed it
local_sub()
{
	srv_spawn "$1" stdbuf -oL mosquitto_sub -d -h 127.0.0.1 -p "$2" -t "$1"
	wait_for 10 "$1 to subscribe" grep -q 'Subscribed (mid' "$LOGS/$1.log"
}

cat >"$LOGS/mosquitto.conf" <<-END
listener 1883 0.0.0.0
listener 1884 127.0.0.1
allow_anonymous true
persistence false
END
app mosquitto mosquitto -c "$LOGS/mosquitto.conf"
BROKER_PID=$SPAWNED
wait_for 10 mosquitto broker_answers 1883
count_is 0 || fail "$(kernel_conns mosquitto) before anybody came by the kernel"

# the broker answered, so it had accepted: the count is right now, not soon
local_sub wildcard 1883
first=$SPAWNED
count_is 1 || fail "a client on loopback: $(kernel_conns mosquitto) instead of 1"
local_sub other 1884
count_is 2 || fail "and one on a listener of the kernel's: $(kernel_conns mosquitto) instead of 2"
[ "$("$BIN/toe" status | awk '/kernel_conns/ { for (i = 1; i <= NF; i++) if ($i == "kernel_conns") c = i }
	c && $2 == "mosquitto" { print $c }')" = 2 ] || fail "toe status does not show it"

# a client of the engine's changes nothing
in_cli mosquitto_pub -h "$SRV" -t other -m hello || fail "publish through the engine"
count_is 2 || fail "a client of the engine's is counted"

end_process "$first"
wait_for 10 "the count to fall" count_is 1
end_process "$SPAWNED"
wait_for 10 "the count to fall to 0" count_is 0

# a broker that is killed leaves nothing; its successor's bridge is a connection of the kernel's
local_sub wildcard 1883
end_process "$BROKER_PID" 0
wait_for 10 "the application to go" app_gone
cat >"$LOGS/remote.conf" <<-END
listener 1999 127.0.0.1
allow_anonymous true
persistence false
END
srv_spawn remote mosquitto -c "$LOGS/remote.conf"
wait_for 10 "the remote broker" in_srv mosquitto_pub -h 127.0.0.1 -p 1999 -t up -m 1
cat >>"$LOGS/mosquitto.conf" <<-END
connection bridge
address 127.0.0.1:1999
topic # out
END
app mosquitto mosquitto -c "$LOGS/mosquitto.conf"
wait_for 10 "mosquitto with a bridge" broker_answers 1883
wait_for 10 "the bridge to be counted" count_is 1
