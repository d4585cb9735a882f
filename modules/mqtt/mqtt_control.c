/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: what `toe mqtt` asks.
 *
 * Input: a word and an argument.  Output: JSON, long lists in pieces that fit the caller's buffer;
 * the place to go on is an index, so a list that changes meanwhile is approximate, as for people.
 * Commands change filters and modes.  Thread: the stream stage's; bounded work per call.
 */
#include "mqtt_audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 1600u /* of one element, escapes included */
#define SCAN_MAX       512u  /* table entries looked at per call */

static void put(struct toe_stream_ask *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void put(struct toe_stream_ask *a, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(a->out + a->len, a->room - a->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		a->len += (size_t)n < a->room - a->len ? (size_t)n : a->room - a->len - 1;
}

/* Without format, for what is long. */
static void put_bytes(struct toe_stream_ask *a, const void *s, size_t n)
{
	size_t left = a->room - a->len - 1;

	n = n < left ? n : left;
	memcpy(a->out + a->len, s, n);
	a->len += n;
}

#define TEXT_MAX 200u

/* Bytes of the character at s, of which n are there; 0: none that a terminal may be shown. */
static unsigned character(const uint8_t *s, size_t n)
{
	unsigned len = *s < 0x80 ? 1 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4;

	return len <= n && mqtt_utf8_valid(s, len) ? len : 0;
}

/* A JSON string: UTF-8 without control characters as it is (a terminal obeys those of two bytes,
 * too), else replaced; long texts are cut. */
static void put_text(struct toe_stream_ask *a, const uint8_t *s, size_t len)
{
	unsigned n;

	len = len < TEXT_MAX ? len : TEXT_MAX;
	put_bytes(a, "\"", 1);
	for (size_t i = 0; i<len; i += n> 0 ? n : 1) {
		n = character(s + i, len - i);
		if (n == 0)
			put_bytes(a, "?", 1);
		else if (s[i] == '"' || s[i] == '\\')
			put_bytes(a, (const char[]){'\\', (char)s[i]}, 2);
		else
			put_bytes(a, s + i, n);
	}
	put_bytes(a, "\"", 1);
}

static bool room_for_line(const struct toe_stream_ask *a)
{
	return a->room - a->len > LINE_MAX_BYTES;
}

/* ---- status ---- */

static void status_filters(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	const char *sep = "";
	char text[TOE_CFG_MQTT_FILTER_MAX];

	put(a, "\"filters\":[");
	for (uint32_t i = 0; i < st->gate_n && room_for_line(a); i++) {
		const struct mqtt_gate *g = &st->gate[i];
		size_t len;

		if (g->sub == MQTT_SUB_NONE)
			continue;
		len = mqtt_subs_filter(st->gates, g->sub, text, sizeof(text));
		put(a, "%s{\"filter\":", sep);
		put_text(a, (const uint8_t *)text, len < sizeof(text) ? len : sizeof(text) - 1);
		put(a, ",\"closed\":%s,\"fast\":%" PRIu64 ",\"slow\":%" PRIu64 "}",
		    g->closed ? "true" : "false", g->fast, g->slow);
		sep = ",";
	}
	put(a, "],");
}

/* By what libtoe has found in the broker's configuration. */
static bool blocked(const struct mqtt_stage *st)
{
	return mqtt_decide_reloaded(st) &&
	       st->blocker_reloads == toe_stream_reloads(st->s, st->app_id);
}

static int ask_status(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	struct mqtt_subs_counts n;

	mqtt_subs_count(st->subs, &n);
	put(a, "{\"mode\":\"%s\",\"connections\":%u,\"sessions\":%u,\"subscriptions\":%u,",
	    st->suspended ? "suspended"
	    : st->shadow  ? "shadow"
			  : "on",
	    st->conns, st->session_used, n.subscriptions);
	put(a,
	    "\"untracked\":%u,\"unknown_sessions\":%u,\"kernel_conns\":%u,\"kernel_followed\":%u,"
	    "\"other_conns\":%u,\"other_followed\":%u,",
	    st->lost_n, st->unknown_n, toe_stream_kernel_conns(st->s, st->app_id),
	    toe_stream_followed(st->s, st->app_id), toe_stream_plain_conns(st->s, st->app_id),
	    mqtt_plain_followed(st));
	put(a, "\"table_full\":%s,\"reloaded\":%s,", st->full ? "true" : "false",
	    mqtt_decide_reloaded(st) ? "true" : "false");
	put(a, "\"blocker\":");
	put_text(a, st->blocker, blocked(st) ? st->blocker_len : 0);
	put(a, ",\"jobs\":%u,\"memory_used\":%zu,\"memory\":%zu,", st->job_used,
	    toe_stream_mem_used(st->s), toe_stream_mem_size(st->s));
	put(a, "\"cached_topics\":%u,\"cache_hits\":%" PRIu64 ",\"cache_misses\":%" PRIu64 ",",
	    n.cached_topics, n.hits, n.misses);
	status_filters(st, a);
	put(a, "\"publishes\":{");
	for (unsigned i = 0; i < MQTT_R_N; i++)
		put(a, "%s\"%s\":%" PRIu64, i == 0 ? "" : ",", mqtt_reason_name[i], st->reasons[i]);
	put(a, "},\"counters\":{");
	for (unsigned i = 0; i < MQTT_C_N; i++)
		put(a, "%s\"%s\":%" PRIu64, i == 0 ? "" : ",", mqtt_counter_name[i],
		    st->counters[i]);
	put(a, "}}");
	a->at = 0;
	return 0;
}

/* Why a topic class goes slow: every reason, with its text. */
static int ask_slow(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	const char *sep = "";

	put(a, "[");
	for (unsigned i = 0; i < MQTT_R_N; i++) {
		put(a, "%s{\"reason\":\"%s\",\"count\":%" PRIu64 ",\"text\":\"%s\"}", sep,
		    mqtt_reason_name[i], st->reasons[i], mqtt_reason_text[i]);
		sep = ",";
	}
	put(a, "]");
	a->at = 0;
	return 0;
}

/* ---- lists ---- */

static void put_session(struct mqtt_stage *st, struct toe_stream_ask *a, uint32_t i)
{
	const struct mqtt_session *se = &st->sessions[i];
	struct toe_stream_conn *c;
	const struct mqtt_conn *m = mqtt_conn_get(st, se->conn, se->conn_gen, &c);
	bool anonymous = se->id->len > 0 && se->id->data[0] == 0;

	put(a, "%s{\"client_id\":", a->len > 1 ? "," : "");
	put_text(a, se->id->data, anonymous ? 0 : se->id->len);
	put(a,
	    ",\"level\":%u,\"online\":%s,\"keep\":%s,\"unknown\":%s,\"delivered\":%" PRIu64
	    ",\"dropped\":%" PRIu64,
	    se->level, m != NULL ? "true" : "false", se->keep ? "true" : "false",
	    se->unknown ? "true" : "false", se->delivered, se->dropped);
	if (m != NULL)
		put(a, ",\"queued_bytes\":%u,\"deferred\":%u,\"blocked\":%s", toe_stream_queued(c),
		    m->defer_n, m->blocked ? "true" : "false");
	put(a, "}");
}

static int ask_sessions(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	uint32_t i = (uint32_t)a->at, looked = 0;

	put(a, "[");
	for (; i < st->session_n && looked < SCAN_MAX && room_for_line(a); i++, looked++) {
		if (st->sessions[i].id != NULL)
			put_session(st, a, i);
	}
	put(a, "]");
	a->at = i < st->session_n ? i : 0;
	return 0;
}

static void put_sub(struct mqtt_stage *st, struct toe_stream_ask *a, uint32_t sub)
{
	const struct mqtt_sub *s = mqtt_subs_get(st->subs, sub);
	const struct mqtt_session *se = &st->sessions[s->session];
	char text[256];
	size_t len = mqtt_subs_filter(st->subs, sub, text, sizeof(text));

	put(a, "%s{\"filter\":", a->len > 1 ? "," : "");
	put_text(a, (const uint8_t *)text, len < sizeof(text) ? len : sizeof(text) - 1);
	put(a, ",\"client_id\":");
	put_text(a, se->id->data, se->id->data[0] == 0 ? 0 : se->id->len);
	put(a, ",\"qos\":%d,\"state\":\"%s\",\"shared\":%s,\"id\":%u}", (int)s->qos - 1,
	    se->kernel                  ? "kernel"
	    : s->state == MQTT_S_ACTIVE ? "active"
					: "pending",
	    s->opts & MQTT_SUB_SHARED ? "true" : "false", s->sub_id);
}

/* at: session << 32 | subscriptions of it already shown. */
static int ask_subs(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	uint32_t i = (uint32_t)(a->at >> 32), skip = (uint32_t)a->at, looked = 0;

	put(a, "[");
	for (; i < st->session_n && looked < SCAN_MAX; i++, looked++, skip = 0) {
		uint32_t n = 0, sub;

		if (st->sessions[i].id == NULL)
			continue;
		for (sub = mqtt_subs_first(st->subs, i); sub != MQTT_SUB_NONE;
		     sub = mqtt_subs_next(st->subs, sub), n++) {
			if (n < skip)
				continue;
			if (!room_for_line(a) || looked >= SCAN_MAX)
				break;
			looked++;
			put_sub(st, a, sub);
		}
		if (sub != MQTT_SUB_NONE) {
			skip = n;
			break;
		}
	}
	put(a, "]");
	a->at = i < st->session_n ? (uint64_t)i << 32 | skip : 0;
	return 0;
}

/* ---- comparison ---- */

static void put_gate(struct mqtt_stage *st, struct toe_stream_ask *a, const struct mqtt_gate *g)
{
	uint64_t compared = g->matched + g->missing + g->extra;
	char text[TOE_CFG_MQTT_FILTER_MAX];
	size_t len = mqtt_subs_filter(st->gates, g->sub, text, sizeof(text));

	put(a, "%s{\"filter\":", a->len > 1 ? "," : "");
	put_text(a, (const uint8_t *)text, len < sizeof(text) ? len : sizeof(text) - 1);
	put(a,
	    ",\"closed\":%s,\"compared\":%" PRIu64 ",\"matched\":%" PRIu64 ",\"missing\":%" PRIu64
	    ",\"extra\":%" PRIu64 ",\"skipped\":%" PRIu64 ",\"verdict\":\"%s\"}",
	    g->closed ? "true" : "false", compared, g->matched, g->missing, g->extra, g->skipped,
	    g->missing + g->extra != 0      ? "differs"
	    : compared >= MQTT_AUDIT_ENOUGH ? "same"
					    : "too few");
}

static int ask_shadow(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	uint32_t i = (uint32_t)a->at;

	put(a, "[");
	for (; i < st->gate_n && room_for_line(a); i++) {
		if (st->gate[i].sub != MQTT_SUB_NONE)
			put_gate(st, a, &st->gate[i]);
	}
	put(a, "]");
	a->at = i < st->gate_n ? i : 0;
	return 0;
}

/* The last differences, youngest first; at: how many have been shown. */
static int ask_audit(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	const struct mqtt_audit *au = st->audit;
	uint64_t i = a->at;
	uint64_t n = au->diff_n < MQTT_AUDIT_LAST ? au->diff_n : MQTT_AUDIT_LAST;

	put(a, "[");
	for (; i < n && room_for_line(a); i++) {
		const struct mqtt_audit_diff *d = &au->diff[(au->diff_n - 1 - i) % MQTT_AUDIT_LAST];

		put(a, "%s{\"what\":\"%s\",\"client_id\":", a->len > 1 ? "," : "",
		    d->extra ? "EXTRA" : "MISSING");
		put_text(a, d->id, d->id_len);
		put(a, ",\"topic\":");
		put_text(a, d->topic, d->topic_len);
		put(a, ",\"seconds_ago\":%u}", (toe_stream_ms(st->s) - d->ms) / 1000);
	}
	put(a, "]");
	a->at = i < n ? i : 0;
	return 0;
}

/* ---- commands ---- */

static int ask_filter_add(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	bool closed = a->arg[0] == '!';

	return mqtt_decide_gate_add(st, a->arg + closed, closed);
}

static int ask_filter_del(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	return mqtt_decide_gate_del(st, a->arg);
}

/* The operator knows what the broker has read. */
static int ask_rechecked(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	(void)a;
	st->reloads = toe_stream_reloads(st->s, st->app_id);
	return 0;
}

static int ask_mode(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	bool shadow = strcmp(a->arg, "shadow") == 0, off = strcmp(a->arg, "suspend") == 0;

	if (!shadow && !off && strcmp(a->arg, "on") != 0)
		return -EINVAL;
	st->shadow = shadow;
	st->suspended = off;
	return off ? 0 : ask_rechecked(st, a);
}

static int ask_kernel(struct mqtt_stage *st, struct toe_stream_ask *a)
{
	return mqtt_kernel_news(st, a->arg);
}

static const struct {
	const char *what;
	int (*run)(struct mqtt_stage *st, struct toe_stream_ask *a);
} asks[] = {
	{"status", ask_status},
	{"slow", ask_slow},
	{"sessions", ask_sessions},
	{"subs", ask_subs},
	{"shadow", ask_shadow},
	{"audit", ask_audit},
	{"filter_add", ask_filter_add},
	{"filter_del", ask_filter_del},
	{"mode", ask_mode},
	{"rechecked", ask_rechecked},
	{"kernel", ask_kernel},
};

int mqtt_control(struct toe_stream *s, struct toe_stream_ask *ask)
{
	struct mqtt_stage *st = mqtt_of(s);
	int rc;

	if (st->subs == NULL)
		return -ENODEV; /* mqtt.ports is empty */
	ask->len = 0;
	if (ask->room <= LINE_MAX_BYTES + 2)
		return -ENOSPC; /* no list would come to an end */
	for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
		if (strcmp(asks[i].what, ask->what) != 0)
			continue;
		rc = asks[i].run(st, ask);
		if (rc == 0 && ask->len == 0)
			put(ask, "{\"ok\":true}");
		return rc == 0 && ask->len + 1 == ask->room ? -ENOSPC : rc; /* cut */
	}
	return -EINVAL;
}
