/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Subscription map of the MQTT stage: which sessions subscribed to what, and all subscriptions that
 * match a topic as an immutable, reference-counted group (OASIS MQTT 3.1.1 and 5.0, section 4.7).
 *
 * Owned by one stage instance and used by its thread only.  All memory is taken at create; when a
 * pool is exhausted a call says so (-ENOSPC, or NULL from a match) and changes nothing.
 */
#ifndef TOE_MQTT_SUBS_H
#define TOE_MQTT_SUBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MQTT_SUB_NONE   UINT32_MAX
#define MQTT_LEVELS_MAX 128u   /* levels of a filter or topic */
#define MQTT_TEXT_MAX   65535u /* bytes of a UTF-8 string on the wire, section 1.5.3 */
#define MQTT_VISITS_MAX 2048u  /* nodes looked at for one topic */

/* mqtt_sub.opts */
#define MQTT_SUB_NO_LOCAL 0x01u /* v5 3.8.3.1 */
#define MQTT_SUB_RAP      0x02u /* Retain As Published */
#define MQTT_SUB_SHARED   0x04u /* set by mqtt_subs_add for $share/..., v5 4.8.2; read-only */

/* mqtt_group.flags */
#define MQTT_GROUP_SHARED 0x01u /* a shared subscription is among the entries */

struct mqtt_subs; /* opaque */

/* A zero (but for sessions, subscriptions and key) means a default derived from the others. */
struct mqtt_subs_limits {
	uint32_t sessions;      /* session handles are 0..sessions-1, chosen by the caller */
	uint32_t subscriptions; /* of all sessions */
	uint32_t nodes;         /* distinct filter levels (64 B each); default 2 per subscription */
	uint32_t cache_topics;  /* topics whose group is remembered; default 4096 */
	uint32_t cache_entries; /* group entries alive at once, 12 B each; rounding to blocks makes
				 * the usable number smaller; default 4 per subscription */
	uint32_t text_bytes;    /* of levels longer than 16; default 32 per node */
	uint32_t work_ms;       /* nodes and entries looked at per ms, on average; 0: no limit */
	uint64_t key[2];        /* secret: topics are chosen by strangers; random once per start */
};

/* One subscription.  sub_id, qos, state, opts and user are the caller's, zero after an add (opts
 * keeps SHARED): call mqtt_subs_touch after a change that decides about deliveries.  The rest is
 * read-only. */
struct mqtt_sub {
	uint32_t session; /* MQTT_SUB_NONE: not in use */
	uint32_t sub_id;  /* v5 subscription identifier, 0 none */
	uint8_t qos;
	uint8_t state;
	uint8_t opts;
	uint8_t doubt; /* the user's, as state */
	uint32_t user;
	uint32_t gen;   /* changes when the subscription ends */
	uint32_t node;  /* last level of its filter */
	uint32_t group; /* name of the shared group, MQTT_SUB_NONE if not shared */
	uint32_t leaf_next, leaf_prev;
	uint32_t session_next, session_prev;
	uint32_t hash_next; /* free subscriptions are linked by it, too */
};

struct mqtt_subs_counts {
	uint32_t subscriptions, nodes, cached_topics;
	uint32_t groups;                  /* alive: cached or held */
	uint32_t cache_entries;           /* entries in those */
	uint64_t group_bytes, text_bytes; /* taken of the arenas */
	uint64_t hits;                    /* topic found and nothing changed near it */
	uint64_t misses;                  /* walked the trie, and of these: */
	uint64_t shared;                  /* an existing group had exactly these subscriptions */
	uint64_t built;                   /* a group was made */
	uint64_t evicted;                 /* topics dropped to make room */
	uint64_t no_memory;               /* match was NULL: group memory exhausted */
	uint64_t too_deep; /* match was NULL: more than MQTT_LEVELS_MAX levels, or no topic */
	uint64_t too_wide; /* match was NULL: more than MQTT_VISITS_MAX nodes */
	uint64_t too_busy; /* match was NULL: more work than work_ms allows */
};

/* NULL: no memory or senseless limits. */
struct mqtt_subs *mqtt_subs_create(const struct mqtt_subs_limits *lim);
void mqtt_subs_free(struct mqtt_subs *m); /* also groups still held; NULL is allowed */

/* Adds (session, filter), or finds it: *existed says so and nothing is changed then.  "$share/g/f"
 * is stored under f, and g, which may be any levels' text, is part of its identity.  UTF-8 is the
 * caller's to validate, placement of wildcards is checked here.  0, -ENOSPC or -EINVAL.  Time:
 * O(levels), O(1) at the leaf. */
int mqtt_subs_add(struct mqtt_subs *m, uint32_t session, const uint8_t *filter, size_t len,
		  uint32_t *sub, bool *existed);
/* MQTT_SUB_NONE if there is none; filters add refuses are not found. */
uint32_t mqtt_subs_find(struct mqtt_subs *m, uint32_t session, const uint8_t *filter, size_t len);
/* sub must be in use.  O(1) at the leaf, then frees levels nobody needs any more. */
void mqtt_subs_del(struct mqtt_subs *m, uint32_t sub);
/* NULL if sub is out of range or not in use. */
struct mqtt_sub *mqtt_subs_get(struct mqtt_subs *m, uint32_t sub);
/* Makes groups with this subscription stale: the next match gives a new one with user[] zero. */
void mqtt_subs_touch(struct mqtt_subs *m, uint32_t sub);
/* All of one session, in no order.  Take the next before deleting one. */
uint32_t mqtt_subs_first(const struct mqtt_subs *m, uint32_t session);
uint32_t mqtt_subs_next(const struct mqtt_subs *m, uint32_t sub);
/* The filter's text as subscribed, $share prefix included; always terminated (room > 0), cut to
 * room.  Returns its whole length without the zero; 0 if sub is not in use. */
size_t mqtt_subs_filter(const struct mqtt_subs *m, uint32_t sub, char *buf, size_t room);
void mqtt_subs_count(const struct mqtt_subs *m, struct mqtt_subs_counts *out);

struct mqtt_group_entry {
	uint32_t session;
	uint32_t sub;
	uint32_t sub_gen; /* the entry counts while mqtt_subs_alive(sub, sub_gen) */
};

/* All subscriptions that matched, those of one session adjacent.  Constant but for user[].  Topics
 * with the same subscriptions share one group, so user[] may depend on the entries and on nothing
 * else (a filter gate is better a second map whose sessions are the gates).  A new group has user[]
 * zero. */
struct mqtt_group {
	uint32_t refs;
	uint32_t n;
	uint32_t flags;
	uint32_t user[2];
	uint32_t next;  /* private: same bucket */
	uint64_t epoch; /* no two groups have the same, later ones a larger one */
	uint64_t sig;   /* private: which leaves in which version */
	struct mqtt_group_entry entry[];
};

/* Takes a reference; a topic nobody subscribed gives a group with n = 0.  NULL: see counts; the
 * caller goes slow.  The topic is a topic name: wildcard characters in it are not special. */
struct mqtt_group *mqtt_subs_match(struct mqtt_subs *m, const uint8_t *topic, size_t len);
void mqtt_group_put(struct mqtt_subs *m, struct mqtt_group *g);
/* One more reference to a group held. */
static inline struct mqtt_group *mqtt_group_get(struct mqtt_group *g)
{
	g->refs++;
	return g;
}
bool mqtt_subs_alive(const struct mqtt_subs *m, uint32_t sub, uint32_t gen);
/* Hash of a text with the map's key, for tables whose keys are chosen by strangers, too. */
uint64_t mqtt_subs_hash(const struct mqtt_subs *m, const uint8_t *text, size_t len);
/* That much was done for a topic outside of the map, or so much time went by.  One piece of work is
 * always allowed when all before it is paid for, however large it is. */
void mqtt_subs_work(struct mqtt_subs *m, uint32_t steps);
void mqtt_subs_rest(struct mqtt_subs *m, uint32_t ms);
/* No more now: a match that finds nothing in the cache will be NULL. */
bool mqtt_subs_busy(const struct mqtt_subs *m);
/* For tests of what is left: forgets all cached topics, groups nobody holds are freed. */
void mqtt_subs_flush(struct mqtt_subs *m);

#endif
