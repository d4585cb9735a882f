#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Builds every tests/fuzz/fuzz_*.c with clang's libFuzzer and the address and undefined sanitizers, and
# runs each FUZZ_SECONDS (60).  Seeds: tests/fuzz/corpus/<name>/; what a run finds stays in $B/fuzz/<name>/.
# Last line "N passed, N failed", one per target.
set -u
: "${B:=build}" "${FUZZ_SECONDS:=60}" "${T:=}"
cd "$(dirname "$0")/.." || exit 1
. mk/result.sh

command -v clang >/dev/null || {
	echo "fuzzing needs clang and libclang-rt-14-dev: apt-get install clang libclang-rt-14-dev" >&2
	exit 1
}
flags=(-std=gnu11 -D_GNU_SOURCE -DTOE_DEBUG -g -O1 "-fsanitize=fuzzer,address,undefined"
	-fno-sanitize-recover=undefined -fno-sanitize=alignment -Iinclude -I. -Idatapath)
read -ra dpdk < <(pkg-config --cflags libdpdk 2>/dev/null)
# stages are linked with DPDK, parsers are not: as needed
read -ra libs < <(pkg-config --libs libdpdk 2>/dev/null)
mkdir -p "$B/fuzz"

# fuzz_one NAME: builds and runs tests/fuzz/fuzz_NAME.c with the sources of its LINK comment.
fuzz_one()
{
	local src=tests/fuzz/fuzz_$1.c log=$B/fuzz/$1.log link
	read -ra link < <(awk -v of="$src" -f mk/links.awk)
	clang "${flags[@]}" "${dpdk[@]}" -o "$B/fuzz/fuzz_$1" "$src" "${link[@]}" -Wl,--as-needed "${libs[@]}" -lconfig >"$log" 2>&1 || return 1
	mkdir -p "$B/fuzz/$1"
	local seeds=()
	[ -d "tests/fuzz/corpus/$1" ] && seeds=("tests/fuzz/corpus/$1")
	"$B/fuzz/fuzz_$1" -max_total_time="$FUZZ_SECONDS" -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
		-artifact_prefix="$B/fuzz/$1-" "$B/fuzz/$1" "${seeds[@]}" >>"$log" 2>&1
}

for src in tests/fuzz/fuzz_*"$T"*.c; do
	name=${src#tests/fuzz/fuzz_}
	name=${name%.c}
	if fuzz_one "$name"; then
		printf '  %-28s %s\n' "$name" "$(sed -n 's/^Done \([0-9]* runs in [0-9]*\) .*/\1 s/p' "$B/fuzz/$name.log")"
		result_add 1 0 0
	else
		printf '  %-28s FAILED, %s:\n' "$name" "$B/fuzz/$name.log"
		grep -E 'error:|ERROR|runtime error|Test unit written' "$B/fuzz/$name.log" | head -10 | sed 's/^/      /'
		result_add 0 1 0
	fi
done
result_end "$B/fuzz.result"
