#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An application attacks: another application, then beside a server of its own application whose connections are
# in use, then killed in the middle.  Everybody else gets right bytes at a bearable speed, nothing dies, and
# afterwards the engine holds no more than before.
# PLACEMENTS: single spread
# TIMEOUT: 180
. "$(dirname "$0")/../lib/net.sh"

HOSTILE=$BIN/tests/progs/hostile_app
RSS_GROWTH_KB=32768
KEEPER_TICKS=40 # of 100 in the second in which the attacker is stopped

transfer() # NAME BYTES: through the victim; "MB_per_s" goes to $LOGS/NAME.json
{
	in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes "$2" --timeout 15 \
		>"$LOGS/$1.json" 2>"$LOGS/$1.log" || fail "$1: $(tail -c 300 "$LOGS/$1.json" "$LOGS/$1.log")"
}

# Without libtoe: it speaks to the keeper itself.  The shell keeps the application alive.
attack() # NAME BESIDE ARGS...
{
	local name=$1 beside=$2
	shift 2
	app "$name" sh -c "$beside LD_PRELOAD= '$HOSTILE' $* ; rc=\$?; [ -z \"\$e\" ] || kill -9 \$e; exit \$rc"
	wait_for 10 "$name to begin" grep -q attached "$LOGS/$name.log"
}

finish() # PID NAME
{
	wait "$1" || fail "$2: $(grep -E 'NOT REFUSED|hostile:|attach:' "$LOGS/$2.log" | head -3)"
}

rss() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
fds() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }
status() { "$BIN/toe" status --json; }

no_connections() { [ "$(status | jq .controlplane.connections)" = 0 ]; }
no_hostile() { ! pid_of tests/progs/hostile_app; }
as_before() { [ "$(engine_held)" = "$before" ]; }

# Tokens are pooled by libtoe: a few more or less are no leak.
fds_as_before()
{
	local name p n
	while read -r name p n; do
		[ "$(fds "$p")" -le $((n + 40)) ] || return 1
	done <"$LOGS/before.fds"
}

testbed_up
start_echo 7000 lt
transfer warm 20M
for name in toe-datapath toe-keeper toe-controlplane; do
	p=$(pid_of $name) || fail "no $name"
	echo "$name $p $(fds "$p") $(rss "$p")"
done >"$LOGS/before.proc"
cut -d' ' -f1-3 "$LOGS/before.proc" >"$LOGS/before.fds"
keeper=$(pid_of toe-keeper)
wait_for 10 "the first transfer to be over" no_connections
before=$(engine_held)

# ---- another application, everything it can ask for ----
attack foreign "" --floods --victim 7000 --seconds 6 --seed 11
foreign=$SPAWNED
wait_for 20 "floods to end" grep -q -e scribbling -e 'hostile:' "$LOGS/foreign.log" &
floods=$!
n=0
until grep -q 'hostile:' "$LOGS/foreign.log" || gone "$foreign"; do
	transfer "during$n" 5M
	[ "$(jq '.MB_per_s >= 1' "$LOGS/during$n.json")" = true ] ||
		fail "transfer $n has collapsed: $(cat "$LOGS/during$n.json")"
	n=$((n + 1))
	if [ $n = 4 ]; then # stopped, it reads nothing and holds everything
		hostile=$(pid_of tests/progs/hostile_app) && kill -STOP "$hostile"
		ticks=$(cpu_ticks "$keeper")
		transfer stopped 1M
		sleep 1
		ticks=$(($(cpu_ticks "$keeper") - ticks))
		kill -CONT "$hostile"
		[ $ticks -lt $KEEPER_TICKS ] || fail "the keeper spins: $ticks ticks while the attacker is stopped"
	fi
done
wait "$floods" || fail "floods did not end: $(tail -1 "$LOGS/foreign.log")"
[ $n -ge 4 ] || fail "only $n transfers in the whole attack"
finish "$foreign" foreign

# ---- in the memory of connections that are in use ----
attack beside "'$BIN/tests/progs/echo_server' --port 6666 & e=\$!;" --seconds 4 --seed 12
beside=$SPAWNED
cli_spawn storm "$BIN/tests/progs/conn_storm" --host "$SRV" --port 6666 --rate 100 --count 400 --timeout 1
transfer beside1 5M
transfer beside2 5M
finish "$beside" beside

# ---- gone in the middle ----
for seed in 21 22 23; do
	attack "killed$seed" "" --floods --seconds 30 --seed $seed
	killed=$SPAWNED
	sleep "0.$((RANDOM % 9))"
	for p in $(ip netns pids "$PREFIX-srv"); do
		[ "$(readlink "/proc/$p/exe")" = "$HOSTILE" ] && kill -9 "$p"
	done
	wait "$killed"
	wait_for 10 "the attacker's children to die" no_hostile
	transfer "killed$seed" 1M
done

# ---- afterwards ----
while read -r name p n kb; do
	[ "$(pid_of "$name")" = "$p" ] || fail "$name died"
	now=$(rss "$p")
	[ $((now - kb)) -lt $RSS_GROWTH_KB ] || fail "$name: $kb KB resident before, $now KB now"
done <"$LOGS/before.proc"
for _ in $(seq 150); do fds_as_before && break; sleep 0.1; done
fds_as_before || fail "descriptors are not let go: before: $(tr '\n' ' ' <"$LOGS/before.fds"); now:" \
	"$(while read -r name p _; do echo "$name $(fds "$p")"; done <"$LOGS/before.fds" | tr '\n' ' ')" \
	"processes: $(for p in $(ip netns pids "$PREFIX-srv"); do readlink "/proc/$p/exe"; done | tr '\n' ' ')"
for _ in $(seq 200); do as_before && break; sleep 0.05; done
as_before || fail "the engine holds on to something: before: $before; now: $(engine_held)"
transfer after 20M
in_cli ping -q -c 5 -i 0.05 -W 2 "$SRV" >/dev/null || fail "ping afterwards"
