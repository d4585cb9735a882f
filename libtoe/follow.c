// SPDX-License-Identifier: BSD-3-Clause
/*
 * MQTT clients of a broker that no stage of the engine can read: which topics do they subscribe to?
 * And its bridges: which topics do they take?
 *
 * In: what the program reads from accepted connections of the kernel's (kconn.c), and what it gets
 * out of TLS (tls.c), whoever carries it; out: ClientID and filters for the MQTT stage, in
 * KERNEL_CONN, answered before the program gets the bytes.  So only topics that match go slow,
 * instead of all (docs/MQTT.md).
 *
 * Of a connection that the broker opens to where its configuration has a bridge (broker.c) nothing
 * is read: that says what it takes.
 *
 * A connection is followed from its CONNECT on; if that asks for a session the stage does not know,
 * from a CONNACK that says there was none, and until then what the program writes is looked at,
 * too.  What cannot be followed (another protocol, a session that was there and that the stage does
 * not know, a packet too long, a read that is not seen as a run of bytes, a copy of the descriptor)
 * is not, for good, and then counts as it always did.
 *
 * State: a pool of SLOTS connections, each of one thread at a time; of this process only.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "common/map_sparse.h"
#include "libtoe/lt.h"
#include "modules/mqtt/mqtt_wire.h"

#define SLOTS      4096u
#define PACKET_MAX 4096u /* of CONNECT and SUBSCRIBE, without the fixed header */
#define FIRST_TLS  0x16u /* a handshake record; no control packet begins so */
#define BUSY_TRIES 100u
#define NEWS_BYTES sizeof(((struct toe_ctl_kconn *)0)->data)
/* Two seconds of a process's life. */
#define BRIDGE_TRIES    200u
#define BRIDGE_PAUSE_NS 10000000
/* In slot_of, until the descriptor is closed: not followed; nor known who it is, which is said
 * again at its end; or the engine believes to be told, so that nothing may be read. */
#define NOT_MINE UINT16_MAX
#define MISSED   (UINT16_MAX - 1)
#define REFUSED  (UINT16_MAX - 2)

enum { FREE, IDLE, BUSY };

struct slot {
	uint32_t state;
	bool told;   /* the engine counts it as followed */
	bool lost;   /* somebody read beside us */
	bool tls;    /* only what comes out of TLS counts */
	bool bridge; /* the program opened it: nothing that is read counts */
	bool heard;  /* the stage knows of it, whether it follows it or not */
	bool any;    /* it could not be told of: if it is accepted, any session may change */
	bool asked;  /* for a session nobody knows: CONNACK will say, ClientID in body */
	uint8_t level;
	uint8_t ack_n;
	uint8_t ack_body[2];
	uint16_t id_at; /* of the ClientID, with asked */
	uint16_t id_len;
	uint32_t len;              /* in body */
	struct mqtt_framer framer; /* of what is read */
	struct mqtt_framer ack;    /* of what is written, with asked */
	uint32_t conn;             /* number for the engine */
	uint32_t slot1;            /* as in toe_ctl_kconn */
};

static struct slot slots[SLOTS];
static uint8_t (*bodies)[PACKET_MAX]; /* of each */
static uint16_t *slot_of;             /* by descriptor: index + 1, or a mark */
static uint32_t conns;
static uint32_t next; /* where to look for a free slot */

int lt_follow_init(void)
{
	if (!bodies)
		bodies = toe_map_sparse(SLOTS * sizeof(*bodies));
	if (!slot_of && bodies)
		slot_of = calloc(lt_fds.n, sizeof(*slot_of));
	return slot_of ? 0 : -ENOMEM;
}

void lt_follow_reset(void)
{
	for (uint32_t i = 0; i < SLOTS; i++) {
		if (slots[i].state != FREE)
			slots[i].state = FREE;
	}
	for (uint32_t i = 0; slot_of && i < LT_PEEK(&lt_fds.used); i++) {
		if (slot_of[i] != 0)
			slot_of[i] = 0;
	}
}

static uint8_t *body_of(const struct slot *s)
{
	return bodies[s - slots];
}

static struct slot *get(int fd)
{
	uint16_t i = slot_of && (unsigned)fd < lt_fds.n ? LT_LOAD(&slot_of[fd]) : 0;

	return i != 0 && i <= SLOTS ? &slots[i - 1] : NULL;
}

/* In state BUSY, NULL: all are taken. */
static struct slot *take_slot(void)
{
	uint32_t from = LT_LOAD(&next);

	for (uint32_t i = 0; i < SLOTS; i++) {
		uint32_t none = FREE, at = (from + i) % SLOTS;

		if (LT_LOAD(&slots[at].state) != FREE ||
		    !__atomic_compare_exchange_n(&slots[at].state, &none, BUSY, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		LT_STORE(&next, at + 1);
		return &slots[at];
	}
	return NULL;
}

/* Whatever it does to any session, nobody sees it. */
static void say_missed(void)
{
	struct toe_ctl_kconn k = {.what = TOE_KCONN_MQTT_MISSED};

	lt_kconn_say(&k);
}

/* NULL: no room. */
static struct slot *open_slot(int fd, uint32_t slot1, bool tls)
{
	struct slot *s = take_slot();

	if (s) {
		s->told = s->lost = s->heard = s->any = s->asked = false;
		s->tls = tls;
		s->bridge = false;
		s->level = 0;
		s->framer = (struct mqtt_framer){0};
		s->conn = __atomic_add_fetch(&conns, 1, __ATOMIC_RELAXED);
		s->slot1 = slot1;
		LT_STORE(&s->state, IDLE);
	}
	LT_STORE(&slot_of[fd], s ? (uint16_t)(s - slots + 1) : NOT_MINE);
	return s;
}

static struct slot *begin(int fd, uint32_t slot1, bool tls)
{
	struct slot *s = open_slot(fd, slot1, tls);

	if (!s) {
		say_missed();
		LT_STORE(&slot_of[fd], MISSED);
	}
	return s;
}

void lt_follow_accepted(int fd)
{
	if (!slot_of || (unsigned)fd >= lt_fds.n)
		return;
	lt_follow_forget(fd, false); /* one that was closed behind our back */
	begin(fd, 0, false);
}

/* ---- packets ---- */

/* data of at most what a message takes; 0 or -errno. */
static int say(struct slot *s, uint8_t what, const uint8_t *data, size_t len)
{
	struct toe_ctl_kconn k = {
		.conn = s->conn, .slot1 = s->slot1, .what = what, .len = (uint16_t)len};
	int rc;

	if (len > sizeof(k.data))
		return -EMSGSIZE;
	if (len > 0)
		memcpy(k.data, data, len);
	rc = lt_kconn_say(&k);
	s->heard |= rc == 0 || rc == -ESRCH || rc == -ENOSPC || rc == -ENODEV;
	/* what was not answered may have been done all the same */
	if (rc == 0 || (rc == -ETIMEDOUT && toe_kconn_begins(what)))
		s->told = what != TOE_KCONN_MQTT_END;
	return rc;
}

/* CONNACK will tell more.  id: of the session that nobody knows, in the body; NULL: any. */
static bool await_answer(struct slot *s, const struct mqtt_str *id)
{
	s->any = !id;
	s->id_at = id ? (uint16_t)(id->data - body_of(s)) : 0;
	s->id_len = id ? id->len : 0;
	s->ack = (struct mqtt_framer){0};
	s->ack_n = 0;
	LT_STORE(&s->asked, true);
	return true;
}

/* The stage refuses one that may have subscriptions it does not know.  MQTT 3.1 does not say in
 * CONNACK whether there were any. */
static bool on_connect(struct slot *s)
{
	struct mqtt_connect con;
	struct mqtt_str *id = &con.client_id;
	uint8_t what = TOE_KCONN_MQTT_RESUME;
	int rc;

	if (mqtt_connect_parse(body_of(s), s->len, &con) != 0)
		return false; /* the broker refuses it, too */
	s->level = con.level;
	if (con.clean)
		what = con.session_expiry_s != 0 ? TOE_KCONN_MQTT_NEW : TOE_KCONN_MQTT_CONNECT;
	rc = say(s, what, id->data, id->len);
	if (rc == 0)
		return true;
	if (!s->heard)
		return await_answer(s, NULL);
	return rc == -ESRCH && !con.clean && con.level != MQTT_LEVEL_31 && await_answer(s, id);
}

/* As many to a message as fit. */
static bool say_filters(struct slot *s, const struct lt_filters *f)
{
	size_t from = 0;

	for (size_t at = 0; at < f->len;) {
		size_t to = at + 1 + f->data[at];

		if (to - from > NEWS_BYTES) {
			if (say(s, TOE_KCONN_MQTT_FILTER, f->data + from, at - from) != 0)
				return false;
			from = at;
		}
		at = to;
	}
	return from == f->len || say(s, TOE_KCONN_MQTT_FILTER, f->data + from, f->len - from) == 0;
}

/* Packed where they stand: length and filter take less than they did in the packet. */
static bool on_subscribe(struct slot *s)
{
	struct lt_filters f = {body_of(s), 0};
	struct mqtt_subscribe sub;
	struct mqtt_sub_item item;

	if (mqtt_subscribe_parse(s->level, body_of(s), s->len, &sub) != 0)
		return false;
	while (mqtt_subscribe_next(&sub, &item)) {
		uint8_t *to = body_of(s) + f.len;

		if (1u + item.filter.len > NEWS_BYTES)
			return false;
		memmove(to + 1, item.filter.data, item.filter.len);
		to[0] = (uint8_t)item.filter.len;
		f.len += 1u + item.filter.len;
	}
	return say_filters(s, &f);
}

/* ---- bytes ---- */

static bool is_kept(uint8_t first)
{
	return mqtt_first_type(first) == MQTT_CONNECT || mqtt_first_type(first) == MQTT_SUBSCRIBE;
}

/* What the broker would not take, or what would be taken for what it is not. */
static bool may_begin(const struct slot *s, uint8_t first, uint32_t remaining)
{
	bool connects = mqtt_first_type(first) == MQTT_CONNECT;

	if (connects != (s->level == 0) || (!connects && is_kept(first) && remaining > PACKET_MAX))
		return false;
	if (s->asked && is_kept(first))
		return false; /* the ClientID is still needed */
	return mqtt_first_type(first) != 0 &&
	       (!is_kept(first) || mqtt_first_valid(connects ? MQTT_LEVEL_311 : s->level, first));
}

/* A part of a packet of the client's; false: not to be followed. */
static bool take_part(struct slot *s, enum mqtt_framer_event ev, const struct mqtt_frame_part *part)
{
	if (ev == MQTT_FR_MORE)
		return true;
	if (ev == MQTT_FR_ERROR ||
	    (ev == MQTT_FR_HEADER && !may_begin(s, part->first, part->remaining)))
		return false;
	if (!is_kept(part->first))
		return true;
	if (part->remaining > PACKET_MAX) { /* CONNECT */
		s->level = MQTT_LEVEL_5;
		return !part->last || await_answer(s, NULL);
	}
	if (ev == MQTT_FR_HEADER)
		s->len = 0;
	if (ev == MQTT_FR_BODY) {
		memcpy(body_of(s) + s->len, part->data, part->len);
		s->len += (uint32_t)part->len;
	}
	return !part->last || (s->level == 0 ? on_connect(s) : on_subscribe(s));
}

static bool feed(struct slot *s, const uint8_t *data, size_t len)
{
	while (len > 0) {
		enum mqtt_framer_event ev;
		struct mqtt_frame_part part;
		size_t n = mqtt_framer_feed(&s->framer, data, len, &ev, &part);

		if (!take_part(s, ev, &part))
			return false;
		data += n;
		len -= n;
	}
	return true;
}

/* What the broker answers to CONNECT: flags and reason (3.2.2).  False: not to be followed. */
static bool feed_answer(struct slot *s, const uint8_t *data, size_t len)
{
	while (len > 0 && s->asked) {
		enum mqtt_framer_event ev;
		struct mqtt_frame_part part;
		size_t n = mqtt_framer_feed(&s->ack, data, len, &ev, &part);

		if (ev == MQTT_FR_ERROR ||
		    (ev == MQTT_FR_HEADER && mqtt_first_type(part.first) != MQTT_CONNACK))
			return false;
		for (size_t i = 0; ev == MQTT_FR_BODY && i < part.len && s->ack_n < 2; i++)
			s->ack_body[s->ack_n++] = part.data[i];
		if (s->ack_n == 2) {
			LT_STORE(&s->asked, false);
			if (s->ack_body[1] != 0)
				s->any = false;
			if (s->ack_body[0] != 0 || s->ack_body[1] != 0 || s->any)
				return false; /* there was one, or the client is refused */
			return say(s, TOE_KCONN_MQTT_NEW, body_of(s) + s->id_at, s->id_len) == 0;
		}
		data += n;
		len -= n;
	}
	return true;
}

/* closed: all that was read of it was seen.  False: the engine still takes it for followed; next
 * time again. */
static bool give_up(int fd, struct slot *s, bool closed)
{
	const uint8_t lost[1] = {1};
	size_t len = closed && !LT_LOAD(&s->lost) ? 0 : 1;
	uint16_t after = 0;
	bool missed;
	uint16_t index = (uint16_t)(s - slots + 1);
	int rc = s->told ? say(s, TOE_KCONN_MQTT_END, lost, len) : 0;

	for (unsigned i = 0; i < BUSY_TRIES && rc == -EBUSY; i++) {
		sched_yield();
		rc = say(s, TOE_KCONN_MQTT_END, lost, len);
	}
	if (rc != 0) {
		LT_STORE(&s->lost, true);
		LT_STORE(&s->state, IDLE);
		return false;
	}
	missed = !s->heard && (LT_LOAD(&s->lost) || (!closed && s->any));
	if (missed)
		say_missed();
	if (!closed)
		after = missed ? MISSED : NOT_MINE;
	/* unless the number belongs to another one by now */
	__atomic_compare_exchange_n(&slot_of[fd], &index, after, false, __ATOMIC_ACQ_REL,
				    __ATOMIC_RELAXED);
	LT_STORE(&s->state, FREE);
	return true;
}

static bool hold(struct slot *s)
{
	uint32_t idle = IDLE;

	return __atomic_compare_exchange_n(&s->state, &idle, BUSY, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* Ends hold().  Whoever came meanwhile has left word in lost, or holds it now itself: both sides
 * store, fence, load.  False: as give_up(). */
static bool release(int fd, struct slot *s)
{
	LT_STORE(&s->state, IDLE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !LT_LOAD(&s->lost) || !hold(s) || give_up(fd, s, false);
}

/* Somebody else has it, and what we do is not seen. */
static bool lose(int fd, struct slot *s)
{
	LT_STORE(&s->lost, true);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !hold(s) || give_up(fd, s, false);
}

/* n bytes of the stream that is followed, or -1 and errno: the program may not have them. */
static ssize_t take_in(int fd, struct slot *s, const uint8_t *data, ssize_t n, bool tls)
{
	int saved = errno;
	bool ok;

	if (!hold(s)) {
		ok = lose(fd, s);
	} else {
		if (!tls && !s->level && mqtt_framer_idle(&s->framer) && data[0] == FIRST_TLS)
			LT_STORE(&s->tls, true);
		if (LT_LOAD(&s->lost) || (tls && !s->tls) ||
		    (tls == s->tls && !feed(s, data, (size_t)n)))
			ok = give_up(fd, s, false);
		else
			ok = release(fd, s);
	}
	errno = ok ? saved : ECONNRESET;
	return ok ? n : -1;
}

static bool refused(int fd)
{
	if (!slot_of || (unsigned)fd >= lt_fds.n || LT_LOAD(&slot_of[fd]) != REFUSED)
		return false;
	errno = ECONNRESET;
	return true;
}

ssize_t lt_follow_read(int fd, const void *data, ssize_t n)
{
	struct slot *s = get(fd);

	if (LT_UNLIKELY(refused(fd)))
		return -1;
	return n > 0 && s && !LT_LOAD(&s->tls) ? take_in(fd, s, data, n, false) : n;
}

/* Of the engine's connections only those are followed that TLS is read from: the rest the stage
 * reads itself, or it is no MQTT that anybody would look for. */
ssize_t lt_follow_tls(int fd, const void *data, ssize_t n)
{
	struct slot *s = get(fd);
	struct lt_sock c;

	if (n <= 0 || !slot_of || (unsigned)fd >= lt_fds.n)
		return n;
	if (LT_UNLIKELY(refused(fd)))
		return -1;
	if (s && LT_LOAD(&s->bridge))
		return n;
	if (!s && LT_LOAD(&slot_of[fd]) == 0 && lt_sock_get(fd, &c))
		s = begin(fd, c.slot + 1, true);
	return s ? take_in(fd, s, data, n, true) : n;
}

void lt_follow_wrote(int fd, const void *data, ssize_t n, bool tls)
{
	struct slot *s = n > 0 ? get(fd) : NULL;
	int saved = errno;

	if (!s || !LT_LOAD(&s->asked) || LT_LOAD(&s->tls) != tls)
		return;
	if (!hold(s))
		lose(fd, s);
	else if (LT_LOAD(&s->lost) || !feed_answer(s, data, (size_t)n))
		give_up(fd, s, false);
	else
		release(fd, s);
	errno = saved;
}

bool lt_follow_unseen(int fd)
{
	struct slot *s = get(fd);

	return !refused(fd) && ((s && LT_LOAD(&s->tls)) || lt_follow_forget(fd, false));
}

bool lt_follow_forget(int fd, bool closed)
{
	struct slot *s = get(fd);
	int saved = errno;
	bool ok = true;

	if (s && closed && hold(s)) {
		ok = give_up(fd, s, true);
	} else if (s) {
		ok = lose(fd, s);
	} else if (closed && slot_of && (unsigned)fd < lt_fds.n && LT_LOAD(&slot_of[fd]) != 0) {
		if (LT_LOAD(&slot_of[fd]) == MISSED)
			say_missed();
		LT_STORE(&slot_of[fd], 0);
	}
	errno = saved;
	return ok;
}

/* ---- bridges ---- */

static bool alone(int fd)
{
	lt_ent e = lt_fd_get(fd);

	for (uint32_t i = 0; i < LT_PEEK(&lt_fds.used); i++) {
		if ((int)i != fd && lt_fd_get((int)i) == e)
			return false;
	}
	return true;
}

/* While clients of the broker before it are still there the stage does not want to know; that is
 * over soon, or there are two brokers. */
static int say_bridge(struct slot *s)
{
	static uint32_t tries = BRIDGE_TRIES;
	const struct timespec pause = {.tv_nsec = BRIDGE_PAUSE_NS};
	int rc = say(s, TOE_KCONN_MQTT_BRIDGE, NULL, 0);

	while (rc == -EAGAIN && LT_LOAD(&tries) > 0) {
		__atomic_sub_fetch(&tries, 1, __ATOMIC_RELAXED);
		nanosleep(&pause, NULL);
		rc = say(s, TOE_KCONN_MQTT_BRIDGE, NULL, 0);
	}
	return rc;
}

/* Its topics go slow before the broker can have a message for it. */
void lt_follow_connecting(int fd, uint32_t slot1, uint16_t port)
{
	struct lt_filters f;
	int saved = errno;
	struct slot *s = get(fd);

	if (!slot_of || (unsigned)fd >= lt_fds.n || (s && LT_LOAD(&s->bridge)) ||
	    !lt_broker_bridge(port, &f))
		return;
	lt_follow_forget(fd, true); /* one that was closed behind our back */
	s = alone(fd) ? open_slot(fd, slot1, true) : NULL;
	if (s && hold(s)) {
		LT_STORE(&s->bridge, true);
		if (say_bridge(s) != 0 || !say_filters(s, &f))
			give_up(fd, s, false);
		else
			release(fd, s);
	}
	errno = saved;
}

/* Reads from either are not seen.  As long as the engine does not know, none may succeed. */
void lt_follow_duplicated(int fd, int to)
{
	bool ok = (unsigned)fd >= lt_fds.n || lt_follow_forget(fd, false);

	if (slot_of && (unsigned)fd < lt_fds.n && LT_LOAD(&slot_of[fd]) == 0)
		LT_STORE(&slot_of[fd], NOT_MINE);
	if (slot_of && (unsigned)to < lt_fds.n)
		LT_STORE(&slot_of[to], ok ? NOT_MINE : REFUSED);
}
