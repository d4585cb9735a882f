# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# Sourced.  Sums "N passed, N failed, N skipped" lines of several runs.

result_passed=0
result_failed=0
result_skipped=0

# result_add PASSED FAILED SKIPPED
result_add()
{
	result_passed=$((result_passed + $1))
	result_failed=$((result_failed + $2))
	result_skipped=$((result_skipped + $3))
}

# A run that left no result did not get to its end: one failure.
result_add_file()
{
	local p f s
	if ! read -r p f s < <(sed -n \
		's/^\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}$/\1 \2 \4/p' \
		"$1" 2>/dev/null); then
		result_add 0 1 0
		return
	fi
	result_add "$p" "$f" "${s:-0}"
}

# Prints the sum, alone on a line, writes it to FILE, and fails if anything failed or nothing passed.
result_end()
{
	local line="$result_passed passed, $result_failed failed"
	[ "$result_skipped" -gt 0 ] && line="$line, $result_skipped skipped"
	mkdir -p "$(dirname "$1")"
	echo "$line" | tee "$1"
	[ "$result_failed" -eq 0 ] && [ $((result_passed + result_skipped)) -gt 0 ]
}
