// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/stages/ctxq.c datapath/stages/ctxq_hint.c datapath/stages/ctxq_doorbell.c
 * datapath/apps.c datapath/sigbus.c common/log.c */
/*
 * The context queues under a hostile application: {bytes anywhere in its control segment, ring
 * positions, doorbells of any value, kicks} between connections that come, progress and go, and
 * polls, and beside it an application that behaves.  Checked: a poll's work is bounded; what is
 * fetched is a connection of that slot; cursors and the accept ring hold what the engine says,
 * whatever was written; not a byte of the other application changes but its own, and its doorbells
 * are taken at once.  In the end the hostile one puts its rings in order, and is served again.
 */
#include "fuzz.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

/* The rig's checks end the process; cmocka is not linked. */
#undef assert_true
#undef assert_false
#undef assert_int_equal
#undef assert_non_null
#undef assert_ptr_equal
#define assert_true(x)         FUZZ_CHECK(x)
#define assert_false(x)        FUZZ_CHECK(!(x))
#define assert_int_equal(a, b) FUZZ_CHECK((uint64_t)(a) == (uint64_t)(b))
#define assert_non_null(x)     FUZZ_CHECK((x) != NULL)
#define assert_ptr_equal(a, b) FUZZ_CHECK((a) == (b))

#include "../unit/ctxq_rig.h"

#include "common/closer.h"
#include "common/tcp_seq.h"

#define FUZZ_STEPS  300u
#define VICTIM      3u
#define VICTIM_CONN 20u
#define CONNS       16u /* of the hostile one, ids below */
#define BUDGET      64u
#define POLL_MAX    (BUDGET + 16 + 64) /* a last quota, and slots without a doorbell */

static struct {
	struct toe_app *victim;
	int kick;
	uint8_t *before; /* the victim's control segment */
	uint32_t rung;   /* of the victim, answered */
	struct {
		bool installed;
		uint32_t slot, rx_tail, tx_head;
	} conn[CONNS];
} f;

/* In place of closer.c: without its threads, what an input does is the same every time. */
void toe_close_later(int fd)
{
	if (fd >= 0)
		close(fd);
}

unsigned toe_close_waiting(void)
{
	return 0;
}

/* ---- checks ---- */

static void check_item(const struct toe_work *w)
{
	const struct toe_app *a;

	if (w->type != TOE_WORK_HC || w->cmd != TOE_HC_FETCH)
		return;
	a = toe_app_get(&env.engine, w->hc.app_id);
	FUZZ_CHECK(a == app || a == f.victim);
	FUZZ_CHECK(w->hc.slot < a->slot_n);
	FUZZ_CHECK(w->conn < env.engine.conn_n && w->conn == a->own[w->hc.slot].conn);
	FUZZ_CHECK(w->gen == a->own[w->hc.slot].conn_gen);
	f.rung += a == f.victim;
}

static void check_emitted(void)
{
	FUZZ_CHECK(env.emitted_n <= POLL_MAX);
	for (unsigned i = 0; i < env.emitted_n; i++)
		if (env.emitted[i] != NULL)
			check_item(env.emitted[i]);
}

/* What the engine knows is in its own memory, and goes only forward. */
static void check_truth(void)
{
	for (uint32_t c = 0; c < CONNS; c++) {
		const struct toe_slot_own *own = &app->own[f.conn[c].slot];

		if (!f.conn[c].installed)
			continue;
		FUZZ_CHECK(own->conn == c && own->conn_gen == GEN);
		FUZZ_CHECK(own->rx_tail == f.conn[c].rx_tail && own->tx_head == f.conn[c].tx_head);
	}
}

static void poll_once(void)
{
	unsigned n = env.stage.ops->poll(&env.stage, BUDGET);

	FUZZ_CHECK(n <= POLL_MAX);
	check_emitted();
	rig_clear();
}

static void check_victim_unchanged(void)
{
	FUZZ_CHECK(memcmp(f.before, f.victim->control, f.victim->control_bytes) == 0);
}

/* ---- steps ---- */

static void scribble(struct fuzz_in *in)
{
	for (unsigned n = fuzz_u8(in) % 32; n > 0; n--)
		app->control[fuzz_u32(in) % app->control_bytes] = fuzz_u8(in);
}

/* Places where a lie matters. */
static void lie(struct fuzz_in *in)
{
	uint8_t how = fuzz_u8(in);
	struct toe_context *c = toe_app_context(app, how % 3);
	struct toe_listener *l = toe_app_listener(app, how % RIG_LISTENERS);
	struct toe_slot *s = toe_app_slot(app, fuzz_u8(in) % RIG_SLOTS);
	uint32_t v =
		fuzz_u8(in) & 1 ? fuzz_u32(in) : app->procs[how % 3].doorbell_cons + (how >> 2);

	switch (how >> 5) {
	case 0:
		c->doorbell_prod = v;
		break;
	case 1:
		c->hint_cons = v;
		break;
	case 2:
		l->cons = v;
		break;
	case 3:
		s->ctx_mask = (uint64_t)v << 32 | v;
		break;
	case 4:
		s->hint_pending = v;
		break;
	case 5:
		c->waiting = v;
		break;
	default:
		s->doorbell_pending = v;
	}
}

static void doorbells(struct fuzz_in *in)
{
	for (unsigned n = fuzz_u8(in) % 80; n > 0; n--) {
		uint8_t v = fuzz_u8(in);

		ring(v % 3, v >= 0xe0 ? fuzz_u32(in) : v % (RIG_SLOTS + 2));
	}
}

static void come_and_go(struct fuzz_in *in)
{
	uint32_t c = fuzz_u8(in) % CONNS, listener = fuzz_u8(in) % (RIG_LISTENERS + 1);
	struct toe_work *w;

	if (f.conn[c].installed) {
		w = item(TOE_WORK_CTRL, c);
		w->cmd = TOE_CMD_REMOVE;
		w->snap.rx_tail = f.conn[c].rx_tail;
		w->snap.tx_head = f.conn[c].tx_head;
		f.conn[c].installed = false;
	} else {
		f.conn[c].slot = c * 2 + 1;
		f.conn[c].rx_tail = f.conn[c].tx_head = 0;
		f.conn[c].installed = true;
		w = install_item(c, f.conn[c].slot, listener < RIG_LISTENERS ? listener : TOE_NONE);
	}
	feed_free(w);
	rig_clear();
}

static void progress(struct fuzz_in *in)
{
	uint32_t c = fuzz_u8(in) % CONNS;
	struct toe_slot *s = toe_app_slot(app, f.conn[c].slot);
	struct toe_work *w;
	bool moved;

	if (!f.conn[c].installed)
		return;
	w = item(TOE_WORK_RX, c);
	w->snap.rx_tail = f.conn[c].rx_tail += fuzz_u16(in);
	w->snap.tx_head = f.conn[c].tx_head += fuzz_u16(in);
	w->snap.state = fuzz_u8(in) & TOE_SLOT_RX_FIN;
	moved = w->snap.rx_tail != app->own[f.conn[c].slot].rx_tail;
	feed_free(w);
	if (moved)
		FUZZ_CHECK(s->rx_tail == f.conn[c].rx_tail && s->tx_head == f.conn[c].tx_head);
	rig_clear();
}

/* The one that behaves rings once; its turn comes in the next poll. */
static void victim_rings(void)
{
	struct toe_context *c = toe_app_context(f.victim, 0);
	uint32_t rung = f.rung;

	toe_app_doorbells(f.victim, 0)[c->doorbell_prod & (f.victim->doorbell_n - 1)] = SLOT;
	__atomic_store_n(&c->doorbell_prod, c->doorbell_prod + 1, __ATOMIC_RELEASE);
	poll_once();
	FUZZ_CHECK(f.rung == rung + 1);
	FUZZ_CHECK(c->doorbell_cons == c->doorbell_prod);
	memcpy(f.before, f.victim->control, f.victim->control_bytes);
}

static void kicks(struct fuzz_in *in)
{
	uint8_t n = fuzz_u8(in) % 64;

	while (n-- > 0)
		if (send(kick[n % 3], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
	env.stage.ops->sleep(&env.stage, true);
	env.stage.ops->sleep(&env.stage, false);
	memcpy(f.before, f.victim->control,
	       f.victim->control_bytes); /* engine_asleep is told to all */
}

static void step(struct fuzz_in *in)
{
	uint8_t op = fuzz_u8(in);

	if (op < 60)
		scribble(in);
	else if (op < 100)
		lie(in);
	else if (op < 130)
		doorbells(in);
	else if (op < 160)
		come_and_go(in);
	else if (op < 190)
		progress(in);
	else if (op < 220)
		poll_once();
	else if (op < 235)
		victim_rings();
	else
		kicks(in);
	for (unsigned c = 0; c < 3; c++) /* nobody reads them: they must not fill up */
		rig_bytes(waiter[c]);
	check_truth();
	check_victim_unchanged();
}

/* ---- beginning and end ---- */

static void begin(void)
{
	struct toe_work *w;

	memset(&f, 0, sizeof(f));
	start();
	f.victim = rig_attach(VICTIM);
	f.kick = rig_proc(VICTIM, 0);
	w = install_item(VICTIM_CONN, SLOT, TOE_NONE);
	toe_work_ctrl(w)->cmd.install.app_id = VICTIM;
	env.engine.flow_post[VICTIM_CONN].app_id = VICTIM;
	feed_free(w);
	env.stage.ops->poll(&env.stage, BUDGET);
	rig_clear();
	f.before = malloc(f.victim->control_bytes);
	FUZZ_CHECK(f.before != NULL);
	memcpy(f.before, f.victim->control, f.victim->control_bytes);
}

static bool fetched(uint32_t conn)
{
	for (unsigned i = 0; i < env.emitted_n; i++)
		if (env.emitted[i] != NULL && env.emitted[i]->conn == conn)
			return true;
	return false;
}

/* An application in its right mind again: what it rings is taken. */
static void recover(void)
{
	for (unsigned c = 0; c < 3; c++)
		toe_app_context(app, c)->doorbell_prod = app->procs[c].doorbell_cons;
	for (unsigned n = 0; n < 4; n++)
		poll_once();
	if (!f.conn[0].installed)
		return;
	ring(1, f.conn[0].slot);
	env.stage.ops->poll(&env.stage, BUDGET);
	FUZZ_CHECK(fetched(0));
	rig_clear();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, size};

	begin();
	for (unsigned n = 0; n < FUZZ_STEPS && in.left > 0; n++)
		step(&in);
	victim_rings();
	recover();
	close(f.kick);
	free(f.before);
	stop();
	return 0;
}
