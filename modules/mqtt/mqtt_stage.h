/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the MQTT stage: what its files share.
 *
 * One instance, one thread (the stream stage's).  It follows both directions of every connection to
 * the broker, knows sessions and subscriptions, and decides for each PUBLISH: wholly fast (the
 * stage delivers it, the broker never sees it) or wholly slow (the broker does everything).
 * What each of them does: README.md.
 */
#ifndef MQTT_STAGE_H
#define MQTT_STAGE_H

#include "mqtt_rx.h"
#include "mqtt_session.h"
#include "mqtt_subs.h"
#include "mqtt_tx.h"
#include "mqtt_wire.h"
#include "stream_module.h"

#define MQTT_NONE UINT32_MAX

#define MQTT_CONTROL_MAX 65536u /* bytes of a control packet; larger: connection is lost */
#define MQTT_JOBS        4096u
#define MQTT_JOBS_OF_ONE 64u /* unfinished jobs of one publisher; then it waits */
#define MQTT_CHUNK       64u /* copies of one job per turn */
#define MQTT_WAITERS     32u /* UNSUBACKs that go on per turn */
/* A PINGREQ without answer is repeated after MQTT_PING_MS, and then after MQTT_PING_AGAIN_MS, twice
 * that, and so on, up to MQTT_PING_TRIES times. */
#define MQTT_PING_MS       1000u
#define MQTT_PING_AGAIN_MS 10000u
#define MQTT_PING_TRIES    4u
/* Bytes of a packet that a client may still owe and count as alive for what it sends of it, as
 * mosquitto has it (packet__read()). */
#define MQTT_SLOW_LEFT 1000u
/* A publisher about to go slow waits for its copies that a subscriber's broker keeps from their
 * place: as long as that subscriber has been behind for no more than this, what is used of it being
 * given back tenfold slower.  So nobody makes others wait for more than a tenth of the time. */
#define MQTT_HELD_MS  1000u
#define MQTT_OLDER_MS 2000u /* a CONNECT waits for an older connection's queues */
/* So long after a CONNECT for its session went to the broker, what the older connection publishes
 * goes there, too: if the broker has given the session away, it is not read, and must not come
 * behind the will.  Nobody is told when the broker refuses, so it is a time. */
#define MQTT_CLAIMED_MS 1000u
#define MQTT_UNANSWERED 4096u /* counters of CONNECTs without answer, by ClientID */
#define MQTT_HELD_SHARE 10u
#define MQTT_HELD_WALK  1024u /* copies of one publisher looked at per turn */
/* A subscription that is not proven makes topics slow unless its client has acknowledged nothing
 * for so long, or takes so long to get what the broker has for it. */
#define MQTT_STALLED_MS  1000u
#define MQTT_UNPROVEN_MS 10000u
/* A publisher is held until its slow message is proven delivered; so long at most if the broker
 * writes nothing to anybody meanwhile.  One that is busy is only behind, and a message that went
 * slow instead would come no sooner: it takes a client's messages one after the other. */
#define MQTT_FENCE_MS     100u
#define MQTT_FENCE_MAX_MS 10000u /* in any case */
#define MQTT_WATCH_MS     25u    /* between looks at what waits for an answer */
#define MQTT_GATES        64u
#define MQTT_KERNEL_MAX   4096u
#define MQTT_TICK_WALK    64u    /* members of lists looked at per ms, on average */
#define MQTT_WORK_MS      32768u /* trie nodes and subscriptions looked at per ms, on average */
#define MQTT_MEM_KEPT     4u     /* one in so many bytes of memory is not for messages */
/* One in so many is for CONNECTs whose ClientID has not come yet.  Anybody can send the beginning
 * of one, so beyond that the oldest is passed on unread: a client that is in earnest is done with
 * it in a moment, and until the broker accepts whom nobody knows, nothing is lost by that. */
#define MQTT_MEM_BEGIN 8u

enum mqtt_reason {
#define MQTT_REASON(symbol, text) MQTT_R_##symbol,
#include "mqtt_counters.def"
	MQTT_R_N
};

enum mqtt_counter {
#define MQTT_COUNTER(symbol, text) MQTT_C_##symbol,
#include "mqtt_counters.def"
	MQTT_C_N
};

/* What a connection is. */
enum mqtt_kind {
	MQTT_K_NEW,        /* no byte yet */
	MQTT_K_CONNECTING, /* CONNECT forwarded, CONNACK awaited */
	MQTT_K_TRACKED,    /* CONNACK said yes */
	MQTT_K_REFUSED,    /* CONNACK said no; nothing more matters */
	MQTT_K_LOST,       /* not MQTT, or framing lost: bytes pass, and taint */
	MQTT_K_FOREIGN,    /* of another application than the one followed */
};

/* Client -> broker. */
enum mqtt_rx_mode {
	MQTT_RX_START,    /* at a packet boundary, or inside a fixed header (rx_hdr) */
	MQTT_RX_ASSEMBLE, /* rx_buf fills up; nothing of the packet has been forwarded */
	MQTT_RX_READY,    /* rx_buf is complete and waits (rx_wait) */
	MQTT_RX_PASS,     /* rx_left bytes of a packet still to be forwarded as they come */
};

/* mqtt_conn.rx_wait: why no bytes are taken from the client. */
#define MQTT_WAIT_JOBS    0x01u /* its fast messages have to be appended first */
#define MQTT_WAIT_FENCE   0x02u /* its slow messages have to be delivered first */
#define MQTT_WAIT_ROOM    0x04u /* too many of its jobs are unfinished */
#define MQTT_WAIT_CONNACK 0x08u /* what a packet means depends on the broker's answer */
#define MQTT_WAIT_OLDER   0x10u /* CONNECT: an older connection of this ClientID is not finished */
#define MQTT_WAIT_FANOUT  0x20u /* as JOBS, but not for copies that wait for blocked clients */

/* mqtt_sub.state, and doubt: the broker may have it no more.  Then it is not proven, and what it
 * matches is slow while its client is there, until that subscribes again. */
enum mqtt_sub_state {
	MQTT_S_PENDING, /* the broker may or may not deliver, or have something to send first */
	MQTT_S_ACTIVE,
};

/* Retained messages a broker could not write at once leave before its next live message, not
 * sooner.  HEAP: it has bytes in its heap; HELD: it has not, but no PUBLISH has come since. */
#define MQTT_SUSPECT_HELD 1u
#define MQTT_SUSPECT_HEAP 2u

/* Lists a connection can be on. */
enum mqtt_list {
	MQTT_L_PING,     /* a PINGREQ has no answer yet */
	MQTT_L_TX_WAIT,  /* UNSUBACK waits for jobs */
	MQTT_L_SYNC,     /* a PINGRESP waits to become a proof */
	MQTT_L_UNPROVEN, /* an answer or a proof for its subscriptions is awaited */
	MQTT_L_HELD,     /* a publisher that waits for its fast messages to be appended */
	MQTT_L_OLDER,    /* MQTT_WAIT_OLDER */
	MQTT_L_BEGIN,    /* CONNECT in rx_buf, not on its way yet; counted in begin_bytes */
	MQTT_L_N
};

/* Doubly linked by connection id. */
struct mqtt_link {
	uint32_t next;
	uint32_t prev; /* of any but the first */
};

/* A copy that waits for earlier bytes of the broker, in the data of a toe_buf. */
struct mqtt_copy {
	struct toe_buf *next; /* of the receiver's */
	struct toe_buf *prev;
	struct toe_buf *held_next; /* ring of the publisher's (mqtt_conn.held) */
	struct toe_buf *held_prev;
	struct toe_buf *b1;
	struct toe_buf *b2; /* NULL: one piece */
	uint32_t len1, off2, len2;
	uint32_t to;   /* receiver */
	uint32_t conn; /* and conn_gen: the publisher that is held, MQTT_NONE: none is */
	uint32_t conn_gen;
	uint32_t sub; /* and sub_gen: goes while that lives; MQTT_SUB_NONE: in any case */
	uint32_t sub_gen;
	uint32_t after;    /* goes when the broker's stream has been passed on up to here */
	uint32_t event;    /* mqtt_conn.events when it was made */
	uint32_t ms;       /* since when it waits */
	uint32_t expiry_s; /* Message Expiry Interval then, 0: none */
	bool exact;        /* nothing for the client was in the broker's heap: that is its place */
};
_Static_assert(sizeof(struct mqtt_copy) + sizeof(struct toe_buf) <= TOE_BUF_BLOCK_MIN,
	       "the smallest block");

/* A SUBSCRIBE or UNSUBSCRIBE without answer, in the data of a toe_buf, the packet's body behind. */
struct mqtt_request {
	struct toe_buf *next;
	uint32_t len;
	uint32_t event; /* mqtt_conn.events with it: subscriptions asked for later have more */
	uint32_t sub_id;
	uint16_t packet_id;
	uint8_t type;
	uint8_t body[];
};

/* A PUBLISH of the broker that passes and is compared (mqtt_audit.c). */
struct mqtt_look {
	uint64_t hash;
	uint32_t at; /* bytes of the body so far */
	uint32_t props;
	uint32_t props_end; /* 0: not known yet */
	uint32_t varint;
	uint16_t topic_len;
	uint8_t shift;
	uint8_t on;
};

struct mqtt_conn {
	uint32_t id;
	uint32_t gen;
	uint32_t app_serial;
	uint8_t kind;  /* enum mqtt_kind */
	uint8_t level; /* protocol level, 0: no CONNECT yet */
	uint8_t bridge;
	uint8_t clean;
	uint8_t ended;   /* nothing is appended any more */
	uint8_t blocked; /* the broker may hold bytes for this client in its heap */
	uint8_t will;
	uint8_t listed; /* bit by enum mqtt_list: its link counts */
	uint16_t keep_alive_s;
	uint8_t asked_n;
	uint8_t ping_owed; /* the client may have lost an answer to one of the stage's */
	uint32_t session;  /* MQTT_NONE: none */
	uint32_t max_packet;
	uint32_t expiry_s;
	uint32_t client_ms;        /* bytes of the client were taken last */
	struct toe_buf *client_id; /* until CONNACK */
	uint64_t who;              /* keyed hash of it, 0: not known, or nobody else's */

	/* client -> broker */
	uint8_t rx_mode;
	uint8_t rx_wait;
	uint8_t rx_hdr_n;
	uint8_t rx_hdr[MQTT_FIXED_MAX];
	uint8_t rx_first;
	uint8_t rx_seen;  /* enum mqtt_reason of the PUBLISH in rx_buf, once its header is there */
	uint8_t rx_over;  /* its end or DISCONNECT has been forwarded: nothing may follow */
	uint8_t no_fence; /* the last wait was in vain: not again until proven */
	uint32_t rx_left; /* body bytes to come */
	uint32_t rx_wait_ms; /* since when */
	struct toe_buf *rx_buf;
	uint32_t forwarded_ms; /* last time anything was forwarded to the broker */

	/* broker -> client */
	struct mqtt_framer tx_fr;
	uint8_t tx_collect;   /* the current packet is looked at as a whole: tx_buf */
	uint8_t tx_wait;      /* tx_buf is complete and waits for jobs up to tx_wait_seq */
	uint8_t saw_publish;  /* since the last proof */
	uint8_t ping_late;    /* a PINGREQ was repeated, and not all are answered since */
	uint32_t taken;       /* bytes of the broker, modulo 2^32 */
	uint32_t ping_taken;  /* the same when the last PINGREQ was injected */
	uint64_t tx_wait_seq; /* of tx_wait; before, of MQTT_WAIT_OLDER */
	struct toe_buf *tx_buf;
	struct toe_buf *defer_first; /* struct mqtt_copy */
	struct toe_buf *defer_last;
	uint32_t defer_n;
	uint32_t defer_bytes;
	struct toe_buf *requests; /* struct mqtt_request, oldest first */
	struct toe_buf *request_last;
	uint32_t request_bytes; /* of memory they take */

	/* proofs: events are counted, a PINGREQ covers those before it */
	uint32_t events;
	uint32_t slow_event; /* of the last slow PUBLISH (or PUBREL) */
	uint32_t proven;
	uint32_t ping_cover[2]; /* of the injected PINGREQs without answer, oldest first; the
				 * second stands for all younger ones, too */
	uint32_t ping_short[2]; /* short writes known when it was injected */
	uint16_t ping_n;        /* injected without answer, which would prove something */
	uint16_t ping_old;      /* before these, which would prove nothing new */
	uint8_t ping_tries;     /* repeated without any answer */
	uint8_t want_ping;
	uint8_t suspect; /* MQTT_SUSPECT_: short write while a subscription was becoming active */
	uint8_t stalled; /* unproven, and the client does not read: nothing waits for it */
	uint32_t client_pings; /* the client's own PINGREQs without answer */
	/* Whose the oldest asked_n of all these are, the oldest in bit 0; set: the client's.  Of
	 * the others, where there are more, its own are taken to be first. */
	uint32_t asked;
	uint32_t ping_ms; /* last PINGREQ or PINGRESP of the stage's */
	uint32_t short_seen;
	struct toe_buf *activating; /* struct mqtt_activating[] */

	struct toe_buf *held; /* its copies that wait for blocked subscribers, struct mqtt_copy */
	uint32_t jobs;        /* unfinished, of this publisher */
	uint32_t jobq;        /* its queue, MQTT_NONE */
	uint32_t blocked_ms;  /* since when blocked, MQTT_HELD_SHARE taken into account */
	uint32_t calm_ms;     /* not blocked any more */
	uint32_t look_acked;  /* toe_stream_acked() when looked at last, unchanged since look_ms */
	uint32_t look_ms;
	/* a PINGRESP that becomes a proof when the broker's writes before it have been noticed */
	uint64_t sync_ticket;
	uint32_t sync_proven;
	uint32_t sync_short;
	uint32_t asked_ms; /* last CONNACK, (UN)SUBSCRIBE or answer to one */
	struct mqtt_look look;
	struct mqtt_link on[MQTT_L_N];
};

/* docs/MQTT.md: at most 1 KiB per tracked idle connection, with struct toe_stream_conn, the session
 * and its ClientID. */
_Static_assert(sizeof(struct mqtt_conn) <= 384, "memory per connection");

struct mqtt_activating {
	uint32_t sub;
	uint32_t gen;
	uint32_t asked; /* mqtt_sub.user: of the SUBSCRIBE this is about */
	uint32_t event; /* to be proven */
};

struct mqtt_session {
	struct toe_buf *id; /* NULL: not in use */
	uint32_t hash_next; /* also the free list */
	uint32_t conn;      /* MQTT_NONE: offline */
	uint32_t conn_gen;
	uint32_t max_packet;
	uint8_t level;
	uint8_t keep;    /* outlives its connection */
	uint8_t unknown; /* may have subscriptions nobody saw */
	uint8_t kernel;  /* of a client through the kernel: no ClientID, no connection */
	uint8_t full;    /* has subscriptions there was no room for; counted in mqtt_stage.full */
	uint8_t claimed; /* a CONNECT for it was forwarded, not that of the connection it has */
	uint8_t cut;     /* may not have all of its subscriptions: (UN)SUBSCRIBE without answer */
	uint8_t unseen;  /* may have more: nobody saw it (cut is set, too) */
	uint32_t claimed_ms; /* when, last; or when it got the connection, if that was later */
	uint32_t missed;     /* mqtt_stage.missed when all of it was known */
	uint8_t lapses;      /* offline, and the broker may forget it */
	uint64_t delivered;
	uint64_t dropped;
};

/* One encoding of a message: one or two pieces. */
struct mqtt_encoding {
	struct toe_buf *b1; /* NULL: not made yet */
	struct toe_buf *b2;
	uint32_t len1, off2, len2; /* the first begins at 0 */
};

struct mqtt_job {
	uint32_t next; /* in its queue, or the free list */
	uint32_t at;   /* next entry of the group */
	uint64_t seq;
	/* all unfinished jobs, in the order of their making */
	uint32_t older;
	uint32_t newer;
	struct mqtt_group *group;
	struct toe_buf *msg; /* the PUBLISH as it came */
	struct mqtt_publish p;
	uint32_t head; /* bytes of its fixed header */
	uint32_t payload_len;
	uint32_t publisher; /* session */
	uint64_t who;       /* ClientID, as in struct mqtt_conn */
	uint32_t last_session;
	uint32_t conn;
	uint32_t conn_gen;
	uint8_t level;
	bool skips; /* subscriptions that are not proven do not count (mqtt_stage.skips) */
	struct mqtt_encoding enc[2]; /* level 3 and 4; level 5 without subscription identifier */
};

/* The jobs of one publisher, in order; queues take turns. */
struct mqtt_jobq {
	uint32_t first;
	uint32_t last;
	uint32_t next; /* ring of queues with work, or the free list */
};

struct mqtt_gate {
	uint32_t sub;      /* in stage.gates, MQTT_SUB_NONE: not in use */
	bool closed;       /* operator says: nobody unseen subscribes */
	bool noise;        /* noise_ms holds */
	uint32_t noise_ms; /* something of it went through the broker and was not compared */
	uint64_t fast;     /* messages, as they were delivered in the end */
	uint64_t slow;
	/* copies of slow messages that would have been fast */
	uint64_t matched; /* the broker sent them */
	uint64_t missing; /* it did not */
	uint64_t extra;   /* it sent one the stage would not have sent */
	uint64_t skipped; /* nothing can be said */
};

struct mqtt_audit;

/* A client through the kernel, or encrypted, that is followed. */
struct mqtt_kernel {
	uint32_t ctx; /* process of the broker */
	uint32_t conn;
	uint32_t next;      /* in its bucket, or unused; MQTT_NONE: the last */
	uint32_t session;   /* its subscriptions */
	struct toe_buf *id; /* of a session that lasts, NULL: it ends with the connection */
	bool used;
	bool bridge; /* its filters are not the peer's words but of the broker's configuration */
};

struct mqtt_stage {
	struct toe_stream *s;
	const struct toe_config *cfg;
	uint32_t app_id; /* the broker followed; serial 0: none yet */
	uint32_t app_serial;
	uint32_t conns; /* open ones of it */
	uint64_t users; /* toe_stream_users() of its clients, together; 0: none yet */

	struct mqtt_subs *subs;
	struct mqtt_subs *gates;
	struct mqtt_gate gate[MQTT_GATES];
	uint32_t gate_n;

	struct mqtt_session *sessions;
	uint32_t session_n;
	uint32_t session_free;
	uint32_t session_used;
	uint32_t session_hand; /* the next to make room */
	uint32_t restoring;    /* its subscriptions are being told, MQTT_NONE: of none */
	uint32_t *session_hash;
	uint32_t hash_mask;
	uint64_t hash_key;

	struct mqtt_kernel kernel[MQTT_KERNEL_MAX];
	uint32_t kernel_bucket[MQTT_KERNEL_MAX]; /* by process and connection */
	uint32_t kernel_unused;
	uint32_t kernel_n;
	uint32_t missed;    /* times that any session may have changed unseen */
	uint32_t lost_n;    /* connections that taint */
	uint32_t unknown_n; /* sessions online with unknown subscriptions */
	uint32_t full;      /* sessions with subscriptions that could not be stored; one that was
			     * forgotten, not by the broker, counts until all sessions are gone */

	struct mqtt_job *jobs;
	uint32_t job_free;
	uint32_t job_oldest; /* unfinished, MQTT_NONE */
	uint32_t job_newest;
	uint64_t job_seq;
	uint32_t job_used;
	struct mqtt_jobq *queues;
	uint32_t queue_free;
	uint32_t queue_turn; /* last of the ring, MQTT_NONE: empty */

	uint32_t older_next;      /* of MQTT_L_OLDER, to be looked at */
	bool job_ended;           /* since it was looked at */
	uint32_t lists[MQTT_L_N]; /* first connection of each, MQTT_NONE: empty */
	uint32_t last[MQTT_L_N];  /* the one that has been on it longest, if there is one */
	size_t begin_bytes;       /* of memory in rx_buf of those on MQTT_L_BEGIN */
	uint32_t turn;            /* changes with who is suspect, stalled, connected */
	uint32_t suspects;        /* open connections that are */
	bool settled;             /* somebody on MQTT_L_HELD may go on */
	uint32_t tick_ms;
	uint32_t walk_ms;  /* last walk of mqtt_fence_tick(), and ms until the next: */
	uint32_t walk_gap; /* many members cost a walk, not one every millisecond */
	uint64_t synced;   /* the ticket last looked at */
	uint32_t heard_ms; /* the broker wrote something */
	uint32_t canary;
	uint32_t decided; /* gate of the PUBLISH decided last, MQTT_NONE: none */
	bool skips; /* it is fast because who would make it slow is stalled, and does without */
	struct mqtt_audit *audit;
	uint32_t audit_used; /* messages compared now; 0: nothing is looked at */
	uint32_t noise_ms;   /* as in a gate, for all of them */
	bool noise;
	bool shadow;
	bool suspended;
	uint32_t reloads;         /* of the broker after which its configuration was found safe */
	uint32_t blocker_reloads; /* after so many it was found to be unsafe: */
	uint32_t blocker_len;
	uint8_t blocker[160];

	uint32_t unanswered[MQTT_UNANSWERED]; /* CONNECTs at the broker, by ClientID (who) */

	uint64_t reasons[MQTT_R_N];
	uint64_t counters[MQTT_C_N];
};

static inline struct mqtt_stage *mqtt_of(struct toe_stream *s)
{
	return toe_stream_private(s);
}

static inline void mqtt_count(struct mqtt_stage *st, enum mqtt_counter c)
{
	st->counters[c]++;
}

static inline struct mqtt_copy *mqtt_copy_of(struct toe_buf *b)
{
	return (struct mqtt_copy *)(void *)b->data;
}

static inline struct mqtt_request *mqtt_request_of(struct toe_buf *b)
{
	return (struct mqtt_request *)(void *)b->data;
}

/* State and connection of an id, NULL if it is not open in that generation. */
struct mqtt_conn *mqtt_conn_get(struct mqtt_stage *st, uint32_t id, uint32_t gen,
				struct toe_stream_conn **c);

/* mqtt_stage.c: lists of connections. */
static inline bool mqtt_listed(const struct mqtt_conn *m, enum mqtt_list which)
{
	return m->listed & 1u << which;
}
void mqtt_list_add(struct mqtt_stage *st, struct mqtt_conn *m, enum mqtt_list which);
void mqtt_list_del(struct mqtt_stage *st, struct mqtt_conn *m, enum mqtt_list which);
/* The connection cannot be followed any more: its bytes pass from now on. */
void mqtt_conn_lose(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);

/* Bytes of memory, with its header. */
static inline size_t mqtt_buf_bytes(const struct toe_buf *b)
{
	return sizeof(*b) + b->room;
}

static inline void mqtt_put(struct mqtt_stage *st, struct toe_buf **b)
{
	if (*b != NULL)
		toe_stream_buf_put(st->s, *b);
	*b = NULL;
}

/* Messages and their copies may take so much of the memory that the rest is left to what a client
 * must not be lost for: CONNECT, SUBSCRIBE, sessions. */
static inline bool mqtt_spare(const struct mqtt_stage *st, size_t len)
{
	size_t size = toe_stream_mem_size(st->s);

	return toe_stream_mem_used(st->s) + len <= size - size / MQTT_MEM_KEPT;
}

/* mqtt_stage.c: the application is the broker that is followed, from now on if it can be. */
bool mqtt_follow(struct mqtt_stage *st, uint32_t app_id);

/* mqtt_decide.c */
int mqtt_decide_init(struct mqtt_stage *st);
void mqtt_decide_fini(struct mqtt_stage *st);
/* What header and topic alone say; FAST: nothing against it so far. */
enum mqtt_reason mqtt_decide_early(struct mqtt_stage *st, const struct mqtt_conn *m,
				   const struct mqtt_publish *p);
/* All of it; FAST, SHADOW, CANARY: *group is the caller's. */
enum mqtt_reason mqtt_decide(struct mqtt_stage *st, struct mqtt_conn *m,
			     const struct mqtt_publish *p, struct mqtt_group **group);
int mqtt_decide_gate_add(struct mqtt_stage *st, const char *filter, bool closed);
int mqtt_decide_gate_del(struct mqtt_stage *st, const char *filter);
/* libtoe has looked at the broker's configuration; blocker: what is unsafe.  0 or -EINVAL. */
int mqtt_decide_checked(struct mqtt_stage *st, const uint8_t *blocker, uint32_t len);
/* The broker got SIGHUP since it was started, or since its configuration was found safe. */
bool mqtt_decide_reloaded(const struct mqtt_stage *st);

/* mqtt_fanout.c */
int mqtt_fanout_init(struct mqtt_stage *st);
void mqtt_fanout_fini(struct mqtt_stage *st);
bool mqtt_fanout_room(const struct mqtt_stage *st, const struct mqtt_conn *m);
/* Is a job of that ClientID unfinished that is not younger than seq?  Its connection may be gone.
 */
bool mqtt_fanout_of(const struct mqtt_stage *st, uint64_t who, uint64_t seq);
/* Takes group and msg over. */
void mqtt_fanout_start(struct mqtt_stage *st, struct mqtt_conn *m, struct mqtt_group *group,
		       struct toe_buf *msg, const struct mqtt_publish *p, uint32_t head);
unsigned mqtt_fanout_run(struct mqtt_stage *st, unsigned budget);

/* mqtt_fence.c */
/* A PINGREQ to the broker, now or at the next packet boundary; nothing if one is under way. */
void mqtt_fence_ping(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
/* A PINGREQ of the client's is forwarded. */
void mqtt_fence_client_ping(struct mqtt_conn *m);
/* True: the PINGRESP is for the client. */
bool mqtt_fence_pingresp(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
void mqtt_fence_boundary(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
static inline bool mqtt_fence_clear(const struct mqtt_conn *m)
{
	return (int32_t)(m->slow_event - m->proven) <= 0;
}
/* Subscription sub of m's session becomes active as soon as that is proven. */
void mqtt_fence_activate(struct mqtt_stage *st, struct mqtt_conn *m, uint32_t sub);
/* Has the broker failed to write all of something?  Then copies wait from now on. */
void mqtt_fence_check_short(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
void mqtt_fence_keepalive(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
/* m has an answer or a proof to come. */
void mqtt_fence_unproven(struct mqtt_stage *st, struct mqtt_conn *m);
void mqtt_fence_suspect(struct mqtt_stage *st, struct mqtt_conn *m, uint8_t suspect);
/* Publishers that wait for their copies; returns how many. */
unsigned mqtt_fence_held(struct mqtt_stage *st);
/* Returns how many it looked at. */
unsigned mqtt_fence_tick(struct mqtt_stage *st);
/* PINGRESPs that are proofs now; returns how many. */
unsigned mqtt_fence_synced(struct mqtt_stage *st);
/* The broker has written something, on whatever connection. */
void mqtt_fence_heard(struct mqtt_stage *st);

/* mqtt_audit.c */
int mqtt_audit_init(struct mqtt_stage *st);
void mqtt_audit_fini(struct mqtt_stage *st);
/* p would have been fast for g and goes through the broker; len: bytes of its body. */
void mqtt_audit_expect(struct mqtt_stage *st, const struct mqtt_conn *m, const struct mqtt_group *g,
		       const struct mqtt_publish *p, uint32_t len);
/* Next bytes of the body of a PUBLISH of the broker. */
void mqtt_audit_look(const struct mqtt_stage *st, struct mqtt_look *l, uint8_t level,
		     const uint8_t *data, size_t len);
/* That was all of it. */
void mqtt_audit_seen(struct mqtt_stage *st, struct mqtt_conn *m, uint32_t remaining);
void mqtt_audit_tick(struct mqtt_stage *st);
/* The broker has closed m's connection. */
void mqtt_audit_left(struct mqtt_stage *st, const struct mqtt_conn *m);
void mqtt_audit_gate_gone(struct mqtt_stage *st, uint32_t gate);
/* Something goes through the broker uncompared; gate MQTT_NONE: of any topic. */
static inline void mqtt_audit_noise(struct mqtt_stage *st, uint32_t gate)
{
	uint32_t now = toe_stream_ms(st->s);

	if (gate == MQTT_NONE) {
		st->noise = true;
		st->noise_ms = now;
	} else {
		st->gate[gate].noise = true;
		st->gate[gate].noise_ms = now;
	}
}

/* mqtt_control.c */
int mqtt_control(struct toe_stream *s, struct toe_stream_ask *ask);

extern const char *const mqtt_reason_name[MQTT_R_N];
extern const char *const mqtt_reason_text[MQTT_R_N];
extern const char *const mqtt_counter_name[MQTT_C_N];
extern const char *const mqtt_counter_text[MQTT_C_N];

#endif
