// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/sim/sim.h tests/unit/cp_rig.h datapath/counters.c datapath/hostmem_dmadev.c */
/* The wire scripts over IPv6: tests/wire/README.md. */
#include "../wire/runner.h"

int main(void)
{
	return wire_run_all(true);
}
