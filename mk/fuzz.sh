#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Builds every tests/fuzz/fuzz_*.c with clang's libFuzzer and the address and undefined sanitizers, and runs
# each FUZZ_SECONDS (60), as many at a time as there are CPUs.  Seeds: tests/fuzz/corpus/<name>/.
#
# By itself a run is random and goes on from what earlier ones found, which stays in $B/fuzz/<name>/.  With
# FUZZ_SEED=n it begins with the seeds of the tree alone, in order of their names, no addresses vary, and inputs
# follow each other as they did last time: only how far it gets depends on the machine, and nothing new is
# found by luck in a tree that passed.  What it found is then in $B/fuzz/seed/<name>/.
#
# Input that failed: $B/fuzz/[seed/]<name>-crash-*.  Last line "N passed, N failed", one per target.
set -u
: "${B:=build}" "${FUZZ_SECONDS:=60}" "${FUZZ_SEED:=}" "${T:=}"
cd "$(dirname "$0")/.." || exit 1
. mk/result.sh

command -v clang >/dev/null || {
	echo "fuzzing needs clang and libclang-rt-dev: make deps" >&2
	exit 1
}
OUT=$B/fuzz
[ -n "$FUZZ_SEED" ] && OUT=$OUT/seed
mkdir -p "$OUT"
FLAGS="-std=gnu11 -D_GNU_SOURCE -DTOE_DEBUG -g -O1 -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=undefined -fno-sanitize=alignment -fsanitize-coverage-ignorelist=mk/fuzz-ignore \
	-Iinclude -I. -Idatapath"
FLAGS+=" $(pkg-config --cflags libdpdk 2>/dev/null)"
# stages are linked with DPDK, parsers are not: as needed
LIBS="-Wl,--as-needed $(pkg-config --libs libdpdk 2>/dev/null) -lconfig"
export B OUT FLAGS LIBS FUZZ_SECONDS FUZZ_SEED

# fuzz_build NAME: tests/fuzz/fuzz_NAME.c with the sources of its LINK comment.
fuzz_build()
{
	local src=tests/fuzz/fuzz_$1.c flags libs link
	read -ra flags <<<"$FLAGS"
	read -ra libs <<<"$LIBS"
	read -ra link < <(awk -v of="$src" -f mk/links.awk)
	clang "${flags[@]}" -o "$OUT/fuzz_$1" "$src" "${link[@]}" "${libs[@]}"
}

# fuzz_run NAME: for FUZZ_SECONDS or until something is found.
fuzz_run()
{
	local seeds=tests/fuzz/corpus/$1 corpus=$OUT/$1 run=("$OUT/fuzz_$1") args
	# -len_control=1: inputs grow soon; most are sequences, and short ones do little
	args=(-max_total_time="$FUZZ_SECONDS" -max_len=4096 -len_control=1 -timeout=30 -rss_limit_mb=1024 -artifact_prefix="$OUT/$1-")
	if [ -n "$FUZZ_SEED" ]; then
		rm -rf "$corpus"
		# -reload: no second look at its own finds, which would come by the clock
		args+=(-seed="$FUZZ_SEED" -reload=0)
		if [ -d "$seeds" ]; then
			# a folder would be read in whatever order the file system has
			printf '%s\n' "$seeds"/* | LC_ALL=C sort | paste -sd, >"$OUT/$1.seeds"
			args+=(-seed_inputs=@"$OUT/$1.seeds")
		fi
		setarch -R true 2>/dev/null && run=(setarch -R "${run[@]}")
		seeds=''
	fi
	mkdir -p "$corpus"
	[ -d "$seeds" ] || seeds=''
	"${run[@]}" "${args[@]}" "$corpus" ${seeds:+"$seeds"}
}

# fuzz_one NAME: its line, and its exit code in $OUT/NAME.rc.
fuzz_one()
{
	local log=$OUT/$1.log
	if fuzz_build "$1" >"$log" 2>&1 && fuzz_run "$1" >>"$log" 2>&1; then
		printf '  %-28s %s\n' "$1" "$(sed -n 's/^Done \([0-9]* runs in [0-9]*\) .*/\1 s/p' "$log")"
		echo 0 >"$OUT/$1.rc"
	else
		# in one piece: others print meanwhile
		printf '  %-28s FAILED, %s:\n%s\n' "$1" "$log" \
			"$(grep -E 'error:|ERROR|runtime error|Test unit written' "$log" | head -10 | sed 's/^/      /')"
		echo 1 >"$OUT/$1.rc"
	fi
}
export -f fuzz_build fuzz_run fuzz_one

names=()
for src in tests/fuzz/fuzz_*"$T"*.c; do
	name=${src#tests/fuzz/fuzz_}
	names+=("${name%.c}")
	rm -f "$OUT/${name%.c}.rc"
done
printf '%s\n' "${names[@]}" | xargs -P"$(nproc)" -I{} bash -c 'fuzz_one {}'
for name in "${names[@]}"; do
	if [ "$(cat "$OUT/$name.rc" 2>/dev/null)" = 0 ]; then
		result_add 1 0 0
	else
		result_add 0 1 0
	fi
done
result_end "$B/fuzz.result"
