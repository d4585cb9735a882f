#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `make demo` as a newcomer uses it: ends with "demo: OK" and a table, leaves nothing behind, also when it is
# interrupted; KEEP=1 leaves the engine and the broker up, and what it says then is true.
# PLACEMENTS: single
# TIMEOUT: 180
set -u
cd "$(dirname "$0")/../.." || exit 1
DEMO=$PREFIX
unset MAKEFLAGS MAKELEVEL MFLAGS
: "${B:=build}" "${LOGS:=$B/test-logs/72_demo}"
mkdir -p "$LOGS"

fail() { echo "FAIL: $*"; exit 1; }

left_over()
{
	ip netns list | grep -q "^$DEMO" && echo "namespaces $DEMO-*"
	[ -e "/run/toe-$DEMO" ] && echo "/run/toe-$DEMO"
	pgrep -f "testbed.*$DEMO|toe-$DEMO" >/dev/null && echo "processes"
}
nothing_left()
{
	local what
	what=$(left_over)
	[ -z "$what" ] || fail "$1 leaves behind: $what"
}

# What a failed test leaves is undone all the same.
demo_end()
{
	local ns
	trap - EXIT
	[ -n "${RUNNING:-}" ] && kill -INT -- "-$RUNNING" 2>/dev/null && wait "$RUNNING"
	# shellcheck disable=SC2086 # several
	[ -n "${KEPT:-}" ] && kill $KEPT 2>/dev/null
	[ -e "/run/toe-$DEMO" ] && "$B/toe" testbed down --prefix "$DEMO" >/dev/null 2>&1
	for ns in $(ip netns list | awk -v p="$DEMO-" 'index($1, p) == 1 { print $1 }'); do
		ip netns del "$ns"
	done
}
trap demo_end EXIT
trap 'exit 143' TERM INT

# PREFIX is make's, too: where to install
demo() { env -u PREFIX -u LOGS TESTBED="$DEMO" ROUNDS=1 TOE_PLACEMENT=single make demo B="$B" "$@"; }

demo >"$LOGS/demo.log" 2>&1 || fail "make demo: $(tail -1 "$LOGS/demo.log")"
[ "$(tail -1 "$LOGS/demo.log")" = "demo: OK" ] || fail "last line: $(tail -1 "$LOGS/demo.log")"
for row in "deliveries per second" "latency to the last, p50" "both together" "lost / twice / out of order *0 / 0 / 0" \
	"publishes that were fast *[1-9]" "same SHA-256" "pings answered meanwhile" "    netif_tx *[1-9]"; do
	grep -q "$row" "$LOGS/demo.log" || fail "no line '$row'"
done
nothing_left "make demo"

# in a process group of its own, as a terminal's Ctrl-C would meet it
set -m
demo >"$LOGS/interrupted.log" 2>&1 &
RUNNING=$!
set +m
end=$((SECONDS + 60))
until grep -q 'round 1' "$LOGS/interrupted.log"; do
	[ $SECONDS -lt $end ] || fail "make demo does not begin"
	sleep 0.1
done
kill -INT -- "-$RUNNING"
wait "$RUNNING" && fail "an interrupted demo ends with 0"
RUNNING=
grep -q '^demo: FAILED: ' "$LOGS/interrupted.log" || fail "interrupted: $(tail -1 "$LOGS/interrupted.log")"
nothing_left "Ctrl-C"

demo KEEP=1 >"$LOGS/keep.log" 2>&1 || fail "KEEP=1: $(tail -1 "$LOGS/keep.log")"
KEPT=$(sed -n 's/^end it with: kill \([0-9 ]*\);.*/\1/p' "$LOGS/keep.log")
[ -n "$KEPT" ] || fail "KEEP=1 does not say how to end"
TOE_RUN_DIR=$(sed -n 's/^ *export TOE_RUN_DIR=//p' "$LOGS/keep.log")
export TOE_RUN_DIR
"$B/toe" mqtt status >"$LOGS/status.txt" || fail "KEEP=1: toe mqtt status"
bash -c "$(sed -n 's/^end it with: //p' "$LOGS/keep.log")" >"$LOGS/end.log" 2>&1 || fail "the end that KEEP=1 prints"
KEPT=
nothing_left "the end that KEEP=1 prints"
