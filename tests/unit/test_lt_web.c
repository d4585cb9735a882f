// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.h tests/unit/lt_case.c */
/* What libtoe tells of MQTT clients over WebSocket, through the kernel and through the engine, with
 * TLS around it and without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "libtoe/lt.h"
#include "lt_case.h"
#include "lt_fake.h"
#include "lt_kconn.h"

#define GET       "GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
#define SWITCH    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
#define CONNECT_A "\x10\x0d\0\4MQTT\4\2\0\0\0\1A"
#define RESUMES   "\x10\x0d\0\4MQTT\4\0\0\0\0\1A"
#define SUB_T     "\x82\x06\0\1\0\1t\0"
#define SUB_U     "\x82\x06\0\2\0\1u\0"
#define CONNACK   "\x20\2\0\0"
#define BYTES(s)  (s), sizeof(s) - 1

enum carrier { KERNEL, ENGINE, KERNEL_TLS, ENGINE_TLS, CARRIERS };

static struct ends {
	enum carrier by;
	int wide, c, s;
} e;

static void come(enum carrier by)
{
	struct sockaddr_in sa;
	char hello;

	e = (struct ends){.by = by, .wide = -1};
	if (by == ENGINE || by == ENGINE_TLS) {
		make_pair(&e.c, &e.s);
	} else {
		e.wide = loopback_listener(&sa, false);
		e.c = to_kernel(&sa);
		e.s = accept(e.wide, NULL, NULL);
	}
	CHECK(e.s >= 0);
	if (by == KERNEL_TLS || by == ENGINE_TLS)
		CHECK(write(e.c, "\x16", 1) == 1 && read(e.s, &hello, 1) == 1);
	CHECK(news_are(""));
}

static void leave(void)
{
	close(e.s);
	close(e.c);
	if (e.wide >= 0)
		close(e.wide);
	CHECK(told() == 0 && fake_stats->followed == 0 && fake_stats->bad == 0);
}

/* The server reads it, in portions of at most step bytes. */
static void reads(const void *data, size_t n, size_t step)
{
	char buf[512];

	CHECK(n <= sizeof(buf));
	if (e.by == KERNEL || e.by == ENGINE)
		CHECK(write(e.c, data, n) == (ssize_t)n);
	for (size_t at = 0; at < n;) {
		size_t want = n - at < step ? n - at : step;
		ssize_t got = e.by == KERNEL || e.by == ENGINE
				      ? recv(e.s, buf + at, want, 0)
				      : lt_follow_tls(e.s, (const char *)data + at, (ssize_t)want);

		CHECK(got > 0);
		at += (size_t)got;
	}
}

static void writes(const void *data, size_t n)
{
	if (e.by == KERNEL || e.by == ENGINE)
		CHECK(send(e.s, data, n, 0) == (ssize_t)n);
	else
		lt_follow_wrote(e.s, data, n, (ssize_t)n, true);
}

/* A masked frame. */
static void reads_frame(uint8_t first, const void *data, size_t n, size_t step)
{
	const uint8_t mask[4] = {9, 8, 7, 0xf0};
	uint8_t f[256] = {first, 0x80 | (uint8_t)n};

	memcpy(f + 2, mask, 4);
	for (size_t i = 0; i < n; i++)
		f[6 + i] = ((const uint8_t *)data)[i] ^ mask[i % 4];
	reads(f, 6 + n, step);
}

static void handshake(size_t step)
{
	reads(BYTES(GET), step);
	writes(BYTES(SWITCH));
	CHECK(news_are(""));
}

static void accepts(void)
{
	writes(BYTES("\x82\4" CONNACK));
}

/* Told before the program has the last byte of SUBSCRIBE, whatever carries it and the portions. */
static void web_followed(void)
{
	for (unsigned by = 0; by < CARRIERS; by++) {
		for (size_t step = 1; step < 40; step += 11) {
			come(by);
			handshake(step);
			reads_frame(0x82, BYTES(CONNECT_A), step);
			CHECK(news_are(""));
			accepts();
			CHECK(news_are("C A;"));
			CHECK(fake_stats->followed == (by == KERNEL || by == KERNEL_TLS));
			/* in two frames, with a ping between, and one packet more behind */
			reads_frame(0x02, SUB_T, 3, step);
			reads_frame(0x89, BYTES("ping"), step);
			CHECK(news_are(""));
			reads_frame(0x80, SUB_T SUB_U + 3, sizeof(SUB_T SUB_U) - 4, step);
			CHECK(news_are("F t;F u;"));
			close(e.s);
			CHECK(news_are("E ;"));
			leave();
		}
	}
}

/* As brokers take it, if not by the standard: everything at once, without masks, without CR. */
static void web_odd(void)
{
	static const char get[] = "GET /mqtt HTTP/1.1\nUpgrade: websocket\n\n";

	for (unsigned by = 0; by < CARRIERS; by++) {
		come(by);
		reads(BYTES(get), 100);
		reads(BYTES("\x81\x0f" CONNECT_A "\x82\x08" SUB_T), 100);
		CHECK(news_are(""));
		writes(BYTES(SWITCH "\x82\4" CONNACK "\x82\5\x90\3\0\1\0"));
		CHECK(news_are("C A;F t;"));
		reads_frame(0x82, BYTES(SUB_U), 100);
		CHECK(news_are("F u;"));
		leave();
		CHECK(news_are("E ;"));
	}
}

/* The answer to CONNECT is in frames. */
static void web_answered(void)
{
	static const struct {
		const char *answer;
		size_t n;
		const char *news, *end;
	} cases[] = {
		{BYTES("\x89\1p\x82\4" CONNACK), "N A;", "E ;"},
		{BYTES("\x82\4\x20\2\1\0"), "R A;", "E ;"},
		{BYTES("\x82\4\x20\2\0\5"), "", ""},     /* refused */
		{BYTES("\x82\2\xd0\0"), "", ""},         /* another packet */
		{BYTES("\x82\x84" CONNACK), "M A;", ""}, /* masked: nobody can read it */
		{BYTES("\xc2\4" CONNACK), "M A;", ""},
		{BYTES(""), "", "M A;"},
	};

	for (unsigned by = 0; by < CARRIERS; by++) {
		for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			come(by);
			handshake(100);
			reads_frame(0x82, BYTES(RESUMES), 100);
			CHECK(news_are(""));
			for (size_t at = 0; at < cases[i].n; at++)
				writes(cases[i].answer + at, 1);
			CHECK(news_are(cases[i].news));
			leave();
			CHECK(news_are(cases[i].end));
		}
	}
}

static const struct {
	const char *get, *answer;
	const char *news; /* once the broker has accepted what nobody has read */
} refused[] = {
	{"GET / HTTP/1.1\r\n\r\n", SWITCH, ""},
	{GET, "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\n\r\n", ""},
	{GET, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: x\r\n\r\n", "M ;"},
	{"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n", /* not for MQTT */
	 "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: x\r\n\r\n", ""},
	{GET "\xf2\x80", SWITCH, "M ;"}, /* a frame nobody can read */
};

/* Who is not followed: what it may do to sessions is said once the broker has taken it, and at its
 * end. */
static void web_refused(void)
{
	for (unsigned by = 0; by < CARRIERS; by++) {
		for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
			come(by);
			reads(refused[i].get, strlen(refused[i].get), 100);
			writes(refused[i].answer, strlen(refused[i].answer));
			reads_frame(0x82, BYTES(CONNECT_A), 100);
			accepts();
			reads_frame(0x82, BYTES(SUB_T), 100);
			CHECK(news_are(refused[i].news) && fake_stats->followed == 0);
			leave();
			CHECK(news_are(refused[i].news));
		}
		/* the same frame, but the broker has not taken it */
		come(by);
		handshake(100);
		reads(BYTES("\xf2\x80"), 100);
		writes(BYTES("\x82\4\x20\2\0\5"));
		leave();
		CHECK(news_are(""));
		/* and in the middle */
		come(by);
		handshake(100);
		reads_frame(0x82, BYTES(CONNECT_A), 100);
		accepts();
		CHECK(news_are("C A;"));
		reads_frame(0xc2, BYTES(SUB_T), 100);
		CHECK(news_are("L ;"));
		reads_frame(0x82, BYTES(SUB_T), 100);
		leave();
		CHECK(news_are(""));
	}
}

enum { BY_WRITEV, BY_SENDMSG, BY_SENDFILE, BY_READV, BY_PEEK, BY_DUP, WAYS };

static int file_of(const char *text, size_t n)
{
	FILE *f = tmpfile();

	CHECK(f && fwrite(text, 1, n, f) == n && fflush(f) == 0 &&
	      lseek(fileno(f), 0, SEEK_SET) == 0);
	return fileno(f);
}

/* Written or read in other ways: in pieces is as good, and what is not seen ends it. */
static void web_ways(void)
{
	char buf[256], text[] = SWITCH;
	struct iovec in = {buf, sizeof(buf)}, out[2] = {{text, 5}, {text + 5, sizeof(SWITCH) - 6}};
	struct msghdr msg = {.msg_iov = out, .msg_iovlen = 2},
		      peek = {.msg_iov = &in, .msg_iovlen = 1};

	for (unsigned by = KERNEL; by <= ENGINE; by++) {
		for (unsigned how = 0; how < WAYS; how++) {
			bool followed = how == BY_WRITEV || how == BY_SENDMSG || how == BY_PEEK;
			const char *missed = by == ENGINE && how == BY_READV ? "" : "M ;";
			int d = -1;

			come(by);
			if (how == BY_READV || how == BY_PEEK) {
				CHECK(write(e.c, BYTES(GET)) > 0);
				CHECK(how == BY_PEEK ? recvmsg(e.s, &peek, MSG_PEEK) > 0
						     : readv(e.s, &in, 1) > 0);
				CHECK(how != BY_PEEK || recv(e.s, buf, sizeof(buf), 0) > 0);
			} else {
				reads(BYTES(GET), 100);
			}
			if (how == BY_WRITEV)
				CHECK(writev(e.s, out, 2) > 0);
			else if (how == BY_SENDMSG)
				CHECK(sendmsg(e.s, &msg, 0) > 0);
			else if (how == BY_SENDFILE)
				CHECK(sendfile(e.s, file_of(BYTES(SWITCH)), NULL,
					       sizeof(SWITCH) - 1) > 0);
			else
				writes(BYTES(SWITCH));
			if (how == BY_DUP)
				CHECK((d = dup(e.s)) >= 0);
			reads_frame(0x82, BYTES(CONNECT_A), 100);
			accepts();
			CHECK(news_are(followed ? "C A;" : missed));
			if (d >= 0)
				close(d);
			leave();
			CHECK(news_are(followed ? "E ;" : missed));
		}
	}
}

/* Of the engine's connections only the first bytes are looked at. */
static void web_only_first(void)
{
	static const char *const first[] = {"\x10", "1", "\x16", ""};
	char c;

	for (unsigned i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
		int d = -1;

		come(ENGINE);
		reads(first[i], strlen(first[i]), 1);
		if (i == 3) /* a copy before any byte */
			CHECK((d = dup(e.s)) >= 0);
		reads(BYTES(GET), 100);
		writes(BYTES(SWITCH));
		reads_frame(0x82, BYTES(CONNECT_A), 100);
		accepts();
		close(d);
		leave();
		CHECK(news_are(""));
	}
	/* looked at is not taken */
	come(ENGINE);
	CHECK(write(e.c, GET, 1) == 1 && recv(e.s, &c, 1, MSG_PEEK) == 1 &&
	      recv(e.s, &c, 1, 0) == 1);
	reads(GET + 1, sizeof(GET) - 2, 100);
	writes(BYTES(SWITCH));
	reads_frame(0x82, BYTES(CONNECT_A), 100);
	accepts();
	CHECK(news_are("C A;"));
	leave();
	CHECK(news_are("E ;"));
}

int main(int argc, char **argv)
{
	static const struct lt_case cases[] = {
		CASE(web_followed), CASE(web_answered), CASE(web_refused),
		CASE(web_ways),     CASE(web_odd),      CASE(web_only_first),
	};

	return case_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
