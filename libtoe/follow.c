// SPDX-License-Identifier: BSD-3-Clause
/*
 * MQTT clients of a broker that no stage of the engine can read: which topics do they subscribe to?
 *
 * In: what the program reads from accepted connections of the kernel's (kconn.c), and what it gets
 * out of TLS (tls.c), whoever carries it; out: ClientID and filters for the MQTT stage, in
 * KERNEL_CONN, answered before the program gets the bytes.  So only topics that match go slow,
 * instead of all (docs/MQTT.md).
 *
 * A connection is followed from its CONNECT on.  What cannot be followed (another protocol, a
 * session that may be resumed and that the stage does not know, a packet too long, a read that is
 * not seen as a run of bytes, a copy of the descriptor) is not, for good, and then counts as it
 * always did.
 *
 * State: a pool of SLOTS connections, each of one thread at a time; of this process only.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "common/map_sparse.h"
#include "libtoe/lt.h"

#define SLOTS      4096u
#define PACKET_MAX 4096u /* of CONNECT and SUBSCRIBE, without the fixed header */
#define CLEAN_FLAG 0x02u /* 3.1.2.4 */
#define BRIDGE_BIT 0x80u /* mosquitto's, in the protocol level */
#define FIRST_CONN 0x10u
#define FIRST_SUB  0x82u
#define FIRST_TLS  0x16u /* a handshake record; no control packet begins so */
#define BUSY_TRIES 100u
#define NOT_MINE   UINT16_MAX /* in slot_of: not to be followed until it is closed */

enum { FREE, IDLE, BUSY };

struct slot {
	uint32_t state;
	bool told; /* the engine counts it as followed */
	bool lost; /* somebody read beside us */
	bool tls;  /* only what comes out of TLS counts */
	uint8_t level;
	uint8_t first;  /* of the current packet; 0: at a boundary */
	uint8_t shift;  /* of its remaining length; UINT8_MAX: complete */
	uint32_t left;  /* bytes of the body to come */
	uint32_t len;   /* in body */
	uint32_t conn;  /* number for the engine */
	uint32_t slot1; /* as in toe_ctl_kconn */
};

static struct slot slots[SLOTS];
static uint8_t (*bodies)[PACKET_MAX]; /* of each */
static uint16_t *slot_of;             /* by descriptor: index + 1, or NOT_MINE */
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
	for (uint32_t i = 0; slot_of && i < LT_PEEK(&lt_fds.used); i++)
		slot_of[i] = 0;
}

static uint8_t *body_of(const struct slot *s)
{
	return bodies[s - slots];
}

static struct slot *get(int fd)
{
	uint16_t i = slot_of && (unsigned)fd < lt_fds.n ? LT_LOAD(&slot_of[fd]) : 0;

	return i != 0 && i != NOT_MINE ? &slots[i - 1] : NULL;
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

static struct slot *begin(int fd, uint32_t slot1, bool tls)
{
	struct slot *s = take_slot();

	if (s) {
		s->told = s->lost = false;
		s->tls = tls;
		s->level = s->first = 0;
		s->conn = __atomic_add_fetch(&conns, 1, __ATOMIC_RELAXED);
		s->slot1 = slot1;
		LT_STORE(&s->state, IDLE);
	}
	LT_STORE(&slot_of[fd], s ? (uint16_t)(s - slots + 1) : NOT_MINE);
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
	if (rc == 0)
		s->told = what != TOE_KCONN_MQTT_END;
	return rc;
}

/* A string of two bytes of length and its text at body[*at]; false: it is not all there. */
static bool take(const struct slot *s, uint32_t *at, const uint8_t **text, uint32_t *len)
{
	if (s->len - *at < 2)
		return false;
	*len = (uint32_t)body_of(s)[*at] << 8 | body_of(s)[*at + 1];
	*at += 2;
	*text = &body_of(s)[*at];
	if (s->len - *at < *len)
		return false;
	*at += *len;
	return true;
}

/* MQTT 5: properties and their length; true: at is behind them. */
static bool skip_props(const struct slot *s, uint32_t *at)
{
	uint32_t n = 0;

	for (unsigned shift = 0; s->level == 5; shift += 7) {
		if (shift > 21 || *at >= s->len)
			return false;
		n |= (uint32_t)(body_of(s)[*at] & 0x7fu) << shift;
		if (!(body_of(s)[(*at)++] & 0x80u))
			break;
	}
	if (s->len - *at < n)
		return false;
	*at += n;
	return true;
}

/* The stage refuses one that may have subscriptions it does not know. */
static bool on_connect(struct slot *s)
{
	const uint8_t *text;
	uint32_t at = 0, len, flags;

	if (s->level || !take(s, &at, &text, &len) || s->len - at < 4)
		return false;
	s->level = body_of(s)[at] & (uint8_t)~BRIDGE_BIT;
	flags = body_of(s)[at + 1];
	at += 4;
	if (s->level < 3 || s->level > 5 || !skip_props(s, &at) || !take(s, &at, &text, &len))
		return false;
	return say(s, flags & CLEAN_FLAG ? TOE_KCONN_MQTT_CONNECT : TOE_KCONN_MQTT_RESUME, text,
		   len) == 0;
}

static bool on_subscribe(struct slot *s)
{
	const uint8_t *text;
	uint32_t at = 2, len;

	if (!s->level || s->len < 2 || !skip_props(s, &at))
		return false;
	while (at < s->len) {
		if (!take(s, &at, &text, &len) || at++ >= s->len)
			return false;
		if (say(s, TOE_KCONN_MQTT_FILTER, text, len) != 0)
			return false;
	}
	return true;
}

/* ---- bytes ---- */

/* The body is complete as far as it matters; false: not to be followed. */
static bool packet(struct slot *s)
{
	uint8_t first = s->first;

	s->first = 0;
	if (first == FIRST_CONN)
		return on_connect(s);
	return first != FIRST_SUB || on_subscribe(s);
}

/* A packet may begin so.  The flags of those that do not matter are the broker's to judge. */
static bool may_begin(const struct slot *s, uint8_t first)
{
	if (!s->level)
		return first == FIRST_CONN;
	return first >> 4 != 0 && first >> 4 != FIRST_CONN >> 4 &&
	       (first >> 4 != FIRST_SUB >> 4 || first == FIRST_SUB);
}

static bool header(struct slot *s, uint8_t byte)
{
	if (!s->first) {
		s->first = byte;
		s->shift = 0;
		s->left = s->len = 0;
		return may_begin(s, byte);
	}
	s->left |= (uint32_t)(byte & 0x7fu) << s->shift;
	s->shift = (uint8_t)(s->shift + 7);
	if (byte & 0x80u)
		return s->shift <= 21;
	s->shift = UINT8_MAX;
	if ((s->first == FIRST_CONN || s->first == FIRST_SUB) && s->left > PACKET_MAX)
		return false;
	return s->left > 0 || packet(s);
}

static bool feed(struct slot *s, const uint8_t *data, size_t len)
{
	while (len > 0) {
		size_t n = 1;

		if (!s->first || s->shift != UINT8_MAX) {
			if (!header(s, *data))
				return false;
		} else {
			n = len < s->left ? len : s->left;
			if (s->first == FIRST_CONN || s->first == FIRST_SUB) {
				memcpy(body_of(s) + s->len, data, n);
				s->len += (uint32_t)n;
			}
			s->left -= (uint32_t)n;
			if (s->left == 0 && !packet(s))
				return false;
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
	uint16_t index = (uint16_t)(s - slots + 1);
	int rc = s->told ? say(s, TOE_KCONN_MQTT_END, lost, len) : 0;

	for (unsigned i = 0; i < BUSY_TRIES && rc == -EBUSY; i++) {
		sched_yield();
		rc = say(s, TOE_KCONN_MQTT_END, lost, len);
	}
	if (rc != 0) {
		s->lost = true;
		LT_STORE(&s->state, IDLE);
		return false;
	}
	/* unless the number belongs to another one by now */
	__atomic_compare_exchange_n(&slot_of[fd], &index, closed ? 0 : NOT_MINE, false,
				    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	LT_STORE(&s->state, FREE);
	return true;
}

static bool hold(struct slot *s)
{
	uint32_t idle = IDLE;

	return __atomic_compare_exchange_n(&s->state, &idle, BUSY, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* n bytes of the stream that is followed, or -1 and errno: the program may not have them. */
static ssize_t take_in(int fd, struct slot *s, const uint8_t *data, ssize_t n, bool tls)
{
	int saved = errno;
	bool ok = true;

	if (!hold(s)) {
		LT_STORE(&s->lost, true); /* whoever holds it gives it up */
		return n;
	}
	if (!tls && !s->level && !s->first && data[0] == FIRST_TLS)
		LT_STORE(&s->tls, true);
	if (LT_LOAD(&s->lost) || (tls && !s->tls) ||
	    (tls == s->tls && (!feed(s, data, (size_t)n) || LT_LOAD(&s->lost))))
		ok = give_up(fd, s, false);
	else
		LT_STORE(&s->state, IDLE);
	errno = ok ? saved : ECONNRESET;
	return ok ? n : -1;
}

ssize_t lt_follow_read(int fd, const void *data, ssize_t n)
{
	struct slot *s = get(fd);

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
	if (!s && LT_LOAD(&slot_of[fd]) == 0 && lt_sock_get(fd, &c))
		s = begin(fd, c.slot + 1, true);
	return s ? take_in(fd, s, data, n, true) : n;
}

bool lt_follow_unseen(int fd)
{
	struct slot *s = get(fd);

	return (s && LT_LOAD(&s->tls)) || lt_follow_forget(fd, false);
}

bool lt_follow_forget(int fd, bool closed)
{
	struct slot *s = get(fd);
	int saved = errno;
	bool ok = true;

	if (s && hold(s))
		ok = give_up(fd, s, closed);
	else if (s)
		LT_STORE(&s->lost, true);
	else if (closed && slot_of && (unsigned)fd < lt_fds.n)
		LT_STORE(&slot_of[fd], 0);
	errno = saved;
	return ok;
}

void lt_follow_duplicated(int fd, int to)
{
	lt_follow_forget(fd, false);
	if (slot_of && (unsigned)fd < lt_fds.n && !get(fd))
		LT_STORE(&slot_of[fd], NOT_MINE);
	if (slot_of && (unsigned)to < lt_fds.n)
		LT_STORE(&slot_of[to], NOT_MINE);
}
