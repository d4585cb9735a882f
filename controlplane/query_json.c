/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections, listeners and the summary as JSON objects, in the words of `ss -ti`.  Reads state
 * and progress lines, changes nothing.
 */
#include "query.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

/* port: network order.  IPv6 addresses in brackets (RFC 5952 §6). */
static json_t *endpoint(struct cp_addr addr, uint16_t port)
{
	char ip[INET6_ADDRSTRLEN];

	inet_ntop(addr.family, addr.b, ip, sizeof(ip));
	return json_sprintf(addr.family == AF_INET6 ? "[%s]:%u" : "%s:%u", ip, ntohs(port));
}

static void put_ends(json_t *o, const struct toe_tuple *t)
{
	json_object_set_new(o, "local", endpoint(cp_local(t), t->local_port));
	json_object_set_new(o, "remote", endpoint(cp_remote(t), t->remote_port));
}

/* RFC 9293 names as ss prints them. */
static const char *state_name(const struct cp_conn *c, const struct toe_flow_prog *p)
{
	uint32_t f = p->flags;

	switch (c->state) {
	case CP_SYN_SENT:
		return c->flags & CP_CONN_SYN_RCVD ? "SYN-RECV" : "SYN-SENT";
	case CP_INSTALLING:
		return "INSTALLING";
	case CP_REMOVING:
		return c->flags & CP_CONN_TIME_WAIT ? "TIME-WAIT" : "CLOSED";
	default:
		break;
	}
	if (p->gen != c->gen)
		return "ESTAB";
	if (f & TOE_PROG_FIN_RCVD) {
		if (!(f & TOE_PROG_FIN_SENT))
			return "CLOSE-WAIT";
		return f & TOE_PROG_FIN_FIRST ? "CLOSING" : "LAST-ACK";
	}
	if (f & TOE_PROG_FIN_SENT)
		return f & TOE_PROG_FIN_ACKED ? "FIN-WAIT-2" : "FIN-WAIT-1";
	return "ESTAB";
}

static void put(json_t *o, const char *key, uint64_t v)
{
	json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void put_stats(const struct cp *cp, uint32_t id, json_t *o)
{
	struct toe_flow_stat sum = {0};

	for (uint32_t r = 0; r < cp->stat_replicas; r++) {
		const struct toe_flow_stat *s = &cp->stat[(size_t)id * TOE_FLOW_STAT_REPLICAS + r];

		sum.acked_bytes += s->acked_bytes;
		sum.ecn_bytes += s->ecn_bytes;
		sum.rx_bytes += s->rx_bytes;
		sum.tx_bytes += s->tx_bytes;
		sum.rtx_bytes += s->rtx_bytes;
		sum.rtx_segs += s->rtx_segs;
		sum.rx_segs += s->rx_segs;
		sum.tx_segs += s->tx_segs;
		sum.dup_acks += s->dup_acks;
	}
	put(o, "bytes_acked", sum.acked_bytes);
	put(o, "bytes_ecn", sum.ecn_bytes);
	put(o, "bytes_received", sum.rx_bytes);
	put(o, "bytes_sent", sum.tx_bytes);
	put(o, "bytes_retrans", sum.rtx_bytes);
	put(o, "retrans", sum.rtx_segs);
	put(o, "segs_in", sum.rx_segs);
	put(o, "segs_out", sum.tx_segs);
	put(o, "dup_acks", sum.dup_acks);
}

static void put_progress(const struct cp *cp, uint32_t id, json_t *o)
{
	const struct cp_conn *c = &cp->conns[id];
	const struct cp_rt *rt = &cp->rt[id];
	struct toe_flow_prog p = cp->prog[id];
	int32_t unsent = (int32_t)(p.tx_tail - p.snd_nxt);

	put(o, "cwnd", p.cwnd);
	put(o, "ssthresh", p.ssthresh);
	json_object_set_new(o, "rtt_ms", json_real(p.srtt_us / 1000.0));
	json_object_set_new(o, "rttvar_ms", json_real(p.rttvar_us / 1000.0));
	put(o, "rto_ms", cp_rto_ms(cp, p.srtt_us, p.rttvar_us));
	put(o, "backoff", rt->tries);
	put(o, "snd_wnd", p.snd_wnd);
	put(o, "rcv_wnd", p.rcv_wnd);
	put(o, "outstanding", p.snd_nxt - p.snd_una);
	put(o, "unsent", unsent > 0 ? (uint32_t)unsent : 0);
	put(o, "unread", p.rx_unread);
	put(o, "out_of_order", p.ooo_bytes);
	put(o, "loss_events", p.loss_epoch);
	json_object_set_new(o, "recovery", json_boolean(p.flags & TOE_PROG_RECOVERY));
	json_object_set_new(o, "cc_alpha", json_real((double)c->cc.alpha / CC_ALPHA_ONE));
	put_stats(cp, id, o);
}

json_t *cp_query_conn(const struct cp *cp, uint32_t id)
{
	const struct cp_conn *c = &cp->conns[id];
	const struct cp_slot *slot = cp_slot_rec(cp, c->app, c->in.slot);
	bool orphan = c->state == CP_CLOSING || (slot && (slot->flags & CP_SLOT_TOKEN_GONE));
	json_t *o = json_object();

	json_object_set_new(o, "state", json_string(state_name(c, &cp->prog[id])));
	put_ends(o, &c->t);
	put(o, "app", cp->apps[c->app].app_id);
	put(o, "slot", c->in.slot);
	put(o, "id", id);
	put(o, "gen", c->gen);
	put(o, "flow_group", id % cp->st->flow_group_n);
	json_object_set_new(o, "orphan", json_boolean(orphan));
	json_object_set_new(o, "passive", json_boolean(c->in.listener != TOE_NONE));
	put(o, "age_ms", cp->now_ms - c->since_ms);
	put(o, "mss", c->in.mss);
	put(o, "snd_wscale", c->in.snd_wscale);
	put(o, "rcv_wscale", c->in.rcv_wscale);
	json_object_set_new(o, "timestamps", json_boolean(c->in.flags & TOE_INSTALL_TS));
	json_object_set_new(o, "sack", json_boolean(c->in.flags & TOE_INSTALL_SACK));
	json_object_set_new(o, "ecn", json_boolean(c->in.flags & TOE_INSTALL_ECN));
	if (c->state != CP_SYN_SENT && cp->prog[id].gen == c->gen)
		put_progress(cp, id, o);
	return o;
}

json_t *cp_query_half(const struct cp *cp, uint32_t i)
{
	const struct cp_half *h = &cp->half[i];
	json_t *o = json_object();

	json_object_set_new(o, "state", json_string("SYN-RECV"));
	put_ends(o, &h->t);
	put(o, "app", cp->apps[h->app].app_id);
	json_object_set_new(o, "orphan", json_false());
	put(o, "retrans", h->tries ? h->tries - 1u : 0);
	return o;
}

json_t *cp_query_tw(const struct cp *cp, uint32_t i)
{
	const struct cp_tw *w = &cp->tw[i];
	json_t *o = json_object();

	json_object_set_new(o, "state", json_string("TIME-WAIT"));
	put_ends(o, &w->t);
	put(o, "app", w->app_id);
	json_object_set_new(o, "orphan", json_true());
	put(o, "expires_ms", w->expire_ms > cp->now_ms ? w->expire_ms - cp->now_ms : 0);
	return o;
}

json_t *cp_query_listener(const struct cp *cp, uint32_t app, uint32_t i)
{
	const struct cp_listener *l = cp_listener_rec(cp, app, i);
	const struct cp_app *a = &cp->apps[app];
	const uint8_t *base = cp->app_rt[app].control;
	bool both = l->addr.family == AF_INET6 && !l->v6only;
	json_t *o = json_object();
	uint32_t waiting = 0;

	if (base) {
		const struct toe_listener *m =
			(const struct toe_listener *)(base + a->off_listeners +
						      i * toe_listener_stride(a->backlog_n));

		waiting = m->prod - m->cons;
	}
	json_object_set_new(o, "local",
			    both ? json_sprintf("*:%u", l->port)
				 : endpoint(l->addr, htons(l->port)));
	put(o, "app", a->app_id);
	json_object_set_new(o, "name", json_string(a->name));
	put(o, "listener", i);
	put(o, "backlog", l->backlog);
	put(o, "waiting", waiting <= a->backlog_n ? waiting : a->backlog_n);
	put(o, "installing", cp_listener_rt(cp, app, i)->installing);
	put(o, "processes", (uint64_t)__builtin_popcountll(l->procs));
	return o;
}

static json_t *apps_json(const struct cp *cp)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < cp->st->app_n; i++) {
		const struct cp_app *a = &cp->apps[i];
		json_t *o;

		if (a->state == CP_APP_FREE)
			continue;
		o = json_object();
		put(o, "app", a->app_id);
		json_object_set_new(o, "name", json_string(a->name));
		json_object_set_new(o, "gone", json_boolean(a->state == CP_APP_GONE));
		put(o, "processes", (uint64_t)__builtin_popcountll(cp->app_rt[i].procs));
		put(o, "connections", cp->app_rt[i].conn_n);
		put(o, "slots_free", cp->app_rt[i].free_n);
		json_array_append_new(list, o);
	}
	return list;
}

json_t *cp_query_status(const struct cp *cp)
{
	static const char *const names[] = {
#define X(name, text) #name,
		CP_COUNTERS(X)
#undef X
	};
	json_t *o = json_object();
	json_t *counters = json_object();

	put(o, "pid", (uint64_t)getpid());
	put(o, "starts", cp->st->starts);
	put(o, "restarts", cp->st->starts - 1);
	put(o, "epoch", cp->st->epoch);
	json_object_set_new(o, "ready", json_boolean(cp->ready));
	json_object_set_new(o, "engine_up", json_boolean(cp->engine_up));
	json_object_set_new(o, "cc", json_string(cp->cc->name));
	put(o, "connections", cp->conn_count);
	put(o, "connections_max", cp->st->conn_n);
	put(o, "active", cp->active.n);
	put(o, "syn_sent", cp->syn_sent.n);
	put(o, "half_open", cp->half_list.n);
	put(o, "orphans", cp->orphans.n);
	put(o, "time_wait", cp->tw_list.n);
	put(o, "cookies_sent", cp->st->counters[CP_CNT_cookies_sent]);
	for (unsigned i = 0; i < CP_COUNTER_N; i++)
		put(counters, names[i], cp->st->counters[i]);
	json_object_set_new(o, "counters", counters);
	json_object_set_new(o, "apps", apps_json(cp));
	return o;
}
