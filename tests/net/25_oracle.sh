#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Oracle: each program of tests/oracle prints what the socket calls answered, once over the kernel and once under
# libtoe, with the same peer.  Every difference is a failure.  ORACLE="name ..." selects programs.
# PLACEMENTS: single spread
# TIMEOUT: 300
. "$(dirname "$0")/../lib/net.sh"
testbed_up

CONTROL=$LOGS/control
# a UNIX socket's name has room for 107 characters
[ ${#CONTROL} -lt 100 ] || CONTROL=$RUN_DIR/oracle
cli_spawn peer "$BIN/tests/oracle/peer" "$CONTROL"
wait_for 5 "the peer" grep -q ready "$LOGS/peer.log"

port=9000
different=()
checked=0
for source in tests/oracle/*.c; do
	name=$(basename "$source" .c)
	[ "$name" = peer ] && continue
	[[ " ${ORACLE:-$name} " == *" $name "* ]] || continue
	port=$((port + 1))
	in_cli timeout -k 2 50 "$BIN/tests/oracle/$name" $CLI $CLI $port "$CONTROL" \
		>"$LOGS/$name.kernel" 2>"$LOGS/$name.kernel.err" </dev/null || {
		say "$name over the kernel: exit code $?: $(tail -1 "$LOGS/$name.kernel")"
		different+=("$name")
		continue
	}
	in_srv "$BIN/toe" run -- timeout -k 2 50 "$BIN/tests/oracle/$name" $SRV $CLI $port "$CONTROL" \
		>"$LOGS/$name.toe" 2>"$LOGS/$name.toe.err" </dev/null
	rc=$?
	checked=$((checked + $(wc -l <"$LOGS/$name.kernel")))
	if ! diff "$LOGS/$name.kernel" "$LOGS/$name.toe" >"$LOGS/$name.diff" || [ $rc -ne 0 ]; then
		different+=("$name")
		say "$name: exit code $rc, $(grep -c '^[<>]' "$LOGS/$name.diff") lines differ, see $LOGS/$name.diff"
	fi
done
[ ${#different[@]} -eq 0 ] || fail "differs from the kernel: ${different[*]}"
[ $checked -gt 0 ] || fail "nothing was checked"
say "$checked lines the same"
