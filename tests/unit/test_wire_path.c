// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/sim/sim.h tests/unit/cp_rig.h datapath/counters.c datapath/hostmem_dmadev.c */
/*
 * Goodput of bulk transfers over paths that lose and reorder, as sender and as receiver, beside
 * that of the reference TCP over the same paths with the same seeds.  Each transfer is a process.
 *
 * By hand: `test_wire_path SENDER RECEIVER LOSS_PPM SEEDS BYTES DELAY_US REORDER_PPM REORDER_US
 * RATE QUEUE`, ends e(ngine) or r(eference), rate in packets per ms; TRACE=1 prints the window each
 * millisecond, BUF the size of the engine's buffers.
 */
#include "../wire/path.h"

#define CASE_SEEDS 8u

/* Virtual seconds of transfers with seeds 1 to n; 0: one failed. */
static double transfers(const struct path_setup *base, unsigned n, bool print)
{
	struct path_setup u = *base;
	double sum = 0;

	for (u.seed = 1; u.seed <= n; u.seed++) {
		struct path_result r = path_transfer(&u);

		if (r.us == 0)
			return 0;
		sum += (double)r.us / 1e6;
		if (print)
			printf("%2u: %6.2f MB/s, segments %u, lost %u, acks lost %u, again %u, "
			       "needless %u, RTO %u, probes %u, recoveries %u, undone %u\n",
			       u.seed, (double)u.bytes / (double)r.us, r.data_segs, r.data_lost,
			       r.acks_lost, r.rtx_segs, r.spurious, r.rto, r.probes, r.recoveries,
			       r.undone);
	}
	return sum;
}

struct goodput {
	const char *name;
	struct path_setup u;
	double least; /* of the reference's goodput */
};

static const struct goodput cases[] = {
	{"send, loss 0.1 %",
	 {.receiver = PATH_REFERENCE, .loss_ppm = 1000, .bytes = 20000000},
	 1.05},
	{"send, loss 1 %", {.receiver = PATH_REFERENCE, .loss_ppm = 10000, .bytes = 5000000}, 1.05},
	{"send, loss 2 %", {.receiver = PATH_REFERENCE, .loss_ppm = 20000, .bytes = 5000000}, 1.05},
	{"send, loss 5 %", {.receiver = PATH_REFERENCE, .loss_ppm = 50000, .bytes = 2000000}, 1.05},
	{"receive, loss 0.1 %",
	 {.sender = PATH_REFERENCE, .loss_ppm = 1000, .bytes = 20000000},
	 0.95},
	{"receive, loss 1 %",
	 {.sender = PATH_REFERENCE, .loss_ppm = 10000, .bytes = 5000000},
	 0.95},
	{"receive, loss 5 %",
	 {.sender = PATH_REFERENCE, .loss_ppm = 50000, .bytes = 2000000},
	 0.95},
};

static void run(void **state)
{
	const struct goodput *c = *state;
	struct path_setup u = c->u, both;
	double engine, reference;

	u.buf = 1u << 22; /* not the limit: the reference has 4 MB, too */
	u.delay_us = u.delay_us ? u.delay_us : 1000;
	both = u;
	both.sender = both.receiver = PATH_REFERENCE;
	engine = transfers(&u, CASE_SEEDS, false);
	reference = transfers(&both, CASE_SEEDS, false);
	if (engine == 0 || reference == 0)
		fail_msg("%s: a transfer failed", c->name);
	printf("%s: %.2f of the reference\n", c->name, reference / engine);
	if (reference < c->least * engine)
		fail_msg("%s: %.2f of the reference, expected %.2f", c->name, reference / engine,
			 c->least);
}

static int by_hand(char **argv, unsigned n)
{
	unsigned v[8] = {0, 1, 20000000, 1000, 0, 0, 0, 0};
	struct path_setup u = {.buf = getenv("BUF") ? (uint32_t)atoi(getenv("BUF")) : 1u << 22,
			       .trace = getenv("TRACE") != NULL,
			       .sender = *argv[1] == 'r' ? PATH_REFERENCE : PATH_ENGINE,
			       .receiver = *argv[2] == 'r' ? PATH_REFERENCE : PATH_ENGINE};
	double s;

	for (unsigned i = 3; i < n && i < 11; i++)
		v[i - 3] = (unsigned)atoi(argv[i]);
	u.loss_ppm = v[0];
	u.bytes = v[2];
	u.delay_us = v[3];
	u.reorder_ppm = v[4];
	u.reorder_us = v[5];
	u.rate_pkts_per_ms = v[6];
	u.queue_pkts = v[7];
	s = transfers(&u, v[1], true);
	printf("mean %.2f MB/s\n", s > 0 ? (double)u.bytes * v[1] / s / 1e6 : 0);
	return s == 0;
}

int main(int argc, char **argv)
{
	enum { N = sizeof(cases) / sizeof(cases[0]) };
	static struct CMUnitTest tests[N];

	if (sim_eal(NULL) != 0)
		return 1;
	toe_config_defaults(&sim.cfg);
	sim.us = 1000000;
	if (argc > 2)
		return by_hand(argv, (unsigned)argc);
	for (unsigned i = 0; i < N; i++)
		tests[i] = (struct CMUnitTest){.name = cases[i].name,
					       .test_func = run,
					       .initial_state = (void *)(uintptr_t)&cases[i]};
	return _cmocka_run_group_tests("path", tests, N, NULL, NULL);
}
