// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.h tests/unit/lt_case.c */
/* What libtoe tells of MQTT clients that the engine cannot read: what they subscribe to, in time,
 * or that they are not followed. */
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

#define CONNECT_A  "\x10\x0d\0\4MQTT\4\2\0\0\0\1A"
#define CONNECT_5  "\x10\x13\0\4MQTT\5\2\0\0\5\x11\0\0\0\1\0\1B"
#define RESUMES    "\x10\x0d\0\4MQTT\4\0\0\0\0\1A"
#define RESUMES_5  "\x10\x0e\0\4MQTT\5\0\0\0\0\0\1A"
#define RESUMES_31 "\x10\x0f\0\6MQIsdp\3\0\0\0\0\1A"
#define SUB_TU     "\x82\x0a\0\1\0\1t\0\0\1u\1"
#define SUB_5      "\x82\x09\0\1\2\x0b\1\0\1v\1"
#define PUBLISH    "\x30\x05\0\1tAB"
#define CONNACK    "\x20\2\0\0"
#define PRESENT    "\x20\2\1\0"
#define CONNACK_5  "\x20\3\0\0\0"
#define BYTES(s)   (s), sizeof(s) - 1

struct client {
	int wide, c, s;
};

static struct client client(void)
{
	struct sockaddr_in sa;
	struct client k = {.wide = loopback_listener(&sa, false)};

	k.c = to_kernel(&sa);
	k.s = accept(k.wide, NULL, NULL);
	CHECK(k.s >= 0);
	return k;
}

static void leave(struct client *k)
{
	close(k->s);
	close(k->c);
	close(k->wide);
	CHECK(told() == 0 && fake_stats->followed == 0 && fake_stats->bad == 0);
}

/* The program gets exactly that, in portions of at most step bytes. */
static void passes(struct client *k, const char *data, size_t n, size_t step)
{
	char buf[256];

	CHECK(write(k->c, data, n) == (ssize_t)n);
	for (size_t at = 0; at < n;) {
		size_t want = n - at < step ? n - at : step;
		ssize_t got = at % 2 ? read(k->s, buf, want) : recv(k->s, buf, want, 0);

		CHECK(got > 0 && memcmp(buf, data + at, (size_t)got) == 0);
		at += (size_t)got;
	}
}

static void answers(struct client *k, const char *data, size_t n)
{
	CHECK(write(k->s, data, n) == (ssize_t)n);
}

/* Told when the broker has accepted it, and before the program has the last byte of SUBSCRIBE,
 * whatever the portions. */
static void mqtt_followed(void)
{
	for (size_t step = 1; step < 16; step += 7) {
		struct client k = client();

		CHECK(fake_stats->followed == 0);
		passes(&k, BYTES(CONNECT_A), step);
		CHECK(fake_stats->followed == 0 && news_are(""));
		answers(&k, BYTES(CONNACK));
		CHECK(fake_stats->followed == 1 && news_are("C A;"));
		passes(&k, BYTES(PUBLISH SUB_TU PUBLISH "\xc0\0"), step);
		CHECK(news_are("F t;F u;"));
		passes(&k, BYTES(SUB_TU), step);
		CHECK(news_are("F t;F u;"));
		close(k.s);
		k.s = -1;
		CHECK(news_are("E ;") && fake_stats->followed == 0);
		leave(&k);
		k = client();
		/* it does not wait for the answer, which is one of several */
		passes(&k, BYTES(CONNECT_5 SUB_5 SUB_5), step);
		CHECK(news_are(""));
		answers(&k, BYTES("\xf0\2\x18\0" CONNACK_5 "\x90\4\0\1\0\1"));
		CHECK(news_are("N B;F v;F v;") && fake_stats->followed == 1);
		leave(&k);
		CHECK(news_are("E ;"));
	}
}

static void mqtt_not_followed(void)
{
	static const struct {
		const char *data;
		size_t n;
		const char *news;
	} cases[] = {
		{BYTES("\x16\3\1\2\1"), ""},            /* TLS */
		{BYTES("GET / HTTP/1.1\r\n\r\n"), ""},  /* WebSocket */
		{BYTES(SUB_TU), ""},                    /* no CONNECT */
		{BYTES("\x10\xff\xff\xff\xff\1"), ""},  /* no length */
		{BYTES("\x10\xff\x7f"), ""},            /* too long */
		{BYTES("\x10\x08\0\4MQTT\4\2"), ""},    /* too short */
		{BYTES(CONNECT_A), "C A;L ;"},          /* twice */
		{BYTES("\x82\x04\0\1\0\5"), "C A;L ;"}, /* a filter that is not there */
		{BYTES("\x82\xff\x7f"), "C A;L ;"},
		{BYTES("\0\0"), "C A;L ;"},
		{BYTES("\x80\0"), "C A;L ;"},
		{BYTES("\x30\xff\xff\xff\xff\1"), "C A;L ;"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct client k = client();

		if (cases[i].news[0]) {
			passes(&k, BYTES(CONNECT_A), 256);
			answers(&k, BYTES(CONNACK));
		}
		passes(&k, cases[i].data, cases[i].n, 256);
		CHECK(news_are(cases[i].news) && told() == 2 && fake_stats->followed == 0);
		passes(&k, BYTES(CONNECT_A SUB_TU), 256); /* for good */
		answers(&k, BYTES(CONNACK));
		CHECK(news_are(""));
		leave(&k);
	}
}

/* A session that was there and that the stage knows, or does not. */
static void mqtt_resumed(void)
{
	for (unsigned refused = 0; refused < 2; refused++) {
		struct client k = client();

		fake_stats->resume_refused = refused;
		passes(&k, BYTES(RESUMES SUB_TU), 256);
		CHECK(news_are(""));
		answers(&k, BYTES(PRESENT));
		CHECK(news_are(refused ? "refused;" : "R A;F t;F u;"));
		CHECK(fake_stats->followed == !refused);
		passes(&k, BYTES(SUB_TU), 256);
		CHECK(news_are(refused ? "" : "F t;F u;"));
		leave(&k);
		CHECK(news_are(refused ? "" : "E ;"));
	}
	fake_stats->resume_refused = false;
}

/* What the broker says to CONNECT decides: nothing is told of whom it refuses. */
static void mqtt_answered(void)
{
	static const struct {
		const char *connect;
		size_t connect_n;
		const char *answer;
		size_t answer_n;
		const char *news, *end;
	} cases[] = {
		{BYTES(CONNECT_A), BYTES(CONNACK), "C A;", "E ;"},
		{BYTES(CONNECT_A), BYTES("\x20\2\0\5"), "", ""},
		{BYTES(RESUMES), BYTES(CONNACK), "N A;", "E ;"},
		{BYTES(RESUMES), BYTES("\x20\2\1\0"), "R A;", "E ;"},
		{BYTES(RESUMES), BYTES("\x20\2\0\5"), "", ""},
		{BYTES(RESUMES_5), BYTES("\x20\6\0\0\3\x22\0\1"), "C A;", "E ;"},
		{BYTES(RESUMES_31), BYTES(CONNACK), "R A;", "E ;"}, /* it does not say */
		{BYTES(CONNECT_5), BYTES(CONNACK_5), "N B;", "E ;"},
		{BYTES(CONNECT_5), BYTES("\x20\3\0\x87\0"), "", ""},
		{BYTES(CONNECT_A), BYTES("\x90\3\0\1\0"), "", ""}, /* no answer */
		{BYTES(CONNECT_A), BYTES("\x20\xff\xff\xff\xff\1"), "", ""},
		{BYTES(CONNECT_A), BYTES(""), "", "M A;"}, /* nobody knows */
	};
	char buf[16];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned how = 0; how < 4; how++) {
			struct client k = client();
			const char *a = cases[i].answer;
			size_t n = cases[i].answer_n;
			struct iovec iov[3] = {{buf, 1}, {buf + 1, 0}, {buf + 1, n + 1}};
			bool followed = cases[i].news[0] != '\0';

			passes(&k, cases[i].connect, cases[i].connect_n, 256);
			memcpy(buf, a, n);
			memcpy(buf + n, "\xd0", 2);
			for (size_t at = 0; how == 0 && at < n; at++)
				CHECK(write(k.s, a + at, 1) == 1);
			CHECK(how != 1 || n == 0 || send(k.s, a, n, 0) == (ssize_t)n);
			/* with what follows in the same piece, or in pieces */
			CHECK(how != 2 || n == 0 || write(k.s, buf, n + 2) == (ssize_t)n + 2);
			CHECK(how != 3 || n == 0 || writev(k.s, iov, 3) == (ssize_t)n + 2);
			CHECK(news_are(cases[i].news) && fake_stats->followed == followed);
			leave(&k);
			CHECK(news_are(cases[i].end));
		}
	}
}

/* An answer that did not get out, as the client is gone, decides all the same. */
static void mqtt_unanswered(void)
{
	static const struct {
		const char *answer;
		const char *news, *end;
	} cases[] = {{CONNACK, "C A;", "E ;"}, {"\x20\2\0\5", "", ""}, {NULL, "", "M A;"}};
	const struct linger reset = {1, 0};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct client k = client();

		passes(&k, BYTES(CONNECT_A), 256);
		CHECK(setsockopt(k.c, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
		close(k.c);
		k.c = -1;
		if (cases[i].answer)
			CHECK(send(k.s, cases[i].answer, 4, MSG_NOSIGNAL) < 0);
		CHECK(news_are(cases[i].news));
		leave(&k);
		CHECK(news_are(cases[i].end));
	}
}

/* One that the stage cannot be told of: once it is accepted, any session may change. */
static void mqtt_missed(void)
{
	static char huge[8192] = "\x10\xfd\x3f\0\4MQTT\4\0\0\0\0\1A", name[255];
	static const struct {
		const char *answer;
		size_t n;
		bool garbage; /* the client sends before it is answered */
		bool missed;
	} cases[] = {
		{BYTES(PRESENT), false, true},
		{BYTES(PRESENT), true, true},
		{BYTES("\x20\2\0\5"), false, false},
		{BYTES("\x20\2\0\5"), true, false},
		{BYTES(""), true, false},
	};

	for (unsigned i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		struct client k = client();
		bool is_huge = i % 2;

		memcpy(name, "\x10\xfb\1\0\4MQTT\4\0\0\0\0\xef", 15);
		memset(name + 15, 'n', sizeof(name) - 15);
		passes(&k, is_huge ? huge : name, is_huge ? sizeof(huge) : 254, 256);
		if (cases[i / 2].garbage)
			passes(&k, BYTES("\0\0" SUB_TU), 256);
		CHECK(news_are(""));
		answers(&k, cases[i / 2].answer, cases[i / 2].n);
		CHECK(news_are(cases[i / 2].missed ? "M ;" : ""));
		leave(&k);
		CHECK(news_are(cases[i / 2].missed ? "M ;" : "")); /* what it did until now */
	}
}

/* It sends what cannot be followed before it is answered: whose session that is is known. */
static void mqtt_impatient(void)
{
	static const struct {
		const char *answer;
		size_t n;
		const char *news, *end;
	} cases[] = {
		{BYTES(CONNACK), "M A;", ""},
		{BYTES("\x20\2\0\5"), "", ""},
		{BYTES(""), "", "M A;"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct client k = client();

		passes(&k, BYTES(RESUMES "\xc0\0" SUB_TU "\0\0" SUB_TU), 256);
		CHECK(news_are(""));
		answers(&k, cases[i].answer, cases[i].n);
		CHECK(news_are(cases[i].news) && fake_stats->followed == 0);
		leave(&k);
		CHECK(news_are(cases[i].end));
	}
}

/* What comes out of TLS: ClientHello first; nothing else that is read there is MQTT. */
static void mqtt_tls(void)
{
	struct client k = client();

	passes(&k, BYTES("\x16\3\1\2\1"), 256);
	CHECK(lt_follow_tls(k.s, BYTES("\x10")) == 1 && news_are(""));
	passes(&k, BYTES(CONNECT_A), 256); /* ciphertext may look like anything */
	CHECK(news_are(""));
	CHECK(lt_follow_tls(k.s, CONNECT_A + 1, sizeof(CONNECT_A) - 2) > 0 && news_are(""));
	CHECK(write(k.s, BYTES(CONNACK)) == 4 && news_are("")); /* ciphertext, too */
	lt_follow_wrote(k.s, BYTES(CONNACK), sizeof(CONNACK) - 1, true);
	CHECK(news_are("C A;"));
	CHECK(lt_follow_tls(k.s, BYTES(SUB_TU)) > 0 && news_are("F t;F u;"));
	CHECK(lt_follow_tls(k.s, NULL, -1) == -1 && fake_stats->followed == 1);
	leave(&k);
	CHECK(news_are("E ;"));
	/* in TLS, but no MQTT, for good */
	k = client();
	passes(&k, BYTES("\x16"), 256);
	CHECK(lt_follow_tls(k.s, BYTES("XET /")) == 5);
	CHECK(lt_follow_tls(k.s, BYTES(CONNECT_A)) > 0 && news_are("") &&
	      fake_stats->followed == 0);
	leave(&k);
	/* in the middle of what began without */
	k = client();
	passes(&k, BYTES(CONNECT_A), 256);
	answers(&k, BYTES(CONNACK));
	CHECK(lt_follow_tls(k.s, BYTES(SUB_TU)) > 0 && news_are("C A;L ;"));
	leave(&k);
	/* a connection that is nobody's to follow */
	CHECK(lt_follow_tls(-1, BYTES(CONNECT_A)) > 0 && lt_follow_tls(0, BYTES(CONNECT_A)) > 0);
	CHECK(news_are(""));
}

/* Bytes that are read in ways that are not followed, or may be; an engine that has no room. */
static void mqtt_unseen(void)
{
	char buf[64];
	struct iovec iov = {buf, sizeof(buf)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	for (unsigned how = 0; how < 5; how++) {
		struct client k = client();
		int d = -1;

		passes(&k, BYTES(CONNECT_A), 256);
		answers(&k, BYTES(CONNACK));
		CHECK(news_are("C A;"));
		CHECK(write(k.c, BYTES(SUB_TU)) > 0);
		CHECK(recv(k.s, buf, sizeof(buf), MSG_PEEK) > 0 && news_are(""));
		fake_stats->news_refused = how == 3;
		if (how == 0)
			CHECK(readv(k.s, &iov, 1) > 0);
		else if (how == 1)
			CHECK(recvmsg(k.s, &msg, 0) > 0);
		else if (how == 2)
			CHECK((d = dup(k.s)) >= 0);
		else
			CHECK(read(k.s, buf, sizeof(buf)) == sizeof(SUB_TU) - 1);
		fake_stats->news_refused = false;
		CHECK(fake_stats->followed == (how == 4));
		CHECK(news_are(how == 3 ? "F t;F u;L ;" : how == 4 ? "F t;F u;" : "L ;"));
		if (d >= 0)
			close(d);
		leave(&k);
		fake_stats->news[0] = '\0';
	}
}

int main(int argc, char **argv)
{
	static const struct lt_case cases[] = {
		CASE(mqtt_followed),  CASE(mqtt_not_followed), CASE(mqtt_resumed),
		CASE(mqtt_unseen),    CASE(mqtt_tls),          CASE(mqtt_answered),
		CASE(mqtt_impatient), CASE(mqtt_missed),       CASE(mqtt_unanswered),
	};

	return case_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
