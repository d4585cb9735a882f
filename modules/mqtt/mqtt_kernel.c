/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: clients of the broker that come through the kernel and that libtoe reads along.
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

static struct mqtt_kernel *find(struct mqtt_stage *st, uint32_t ctx, uint32_t conn)
{
	for (uint32_t i = 0; i < MQTT_KERNEL_MAX; i++) {
		struct mqtt_kernel *k = &st->kernel[i];

		if (k->used && k->ctx == ctx && k->conn == conn)
			return k;
	}
	return NULL;
}

static void end(struct mqtt_stage *st, struct mqtt_kernel *k)
{
	mqtt_session_drop(st, k->session);
	k->used = false;
	st->kernel_n--;
}

/* What it had under this ClientID before, it has not any more; and what it makes now nobody will
 * know should it come back through the port and be resumed. */
static int begin(struct mqtt_stage *st, uint32_t ctx, uint32_t conn, const uint8_t *id,
		 uint32_t len)
{
	struct mqtt_kernel *k = find(st, ctx, conn);

	if (k != NULL)
		end(st, k);
	for (k = st->kernel; k < st->kernel + MQTT_KERNEL_MAX && k->used; k++)
		;
	if (k == st->kernel + MQTT_KERNEL_MAX)
		return -ENOSPC;
	k->session = mqtt_session_kernel(st, ctx, conn);
	if (k->session == MQTT_NONE)
		return -ENOSPC;
	mqtt_session_cut(st, id, len);
	k->ctx = ctx;
	k->conn = conn;
	k->used = true;
	st->kernel_n++;
	return 0;
}

static int subscribe(struct mqtt_stage *st, const struct mqtt_kernel *k, const uint8_t *filter,
		     uint32_t len)
{
	uint32_t sub;
	bool existed;
	int rc = mqtt_subs_add(st->subs, k->session, filter, len, &sub, &existed);

	/* -EINVAL: the broker will refuse it, or it matches nothing */
	return rc == -EINVAL ? 0 : rc;
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

int mqtt_kernel_news(struct mqtt_stage *st, const char *text)
{
	uint32_t app, ctx, conn, what;
	struct mqtt_kernel *k;
	uint8_t data[sizeof(((struct toe_ctl_kconn *)0)->data)];
	int at = 0, len;

	if (sscanf(text, "%u %u %u %u %n", &app, &ctx, &conn, &what, &at) != 4 || at == 0)
		return -EINVAL;
	len = unhex(text + at, data, sizeof(data));
	if (len < 0)
		return -EINVAL;
	if (!mqtt_follow(st, app)) /* not the broker that is followed, or not yet */
		return what == TOE_KCONN_MQTT_RESTORE ? -EAGAIN : -ESRCH;
	if (what == TOE_KCONN_MQTT_RESTORE)
		return mqtt_restore(st, data, (uint32_t)len);
	if (what == TOE_KCONN_MQTT_CHECKED)
		return mqtt_decide_checked(st, data, (uint32_t)len);
	if (what == TOE_KCONN_MQTT_CONNECT)
		return begin(st, ctx, conn, data, (uint32_t)len);
	k = find(st, ctx, conn);
	if (k == NULL)
		return -ENOENT;
	if (what == TOE_KCONN_MQTT_FILTER)
		return subscribe(st, k, data, (uint32_t)len);
	end(st, k);
	return 0;
}

void mqtt_kernel_tick(struct mqtt_stage *st)
{
	if (toe_stream_followed(st->s, st->app_id) != 0)
		return;
	for (uint32_t i = 0; i < MQTT_KERNEL_MAX; i++) {
		if (st->kernel[i].used)
			end(st, &st->kernel[i]);
	}
}
