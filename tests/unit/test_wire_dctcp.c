// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/sim/sim.h tests/unit/cp_rig.h datapath/counters.c datapath/hostmem_dmadev.c */
/*
 * DCTCP end to end, in virtual time: the bottleneck marks what finds a queue (CE), the peer echoes
 * it (ECE), post counts bytes, the control plane decides, proto obeys.  One bulk transfer of the
 * engine: the queue stays near the threshold, nothing is lost, the bottleneck is hardly ever idle.
 * Without ECN the same path fills its queue and loses, so that the figures mean something.
 */
#include "../wire/path.h"

struct bottleneck {
	const char *name;
	struct path_setup u;
};

/* Thresholds from half of what the path holds (the DCTCP paper asks for a seventh) to twice as
 * much; a packet is REF_MSS long. */
static const struct bottleneck cases[] = {
	{"20 packets/ms, 2 ms",
	 {.rate_pkts_per_ms = 20, .delay_us = 1000, .mark_pkts = 20, .queue_pkts = 200}},
	{"10 packets/ms, 1 ms",
	 {.rate_pkts_per_ms = 10, .delay_us = 500, .mark_pkts = 10, .queue_pkts = 200}},
	{"20 packets/ms, 0.2 ms",
	 {.rate_pkts_per_ms = 20, .delay_us = 100, .mark_pkts = 10, .queue_pkts = 100}},
	{"50 packets/ms, 0.5 ms",
	 {.rate_pkts_per_ms = 50, .delay_us = 250, .mark_pkts = 15, .queue_pkts = 200}},
};

static struct path_setup setup(const struct bottleneck *c)
{
	struct path_setup u = c->u;

	u.sender = PATH_ENGINE;
	u.receiver = PATH_REFERENCE;
	u.buf = 1u << 22; /* not the limit */
	u.bytes = 40000000;
	u.seed = 1;
	u.trace = getenv("TRACE") != NULL;
	return u;
}

static struct path_result transfer(const struct path_setup *u, const char *name)
{
	struct path_result r = path_transfer(u);

	if (r.us == 0)
		fail_msg("%s: the transfer failed", name);
	printf("%s: lost %u, again %u, marked %u of %u, queue %.1f of %u, at most %u; control "
	       "plane: %llu "
	       "bytes marked, alpha %.2f, %u decisions\n",
	       name, r.data_lost, r.rtx_segs, r.marked, r.data_segs, r.queue_pkts, u->mark_pkts,
	       r.queue_max, (unsigned long long)r.ecn_bytes, r.alpha, r.cc_updates);
	return r;
}

/* Of the bottleneck's rate. */
static double goodput(const struct path_setup *u, const struct path_result *r)
{
	return (double)u->bytes / REF_MSS / u->rate_pkts_per_ms * 1000 / (double)r->us;
}

#define EXPECT(x)                                                                                  \
	do {                                                                                       \
		if (!(x))                                                                          \
			fail_msg("%s: not so: %s", c->name, #x);                                   \
	} while (0)

static void marks_keep_the_queue_short(void **state)
{
	const struct bottleneck *c = *state;
	struct path_setup u = setup(c);
	struct path_result r = transfer(&u, c->name);

	EXPECT(r.data_lost == 0 && r.rtx_segs == 0);
	EXPECT(goodput(&u, &r) > 0.98);
	EXPECT(r.queue_pkts > 0.4 * u.mark_pkts && r.queue_pkts < 1.25 * u.mark_pkts);
	/* marks go on, and each one arrives; the last segment is shorter */
	EXPECT(r.marked_warm > 1000);
	EXPECT(r.ecn_bytes <= (uint64_t)r.marked * REF_MSS);
	EXPECT(r.ecn_bytes + REF_MSS > (uint64_t)r.marked * REF_MSS);
	EXPECT(r.alpha > 0.02 && r.alpha < 0.7);
	EXPECT(r.cc_updates > 20);
}

static void without_marks_it_fills_up(void **state)
{
	const struct bottleneck *c = *state;
	struct path_setup u = setup(c);
	struct path_result r;

	u.mark_pkts = 0;
	r = transfer(&u, c->name);
	EXPECT(r.data_lost > 0);
	EXPECT(r.queue_pkts > 3 * c->u.mark_pkts);
	EXPECT(r.marked == 0 && r.ecn_bytes == 0);
}

int main(void)
{
	enum { N = sizeof(cases) / sizeof(cases[0]) };
	static struct CMUnitTest tests[2 * N];

	if (sim_eal(NULL) != 0)
		return 1;
	toe_config_defaults(&sim.cfg);
	sim.us = 1000000;
	for (unsigned i = 0; i < N; i++) {
		void *c = (void *)(uintptr_t)&cases[i];

		tests[i] = (struct CMUnitTest){.name = cases[i].name,
					       .test_func = marks_keep_the_queue_short,
					       .initial_state = c};
		tests[N + i] = (struct CMUnitTest){.name = cases[i].name,
						   .test_func = without_marks_it_fills_up,
						   .initial_state = c};
	}
	return _cmocka_run_group_tests("dctcp", tests, 2 * N, NULL, NULL);
}
