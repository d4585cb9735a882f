/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: sessions that the broker has from before it was started.
 *
 * Input: for each, its ClientID, its subscriptions, and that there are no more, as libtoe has read
 * them in the broker's database before the broker listened (libtoe/broker.c).  Output: sessions
 * without a connection, as if their clients had been here and left.  Should the broker know better
 * (it has expired), CONNACK says so.  One of which not all was told is unknown when it is resumed.
 * Owns st->restoring.  Thread: the stream stage's.
 */
#include "mqtt_stage.h"

#include <errno.h>

#include "common/bytes.h"
#include "toe/ctl.h"

#define HEAD_BYTES   5u /* subscription options, subscription identifier */
#define OPT_QOS      0x03u
#define OPT_NO_LOCAL 0x04u
#define OPT_RAP      0x08u

static int begin(struct mqtt_stage *st, const uint8_t *id, uint32_t len)
{
	st->restoring = mqtt_session_restore(st, id, len);
	return st->restoring != MQTT_NONE ? 0 : -ENOSPC;
}

static int subscribe(struct mqtt_stage *st, const uint8_t *data, uint32_t len)
{
	struct mqtt_sub *s;
	uint32_t sub;
	bool existed;
	int rc;

	if (len < HEAD_BYTES || (data[0] & OPT_QOS) == OPT_QOS ||
	    !mqtt_utf8_valid(data + HEAD_BYTES, len - HEAD_BYTES))
		return -EINVAL;
	rc = mqtt_subs_add(st->subs, st->restoring, data + HEAD_BYTES, len - HEAD_BYTES, &sub,
			   &existed);
	if (rc != 0)
		return rc == -EINVAL ? 0
				     : rc; /* the broker refuses it, too, or it matches nothing */
	s = mqtt_subs_get(st->subs, sub);
	s->state = MQTT_S_ACTIVE; /* offline: proven when it is resumed */
	s->qos = (uint8_t)((data[0] & OPT_QOS) + 1u);
	s->opts = (uint8_t)((s->opts & MQTT_SUB_SHARED) |
			    (data[0] & OPT_NO_LOCAL ? MQTT_SUB_NO_LOCAL : 0) |
			    (data[0] & OPT_RAP ? MQTT_SUB_RAP : 0));
	s->sub_id = toe_get32(data + 1);
	mqtt_subs_touch(st->subs, sub);
	return 0;
}

static int whole(struct mqtt_stage *st)
{
	st->sessions[st->restoring].cut = st->sessions[st->restoring].unseen = 0;
	st->restoring = MQTT_NONE;
	mqtt_count(st, MQTT_C_RESTORED);
	return 0;
}

static int take(struct mqtt_stage *st, uint8_t type, const uint8_t *data, uint32_t len)
{
	if (type == TOE_RESTORE_SESSION)
		return begin(st, data, len);
	if (st->restoring == MQTT_NONE || st->sessions[st->restoring].conn != MQTT_NONE)
		return -ESRCH;
	if (type == TOE_RESTORE_SUB)
		return subscribe(st, data, len);
	return type == TOE_RESTORE_WHOLE ? whole(st) : -EINVAL;
}

int mqtt_restore(struct mqtt_stage *st, const uint8_t *data, uint32_t len)
{
	uint32_t n;
	int rc, first = 0;

	for (uint32_t at = 0; at < len; at += n) {
		n = len - at < 2 ? 2 : 2u + data[at + 1];
		if (n > len - at)
			return -EINVAL;
		rc = take(st, data[at], data + at + 2, n - 2);
		if (rc == 0)
			continue;
		st->restoring = MQTT_NONE;
		first = first != 0 ? first : rc;
	}
	return first;
}
