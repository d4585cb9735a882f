# SPDX-License-Identifier: BSD-3-Clause
# What a test or a benchmark is linked with: the names in its `/* LINK: a.c b.h */` comments (may span lines).
# A header stands for what the comments in that header name, once.  For mk/test-rules.awk; alone, with
# -v of=FILE, it prints FILE's list; with -v dpdk=FILE it succeeds if FILE is built with DPDK.

# links_of(path): " a.c b.c", or "" when there is no comment.
function links_of(path,    seen)
{
	split("", seen)
	return links_in(path, seen)
}

function links_in(path, seen,    line, inside, n, i, names, out)
{
	out = ""
	while ((getline line <path) > 0) {
		if (sub(/.*LINK:/, "", line))
			inside = 1
		if (!inside)
			continue
		if (sub(/\*\/.*/, "", line))
			inside = 0
		n = split(line, names, /[ \t*]+/)
		for (i = 1; i <= n; i++) {
			if (names[i] == "" || names[i] in seen)
				continue
			seen[names[i]] = 1
			out = out (names[i] ~ /\.h$/ ? links_in(names[i], seen) : " " names[i])
		}
	}
	close(path)
	return out
}

# needs_dpdk(path): it mentions datapath/, modules/, "stage.h" and the like, or <rte_...>.
function needs_dpdk(path,    line, yes)
{
	yes = links_of(path) ~ /datapath\/|modules\//
	while (!yes && (getline line <path) > 0)
		yes = line ~ /#include (<rte_|"(.*\/)?(datapath|modules)\/|"(stage|work|engine|apps|hostmem|pipeline|counters|flow_table)\.h")/
	close(path)
	return yes
}

BEGIN {
	if (of != "") {
		print links_of(of)
		exit
	}
	if (dpdk != "")
		exit !needs_dpdk(dpdk)
}
