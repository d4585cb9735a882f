/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.sock: one request line {"cmd": "conns"|"listeners"|"status"}, one JSON document back,
 * end. A list of thousands of connections is produced in pieces, one per write, so that the event
 * loop is never held up for long.  Control-plane thread, libuv callbacks.
 */
#include "query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

#define REQUEST_MAX 1024u
#define CLIENTS_MAX 16u
#define PIECE_ROWS  64u
#define PIECE_LOOK  4096u /* table entries looked at for one piece */

struct client {
	uv_pipe_t pipe;
	uv_write_t write;
	struct cp *cp;
	size_t got;
	char line[REQUEST_MAX];
	/* list in progress */
	uint32_t at;
	uint32_t end;
	/* The row of table entry i, NULL if there is none. */
	json_t *(*row)(const struct cp *cp, uint32_t i);
	bool first;
	char *text; /* being written */
	size_t text_len;
	size_t text_max;
};

static struct {
	uv_pipe_t pipe;
	struct cp *cp;
	unsigned clients;
} server;

static void on_closed(uv_handle_t *h)
{
	struct client *c = h->data;

	free(c->text);
	free(c);
	server.clients--;
}

static void client_close(struct client *c)
{
	if (!uv_is_closing((uv_handle_t *)&c->pipe))
		uv_close((uv_handle_t *)&c->pipe, on_closed);
}

static bool add_text(struct client *c, const char *s, size_t len)
{
	if (c->text_len + len > c->text_max) {
		size_t max = (c->text_len + len) * 2;
		char *p = realloc(c->text, max);

		if (!p)
			return false;
		c->text = p;
		c->text_max = max;
	}
	memcpy(c->text + c->text_len, s, len);
	c->text_len += len;
	return true;
}

static bool add_json(struct client *c, json_t *o)
{
	char *s = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6));
	bool ok = s && add_text(c, s, strlen(s));

	free(s);
	json_decref(o);
	return ok;
}

static void next_piece(struct client *c);

static void on_written(uv_write_t *w, int status)
{
	struct client *c = w->data;

	if (status < 0 || !c->row)
		client_close(c);
	else
		next_piece(c);
}

static void send_text(struct client *c)
{
	uv_buf_t b = uv_buf_init(c->text, (unsigned)c->text_len);

	c->write.data = c;
	if (uv_write(&c->write, (uv_stream_t *)&c->pipe, &b, 1, on_written))
		client_close(c);
}

static json_t *row_conn(const struct cp *cp, uint32_t i)
{
	uint32_t conn_n = cp->st->conn_n;

	if (i < conn_n)
		return cp->conns[i].state != CP_FREE ? cp_query_conn(cp, i) : NULL;
	i -= conn_n;
	if (i < cp->st->tw_n)
		return cp->tw[i].flags & CP_TW_USED ? cp_query_tw(cp, i) : NULL;
	i -= cp->st->tw_n;
	return cp->half_list.link[i].in ? cp_query_half(cp, i) : NULL;
}

static json_t *row_listener(const struct cp *cp, uint32_t i)
{
	uint32_t app = i / cp->st->listener_n;
	uint32_t l = i % cp->st->listener_n;

	if (cp->apps[app].state == CP_APP_FREE || l >= cp->apps[app].listener_n ||
	    cp_listener_rec(cp, app, l)->state == CP_LISTENER_FREE)
		return NULL;
	return cp_query_listener(cp, app, l);
}

/* The next rows; the closing bracket ends the answer. */
static void next_piece(struct client *c)
{
	bool ok = true;
	uint32_t rows = 0;

	c->text_len = 0;
	for (uint32_t n = 0; ok && c->at < c->end && n < PIECE_LOOK && rows < PIECE_ROWS; n++) {
		json_t *o = c->row(c->cp, c->at++);

		if (!o)
			continue;
		rows++;
		ok = (c->first || add_text(c, ",\n", 2)) && add_json(c, o);
		c->first = false;
	}
	if (c->at >= c->end) {
		c->row = NULL;
		ok = ok && add_text(c, "]}\n", 3);
	} else if (!rows) {
		ok = add_text(c, " ", 1); /* white space keeps the document valid */
	}
	if (ok)
		send_text(c);
	else
		client_close(c);
}

static void start_list(struct client *c, const char *name)
{
	char head[64];
	int n = snprintf(head, sizeof(head), "{\"%s\":[\n", name);

	c->at = 0;
	c->first = true;
	c->text_len = 0;
	if (add_text(c, head, (size_t)n))
		send_text(c); /* next_piece() follows when it is written */
	else
		client_close(c);
}

static void answer(struct client *c, json_t *o)
{
	c->text_len = 0;
	c->row = NULL;
	if (add_json(c, o) && add_text(c, "\n", 1))
		send_text(c);
	else
		client_close(c);
}

static void request(struct client *c)
{
	const struct cp_state_hdr *st = c->cp->st;
	json_error_t err;
	json_t *req = json_loads(c->line, 0, &err);
	const char *cmd = json_string_value(json_object_get(req, "cmd"));

	if (cmd && !strcmp(cmd, "status")) {
		answer(c, cp_query_status(c->cp));
	} else if (cmd && !strcmp(cmd, "conns")) {
		c->row = row_conn;
		c->end = st->conn_n + st->tw_n + c->cp->half_max;
		start_list(c, "conns");
	} else if (cmd && !strcmp(cmd, "listeners")) {
		c->row = row_listener;
		c->end = st->app_n * st->listener_n;
		start_list(c, "listeners");
	} else {
		answer(c, json_pack("{s:s}", "error",
				    req ? "cmd must be conns, listeners or status" : err.text));
	}
	json_decref(req);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	struct client *c = h->data;

	(void)hint;
	*b = uv_buf_init(c->line + c->got, (unsigned)(REQUEST_MAX - 1 - c->got));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct client *c = s->data;
	char *end;

	(void)b;
	if (n < 0) {
		client_close(c);
		return;
	}
	c->got += (size_t)n;
	c->line[c->got] = '\0';
	end = strchr(c->line, '\n');
	if (end) {
		*end = '\0';
		uv_read_stop(s);
		request(c);
	} else if (c->got >= REQUEST_MAX - 1) {
		client_close(c);
	}
}

static void on_connect(uv_stream_t *s, int status)
{
	struct client *c;

	if (status < 0)
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->cp = server.cp;
	uv_pipe_init(s->loop, &c->pipe, 0);
	c->pipe.data = c;
	server.clients++;
	if (uv_accept(s, (uv_stream_t *)&c->pipe) || server.clients > CLIENTS_MAX ||
	    uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read))
		client_close(c);
}

int cp_query_open(struct cp *cp, uv_loop_t *loop, const char *path)
{
	int err;

	server.cp = cp;
	unlink(path); /* only one control plane lives at a time: the keeper's word */
	uv_pipe_init(loop, &server.pipe, 0);
	err = uv_pipe_bind(&server.pipe, path);
	if (!err && chmod(path, 0660) < 0)
		err = -errno;
	if (!err)
		err = uv_listen((uv_stream_t *)&server.pipe, 8, on_connect);
	if (err)
		LOG_ERROR("%s: %s", path, uv_strerror(err));
	return err;
}
