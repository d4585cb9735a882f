#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# clang-tidy on every .c file, as many at a time as there are CPUs; minutes when nothing is known yet.  A
# result is kept until something it depends on changes, findings included:
#   $TIDY/files/PATH.c.key  what was read for it: hash of flags and configuration, hash of each file of ours
#   $TIDY/files/PATH.c.out  its findings; empty: clean
#   $TIDY/KEY               the same findings by content, for files that change back (another branch)
# By content and not by time: a fresh clone, or a touched file, is not new.
set -u
: "${B:=build}" "${MAKE:=make}"
cd "$(dirname "$0")/.." || exit 1
export TIDY=$B/lint/tidy
mkdir -p "$TIDY/files"
DIRS=(include common datapath controlplane libtoe modules tests bench)
DP_CFLAGS=$("$MAKE" -s --no-print-directory print-cflags KIND=DP)
CP_CFLAGS=$("$MAKE" -s --no-print-directory print-cflags KIND=CP)
# The fingerprint changes with any edit of include/toe; the headers themselves are hashed anyway.
DP_CFLAGS=$(sed 's/TOE_ABI_FINGERPRINT=[^ ]*/TOE_ABI_FINGERPRINT=1u/' <<<"$DP_CFLAGS")
CP_CFLAGS=$(sed 's/TOE_ABI_FINGERPRINT=[^ ]*/TOE_ABI_FINGERPRINT=1u/' <<<"$CP_CFLAGS")
export DP_CFLAGS CP_CFLAGS

command -v clang-tidy >/dev/null || { echo ".clang-tidy:1: clang-tidy is not installed; make deps"; exit; }
# RECIPE: change it when run() changes what is asked or kept.
RECIPE=1
SETUP=$({ echo $RECIPE; clang-tidy --version; cat .clang-tidy; } | sha256sum | cut -c1-40)
export SETUP
env_hash() { sha256sum <<<"$SETUP $1" | cut -c1-40; }
export -f env_hash

# run FILE FLAGS OUT: findings to OUT; false if clang-tidy did not get to its end.
run()
{
	local rc
	# -Werror and -march are gcc's; what clang warns about is the Checks list's business
	eval "timeout 300 clang-tidy --quiet \"\$1\" -- $2 -DTOE_DEBUG -Wno-everything" >"$3.raw" 2>"$3.err"
	rc=$?
	grep -E ': (warning|error): ' "$3.raw" |
		sed -E "s|^$PWD/||; s/:([0-9]+):[0-9]+: (warning|error): /:\1: /; s/,-warnings-as-errors//" >"$3"
	# it exits with 1 if it has findings
	[ $rc -eq 0 ] || { [ $rc -eq 1 ] && [ -s "$3" ]; }
}

# Looks at one file and leaves its .key and .out.
one()
{
	local f=$1 at=$TIDY/files/$1 flags key
	mkdir -p "$(dirname "$at")"
	rm -f "$at.key"
	flags=$(mk/lint-deps.sh "$f" --flags)
	{
		echo "env $(env_hash "$flags")"
		mk/lint-deps.sh "$f" | sort -u | xargs sha256sum
	} >"$at.new" 2>/dev/null
	key=$TIDY/$(sha256sum <"$at.new" | cut -c1-40)
	if [ ! -e "$key" ]; then
		if run "$f" "$flags" "$at.tmp"; then
			mv "$at.tmp" "$key"
		else
			echo "$f:1: clang-tidy did not finish, see $at.tmp.err" | tee "$at.out"
			return
		fi
	fi
	rm -f "$at.tmp.raw" "$at.tmp.err"
	cp "$key" "$at.out"
	# of a file with an include that is missing, what it depends on is not known
	[ "$(wc -l <"$at.new")" -gt 1 ] && mv "$at.new" "$at.key"
}
export -f one run

find "${DIRS[@]}" -name '*.c' | sort >"$TIDY/want"
find "${DIRS[@]}" -name '*.[ch]' -print0 | xargs -0 sha256sum >"$TIDY/sums"
find "${DIRS[@]}" -name '*.def' -print0 | xargs -0 -r sha256sum >>"$TIDY/sums"

# Files all of whose key still holds.
# shellcheck disable=SC2016 # awk, not shell
find "$TIDY/files" -name '*.c.key' -print0 | xargs -0 -r awk -v sums="$TIDY/sums" -v files="$TIDY/files/" \
	-v dp="$(env_hash "$DP_CFLAGS")" -v cp="$(env_hash "$CP_CFLAGS")" '
BEGIN { while ((getline <sums) > 0) sum[$2] = $1 }
FNR == 1 { name = substr(FILENAME, length(files) + 1); sub(/\.key$/, "", name); seen[name] = 1 }
FNR == 1 ? $2 != dp && $2 != cp : sum[$2] != $1 { stale[name] = 1 }
END { for (n in seen) if (!(n in stale)) print n }' | sort >"$TIDY/fresh"

comm -23 "$TIDY/want" "$TIDY/fresh" >"$TIDY/todo"
xargs -r -P"$(nproc)" -I{} bash -c 'one {}' <"$TIDY/todo" >/dev/null
while read -r f; do
	cat "$TIDY/files/$f.out" 2>/dev/null || echo "$f:1: clang-tidy left no result"
done <"$TIDY/want" | sort -u
# a month of old results is enough
find "$TIDY" -maxdepth 1 -type f -mtime +30 -delete
