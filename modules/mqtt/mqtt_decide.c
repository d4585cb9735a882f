/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: fast or slow?
 *
 * Input: one PUBLISH, the operator's filters, sessions and subscriptions.  Output: FAST with the
 * group of subscriptions it is for, or the first reason why the broker has to do it.  Owns the
 * operator's filters (a second subscription map, whose sessions are the filters).  Thread: the
 * stream stage's.
 */
#include "mqtt_stage.h"

#include <errno.h>
#include <string.h>

/* Filters of more than MQTT_LEVELS_MAX levels are not stored (the broker takes 200 '/').  "+/.../#"
 * with one level more matches topics one level shorter. */
#define SLASHES_MAX (MQTT_LEVELS_MAX - 2u)

/* The longest filters there can be, and of levels that are kept apart (over 16 bytes) those that
 * round up worst: 15 of 17 bytes, 64 each. */
#define GATE_NODES (MQTT_GATES * MQTT_LEVELS_MAX)
#define GATE_TEXT  (MQTT_GATES * 15u * 64u)

/* mqtt_group.user[0] */
enum { VERDICT_READY = 1, VERDICT_PENDING, VERDICT_KERNEL = 4 }; /* bits; 0: nobody looked */

/* ---- the operator's filters ---- */

static int gate_set(struct mqtt_stage *st, uint32_t i, const char *filter, bool closed)
{
	bool existed;
	uint32_t sub;
	int rc = mqtt_subs_add(st->gates, i, (const uint8_t *)filter, strlen(filter), &sub,
			       &existed);

	if (rc != 0)
		return rc;
	if (mqtt_subs_get(st->gates, sub)->opts & MQTT_SUB_SHARED) {
		mqtt_subs_del(st->gates, sub);
		return -EINVAL;
	}
	st->gate[i] = (struct mqtt_gate){.sub = sub, .closed = closed};
	if (i >= st->gate_n)
		st->gate_n = i + 1;
	return 0;
}

static uint32_t gate_find(const struct mqtt_stage *st, const char *filter)
{
	uint32_t i;

	for (i = 0; i < st->gate_n; i++) {
		char text[TOE_CFG_MQTT_FILTER_MAX];

		if (st->gate[i].sub == MQTT_SUB_NONE)
			continue;
		mqtt_subs_filter(st->gates, st->gate[i].sub, text, sizeof(text));
		if (strcmp(text, filter) == 0)
			break;
	}
	return i;
}

int mqtt_decide_gate_add(struct mqtt_stage *st, const char *filter, bool closed)
{
	uint32_t i = gate_find(st, filter);

	if (strlen(filter) >= TOE_CFG_MQTT_FILTER_MAX ||
	    !mqtt_filter_valid((const uint8_t *)filter, strlen(filter)))
		return -EINVAL;
	if (i < st->gate_n) {
		st->gate[i].closed = closed;
		return 0;
	}
	for (i = 0; i < st->gate_n && st->gate[i].sub != MQTT_SUB_NONE; i++)
		;
	return i == MQTT_GATES ? -ENOSPC : gate_set(st, i, filter, closed);
}

int mqtt_decide_gate_del(struct mqtt_stage *st, const char *filter)
{
	uint32_t i = gate_find(st, filter);

	if (i == st->gate_n)
		return -ENOENT;
	mqtt_subs_del(st->gates, st->gate[i].sub);
	st->gate[i].sub = MQTT_SUB_NONE;
	mqtt_audit_gate_gone(st, i);
	return 0;
}

int mqtt_decide_init(struct mqtt_stage *st)
{
	const struct mqtt_subs_limits lim = {.sessions = MQTT_GATES,
					     .subscriptions = MQTT_GATES,
					     .nodes = GATE_NODES,
					     .text_bytes = GATE_TEXT,
					     .key = {st->hash_key ^ 1, st->hash_key}};

	st->gates = mqtt_subs_create(&lim);
	if (st->gates == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < st->cfg->mqtt_offload_n; i++) {
		const char *filter = st->cfg->mqtt_offload[i];
		int rc = mqtt_decide_gate_add(st, filter + (*filter == '!'), *filter == '!');

		if (rc != 0)
			return rc;
	}
	return 0;
}

void mqtt_decide_fini(struct mqtt_stage *st)
{
	mqtt_subs_free(st->gates);
	st->gates = NULL;
}

/* The filter that lets the topic through, one that is closed if there is one; NULL: none does. */
static struct mqtt_gate *gate_of(struct mqtt_stage *st, const struct mqtt_str *topic)
{
	struct mqtt_group *g = mqtt_subs_match(st->gates, topic->data, topic->len);
	struct mqtt_gate *found = NULL;

	if (g == NULL)
		return NULL;
	for (uint32_t i = 0; i < g->n && (found == NULL || !found->closed); i++) {
		struct mqtt_gate *gate = &st->gate[g->entry[i].session];

		if (found == NULL || gate->closed)
			found = gate;
	}
	mqtt_group_put(st->gates, g);
	return found;
}

/* ---- one PUBLISH ---- */

static bool too_deep(const struct mqtt_str *topic)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < topic->len && n <= SLASHES_MAX; i++)
		n += topic->data[i] == '/';
	return n > SLASHES_MAX;
}

/* Another connection may have the session by now. */
static bool claimed(const struct mqtt_stage *st, const struct mqtt_session *se)
{
	return se->claimed && toe_stream_ms(st->s) - se->claimed_ms < MQTT_CLAIMED_MS;
}

enum mqtt_reason mqtt_decide_early(struct mqtt_stage *st, const struct mqtt_conn *m,
				   const struct mqtt_publish *p)
{
	const struct mqtt_gate *gate;

	st->decided = MQTT_NONE;
	if (m->kind != MQTT_K_TRACKED || m->session == MQTT_NONE || m->rx_over ||
	    claimed(st, &st->sessions[m->session]))
		return MQTT_R_NOT_CONNECTED;
	if (p->has_alias)
		return MQTT_R_ALIAS;
	if (p->topic.data[0] == '$')
		return MQTT_R_DOLLAR;
	gate = gate_of(st, &p->topic);
	if (gate == NULL)
		return MQTT_R_NO_FILTER;
	st->decided = (uint32_t)(gate - st->gate);
	if (p->qos != 0)
		return MQTT_R_QOS;
	if (p->retain)
		return MQTT_R_RETAIN;
	if (p->has_sub_id || (p->has_expiry && p->expiry_s == 0))
		return MQTT_R_MALFORMED;
	return too_deep(&p->topic) ? MQTT_R_WIDE : MQTT_R_FAST;
}

/* Clients that may subscribe unseen. */
static enum mqtt_reason tainted(struct mqtt_stage *st)
{
	uint32_t followed;

	if (st->lost_n > 0)
		return MQTT_R_UNTRACKED;
	if (st->unknown_n > 0)
		return MQTT_R_UNKNOWN;
	followed = toe_stream_followed(st->s, st->app_id);
	if (toe_stream_kernel_conns(st->s, st->app_id) > followed)
		return MQTT_R_KERNEL;
	if (toe_stream_plain_unseen(st->s, st->app_id) > 0)
		return MQTT_R_OTHER_PORT;
	if (mqtt_kernel_forgotten(st))
		return followed > 0 ? MQTT_R_KERNEL : MQTT_R_OTHER_PORT;
	return MQTT_R_FAST;
}

/* Before the copy of such a subscription the broker may have something else for its client, or
 * waits for a message of its own to send that (suspect).  Nobody waits for a client that does not
 * read: it does without.  What was found is kept with the group until somebody's state changes:
 * user[1] is twice the turn and 1, slow, or 2, fast. */
static bool all_stalled(struct mqtt_stage *st, struct mqtt_group *g)
{
	if (g->user[1] == st->turn * 2 + 1 || g->user[1] == st->turn * 2 + 2)
		return g->user[1] == st->turn * 2 + 2;
	if (mqtt_subs_busy(st->subs))
		return false; /* nobody has looked, so one must be taken to be waited for */
	mqtt_subs_work(st->subs, g->n);
	g->user[1] = st->turn * 2 + 1;
	for (uint32_t i = 0; i < g->n; i++) {
		const struct mqtt_session *se = &st->sessions[g->entry[i].session];
		struct toe_stream_conn *c;
		const struct mqtt_conn *m = mqtt_conn_get(st, se->conn, se->conn_gen, &c);
		bool active = mqtt_subs_get(st->subs, g->entry[i].sub)->state == MQTT_S_ACTIVE;

		if (se->kernel)
			continue;
		if ((!active || (m != NULL && m->suspect)) && (m == NULL || !m->stalled))
			return false;
	}
	g->user[1] = st->turn * 2 + 2;
	return true;
}

static enum mqtt_reason group_verdict(struct mqtt_stage *st, struct mqtt_group *g, bool closed)
{
	if (g->flags & MQTT_GROUP_SHARED)
		return MQTT_R_SHARED;
	if (g->user[0] == 0) {
		g->user[0] = VERDICT_READY;
		for (uint32_t i = 0; i < g->n; i++) {
			if (st->sessions[g->entry[i].session].kernel)
				g->user[0] |= VERDICT_KERNEL;
			else if (mqtt_subs_get(st->subs, g->entry[i].sub)->state != MQTT_S_ACTIVE)
				g->user[0] |= VERDICT_PENDING;
		}
	}
	if ((g->user[0] & VERDICT_KERNEL) && !closed)
		return MQTT_R_KERNEL;
	if (!(g->user[0] & VERDICT_PENDING) && st->suspects == 0)
		return MQTT_R_FAST;
	st->skips = all_stalled(st, g);
	return st->skips ? MQTT_R_FAST : MQTT_R_PENDING;
}

bool mqtt_decide_reloaded(const struct mqtt_stage *st)
{
	return toe_stream_reloads(st->s, st->app_id) != st->reloads;
}

int mqtt_decide_checked(struct mqtt_stage *st, const uint8_t *blocker, uint32_t len)
{
	uint32_t now = toe_stream_reloads(st->s, st->app_id);

	if (len > sizeof(st->blocker))
		return -EINVAL;
	memcpy(st->blocker, blocker, len);
	st->blocker_len = len;
	st->blocker_reloads = now;
	if (len == 0)
		st->reloads = now;
	return 0;
}

/* Last: what is not about this message.  Nothing is compared that somebody does without. */
static enum mqtt_reason policy(struct mqtt_stage *st)
{
	if (st->shadow)
		return st->skips ? MQTT_R_PENDING : MQTT_R_SHADOW;
	if (mqtt_decide_reloaded(st))
		return MQTT_R_RELOAD;
	if (st->suspended)
		return MQTT_R_SUSPENDED;
	if (st->cfg->mqtt_canary != 0 && ++st->canary >= st->cfg->mqtt_canary && !st->skips) {
		st->canary = 0;
		return MQTT_R_CANARY;
	}
	return MQTT_R_FAST;
}

enum mqtt_reason mqtt_decide(struct mqtt_stage *st, struct mqtt_conn *m,
			     const struct mqtt_publish *p, struct mqtt_group **group)
{
	enum mqtt_reason why = mqtt_decide_early(st, m, p);
	const struct mqtt_gate *gate;

	st->skips = false;
	if (why != MQTT_R_FAST)
		return why;
	gate = &st->gate[st->decided];
	/* a client that was seen subscribes to we do not know what: no operator can know better */
	why = st->full ? MQTT_R_FULL : gate->closed ? MQTT_R_FAST : tainted(st);
	*group = why == MQTT_R_FAST ? mqtt_subs_match(st->subs, p->topic.data, p->topic.len) : NULL;
	if (why == MQTT_R_FAST)
		why = *group != NULL             ? group_verdict(st, *group, gate->closed)
		      : mqtt_subs_busy(st->subs) ? MQTT_R_BUSY
						 : MQTT_R_WIDE;
	if (why == MQTT_R_FAST && !mqtt_fence_clear(m))
		why = MQTT_R_FENCE;
	if (why == MQTT_R_FAST)
		why = policy(st);
	if (why == MQTT_R_FAST || why == MQTT_R_SHADOW || why == MQTT_R_CANARY)
		return why;
	if (*group != NULL)
		mqtt_group_put(st->subs, *group);
	*group = NULL;
	return why;
}
