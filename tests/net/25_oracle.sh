#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Oracle: each program of tests/oracle prints what the socket calls answered, once over the kernel and once under
# libtoe, with the same peer.  Every difference is a failure.  Over IPv4 and IPv6; ORACLE="name ..." selects programs,
# FAMILIES=6 one family.
# PLACEMENTS: single spread
# TIMEOUT: 420
. "$(dirname "$0")/../lib/net.sh"
testbed_up

CONTROL=$LOGS/control
# a UNIX socket's name has room for 107 characters
[ ${#CONTROL} -lt 100 ] || CONTROL=$RUN_DIR/oracle
cli_spawn peer "$BIN/tests/oracle/peer" "$CONTROL"
wait_for 5 "the peer" grep -q ready "$LOGS/peer.log"

wait_for 10 "link-local addresses" link_local srv toe-tap
wait_for 10 "link-local addresses" link_local cli cli0
PEER_LL=$(link_local cli cli0)
export PEER_LL PEER4=$CLI PEER_IF=cli0

port=9000
different=()
checked=0
# The same on both sides: what the engine must have taken, or nothing was compared.
opens() { "$BIN/toe" status --json | jq '.controlplane.counters | .active_opens + .passive_opens'; }

# compare NAME FAMILY MY-ADDRESS PEER-ADDRESS
compare()
{
	local name=$1 log=$LOGS/$1.$2 rc before
	port=$((port + 1))
	in_cli env MY4=$CLI MY_IF=cli0 timeout -k 2 50 "$BIN/tests/oracle/$name" "$4" "$4" $port "$CONTROL" \
		>"$log.kernel" 2>"$log.kernel.err" </dev/null || {
		say "$name over the kernel: exit code $?: $(tail -1 "$log.kernel")"
		different+=("$name.$2")
		return
	}
	before=$(opens)
	in_srv "$BIN/toe" run -- env MY4=$SRV MY_IF=toe-tap timeout -k 2 50 "$BIN/tests/oracle/$name" "$3" "$4" $port \
		"$CONTROL" >"$log.toe" 2>"$log.toe.err" </dev/null
	rc=$?
	checked=$((checked + $(wc -l <"$log.kernel")))
	if ! diff "$log.kernel" "$log.toe" >"$log.diff" || [ $rc -ne 0 ]; then
		different+=("$name.$2")
		say "$name, IPv$2: exit code $rc, $(grep -c '^[<>]' "$log.diff") lines differ, see $log.diff"
	fi
	if [ "$(opens)" -eq "$before" ]; then
		different+=("$name.$2")
		say "$name, IPv$2: no connection was the engine's"
	fi
}

for source in tests/oracle/*.c; do
	name=$(basename "$source" .c)
	[ "$name" = peer ] && continue
	[[ " ${ORACLE:-$name} " == *" $name "* ]] || continue
	for family in ${FAMILIES:-4 6}; do
		if [ "$family" = 6 ]; then
			compare "$name" 6 $SRV6 $CLI6
		elif [ "$name" != ipv6 ]; then
			compare "$name" 4 $SRV $CLI
		fi
	done
done
[ ${#different[@]} -eq 0 ] || fail "differs from the kernel: ${different[*]}"
[ $checked -gt 0 ] || fail "nothing was checked"
say "$checked lines the same"
