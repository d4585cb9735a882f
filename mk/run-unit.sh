#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Builds and runs the unit tests given as arguments, one line each, as many at a time as there are CPUs.  A
# test that does not build or run to its end counts as one failure.  Last line "N passed, N failed"; the same
# goes to $B/unit.result.  Environment: B build folder, MAKE, SAN sanitizer.
set -u
: "${B:=build}" "${MAKE:=make}" "${SAN:=}"
. mk/jobs.sh
export B
passed=0
failed=0
mkdir -p "$B/tests"
# a sanitizer costs a factor of 2 to 20
LIMIT=180
[ -n "$SAN" ] && LIMIT=600
export LIMIT
export TSAN_OPTIONS="suppressions=$PWD/mk/tsan.supp halt_on_error=0 ${TSAN_OPTIONS:-}"

one()
{
	local log
	log=$B/tests/$(basename "$1").log
	CMOCKA_MESSAGE_OUTPUT=stdout timeout -k 5 "$LIMIT" "$1" >"$log" 2>&1 </dev/null
	echo $? >"$log.rc"
}
export -f one

# -k: what compiles is tested, even if something else does not compile
all_built=1
"$MAKE" --no-print-directory -s -k "${JOBS[@]}" "$@" || all_built=0
run=()
for t in "$@"; do
	rm -f "$B/tests/$(basename "$t").log.rc"
	[ -x "$t" ] || continue
	[ $all_built -eq 1 ] || "$MAKE" --no-print-directory -q "$t" 2>/dev/null || continue
	run+=("$t")
done
[ ${#run[@]} -eq 0 ] || printf '%s\n' "${run[@]}" | xargs -P"$(nproc)" -I{} bash -c 'one {}'

for t in "$@"; do
	name=$(basename "$t")
	log=$B/tests/$name.log
	if [ ! -e "$log.rc" ]; then
		printf '  %-28s does not build\n' "$name"
		failed=$((failed + 1))
		continue
	fi
	rc=$(<"$log.rc")
	rm -f "$log.rc"
	p=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
	f=$(sed -n 's/^\[  FAILED  \] [a-z: ]*\([0-9]*\) test(s).*/\1/p' "$log" |
		awk '{ n += $1 } END { print n + 0 }')
	# crashed, timed out, or failed without cmocka saying so
	[ "$rc" -ne 0 ] && [ "$f" -eq 0 ] && f=1
	[ "$rc" -eq 0 ] && [ "$p" -eq 0 ] && f=1
	passed=$((passed + p))
	failed=$((failed + f))
	if [ "$f" -eq 0 ]; then
		printf '  %-28s %3d passed\n' "$name" "$p"
	else
		why="exit code $rc"
		[ "$rc" -eq 124 ] && why="not finished after $LIMIT s"
		[ "$rc" -gt 128 ] && why="killed by signal $((rc - 128))"
		printf '  %-28s %3d passed, %d FAILED (%s), %s:\n' "$name" "$p" "$f" "$why" "$log"
		grep -E 'FAILED|error:|Error|ERROR|Sanitizer|runtime error' "$log" | head -20 | sed 's/^/      /'
	fi
done
echo "$passed passed, $failed failed" | tee "$B/unit.result"
[ "$failed" -eq 0 ]
