// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.h tests/unit/lt_case.c */
/* What libtoe tells of a broker beside its sockets: SIGHUP, and what is in its configuration and
 * its database. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "libtoe/lt.h"
#include "lt_case.h"
#include "lt_fake.h"
#include "lt_kconn.h"

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
	CHECK(fake_stats->news_later == 0 && fake_stats->begun == 1);
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

/* Whatever it waits with. */
static void checked_pwait2(void)
{
	struct sockaddr_in sa;
	struct epoll_event ev;
	const struct timespec now = {0};
	int e = epoll_create1(0), wide;

	write_conf("max_queued_messages 10\n");
	lt_broker_init();
	CHECK(signal(SIGHUP, on_hup) == SIG_DFL);
	wide = loopback_listener(&sa, false);
	raise(SIGHUP);
	for (int i = 0; i < 2; i++)
		CHECK(e >= 0 && epoll_pwait2(e, &ev, 1, &now, NULL) == 0);
	CHECK(news_are("K ;"));
	close(e);
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

/* ---- bridges ---- */

static int to_port(int port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A listener of the kernel's, and a configuration with a bridge to it. */
static int bridge_to(int *port, const char *topics)
{
	struct sockaddr_in sa;
	int fd = loopback_listener(&sa, true);
	char text[512];

	*port = ntohs(sa.sin_port);
	snprintf(text, sizeof(text),
		 "connection a\naddress 127.0.0.1:%d\naddress x:7\naddress x:2\n%s", *port, topics);
	write_conf(text);
	lt_broker_init();
	return fd;
}

/* Told before it is connected, whatever is sent on it; its end, too, or that it did not come. */
static void bridges_of_the_kernel(void)
{
	struct sockaddr_in sa, other;
	int port, wide, fd, copy;
	int remote = bridge_to(&port, "topic u/# out\ntopic d in\n");
	int stranger = loopback_listener(&other, true);

	wide = loopback_listener(&sa, false); /* the engine's */
	fd = to_port(port);
	CHECK(fd >= 0 && news_are("B ;F u/#;") && told() == 1 && fake_stats->followed == 1);
	CHECK(write(fd, "\x10\x02xx", 4) == 4 && news_are(""));
	close(fd);
	CHECK(news_are("E ;") && told() == 0 && fake_stats->followed == 0);
	fd = to_port(ntohs(other.sin_port)); /* no bridge */
	CHECK(fd >= 0 && news_are("") && told() == 1);
	close(fd);
	fd = to_port(port);
	copy = dup(fd); /* two that may read and write */
	CHECK(news_are("B ;F u/#;L ;") && told() == 2 && fake_stats->followed == 0);
	close(fd);
	close(copy);
	close(remote);
	CHECK(to_port(port) < 0 && news_are("B ;F u/#;E ;") && told() == 0);
	CHECK(fake_stats->followed == 0 && fake_stats->bad == 0);
	close(stranger);
	close(wide);
	remove_files();
}

static void bridges_of_the_engine(void)
{
	struct sockaddr_in sa;
	char b;
	int port, wide, fd;
	int remote = bridge_to(&port, "topic u/# out\n");

	wide = loopback_listener(&sa, false);
	fd = try_connect(FAKE_ECHO, 0);
	CHECK(fd >= 0 && news_are("B ;F u/#;") && told() == 0);
	CHECK(write(fd, "x", 1) == 1 && read(fd, &b, 1) == 1 && news_are(""));
	close(fd);
	CHECK(news_are("E ;"));
	fd = try_connect(FAKE_BLACKHOLE, SOCK_NONBLOCK);
	CHECK(news_are("B ;F u/#;"));
	close(fd);
	CHECK(news_are("E ;") && fake_stats->bad == 0);
	/* no room: it is not followed */
	fake_stats->news_refused = true;
	fd = try_connect(FAKE_ECHO, 0);
	CHECK(fd >= 0 && news_are("B ;F u/#;L ;"));
	close(fd);
	CHECK(news_are(""));
	close(remote);
	close(wide);
	remove_files();
}

/* Clients of the broker before are still there; there are two brokers, or too many topics. */
static void bridges_not_yet(void)
{
	struct sockaddr_in sa;
	char topics[200];
	int port, wide, fd, remote = bridge_to(&port, "topic u/# out\n");

	wide = loopback_listener(&sa, false);
	fake_stats->news_later = 2;
	fd = to_port(port);
	CHECK(fd >= 0 && news_are("B ;F u/#;") && fake_stats->followed == 1);
	close(fd);
	CHECK(news_are("E ;"));
	fake_stats->news_later = UINT32_MAX;
	fd = to_port(port);
	CHECK(fd >= 0 && news_are("") && fake_stats->followed == 0 && told() == 1);
	close(fd);
	fd = to_port(port); /* at once: it has waited enough */
	close(fd);
	fake_stats->news_later = 0;
	close(remote);
	snprintf(topics, sizeof(topics), "topic u out\ntopic %0160d out\n", 0);
	remote = bridge_to(&port, topics);
	fd = to_port(port);
	CHECK(fd >= 0 && news_are("") && told() == 1 && fake_stats->followed == 0);
	close(fd);
	close(remote);
	close(wide);
	remove_files();
}

static void bridges_changed(void)
{
	struct sockaddr_in sa;
	int port;
	int remote = bridge_to(&port, "topic u/# out\n"), wide = loopback_listener(&sa, false);

	close(remote);
	CHECK(signal(SIGHUP, on_hup) == SIG_DFL);
	raise(SIGHUP);
	for (int i = 0; i < 3; i++)
		lt_broker_waits();
	CHECK(news_are("K ;"));
	write_conf("connection a\ntopic v out\n");
	raise(SIGHUP);
	for (int i = 0; i < 3; i++)
		lt_broker_waits();
	CHECK(strstr((const char *)fake_stats->news, ": other bridges: start the broker again;"));
	close(wide);
	remove_files();
}

int main(int argc, char **argv)
{
	static const struct lt_case cases[] = {
		CASE(reloads),
		CASE(checked),
		CASE(checked_pwait2),
		CASE(checked_late),
		CASE(not_checked),
		CASE(database),
		CASE(database_not),
		CASE(database_broken),
		CASE(database_long),
		CASE(database_too_long),
		CASE(database_refused),
		CASE(bridges_of_the_kernel),
		CASE(bridges_of_the_engine),
		CASE(bridges_not_yet),
		CASE(bridges_changed),
	};

	return case_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
