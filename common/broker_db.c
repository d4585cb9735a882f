// SPDX-License-Identifier: BSD-3-Clause
/*
 * Reader of mosquitto.db, version 6 (mosquitto 2.0).
 *
 * In: a file of a broker; nothing in it is trusted.  Out: sessions with their subscriptions.  A
 * magic, then chunks of type, length and data in network order; an interesting one begins with
 * fields of fixed size, then texts.  Chunks of clients and subscriptions are kept until the end,
 * sorted by ClientID, since those of one session are not together.  No state.
 */
#include "common/broker_db.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/open_regular.h"

#define MAGIC        "\0\xb5\0mosquitto db"
#define MAGIC_BYTES  15u
#define HEAD_BYTES   (MAGIC_BYTES + 8u) /* a checksum that is 0, the version */
#define VERSION      6u
#define CHUNK_SUB    5u
#define CHUNK_LAST   6u
#define CHUNK_CLIENT CHUNK_LAST
#define KEEP_MAX     (64u << 20)
/* of the fixed fields */
#define CLIENT_BYTES 24u
#define SUB_BYTES    12u

/* A chunk that is kept: offsets into keep.data, which moves. */
struct record {
	size_t id;
	size_t filter;
	uint32_t sub_id;
	uint16_t id_len;
	uint16_t filter_len;
	uint8_t options;
	bool client;
};

struct keep {
	uint8_t *data;
	size_t len, room;
	struct record *list;
	size_t n, list_room;
};

/* ---- chunks ---- */

static void *room_for(void *old, size_t *room, size_t need, size_t size)
{
	size_t n = *room ? *room : 1024;
	void *p = old;

	while (n < need)
		n *= 2;
	if (n != *room)
		p = realloc(old, n * size);
	if (p)
		*room = n;
	return p;
}

static int reserve(struct keep *k, uint32_t len)
{
	void *data, *list;

	if (len > KEEP_MAX - k->len)
		return -EFBIG;
	data = room_for(k->data, &k->room, k->len + len, 1);
	if (data)
		k->data = data;
	list = room_for(k->list, &k->list_room, k->n + 1, sizeof(*k->list));
	if (list)
		k->list = list;
	return data && list ? 0 : -ENOMEM;
}

/* Fields of the chunk of len bytes at data[at]. */
static int parse(struct keep *k, uint32_t type, size_t at, uint32_t len)
{
	struct record *r = &k->list[k->n];
	const uint8_t *p = k->data + at;
	uint32_t rest;

	*r = (struct record){.client = type == CHUNK_CLIENT};
	if (len < (r->client ? CLIENT_BYTES : SUB_BYTES))
		return -EBADMSG;
	if (r->client) {
		r->id = at + CLIENT_BYTES;
		r->id_len = (uint16_t)toe_get16(p + 14);
		rest = toe_get16(p + 18); /* user name */
		len -= CLIENT_BYTES;
	} else {
		r->sub_id = toe_get32(p);
		r->id = at + SUB_BYTES;
		r->id_len = (uint16_t)toe_get16(p + 4);
		r->filter = r->id + r->id_len;
		r->filter_len = (uint16_t)toe_get16(p + 6);
		r->options = (uint8_t)((p[8] & 3) | (p[9] & ~3));
		rest = r->filter_len;
		len -= SUB_BYTES;
	}
	if (r->id_len + rest != len || r->id_len == 0)
		return -EBADMSG;
	k->n++;
	return 0;
}

/* 1: there was one; 0: the end. */
static int chunk(struct keep *k, FILE *f)
{
	uint8_t head[8];
	size_t got = fread(head, 1, sizeof(head), f);
	uint32_t type, len;
	int rc;

	if (got != sizeof(head))
		return got == 0 && feof(f) ? 0 : -EBADMSG;
	type = toe_get32(head);
	len = toe_get32(head + 4);
	if (type == 0 || type > CHUNK_LAST)
		return -EBADMSG;
	if (type < CHUNK_SUB)
		return fseeko(f, len, SEEK_CUR) == 0 ? 1 : -EBADMSG;
	rc = reserve(k, len);
	if (rc == 0 && fread(k->data + k->len, 1, len, f) != len)
		rc = -EBADMSG;
	if (rc == 0)
		rc = parse(k, type, k->len, len);
	k->len += len;
	return rc < 0 ? rc : 1;
}

static int read_all(struct keep *k, FILE *f)
{
	uint8_t head[HEAD_BYTES];
	off_t size;
	int rc;

	if (fread(head, 1, sizeof(head), f) != sizeof(head) ||
	    memcmp(head, MAGIC, MAGIC_BYTES) != 0)
		return -EBADMSG;
	if (toe_get32(head + MAGIC_BYTES + 4) != VERSION)
		return -EPROTONOSUPPORT;
	do
		rc = chunk(k, f);
	while (rc > 0);
	if (rc < 0)
		return rc;
	/* the last chunk may have been skipped beyond the end */
	size = ftello(f);
	return fseeko(f, 0, SEEK_END) == 0 && ftello(f) == size ? 0 : -EBADMSG;
}

/* ---- sessions ---- */

/* By ClientID, the client before its subscriptions. */
static int by_id(const void *a, const void *b, void *arg)
{
	const struct record *ra = a, *rb = b;
	const struct keep *k = arg;
	int rc;

	if (ra->id_len != rb->id_len)
		return ra->id_len < rb->id_len ? -1 : 1;
	rc = memcmp(k->data + ra->id, k->data + rb->id, ra->id_len);
	return rc ? rc : (int)rb->client - (int)ra->client;
}

static bool same_id(const struct keep *k, const struct record *a, const struct record *b)
{
	return a->id_len == b->id_len && memcmp(k->data + a->id, k->data + b->id, a->id_len) == 0;
}

static bool any_twice(const struct keep *k)
{
	for (size_t i = 1; i < k->n; i++) {
		if (k->list[i].client && same_id(k, &k->list[i - 1], &k->list[i]))
			return true;
	}
	return false;
}

static int tell(const struct keep *k, broker_db_fn each, void *arg)
{
	struct broker_db_sub *subs = calloc(k->n + 1, sizeof(*subs));
	int rc = subs ? 0 : -ENOMEM;

	for (size_t i = 0; i < k->n && rc == 0;) {
		const struct record *first = &k->list[i];
		struct broker_db_session s = {.client_id = k->data + first->id,
					      .client_id_len = first->id_len,
					      .subs = subs};

		for (i += first->client; i < k->n && same_id(k, first, &k->list[i]); i++) {
			const struct record *r = &k->list[i];

			subs[s.n++] = (struct broker_db_sub){.filter = k->data + r->filter,
							     .filter_len = r->filter_len,
							     .options = r->options,
							     .id = r->sub_id};
		}
		/* subscriptions of nobody are nobody's in the broker, too */
		if (first->client)
			rc = each(arg, &s);
	}
	free(subs);
	return rc;
}

int broker_db_read(const char *path, broker_db_fn each, void *arg)
{
	struct keep k = {0};
	FILE *f = NULL;
	int rc = toe_open_regular(path, &f);

	if (rc == -EISDIR || rc == -EOPNOTSUPP)
		rc = -EBADMSG;
	if (rc < 0)
		return rc;
	rc = read_all(&k, f);
	fclose(f);
	if (rc == 0 && k.n > 0) {
		qsort_r(k.list, k.n, sizeof(*k.list), by_id, &k);
		rc = any_twice(&k) ? -EBADMSG : tell(&k, each, arg);
	}
	free(k.data);
	free(k.list);
	return rc;
}
