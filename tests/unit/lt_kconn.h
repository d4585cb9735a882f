/* SPDX-License-Identifier: BSD-3-Clause */
/* For tests of libtoe: listeners and connections that stay the kernel's, and what the engine
 * (lt_fake.h) was told of them. */
#ifndef LT_KCONN_H
#define LT_KCONN_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "lt_case.h"
#include "lt_fake.h"

static inline uint32_t told(void)
{
	return fake_stats->kernel_conns;
}

static inline int loopback_listener(struct sockaddr_in *sa, bool only)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(*sa);

	*sa = (struct sockaddr_in){.sin_family = AF_INET};
	sa->sin_addr.s_addr = only ? htonl(INADDR_LOOPBACK) : INADDR_ANY;
	CHECK(bind(fd, (struct sockaddr *)sa, sizeof(*sa)) == 0);
	CHECK(listen(fd, 5) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)sa, &len) == 0);
	sa->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return fd;
}

static inline int to_kernel(const struct sockaddr_in *sa)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0);
	return fd;
}

/* What the engine was told, which is forgotten. */
static inline bool news_are(const char *want)
{
	const char *news = (const char *)fake_stats->news;
	bool same = strcmp(news, want) == 0;

	if (!same)
		fprintf(stderr, "news: %s\nwant: %s\n", news, want);
	fake_stats->news[0] = '\0';
	return same;
}

#endif
