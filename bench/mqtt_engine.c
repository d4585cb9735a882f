/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/sim/sim.h tests/unit/mqtt_module.h datapath/hostmem_dmadev.c */
/*
 * The engine alone, fanning out MQTT in one process and one thread: all stages and the MQTT module
 * on one lcore; subscribers are a few variables each that acknowledge every segment, the broker a
 * script in the application's region.  Prints JSON lines, and a table to stderr.
 * Arguments: subscribers (1000), rounds (300).
 *
 * Only toe_pipeline_step() is on the clock (rte_rdtsc around it, less steps that did nothing);
 * stages see real time.  What the peers and the script do is not counted, but it does take their
 * memory through the same caches.  mqtt_engine_peer.h: peers and broker.
 */
#define SIM_OWN_PORT
#define SIM_SLOTS  2048u
#define SIM_CONNS  4096u
#define SIM_ITEMS  4095u /* as the defaults of the configuration */
#define SIM_MBUFS  16383u
#define SIM_CACHE  256u
#define SIM_MEM_MB "256"
#include "../tests/sim/sim.h"
#include "mqtt_engine_peer.h"

#define OUTSTANDING 16u
#define WARM_UP     20u /* rounds that do not count */
#define ROUNDS_MAX  100000u
#define COOL_BYTES  (64u << 20) /* more than all caches hold */

/* TSC on the clock, and what happened meanwhile. */
struct meter {
	uint64_t cycles;
	uint64_t stage_cycles[TOE_STAGE_N];
	uint64_t stage_items[TOE_STAGE_N];
	uint64_t copies, frames;
};

static uint32_t rounds_n = 300;
static double ns_per_cycle;

static struct meter meter_now(void)
{
	struct meter m = {.cycles = bench.cycles, .copies = bench.copies, .frames = bench.frames};
	struct toe_stage *s;

	for (unsigned i = 0; (s = toe_pipeline_stage(sim.engine.pipeline, i)) != NULL; i++) {
		m.stage_cycles[s->ops->id] += s->cycles;
		m.stage_items[s->ops->id] += s->items;
	}
	return m;
}

static struct meter meter_since(const struct meter *from)
{
	struct meter m = meter_now();

	m.cycles -= from->cycles;
	m.copies -= from->copies;
	m.frames -= from->frames;
	for (unsigned i = 0; i < TOE_STAGE_N; i++) {
		m.stage_cycles[i] -= from->stage_cycles[i];
		m.stage_items[i] -= from->stage_items[i];
	}
	return m;
}

/* ---- results ---- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_stages(const char *what, const struct meter *m)
{
	for (unsigned i = 0; i < TOE_STAGE_N; i++) {
		double ns = (double)m->stage_cycles[i] * ns_per_cycle;

		if (m->stage_items[i] == 0)
			continue;
		printf("{\"bench\":\"mqtt_engine\",\"what\":\"stage\",\"of\":\"%s\",\"n\":%u,"
		       "\"stage\":\"%s\",\"items_per_copy\":%.2f,\"ns_per_item\":%.1f,"
		       "\"ns_per_copy\":%.1f}\n",
		       what, bench.subscribers, toe_stage_table[i]->name,
		       (double)m->stage_items[i] / (double)m->copies,
		       ns / (double)m->stage_items[i], ns / (double)m->copies);
		fprintf(stderr, "    %-10s %6.2f items/copy  %7.1f ns/item  %7.1f ns/copy\n",
			toe_stage_table[i]->name, (double)m->stage_items[i] / (double)m->copies,
			ns / (double)m->stage_items[i], ns / (double)m->copies);
	}
}

/* cost: ns per copy of each round. */
static void print_cost(const char *what, const struct meter *m, double *cost)
{
	double per = (double)m->copies / (double)m->frames;

	qsort(cost, rounds_n, sizeof(*cost), compare);
	printf("{\"bench\":\"mqtt_engine\",\"what\":\"%s\",\"n\":%u,\"copies\":%lu,"
	       "\"ns_per_copy\":%.1f,\"p10\":%.1f,\"p90\":%.1f,\"copies_per_segment\":%.2f}\n",
	       what, bench.subscribers, (unsigned long)m->copies, cost[rounds_n / 2],
	       cost[rounds_n / 10], cost[rounds_n * 9 / 10], per);
	fprintf(stderr, "N=%-5u %-28s %8.1f ns/copy (p10 %.1f), %.2f copies/segment\n",
		bench.subscribers, what, cost[rounds_n / 2], cost[rounds_n / 10], per);
	print_stages(what, m);
}

static void print_latency(const char *what, double *us, uint32_t n)
{
	qsort(us, n, sizeof(*us), compare);
	printf("{\"bench\":\"mqtt_engine\",\"what\":\"%s\",\"n\":%u,\"rounds\":%u,"
	       "\"p50_us\":%.1f,\"p99_us\":%.1f,\"min_us\":%.1f}\n",
	       what, bench.subscribers, n, us[n / 2], us[n * 99 / 100], us[0]);
	fprintf(stderr, "N=%-5u %-28s p50 %7.1f us, p99 %7.1f us, p10 %7.1f us\n",
		bench.subscribers, what, us[n / 2], us[n * 99 / 100], us[n / 10]);
}

/* ---- measurements ---- */

static double cost_of(uint64_t cycles, uint64_t copies)
{
	return (double)cycles * ns_per_cycle / (double)copies;
}

/* Something else has used the caches: all that the engine needs comes from memory, as after 20 ms
 * in which others ran. */
static void cool_down(void)
{
	static uint8_t other[COOL_BYTES];

	for (size_t i = 0; i < sizeof(other); i += TOE_LINE)
		((volatile uint8_t *)other)[i]++;
}

static const struct {
	const char *last, *cost;
	bool held, cold; /* peers acknowledge after the last copy; caches are emptied before */
} single[] = {
	{"last copy, ACKs at once", "single, ACKs at once", false, false},
	{"last copy, ACKs after it", "single, ACKs after", true, false},
	{"last copy, cold caches", "single, cold caches", false, true},
};

/* One message at a time: time to the last copy, and cost with all acknowledgements. */
static void measure_single(unsigned kind)
{
	double *us = sim_zalloc(rounds_n * sizeof(*us));
	double *cost = sim_zalloc(rounds_n * sizeof(*cost));
	struct meter from, m;

	for (uint32_t r = 0; r < rounds_n + WARM_UP; r++) {
		uint64_t start = bench.cycles, goal = bench.copies + bench.subscribers;

		if (r == WARM_UP)
			from = meter_now();
		if (single[kind].cold)
			cool_down();
		bench.hold_acks = single[kind].held;
		bench_publish(1);
		while (bench.copies < goal)
			bench_turn();
		bench.hold_acks = false;
		if (r >= WARM_UP)
			us[r - WARM_UP] = (double)(bench.last_tx - start) * ns_per_cycle / 1000.0;
		bench_until_idle();
		if (r >= WARM_UP)
			cost[r - WARM_UP] = cost_of(bench.cycles - start, bench.subscribers);
		TOE_CHECK(bench.copies == goal);
	}
	m = meter_since(&from);
	print_latency(single[kind].last, us, rounds_n);
	print_cost(single[kind].cost, &m, cost);
	free(us);
	free(cost);
}

/* Sixteen messages in one segment of the publisher's. */
static void measure_burst(void)
{
	double *cost = sim_zalloc(rounds_n * sizeof(*cost));
	struct meter from, m;

	for (uint32_t r = 0; r < rounds_n + WARM_UP; r++) {
		uint64_t goal = bench.copies + (uint64_t)OUTSTANDING * bench.subscribers;
		uint64_t start = bench.cycles;

		if (r == WARM_UP)
			from = meter_now();
		bench_publish(OUTSTANDING);
		while (bench.copies < goal)
			bench_turn();
		bench_until_idle();
		if (r >= WARM_UP)
			cost[r - WARM_UP] = cost_of(bench.cycles - start,
						    (uint64_t)OUTSTANDING * bench.subscribers);
	}
	m = meter_since(&from);
	print_cost("16 in one segment", &m, cost);
	free(cost);
}

/* Closed loop: as soon as a message has reached everybody, the next one is published.  A round is
 * sixteen messages. */
static void measure_loop(void)
{
	double *cost = sim_zalloc(rounds_n * sizeof(*cost));
	uint64_t sent = 0, first = bench.complete;
	struct meter from, m;

	for (uint32_t r = 0; r < rounds_n + WARM_UP; r++) {
		uint64_t cycles = bench.cycles, copies = bench.copies;

		if (r == WARM_UP)
			from = meter_now();
		while (bench.complete - first < (uint64_t)(r + 1) * OUTSTANDING) {
			for (; sent - (bench.complete - first) < OUTSTANDING; sent++)
				bench_publish(1);
			bench_turn();
		}
		if (r >= WARM_UP)
			cost[r - WARM_UP] = cost_of(bench.cycles - cycles, bench.copies - copies);
	}
	m = meter_since(&from);
	bench_until_idle();
	print_cost("closed loop, 16 under way", &m, cost);
	free(cost);
}

static void warm_up(void)
{
	for (unsigned tries = 0; tries < 1000; tries++) {
		uint64_t goal = bench.copies + bench.subscribers;

		bench_publish(1);
		bench_until_idle();
		if (bench.copies == goal) {
			bench_follow();
			return;
		}
	}
	fprintf(stderr, "mqtt_engine: messages do not become fast\n");
	exit(1);
}

static void measure_all(uint32_t subscribers)
{
	uint64_t slow;

	bench_start(subscribers);
	warm_up();
	slow = bench.slow;
	for (unsigned i = 0; i < RTE_DIM(single); i++)
		measure_single(i);
	measure_burst();
	measure_loop();
	if (bench.slow != slow || sim_counter(TOE_C_SEGS_RTX) != 0) {
		fprintf(stderr, "mqtt_engine: %lu messages went slow, %lu segments again\n",
			(unsigned long)(bench.slow - slow),
			(unsigned long)sim_counter(TOE_C_SEGS_RTX));
		exit(1);
	}
	bench_stop();
}

int main(int argc, char **argv)
{
	uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000;

	if (argc > 2)
		rounds_n = (uint32_t)strtoul(argv[2], NULL, 10);
	if (n == 0 || n >= SIM_SLOTS || rounds_n == 0 || rounds_n > ROUNDS_MAX) {
		fprintf(stderr, "mqtt_engine [SUBSCRIBERS, at most %u [ROUNDS]]\n", SIM_SLOTS - 1);
		return 2;
	}
	if (sim_eal(NULL) != 0 || bench_pool() != 0) {
		fprintf(stderr, "mqtt_engine: no memory\n");
		return 1;
	}
	ns_per_cycle = 1e9 / (double)rte_get_tsc_hz();
	measure_all(n);
	return 0;
}
