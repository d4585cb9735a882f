#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# clang-tidy on every .c file whose text, headers, flags or configuration changed since it was found clean;
# findings are kept and printed again until the file changes.  Two at a time.
set -u
: "${B:=build}" "${MAKE:=make}"
cd "$(dirname "$0")/.." || exit 1
export TIDY=$B/lint/tidy
mkdir -p "$TIDY"
DP_CFLAGS=$("$MAKE" -s --no-print-directory print-cflags KIND=DP)
CP_CFLAGS=$("$MAKE" -s --no-print-directory print-cflags KIND=CP)
# The fingerprint changes with any edit of include/toe; the headers themselves are hashed anyway.
DP_CFLAGS=$(sed 's/TOE_ABI_FINGERPRINT=[^ ]*/TOE_ABI_FINGERPRINT=1u/' <<<"$DP_CFLAGS")
CP_CFLAGS=$(sed 's/TOE_ABI_FINGERPRINT=[^ ]*/TOE_ABI_FINGERPRINT=1u/' <<<"$CP_CFLAGS")
export DP_CFLAGS CP_CFLAGS

one()
{
	local f=$1 key out flags
	flags=$(mk/lint-deps.sh "$f" --flags)
	key=$({
		echo "$flags"
		mk/lint-deps.sh "$f" | xargs cat
		cat .clang-tidy
	} 2>/dev/null | sha256sum | cut -c1-40)
	out=$TIDY/$key
	if [ ! -e "$out" ]; then
		# -Werror and -march are gcc's; what clang warns about is the Checks list's business
		eval "timeout 170 clang-tidy --quiet \"\$f\" -- $flags -DTOE_DEBUG -Wno-everything" 2>/dev/null |
			grep -E ': (warning|error): ' |
			sed -E "s|^$PWD/||; s/:([0-9]+):[0-9]+: (warning|error): /:\1: /; s/,-warnings-as-errors//" \
			>"$out.$$"
		mv "$out.$$" "$out"
	fi
	cat "$out"
}
export -f one

find common datapath controlplane libtoe modules tests bench -name '*.c' | sort |
	xargs -P2 -I{} bash -c 'one {}' | sort -u
# a month of old results is enough
find "$TIDY" -type f -mtime +30 -delete
