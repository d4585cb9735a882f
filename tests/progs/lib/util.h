/* SPDX-License-Identifier: BSD-3-Clause */
/* What the test programs share: time, numbers, patterns, sockets.  They end the process on misuse.
 */
#ifndef TOE_TEST_UTIL_H
#define TOE_TEST_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "tests/progs/lib/hist.h"

/* Message to stderr, exit code 2: the test could not be carried out. */
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

uint64_t now_ns(void);

/* Decimal with optional K, M, G (powers of 1024). */
uint64_t parse_u64(const char *text, const char *what);

/* Byte at position pos of a stream that repeats only after 2^64: a shift or swap of any size shows.
 */
static inline uint8_t pattern_byte(uint64_t pos, uint64_t seed)
{
	uint64_t x = (pos >> 3) * 0x9e3779b97f4a7c15ull + seed;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return (uint8_t)(x >> (8 * (pos & 7)));
}

void pattern_fill(uint8_t *buf, size_t len, uint64_t pos, uint64_t seed);
/* Index of the first byte that differs, len if none. */
size_t pattern_check(const uint8_t *buf, size_t len, uint64_t pos, uint64_t seed);

/* xorshift64*, state not zero. */
uint64_t rng_next(uint64_t *state);

/* A numeric address, IPv4 or IPv6 (fe80::1%eth0); its length. */
socklen_t address(const char *host, uint16_t port, struct sockaddr_storage *ss);

/* Non-blocking connect to a numeric address; fd, or -errno.  piggyback: the last ACK of the
 * handshake waits for the first data. */
int connect_start(const char *host, uint16_t port, bool piggyback);
/* Outcome when the fd is writable: 0 or -errno. */
int connect_result(int fd);

/* Raises RLIMIT_NOFILE to the hard limit and checks that it allows need descriptors. */
void want_fds(unsigned need);

/* ,"name":{"p50":..,"p99":..,"max":..} in microseconds, of a histogram in nanoseconds. */
void print_hist_us(const char *name, const struct toe_hist *h);

#endif
