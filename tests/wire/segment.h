/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segments of wire scripts: text to struct, struct to frame, frame to struct, and the comparison of
 * what was expected with what came.  Own parser and builder, DPDK's checksums: nothing here uses
 * the code under test.
 */
#ifndef TOE_TEST_WIRE_SEGMENT_H
#define TOE_TEST_WIRE_SEGMENT_H

#include "wire.h"

#define WIRE_SACKS 4u

struct wire_seg {
	uint8_t flags;
	uint32_t seq, len, ack, win; /* seq and ack relative to the initial ones */
	bool has_seq, has_len, has_ack, has_win;
	bool any_seq;
	uint16_t mss; /* 0: no option */
	int ws;       /* -1: no option */
	bool sackok;
	bool ts, no_ts, any_opts;
	uint32_t ts_val, ts_ecr;
	bool any_val, any_ecr;
	unsigned sack_n;
	uint32_t sack[WIRE_SACKS][2];
	uint8_t ecn;
	bool has_ecn;
	/* what only the peer does */
	uint8_t raw[40]; /* options instead of all others */
	unsigned raw_n;
	bool bad_sum, bad_ip_sum;
	int vlan;
	uint16_t frag; /* fragment field of the IP header */
	uint16_t urg;
	unsigned ip_opts;           /* bytes of NOP */
	uint32_t src, dst;          /* other addresses, host order; 0: the usual ones */
	unsigned doff, ip_len, cut; /* header fields that lie; bytes missing at the end */
	uint32_t salt;              /* other bytes than the stream's */
};

/* ---- text ---- */

static uint32_t wire_symbol(const char *s, size_t n)
{
	const struct wire_peer *p = w.at;
	const struct {
		const char *name;
		uint32_t value;
	} known[] = {{"nxt", p->nxt}, {"edge", p->edge},    {"max", p->max},
		     {"una", p->una}, {"pnxt", p->pnxt},    {"wnd", p->edge - p->nxt},
		     {"win", p->win}, {"tsval", p->ts_val}, {"now", (uint32_t)(sim.us / 1000)}};

	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strlen(known[i].name) == n && memcmp(known[i].name, s, n) == 0)
			return known[i].value;
	wire_fail("unknown word '%.*s'", (int)n, s);
}

/* NUMBER or a word of wire_symbol(), joined by + and -. */
static uint32_t wire_number(const char *s)
{
	uint32_t sum = 0;
	bool minus = false;

	if (*s == '-') {
		minus = true;
		s++;
	}
	for (;;) {
		size_t n = strcspn(s, "+-");
		uint32_t v;

		if (n == 0)
			wire_fail("a number is missing in front of '%s'", s);
		v = *s >= '0' && *s <= '9' ? (uint32_t)strtoul(s, NULL, 0) : wire_symbol(s, n);
		sum = minus ? sum - v : sum + v;
		if (s[n] == '\0')
			return sum;
		minus = s[n] == '-';
		s += n + 1;
	}
}

/* A:B, the second part optional; false: no second part. */
static bool wire_pair(char *s, uint32_t *a, uint32_t *b)
{
	char *colon = strchr(s, ':');

	if (colon != NULL)
		*colon = '\0';
	*a = wire_number(s);
	*b = colon != NULL ? wire_number(colon + 1) : 0;
	return colon != NULL;
}

static uint8_t wire_flags(const char *s)
{
	static const char letters[] = "FSRP.UEW";
	uint8_t flags = 0;

	for (; *s != '\0'; s++) {
		const char *at = strchr(letters, *s);

		if (*s == '0')
			continue; /* none */
		if (at == NULL)
			wire_fail("'%c' is no flag, use %s", *s, letters);
		flags |= (uint8_t)(1u << (at - letters));
	}
	return flags;
}

static void wire_hex(const char *s, struct wire_seg *g)
{
	for (; s[0] != '\0' && s[1] != '\0'; s += 2) {
		char two[3] = {s[0], s[1], 0};

		if (g->raw_n == sizeof(g->raw))
			wire_fail("options are at most 40 bytes");
		g->raw[g->raw_n++] = (uint8_t)strtoul(two, NULL, 16);
	}
}

/* Words without a value; false: not one of them. */
static bool wire_word(const char *word, struct wire_seg *g)
{
	if (strcmp(word, "sackok") == 0)
		g->sackok = true;
	else if (strcmp(word, "nots") == 0)
		g->no_ts = true;
	else if (strcmp(word, "anyopts") == 0)
		g->any_opts = true;
	else if (strcmp(word, "ce") == 0 || strcmp(word, "ect") == 0 ||
		 strcmp(word, "notect") == 0) {
		g->ecn = word[0] == 'c' ? 3 : word[0] == 'e' ? 2 : 0;
		g->has_ecn = true;
	} else if (strcmp(word, "badsum") == 0)
		g->bad_sum = true;
	else if (strcmp(word, "badipsum") == 0)
		g->bad_ip_sum = true;
	else
		return false;
	return true;
}

static char *wire_next(char **rest)
{
	char *word = strtok_r(NULL, " \t", rest);

	if (word == NULL)
		wire_fail("the line ends too early");
	return word;
}

static void wire_ts_words(struct wire_seg *g, char **rest)
{
	char *val = wire_next(rest), *ecr = wire_next(rest);

	g->ts = true;
	g->any_val = strcmp(val, "*") == 0;
	g->any_ecr = strcmp(ecr, "*") == 0;
	g->ts_val = g->any_val ? 0 : wire_number(val);
	g->ts_ecr = g->any_ecr ? 0 : wire_number(ecr);
}

/* Fields that do not say the truth. */
static void wire_lie(const char *word, struct wire_seg *g, uint32_t value)
{
	if (strcmp(word, "doff") == 0) {
		g->doff = value;
	} else if (strcmp(word, "iplen") == 0) {
		g->ip_len = value;
	} else if (strcmp(word, "cut") == 0) {
		g->cut = value;
	} else if (strcmp(word, "ipopts") == 0) {
		g->ip_opts = value;
	} else if (strcmp(word, "salt") == 0) {
		g->salt = value;
	} else {
		wire_fail("'%s' means nothing in a segment", word);
	}
}

static void wire_value(const char *word, struct wire_seg *g, char **rest)
{
	char *arg;

	if (strcmp(word, "ts") == 0) {
		wire_ts_words(g, rest);
		return;
	}
	arg = wire_next(rest);
	if (strcmp(word, "ack") == 0) {
		g->ack = wire_number(arg);
		g->has_ack = true;
	} else if (strcmp(word, "win") == 0) {
		g->win = wire_number(arg);
		g->has_win = true;
	} else if (strcmp(word, "mss") == 0) {
		g->mss = (uint16_t)wire_number(arg);
	} else if (strcmp(word, "ws") == 0) {
		g->ws = (int)wire_number(arg);
	} else if (strcmp(word, "sack") == 0) {
		if (g->sack_n == WIRE_SACKS)
			wire_fail("at most 4 SACK blocks");
		wire_pair(arg, &g->sack[g->sack_n][0], &g->sack[g->sack_n][1]);
		g->sack_n++;
	} else if (strcmp(word, "opt") == 0) {
		wire_hex(arg, g);
	} else if (strcmp(word, "vlan") == 0) {
		g->vlan = (int)wire_number(arg);
	} else if (strcmp(word, "frag") == 0) {
		g->frag = (uint16_t)wire_number(arg);
	} else if (strcmp(word, "urg") == 0) {
		g->urg = (uint16_t)wire_number(arg);
	} else if (strcmp(word, "src") == 0) {
		g->src = ntohl(inet_addr(arg));
	} else if (strcmp(word, "dst") == 0) {
		g->dst = ntohl(inet_addr(arg));
	} else {
		wire_lie(word, g, wire_number(arg));
	}
}

/* A number in front of all words, or one of those that make sense there. */
static bool wire_is_seq(const char *s)
{
	static const char *const first[] = {"nxt", "edge", "max", "una", "pnxt"};

	for (unsigned i = 0; i < sizeof(first) / sizeof(first[0]); i++)
		if (strncmp(s, first[i], strlen(first[i])) == 0)
			return true;
	return strchr(s, ':') != NULL || *s == '-' || (*s >= '0' && *s <= '9');
}

/* FLAGS [SEQ[:END]] [word [value]]...; rest is strtok_r()'s. */
static struct wire_seg wire_seg_parse(char **rest)
{
	struct wire_seg g = {.ws = -1, .vlan = -1};
	char *word = wire_next(rest);
	uint32_t end;

	g.flags = wire_flags(word);
	while ((word = strtok_r(NULL, " \t", rest)) != NULL) {
		if (strcmp(word, "*") == 0) {
			g.any_seq = true;
		} else if (!g.has_seq && wire_is_seq(word)) {
			g.has_seq = true;
			g.has_len = wire_pair(word, &g.seq, &end);
			g.len = g.has_len ? end - g.seq : 0;
			if (g.len > 9000)
				wire_fail("a segment of %u bytes", g.len);
		} else if (!wire_word(word, &g)) {
			wire_value(word, &g, rest);
		}
	}
	return g;
}

/* ---- to a frame ---- */

static void wire_put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static uint32_t wire_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static unsigned wire_options(const struct wire_seg *g, uint8_t *p)
{
	const struct wire_peer *c = w.at;
	unsigned n = 0;

	if (g->mss != 0) {
		const uint8_t o[] = {2, 4, (uint8_t)(g->mss >> 8), (uint8_t)g->mss};

		memcpy(p, o, 4);
		n += 4;
	}
	if (g->ws >= 0) {
		const uint8_t o[] = {1, 3, 3, (uint8_t)g->ws};

		memcpy(p + n, o, 4);
		n += 4;
	}
	if (g->sackok) {
		memcpy(p + n, (const uint8_t[]){1, 1, 4, 2}, 4);
		n += 4;
	}
	if (g->ts) {
		memcpy(p + n, (const uint8_t[]){1, 1, 8, 10}, 4);
		wire_put32(p + n + 4, g->any_val ? (uint32_t)(sim.us / 1000) + (uint32_t)c->ts_skew
						 : g->ts_val);
		wire_put32(p + n + 8, g->any_ecr ? c->ts_val : g->ts_ecr);
		n += 12;
	}
	if (g->sack_n > 0) {
		memcpy(p + n, (const uint8_t[]){1, 1, 5, (uint8_t)(2 + 8 * g->sack_n)}, 4);
		n += 4;
		for (unsigned i = 0; i < g->sack_n; i++, n += 8) {
			wire_put32(p + n, g->sack[i][0] + c->iss);
			wire_put32(p + n + 4, g->sack[i][1] + c->iss);
		}
	}
	return n;
}

/* Fills in what the script left out. */
static void wire_seg_defaults(struct wire_seg *g)
{
	struct wire_peer *c = w.at;

	if (!g->has_seq)
		g->seq = c->pnxt;
	if (!g->has_ack && (g->flags & TOE_TCP_ACK))
		g->ack = c->max;
	if (!g->has_win)
		g->win = c->win;
	if (c->ts && !g->ts && !g->no_ts && !(g->flags & (TOE_TCP_SYN | TOE_TCP_RST)))
		g->ts = g->any_val = g->any_ecr = true;
}

static void wire_negotiated(struct wire_peer *c)
{
	c->ts = c->own_ts_offer && c->ts_offer;
	c->ws = c->own_ws_offer && c->ws_offer;
}

/* The peer remembers what it has sent. */
static void wire_seg_note(const struct wire_seg *g)
{
	struct wire_peer *c = w.at;
	uint32_t end = g->seq + g->len + !!(g->flags & TOE_TCP_SYN) + !!(g->flags & TOE_TCP_FIN);

	w.sent_end = end;
	w.sent_ack = g->ack;
	if (g->flags & TOE_TCP_RST)
		return;
	if (seq_gt(end, c->pnxt))
		c->pnxt = end;
	if ((g->flags & TOE_TCP_ACK) && seq_gt(g->ack, c->una) && seq_leq(g->ack, c->max))
		c->una = g->ack;
	c->win = g->win;
	if (g->flags & TOE_TCP_SYN) {
		c->own_ws_offer = g->ws >= 0;
		c->own_ts_offer = g->ts;
		wire_negotiated(c);
	}
}

static uint32_t wire_seg_build(const struct wire_seg *g, uint8_t *frame)
{
	const struct wire_peer *c = w.at;
	uint8_t opts[64];
	unsigned opt_n = g->raw_n;
	struct frame_spec f = {.src = g->src,
			       .dst = g->dst,
			       .sport = c->port,
			       .dport = c->lport,
			       .seq = g->seq + c->irs,
			       .ack = g->flags & TOE_TCP_ACK || g->has_ack ? g->ack + c->iss : 0,
			       .flags = g->flags,
			       .ecn = g->ecn,
			       .vlan = g->vlan,
			       .ip_opt_bytes = (uint8_t)g->ip_opts,
			       .opts = opts,
			       .payload_len = (uint16_t)g->len,
			       .wnd = (uint16_t)g->win};
	unsigned l3 = g->vlan >= 0 ? 18 : 14;
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + l3);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(frame + l3 + 20);
	uint32_t n;

	if (g->raw_n > 0)
		memcpy(opts, g->raw, g->raw_n);
	else
		opt_n = wire_options(g, opts);
	f.opt_bytes = (uint8_t)opt_n;
	n = frame_make(frame, &f);
	if (g->ip_opts > 0)
		return n; /* its payload is not looked at */
	for (uint32_t i = 0; i < g->len; i++)
		frame[n - g->len + i] =
			wire_byte(g->seq - 1 + i, true) ^ (uint8_t)(g->salt != 0 ? 0x5a : 0);
	tcp->tcp_urp = rte_cpu_to_be_16(g->urg);
	ip->fragment_offset = rte_cpu_to_be_16(g->frag);
	if (g->doff != 0)
		tcp->data_off = (uint8_t)(g->doff << 4);
	tcp->cksum = 0;
	tcp->cksum = (uint16_t)(rte_ipv4_udptcp_cksum(ip, tcp) + (g->bad_sum ? 1 : 0));
	if (g->ip_len != 0)
		ip->total_length = rte_cpu_to_be_16((uint16_t)g->ip_len);
	ip->hdr_checksum = 0;
	ip->hdr_checksum = (uint16_t)(rte_ipv4_cksum(ip) + (g->bad_ip_sum ? 1 : 0));
	return n - g->cut;
}

/* ---- from a frame ---- */

static void wire_take_option(const uint8_t *p, struct wire_seg *g, uint32_t iss)
{
	switch (p[0]) {
	case 2:
		g->mss = (uint16_t)(p[2] << 8 | p[3]);
		break;
	case 3:
		g->ws = p[2];
		break;
	case 4:
		g->sackok = true;
		break;
	case 5:
		for (unsigned i = 2; i + 8 <= p[1] && g->sack_n < WIRE_SACKS; i += 8, g->sack_n++) {
			g->sack[g->sack_n][0] = wire_get32(p + i) - iss;
			g->sack[g->sack_n][1] = wire_get32(p + i + 4) - iss;
		}
		break;
	case 8:
		g->ts = true;
		g->ts_val = wire_get32(p + 2);
		g->ts_ecr = wire_get32(p + 6);
		break;
	default:
		wire_fail("the engine sent option %u", p[0]);
	}
}

/* Ports of a frame, for the peer it belongs to. */
static uint16_t wire_frame_port(const struct wire_frame *f, unsigned offset)
{
	return (uint16_t)(f->data[34 + offset] << 8 | f->data[35 + offset]);
}

static struct wire_seg wire_decode(const struct wire_frame *f, const struct wire_peer *c)
{
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(f->data + 14);
	const struct rte_tcp_hdr *tcp = (const struct rte_tcp_hdr *)(f->data + 34);
	unsigned doff = (tcp->data_off >> 4) * 4u;
	struct wire_seg g = {.ws = -1, .vlan = -1, .has_seq = true, .has_len = true};

	if (f->len < 54 || f->data[12] != 8 || ip->version_ihl != 0x45 ||
	    rte_be_to_cpu_16(ip->total_length) + 14u != f->len || 20 + doff > f->len - 14)
		wire_fail("the engine sent a malformed frame of %u bytes", f->len);
	if (rte_ipv4_cksum(ip) != 0xffff && rte_raw_cksum(ip, 20) != 0xffff)
		wire_fail("the engine sent a wrong IP checksum");
	if (rte_ipv4_udptcp_cksum_verify(ip, tcp) != 0)
		wire_fail("the engine sent a wrong TCP checksum");
	g.flags = tcp->tcp_flags;
	g.seq = rte_be_to_cpu_32(tcp->sent_seq) - c->iss;
	g.ack = rte_be_to_cpu_32(tcp->recv_ack) - c->irs;
	g.win = rte_be_to_cpu_16(tcp->rx_win);
	g.len = f->len - 34 - doff;
	g.ecn = ip->type_of_service & 3;
	for (unsigned i = 20; i < doff;) {
		const uint8_t *p = f->data + 34 + i;

		if (*p == 0)
			break;
		if (*p == 1) {
			i++;
			continue;
		}
		wire_take_option(p, &g, c->irs);
		i += p[1];
	}
	for (uint32_t i = 0; i < g.len; i++)
		if (f->data[34 + doff + i] != wire_byte(g.seq - 1 + i, false))
			wire_fail("byte %u of the engine's segment %u:%u is wrong", i, g.seq,
				  g.seq + g.len);
	return g;
}

static const char *wire_seg_text(const struct wire_seg *g)
{
	static char out[2][256];
	static unsigned which;
	char *o = out[which++ % 2];
	int n = snprintf(o, 256, "%s%s%s%s%s%s%s%s %d:%d ack %d win %u", g->flags & 1 ? "F" : "",
			 g->flags & 2 ? "S" : "", g->flags & 4 ? "R" : "", g->flags & 8 ? "P" : "",
			 g->flags & 16 ? "." : "", g->flags & 32 ? "U" : "",
			 g->flags & 64 ? "E" : "", g->flags & 128 ? "W" : "", (int)g->seq,
			 (int)(g->seq + g->len), (int)g->ack, g->win);

	if (g->mss != 0)
		n += snprintf(o + n, 256 - (size_t)n, " mss %u", g->mss);
	if (g->ws >= 0)
		n += snprintf(o + n, 256 - (size_t)n, " ws %d", g->ws);
	if (g->sackok)
		n += snprintf(o + n, 256 - (size_t)n, " sackok");
	if (g->ts)
		n += snprintf(o + n, 256 - (size_t)n, " ts %u %u", g->ts_val, g->ts_ecr);
	for (unsigned i = 0; i < g->sack_n; i++)
		n += snprintf(o + n, 256 - (size_t)n, " sack %d:%d", (int)g->sack[i][0],
			      (int)g->sack[i][1]);
	if (g->ecn != 0)
		snprintf(o + n, 256 - (size_t)n, " %s", g->ecn == 3 ? "ce" : "ect");
	return o;
}

/* First difference between what the script wants and what came, NULL: none. */
static const char *wire_seg_differs(const struct wire_seg *want, const struct wire_seg *got)
{
	uint8_t soft = want->flags & TOE_TCP_PSH ? 0 : TOE_TCP_PSH;

	if ((want->flags ^ got->flags) & (uint8_t)~soft)
		return "flags";
	if (!want->any_seq &&
	    (want->has_seq ? want->seq != got->seq
			   : got->seq != w.at->max && !(got->flags & TOE_TCP_RST)))
		return "sequence number";
	if (!want->any_seq && (want->has_len ? want->len != got->len : got->len != 0))
		return "length";
	if (want->has_ack && want->ack != got->ack)
		return "acknowledgement number";
	if (want->has_win && want->win != got->win)
		return "window";
	if (want->has_ecn && want->ecn != got->ecn)
		return "ECN field";
	if (want->any_opts)
		return NULL;
	if (want->mss != got->mss || want->ws != got->ws || want->sackok != got->sackok)
		return "options";
	if (want->sack_n != got->sack_n ||
	    memcmp(want->sack, got->sack, want->sack_n * sizeof(want->sack[0])) != 0)
		return "SACK blocks";
	if (want->ts && (!got->ts || (!want->any_val && want->ts_val != got->ts_val) ||
			 (!want->any_ecr && want->ts_ecr != got->ts_ecr)))
		return "timestamps";
	if (!want->ts && !(got->flags & (TOE_TCP_RST | TOE_TCP_SYN)) &&
	    got->ts != (w.at->ts && !want->no_ts))
		return "presence of timestamps";
	return NULL;
}

#endif
