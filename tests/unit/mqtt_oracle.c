/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The oracle of the model world: what a client may get, and what it must.
 *
 * Input: bytes the stage sends to clients, what the broker handled and dropped.  Output:
 * world.wrong. State: in struct world.  One thread.
 */
#include <stdio.h>
#include <string.h>

#include "modules/mqtt/mqtt_stage.h"
#include "mqtt_world_int.h"

uint8_t world_byte(uint32_t n, unsigned i)
{
	return (uint8_t)(n * 7 + i * 13);
}

static bool same_client(const struct world *w, const struct inst *a, uint32_t by)
{
	return a->name == w->inst[by].name;
}

/* No Local of a subscription stays what it was the first time (mosquitto), which may have been in
 * an earlier connection of the session: sure: how to decide then. */
static bool wants(const struct world *w, const struct inst *i, const struct window *v,
		  const struct msg *m, bool sure)
{
	if (same_client(w, i, m->by) && (i->clean ? v->no_local : sure))
		return false;
	return broker_match(world_filter[v->filter], world_topic[m->topic]);
}

/* What a person needs to understand a failure. */
static void explain(const struct world *w, const struct inst *i, uint32_t n)
{
	const struct msg *m = &w->msg[n];

	if (!w->o.verbose || w->wrong == NULL)
		return;
	printf("%lu: %s: %s %u (by %u, %s, qos %u, retain %u, seq %u, %lu..%ld)\n", w->t, w->wrong,
	       m->will ? "will" : "message", n, m->by, world_topic[m->topic], m->qos, m->retain,
	       m->seq, m->start, (long)m->end);
	printf("   at %u (client %u, level %u, clean %u, opened %lu)\n", (unsigned)(i - w->inst),
	       i->name, i->level, i->clean, i->opened);
	for (const struct inst *e = i; e >= w->inst; e--) {
		for (unsigned k = 0; e->name == i->name && k < e->win_n; k++) {
			const struct window *v = &e->win[k];

			printf("   %u %s: %lu %ld .. %ld %ld%s%s\n", (unsigned)(e - w->inst),
			       world_filter[v->filter], v->sub, (long)v->ack, (long)v->unsub,
			       (long)v->unack, v->gone ? " gone" : "", v->no_local ? " nl" : "");
		}
	}
}

/* Windows by which the message may come. */
static unsigned possible(const struct world *w, const struct inst *i, const struct msg *m)
{
	unsigned n = 0;

	for (unsigned k = 0; k < i->win_n; k++) {
		const struct window *v = &i->win[k];

		n += wants(w, i, v, m, false) && v->sub <= m->end && v->unack >= m->start;
	}
	/* what the session may have from earlier connections */
	for (const struct inst *e = w->inst; !i->clean && e < w->inst + w->inst_n; e++) {
		if (e->name != i->name || e->rank == 0 || e->rank >= i->rank)
			continue;
		for (unsigned k = 0; k < e->win_n; k++)
			n += wants(w, i, &e->win[k], m, false) && e->win[k].unack >= m->start;
	}
	return n;
}

/* Windows by which it must. */
static unsigned certain(const struct world *w, const struct inst *i, const struct msg *m)
{
	bool by[FILTERS] = {false}; /* one subscription each */
	unsigned n = 0;

	for (unsigned k = 0; k < i->win_n; k++) {
		const struct window *v = &i->win[k];

		by[v->filter] |= wants(w, i, v, m, true) && !v->gone && v->ack < m->start &&
				 v->unsub > m->end;
	}
	for (unsigned k = 0; k < FILTERS; k++)
		n += by[k];
	return i->level == 5 || n < 1 ? n : 1;
}

/* Retained messages are older than what is live once SUBACK has been sent. */
static void check_retained(struct world *w, const struct inst *i, const struct msg *m)
{
	uint64_t acked = 0;

	for (unsigned k = 0; k < i->win_n; k++) {
		const struct window *v = &i->win[k];

		if (!broker_match(world_filter[v->filter], world_topic[m->topic]))
			continue;
		if (v->ack == NEVER)
			return;
		acked = v->again > acked ? v->again : acked;
	}
	for (unsigned k = 0; k < i->req_n; k++) {
		if (i->req[k].type == 8)
			return;
	}
	if (i->live_start[m->topic] > acked)
		world_wrong(w, "retained message behind a later live one");
}

/* Others of the name have the session after it: the first of them. */
static const struct inst *next_of(const struct world *w, const struct inst *e)
{
	const struct inst *next = NULL;

	for (const struct inst *i = w->inst; i < w->inst + w->inst_n; i++) {
		if (i->name == e->name && i->rank > e->rank &&
		    (next == NULL || i->rank < next->rank))
			next = i;
	}
	return next;
}

/* It waited for a blocked subscriber for longer than one of the next connections did for it, with
 * its CONNECT or once it was accepted. */
static bool not_waited_for(const struct world *w, const struct inst *i, const struct msg *m)
{
	const struct inst *by = &w->inst[m->by];

	/* nobody waits for what a connection has left behind at blocked subscribers */
	if (by->gone && i->blocked_at >= by->gone_at)
		return true;
	for (const struct inst *n = w->inst; n < w->inst + w->inst_n; n++) {
		if (n->name == by->name && n->rank > by->rank && n->gave_up &&
		    n->blocked[i - w->inst])
			return true;
	}
	return false;
}

/* Published when the next CONNECT was at the broker already, which may have given the session away
 * and published the will.  For a second the older one is slow, and nothing comes too late. */
static bool behind_its_will(struct world *w, const struct msg *m)
{
	const struct inst *by = &w->inst[m->by], *next = next_of(w, by);
	uint32_t now = toe_stream_ms(fake_stream(w->f));

	if (by->gone)
		return true;
	return next != NULL && m->pos > next->pos_reached[m->by] &&
	       now - next->reached_ms >= MQTT_CLAIMED_MS &&
	       now - by->connected_ms >= MQTT_CLAIMED_MS;
}

/* Those of one connection in order, its will last, then those of the next one. */
static void check_order(struct world *w, struct inst *i, const struct msg *m)
{
	const struct inst *by = &w->inst[m->by];
	bool late = !m->will && not_waited_for(w, i, m);
	bool wills = late || (!m->will && behind_its_will(w, m)); /* may be before it */
	struct place *last = i->last[by->name][m->topic];
	struct place *at = &last[m->will ? WILL : m->qos];

	if (by->rank == 0)
		world_wrong(w, "message of a connection that is not accepted");
	for (unsigned q = 0; q < WILL; q++) {
		if (last[q].rank > by->rank && (q == m->qos || m->will) && !late)
			world_wrong(w, "message behind those of the next connection");
	}
	if (last[WILL].rank > by->rank && !wills)
		world_wrong(w, "message behind the will of the next connection");
	if (at->rank == by->rank && m->seq < at->seq)
		world_wrong(w, "message out of order");
	if (!m->will && last[WILL].rank == by->rank && !wills)
		world_wrong(w, "message behind its client's will");
	if (by->rank >= at->rank)
		*at = (struct place){by->rank, m->seq};
}

static void check_live(struct world *w, struct inst *i, uint32_t n)
{
	struct msg *m = &w->msg[n];
	unsigned most = possible(w, i, m);

	if (most == 0)
		world_wrong(w, "message for a topic nobody subscribed to");
	if (i->level != 5 && most > 1)
		most = 1;
	if (++i->got[n] > most)
		world_wrong(w, "message twice");
	check_order(w, i, m);
	if (m->start > i->live_start[m->topic])
		i->live_start[m->topic] = m->start;
	world_stats.delivered++;
}

static void on_publish(struct world *w, struct inst *i, const uint8_t *p, size_t n)
{
	uint8_t qos = p[0] >> 1 & 3u;
	size_t at = p[1] & 0x80u ? 3 : 2, topic_n;
	uint32_t num;

	if (n < at + 2)
		return world_wrong(w, "short PUBLISH");
	topic_n = (size_t)p[at] << 8 | p[at + 1];
	const char *topic = (const char *)p + at + 2;

	at += 2 + topic_n + (qos > 0 ? 2 : 0);
	if (i->level == 5)
		at += 1u + p[at]; /* no more than 127 bytes of properties here */
	if (n < at + 4)
		return world_wrong(w, "PUBLISH without number");
	num = (uint32_t)p[at] << 24 | (uint32_t)p[at + 1] << 16 | (uint32_t)p[at + 2] << 8 |
	      p[at + 3];
	if (num >= w->msg_n || w->msg[num].len != n - at)
		return world_wrong(w, "PUBLISH of nobody");
	for (unsigned k = 4; k < w->msg[num].len; k++) {
		if (p[at + k] != world_byte(num, k))
			return world_wrong(w, "payload changed");
	}
	if (topic_n != strlen(world_topic[w->msg[num].topic]) ||
	    memcmp(topic, world_topic[w->msg[num].topic], topic_n) != 0)
		return world_wrong(w, "topic changed");
	if ((p[0] & 1u) && (i->bridge || !i->clean))
		return; /* live or retained: nobody can tell */
	if (w->o.verbose)
		printf("%lu: %u gets %u of %u\n", w->t, (unsigned)(i - w->inst), num,
		       w->msg[num].by);
	if (p[0] & 1u)
		check_retained(w, i, &w->msg[num]);
	else
		check_live(w, i, num);
	explain(w, i, num);
}

static void on_connack(struct world *w, struct inst *i, const uint8_t *p)
{
	bool resumed = i->level == 3 ? !i->clean : (p[2] & 1u) != 0;

	i->connected = true;
	i->connected_ms = toe_stream_ms(fake_stream(w->f));
	if (w->o.verbose)
		printf("%lu: %u gets CONNACK\n", w->t, (unsigned)(i - w->inst));
	for (unsigned k = 0; k < i->win_n; k++) {
		struct window *v = &i->win[k];

		if (v->from == NULL)
			continue;
		if (!resumed && v->asked)
			v->from = NULL;
		else if (!resumed)
			v->gone = true;
		else if (v->from->ack != NEVER && v->from->unsub == NEVER && !v->from->gone)
			v->ack = v->again = w->t;
	}
}

static void on_answer(struct world *w, struct inst *i, uint8_t type, const uint8_t *p)
{
	uint16_t pid = (uint16_t)(p[2] << 8 | p[3]);

	for (unsigned k = 0; k < i->req_n; k++) {
		struct request *r = &i->req[k];

		if (r->pid != pid || r->type != type)
			continue;
		for (unsigned j = 0; j < r->n; j++) {
			struct window *v = &i->win[r->win[j]];

			if (type == 10)
				v->unack = w->t;
			else if (v->ack == NEVER)
				v->ack = w->t;
			v->again = w->t;
		}
		*r = i->req[--i->req_n];
		return;
	}
	world_wrong(w, "SUBACK or UNSUBACK nobody asked for");
}

/* The n-th answer is to the n-th question, or to a later one: what the client wrote before it, and
 * the broker has to handle in any case, is handled. */
static void on_pong(struct world *w, struct inst *i)
{
	uint32_t pos = i->ping_pos[i->pongs++ % PINGS];

	if (i->pongs > i->pings)
		return world_wrong(w, "PINGRESP nobody asked for");
	for (unsigned k = 0; k < w->msg_n && i->pings - i->pongs < PINGS; k++) {
		const struct msg *m = &w->msg[k];

		if (&w->inst[m->by] != i || m->will || m->pos > pos || m->end != NEVER ||
		    !(m->retain || m->qos == 1))
			continue;
		world_wrong(w, "PINGRESP before what its client had written was handled");
		explain(w, i, k);
	}
}

static void on_packet(struct world *w, struct inst *i, const uint8_t *p, size_t n)
{
	if (i->no_more)
		return world_wrong(w, "packet behind the broker's DISCONNECT");
	if (!i->connected && p[0] >> 4 != 2)
		return world_wrong(w, "packet before CONNACK");
	switch (p[0] >> 4) {
	case 2:
		on_connack(w, i, p);
		break;
	case 3:
		on_publish(w, i, p, n);
		break;
	case 5: /* PUBREC */
		if (i->rel_n < 32)
			i->rel[i->rel_n++] = (uint16_t)(p[2] << 8 | p[3]);
		break;
	case 4:
	case 7:
		break;
	case 9:
		on_answer(w, i, 8, p);
		break;
	case 11:
		on_answer(w, i, 10, p);
		break;
	case 13:
		if (n != 2)
			return world_wrong(w, "PINGRESP with a body");
		on_pong(w, i);
		break;
	case 14:
		i->no_more = true;
		break;
	default:
		world_wrong(w, "no packet of a broker");
	}
}

void oracle_sent(void *arg, uint32_t id, const uint8_t *data, size_t n)
{
	struct world *w = arg;
	struct inst *i = &w->inst[w->of_id[id]];

	bytes_add(&i->in, data, n);
	while (bytes_n(&i->in) >= 2 && w->wrong == NULL) {
		const uint8_t *p = bytes_at(&i->in);
		size_t len = p[1] & 0x7fu, head = 2;

		if (p[1] & 0x80u) {
			if (bytes_n(&i->in) < 3)
				return;
			len |= (size_t)p[2] << 7;
			head = 3;
			if (p[2] & 0x80u)
				return world_wrong(w, "framing lost towards the client");
		}
		if (bytes_n(&i->in) < head + len)
			return;
		on_packet(w, i, p, head + len);
		bytes_drop(&i->in, head + len);
	}
}

/* ---- connections that follow one another ---- */

/* Bytes the stage has taken of others of its name. */
static void positions(struct world *w, const struct inst *i, uint32_t *pos)
{
	for (unsigned k = 0; k < w->inst_n; k++) {
		const struct inst *e = &w->inst[k];

		if (e == i || e->name != i->name)
			continue;
		pos[k] = UINT32_MAX;
		if (e->alive)
			pos[k] = e->written - (uint32_t)fake_client_pending(w->f, e->id);
	}
}

/* CONNECT is kept back: what is decided by now has to come first, however long it takes. */
static void note_waiting(struct world *w, struct inst *i)
{
	i->waited = true;
	i->waited_ms = toe_stream_ms(fake_stream(w->f));
	positions(w, i, i->pos_waited);
	for (unsigned k = 0; k < w->inst_n; k++) {
		const struct inst *e = &w->inst[k];

		if (e != i && e->alive && e->name == i->name &&
		    (world_state(w, e)->rx_wait & (MQTT_WAIT_FENCE | MQTT_WAIT_ROOM)))
			i->pos_waited[k]--;
	}
}

/* Who is blocked when a connection has waited for as long as it does. */
static void note_gave_up(struct world *w, struct inst *i, uint32_t since)
{
	if (toe_stream_ms(fake_stream(w->f)) - since < MQTT_OLDER_MS)
		return;
	i->gave_up = true;
	for (unsigned k = 0; k < w->inst_n; k++)
		i->blocked[k] |= w->inst[k].alive && world_state(w, &w->inst[k])->blocked;
}

void oracle_look(struct world *w)
{
	for (unsigned k = 0; k < w->inst_n; k++) {
		struct inst *i = &w->inst[k];

		if (i->alive && world_state(w, i)->blocked)
			i->blocked_at = w->t;
		if (i->alive && i->connected && (world_state(w, i)->rx_wait & MQTT_WAIT_OLDER))
			note_gave_up(w, i, world_state(w, i)->rx_wait_ms);
		if (i->alive && !i->waited && !i->reached &&
		    (world_state(w, i)->rx_wait & MQTT_WAIT_OLDER))
			note_waiting(w, i);
	}
}

void oracle_reached(void *arg, uint32_t id)
{
	struct world *w = arg;
	struct inst *i = &w->inst[w->of_id[id]];
	uint32_t now = toe_stream_ms(fake_stream(w->f));

	i->reached = true;
	i->reached_ms = now;
	if (w->o.verbose)
		printf("%lu: %u reaches the broker\n", w->t, (unsigned)(i - w->inst));
	if (i->waited)
		note_gave_up(w, i, i->waited_ms);
	if (i->gave_up)
		memcpy(i->pos_reached, i->pos_waited, sizeof(i->pos_reached));
	else
		positions(w, i, i->pos_reached);
}

static void inherit_window(struct inst *i, const struct window *from)
{
	struct window v = {.filter = from->filter,
			   .no_local = from->no_local,
			   .from = from,
			   .sub = i->opened,
			   .ack = NEVER,
			   .unsub = NEVER,
			   .unack = NEVER};
	unsigned at = i->win_n;

	for (unsigned k = 0; k < i->win_n; k++) {
		if (i->win[k].filter == v.filter && at == i->win_n)
			at = k;
	}
	for (unsigned k = 0; k < i->req_n; k++) {
		struct request *r = &i->req[k];

		if (r->type != 10 || r->filter != v.filter || r->n == 4)
			continue;
		v.unsub = r->at;
		r->win[r->n++] = (uint8_t)i->win_n;
		at = i->win_n;
		break;
	}
	if (at < i->win_n)
		i->win[at].from = from; /* asked for before it was known to be there */
	else
		i->win[i->win_n++] = v;
}

void oracle_connected(void *arg, uint32_t id)
{
	struct world *w = arg;
	struct inst *i = &w->inst[w->of_id[id]];
	const struct inst *before = NULL;

	for (const struct inst *e = w->inst; e < w->inst + w->inst_n; e++) {
		if (e->name == i->name && e->rank > (before != NULL ? before->rank : 0))
			before = e;
	}
	i->rank = ++w->rank_n;
	if (w->o.verbose)
		printf("%lu: broker accepts %u\n", w->t, (unsigned)(i - w->inst));
	if (i->clean || before == NULL || !before->keeps)
		return;
	for (unsigned k = 0; k < before->win_n && i->win_n < WIN_MAX; k++)
		inherit_window(i, &before->win[k]);
}

/* The stage shows the broker an end when all before it is dealt with. */
void oracle_over(void *arg, uint32_t id)
{
	struct world *w = arg;
	uint32_t by = w->of_id[id];

	w->inst[by].parted = true;
	if (w->o.verbose)
		printf("%lu: broker is done with %u\n", w->t, by);
	for (unsigned k = 0; k < w->msg_n; k++) {
		struct msg *m = &w->msg[k];

		if (m->by == by && !m->will && m->qos < 2 && m->end == NEVER)
			m->end = w->t;
	}
}

void oracle_handled(void *arg, uint32_t n)
{
	struct world *w = arg;
	struct msg *m = &w->msg[n];

	if (n >= w->msg_n)
		return world_wrong(w, "the broker got a message nobody sent");
	if (w->o.verbose)
		printf("%lu: broker: %u of %u\n", w->t, n, m->by);
	if (m->will && m->end != NEVER)
		world_wrong(w, "will twice");
	if (m->will) {
		m->start = w->t;
		world_stats.wills++;
	}
	if (m->end == NEVER)
		m->end = w->t;
}

void oracle_dropped(void *arg, uint32_t conn, uint32_t m)
{
	struct world *w = arg;

	if (m < MSG_MAX)
		w->inst[w->of_id[conn]].dropped[m]++;
	world_stats.broker_drops++;
}

void oracle_end(struct world *w, uint64_t drops)
{
	uint64_t missing = 0;

	for (unsigned k = 0; k < w->inst_n && w->wrong == NULL; k++) {
		const struct inst *i = &w->inst[k];

		if (!i->alive || !i->connected)
			continue;
		for (unsigned n = 0; n < w->msg_n; n++) {
			const struct msg *m = &w->msg[n];
			unsigned must = m->end == NEVER ? 0 : certain(w, i, m);

			world_stats.required += must;
			/* a bridge's session keeps RETAIN: not counted above */
			if (must <= (unsigned)(i->got[n] + i->dropped[n]) ||
			    ((i->bridge || !i->clean) && m->retain))
				continue;
			missing += must - i->got[n] - i->dropped[n];
			if (missing <= drops)
				continue;
			world_wrong(w, "message lost");
			explain(w, i, n);
		}
	}
}

void oracle_stage(struct world *w, const struct mqtt_stage *st)
{
	const uint64_t *n = st->counters;

	if (n[MQTT_C_AUDIT_MISSING] != 0)
		world_wrong(w, "compared: missing");
	if (n[MQTT_C_AUDIT_EXTRA] != 0)
		world_wrong(w, "compared: extra");
	world_stats.compared += n[MQTT_C_AUDIT_MATCHED];
	world_stats.skipped += n[MQTT_C_AUDIT_SKIPPED];
	world_stats.fast += st->reasons[MQTT_R_FAST];
	world_stats.deferred += st->counters[MQTT_C_DEFERRED];
	world_stats.blocked += st->counters[MQTT_C_BLOCKED];
	world_stats.unblocked += st->counters[MQTT_C_UNBLOCKED];
	world_stats.drops += st->counters[MQTT_C_DROP_QUEUE] + st->counters[MQTT_C_DROP_MEMORY];
	world_stats.blocked_drops += st->counters[MQTT_C_DROP_BLOCKED];
	world_stats.unproven_drops += st->counters[MQTT_C_DROP_UNPROVEN];
	world_stats.takeovers += st->counters[MQTT_C_TAKEOVER];
	world_stats.activated += st->counters[MQTT_C_ACTIVATED];
	world_stats.fence_waits += st->counters[MQTT_C_FENCE_WAIT];
	world_stats.older_waits += st->counters[MQTT_C_OLDER_WAIT];
	world_stats.lost_conns += st->counters[MQTT_C_LOST];
}
