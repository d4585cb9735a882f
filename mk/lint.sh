#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `make lint`.  Each rule is a function that prints "file:line: what; how to fix" per finding and nothing
# else.  Last line "N passed, N failed" counts rules.  Results of the slow rules are cached in $B/lint by
# the content of everything they read.  RULES="format sizes" runs only these.
set -u
: "${B:=build}" "${MAKE:=make}"
cd "$(dirname "$0")/.." || exit 1
. mk/result.sh
CACHE=$B/lint
mkdir -p "$CACHE"

mapfile -t C_FILES < <(find include common datapath controlplane libtoe modules tests bench mk \
	-name '*.[ch]' | sort)
mapfile -t DEF_FILES < <(find common datapath controlplane libtoe modules -name '*.def' | sort)
mapfile -t SH_FILES < <({
	find mk tests bench -name '*.sh'
	find .ci/run tests/run-net 2>/dev/null
} | sort)
mapfile -t PRODUCT < <(printf '%s\n' "${C_FILES[@]}" | grep -Ev '^(tests|bench|mk)/')

rule_format()
{
	clang-format --dry-run -Werror "${C_FILES[@]}" 2>&1 |
		sed -n 's/^\([^:]*:[0-9]*\):[0-9]*: error: .*/\1: layout; run make format/p' |
		sort -t: -u -k1,1
}

# Dependencies on our own files, one per line, of every .c file: CACHE/deps/<path>.
rule_include_direction()
{
	mk/lint-includes.sh
}

rule_clang_tidy()
{
	B=$B MAKE=$MAKE mk/lint-tidy.sh
}

rule_cppcheck()
{
	mkdir -p "$CACHE/cppcheck"
	cppcheck -q -j2 --cppcheck-build-dir="$CACHE/cppcheck" --std=c11 --inline-suppr \
		--enable=warning,performance,portability --suppressions-list=.cppcheck-suppressions \
		-Iinclude -I. -Idatapath -DTOE_DEBUG --template='{file}:{line}: {message} [cppcheck {id}]' \
		include common datapath controlplane libtoe modules tests 2>&1 | grep -E '^[^ ]+:[0-9]+: '
}

rule_sizes()
{
	ctags -x --kinds-C=f --languages=C --langmap=C:.c.h \
		--_xformat='%F %n %{end} %N' "${C_FILES[@]}" 2>/dev/null |
		awk '$3 - $2 + 1 > 70 {
			printf "%s:%d: %s() has %d lines; split it, at most 70\n", $1, $2, $4, $3 - $2 + 1 }'
	wc -l "${C_FILES[@]}" "${DEF_FILES[@]}" | awk '$2 != "total" && $1 > 600 {
		printf "%s:%d: file has %d lines; split it, at most 600\n", $2, $1, $1 }'
	for f in "${C_FILES[@]}" "${DEF_FILES[@]}"; do
		expand -t8 "$f" | awk -v f="$f" 'length($0) > 100 && !/https?:/ {
			printf "%s:%d: %d columns; at most 100\n", f, NR, length($0) }'
	done
}

# find_words REGEX ADVICE FILE...: REGEX (PCRE) outside of strings is not looked for: be precise instead.
find_words()
{
	local regex=$1 advice=$2
	shift 2
	[ $# -eq 0 ] && return
	grep -nPH "$regex" "$@" /dev/null | while IFS=: read -r f n text; do
		printf '%s:%s: %s; %s\n' "$f" "$n" "$(grep -oP "$regex" <<<"$text" | head -1)" "$advice"
	done
}

rule_words()
{
	local stages
	mapfile -t stages < <(printf '%s\n' "${C_FILES[@]}" | grep '^datapath/stages/')
	find_words '\b(TODO|FIXME|XXX|HACK)\b(?! bit)' 'finish it, or describe the limit in docs/LIMITS.md' \
		"${C_FILES[@]}" "${DEF_FILES[@]}" Makefile
	find_words '(?<![\w.>])(v?sprintf|strcpy|strcat|gets|strtok)\s*\(' \
		'use snprintf, memcpy with a checked length, or strtok_r' "${C_FILES[@]}"
	find_words '__sync_\w+' 'use __atomic_* with the memory order it needs' "${C_FILES[@]}"
	find_words '(?<![\w.>])(v?f?printf|puts|putchar|perror|toe_log|LOG_(ERROR|WARN|INFO))\s*\(' \
		'stages do not print: count it (counters.def)' "${stages[@]}"
	find_words '^(?!\s*(/?\*|//)).*\bvolatile\b(?! (bool|sig_atomic_t|_Atomic))' \
		'use __atomic_* or _Atomic; volatile is for stop flags and signal handlers only' \
		"${PRODUCT[@]}"
}

rule_spdx()
{
	local f
	for f in "${C_FILES[@]}" "${DEF_FILES[@]}" "${SH_FILES[@]}"; do
		head -2 "$f" | grep -q 'SPDX-License-Identifier: BSD-3-Clause' ||
			echo "$f:1: no licence; add SPDX-License-Identifier: BSD-3-Clause on line 1"
	done
	for f in "${PRODUCT[@]}"; do
		case $f in
		*.c) sed -n 2,4p "$f" | grep -q '^/\*' ||
			echo "$f:2: no description; say job, inputs, outputs, state, thread" ;;
		esac
	done
}

rule_shellcheck()
{
	[ ${#SH_FILES[@]} -eq 0 ] && return
	shellcheck -x -f gcc -P SCRIPTDIR -e SC1003,SC1010,SC1091,SC2001,SC2015,SC2034,SC2119,SC2120,SC2181 "${SH_FILES[@]}" | sed 's/^\([^:]*:[0-9]*\):[0-9]*: /\1: /'
}

rule_codespell()
{
	codespell -q 7 -I mk/codespell-ignore include common datapath controlplane libtoe modules tests \
		mk docs bench ./*.md 2>&1 | sed 's/ ==> /: spelling: /'
}

for rule in ${RULES:-format sizes words spdx include_direction shellcheck codespell cppcheck clang_tidy}; do
	out=$CACHE/$rule.out
	"rule_$rule" >"$out" 2>"$CACHE/$rule.err"
	if [ -s "$out" ]; then
		printf '  %-18s %d findings\n' "$rule" "$(wc -l <"$out")"
		sed 's/^/    /' "$out" | head -60
		result_add 0 1 0
	else
		printf '  %-18s ok\n' "$rule"
		result_add 1 0 0
	fi
done
result_end "$B/lint.result"
