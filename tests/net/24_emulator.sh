#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The network emulator between client and engine: what goes through losses, duplicates, damage and reordering in both
# directions arrives whole, and a segment named to be dropped is dropped and repaired.
# PLACEMENTS: single
# TIMEOUT: 120
. "$(dirname "$0")/../lib/net.sh"
. tests/lib/emulator.sh
testbed_up
emulator_path "$PREFIX-srv" "$PREFIX-cli" "$PREFIX-mid" || fail "emulator's path"

head -c 2M /dev/urandom >"$LOGS/in"
want=$(sha256sum <"$LOGS/in")
counter() { "$BIN/toe" stats --json | jq ".counters.$1 // 0"; }
of() { tail -1 "$LOGS/netem.log" | jq "$1"; }

# through NAME ARGS...: 2 MB to the echo server and back, the emulator with ARGS
through()
{
	local name=$1
	shift
	emulator_start "$PREFIX-mid" "$LOGS/netem.log" "$@" || fail "emulator"
	cli_spawn "client.$name" "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --file "$LOGS/in" \
		--out "$LOGS/out.$name" --timeout 30
	wait "$SPAWNED" || fail "$name: $(tail -1 "$LOGS/client.$name.log")"
	emulator_stop "$LOGS/netem.log" || fail "emulator"
	say "$name: $(tail -1 "$LOGS/netem.log")"
	# the server sends back what it received: right at the end is right on both ways
	[ "$(sha256sum <"$LOGS/out.$name")" = "$want" ] || fail "$name: other bytes came back"
	[ "$(of '[.ab, .ba | .full, .oversize] | add')" = 0 ] || fail "$name: the emulator itself dropped frames"
}

start_echo 7000 et

# With nothing asked for the emulator is a wire.
through wire
[ "$(of '[.ab, .ba | .loss, .burst, .named, .tail, .duplicate, .corrupt, .reorder] | add')" = 0 ] ||
	fail "a wire that does something"

# Both directions had each of them; the engine saw the damage.
damaged() { "$BIN/toe" stats --json | jq '[.drops.ip_header, .drops.tcp_checksum | . // 0] | add'; }
bad=$(damaged)
through hostile --seed 24 --loss 0.01 --duplicate 0.02 --corrupt 0.01 --reorder 0.1 --delay-us 1000 --jitter-us 200
[ "$(of '[.ab, .ba | .loss, .duplicate, .corrupt, .reorder] | min > 0')" = true ] ||
	fail "not all of it happened in both directions"
[ "$(damaged)" -gt "$bad" ] || fail "the engine saw no damaged segment"

# The third and the tenth segment with data from the server, the second from the client: each once, and repaired.
rtx=$(counter segs_rtx)
through named --drop ab:3,ab:10,ba:2
[ "$(of '.ab.named == 2 and .ba.named == 1')" = true ] || fail "not the named segments"
[ $(($(counter segs_rtx) - rtx)) -ge 2 ] || fail "the engine sent nothing again"

# 2 MB cannot be faster than 40 Mbit/s lets them, and bursts are lost on the way.
through slow --seed 4 --rate-mbit 40 --queue-bytes 64K --delay-us 2000 --burst 0.005,0.5
[ "$(of '[.ab, .ba | .burst] | min > 0')" = true ] || fail "no bursts"
[ "$(tail -1 "$LOGS/client.slow.log" | jq '.seconds > 0.42')" = true ] || fail "faster than the rate"
