/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel is the oracle: plain socket code (a scenario) runs on it and on libtoe with the fake
 * engine, each in its own process, and both must print the same transcript.  LT_SHOW=1 prints it.
 */
#ifndef LT_ORACLE_H
#define LT_ORACLE_H

#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

extern const char *addr; /* where the other end is */
extern const char *addr6;
extern FILE *out; /* the transcript */
extern volatile sig_atomic_t sigs;

void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A call's result with the name of its errno. */
long result(const char *what, long rc);
#define R(call) result(#call, call)

struct sockaddr_in at(const char *ip, int port);
pid_t fork_child(void); /* an alarm is not inherited: with one of its own */
int listen_any(int *port);
int connect_to(int port, int socket_flags);
void make_pair(int *c, int *s); /* c by connect, s by accept */
/* Waits up to 5 s until poll() says all of want. */
void await(int fd, short want);
void show_poll(const char *what, int fd);
int so_error(int fd);
void fill(uint8_t *buf, size_t n, uint32_t seed);
ssize_t read_all(int fd, uint8_t *buf, size_t len); /* len bytes, or to the end */
void catch_signal(int sig, int flags);              /* counts in sigs */

struct oracle_case {
	const char *name;
	void (*scenario)(void);
};
#define CASE(f)                                                                                    \
	{                                                                                          \
#f, f                                                                              \
	}
/* Runs them (or those that match argv[1]); the program's exit status. */
int oracle_main(const struct oracle_case *cases, size_t n, int argc, char **argv);

#endif
