#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Two run directories: toe down and toe testbed down act on what belongs to theirs and to their testbed only, and say
# where to ask for the other's; each engine's leftovers, DPDK's too, go with its own run directory.
# PLACEMENTS: single
. "$(dirname "$0")/../lib/net.sh"
testbed_up
OTHER=$RUN_DIR-other
LOCK=/run/toe-port-toe0.$(stat -Lc %i "/run/netns/$PREFIX-srv").lock
DPDK=/run/dpdk/$(cat "$RUN_DIR/datapath.prefix")

# refused CODE TEXT COMMAND...: one line, nothing happens
refused()
{
	local want=$1 text=$2 rc
	shift 2
	"$@" >"$LOGS/refused.log" 2>&1
	rc=$?
	[ $rc -eq "$want" ] && [ "$(wc -l <"$LOGS/refused.log")" = 1 ] && grep -qF "$text" "$LOGS/refused.log" ||
		fail "$*: exit code $rc, $(cat "$LOGS/refused.log")"
}
alive() { "$BIN/toe" status >/dev/null 2>&1 && in_cli ping -q -c 1 -W 5 "$SRV" >/dev/null; }

# ---- this engine lives; another run directory has none, another testbed's name is not its
refused 69 "no engine is running in $OTHER" in_srv "$BIN/toe" --run-dir "$OTHER" down
alive || fail "toe down of another run directory ended the engine"
refused 1 "the engine of testbed $PREFIX is that of $RUN_DIR" \
	"$BIN/toe" testbed down --prefix "$PREFIX" --run-dir "$OTHER"
alive || fail "toe testbed down with another run directory ended the engine"
ip netns add "$PREFIX-x-srv"
"$BIN/toe" testbed down --prefix "$PREFIX-x" --run-dir "$RUN_DIR" >"$LOGS/x.log" 2>&1
rc=$?
ip netns del "$PREFIX-x-srv" 2>/dev/null
[ $rc -eq 1 ] && grep -qF "the engine that runs in $RUN_DIR is not that of testbed $PREFIX-x" "$LOGS/x.log" ||
	fail "testbed down of another name: exit code $rc, $(cat "$LOGS/x.log")"
alive || fail "toe testbed down of another testbed ended the engine"
refused 1 "port toe0 belongs to another engine (toe-keeper, process $(cat "$RUN_DIR/keeper.pid"), of $RUN_DIR)" \
	in_srv "$BIN/toe" --run-dir "$OTHER" up --config "$ENGINE_CONFIG"
rm -rf "$OTHER" # its log

# ---- this engine was killed
keeper=$(cat "$RUN_DIR/keeper.pid")
kill -9 "$keeper"
wait_for 5 "the keeper to go" gone "$keeper"
for command in "down" "status" "down --config $ENGINE_CONFIG"; do
	# shellcheck disable=SC2086
	refused 69 "toe0 was left taken over by that of $RUN_DIR: toe down --run-dir $RUN_DIR" \
		in_srv "$BIN/toe" --run-dir "$OTHER" $command
done
[ -e "$LOCK" ] && [ -e "$DPDK" ] || fail "what is left was taken away by another run directory"
in_srv nft list tables | grep -q . || fail "the port was put back by another run directory"
in_srv "$BIN/toe" down >"$LOGS/down.log" 2>&1 || fail "toe down: $(cat "$LOGS/down.log")"
[ ! -e "$LOCK" ] && [ ! -e "$DPDK" ] || fail "toe down: something is left"
