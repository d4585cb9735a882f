# SPDX-License-Identifier: BSD-3-Clause
# After links.awk: reads C files with a LINK comment and prints a make rule for each:
# tests/unit/test_x.c -> B/tests/test_x; tests/progs/x.c, tests/oracle/x.c and bench/x.c keep their path.
# A `/* LIBS: -lx */` line names libraries that only this one needs.
# bench/ measures what the product runs: its objects are built without the checks of test builds.

function emit(    n, i, parts, out, objs, base, dir, link, dpdk)
{
	if (file == "")
		return
	link = links_of(file)
	dpdk = needs_dpdk(file)
	out = file
	sub(/\.c$/, "", out)
	sub(/^tests\/unit\//, "tests/", out)
	out = B "/" out
	base = file
	sub(/\.c$/, ".o", base)
	dir = B (file ~ /^bench\// && dpdk ? "/obj/dp/" : "/obj/test/")
	base = dir base
	objs = base
	n = split(link != "" ? link : guess, parts, " ")
	for (i = 1; i <= n; i++) {
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
	printf "\t$(call link,%s %s%s)\n\n", (cmocka ? "-lcmocka" : ""), libs, more
}

FNR == 1 {
	emit()
	file = FILENAME
	guess = more = ""
	cmocka = file ~ /unit/
}
# without a LINK comment the headers of common/ say it
/^#include "common\/(config|ctl_sock|flow_hash|hist|log)\.h"/ {
	name = $2
	gsub(/"/, "", name)
	sub(/\.h$/, ".c", name)
	guess = guess " " name
}
/^\/\* LIBS: .* \*\/$/ { more = substr($0, 9, length($0) - 11) }
/#include "(\.\.\/)+tests\/sim\// { cmocka = 1 }
END { emit() }
