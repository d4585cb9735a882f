// SPDX-License-Identifier: BSD-3-Clause
/*
 * MQTT clients of a broker that no stage of the engine can read: which topics do they subscribe to?
 * And its bridges: which topics do they take?
 *
 * In: what the program reads from accepted connections of the kernel's (kconn.c), and, whoever
 * carries it, what is in WebSocket and what it gets out of TLS (tls.c); out: ClientID and filters
 * for the MQTT stage, in KERNEL_CONN, answered before the program gets the bytes (follow_news.c).
 * So only topics that match go slow, instead of all (docs/MQTT.md).
 *
 * Of a connection that the broker opens to where its configuration has a bridge (broker.c) nothing
 * is read: that says what it takes.
 *
 * A connection is followed from the CONNACK on that accepts it, so until then what the program
 * writes is looked at, too.  What cannot be followed (another protocol, a session that was there
 * and that the stage does not know, a packet too long, a read that is not seen as a run of bytes, a
 * copy of the descriptor) is not, for good, and then counts as it always did.
 *
 * State: a pool of SLOTS connections, each of one thread at a time; of this process only.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "common/map_sparse.h"
#include "libtoe/follow.h"

#define SLOTS         4096u
#define FIRST_TLS     0x16u /* a handshake record; no control packet begins so */
#define FIRST_TLS2    0x80u /* this bit: a ClientHello as of SSL 2, which some servers take */
#define BUSY_TRIES    100u
#define HOLD_PAUSE_NS 40000000 /* of half of them: two seconds in all, longer than any call */
/* Two seconds of a process's life. */
#define BRIDGE_TRIES    200u
#define BRIDGE_PAUSE_NS 10000000
/* In lt_follow_of, until the descriptor is closed, beside LT_FOLLOW_NOT: nor known who it is, which
 * is said again at its end; the engine believes to be told, so that nothing may be read; one of the
 * engine's that was accepted, and from which nothing has been read, or only TLS. */
#define MISSED  (LT_FOLLOW_TLS - 1)
#define REFUSED (LT_FOLLOW_TLS - 2)
#define FRESH   (LT_FOLLOW_TLS - 3)

static struct lt_follow slots[SLOTS];
static struct lt_follow_room *rooms; /* of each, as webs */
static struct lt_follow_web *webs;
uint16_t *lt_follow_of; /* by descriptor: index + 1, or a mark */
static uint32_t conns;
static uint32_t next; /* where to look for a free slot: the last one that was left */

int lt_follow_init(void)
{
	if (!rooms)
		rooms = toe_map_sparse(SLOTS * sizeof(*rooms));
	if (!webs)
		webs = toe_map_sparse(SLOTS * sizeof(*webs));
	if (!lt_follow_of && rooms && webs)
		lt_follow_of = calloc(lt_fds.n, sizeof(*lt_follow_of));
	return lt_follow_of ? 0 : -ENOMEM;
}

void lt_follow_reset(void)
{
	for (uint32_t i = 0; i < SLOTS; i++) {
		if (slots[i].state != LT_FOLLOW_FREE)
			slots[i].state = LT_FOLLOW_FREE;
	}
	for (uint32_t i = 0; lt_follow_of && i < LT_PEEK(&lt_fds.used); i++) {
		if (lt_follow_of[i] != 0)
			lt_follow_of[i] = 0;
	}
}

static bool known(int fd)
{
	return lt_follow_of && (unsigned)fd < lt_fds.n;
}

static struct lt_follow *get(int fd)
{
	uint16_t i = lt_follow_mark(fd);

	return i != 0 && i <= SLOTS ? &slots[i - 1] : NULL;
}

/* In state LT_FOLLOW_BUSY, NULL: all are taken. */
static struct lt_follow *take_slot(void)
{
	uint32_t from = LT_LOAD(&next);

	for (uint32_t i = 0; i < SLOTS; i++) {
		uint32_t none = LT_FOLLOW_FREE, at = (from + i) % SLOTS;

		if (LT_LOAD(&slots[at].state) != LT_FOLLOW_FREE ||
		    !__atomic_compare_exchange_n(&slots[at].state, &none, LT_FOLLOW_BUSY, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		return &slots[at];
	}
	return NULL;
}

/* What it does to the session of that ClientID, with len 0 to any, nobody sees. */
static int say_missed(const uint8_t *id, uint16_t len)
{
	struct toe_ctl_kconn k = {.what = TOE_KCONN_MQTT_MISSED, .len = len};

	if (len > 0)
		memcpy(k.data, id, len);
	return lt_kconn_say(&k);
}

/* NULL: no room. */
static struct lt_follow *open_slot(int fd, uint32_t slot1, bool tls)
{
	struct lt_follow *s = take_slot();

	if (s) {
		s->told = s->lost = s->deaf = s->bridge = s->heard = s->watch = false;
		s->asked = s->accepted = s->any = false;
		s->tls = tls;
		s->web = NULL;
		s->level = 0;
		s->framer = s->ack = (struct mqtt_framer){0};
		s->ack_n = 0;
		s->conn = __atomic_add_fetch(&conns, 1, __ATOMIC_RELAXED);
		s->slot1 = slot1;
		s->room = &rooms[s - slots];
		LT_STORE(&s->state, LT_FOLLOW_IDLE);
	}
	LT_STORE(&lt_follow_of[fd], s ? (uint16_t)(s - slots + 1) : LT_FOLLOW_NOT);
	return s;
}

static struct lt_follow *begin(int fd, uint32_t slot1, bool tls)
{
	struct lt_follow *s = open_slot(fd, slot1, tls);

	if (!s) {
		say_missed(NULL, 0);
		LT_STORE(&lt_follow_of[fd], MISSED);
	}
	return s;
}

void lt_follow_accepted(int fd)
{
	if (!known(fd))
		return;
	lt_follow_forget(fd, false); /* one that was closed behind our back */
	begin(fd, 0, false);
}

void lt_follow_came(int fd)
{
	if (known(fd))
		LT_STORE(&lt_follow_of[fd], FRESH);
}

/* ---- bytes ---- */

/* One that is followed no more and that the stage has not heard of: 0 or -errno; *again: to be said
 * at its end, too.  What is refused, or no MQTT, changes no session; of one that left without an
 * answer nobody knows. */
static int say_unread(struct lt_follow *s, bool closed, bool *again)
{
	bool known = s->asked && !s->any;
	bool other = s->web && lt_ws_open(&s->web->in) && !s->web->in.mqtt && !s->asked;

	*again = false;
	if (s->heard || other || (known && s->id_len == 0))
		return 0;
	if (!LT_LOAD(&s->lost) && !s->accepted && !(closed && known))
		return 0;
	*again = !known && !closed;
	return say_missed(s->room->id, known ? s->id_len : 0);
}

/* If not, it may be said later; what nobody wants to know is done. */
static bool said(int rc)
{
	return rc != -EBUSY && rc != -EDEADLK && rc != -ETIMEDOUT;
}

/* closed: all that was read of it was seen.  False: the engine still takes it for followed; next
 * time again. */
static bool give_up(int fd, struct lt_follow *s, bool closed)
{
	const uint8_t lost[1] = {1};
	size_t len = closed && !LT_LOAD(&s->lost) ? 0 : 1;
	uint16_t after = closed ? 0 : LT_FOLLOW_NOT;
	bool again = false;
	uint16_t index = (uint16_t)(s - slots + 1);
	int rc = s->told ? lt_follow_say(s, TOE_KCONN_MQTT_END, lost, len) : 0;

	for (unsigned i = 0; i < BUSY_TRIES && rc == -EBUSY; i++) {
		sched_yield();
		rc = lt_follow_say(s, TOE_KCONN_MQTT_END, lost, len);
	}
	if (rc == 0)
		s->told = false;
	if (rc != 0 || !said(say_unread(s, closed, &again))) {
		LT_STORE(&s->lost, true);
		LT_STORE(&s->state, LT_FOLLOW_IDLE);
		return false;
	}
	if (again)
		after = MISSED;
	/* unless the number belongs to another one by now */
	__atomic_compare_exchange_n(&lt_follow_of[fd], &index, after, false, __ATOMIC_ACQ_REL,
				    __ATOMIC_RELAXED);
	LT_STORE(&next, (uint32_t)(s - slots));
	LT_STORE(&s->state, LT_FOLLOW_FREE);
	return true;
}

static bool hold(struct lt_follow *s)
{
	uint32_t idle = LT_FOLLOW_IDLE;

	return __atomic_compare_exchange_n(&s->state, &idle, LT_FOLLOW_BUSY, false,
					   __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* One thread may write while another reads, and wait for the engine. */
static bool hold_soon(struct lt_follow *s)
{
	const struct timespec pause = {.tv_nsec = HOLD_PAUSE_NS};

	for (unsigned i = 0; i < BUSY_TRIES; i++) {
		if (hold(s))
			return true;
		if (i < BUSY_TRIES / 2)
			sched_yield();
		else
			nanosleep(&pause, NULL);
	}
	return false;
}

/* Ends hold().  Whoever came meanwhile has left word in lost, or holds it now itself: both sides
 * store, fence, load.  False: as give_up(). */
static bool release(int fd, struct lt_follow *s)
{
	LT_STORE(&s->state, LT_FOLLOW_IDLE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !LT_LOAD(&s->lost) || !hold(s) || give_up(fd, s, false);
}

/* Somebody else has it, and what we do is not seen. */
static bool lose(int fd, struct lt_follow *s)
{
	LT_STORE(&s->lost, true);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !hold(s) || give_up(fd, s, false);
}

/* HTTP begins so, whatever the method; no control packet of a client does before CONNECT. */
static bool is_letter(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* What is around MQTT, if anything, as the connection's first byte says. */
static void look(struct lt_follow *s, uint8_t first, bool tls)
{
	if (s->web || s->level || !mqtt_framer_idle(&s->framer))
		return;
	if (!tls && (first == FIRST_TLS || (first & FIRST_TLS2))) {
		LT_STORE(&s->tls, true);
	} else if (is_letter(first)) {
		s->web = &webs[s - slots];
		lt_ws_begin(&s->web->in, LT_WS_CLIENT);
		lt_ws_begin(&s->web->out, LT_WS_SERVER);
		LT_STORE(&s->watch, true);
	}
}

/* n bytes of the stream that is followed, or -1 and errno: the program may not have them. */
static ssize_t take_in(int fd, struct lt_follow *s, const uint8_t *data, ssize_t n, bool tls)
{
	int saved = errno;
	bool ok;

	if (LT_LOAD(&s->watch) ? !hold_soon(s) : !hold(s)) {
		ok = lose(fd, s);
	} else {
		look(s, data[0], tls);
		if (LT_LOAD(&s->lost) || (tls && !s->tls) ||
		    (tls == s->tls && !lt_follow_in(s, data, (size_t)n)))
			ok = give_up(fd, s, false);
		else
			ok = release(fd, s);
	}
	errno = ok ? saved : ECONNRESET;
	return ok ? n : -1;
}

static bool refused(int fd)
{
	if (lt_follow_mark(fd) != REFUSED)
		return false;
	errno = ECONNRESET;
	return true;
}

/* The first bytes of one of the engine's.  Plain MQTT the stage reads itself, or it is of a port
 * that could be its; HTTP may become WebSocket. */
static struct lt_follow *fresh(int fd, uint8_t first)
{
	struct lt_sock c;

	if (is_letter(first) && lt_sock_get(fd, &c))
		return begin(fd, c.slot + 1, false);
	LT_STORE(&lt_follow_of[fd], LT_FOLLOW_TLS);
	return NULL;
}

ssize_t lt_follow_read(int fd, const void *data, ssize_t n)
{
	struct lt_follow *s = get(fd);

	if (LT_UNLIKELY(refused(fd)))
		return -1;
	if (n > 0 && lt_follow_mark(fd) == FRESH)
		s = fresh(fd, *(const uint8_t *)data);
	return n > 0 && s && !LT_LOAD(&s->tls) ? take_in(fd, s, data, n, false) : n;
}

static bool untouched(uint16_t of)
{
	return of == 0 || of == FRESH || of == LT_FOLLOW_TLS;
}

ssize_t lt_follow_tls(int fd, const void *data, ssize_t n)
{
	struct lt_follow *s = get(fd);
	struct lt_sock c;

	if (n <= 0 || !known(fd))
		return n;
	if (LT_UNLIKELY(refused(fd)))
		return -1;
	if (s && LT_LOAD(&s->bridge))
		return n;
	if (!s && untouched(lt_follow_mark(fd)) && lt_sock_get(fd, &c))
		s = begin(fd, c.slot + 1, true);
	return s ? take_in(fd, s, data, n, true) : n;
}

/* If the peer is gone, nothing comes after it: what did not get out is as good as what did.  If it
 * was the answer to CONNECT, it decides. */
static bool peer_gone(void)
{
	return errno == EPIPE || errno == ECONNRESET || errno == ETIMEDOUT;
}

void lt_follow_wrote(int fd, const void *data, size_t len, ssize_t n, bool tls)
{
	struct lt_follow *s = get(fd);
	int saved = errno;

	if (n < 0 && peer_gone())
		n = (ssize_t)len;
	if (n <= 0 || !s || !LT_LOAD(&s->watch) || LT_LOAD(&s->tls) != tls)
		return;
	if (!hold_soon(s))
		lose(fd, s);
	else if (LT_LOAD(&s->lost) || !lt_follow_out(s, data, (size_t)n))
		give_up(fd, s, false);
	else
		release(fd, s);
	errno = saved;
}

void lt_follow_wrote_unseen(int fd)
{
	struct lt_follow *s = get(fd);
	int saved = errno;

	if (s && LT_LOAD(&s->watch) && !LT_LOAD(&s->tls))
		lose(fd, s);
	errno = saved;
}

bool lt_follow_unseen(int fd)
{
	struct lt_follow *s = get(fd);

	if (lt_follow_mark(fd) == FRESH)
		LT_STORE(&lt_follow_of[fd], LT_FOLLOW_TLS); /* nothing else can be told any more */
	return !refused(fd) && ((s && LT_LOAD(&s->tls)) || lt_follow_forget(fd, false));
}

bool lt_follow_forget(int fd, bool closed)
{
	struct lt_follow *s = get(fd);
	int saved = errno;
	bool ok = true;

	if (s && closed && hold(s)) {
		ok = give_up(fd, s, true);
	} else if (s) {
		ok = lose(fd, s);
	} else if (closed && lt_follow_mark(fd) != 0) {
		if (lt_follow_mark(fd) == MISSED)
			say_missed(NULL, 0);
		LT_STORE(&lt_follow_of[fd], 0);
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
static int say_bridge(struct lt_follow *s)
{
	static uint32_t tries = BRIDGE_TRIES;
	const struct timespec pause = {.tv_nsec = BRIDGE_PAUSE_NS};
	int rc = lt_follow_say(s, TOE_KCONN_MQTT_BRIDGE, NULL, 0);

	while (rc == -EAGAIN && LT_LOAD(&tries) > 0) {
		__atomic_sub_fetch(&tries, 1, __ATOMIC_RELAXED);
		nanosleep(&pause, NULL);
		rc = lt_follow_say(s, TOE_KCONN_MQTT_BRIDGE, NULL, 0);
	}
	return rc;
}

/* Its topics go slow before the broker can have a message for it. */
void lt_follow_connecting(int fd, uint32_t slot1, uint16_t port)
{
	struct lt_filters f;
	int saved = errno;
	struct lt_follow *s = get(fd);

	if (!known(fd) || (s && LT_LOAD(&s->bridge)) || !lt_broker_bridge(port, &f))
		return;
	lt_follow_forget(fd, true); /* one that was closed behind our back */
	s = alone(fd) ? open_slot(fd, slot1, true) : NULL;
	if (s && hold(s)) {
		LT_STORE(&s->bridge, true);
		if (say_bridge(s) != 0 || !lt_follow_filters(s, &f))
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

	if (known(fd) && untouched(lt_follow_mark(fd)))
		LT_STORE(&lt_follow_of[fd], LT_FOLLOW_NOT);
	if (known(to))
		LT_STORE(&lt_follow_of[to], ok ? LT_FOLLOW_NOT : REFUSED);
}
