// SPDX-License-Identifier: BSD-3-Clause
/*
 * MQTT clients of a broker that come through the kernel: which topics do they subscribe to?
 *
 * In: what the program reads from accepted connections of the kernel's (kconn.c); out: ClientID and
 * filters for the MQTT stage, in KERNEL_CONN, answered before the program gets the bytes.  So only
 * topics that match go slow, instead of all (docs/MQTT.md).
 *
 * A connection is followed from its CONNECT on.  What cannot be followed (TLS, another protocol, a
 * session that may be resumed and that the stage does not know, a packet too long, a read that is
 * not seen as a run of bytes, a copy of the descriptor) is not, for good, and then counts as it
 * always did.
 *
 * State: a pool of SLOTS connections, each of one thread at a time; of this process only.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "libtoe/lt.h"

#define SLOTS      64u
#define PACKET_MAX 4096u /* of CONNECT and SUBSCRIBE, without the fixed header */
#define CLEAN_FLAG 0x02u /* 3.1.2.4 */
#define BRIDGE_BIT 0x80u /* mosquitto's, in the protocol level */
#define FIRST_CONN 0x10u
#define FIRST_SUB  0x82u
#define BUSY_TRIES 100u

enum { FREE, IDLE, BUSY };

struct slot {
	uint32_t state;
	bool told; /* the engine counts it as followed */
	bool lost; /* somebody read beside us */
	uint8_t level;
	uint8_t first; /* of the current packet; 0: at a boundary */
	uint8_t shift; /* of its remaining length; UINT8_MAX: complete */
	uint32_t left; /* bytes of the body to come */
	uint32_t len;  /* in body */
	uint32_t conn; /* number for the engine */
	uint8_t body[PACKET_MAX];
};

static struct slot slots[SLOTS];
static uint8_t *slot_of; /* by descriptor: index + 1 */
static uint32_t conns;

int lt_kmqtt_init(void)
{
	if (!slot_of)
		slot_of = calloc(lt_fds.n, 1);
	return slot_of ? 0 : -ENOMEM;
}

void lt_kmqtt_reset(void)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		slots[i].state = FREE;
	if (slot_of)
		memset(slot_of, 0, lt_fds.n);
}

static struct slot *get(int fd)
{
	uint8_t i = slot_of && (unsigned)fd < lt_fds.n ? LT_LOAD(&slot_of[fd]) : 0;

	return i ? &slots[i - 1] : NULL;
}

void lt_kmqtt_accepted(int fd)
{
	if (!slot_of || (unsigned)fd >= lt_fds.n)
		return;
	lt_kmqtt_forget(fd, false); /* one that was closed behind our back */
	for (uint32_t i = 0; i < SLOTS; i++) {
		uint32_t none = FREE;

		if (!__atomic_compare_exchange_n(&slots[i].state, &none, BUSY, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		slots[i].told = slots[i].lost = false;
		slots[i].level = slots[i].first = 0;
		slots[i].conn = __atomic_add_fetch(&conns, 1, __ATOMIC_RELAXED);
		LT_STORE(&slots[i].state, IDLE);
		LT_STORE(&slot_of[fd], (uint8_t)(i + 1));
		return;
	}
}

/* ---- packets ---- */

/* data of at most what a message takes; 0 or -errno. */
static int say(struct slot *s, uint8_t what, const uint8_t *data, size_t len)
{
	struct toe_ctl_kconn k = {.conn = s->conn, .what = what, .len = (uint16_t)len};
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
	*len = (uint32_t)s->body[*at] << 8 | s->body[*at + 1];
	*at += 2;
	*text = &s->body[*at];
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
		n |= (uint32_t)(s->body[*at] & 0x7fu) << shift;
		if (!(s->body[(*at)++] & 0x80u))
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
	s->level = s->body[at] & (uint8_t)~BRIDGE_BIT;
	flags = s->body[at + 1];
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
				memcpy(s->body + s->len, data, n);
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
	uint8_t index = (uint8_t)(s - slots + 1);
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
	__atomic_compare_exchange_n(&slot_of[fd], &index, 0, false, __ATOMIC_ACQ_REL,
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

ssize_t lt_kmqtt_read(int fd, const void *data, ssize_t n)
{
	struct slot *s = get(fd);
	int saved = errno;
	bool ok = true;

	if (n <= 0 || !s)
		return n;
	if (!hold(s)) {
		LT_STORE(&s->lost, true); /* whoever holds it gives it up */
		return n;
	}
	if (LT_LOAD(&s->lost) || !feed(s, data, (size_t)n) || LT_LOAD(&s->lost))
		ok = give_up(fd, s, false);
	else
		LT_STORE(&s->state, IDLE);
	errno = ok ? saved : ECONNRESET;
	return ok ? n : -1;
}

bool lt_kmqtt_forget(int fd, bool closed)
{
	struct slot *s = get(fd);
	int saved = errno;
	bool ok = true;

	if (s && hold(s))
		ok = give_up(fd, s, closed);
	else if (s)
		LT_STORE(&s->lost, true);
	errno = saved;
	return ok;
}
