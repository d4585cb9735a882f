#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Publishers that end their connection in every way and come back at once under the same ClientID: what they have
# published comes first, then their will, then what they publish next.  Nothing of their connections is left.
# PLACEMENTS: single spread
# TIMEOUT: 180
. "$(dirname "$0")/../lib/net.sh"
write_config 'mqtt: { ports = (1883); offload = ("#"); canary = 0; };'
testbed_up
start_broker
of() { "$BIN/toe" mqtt status --json | jq -r "$1"; }

in_cli tests/mqtt/again.py $SRV "${CONNECTIONS:-150}" >"$LOGS/again.log" 2>&1 || fail "again.py: $(tail -3 "$LOGS/again.log")"
say "$(cat "$LOGS/again.log"); $(of '.counters.OLDER_WAIT') waited for an older connection"
[ "$(of '.counters.OLDER_WAIT')" -gt 0 ] || fail "nobody has come back while messages were on their way"
[ "$(of '.publishes.FAST')" -gt "$(of '.publishes.RETAIN')" ] || fail "hardly anything was fast: $("$BIN/toe" mqtt slow)"
nothing_left() { [ "$("$BIN/toe" status --json | jq .controlplane.connections)" = 0 ]; }
wait_for 10 "the end of all connections" nothing_left
