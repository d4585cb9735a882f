/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: CONNECT, up to its ClientID.
 *
 * Input: what has been assembled of it.  Output: it goes to the broker, and who it is for is known
 * (client_id) or not.  Owns MQTT_L_BEGIN and the account of the memory that beginnings take.
 * Thread: the stream stage's.
 */
#include "mqtt_stage.h"

#include <errno.h>

#define LOOKS 64u /* connections that are passed over, at most */

void mqtt_connect_uncount(struct mqtt_stage *st, struct mqtt_conn *m)
{
	if (mqtt_listed(m, MQTT_L_BEGIN))
		st->begin_bytes -= mqtt_buf_bytes(m->rx_buf);
	mqtt_list_del(st, m, MQTT_L_BEGIN);
}

/* By ClientID, roughly: that two share one makes somebody slow for a moment. */
static uint32_t *unanswered(struct mqtt_stage *st, const struct mqtt_conn *m)
{
	return &st->unanswered[(m->who >> 1) % MQTT_UNANSWERED];
}

void mqtt_connect_answered(struct mqtt_stage *st, const struct mqtt_conn *m)
{
	if (m->kind == MQTT_K_CONNECTING && m->who != 0)
		--*unanswered(st, m);
}

bool mqtt_connect_another(struct mqtt_stage *st, const struct mqtt_conn *m)
{
	return m->who != 0 && *unanswered(st, m) != 0;
}

void mqtt_connect_pass(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	struct mqtt_session *se = m->client_id != NULL ? mqtt_session_claimed(st, m) : NULL;

	if (m->client_id == NULL)
		mqtt_count(st, MQTT_C_CONNECT_UNREAD);
	if (se != NULL) {
		se->claimed = 1;
		se->claimed_ms = toe_stream_ms(st->s);
	}
	m->kind = MQTT_K_CONNECTING;
	if (m->who != 0)
		++*unanswered(st, m);
	mqtt_connect_uncount(st, m);
	if (m->rx_buf != NULL)
		mqtt_rx_pass_assembled(st, c, m);
	else
		mqtt_rx_pass_header(st, c, m);
}

/* Who came first of those whose ClientID has not come yet; one that waits for an older connection,
 * whose order would be lost, only if there is nobody else among the first. */
static struct mqtt_conn *first_to_go(struct mqtt_stage *st)
{
	struct mqtt_conn *o = toe_stream_state_at(st->s, st->last[MQTT_L_BEGIN]);

	for (unsigned n = 0; n < LOOKS && (o->rx_wait & MQTT_WAIT_OLDER); n++) {
		if (o->id == st->lists[MQTT_L_BEGIN])
			break;
		o = toe_stream_state_at(st->s, o->on[MQTT_L_BEGIN].prev);
	}
	return o;
}

bool mqtt_connect_count(struct mqtt_stage *st, struct mqtt_conn *m, size_t was)
{
	size_t limit = toe_stream_mem_size(st->s) / MQTT_MEM_BEGIN;

	mqtt_list_add(st, m, MQTT_L_BEGIN);
	st->begin_bytes += mqtt_buf_bytes(m->rx_buf) - was;
	while (st->begin_bytes > limit) {
		struct mqtt_conn *o = first_to_go(st);

		if (o == m)
			break;
		mqtt_connect_pass(st, toe_stream_conn(st->s, o->id, o->gen), o);
	}
	return st->begin_bytes <= limit;
}

/* Who is it?  The will and what else is behind the ClientID may be large, and the broker's answer
 * says all there is to know of it. */
void mqtt_connect_look(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	struct mqtt_connect con;
	uint32_t len;
	const uint8_t *body = mqtt_rx_body(m, &len);
	int rc;

	if (m->client_id != NULL) { /* read before, and waited since */
		mqtt_connect_pass(st, c, m);
		return;
	}
	rc = mqtt_connect_begin(m->rx_first, body, len, len + m->rx_left, &con);
	if (rc == -EPROTONOSUPPORT) {
		mqtt_conn_lose(st, c, m); /* TLS, a scanner: no broker of MQTT accepts it */
		return;
	}
	if (rc == 0 && len < MQTT_CONTROL_MAX)
		return;
	if (rc > 0)
		mqtt_session_connect(st, m, &con);
	if (mqtt_older_wait(st, m))
		m->rx_mode = MQTT_RX_READY;
	else
		mqtt_connect_pass(st, c, m);
}
