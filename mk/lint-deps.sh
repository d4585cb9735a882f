#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# lint-deps.sh FILE.c: our own files that FILE.c includes, directly or not, one per line, itself first.
# Environment: DP_CFLAGS, CP_CFLAGS (from make print-cflags).
set -u
f=$1
flags=$CP_CFLAGS
case $f in
datapath/* | modules/* | tests/modules/*) flags=$DP_CFLAGS ;;
*) awk -v dpdk="$f" -f mk/links.awk && flags=$DP_CFLAGS ;;
esac
[ "${2:-}" = --flags ] && { echo "$flags"; exit 0; }
# -MM leaves out system headers, -isystem ones included
eval "gcc $flags -MM \"\$f\"" 2>/dev/null | tr -d '\\' | tr ' ' '\n' | sed '1d; /^$/d' |
	while read -r d; do realpath --relative-to=. "$d"; done
