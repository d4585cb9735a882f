// SPDX-License-Identifier: BSD-3-Clause
/* LINK: common/broker_db.c */
/* broker_db: sessions in a database that mosquitto 2.0.11 wrote, and in ones it would not have. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/broker_db.h"
#include "common/bytes.h"

#define REAL "tests/unit/data/broker/sessions.db"
#define HEAD 23u /* magic, checksum, version */

static char seen[2048];
static char dir[] = "/tmp/test_broker_db.XXXXXX";
static char path[64];

/* "id: filter options identifier, ...; " */
static int note(void *arg, const struct broker_db_session *s)
{
	size_t at = strlen(seen);

	at += (size_t)snprintf(seen + at, sizeof(seen) - at, "%.*s:", s->client_id_len,
			       (const char *)s->client_id);
	for (size_t i = 0; i < s->n; i++)
		at += (size_t)snprintf(seen + at, sizeof(seen) - at, " %.*s %x %u,",
				       s->subs[i].filter_len, (const char *)s->subs[i].filter,
				       s->subs[i].options, s->subs[i].id);
	snprintf(seen + at, sizeof(seen) - at, "; ");
	return *(int *)arg;
}

static int read_it(const char *file)
{
	int rc = 0;

	seen[0] = '\0';
	return broker_db_read(file, note, &rc);
}

/* MQTT 3.1, 3.1.1 and 5; stored and retained messages, and a client with a clean session. */
static void test_real(void **state)
{
	int stop = 7;

	(void)state;
	assert_int_equal(read_it(REAL), 0);
	assert_non_null(strstr(seen, "none:; "));
	assert_non_null(strstr(seen, "old: +/x 0 0,; "));
	assert_true(strstr(seen, "ab: a/# 1 0, / 0 0,; ") || strstr(seen, "ab: / 0 0, a/# 1 0,; "));
	assert_true(strstr(seen, "nl: a/# 5 300, b/+ a 0,; ") ||
		    strstr(seen, "nl: b/+ a 0, a/# 5 300,; "));
	assert_null(strstr(seen, "gone"));
	seen[0] = '\0';
	assert_int_equal(broker_db_read(REAL, note, &stop), stop);
	assert_ptr_equal(strchr(seen, ';'), strrchr(seen, ';'));
}

static void write_db(const uint8_t *data, size_t n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

/* Half of a file says nothing, unless it happens to end between two chunks. */
static void test_cut(void **state)
{
	static uint8_t db[4096];
	FILE *f = fopen(REAL, "r");
	size_t n = fread(db, 1, sizeof(db), f), whole = HEAD;

	(void)state;
	fclose(f);
	for (size_t cut = 0; cut < n; cut++) {
		write_db(db, cut);
		if (cut > whole)
			whole += 8 + toe_get32(db + whole + 4);
		assert_int_equal(read_it(path), cut == whole ? 0 : -EBADMSG);
		assert_true(cut == whole || seen[0] == '\0');
	}
	db[HEAD - 1] = 5;
	write_db(db, n);
	assert_int_equal(read_it(path), -EPROTONOSUPPORT);
}

struct db {
	uint8_t b[512];
	size_t n;
};

static void chunk(struct db *d, uint32_t type, const char *id, const char *text, uint32_t lie)
{
	uint8_t *p = d->b + d->n;
	uint32_t fixed = type == 6 ? 24 : 12, id_len = (uint32_t)strlen(id);
	uint32_t len = fixed + id_len + (uint32_t)strlen(text);

	if (d->n == 0) {
		memcpy(p, "\0\xb5\0mosquitto db\0\0\0\0\0\0\0\6", HEAD);
		p += HEAD;
	}
	memset(p, 0, 8 + fixed);
	toe_put32(p, type);
	toe_put32(p + 4, len);
	p += 8;
	toe_put16(p + (type == 6 ? 14 : 4), id_len + lie);
	toe_put16(p + (type == 6 ? 18 : 6), (uint32_t)strlen(text));
	memcpy(p + fixed, id, id_len);
	memcpy(p + fixed + id_len, text, strlen(text));
	d->n = (size_t)(p + len - d->b);
}

static int read_made(const struct db *d)
{
	write_db(d->b, d->n);
	return read_it(path);
}

static void test_made(void **state)
{
	struct db d = {0};

	(void)state;
	chunk(&d, 5, "b", "t/#", 0);
	chunk(&d, 5, "nobody", "x", 0);
	chunk(&d, 6, "b", "user", 0);
	chunk(&d, 6, "a", "", 0);
	chunk(&d, 5, "b", "", 0); /* the broker would refuse it; who reads this will, too */
	assert_int_equal(read_made(&d), 0);
	assert_string_equal(seen, "a:; b: t/# 0 0,  0 0,; ");
	chunk(&d, 6, "a", "", 0);
	assert_int_equal(read_made(&d), -EBADMSG);
	assert_string_equal(seen, "");
	for (unsigned type = 5; type <= 7; type++) {
		d.n = 0;
		chunk(&d, type, "id", "text", type < 7);
		assert_int_equal(read_made(&d), -EBADMSG);
		d.n = 0;
		chunk(&d, type, "", "text", 0);
		assert_int_equal(read_made(&d), -EBADMSG);
	}
	d.n = 0;
	chunk(&d, 6, "id", "", 0);
	toe_put32(d.b + HEAD + 4, UINT32_MAX);
	assert_int_equal(read_made(&d), -EFBIG);
	toe_put32(d.b + HEAD, 2); /* a message, that long */
	assert_int_equal(read_made(&d), -EBADMSG);
	toe_put32(d.b + HEAD, 6);
	toe_put32(d.b + HEAD + 4, 23); /* no room for the fields */
	d.n = HEAD + 8 + 23;
	assert_int_equal(read_made(&d), -EBADMSG);
}

static void test_unreadable(void **state)
{
	(void)state;
	unlink(path);
	assert_int_equal(read_it(path), -ENOENT);
	assert_int_equal(read_it(dir), -EBADMSG);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(read_it(path), -EBADMSG);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_made),
		cmocka_unit_test(test_unreadable),
	};
	int rc;

	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(path, sizeof(path), "%s/db", dir);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(dir);
	return rc;
}
