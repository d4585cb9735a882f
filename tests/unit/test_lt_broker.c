// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.h tests/unit/lt_case.c */
/* What libtoe tells of a broker beside its sockets: what kernel clients subscribe to, SIGHUP, and
 * what is in its configuration and its database. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "libtoe/lt.h"
#include "lt_case.h"
#include "lt_fake.h"
#include "lt_kconn.h"

/* ---- MQTT through the kernel ---- */

#define CONNECT_A "\x10\x0d\0\4MQTT\4\2\0\0\0\1A"
#define CONNECT_5 "\x10\x13\0\4MQTT\5\2\0\0\5\x11\0\0\0\1\0\1B"
#define RESUMES   "\x10\x0d\0\4MQTT\4\0\0\0\0\1A"
#define SUB_TU    "\x82\x0a\0\1\0\1t\0\0\1u\1"
#define SUB_5     "\x82\x09\0\1\2\x0b\1\0\1v\1"
#define PUBLISH   "\x30\x05\0\1tAB"
#define BYTES(s)  (s), sizeof(s) - 1

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

static bool news_are(const char *want)
{
	const char *news = (const char *)fake_stats->news;
	bool same = strcmp(news, want) == 0;

	if (!same)
		fprintf(stderr, "news: %s\nwant: %s\n", news, want);
	fake_stats->news[0] = '\0';
	return same;
}

/* Told before the program has the last byte of the packet, whatever the portions. */
static void mqtt_followed(void)
{
	for (size_t step = 1; step < 16; step += 7) {
		struct client k = client();

		CHECK(fake_stats->followed == 0);
		passes(&k, BYTES(CONNECT_A), step);
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
		passes(&k, BYTES(CONNECT_5 SUB_5), step);
		CHECK(news_are("C B;F v;") && fake_stats->followed == 1);
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
		{BYTES("\x16\3\1\2\1"), ""},                      /* TLS */
		{BYTES("GET / HTTP/1.1\r\n\r\n"), ""},            /* WebSocket */
		{BYTES(RESUMES SUB_TU), "refused;"},              /* the stage does not know it */
		{BYTES(SUB_TU), ""},                              /* no CONNECT */
		{BYTES("\x10\xff\xff\xff\xff\1"), ""},            /* no length */
		{BYTES("\x10\xff\x7f"), ""},                      /* too long */
		{BYTES("\x10\x08\0\4MQTT\4\2"), ""},              /* too short */
		{BYTES(CONNECT_A CONNECT_A), "C A;L ;"},          /* twice */
		{BYTES(CONNECT_A "\x82\x04\0\1\0\5"), "C A;L ;"}, /* a filter that is not there */
		{BYTES(CONNECT_A "\x82\xff\x7f"), "C A;L ;"},
		{BYTES(CONNECT_A "\0\0"), "C A;L ;"},
		{BYTES(CONNECT_A "\x80\0"), "C A;L ;"},
		{BYTES(CONNECT_A "\x30\xff\xff\xff\xff\1"), "C A;L ;"},
	};

	fake_stats->resume_refused = true;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct client k = client();

		passes(&k, cases[i].data, cases[i].n, 256);
		CHECK(news_are(cases[i].news) && told() == 2 && fake_stats->followed == 0);
		passes(&k, BYTES(CONNECT_A SUB_TU), 256); /* for good */
		CHECK(news_are(""));
		leave(&k);
	}
}

/* A session that may be resumed and that the stage knows. */
static void mqtt_resumed(void)
{
	struct client k = client();

	passes(&k, BYTES(RESUMES SUB_TU), 256);
	CHECK(news_are("R A;F t;F u;") && fake_stats->followed == 1);
	leave(&k);
	CHECK(news_are("E ;"));
}

/* What comes out of TLS: ClientHello first; nothing else that is read there is MQTT. */
static void mqtt_tls(void)
{
	struct client k = client();

	passes(&k, BYTES("\x16\3\1\2\1"), 256);
	CHECK(lt_follow_tls(k.s, BYTES("\x10")) == 1 && news_are(""));
	passes(&k, BYTES(CONNECT_A), 256); /* ciphertext may look like anything */
	CHECK(news_are(""));
	CHECK(lt_follow_tls(k.s, CONNECT_A + 1, sizeof(CONNECT_A) - 2) > 0 && news_are("C A;"));
	CHECK(lt_follow_tls(k.s, BYTES(SUB_TU)) > 0 && news_are("F t;F u;"));
	CHECK(lt_follow_tls(k.s, NULL, -1) == -1 && fake_stats->followed == 1);
	leave(&k);
	CHECK(news_are("E ;"));
	/* in TLS, but no MQTT, for good */
	k = client();
	passes(&k, BYTES("\x16"), 256);
	CHECK(lt_follow_tls(k.s, BYTES("GET /")) == 5);
	CHECK(lt_follow_tls(k.s, BYTES(CONNECT_A)) > 0 && news_are("") &&
	      fake_stats->followed == 0);
	leave(&k);
	/* in the middle of what began without */
	k = client();
	passes(&k, BYTES(CONNECT_A), 256);
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
		CHECK(news_are(how == 3 ? "F t;L ;" : how == 4 ? "F t;F u;" : "L ;"));
		if (d >= 0)
			close(d);
		leave(&k);
		fake_stats->news[0] = '\0';
	}
}

/* ---- SIGHUP ---- */

static volatile sig_atomic_t hups, told_then, with_info;

static void on_hup(int sig)
{
	hups += sig == SIGHUP;
	told_then = (sig_atomic_t)fake_stats->reloads;
}

static void on_hup_info(int sig, siginfo_t *info, void *context)
{
	on_hup(sig);
	with_info = info->si_signo == SIGHUP && context != NULL;
}

/* The engine knows before the program's handler runs; the program sees what it has set. */
static void reloads(void)
{
	struct sigaction act = {.sa_flags = SA_RESTART | SA_NODEFER}, old;
	struct sockaddr_in sa;
	int wide;

	CHECK(signal(SIGHUP, on_hup) == SIG_DFL);
	raise(SIGHUP); /* nobody asks before there is an offloaded listener */
	CHECK(hups == 1 && fake_stats->reloads == 0);
	wide = loopback_listener(&sa, false);
	raise(SIGHUP);
	CHECK(hups == 2 && told_then >= 1 && fake_stats->reloads == (uint32_t)told_then);
	CHECK(sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == on_hup);
	CHECK(old.sa_flags & SA_RESTART && !(old.sa_flags & SA_SIGINFO));
	act.sa_sigaction = on_hup_info;
	act.sa_flags |= SA_SIGINFO;
	sigaddset(&act.sa_mask, SIGUSR1);
	told_then = 0;
	CHECK(sigaction(SIGHUP, &act, &old) == 0 && old.sa_handler == on_hup);
	raise(SIGHUP);
	CHECK(hups == 3 && with_info && told_then != 0);
	CHECK(sigaction(SIGHUP, NULL, &old) == 0 && old.sa_sigaction == on_hup_info);
	CHECK(old.sa_flags & SA_NODEFER && sigismember(&old.sa_mask, SIGUSR1));
	/* once, as asked; ignored; another signal */
	act = (struct sigaction){.sa_handler = on_hup, .sa_flags = SA_RESETHAND};
	CHECK(sigaction(SIGHUP, &act, NULL) == 0);
	raise(SIGHUP);
	CHECK(hups == 4 && signal(SIGHUP, SIG_IGN) == SIG_DFL);
	told_then = (sig_atomic_t)fake_stats->reloads;
	raise(SIGHUP);
	CHECK(hups == 4 && fake_stats->reloads == (uint32_t)told_then);
	CHECK(signal(SIGUSR1, on_hup) == SIG_DFL && raise(SIGUSR1) == 0 && hups == 4);
	CHECK(signal(SIGHUP, SIG_ERR) == SIG_ERR && errno == EINVAL);
	CHECK(signal(SIGHUP, SIG_DFL) == SIG_IGN);
	close(wide);
}

/* ---- the broker's database ---- */

#define REAL_DB "tests/unit/data/broker/sessions.db"

static char conf[64], db[64];

static void write_conf(const char *text)
{
	FILE *f;

	snprintf(conf, sizeof(conf), "/tmp/toe-broker-%d.conf", (int)getpid());
	snprintf(db, sizeof(db), "/tmp/toe-broker-%d.db", (int)getpid());
	f = fopen(conf, "w");
	CHECK(f &&
	      fprintf(f, "%spersistence_location /tmp\npersistence_file %s\n", text, db + 5) > 0);
	CHECK(fclose(f) == 0);
	setenv(TOE_ENV_BROKER, conf, 1);
}

static void copy_db(long bytes)
{
	static char data[4096];
	FILE *from = fopen(REAL_DB, "r"), *to = fopen(db, "w");
	size_t n = from ? fread(data, 1, sizeof(data), from) : 0;

	CHECK(n > 0 && to);
	CHECK(fwrite(data, 1, bytes ? (size_t)bytes : n, to) > 0);
	CHECK(fclose(from) == 0 && fclose(to) == 0);
}

static void remove_files(void)
{
	unlink(conf);
	unlink(db);
	fake_stats->news[0] = '\0';
}

/* Told once, before the engine has the listener; the order is the file's or not. */
static void database(void)
{
	struct sockaddr_in sa;
	const char *news = (const char *)fake_stats->news;
	uint32_t before = fake_stats->listeners;
	int wide;

	write_conf("persistence true\n");
	copy_db(0);
	lt_broker_init();
	fake_stats->news_later = 2; /* clients of the one before are still there */
	wide = loopback_listener(&sa, false);
	CHECK(fake_stats->listeners == before + 1);
	CHECK(strncmp(news, "S ab;U ", 7) == 0);
	CHECK(strstr(news, "U a/# 1 0;") && strstr(news, "U / 0 0;"));
	CHECK(strstr(news, "S nl;U ") && strstr(news, "U a/# 5 44;") &&
	      strstr(news, "U b/+ 10 0;"));
	CHECK(strstr(news, "S old;U +/x 0 0;W ;") && strstr(news, "S none;W ;"));
	CHECK(fake_stats->news_later == 0);
	fake_stats->news[0] = '\0';
	close(wide);
	wide = loopback_listener(&sa, false);
	CHECK(news_are(""));
	close(wide);
	remove_files();
}

/* Nothing is told of a database that is not, or may not be, what the broker has read. */
static void database_not(void)
{
	struct sockaddr_in sa;
	int wide, status = 0;

	switch (fork_child()) {
	case 0:
		write_conf("");
		copy_db(0);
		lt_broker_init();
		break;
	default:
		CHECK(wait(&status) > 0 && status == 0);
		write_conf("persistence true\n");
		copy_db(0);
		lt_broker_init();
		copy_db(100); /* written meanwhile */
	}
	wide = loopback_listener(&sa, false);
	CHECK(news_are(""));
	close(wide);
	remove_files();
}

static void database_broken(void)
{
	struct sockaddr_in sa;

	write_conf("persistence true\n");
	copy_db(100);
	lt_broker_init();
	close(loopback_listener(&sa, false));
	CHECK(news_are(""));
	remove_files();
}

/* ---- its configuration ---- */

static void one_wait(void)
{
	struct epoll_event ev;
	int e = epoll_create1(0);

	CHECK(e >= 0 && epoll_wait(e, &ev, 1, 0) == 0);
	close(e);
}

static void waits(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		one_wait();
}

/* What is in it once the program has read it for certain; once for each SIGHUP. */
static void checked(void)
{
	struct sockaddr_in sa;
	char want[128];
	int wide;

	write_conf("acl_file x\n");
	lt_broker_init();
	CHECK(signal(SIGHUP, on_hup) == SIG_DFL);
	raise(SIGHUP);
	waits(3);
	CHECK(news_are("")); /* no offloaded listener: nobody knows that it was told to */
	wide = loopback_listener(&sa, false);
	waits(1);
	CHECK(news_are("")); /* perhaps it has not read it yet */
	waits(1);
	snprintf(want, sizeof(want), "K %s:1: acl_file;", conf);
	CHECK(news_are(want));
	waits(3);
	CHECK(news_are(""));
	raise(SIGHUP);
	waits(1);
	write_conf("max_queued_messages 10\n"); /* a note only */
	raise(SIGHUP);
	waits(1);
	CHECK(news_are(""));
	waits(1);
	CHECK(news_are("K ;"));
	unlink(conf);
	raise(SIGHUP);
	waits(2);
	snprintf(want, sizeof(want), "K %s cannot be read: No such file or directory;", conf);
	CHECK(news_are(want));
	close(wide);
	remove_files();
}

/* It is told to again while it is looked at: that says nothing. */
static void checked_late(void)
{
	struct toe_ctl_kconn k = {.what = TOE_KCONN_MQTT_CHECKED};
	struct sockaddr_in sa;
	int wide = loopback_listener(&sa, false);
	uint32_t n;

	CHECK(signal(SIGHUP, on_hup) == SIG_DFL);
	raise(SIGHUP);
	CHECK(lt_kconn_reloads(&n) && n == 1);
	raise(SIGHUP);
	CHECK(lt_kconn_checked(n, &k) == -ESTALE && news_are(""));
	CHECK(lt_kconn_checked(n + 1, &k) == 0 && news_are("K ;"));
	close(wide);
}

/* Nobody knows what it reads. */
static void not_checked(void)
{
	struct sockaddr_in sa;
	int wide = loopback_listener(&sa, false);

	CHECK(signal(SIGHUP, on_hup) == SIG_DFL);
	raise(SIGHUP);
	waits(3);
	CHECK(news_are("") && fake_stats->reloads == 1);
	close(wide);
}

/* A database of one session whose filters are many and long. */
static void write_db(unsigned filters, unsigned len)
{
	static const char head[] = "\0\xb5\0mosquitto db\0\0\0\0\0\0\0\6";
	uint8_t chunk[512] = {0};
	FILE *f = fopen(db, "w");

	CHECK(f && fwrite(head, 1, sizeof(head) - 1, f) > 0);
	chunk[3] = 6;
	chunk[7] = 25;
	chunk[23] = 1;
	chunk[32] = 'x';
	CHECK(fwrite(chunk, 1, 33, f) > 0);
	memset(chunk + 8, 0, sizeof(chunk) - 8);
	chunk[3] = 5;
	toe_put32(chunk + 4, 13 + len);
	chunk[13] = 1;
	chunk[15] = (uint8_t)len;
	chunk[20] = 'x';
	memset(chunk + 21, 'f', len);
	for (unsigned i = 0; i < filters; i++)
		CHECK(fwrite(chunk, 1, 21 + len, f) > 0);
	CHECK(fclose(f) == 0);
}

/* In messages of what fits; a session with a filter that does not has no end. */
static void database_long(void)
{
	struct sockaddr_in sa;
	const char *news = (const char *)fake_stats->news;
	size_t n;

	write_conf("persistence true\n");
	write_db(3, 153);
	lt_broker_init();
	close(loopback_listener(&sa, false));
	n = strlen(news);
	CHECK(strncmp(news, "S x;U fff", 9) == 0 && n == 4 + 3 * (2 + 153 + 5) + 3);
	CHECK(strcmp(news + n - 4, ";W ;") == 0);
	remove_files();
}

static void database_too_long(void)
{
	struct sockaddr_in sa;

	write_conf("persistence true\n");
	write_db(1, 154);
	lt_broker_init();
	close(loopback_listener(&sa, false));
	CHECK(news_are("S x;"));
	remove_files();
}

/* No MQTT: it is not told for nothing; no room: the rest all the same. */
static void database_refused(void)
{
	struct sockaddr_in sa;
	int status = 0;

	write_conf("persistence true\n");
	write_db(3, 153);
	lt_broker_init();
	if (fork_child() == 0) {
		fake_stats->restore_answer = -ENODEV;
		close(loopback_listener(&sa, false));
		CHECK(news_are("S x;"));
		_exit(0);
	}
	CHECK(wait(&status) > 0 && status == 0);
	fake_stats->restore_answer = -ENOSPC;
	close(loopback_listener(&sa, false));
	CHECK(strstr((const char *)fake_stats->news, ";W ;"));
	remove_files();
}

int main(int argc, char **argv)
{
	static const struct lt_case cases[] = {
		CASE(mqtt_followed), CASE(mqtt_not_followed), CASE(mqtt_resumed),
		CASE(mqtt_unseen),   CASE(mqtt_tls),          CASE(reloads),
		CASE(checked),       CASE(checked_late),      CASE(not_checked),
		CASE(database),      CASE(database_not),      CASE(database_broken),
		CASE(database_long), CASE(database_too_long), CASE(database_refused),
	};

	return case_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
