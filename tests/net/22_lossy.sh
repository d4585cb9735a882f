#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Segments lost at random in both directions: every byte arrives once and in order, most losses are repaired
# without a timeout, and nothing is left behind.
# PLACEMENTS: single spread single+af_xdp
# TIMEOUT: 150
. "$(dirname "$0")/../lib/net.sh"
write_config 'tcp: { time_wait_ms = 1000; };'
testbed_up

CLIENT=$BIN/tests/progs/tcp_client

# lose PERMILLE: of the TCP segments on the client's wire; 0: none any more
lose()
{
	local dev
	dev=$(in_cli ip -br link | awk '!/^lo / { sub(/@.*/, "", $1); print $1; exit }')
	in_cli nft flush ruleset
	[ "$1" = 0 ] && return
	in_cli nft -f - <<-END || fail "nft"
		table netdev lossy {
			chain in {
				type filter hook ingress device "$dev" priority 0
				ip protocol tcp numgen random mod 1000 < $1 drop
			}
			chain out {
				type filter hook egress device "$dev" priority 0
				ip protocol tcp numgen random mod 1000 < $1 drop
			}
		}
	END
}

counter() { "$BIN/toe" stats --json | jq ".counters.$1 // 0"; }
no_connections() { [ "$("$BIN/toe" conns --json | jq '[.conns[] | select(.state != "TIME-WAIT")] | length')" = 0 ]; }

# transfer N BYTES: so many clients at once, each checks its echo
transfer()
{
	local i pids=()
	for ((i = 0; i < $1; i++)); do
		cli_spawn "client.$i" "$CLIENT" --host "$SRV" --port 7000 --bytes "$2" --timeout 60
		pids+=("$SPAWNED")
	done
	for ((i = 0; i < $1; i++)); do
		wait "${pids[i]}" || fail "client $i of $1: $(tail -1 "$LOGS/client.$i.log")"
	done
}

start_echo 7000 et
lose 10
rto=$(counter rto)
fast=$(counter fast_rtx)
transfer 1 20000000
transfer 20 500000
rto=$(($(counter rto) - rto))
fast=$(($(counter fast_rtx) - fast))
say "1 %: $fast recoveries, $rto timeouts"
[ $fast -gt 20 ] || fail "1 % of 30 MB lost, but only $fast recoveries"
# what a timeout has to repair is the last segment of a connection, or one lost twice
[ $((rto * 4)) -lt $fast ] || fail "$rto timeouts beside $fast recoveries"

lose 50
transfer 1 1000000
transfer 10 200000

lose 0
wait_for 20 "connections to end" no_connections
transfer 1 5000000
wait_for 5 "connections to end" no_connections
say "$(counter segs_rtx) segments sent again, $(counter rto) timeouts, $(counter probes) probes"
