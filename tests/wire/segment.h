/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segments of wire scripts: text to struct, and the comparison of what was expected with what came.
 * To and from frames: seg_frame.h.
 */
#ifndef TOE_TEST_WIRE_SEGMENT_H
#define TOE_TEST_WIRE_SEGMENT_H

#include "world.h"

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
	uint8_t tos, ttl; /* received; tos without ECN */
	/* what only the peer does */
	uint8_t raw[40]; /* options instead of all others */
	unsigned raw_n;
	bool bad_sum, bad_ip_sum, ae; /* AE: the flag in front of CWR (RFC 9768) */
	int vlan;
	uint16_t frag; /* fragment field of the IPv4 header */
	bool has_frag;
	uint16_t urg;
	unsigned ip_opts;           /* bytes of NOP; IPv6: of a hop-by-hop header */
	uint32_t src, dst;          /* other addresses, host order; 0: the usual ones */
	uint8_t src6[16], dst6[16]; /* likewise */
	bool has_src6, has_dst6;
	uint8_t ext[160]; /* IPv6 extension headers, the first of this type */
	unsigned ext_n;
	uint8_t ext_type;
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
	} known[] = {{"nxt", p->nxt},
		     {"edge", p->edge},
		     {"max", p->max},
		     {"una", p->una},
		     {"pnxt", p->pnxt},
		     {"wnd", p->edge - p->nxt},
		     {"win", p->win},
		     {"tsval", p->ts_val},
		     {"now", (uint32_t)(wire.engine->now_us() / 1000)}};

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

static unsigned wire_hex(const char *s, uint8_t *out, unsigned max)
{
	unsigned n = 0;

	for (; s[0] != '\0' && s[1] != '\0'; s += 2) {
		char two[3] = {s[0], s[1], 0};

		if (n == max)
			wire_fail("at most %u bytes", max);
		out[n++] = (uint8_t)strtoul(two, NULL, 16);
	}
	return n;
}

/* TYPE:HEX */
static void wire_ext(char *s, struct wire_seg *g)
{
	char *colon = strchr(s, ':');

	if (colon == NULL)
		wire_fail("ext TYPE:HEX");
	*colon = '\0';
	g->ext_type = (uint8_t)wire_number(s);
	g->ext_n = wire_hex(colon + 1, g->ext, sizeof(g->ext));
}

/* An address of either family. */
static void wire_address(const char *s, uint32_t *v4, uint8_t v6[16], bool *is_v6)
{
	struct in_addr in;

	*is_v6 = inet_pton(AF_INET6, s, v6) == 1;
	if (*is_v6)
		return;
	if (inet_pton(AF_INET, s, &in) != 1)
		wire_fail("'%s' is no address", s);
	*v4 = ntohl(in.s_addr);
	if (*v4 == 0x0a000001u)
		*v4 = wire.engine_ip;
	if (*v4 == 0x0a000002u)
		*v4 = wire.peer_ip;
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
	else if (strcmp(word, "ae") == 0)
		g->ae = true;
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
		g->raw_n = wire_hex(arg, g->raw, sizeof(g->raw));
	} else if (strcmp(word, "vlan") == 0) {
		g->vlan = (int)wire_number(arg);
	} else if (strcmp(word, "frag") == 0) {
		g->frag = (uint16_t)wire_number(arg);
		g->has_frag = true;
	} else if (strcmp(word, "urg") == 0) {
		g->urg = (uint16_t)wire_number(arg);
	} else if (strcmp(word, "src") == 0) {
		wire_address(arg, &g->src, g->src6, &g->has_src6);
	} else if (strcmp(word, "dst") == 0) {
		wire_address(arg, &g->dst, g->dst6, &g->has_dst6);
	} else if (strcmp(word, "ext") == 0) {
		wire_ext(arg, g);
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

/* ---- what came ---- */

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
		n += snprintf(o + n, 256 - (size_t)n, " %s", g->ecn == 3 ? "ce" : "ect");
	if (g->tos != 0 || (g->ttl != 0 && g->ttl != 64))
		snprintf(o + n, 256 - (size_t)n, " (tos %#x ttl %u)", g->tos, g->ttl);
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
	if (got->tos != w.at->tos)
		return "Diffserv field";
	if (got->ttl != (w.at->ttl != 0 ? w.at->ttl : 64))
		return "hop limit";
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
