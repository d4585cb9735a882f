/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: comparison of what the broker delivers with what the stage would have delivered.
 * Inside of mqtt_audit.c, for mqtt_control.c and tests; the rest of the stage uses the calls in
 * mqtt_stage.h.
 */
#ifndef MQTT_AUDIT_H
#define MQTT_AUDIT_H

#include "mqtt_stage.h"

#define MQTT_AUDIT_COPIES     4096u
#define MQTT_AUDIT_MSGS       1024u
#define MQTT_AUDIT_BUCKETS    4096u
#define MQTT_AUDIT_OF_ONE     256u   /* copies of one message that are compared */
#define MQTT_AUDIT_JUDGE_MS   2000u  /* a message is judged so long after it went to the broker */
#define MQTT_AUDIT_GIVE_UP_MS 6000u  /* the same without a proof: nothing can be said */
#define MQTT_AUDIT_NOISE_MS   10000u /* EXTRA says nothing so long after what is not compared */
#define MQTT_AUDIT_TICK_MS    16u
#define MQTT_AUDIT_LAST       32u /* differences remembered */
#define MQTT_AUDIT_TEXT       64u
#define MQTT_AUDIT_ENOUGH     100u /* compared copies for a verdict */

/* One message that went to the broker. */
struct mqtt_audit_msg {
	uint64_t key;  /* topic and payload */
	uint32_t next; /* younger one of the same bucket */
	uint32_t gate; /* MQTT_NONE: deleted */
	uint32_t conn; /* publisher */
	uint32_t conn_gen;
	uint32_t event; /* proven: the broker has handled it */
	uint32_t made_ms;
	uint32_t first;  /* copy not seen yet */
	uint64_t ticket; /* of toe_stream_sync(), if handled */
	bool handled;
	uint8_t topic_len;
	uint8_t topic[MQTT_AUDIT_TEXT];
};

/* One copy that is expected. */
struct mqtt_audit_copy {
	uint64_t key;
	uint32_t next;  /* same bucket, younger; also the free list */
	uint32_t older; /* of the same message */
	uint32_t newer;
	uint32_t msg;
	uint32_t conn; /* receiver */
	uint32_t conn_gen;
	uint32_t session;
	uint32_t sub;
	uint32_t sub_gen;
	uint32_t asked;  /* mqtt_sub.user */
	uint32_t shorts; /* short writes then */
	uint32_t props;
	bool any_props; /* they differ in the time that is left */
	bool unsure;    /* the receiver was blocked: the broker may drop it */
};

struct mqtt_audit_queue {
	uint32_t first;
	uint32_t last;
};

struct mqtt_audit_diff {
	bool extra;
	uint8_t id_len;
	uint8_t topic_len;
	uint32_t ms;
	uint8_t id[MQTT_AUDIT_TEXT];
	uint8_t topic[MQTT_AUDIT_TEXT];
};

struct mqtt_audit {
	struct mqtt_audit_msg msg[MQTT_AUDIT_MSGS]; /* a ring, in the order of their making */
	struct mqtt_audit_copy copy[MQTT_AUDIT_COPIES];
	struct mqtt_audit_queue copies[MQTT_AUDIT_BUCKETS];
	struct mqtt_audit_queue msgs[MQTT_AUDIT_BUCKETS];
	uint32_t msg_from;
	uint32_t copy_free;
	uint32_t copy_used;
	uint32_t turn; /* which of many receivers are compared */
	uint32_t tick_ms;
	struct mqtt_audit_diff diff[MQTT_AUDIT_LAST];
	uint64_t diff_n; /* ever; the last ones are kept */
};

#endif
