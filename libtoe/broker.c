// SPDX-License-Identifier: BSD-3-Clause
/*
 * A broker's files, read along in its process, with its rights and in its directory.
 *
 * In: the configuration file `toe run` has seen on the command line (TOE_BROKER_CONF) and the
 * database it names; out: for the MQTT stage, sessions the broker begins with (KERNEL_CONN).  A
 * broker reads its database before it listens and does not write it before it has served somebody.
 * So, looked at before the engine serves the first listener, it says what the broker knows, unless
 * another broker has written it since this one was started: then nothing is told.
 *
 * State: of the start.  Thread: the program's that listens first.
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

static char db[PATH_MAX]; /* "": none */
static struct stat db_was;
static bool listens;

struct telling {
	int64_t until_ns;
	struct toe_ctl_kconn k; /* what has not been sent yet */
	uint32_t sessions;
	int why; /* the first error: not all are known */
};

void lt_broker_init(void)
{
	const char *conf = getenv(TOE_ENV_BROKER);

	if (!conf || broker_conf_db(conf, db, sizeof(db)) <= 0)
		db[0] = '\0';
	else if (stat(db, &db_was) < 0)
		db[0] = '\0'; /* it begins with nothing */
}

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

void lt_broker_listens(void)
{
	struct telling t = {.until_ns = lt_now_ns() + TELL_MS * INT64_C(1000000)};
	int saved = errno;
	int rc;

	if (listens)
		return;
	listens = true;
	if (!db[0])
		return;
	rc = unchanged() ? broker_db_read(db, tell, &t) : -EAGAIN;
	if (rc == 0)
		rc = flush(&t);
	report(&t, rc);
	errno = saved;
}
