/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: clients of the broker that libtoe reads along, through the kernel or encrypted, and
 * the bridges of the broker's configuration.
 *
 * Input: the command "kernel APP CTX CONN WHAT HEX": news of one such connection, answered before
 * the broker reads what it is about.  Output: subscriptions of sessions without a connection, whose
 * topics go slow (KERNEL).  They stay until the connection ends, UNSUBSCRIBE or not.  Owns the
 * table of these connections.  Thread: the stream stage's.  The same command tells of sessions from
 * before the broker was started (mqtt_restore.c), and of its configuration (mqtt_decide.c).
 *
 * The text comes from the application: it can only make topics of its own broker slow, or not slow,
 * which it could by subscribing.
 */
#include "mqtt_stage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "toe/ctl.h"

static uint32_t *bucket_of(struct mqtt_stage *st, uint32_t ctx, uint32_t conn)
{
	/* numbers of a process's connections follow each other */
	return &st->kernel_bucket[(conn + ctx * 61u) % MQTT_KERNEL_MAX];
}

static struct mqtt_kernel *find(struct mqtt_stage *st, uint32_t ctx, uint32_t conn)
{
	for (uint32_t i = *bucket_of(st, ctx, conn); i != MQTT_NONE; i = st->kernel[i].next) {
		if (st->kernel[i].ctx == ctx && st->kernel[i].conn == conn)
			return &st->kernel[i];
	}
	return NULL;
}

/* There is room. */
static struct mqtt_kernel *enter(struct mqtt_stage *st, uint32_t ctx, uint32_t conn)
{
	uint32_t *bucket = bucket_of(st, ctx, conn);
	uint32_t i = st->kernel_unused;
	struct mqtt_kernel *k = &st->kernel[i];

	st->kernel_unused = k->next;
	*k = (struct mqtt_kernel){.ctx = ctx, .conn = conn, .next = *bucket, .used = true};
	*bucket = i;
	st->kernel_n++;
	return k;
}

static void leave(struct mqtt_stage *st, struct mqtt_kernel *k)
{
	uint32_t *at = bucket_of(st, k->ctx, k->conn);
	uint32_t i = (uint32_t)(k - st->kernel);

	while (*at != i)
		at = &st->kernel[*at].next;
	*at = k->next;
	k->next = st->kernel_unused;
	k->used = false;
	st->kernel_unused = i;
	st->kernel_n--;
}

void mqtt_kernel_reset(struct mqtt_stage *st)
{
	for (uint32_t i = 0; i < MQTT_KERNEL_MAX; i++) {
		mqtt_put(st, &st->kernel[i].id);
		st->kernel[i] =
			(struct mqtt_kernel){.next = i + 1 < MQTT_KERNEL_MAX ? i + 1 : MQTT_NONE};
		st->kernel_bucket[i] = MQTT_NONE;
	}
	st->kernel_unused = 0;
	st->kernel_n = 0;
}

/* All of from's filters for session to, too.  0 or -ENOSPC: some are missing. */
static int add_all(struct mqtt_stage *st, uint32_t to, uint32_t from)
{
	static char text[MQTT_TEXT_MAX + 1]; /* of this thread */
	int rc = 0;

	for (uint32_t sub = mqtt_subs_first(st->subs, from); sub != MQTT_SUB_NONE && rc == 0;
	     sub = mqtt_subs_next(st->subs, sub)) {
		size_t len = mqtt_subs_filter(st->subs, sub, text, sizeof(text));
		uint32_t added;
		bool existed;

		rc = mqtt_subs_add(st->subs, to, (const uint8_t *)text, len, &added, &existed);
		if (rc == 0 && !existed)
			mqtt_subs_get(st->subs, added)->state = MQTT_S_ACTIVE;
	}
	return rc;
}

/* The connection that has the session of that ClientID, NULL: none. */
static struct mqtt_kernel *holder(struct mqtt_stage *st, const struct mqtt_str *id)
{
	uint32_t left = st->kernel_n;

	for (uint32_t i = 0; i < MQTT_KERNEL_MAX && left > 0; i++) {
		const struct toe_buf *b = st->kernel[i].used ? st->kernel[i].id : NULL;

		left -= st->kernel[i].used;
		if (b != NULL && b->len == id->len && memcmp(b->data, id->data, id->len) == 0)
			return &st->kernel[i];
	}
	return NULL;
}

/* The broker has given it to another connection, and may be slow to close this one: nothing that
 * happens here any more, and not its end, is about the session. */
static void supersede(struct mqtt_stage *st, const struct mqtt_str *id)
{
	struct mqtt_kernel *k;

	while (id->len != 0 && (k = holder(st, id)) != NULL)
		mqtt_put(st, &k->id);
}

/* lost: it may go on, and what it does is not seen. */
static void end(struct mqtt_stage *st, struct mqtt_kernel *k, bool lost)
{
	uint32_t kept = MQTT_NONE;

	if (k->id != NULL && lost)
		mqtt_session_cut(st, k->id->data, k->id->len, false);
	else if (k->id != NULL)
		kept = mqtt_session_leave(st, k->id);
	if (kept != MQTT_NONE && add_all(st, kept, k->session) != 0)
		mqtt_session_drop(st, kept);
	else if (kept != MQTT_NONE)
		st->sessions[kept].missed = st->sessions[k->session].missed;
	mqtt_put(st, &k->id);
	mqtt_session_drop(st, k->session);
	leave(st, k);
}

/* Filters of a session that is resumed, for session to: of one that is offline, and of the
 * connection that had it until now.  0, -ESRCH: some are not known, -ENOSPC: no room. */
static int inherit(struct mqtt_stage *st, const struct mqtt_str *id, uint32_t to,
		   const struct mqtt_kernel *old)
{
	uint32_t known = mqtt_session_known(st, id->data, id->len);

	if (known == MQTT_NONE && (old == NULL || mqtt_session_named(st, id->data, id->len)))
		return -ESRCH;
	if (old != NULL &&
	    (st->sessions[old->session].missed != st->missed || st->sessions[old->session].full))
		return -ESRCH;
	if ((known != MQTT_NONE && add_all(st, to, known) != 0) ||
	    (old != NULL && add_all(st, to, old->session) != 0))
		return -ENOSPC;
	return 0;
}

/* What a new session's ClientID had before, it has not any more; and what it makes now nobody will
 * know should it come back through the port and be resumed.  One that may be resumed (RESUME) has
 * what it had, or less: it may UNSUBSCRIBE.  That is enough here, not at the port. */
static int begin(struct mqtt_stage *st, uint32_t ctx, uint32_t conn, const struct mqtt_str *id,
		 uint32_t what)
{
	bool resumes = what == TOE_KCONN_MQTT_RESUME;
	struct mqtt_kernel *k = find(st, ctx, conn);
	struct toe_buf *name = NULL;
	uint32_t session;
	int rc = 0;

	if (memchr(id->data, 0, id->len) != NULL)
		return -EINVAL; /* no ClientID (1.5.3); names of the stage's own begin so */
	if (k != NULL)
		end(st, k, true);
	if (st->kernel_unused == MQTT_NONE)
		return -ENOSPC;
	session = mqtt_session_kernel(st, ctx, conn);
	if (session == MQTT_NONE)
		return -ENOSPC;
	/* making the session may have taken the place of the one that is offline */
	if (resumes)
		rc = inherit(st, id, session, holder(st, id));
	if (resumes && rc == 0 && (name = mqtt_session_name(st, id)) == NULL)
		rc = -ENOSPC;
	if (rc != 0) {
		mqtt_session_drop(st, session);
		return rc;
	}
	supersede(st, id);
	k = enter(st, ctx, conn);
	k->session = session;
	k->bridge = what == TOE_KCONN_MQTT_BRIDGE;
	k->id = what == TOE_KCONN_MQTT_NEW ? mqtt_session_new(st, id) : name;
	if (what != TOE_KCONN_MQTT_BRIDGE)
		mqtt_session_cut(st, id->data, id->len, resumes);
	return 0;
}

/* {length, filter}, one byte each and so on.  The first that is not taken ends it. */
static int subscribe(struct mqtt_stage *st, const struct mqtt_kernel *k, const uint8_t *data,
		     uint32_t len)
{
	uint32_t sub;
	bool existed;
	int rc = 0;

	for (uint32_t at = 0; at < len && rc == 0; at += 1u + data[at]) {
		if (data[at] > len - at - 1)
			return -EINVAL;
		rc = mqtt_subs_add(st->subs, k->session, data + at + 1, data[at], &sub, &existed);
		/* the broker will refuse it, or it matches nothing; in its configuration there is
		 * none */
		if (rc == -EINVAL && !k->bridge)
			rc = 0;
	}
	return rc;
}

/* All connections of a process. */
static void end_all(struct mqtt_stage *st, uint32_t ctx)
{
	for (uint32_t i = 0; i < MQTT_KERNEL_MAX; i++) {
		if (st->kernel[i].used && st->kernel[i].ctx == ctx)
			end(st, &st->kernel[i], true);
	}
}

void mqtt_kernel_missed(struct mqtt_stage *st, const struct mqtt_str *id)
{
	if (id->len == 0) {
		st->missed++;
		return;
	}
	supersede(st, id);
	mqtt_session_cut(st, id->data, id->len, false);
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes of the text at hex, -1: it is none. */
static int unhex(const char *text, uint8_t *out, size_t room)
{
	size_t n = 0;

	for (; text[0] != '\0'; text += 2) {
		int high = hex(text[0]), low = high < 0 ? -1 : hex(text[1]);

		if (low < 0 || n == room)
			return -1;
		out[n++] = (uint8_t)(high << 4 | low);
	}
	return (int)n;
}

static int news_of(struct mqtt_stage *st, uint32_t ctx, uint32_t conn, uint32_t what,
		   const struct mqtt_str *data)
{
	struct mqtt_kernel *k = find(st, ctx, conn);

	if (toe_kconn_begins(what)) {
		int rc = begin(st, ctx, conn, data, what);

		if (rc != 0 && data->len != 0)
			mqtt_kernel_missed(st, data);
		return rc;
	}
	switch (what) {
	case TOE_KCONN_MQTT_MISSED:
		mqtt_kernel_missed(st, data);
		return 0;
	case TOE_KCONN_MQTT_GONE:
		end_all(st, ctx);
		st->users &= ~(UINT64_C(1) << ctx % 64);
		return 0;
	case TOE_KCONN_MQTT_FILTER:
		return k == NULL ? -ENOENT : subscribe(st, k, data->data, data->len);
	default:
		if (k != NULL)
			end(st, k, data->len != 0);
		return k != NULL ? 0 : -ENOENT;
	}
}

/* Programs that are no brokers lose connections, too: only what a broker says of itself makes the
 * stage follow it.  A bridge does not take it away from one that lives, and comes again. */
static bool concerns(struct mqtt_stage *st, uint32_t app, uint32_t what)
{
	if (what == TOE_KCONN_MQTT_BRIDGE && st->app_serial != 0 && app != st->app_id &&
	    toe_stream_app_serial(st->s, st->app_id) == st->app_serial)
		return false;
	if (toe_kconn_begins(what) || what == TOE_KCONN_MQTT_RESTORE ||
	    what == TOE_KCONN_MQTT_CHECKED)
		return mqtt_follow(st, app);
	return app == st->app_id && st->app_serial != 0 &&
	       toe_stream_app_serial(st->s, app) == st->app_serial;
}

int mqtt_kernel_news(struct mqtt_stage *st, const char *text)
{
	uint32_t app, ctx, conn, what;
	uint8_t data[sizeof(((struct toe_ctl_kconn *)0)->data)];
	int at = 0, len;

	if (sscanf(text, "%u %u %u %u %n", &app, &ctx, &conn, &what, &at) != 4 || at == 0)
		return -EINVAL;
	len = unhex(text + at, data, sizeof(data));
	if (len < 0)
		return -EINVAL;
	if (!concerns(st, app, what)) { /* not the broker that is followed, or not yet */
		bool again = what == TOE_KCONN_MQTT_RESTORE || what == TOE_KCONN_MQTT_BRIDGE;

		return again ? -EAGAIN : -ESRCH;
	}
	if (what == TOE_KCONN_MQTT_RESTORE)
		return mqtt_restore(st, data, (uint32_t)len);
	if (what == TOE_KCONN_MQTT_CHECKED)
		return mqtt_decide_checked(st, data, (uint32_t)len);
	return news_of(st, ctx, conn, what, &(struct mqtt_str){.data = data, .len = (uint16_t)len});
}

/* One whose connection has ended before it did here counts here only, for the moment until the
 * broker closes it, and stands for one that was forgotten. */
bool mqtt_kernel_forgotten(const struct mqtt_stage *st)
{
	return toe_stream_followed(st->s, st->app_id) + mqtt_plain_followed(st) > st->kernel_n;
}

uint32_t mqtt_plain_followed(const struct mqtt_stage *st)
{
	uint32_t unseen = toe_stream_plain_unseen(st->s, st->app_id);
	uint32_t all = toe_stream_plain_conns(st->s, st->app_id);

	return all > unseen ? all - unseen : 0;
}
