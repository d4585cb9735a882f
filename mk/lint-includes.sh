#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Checks every #include of product code against mk/include-rules.
set -u
cd "$(dirname "$0")/.." || exit 1

# Direct includes suffice: headers are checked by the same rules.
find include common datapath controlplane libtoe modules -name '*.[ch]' -o -name '*.def' | sort |
	while read -r f; do
	dir=$(dirname "$f")
	grep -nE '^#[[:space:]]*include' "$f" | sed -E 's/^([0-9]+):#[[:space:]]*include[[:space:]]*/\1 /' |
		while read -r n inc _; do
		case $inc in
		\<*)
			printf '%s %s %s %s\n' "$f" "$n" "$inc" "-" ;;
		*)
			name=${inc//\"/}
			for p in "$dir/$name" "include/$name" "$name" "datapath/$name"; do
				[ -e "$p" ] && break
			done
			printf '%s %s %s %s\n' "$f" "$n" "$inc" "$(realpath -m --relative-to=. "$p")" ;;
		esac
	done
done | awk '
function dir_rule(path,   d)
{
	for (d = path; d != ""; ) {
		if (d in may)
			return d
		if (!sub(/\/[^\/]*$/, "", d))
			return ""
	}
	return ""
}
function inside(path, d) { return path == d || index(path, d "/") == 1 }
function word(path) { sub(/.*\//, "", path); sub(/[_.].*/, "", path); return path }
NR == FNR {
	if (/^#/ || /^$/)
		next
	split($0, kv, ": *")
	if (substr($0, 1, 1) == "<")
		lib[substr(kv[1], 2)] = kv[2]
	else
		may[kv[1]] = kv[2]
	next
}
$4 == "-" {
	for (p in lib) {
		if (index($3, "<" p) != 1)
			continue
		ok = 0
		n = split(lib[p], dirs, " ")
		for (i = 1; i <= n; i++)
			ok = ok || inside($1, dirs[i])
		if (!ok)
			printf "%s:%d: includes %s; only %s may\n", $1, $2, $3, lib[p]
	}
	next
}
{
	from = dir_rule($1)
	if (from == "" || inside($4, from)) {
		# a stage is its file, or its files with a common first word
		if (inside($1, "datapath/stages") && inside($4, "datapath/stages") &&
		    word($1) != word($4))
			printf "%s:%d: includes %s of another stage; share through work.h or datapath/\n", $1, $2, $3
		next
	}
	ok = 0
	n = split(may[from], dirs, " ")
	for (i = 1; i <= n; i++)
		ok = ok || inside($4, dirs[i])
	if (!ok)
		printf "%s:%d: includes %s; %s may include only: %s (mk/include-rules)\n", $1, $2, $3, from, may[from]
}' mk/include-rules -
