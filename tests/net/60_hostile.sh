#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# One application attacks: seals, forged messages, random bytes in everything it shares with the engine while
# its own connections are in use.  Everybody else notices nothing.
# PLACEMENTS: single spread
# TIMEOUT: 180
. "$(dirname "$0")/../lib/net.sh"
testbed_up
start_broker
engine=$(pid_of toe-datapath) || fail "no datapath"
keeper=$(pid_of toe-keeper) || fail "no keeper"

for seed in 1 2 3; do
	# the attacker and a victim server in one application
	app "hostile$seed" sh -c "'$BIN/tests/progs/echo_server' --port 666$seed & e=\$!
		'$BIN/tests/progs/hostile_app' --seconds 4 --seed $seed; rc=\$?
		kill -9 \$e; exit \$rc"
	hostile=$SPAWNED
	wait_for 10 "attack to begin" grep -q attached "$LOGS/hostile$seed.log"
	cli_spawn "storm$seed" "$BIN/tests/progs/conn_storm" --host "$SRV" --port 666$seed --rate 100 --count 400 \
		--timeout 1
	fanout --subscribers 30 --publishes 300 --rate 100 --timeout 40 ||
		fail "seed $seed: another application suffers: $(cat "$LOGS/fanout.json")"
	wait "$hostile" || fail "seed $seed: $(grep -E 'NOT REFUSED|hostile:' "$LOGS/hostile$seed.log" | head -3)"
	[ "$(pid_of toe-datapath)" = "$engine" ] || fail "seed $seed: the datapath died"
	[ "$(pid_of toe-keeper)" = "$keeper" ] || fail "seed $seed: the keeper died"
done
start_echo 7000 lt
in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 10M --timeout 30 || fail "afterwards"
in_cli ping -q -c 5 -i 0.05 -W 2 "$SRV" >/dev/null || fail "ping afterwards"
