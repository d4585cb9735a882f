// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.h tests/unit/lt_case.c */
/* LIBS: -lssl -lcrypto */
/*
 * What libtoe sees of TLS, with OpenSSL at both ends in this program: each call that reads or
 * writes plaintext, through the kernel and through the engine, and which calls are taken at all.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "libtoe/lt.h"
#include "lt_case.h"
#include "lt_fake.h"
#include "lt_kconn.h"

#define CONNECT_A "\x10\x0d\0\4MQTT\4\2\0\0\0\1A"
#define SUB_T     "\x82\x06\0\1\0\1t\0"
#define SUB_U     "\x82\x06\0\2\0\1u\0"
#define CONNACK   "\x20\2\0\0"
#define BYTES(s)  (s), sizeof(s) - 1

enum how { PLAIN, EX, POINTER, WAYS };

static struct ends {
	bool kernel;
	int wide, c, s;
	SSL *cs, *ss;
} e;

static SSL *session(int fd, bool server)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	SSL *ssl;

	CHECK(ctx && SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION) == 1);
	CHECK(SSL_CTX_set_cipher_list(ctx, "aNULL:@SECLEVEL=0") == 1); /* no certificates */
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	CHECK(ssl && SSL_set_fd(ssl, fd) == 1);
	CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	return ssl;
}

static void come(bool kernel)
{
	struct sockaddr_in sa;
	int client = 0, server = 0;

	e = (struct ends){.kernel = kernel, .wide = -1};
	if (kernel) {
		e.wide = loopback_listener(&sa, false);
		e.c = to_kernel(&sa);
		e.s = accept(e.wide, NULL, NULL);
		CHECK(e.s >= 0);
	} else {
		make_pair(&e.c, &e.s);
	}
	e.cs = session(e.c, false);
	e.ss = session(e.s, true);
	while (client != 1 || server != 1) {
		client = SSL_connect(e.cs);
		server = SSL_accept(e.ss);
		CHECK(client == 1 || SSL_get_error(e.cs, client) == SSL_ERROR_WANT_READ);
		CHECK(server == 1 || SSL_get_error(e.ss, server) == SSL_ERROR_WANT_READ);
	}
	CHECK(news_are(""));
}

static void leave(void)
{
	SSL_free(e.ss);
	SSL_free(e.cs);
	close(e.s);
	close(e.c);
	if (e.wide >= 0)
		close(e.wide);
	CHECK(told() == 0 && fake_stats->followed == 0 && fake_stats->bad == 0);
}

static int plain_read(SSL *ssl, void *buf, int len)
{
	return SSL_read(ssl, buf, len);
}

static int plain_write(SSL *ssl, const void *buf, int len)
{
	return SSL_write(ssl, buf, len);
}

static int ex_read(SSL *ssl, void *buf, int len)
{
	size_t n = 0;
	int ok = SSL_read_ex(ssl, buf, (size_t)len, &n);

	CHECK(ok == 0 || ok == 1);
	return ok ? (int)n : -1;
}

static int ex_write(SSL *ssl, const void *buf, int len)
{
	size_t n = 0;
	int ok = SSL_write_ex(ssl, buf, (size_t)len, &n);

	CHECK(ok == 0 || ok == 1);
	return ok ? (int)n : -1;
}

/* How a program calls it; what was read or written, or at most 0. */
static const struct {
	int (*read)(SSL *ssl, void *buf, int len);
	int (*write)(SSL *ssl, const void *buf, int len);
} ways[WAYS] = {
	[PLAIN] = {plain_read, plain_write},
	[EX] = {ex_read, ex_write},
	[POINTER] = {SSL_read, SSL_write}, /* relocations of data that is read-only by now */
};

/* The client sends it; the server reads all of it, two bytes at a time. */
static void reads(enum how how, const void *data, size_t n)
{
	char buf[256];
	int rc;

	CHECK(n <= sizeof(buf) && SSL_write(e.cs, data, (int)n) == (int)n);
	for (size_t got = 0; got < n; got += (size_t)rc) {
		while ((rc = ways[how].read(e.ss, buf + got, n - got < 2 ? (int)(n - got) : 2)) <=
		       0)
			CHECK(SSL_get_error(e.ss, 0) == SSL_ERROR_WANT_READ);
	}
	CHECK(memcmp(buf, data, n) == 0);
	CHECK(ways[how].read(e.ss, buf, 1) <= 0 && SSL_get_error(e.ss, -1) == SSL_ERROR_WANT_READ);
}

/* And the client gets what the server writes. */
static void writes(enum how how, const void *data, size_t n)
{
	char buf[256];
	int rc;

	CHECK(n <= sizeof(buf) && ways[how].write(e.ss, data, (int)n) == (int)n);
	while ((rc = SSL_read(e.cs, buf, sizeof(buf))) < 0)
		CHECK(SSL_get_error(e.cs, rc) == SSL_ERROR_WANT_READ);
	CHECK(rc == (int)n && memcmp(buf, data, n) == 0);
}

/* Each way to read with each way to write. */
static void tls_followed(void)
{
	for (unsigned i = 0; i < 2u * WAYS * WAYS; i++) {
		enum how in = i / 2 % WAYS, out = i / 2 / WAYS;

		come(i & 1);
		reads(in, BYTES(CONNECT_A));
		CHECK(news_are(""));
		writes(out, BYTES(CONNACK));
		CHECK(news_are("C A;"));
		CHECK(fake_stats->followed == e.kernel);
		reads(in, BYTES(SUB_T));
		CHECK(news_are("F t;"));
		reads(in, BYTES(SUB_U));
		CHECK(news_are("F u;"));
		leave();
		CHECK(news_are("E ;"));
	}
}

/* An answer that cannot be written is one, too: the broker acts on what it meant to say. */
static void tls_unwritten(void)
{
	for (unsigned how = 0; how < WAYS; how++) {
		const struct linger reset = {1, 0};

		come(true);
		reads(how, BYTES(CONNECT_A));
		CHECK(setsockopt(e.c, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
		close(e.c);
		signal(SIGPIPE, SIG_IGN);
		CHECK(ways[how].write(e.ss, CONNACK, 4) <= 0);
		CHECK(news_are("C A;"));
		e.c = dup(0);
		leave();
		CHECK(news_are("E ;"));
	}
}

/* What a library has got for itself stays OpenSSL's: nobody knows what is read that way. */
static void tls_of_others(void)
{
	int (*theirs)(SSL *, void *, int);
	void *found = dlsym(RTLD_DEFAULT, "SSL_read");
	char buf[64];

	memcpy(&theirs, &found, sizeof(theirs));
	come(true);
	CHECK(SSL_write(e.cs, BYTES(CONNECT_A)) == sizeof(CONNECT_A) - 1);
	while (theirs(e.ss, buf, sizeof(buf)) <= 0)
		CHECK(SSL_get_error(e.ss, -1) == SSL_ERROR_WANT_READ);
	writes(PLAIN, BYTES(CONNACK));
	reads(PLAIN, BYTES(SUB_T));
	CHECK(news_are("") && told() == 2 && fake_stats->followed == 0);
	leave();
}

/* The program's own use of TLS as a client, and its errors, stay what they are. */
static void tls_transparent(void)
{
	size_t n = 7;
	char c;

	come(false);
	CHECK(SSL_read(e.ss, &c, 0) <= 0);
	ERR_clear_error();
	CHECK(SSL_read_ex(e.ss, &c, 1, &n) == 0 && SSL_get_error(e.ss, 0) == SSL_ERROR_WANT_READ);
	CHECK(ERR_peek_error() == 0);
	CHECK(SSL_shutdown(e.cs) == 0);
	while (SSL_read(e.ss, &c, 1) < 0)
		;
	CHECK(SSL_get_error(e.ss, 0) == SSL_ERROR_ZERO_RETURN);
	CHECK(SSL_read_ex(e.ss, &c, 1, &n) == 0 && SSL_get_error(e.ss, 0) == SSL_ERROR_ZERO_RETURN);
	leave();
	CHECK(news_are(""));
}

int main(int argc, char **argv)
{
	static const struct lt_case cases[] = {
		CASE(tls_followed),
		CASE(tls_unwritten),
		CASE(tls_of_others),
		CASE(tls_transparent),
	};

	return case_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
