/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: copies of a fast PUBLISH for its subscribers.
 *
 * Input: a PUBLISH that was decided fast and the group of its subscriptions.  A job is worked off
 * in chunks; publishers take turns, the jobs of one run in order, those for the same subscribers
 * side by side.  Output: entries in the clients' queues (mqtt_tx.c), all of them references to one
 * copy of the message: as it came where the receiver's encoding is the same, else encoded once per
 * level, and with a header of its own where MQTT 5 asks for a subscription identifier.  Owns the
 * jobs.  Thread: the stream stage's.
 */
#include "mqtt_stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENC_V3        0u
#define ENC_V5        1u
#define HEAD_SLACK    64u   /* of an encoded header beyond topic and properties */
#define ONE_PIECE_MAX 2048u /* payloads up to here are copied behind a new header */
#define BATCH         16u   /* jobs that go through the group together */
#define BATCH_BYTES   16384u
#define AHEAD         4u /* entries whose state is fetched into the cache in time */
#define RUN_MAX       4u /* subscriptions of one session; with more, jobs go one by one */

/* ---- jobs ---- */

int mqtt_fanout_init(struct mqtt_stage *st)
{
	st->jobs = calloc(MQTT_JOBS, sizeof(*st->jobs));
	st->queues = calloc(MQTT_JOBS, sizeof(*st->queues));
	if (st->jobs == NULL || st->queues == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < MQTT_JOBS; i++)
		st->jobs[i].next = st->queues[i].next = i + 1 < MQTT_JOBS ? i + 1 : MQTT_NONE;
	return 0;
}

static void put_encoding(struct mqtt_stage *st, struct mqtt_encoding *e)
{
	mqtt_put(st, &e->b1);
	mqtt_put(st, &e->b2);
}

/* Takes the job out of all lists and frees what it holds. */
static void job_free(struct mqtt_stage *st, uint32_t i)
{
	struct mqtt_job *j = &st->jobs[i];

	if (j->older != MQTT_NONE)
		st->jobs[j->older].newer = j->newer;
	else
		st->job_oldest = j->newer;
	if (j->newer != MQTT_NONE)
		st->jobs[j->newer].older = j->older;
	else
		st->job_newest = j->older;
	mqtt_group_put(st->subs, j->group);
	mqtt_put(st, &j->msg);
	put_encoding(st, &j->enc[ENC_V3]);
	put_encoding(st, &j->enc[ENC_V5]);
	j->next = st->job_free;
	st->job_free = i;
	st->job_used--;
}

void mqtt_fanout_fini(struct mqtt_stage *st)
{
	while (st->job_oldest != MQTT_NONE)
		job_free(st, st->job_oldest);
	free(st->jobs);
	free(st->queues);
}

bool mqtt_fanout_room(const struct mqtt_stage *st, const struct mqtt_conn *m)
{
	return st->job_free != MQTT_NONE && m->jobs < MQTT_JOBS_OF_ONE;
}

/* The publisher's queue gets work: behind all others. */
static void queue_start(struct mqtt_stage *st, struct mqtt_conn *m)
{
	uint32_t q = st->queue_free;

	st->queue_free = st->queues[q].next;
	st->queues[q] = (struct mqtt_jobq){.first = MQTT_NONE, .last = MQTT_NONE, .next = q};
	if (st->queue_turn != MQTT_NONE) {
		st->queues[q].next = st->queues[st->queue_turn].next;
		st->queues[st->queue_turn].next = q;
	}
	st->queue_turn = q;
	m->jobq = q;
}

void mqtt_fanout_start(struct mqtt_stage *st, struct mqtt_conn *m, struct mqtt_group *group,
		       struct toe_buf *msg, const struct mqtt_publish *p, uint32_t head)
{
	uint32_t i = st->job_free;
	struct mqtt_job *j = &st->jobs[i];
	struct mqtt_jobq *q;

	if (st->job_used == 0) /* else they may go through the group together */
		toe_stream_burst(st->s);
	st->job_free = j->next;
	*j = (struct mqtt_job){.next = MQTT_NONE,
			       .seq = ++st->job_seq,
			       .older = st->job_newest,
			       .newer = MQTT_NONE,
			       .group = group,
			       .msg = msg,
			       .p = *p,
			       .head = head,
			       .payload_len = msg->len - head - p->payload_off,
			       .publisher = m->session,
			       .who = m->who,
			       .last_session = MQTT_NONE,
			       .conn = m->id,
			       .conn_gen = m->gen,
			       .level = m->level,
			       .skips = st->skips};
	if (st->job_newest != MQTT_NONE)
		st->jobs[st->job_newest].newer = i;
	else
		st->job_oldest = i;
	st->job_newest = i;
	st->job_used++;
	if (m->jobq == MQTT_NONE)
		queue_start(st, m);
	q = &st->queues[m->jobq];
	if (q->last != MQTT_NONE)
		st->jobs[q->last].next = i;
	else
		q->first = i;
	q->last = i;
	m->jobs++;
}

bool mqtt_fanout_of(const struct mqtt_stage *st, uint64_t who, uint64_t seq)
{
	uint32_t q = st->queue_turn;

	if (q == MQTT_NONE)
		return false;
	do {
		const struct mqtt_job *j = &st->jobs[st->queues[q].first];

		if (j->who == who && j->seq <= seq)
			return true;
		q = st->queues[q].next;
	} while (q != st->queue_turn);
	return false;
}

/* ---- encodings ---- */

/* The incoming packet is what a receiver of that level gets: no flags, shortest length field. */
static bool same_bytes(const struct mqtt_job *j, uint8_t level)
{
	bool v5 = j->level == MQTT_LEVEL_5;

	return v5 == (level == MQTT_LEVEL_5) && j->msg->data[0] == MQTT_PUBLISH << 4 &&
	       mqtt_deliver_size(level, &j->p, NULL, 0, j->payload_len) == j->msg->len;
}

static int encode(struct mqtt_stage *st, const struct mqtt_job *j, uint8_t level,
		  const uint32_t *sub_id, struct mqtt_encoding *e)
{
	size_t room = HEAD_SLACK + j->p.topic.len + j->p.props_len;
	bool one = j->payload_len <= ONE_PIECE_MAX;
	uint32_t off = j->head + j->p.payload_off;
	size_t all = room + (one ? j->payload_len : 0), n;
	struct toe_buf *b = mqtt_spare(st, all) ? toe_stream_buf_new(st->s, all) : NULL;

	if (b == NULL)
		return -ENOSPC;
	n = mqtt_deliver_head(b->data, room, level, &j->p, sub_id, sub_id != NULL, j->p.expiry_s,
			      j->payload_len);
	if (n == 0) {
		toe_stream_buf_put(st->s, b);
		return -EINVAL;
	}
	*e = (struct mqtt_encoding){.b1 = b, .len1 = (uint32_t)n};
	if (one) {
		memcpy(b->data + n, j->msg->data + off, j->payload_len);
		e->len1 += j->payload_len;
	} else {
		e->b2 = toe_buf_get(j->msg);
		e->off2 = off;
		e->len2 = j->payload_len;
	}
	b->len = e->len1;
	return 0;
}

/* The encoding all receivers of a level share, made when the first one needs it. */
static const struct mqtt_encoding *shared_encoding(struct mqtt_stage *st, struct mqtt_job *j,
						   uint8_t level)
{
	struct mqtt_encoding *e = &j->enc[level == MQTT_LEVEL_5 ? ENC_V5 : ENC_V3];

	if (e->b1 != NULL)
		return e;
	if (same_bytes(j, level))
		*e = (struct mqtt_encoding){.b1 = toe_buf_get(j->msg), .len1 = j->msg->len};
	else if (encode(st, j, level, NULL, e) != 0)
		return NULL;
	return e;
}

/* ---- delivery ---- */

/* At level 3 and 4 one copy stands for all subscriptions of the session, which are adjacent. */
static bool overlaps(const struct mqtt_job *j, const struct mqtt_group_entry *en)
{
	return j->at < j->group->n && j->group->entry[j->at].session == en->session &&
	       en == &j->group->entry[j->at - 1];
}

/* For a job that skips: has this session a subscription among the adjacent ones that is not proven?
 * It gets no copy then, not even for others: what the broker has for that one comes first. */
static bool unproven(struct mqtt_stage *st, const struct mqtt_job *j,
		     const struct mqtt_group_entry *en)
{
	const struct mqtt_group *g = j->group;
	uint32_t at = (uint32_t)(en - g->entry);
	uint32_t from = at > RUN_MAX ? at - RUN_MAX : 0;
	uint32_t to = g->n - at > RUN_MAX ? at + RUN_MAX : g->n - 1;

	for (uint32_t i = from; i <= to; i++) {
		if (g->entry[i].session != en->session ||
		    !mqtt_subs_alive(st->subs, g->entry[i].sub, g->entry[i].sub_gen))
			continue;
		if (mqtt_subs_get(st->subs, g->entry[i].sub)->state != MQTT_S_ACTIVE)
			return true;
	}
	/* more than were looked at */
	return (from > 0 && g->entry[from].session == en->session) ||
	       (to < g->n - 1 && g->entry[to].session == en->session);
}

static void give(struct mqtt_stage *st, struct mqtt_job *j, const struct mqtt_session *se,
		 const struct mqtt_group_entry *en)
{
	const struct mqtt_sub *sub = mqtt_subs_get(st->subs, en->sub);
	struct toe_stream_conn *c;
	struct mqtt_conn *m = mqtt_conn_get(st, se->conn, se->conn_gen, &c);
	struct mqtt_encoding own = {0};
	const struct mqtt_encoding *e = &own;

	if (m == NULL || m->ended)
		return; /* offline: a QoS 0 message is not kept for it */
	if (sub->sub_id == 0 || se->level != MQTT_LEVEL_5)
		e = shared_encoding(st, j, se->level);
	else if (encode(st, j, se->level, &sub->sub_id, &own) != 0)
		e = NULL;
	if (e == NULL)
		mqtt_tx_drop(st, m, MQTT_C_DROP_MEMORY);
	else if (j->skips && unproven(st, j, en))
		mqtt_tx_drop(st, m, MQTT_C_DROP_UNPROVEN);
	else if (se->max_packet != 0 && e->len1 + e->len2 > se->max_packet)
		mqtt_tx_drop(st, m, MQTT_C_DROP_SIZE); /* 3.1.2.11.4: as if it had been sent */
	else
		mqtt_tx_copy(st, c, j, e, overlaps(j, en) ? NULL : en);
	put_encoding(st, &own);
}

static void deliver(struct mqtt_stage *st, struct mqtt_job *j, const struct mqtt_group_entry *en)
{
	const struct mqtt_session *se = &st->sessions[en->session];
	const struct mqtt_sub *sub;

	if (!mqtt_subs_alive(st->subs, en->sub, en->sub_gen))
		return;
	sub = mqtt_subs_get(st->subs, en->sub);
	if ((sub->opts & MQTT_SUB_NO_LOCAL) && en->session == j->publisher) {
		mqtt_count(st, MQTT_C_NO_LOCAL);
		return;
	}
	/* Overlapping subscriptions: one copy at level 3 and 4, one each at level 5 (mosquitto). */
	if (en->session == j->last_session && se->level != MQTT_LEVEL_5)
		return;
	j->last_session = en->session;
	give(st, j, se, en);
}

/* What the copy for entry i will touch.  A thousand clients are more than the caches hold, and the
 * way to each is a chain of loads. */
static void prefetch(struct mqtt_stage *st, const struct mqtt_group *g, uint32_t i)
{
	if (i + 2 * AHEAD < g->n) {
		const struct mqtt_group_entry *far = &g->entry[i + 2 * AHEAD];

		__builtin_prefetch(&st->sessions[far->session], 1);
		__builtin_prefetch(mqtt_subs_get(st->subs, far->sub));
	}
	if (i + AHEAD < g->n)
		toe_stream_prefetch(st->s, st->sessions[g->entry[i + AHEAD].session].conn);
}

/* A job has ended: its publisher may go on.  UNSUBACKs that waited for it go in mqtt_tx_waiters().
 */
static void tell_publisher(struct mqtt_stage *st, uint32_t conn, uint32_t gen)
{
	struct toe_stream_conn *c;
	struct mqtt_conn *m = mqtt_conn_get(st, conn, gen, &c);

	if (m == NULL || m->jobs == 0)
		return;
	if (--m->jobs == 0 && (m->rx_wait & MQTT_WAIT_JOBS))
		mqtt_tx_drop_held(st, m);
	mqtt_rx_appended(st, c, m);
}

static void job_done(struct mqtt_stage *st, uint32_t before, uint32_t q)
{
	uint32_t i = st->queues[q].first;
	uint32_t conn = st->jobs[i].conn, gen = st->jobs[i].conn_gen;
	struct toe_stream_conn *c;
	struct mqtt_conn *m;

	st->queues[q].first = st->jobs[i].next;
	st->job_ended = true;
	job_free(st, i);
	if (st->queues[q].first == MQTT_NONE) {
		st->queues[before].next = st->queues[q].next;
		if (st->queue_turn == q)
			st->queue_turn = before == q ? MQTT_NONE : before;
		st->queues[q].next = st->queue_free;
		st->queue_free = q;
		m = mqtt_conn_get(st, conn, gen, &c);
		if (m != NULL && m->jobq == q)
			m->jobq = MQTT_NONE;
	}
	tell_publisher(st, conn, gen);
}

/* How many jobs, from the first of a queue on, are for the same subscriptions and equally far:
 * what they have for one client can be appended at once, and leaves in one segment.  Only small
 * messages, so that no queue gets more at a time than a window or so. */
static unsigned batch_of(const struct mqtt_stage *st, uint32_t first)
{
	const struct mqtt_job *lead = &st->jobs[first];
	uint32_t bytes = 0;
	unsigned n = 0;

	for (uint32_t i = first; i != MQTT_NONE && n < BATCH; i = st->jobs[i].next) {
		const struct mqtt_job *j = &st->jobs[i];

		bytes += j->msg->len;
		if (j->group != lead->group || j->at != lead->at || (n > 0 && bytes > BATCH_BYTES))
			break;
		n++;
	}
	return n;
}

/* Adjacent entries of one session, the next of the job among them; at most RUN_MAX + 1. */
static uint32_t session_run(const struct mqtt_job *j)
{
	const struct mqtt_group_entry *en = &j->group->entry[j->at];
	uint32_t left = j->group->n - j->at, n = 1;

	while (n < left && n <= RUN_MAX && en[n].session == en->session)
		n++;
	return n;
}

/* About MQTT_CHUNK copies of the first jobs of queue q.  No job is ever ahead of an older one, and
 * a session gets all copies of one message before those of the next. */
static unsigned run_chunk(struct mqtt_stage *st, uint32_t before, uint32_t q)
{
	const uint32_t first = st->queues[q].first;
	const struct mqtt_job *lead = &st->jobs[first];
	unsigned k = batch_of(st, first), n = 0;

	while (lead->at < lead->group->n && n < MQTT_CHUNK) {
		uint32_t run = k == 1 ? 1 : session_run(lead);
		struct mqtt_job *j = &st->jobs[first];

		prefetch(st, lead->group, lead->at);
		if (run > RUN_MAX)
			k = run = 1; /* the others follow when it is through */
		for (unsigned i = 0; i < k; i++) {
			for (uint32_t r = 0; r < run; r++)
				deliver(st, j, &j->group->entry[j->at++]);
			if (i + 1 < k)
				j = &st->jobs[j->next];
		}
		n += run * k;
	}
	if (lead->at < lead->group->n) {
		st->queue_turn = q; /* the next one's turn */
		return n + 1;
	}
	for (unsigned i = 0; i < k; i++)
		job_done(st, before, q);
	return n + k;
}

unsigned mqtt_fanout_run(struct mqtt_stage *st, unsigned budget)
{
	unsigned done = 0;

	while (st->queue_turn != MQTT_NONE && done < budget) {
		uint32_t before = st->queue_turn;

		done += run_chunk(st, before, st->queues[before].next);
	}
	return done;
}
