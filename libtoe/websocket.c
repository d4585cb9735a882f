// SPDX-License-Identifier: BSD-3-Clause
/*
 * MQTT out of one direction of a WebSocket connection: see websocket.h.  In: bytes as they were
 * read or written, cut anywhere; out: payload of data frames.
 */
#include "libtoe/websocket.h"

#include <string.h>

#define BIT_FIN     0x80u
#define BITS_RSV    0x70u
#define BIT_MASK    0x80u
#define LEN_2       126u /* the length is in the next two bytes */
#define LEN_8       127u
#define CONTROL_MAX 125u

enum { HEAD, FIRST, LENGTH, LENGTH_MORE, MASK, PAYLOAD };
enum { OP_CONTINUE, OP_TEXT, OP_BINARY, OP_CLOSE = 8, OP_PING, OP_PONG };

void lt_ws_begin(struct lt_ws *w, enum lt_ws_side side)
{
	*w = (struct lt_ws){.side = (uint8_t)side};
}

bool lt_ws_open(const struct lt_ws *w)
{
	return w->state != HEAD;
}

/* ---- handshake (RFC 6455 §4) ---- */

static bool line_is(const struct lt_ws *w, const char *begin)
{
	size_t n = strlen(begin);

	return w->line_n >= n && memcmp(w->line, begin, n) == 0;
}

/* A whole line; false: refused. */
static bool head_line(struct lt_ws *w)
{
	if (!w->lines && w->side == LT_WS_SERVER)
		return line_is(w, "http/1.1 101");
	if (!w->lines) /* of any method: libwebsockets is not particular */
		return w->line_n == LT_WS_LINE || memmem(w->line, w->line_n, " http/1.", 8);
	if (line_is(w, "upgrade:"))
		w->upgrade = true;
	if (line_is(w, "sec-websocket-protocol:"))
		w->mqtt = w->line_n == LT_WS_LINE || memmem(w->line, w->line_n, "mqtt", 4) != NULL;
	/* asked for is not given */
	return w->side == LT_WS_CLIENT || !line_is(w, "sec-websocket-extensions:");
}

static char lower(uint8_t c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* One byte of the head; false: refused. */
static bool head_byte(struct lt_ws *w, uint8_t c)
{
	if (++w->head_n > LT_WS_HEAD_MAX)
		return false;
	if (c != '\n') {
		if (w->line_n < LT_WS_LINE)
			w->line[w->line_n++] = lower(c);
		return true;
	}
	if (w->line_n == 0 || (w->line_n == 1 && w->line[0] == '\r')) {
		w->state = FIRST;
		return w->upgrade;
	}
	if (!head_line(w))
		return false;
	w->lines = true;
	w->line_n = 0;
	return true;
}

/* ---- frames (RFC 6455 §5.2) ---- */

static bool first_byte(struct lt_ws *w, uint8_t c)
{
	w->opcode = c & 0x0fu;
	if (c & BITS_RSV)
		return false;
	if (w->opcode <= OP_BINARY)
		return true;
	return w->opcode >= OP_CLOSE && w->opcode <= OP_PONG && (c & BIT_FIN);
}

static void length_known(struct lt_ws *w)
{
	if (w->masked) {
		w->state = MASK;
		w->want = sizeof(w->mask);
		return;
	}
	w->state = w->left ? PAYLOAD : FIRST;
}

static bool length_byte(struct lt_ws *w, uint8_t c)
{
	uint8_t len = c & 0x7fu;

	w->masked = c & BIT_MASK;
	if ((w->masked && w->side == LT_WS_SERVER) || (w->opcode >= OP_CLOSE && len > CONTROL_MAX))
		return false;
	memset(w->mask, 0, sizeof(w->mask));
	w->left = len;
	if (len < LEN_2) {
		length_known(w);
		return true;
	}
	w->left = 0;
	w->want = len == LEN_2 ? 2 : 8;
	w->state = LENGTH_MORE;
	return true;
}

static bool length_more(struct lt_ws *w, uint8_t c)
{
	w->left = w->left << 8 | c;
	if (--w->want > 0)
		return true;
	length_known(w);
	return w->left >> 63 == 0 && (w->masked || w->left > 0);
}

static void mask_byte(struct lt_ws *w, uint8_t c)
{
	w->mask[sizeof(w->mask) - w->want] = c;
	if (--w->want > 0)
		return;
	w->mask_at = 0;
	w->state = w->left ? PAYLOAD : FIRST;
}

/* Control frames may come between the parts of a message (§5.5): they are left out. */
static size_t payload(struct lt_ws *w, const uint8_t *data, size_t len, uint8_t *out, size_t room,
		      size_t *n)
{
	bool control = w->opcode >= OP_CLOSE;
	size_t take = w->left < len ? (size_t)w->left : len;

	if (!control) {
		take = take < room ? take : room;
		for (size_t i = 0; i < take; i++)
			out[i] = data[i] ^ w->mask[w->mask_at++ % sizeof(w->mask)];
		*n = take;
	}
	w->left -= take;
	if (!w->left)
		w->state = FIRST;
	return take;
}

static bool header_byte(struct lt_ws *w, uint8_t c)
{
	switch (w->state) {
	case HEAD:
		return head_byte(w, c);
	case FIRST:
		w->state = LENGTH;
		return first_byte(w, c);
	case LENGTH:
		return length_byte(w, c);
	case LENGTH_MORE:
		return length_more(w, c);
	default:
		mask_byte(w, c);
		return true;
	}
}

size_t lt_ws_feed(struct lt_ws *w, const uint8_t *data, size_t len, uint8_t *out, size_t room,
		  size_t *n)
{
	size_t at = 0;

	*n = 0;
	while (at < len && w->state != PAYLOAD) {
		if (!header_byte(w, data[at++]))
			return 0;
	}
	return at < len ? at + payload(w, data + at, len - at, out, room, n) : at;
}
