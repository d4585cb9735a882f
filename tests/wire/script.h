/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The language of wire scripts (README.md): one statement per line, executed as it is read.  What
 * concerns the application is in app.h.
 */
#ifndef TOE_TEST_WIRE_SCRIPT_H
#define TOE_TEST_WIRE_SCRIPT_H

#include "seg_frame.h"

#define WIRE_LINE 512u

typedef void wire_verb(char **rest);

static void wire_line(char *line);

/* Executes text made by a statement. */
static void wire_do(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void wire_do(const char *fmt, ...)
{
	char line[WIRE_LINE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	wire_line(line);
}

/* ---- segments ---- */

/* The peer learns from a segment it receives. */
static void wire_note_seg(const struct wire_seg *g)
{
	struct wire_peer *c = w.at;
	uint32_t end = g->seq + g->len + !!(g->flags & TOE_TCP_SYN) + !!(g->flags & TOE_TCP_FIN);
	uint32_t wnd = g->win;

	if (g->flags & TOE_TCP_SYN) {
		c->engine_ws = g->ws >= 0 ? (uint8_t)g->ws : 0;
		c->ts_offer = g->ts;
		c->ws_offer = g->ws >= 0;
		wire_negotiated(c);
	} else if (c->ws) {
		wnd <<= c->engine_ws;
	}
	if (g->ts)
		c->ts_val = g->ts_val;
	if (g->flags & TOE_TCP_RST)
		return;
	if (seq_gt(end, c->max))
		c->max = end;
	if (g->flags & TOE_TCP_ACK) {
		/* RFC 9293, 3.8.6: "never shrink the window"; may look smaller by rounding */
		if (c->edge != 0 && !(g->flags & TOE_TCP_SYN) &&
		    seq_lt(g->ack + wnd + (1u << c->engine_ws), c->edge))
			wire_fail("the right edge of the window moved back from %u to %u", c->edge,
				  g->ack + wnd);
		c->nxt = g->ack;
		c->edge = seq_max(c->edge, g->ack + wnd);
	}
}

static struct wire_seg wire_take(void)
{
	struct wire_frame *f = &w.frame[w.frame_head++ % WIRE_FRAMES];
	uint16_t lport = wire_frame_port(f, 0), port = wire_frame_port(f, 2);
	struct wire_peer *c = w.at;
	struct wire_seg g;

	if (lport != c->lport || port != c->port)
		wire_fail("a segment from port %u to %u, where %u to %u was expected", lport, port,
			  c->lport, c->port);
	if (!c->iss_known && (f->data[WIRE_TCP + 13] & TOE_TCP_SYN)) {
		c->iss = wire_get32(f->data + WIRE_TCP + 4);
		c->iss_known = true;
	}
	g = wire_decode(f, c);
	return g;
}

/* Answers to a flood are counted, not expected. */
static void wire_skip_flood(void)
{
	while (w.frame_head != w.frame_tail) {
		const struct wire_frame *f = &w.frame[w.frame_head % WIRE_FRAMES];
		unsigned port = wire_frame_port(f, 2);

		if (port < WIRE_FLOOD_PORT || port >= WIRE_FLOOD_PORT + WIRE_FLOOD_N)
			return;
		if ((f->data[WIRE_TCP + 13] & 0x3f) == (TOE_TCP_SYN | TOE_TCP_ACK))
			w.flood_synacks++;
		else
			w.flood_others++;
		w.frame_head++;
	}
}

static void wire_check_silent(void)
{
	wire_skip_flood();
	if (w.frame_head != w.frame_tail) {
		const struct wire_frame *f = &w.frame[w.frame_head % WIRE_FRAMES];
		uint64_t us = f->us;
		struct wire_seg g = wire_take();

		wire_fail("unexpected segment at %.3f ms: %s", (double)(us - WIRE_EPOCH) / 1000,
			  wire_seg_text(&g));
	}
}

static void wire_expect(uint64_t at_us, char **rest)
{
	struct wire_seg want, got;
	const char *why;
	uint64_t us;

	do {
		wire.engine->advance(at_us + wire.tolerance_us, true);
		wire_skip_flood();
	} while (w.frame_head == w.frame_tail && wire.engine->now_us() < at_us + wire.tolerance_us);
	if (w.frame_head == w.frame_tail)
		wire_fail("no segment came");
	us = w.frame[w.frame_head % WIRE_FRAMES].us;
	got = wire_take();
	want = wire_seg_parse(rest);
	why = wire_seg_differs(&want, &got);
	if (why != NULL)
		wire_fail("%s differs\n    expected %s\n    received %s", why, wire_seg_text(&want),
			  wire_seg_text(&got));
	if (us + wire.early_us < at_us || us > at_us + wire.tolerance_us)
		wire_fail("the segment came at %.3f ms, expected at %.3f: %s",
			  (double)(us - WIRE_EPOCH) / 1000, (double)(at_us - WIRE_EPOCH) / 1000,
			  wire_seg_text(&got));
	wire_note_seg(&got);
	wire.cursor_us = us > wire.cursor_us ? us : wire.cursor_us;
}

static void wire_send(struct wire_seg *g)
{
	uint8_t frame[WIRE_FRAME];
	uint32_t n;

	wire_seg_defaults(g);
	n = wire_seg_build(g, frame);
	wire.engine->frame(frame, n);
}

static void verb_send(char **rest)
{
	struct wire_seg g = wire_seg_parse(rest);

	wire_send(&g);
	if (!g.bad_sum && !g.bad_ip_sum && g.vlan < 0 && !g.src && !g.dst && !g.has_src6 &&
	    !g.has_dst6 && !g.cut)
		wire_seg_note(&g);
}

/* The quoted segment; returns its bytes of IP header and 8 of TCP. */
static unsigned wire_quote(uint8_t *out, uint32_t seq, uint32_t bytes)
{
	const struct frame_spec inner = {.six = wire.six,
					 .src = wire.engine_ip,
					 .dst = wire.peer_ip,
					 .sport = (uint16_t)(w.at->lport + wire.port_shift),
					 .dport = (uint16_t)(w.at->port + wire.port_shift),
					 .seq = seq + w.at->iss,
					 .flags = TOE_TCP_ACK,
					 .vlan = -1};
	uint16_t len = rte_cpu_to_be_16((uint16_t)(wire.six ? bytes - 40 : bytes));
	uint8_t quoted[128];

	frame_make(quoted, &inner);
	memcpy(quoted + 14 + (wire.six ? 4 : 2), &len, 2);
	memcpy(out, quoted + 14, WIRE_TCP - 14 + 8);
	return WIRE_TCP - 14 + 8;
}

/* Type and code of ICMPv6 for those of ICMP (RFC 4443, RFC 7915 §4.2). */
static void wire_icmp6_type(uint32_t *type, uint32_t *code)
{
	static const uint8_t unreachable[][2] = {{1, 0}, {1, 3}, {4, 1}, {1, 4}, {2, 0}};

	if (*type == 3) {
		*type = *code < 5 ? unreachable[*code][0] : 1;
		*code = *code < 5 ? unreachable[*code][1] : 1;
	} else {
		*type = *type == 11 ? 3 : *type == 12 ? 4 : 100;
	}
}

/* icmp TYPE CODE MTU SEQ [BYTES]: an error that quotes the segment with this sequence number, of a
 * packet of 1500 or so many bytes.  Over IPv6 the same in its words, MTU and bytes 20 larger: the
 * segments are the same. */
static void verb_icmp(char **rest)
{
	uint32_t type = wire_number(wire_next(rest)), code = wire_number(wire_next(rest));
	uint32_t mtu = wire_number(wire_next(rest)), seq = wire_number(wire_next(rest));
	char *more = strtok_r(NULL, " \t", rest);
	uint32_t more_bytes = wire.six ? 20 : 0;
	uint32_t bytes = (more != NULL ? wire_number(more) : 1500) + more_bytes;
	const struct frame_spec outer = {.six = wire.six,
					 .src = (wire.peer_ip & ~0xffu) | 0xfe,
					 .dst = wire.engine_ip,
					 .vlan = -1,
					 .payload_len = wire.six ? 36 : 16};
	uint8_t frame[160];
	uint8_t *icmp = frame + WIRE_TCP;
	unsigned n;

	frame_make(frame, &outer);
	memset(icmp, 0, 8);
	if (wire.six)
		wire_icmp6_type(&type, &code);
	icmp[0] = (uint8_t)type;
	icmp[1] = (uint8_t)code;
	n = 8 + wire_quote(icmp + 8, seq, bytes);
	if (wire.six) {
		struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(frame + 14);
		uint16_t sum;

		wire_put32(icmp + 4, mtu != 0 ? mtu + more_bytes : 0);
		ip->proto = 58;
		sum = rte_ipv6_udptcp_cksum(ip, icmp);
		memcpy(icmp + 2, &sum, 2);
	} else {
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + 14);
		uint16_t sum;

		icmp[6] = (uint8_t)(mtu >> 8);
		icmp[7] = (uint8_t)mtu;
		sum = (uint16_t)~rte_raw_cksum(icmp, n);
		memcpy(icmp + 2, &sum, 2);
		ip->next_proto_id = 1;
		ip->hdr_checksum = 0;
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	}
	wire.engine->frame(frame, WIRE_TCP + n);
}

/* flood N [FLAGS]: segments from as many ports; what is answered is counted. */
static void verb_flood(char **rest)
{
	uint32_t n = wire_number(wire_next(rest));
	char *flags = strtok_r(NULL, " \t", rest);
	struct wire_peer *at = w.at;
	struct wire_peer p = *at;

	for (uint32_t i = 0; i < n; i++) {
		p.port = (uint16_t)(WIRE_FLOOD_PORT + i % WIRE_FLOOD_N);
		p.pnxt = 0;
		w.at = &p;
		wire_do("< %s 0:0 ack 77 win 1000 mss 1000", flags != NULL ? flags : "S");
		w.at = at;
		wire_skip_flood();
	}
}

/* peer PORT [LOCAL]: the statements that follow are about this peer of our port LOCAL. */
static void verb_peer(char **rest)
{
	uint16_t port = (uint16_t)wire_number(wire_next(rest));
	char *local = strtok_r(NULL, " \t", rest);
	uint16_t lport = (uint16_t)(local != NULL ? wire_number(local) : WIRE_SERVER_PORT);

	for (unsigned i = 0; i < w.peer_n; i++)
		if (w.peer[i].port == port && w.peer[i].lport == lport) {
			w.at = &w.peer[i];
			return;
		}
	w.at = wire_peer_add(lport, port);
}

/* Forgets all but the addresses: the next connection of the same peer. */
static void verb_again(char **rest)
{
	uint16_t lport = w.at->lport, port = w.at->port;
	int32_t skew = w.at->ts_skew;
	uint32_t irs = w.at->irs;

	(void)rest;
	*w.at = (struct wire_peer){.lport = lport,
				   .port = port,
				   .irs = irs,
				   .ts_skew = skew,
				   .win = 60000,
				   .slot = WIRE_NONE};
}

static void verb_drain(char **rest)
{
	(void)rest;
	wire.engine->settle();
	while (wire_skip_flood(), w.frame_head != w.frame_tail) {
		struct wire_seg g = wire_take();

		wire_note_seg(&g);
	}
}

/* ---- numbers ---- */

static void verb_peer_isn(char **rest)
{
	w.at->irs = wire_number(wire_next(rest));
}

static void verb_window(char **rest)
{
	w.at->win = wire_number(wire_next(rest));
}

static void verb_ts_skew(char **rest)
{
	w.at->ts_skew = (int32_t)wire_number(wire_next(rest));
}

static void verb_tolerance(char **rest)
{
	wire.tolerance_us = wire_number(wire_next(rest)) * 1000 + wire.slack_us;
}

/* ---- what is known of the engine ---- */

/* Until the engine is as expected, or gives no hope of it. */
static bool wire_until(bool (*as_expected)(const void *), const void *what)
{
	wire.engine->settle();
	while (!as_expected(what))
		if (!wire.engine->wait())
			return false;
	return true;
}

static const char *wire_state_now(void)
{
	const char *is = wire.engine->state(w.at);

	return strcmp(is, "LISTEN") == 0 && w.at->iss_known ? "CLOSED" : is;
}

static bool wire_state_is(const void *name)
{
	return strcmp(wire_state_now(), name) == 0;
}

static void verb_state(char **rest)
{
	const char *want = wire_next(rest);

	if (!wire_until(wire_state_is, want))
		wire_fail("the state is %s, expected %s", wire_state_now(), want);
}

/* count NAME N: a counter of the control plane, a stage's counter or a drop reason. */
static void verb_count(char **rest)
{
	const char *name = wire_next(rest);
	uint32_t want = wire_number(wire_next(rest));
	uint64_t is;

	wire.engine->settle();
	if (strcmp(name, "flood_synacks") == 0)
		is = w.flood_synacks;
	else if (strcmp(name, "flood_others") == 0)
		is = w.flood_others;
	else if (wire.engine->counter == NULL)
		return;
	else if (!wire.engine->counter(name, &is))
		wire_fail("there is no counter '%s'", name);
	if (is != want)
		wire_fail("%s is %llu, expected %u", name, (unsigned long long)is, want);
}

/* ---- settings before the start ---- */

static void verb_config(char **rest)
{
	const char *name = wire_next(rest);
	uint32_t v = wire_number(wire_next(rest));

	if (wire.started)
		wire_fail("config comes first");
	if (!wire.engine->config(name, v))
		wire_fail("no setting '%s'", name);
}

#endif
