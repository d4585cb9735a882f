// SPDX-License-Identifier: BSD-3-Clause
/*
 * A broker's files, read along in its process, with its rights and in its directory.
 *
 * In: the configuration file `toe run` has seen on the command line (TOE_BROKER_CONF) and the
 * database it names; out, for the MQTT stage (KERNEL_CONN): that the broker begins, sessions it
 * begins with, and whether its configuration is still safe with offload after SIGHUP.  For
 * follow.c: which topics its bridges take.
 *
 * A broker reads its database before it listens and does not write it before it has served
 * somebody.  So, looked at before the first listener is one, it says what the broker knows, unless
 * another broker has written it since this one was started: then nothing is told.
 *
 * A broker reads its configuration again between two epoll_wait().  SIGHUP may come when it has
 * just looked whether it came, so the next but one epoll_wait() is behind it for certain.
 *
 * State: of the start; turns until the configuration is looked at.  Threads: the program's that
 * listens first, the one that waits for events; lt_broker_reload() in a signal handler.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/broker_conf.h"
#include "common/broker_db.h"
#include "common/bytes.h"
#include "common/log.h"
#include "libtoe/lt.h"

#define TELL_MS   5000 /* listen() takes no longer */
#define AGAIN_MS  10   /* while clients of the broker before are still there */
#define SUB_BYTES 5u   /* before the filter */
#define TURNS     2u
#define FINDINGS  64

static char conf[PATH_MAX]; /* "": not known, as the next */
static char db[PATH_MAX];
static struct stat db_was;
static bool listens;
static struct broker_bridges bridges; /* the broker begins with; none, if not known */
static int bridge_n;                  /* as broker_conf_bridges() */

struct telling {
	int64_t until_ns;
	struct toe_ctl_kconn k; /* what has not been sent yet */
	uint32_t sessions;
	int why; /* the first error: not all are known */
};

void lt_broker_init(void)
{
	const char *path = getenv(TOE_ENV_BROKER);

	if (path && strlen(path) < sizeof(conf))
		memcpy(conf, path, strlen(path) + 1);
	if (conf[0])
		bridge_n = broker_conf_bridges(conf, &bridges);
	if (!conf[0] || broker_conf_db(conf, db, sizeof(db)) <= 0)
		db[0] = '\0';
	else if (stat(db, &db_was) < 0)
		db[0] = '\0'; /* it begins with nothing */
}

/* ---- its database ---- */

static bool unchanged(void)
{
	struct stat now;

	return stat(db, &now) == 0 && now.st_dev == db_was.st_dev && now.st_ino == db_was.st_ino &&
	       now.st_size == db_was.st_size && now.st_mtim.tv_sec == db_was.st_mtim.tv_sec &&
	       now.st_mtim.tv_nsec == db_was.st_mtim.tv_nsec;
}

/* 0; -ENODEV, -ENOENT: nobody wants to know; -ETIMEDOUT.  Anything else is about some session. */
static int flush(struct telling *t)
{
	const struct timespec pause = {.tv_nsec = AGAIN_MS * 1000000L};
	int rc = 0;

	t->k.what = TOE_KCONN_MQTT_RESTORE;
	while (t->k.len > 0) {
		rc = lt_kconn_say(&t->k);
		if (lt_now_ns() >= t->until_ns)
			return -ETIMEDOUT;
		if (rc != -EAGAIN)
			break;
		nanosleep(&pause, NULL);
	}
	t->k.len = 0;
	if (rc == -ENODEV || rc == -ENOENT)
		return rc;
	if (t->why == 0)
		t->why = rc;
	return 0;
}

/* As flush(); -EMSGSIZE: it does not fit at all. */
static int add(struct telling *t, uint8_t type, const uint8_t *head, size_t head_len,
	       const uint8_t *text, size_t len)
{
	size_t n = head_len + len;
	uint8_t *at;
	int rc = 0;

	if (n + 2 > sizeof(t->k.data))
		return -EMSGSIZE;
	if (t->k.len + n + 2 > sizeof(t->k.data))
		rc = flush(t);
	if (rc < 0)
		return rc;
	at = t->k.data + t->k.len;
	at[0] = type;
	at[1] = (uint8_t)n;
	if (head_len > 0)
		memcpy(at + 2, head, head_len);
	if (len > 0)
		memcpy(at + 2 + head_len, text, len);
	t->k.len = (uint16_t)(t->k.len + n + 2);
	return 0;
}

static int add_subs(struct telling *t, const struct broker_db_session *s)
{
	int rc = 0;

	for (size_t i = 0; i < s->n && rc == 0; i++) {
		uint8_t head[SUB_BYTES] = {s->subs[i].options};

		toe_put32(head + 1, s->subs[i].id);
		rc = add(t, TOE_RESTORE_SUB, head, sizeof(head), s->subs[i].filter,
			 s->subs[i].filter_len);
	}
	return rc;
}

/* One that does not end is unknown. */
static int tell(void *arg, const struct broker_db_session *s)
{
	struct telling *t = arg;
	int rc = add(t, TOE_RESTORE_SESSION, NULL, 0, s->client_id, s->client_id_len);

	t->sessions++;
	if (rc == 0)
		rc = add_subs(t, s);
	if (rc == 0)
		rc = add(t, TOE_RESTORE_WHOLE, NULL, 0, NULL, 0);
	if (rc == -EMSGSIZE) {
		t->why = rc;
		rc = 0;
	}
	return rc;
}

static void report(const struct telling *t, int rc)
{
	if (rc == -ENODEV || rc == -ENOENT)
		return;
	if (rc == -EAGAIN)
		LOG_WARN("%s was written while the broker was starting: its sessions stay unknown "
			 "to MQTT offload",
			 db);
	else if (rc < 0 && rc != -ETIMEDOUT)
		LOG_WARN("%s: %s: its sessions stay unknown to MQTT offload", db, strerror(-rc));
	else if (rc < 0 || t->why != 0)
		LOG_WARN("%s: not all sessions are known to MQTT offload (%s)", db,
			 strerror(rc < 0 ? -rc : -t->why));
	else if (t->sessions > 0)
		LOG_INFO("%s: %u sessions, known to MQTT offload", db, t->sessions);
}

/* What the stage knows of sessions it has from another process of this application: a broker that a
 * script has started again.  This one has what was in its database, or nothing. */
static void begin_anew(int64_t until_ns)
{
	struct toe_ctl_kconn k = {.what = TOE_KCONN_MQTT_MISSED};
	int rc;

	do {
		rc = lt_kconn_say(&k);
	} while ((rc == -EBUSY || rc == -ETIMEDOUT) && lt_now_ns() < until_ns);
	if (rc == -EBUSY || rc == -ETIMEDOUT)
		LOG_WARN("MQTT offload does not answer: it may know sessions that are not there");
}

void lt_broker_listens(void)
{
	struct telling t = {.until_ns = lt_now_ns() + TELL_MS * INT64_C(1000000)};
	int saved = errno;
	int rc;

	if (listens)
		return;
	listens = true;
	if (!lt_ready())
		return;
	begin_anew(t.until_ns);
	if (db[0]) {
		rc = unchanged() ? broker_db_read(db, tell, &t) : -EAGAIN;
		if (rc == 0)
			rc = flush(&t);
		report(&t, rc);
	}
	errno = saved;
}

/* ---- its configuration ---- */

bool lt_broker_bridge(uint16_t port, struct lt_filters *f)
{
	for (unsigned i = 0; bridge_n > 0 && i < bridges.port_n; i++) {
		if (bridges.ports[i] != port)
			continue;
		*f = (struct lt_filters){bridges.filters, bridges.len};
		return true;
	}
	return false;
}

/* Whether the broker minds or not: what was told is of those it began with. */
static bool bridges_changed(void)
{
	struct broker_bridges now;
	int n = broker_conf_bridges(conf, &now);

	return n != bridge_n || (n > 0 && memcmp(&now, &bridges, sizeof(now)) != 0);
}

uint32_t lt_broker_turns;

void lt_broker_reload(void)
{
	if (conf[0])
		LT_STORE(&lt_broker_turns, TURNS);
}

/* What is unsafe; its length, 0: nothing is. */
static size_t unsafe(char *text, size_t room)
{
	struct broker_finding list[FINDINGS];
	int n = broker_conf_scan(conf, list, FINDINGS);
	int i = 0;
	int len;

	while (i < n && i < FINDINGS && !list[i].unsafe)
		i++;
	if (n < 0)
		len = snprintf(text, room, "%.80s cannot be read: %s", conf, strerror(-n));
	else if (i == FINDINGS)
		len = snprintf(text, room, "%.80s: more than can be looked at", conf);
	else if (i < n)
		len = snprintf(text, room, "%.100s:%u: %s", list[i].file, list[i].line,
			       list[i].option);
	else if (bridges_changed())
		len = snprintf(text, room, "%.100s: other bridges: start the broker again", conf);
	else
		return 0;
	return (size_t)len < room ? (size_t)len : room - 1;
}

/* One of several threads that wait takes the last one. */
static bool last_turn(void)
{
	uint32_t left = LT_LOAD(&lt_broker_turns);

	while (left > 0 && !__atomic_compare_exchange_n(&lt_broker_turns, &left, left - 1, false,
							__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
	return left == 1;
}

void lt_broker_check(void)
{
	struct toe_ctl_kconn k = {.what = TOE_KCONN_MQTT_CHECKED};
	char text[sizeof(k.data)] = "";
	int saved = errno;
	uint32_t n;
	int rc;

	/* not before the engine knows that there is something to look at */
	if (lt_kconn_reloads(&n) && last_turn()) {
		k.len = (uint16_t)unsafe(text, sizeof(text));
		memcpy(k.data, text, k.len);
		rc = lt_kconn_checked(n, &k);
		if (rc == 0 && k.len > 0)
			LOG_WARN("MQTT offload is suspended: %s", text);
		else if (rc == 0)
			LOG_INFO("%s: nothing makes MQTT offload unsafe: it goes on", conf);
	}
	errno = saved;
}
