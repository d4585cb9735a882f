# SPDX-License-Identifier: BSD-3-Clause
# Reads C files with a `/* LINK: a.c b.c */` comment (may span lines) and prints a make rule for each:
# tests/unit/test_x.c -> B/tests/test_x; tests/progs/x.c, tests/oracle/x.c and bench/x.c keep their path.
# bench/ measures what the product runs: its objects are built without the checks of test builds.
# A file that mentions datapath/, modules/, "stage.h" and the like, or <rte_...> is built with DPDK.

function emit(    n, i, parts, out, objs, base, dir)
{
	if (file == "")
		return
	out = file
	sub(/\.c$/, "", out)
	sub(/^tests\/unit\//, "tests/", out)
	out = B "/" out
	base = file
	sub(/\.c$/, ".o", base)
	dir = B (file ~ /^bench\// && dpdk ? "/obj/dp/" : "/obj/test/")
	base = dir base
	objs = base
	n = split(linked ? link : guess, parts, /[ \t*]+/)
	for (i = 1; i <= n; i++) {
		if (parts[i] == "")
			continue
		sub(/\.c$/, ".o", parts[i])
		objs = objs " " dir parts[i]
		if (parts[i] ~ /^tests\//)
			base = base " " B "/obj/test/" parts[i]
	}
	if (dpdk) {
		printf "%s: TEST_CFLAGS := $(DP_CFLAGS)\n", base
		libs = "$(DP_LIBS) $(CP_LIBS)"
	} else {
		libs = "$(CP_LIBS)"
	}
	printf "%s: %s\n\t$(Q)mkdir -p $(@D)\n", out, objs
	printf "\t$(call link,%s %s)\n\n", (cmocka ? "-lcmocka" : ""), libs
}

FNR == 1 {
	emit()
	file = FILENAME
	link = guess = ""
	linked = 0
	dpdk = inside = 0
	cmocka = file ~ /unit/
}
# without a LINK line the headers of common/ say it
/^#include "common\/(config|ctl_sock|flow_hash|hist|log)\.h"/ {
	name = $2
	gsub(/"/, "", name)
	sub(/\.h$/, ".c", name)
	guess = guess " " name
}
/LINK:/ {
	inside = linked = 1
	sub(/.*LINK:/, "")
}
inside {
	text = $0
	if (text ~ /\*\//)
		inside = 0
	sub(/\*\/.*/, "", text)
	link = link " " text
	if (text ~ /datapath\/|modules\//)
		dpdk = 1
}
/#include "(\.\.\/)+tests\/sim\// { cmocka = 1 }
/#include (<rte_|"datapath\/|"modules\/|"(stage|work|engine|apps|hostmem|pipeline|counters|flow_table)\.h")/ {
	dpdk = 1
}
END { emit() }
