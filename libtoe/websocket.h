/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT out of one direction of a WebSocket connection (RFC 6455, MQTT 5.0 §6): first the head of
 * the opening handshake, then frames.  No I/O, no memory of its own.
 *
 * What MQTT over WebSocket does not have is not read along but refused: extensions, which would
 * change the payload, and frames that nobody may send.  So a stream that is not refused has the
 * same payload for everybody who reads it.  Three things that are forbidden, too, are taken as
 * data, since mosquitto (libwebsockets) takes them, and another broker would close: frames of text
 * ([MQTT-6.0.0-1]), frames of a client without a mask, lines of the head that end without CR.
 */
#ifndef LT_WEBSOCKET_H
#define LT_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LT_WS_HEAD_MAX 16384u /* bytes of a handshake's head */
#define LT_WS_LINE     64u    /* of each line so many are looked at */

enum lt_ws_side {
	LT_WS_CLIENT, /* what a client sends: a request, then frames, masked (RFC 6455 §5.1) */
	LT_WS_SERVER, /* 101, then frames without a mask */
};

/* One thread at a time. */
struct lt_ws {
	uint64_t left;   /* bytes of the frame's payload that are to come */
	uint32_t head_n; /* bytes of the handshake's head so far */
	uint8_t side;    /* enum lt_ws_side */
	uint8_t state;
	uint8_t opcode;
	uint8_t want; /* bytes of length and mask that are to come */
	uint8_t mask[4];
	uint8_t mask_at;
	bool lines;   /* the head's first one is over, and is what it should be */
	bool upgrade; /* the head says so */
	bool masked;  /* the frame */
	bool mqtt;    /* and asks for that subprotocol, or may */
	uint8_t line_n;
	char line[LT_WS_LINE]; /* its beginning, lower case */
};

void lt_ws_begin(struct lt_ws *w, enum lt_ws_side side);

/*
 * Takes bytes from the front of data (len > 0), at most as many as have room bytes of payload
 * (room > 0).  *n: bytes of payload that were written to out, without the mask.  Returns how many
 * bytes were taken; 0: this is not MQTT over WebSocket, do not go on.
 */
size_t lt_ws_feed(struct lt_ws *w, const uint8_t *data, size_t len, uint8_t *out, size_t room,
		  size_t *n);

/* The handshake's head is over, and it is one. */
bool lt_ws_open(const struct lt_ws *w);

#endif
