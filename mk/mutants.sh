#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `make mutants`: applies each tests/mutants/*.patch to a copy of the tree, builds the tests its "Tests:" line
# names and demands that one of them fails; "Wire:" limits test_wire to scripts whose name contains it.  A
# mutant that lives is a hole in the tests.  First the same tests must pass without any mutation.  T=name: only
# those patches.  Last line "N passed, N failed", also in $B/mutants.result.
set -u
: "${B:=build}" "${MAKE:=make}" "${T:=}"
cd "$(dirname "$0")/.." || exit 1
. mk/result.sh
mkdir -p "$B"
OUT=$PWD/$B
WORK=$(mktemp -d "${TMPDIR:-/tmp}/toe-mutants.XXXXXX") || exit 1
trap 'rm -rf "$WORK"' EXIT

# with times, so that what is built already stays so
git ls-files -zco --exclude-standard | xargs -0 cp -a --parents -t "$WORK" || exit 1
mkdir -p "$WORK/build"
for part in obj/test .flags tests.mk; do
	[ -e "$B/$part" ] && (cd "$B" && cp -a --parents "$part" "$WORK/build/")
done
cd "$WORK" || exit 1

# field NAME PATCH
field()
{
	sed -n "s/^$1: //p" "$2" | head -1
}

# build TEST...
build()
{
	"$MAKE" --no-print-directory -s "${@/#/build/tests/}" >"$WORK/build.log" 2>&1
}

# alive PATCH: all of its tests pass
alive()
{
	local t
	for t in $(field Tests "$1"); do
		TOE_WIRE=$(field Wire "$1") timeout -k 5 120 "build/tests/$t" >"$WORK/run.log" 2>&1 </dev/null ||
			return 1
		# nothing selected is no test
		grep -q '^\[  PASSED  \] [1-9]' "$WORK/run.log" || return 1
	done
	return 0
}

mapfile -t patches < <(printf '%s\n' tests/mutants/*"$T"*.patch)
mapfile -t tests < <(for p in "${patches[@]}"; do field Tests "$p"; done | tr ' ' '\n' | sort -u)
if ! build "${tests[@]}"; then
	echo "  the tests do not build:"
	head -20 "$WORK/build.log"
	result_add 0 1 0
	patches=()
fi
for p in "${patches[@]}"; do
	name=$(basename "$p" .patch)
	if ! alive "$p"; then
		echo "  $name: its tests fail without it"
		result_add 0 1 0
		continue
	fi
	mapfile -t todo < <(field Tests "$p" | tr ' ' '\n')
	if ! patch -p1 -s --no-backup-if-mismatch <"$p" >/dev/null; then
		echo "  $name: does not apply any more"
		result_add 0 1 0
		continue
	fi
	if ! build "${todo[@]}"; then
		echo "  $name: does not build: $(grep -m1 error: "$WORK/build.log")"
		result_add 0 1 0
	elif alive "$p"; then
		printf '  %-22s LIVES: %s\n' "$name" "$(head -1 "$p")"
		result_add 0 1 0
	else
		printf '  %-22s caught: %s\n' "$name" "$(head -1 "$p")"
		result_add 1 0 0
	fi
	patch -p1 -s -R --no-backup-if-mismatch <"$p" >/dev/null
	build "${todo[@]}"
done
result_end "$OUT/mutants.result"
