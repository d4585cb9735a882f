/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cases that run on libtoe with the fake engine, each in a process of its own with its own engine,
 * under an alarm.
 */
#ifndef LT_CASE_H
#define LT_CASE_H

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* In a scenario: prints and fails the case. */
#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "line %d: %s (errno %s)\n", __LINE__, #x,                  \
				strerrorname_np(errno));                                           \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

extern pid_t engine; /* the fake one of this case */

pid_t fork_child(void); /* an alarm is not inherited: with one of its own */
int listen_any(int *port);
int try_connect(int port, int socket_flags); /* a descriptor or -errno */
void make_pair(int *c, int *s);              /* c by connect, s by accept */
void read_exactly(int fd, void *buf, size_t len);
void nap(int ms);
void *bounce(void *arg); /* a thread: sends back single bytes on *(int *)arg */

struct lt_case {
	const char *name;
	void (*run)(void);
};
#define CASE(f)                                                                                    \
	{                                                                                          \
#f, f                                                                              \
	}
/* Runs them (or those that match argv[1]); the program's exit status. */
int case_main(const struct lt_case *cases, size_t n, int argc, char **argv);

#endif
