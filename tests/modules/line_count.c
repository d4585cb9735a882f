/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small stream module, as an example and for tests: a proxy for line protocols that counts.
 *
 * Input: lines of the peer and of the application, split anywhere.  Lines of the peer reach the
 * application, but for those that begin with '?': they are consumed, and answered "= N" with the
 * number of lines forwarded so far.  An answer waits until the application's stream is between two
 * lines, so that it never lands inside one.  State: struct line per connection.  Thread: the stream
 * stage's.
 */
#include <stdio.h>
#include <string.h>

#include "stream_module.h"

#define LINE_PORT  7777u
#define ANSWER_MAX 16u

struct line {
	uint32_t lines;   /* forwarded */
	uint32_t answers; /* owed to the peer */
	bool question;    /* inside a line that is consumed */
	bool middle_rx;   /* not at the start of a line */
	bool middle_tx;
};

static bool line_wants(const struct toe_config *cfg, uint16_t local_port)
{
	(void)cfg;
	return local_port == LINE_PORT;
}

static void line_open(struct toe_stream *s, struct toe_stream_conn *c)
{
	(void)s;
	(void)c;
}

static void line_answer(struct toe_stream *s, struct toe_stream_conn *c, struct line *l)
{
	struct toe_buf *b;
	int rc;

	while (l->answers > 0 && !l->middle_tx) {
		b = toe_stream_buf_new(s, ANSWER_MAX);
		if (b == NULL)
			return; /* with the next line */
		b->len = (uint32_t)snprintf((char *)b->data, ANSWER_MAX, "= %u\n", l->lines);
		rc = toe_stream_send(s, c, b, 0, b->len);
		toe_stream_buf_put(s, b); /* the queue has a reference of its own */
		if (rc != 0)
			return;
		l->answers--;
	}
}

static size_t line_rx(struct toe_stream *s, struct toe_stream_conn *c, const uint8_t *data,
		      size_t len)
{
	struct line *l = toe_stream_state(c);
	size_t at = 0;

	while (at < len) {
		const uint8_t *end = memchr(data + at, '\n', len - at);
		size_t n = end != NULL ? (size_t)(end - data) + 1 - at : len - at;

		if (!l->middle_rx)
			l->question = data[at] == '?';
		if (l->question)
			toe_stream_consume(s, c, n);
		else if (toe_stream_forward(s, c, data + at, n, true) != 0)
			return len;
		l->middle_rx = end == NULL;
		if (end != NULL && l->question)
			l->answers++;
		else if (end != NULL)
			l->lines++;
		at += n;
	}
	line_answer(s, c, l);
	return len;
}

static size_t line_tx(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
		      uint32_t off, uint32_t len)
{
	struct line *l = toe_stream_state(c);

	if (toe_stream_send(s, c, b, off, len) != 0)
		return 0; /* again when there is room: the engine offers it with the next ACK */
	l->middle_tx = b->data[off + len - 1] != '\n';
	line_answer(s, c, l);
	return len;
}

static bool line_rx_end(struct toe_stream *s, struct toe_stream_conn *c)
{
	(void)s;
	(void)c;
	return true;
}

static void line_end(struct toe_stream *s, struct toe_stream_conn *c)
{
	(void)s;
	(void)c;
}

const struct toe_stream_module line_count_module = {
	.name = "line_count",
	.conn_bytes = sizeof(struct line),
	.wants = line_wants,
	.open = line_open,
	.close = line_end,
	.rx = line_rx,
	.rx_end = line_rx_end,
	.tx = line_tx,
	.tx_end = line_end,
};
TOE_STREAM_MODULE(line_count_module);
