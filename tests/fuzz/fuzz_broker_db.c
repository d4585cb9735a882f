// SPDX-License-Identifier: BSD-3-Clause
/* LINK: common/broker_db.c */
/*
 * libFuzzer target: a database of a broker.  Whatever is in the file, texts lie in memory that is
 * the reader's, and a session is told once.  `make fuzz` builds and runs it.
 */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "common/broker_db.h"

static uint8_t last[UINT16_MAX];
static size_t last_len;

static uint32_t sum(const uint8_t *p, size_t n)
{
	uint32_t s = 0;

	for (size_t i = 0; i < n; i++)
		s += p[i];
	return s;
}

static int look(void *arg, const struct broker_db_session *s)
{
	uint32_t *all = arg;

	FUZZ_CHECK(s->client_id_len > 0);
	FUZZ_CHECK(s->client_id_len != last_len || memcmp(last, s->client_id, last_len) != 0);
	last_len = s->client_id_len;
	memcpy(last, s->client_id, last_len);
	for (size_t i = 0; i < s->n; i++)
		*all += sum(s->subs[i].filter, s->subs[i].filter_len);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("db", 0);
	char path[32];
	uint32_t all = 0;

	FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	last_len = 0;
	FUZZ_CHECK(broker_db_read(path, look, &all) <= 0);
	close(fd);
	return 0;
}
