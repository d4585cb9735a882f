/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Timers and the polling of flows that have something outstanding (paper §D): retransmission
 * (RFC 6298), tail loss probes (RFC 8985 §7), persist (RFC 9293 §3.8.6.1), TCP_USER_TIMEOUT, and
 * the samples of congestion control.  Input: progress lines and counters the datapath writes;
 * output: commands.  A flow is polled from EV_ACTIVE until it has been quiet for a while.
 */
#include "cp.h"

#include <errno.h>

#include "common/tcp_seq.h"

#define TICK_FAST_MS     1u
#define TICK_FLOWS       1024u /* so many active flows more lengthen a tick by 1 ms */
#define TICK_SLOW_MS     20u
#define TICK_FAST_FOR_MS 20u /* after the flow was busy */
#define TICK_NEW_FOR_MS  3u  /* what it will be is not known yet */
#define HOUSE_MS         100u
#define SLOW_MS          1000u
#define QUIET_AFTER_MS   200u
#define COOL_MS          100u
#define RTO_INITIAL_MS   1000u
#define RTO_SYN_LOST_MS  3000u /* instead, if the SYN had to be repeated (RFC 6298 §5.7) */
#define RTO_MAX_MS       120000u
#define RTO_TRIES_MAX    15u /* R2: about 15 minutes at 200 ms, as Linux */
#define ORPHAN_TRIES_MAX 8u
#define RTO_GRANULE_US   1000u
#define PERSIST_MIN_MS   200u
#define TLP_MIN_MS       5u /* several of our own ticks (RFC 8985 says 10 ms) */
#define RTO_SHIFT_MAX    2u /* doublings that outlast progress, see karn() */
#define PTO_SHIFT_MAX    4u
#define PERSIST_MAX_MS   60000u

uint32_t cp_rto_ms(const struct cp *cp, uint32_t srtt_us, uint32_t rttvar_us)
{
	uint64_t us = srtt_us;
	uint64_t ms;

	if (!srtt_us)
		return RTO_INITIAL_MS;
	us += 4ull * rttvar_us > RTO_GRANULE_US ? 4ull * rttvar_us : RTO_GRANULE_US;
	ms = (us + 999) / 1000;
	if (ms < cp->cfg->rto_min_ms)
		ms = cp->cfg->rto_min_ms;
	return ms > RTO_MAX_MS ? RTO_MAX_MS : (uint32_t)ms;
}

static uint64_t back_off(uint64_t base_ms, unsigned tries, uint64_t max_ms)
{
	uint64_t ms = tries < 20 ? base_ms << tries : max_ms;

	return ms < max_ms ? ms : max_ms;
}

static const struct toe_flow_stat *stat_of(const struct cp *cp, uint32_t id, uint32_t replica)
{
	return &cp->stat[(size_t)id * TOE_FLOW_STAT_REPLICAS + replica];
}

uint32_t cp_rx_segs(const struct cp *cp, uint32_t id)
{
	uint32_t n = 0;

	for (uint32_t r = 0; r < cp->stat_replicas; r++)
		n += __atomic_load_n(&stat_of(cp, id, r)->rx_segs, __ATOMIC_RELAXED);
	return n;
}

/* Difference since the last call; the datapath may have started the counters anew. */
static uint32_t advance(uint64_t *last, uint64_t now)
{
	uint64_t d = now - *last;

	*last = now;
	return d > INT32_MAX ? 0 : (uint32_t)d;
}

static void read_stats(const struct cp *cp, uint32_t id, struct cc_sample *s)
{
	struct cp_rt *rt = &cp->rt[id];
	uint64_t acked = 0;
	uint64_t ecn = 0;
	uint64_t rtx = 0;

	for (uint32_t r = 0; r < cp->stat_replicas; r++) {
		const struct toe_flow_stat *f = stat_of(cp, id, r);

		acked += __atomic_load_n(&f->acked_bytes, __ATOMIC_RELAXED);
		ecn += __atomic_load_n(&f->ecn_bytes, __ATOMIC_RELAXED);
		rtx += __atomic_load_n(&f->rtx_bytes, __ATOMIC_RELAXED);
	}
	s->acked_bytes = advance(&rt->acked_bytes, acked);
	s->ecn_bytes = advance(&rt->ecn_bytes, ecn);
	s->rtx_bytes = advance(&rt->rtx_bytes, rtx);
	if (!rt->baselined)
		s->acked_bytes = s->ecn_bytes = s->rtx_bytes = 0;
	rt->baselined = true;
}

static void cc_send(struct cp *cp, uint32_t id, const struct cc_decision *d)
{
	struct cp_rt *rt = &cp->rt[id];
	struct toe_cmd_cc cmd = {
		.rate_bps = d->rate_bps,
		.cwnd = d->cwnd,
		.ssthresh = d->ssthresh,
		.loss_epoch = rt->last_loss_epoch,
	};

	cp_cmd(cp, TOE_CMD_CC, id, &cmd, sizeof(cmd));
	CP_COUNT(cp, cc_updates);
}

/* One sample for the algorithm. */
static void cc_poll(struct cp *cp, uint32_t id, const struct toe_flow_prog *p)
{
	struct cp_conn *c = &cp->conns[id];
	struct cp_rt *rt = &cp->rt[id];
	bool recovery = p->flags & TOE_PROG_RECOVERY;
	struct cc_decision d;
	struct cc_sample s = {
		.srtt_us = p->srtt_us,
		.dt_us = (uint32_t)(cp->now_us - rt->poll_us),
		.snd_una = p->snd_una,
		.snd_nxt = p->snd_nxt,
		.cwnd = p->cwnd,
		.ssthresh = p->ssthresh,
		.mss = c->in.mss,
		/* leaving recovery deflates cwnd: the datapath's value counts once more */
		.loss = p->loss_epoch != rt->last_loss_epoch || (rt->recovery && !recovery),
		.recovery = recovery,
	};

	rt->poll_us = cp->now_us;
	read_stats(cp, id, &s);
	if (s.acked_bytes > s.mss || s.snd_nxt - s.snd_una > s.mss || recovery)
		rt->busy_ms = cp->now_ms;
	rt->last_loss_epoch = p->loss_epoch;
	rt->recovery = recovery;
	if (!s.acked_bytes && !s.ecn_bytes && !s.loss && !recovery)
		return;
	cp->cc->on_interval(&c->cc, &s, &d);
	if (s.loss || recovery)
		return;
	if (d.cwnd != p->cwnd || d.ssthresh != p->ssthresh)
		cc_send(cp, id, &d);
}

static uint32_t user_timeout_ms(const struct cp *cp, uint32_t id)
{
	const struct cp_conn *c = &cp->conns[id];
	const struct toe_slot *m = cp_slot_mem(cp, c->app, c->in.slot);

	return m ? __atomic_load_n(&m->user_timeout_ms, __ATOMIC_RELAXED) : 0;
}

/* The peer has sent something, if only a duplicate ACK, since the timer went off last. */
static bool heard(const struct cp *cp, uint32_t id)
{
	uint32_t segs = cp_rx_segs(cp, id);
	bool yes = segs != cp->rt[id].timer_rx_segs;

	cp->rt[id].timer_rx_segs = segs;
	return yes;
}

/* A timer of the connection went off for the tries-th time: true = it was given up. */
static bool give_up(struct cp *cp, uint32_t id, const struct toe_flow_prog *p)
{
	struct cp_rt *rt = &cp->rt[id];
	bool orphan = cp->conns[id].state == CP_CLOSING;
	uint32_t ut = user_timeout_ms(cp, id);

	rt->tries = rt->tries < UINT8_MAX ? rt->tries + 1 : rt->tries;
	/* A peer that answers may keep its window shut for ever (RFC 9293 §3.8.6.1). */
	if (heard(cp, id) && !p->snd_wnd)
		rt->unanswered = 0;
	else if (rt->unanswered < UINT8_MAX)
		rt->unanswered++;
	if (rt->unanswered > RTO_TRIES_MAX || (orphan && rt->tries > ORPHAN_TRIES_MAX) ||
	    (ut && cp->now_ms - rt->stuck_ms >= ut)) {
		cp_conn_abort(cp, id, ETIMEDOUT);
		return true;
	}
	return false;
}

/*
 * Karn (RFC 6298 §3, §5): what has been sent twice gives no sample, and a path that has become
 * much longer makes each flight be sent twice.  So what a timer has waited longer outlasts the ACK,
 * until something new has been acknowledged.  Not all of it: after an outage of a minute the next
 * loss must not wait for another one.
 */
static void karn(struct cp_rt *rt, uint8_t *shift, uint8_t most, const struct toe_flow_prog *p)
{
	if (*shift < most)
		++*shift;
	rt->karn_end = p->snd_nxt;
}

/* One per progress and per recovery, well before the RTO.  Without SACK the probe's fate would not
 * be known. */
static void arm_tlp(struct cp *cp, uint32_t id, enum cp_timer timer, const struct toe_flow_prog *p)
{
	struct cp_rt *rt = &cp->rt[id];
	bool recovery = p->flags & TOE_PROG_RECOVERY;
	uint8_t shift = recovery ? 0 : rt->pto_shift;
	uint64_t pto = ((2ull * p->srtt_us << shift) + 999) / 1000;

	rt->tlp_ms = 0;
	rt->tlp_epoch = p->loss_epoch;
	if (timer != CP_TIMER_RTO || rt->tries || !p->srtt_us ||
	    !(cp->conns[id].in.flags & TOE_INSTALL_SACK))
		return;
	pto = cp->now_ms + (pto > TLP_MIN_MS ? pto : TLP_MIN_MS);
	if (pto < rt->due_ms)
		rt->tlp_ms = pto;
}

/* A single segment's ACK may be delayed, which a PTO had to allow for (RFC 8985 §7.2): then the
 * RTO is as good.  In recovery the probe is for a retransmission that was lost. */
static void poll_tlp(struct cp *cp, uint32_t id, const struct toe_flow_prog *p)
{
	struct cp_rt *rt = &cp->rt[id];

	/* Recovery has begun and resent what is missing: that needs its own round trips, and may
	 * be lost like the first; also where a probe has been what showed the loss. */
	if (rt->tlp_epoch != p->loss_epoch)
		arm_tlp(cp, id, (enum cp_timer)rt->timer, p);
	if (!rt->tlp_ms || cp->now_ms < rt->tlp_ms)
		return;
	rt->tlp_ms = 0;
	if (p->snd_nxt - p->snd_una <= cp->conns[id].in.mss && !(p->flags & TOE_PROG_RECOVERY))
		return;
	if (!(p->flags & TOE_PROG_RECOVERY))
		karn(rt, &rt->pto_shift, PTO_SHIFT_MAX, p);
	cp_cmd(cp, TOE_CMD_PROBE, id, NULL, 0);
	CP_COUNT(cp, tail_probes);
}

static void arm(struct cp *cp, uint32_t id, enum cp_timer timer, const struct toe_flow_prog *p)
{
	struct cp_rt *rt = &cp->rt[id];
	uint64_t rto = cp_rto_ms(cp, p->srtt_us, p->rttvar_us);
	uint32_t ut = user_timeout_ms(cp, id);

	if (!p->srtt_us && (cp->conns[id].flags & CP_CONN_SYN_LOST))
		rto = RTO_SYN_LOST_MS;
	if (timer == CP_TIMER_PERSIST)
		rt->due_ms = cp->now_ms + back_off(rto > PERSIST_MIN_MS ? rto : PERSIST_MIN_MS,
						   rt->tries, PERSIST_MAX_MS);
	else
		rt->due_ms = cp->now_ms +
			     back_off(rto, rt->tries > rt->rto_shift ? rt->tries : rt->rto_shift,
				      RTO_MAX_MS);
	arm_tlp(cp, id, timer, p);
	if (!rt->stuck_ms)
		rt->stuck_ms = cp->now_ms ? cp->now_ms : 1;
	if (ut && rt->stuck_ms + ut < rt->due_ms)
		rt->due_ms = rt->stuck_ms + ut;
	rt->timer = (uint8_t)timer;
}

/* Which timer the flow needs. */
static enum cp_timer timer_wanted(const struct cp *cp, uint32_t id, const struct toe_flow_prog *p)
{
	uint32_t out = p->snd_nxt - p->snd_una;
	int32_t waiting = (int32_t)(p->tx_tail - p->snd_nxt);
	uint32_t need = cp->conns[id].in.mss;

	if (waiting < 0)
		waiting = 0;
	if ((p->flags & TOE_PROG_FIN_QUEUED) && !(p->flags & TOE_PROG_FIN_SENT))
		waiting++;
	if ((uint32_t)waiting < need)
		need = (uint32_t)waiting;
	/* The byte of a probe is outstanding, too: still the persist timer's. */
	if (out > 1 || (out == 1 && cp->rt[id].timer != CP_TIMER_PERSIST))
		return CP_TIMER_RTO;
	if (p->snd_wnd < need || (out && !p->snd_wnd))
		return CP_TIMER_PERSIST;
	return out ? CP_TIMER_RTO : CP_TIMER_NONE;
}

/* Runs the flow's timers; false: the connection is gone. */
static bool timer_poll(struct cp *cp, uint32_t id, const struct toe_flow_prog *p)
{
	struct cp_rt *rt = &cp->rt[id];
	enum cp_timer want = timer_wanted(cp, id, p);

	if (p->snd_una != rt->last_una) {
		rt->last_una = p->snd_una;
		if (seq_gt(p->snd_una, rt->karn_end))
			rt->rto_shift = rt->pto_shift = 0;
		rt->tries = 0;
		rt->unanswered = 0;
		rt->stuck_ms = 0;
		rt->timer = CP_TIMER_NONE;
	}
	if (want == CP_TIMER_NONE) {
		rt->timer = CP_TIMER_NONE;
		rt->tlp_ms = 0;
		rt->stuck_ms = 0;
		rt->tries = 0;
		return true;
	}
	if (rt->timer != want) {
		rt->tries = 0;
		heard(cp, id);
		arm(cp, id, want, p);
		return true;
	}
	poll_tlp(cp, id, p);
	if (cp->now_ms < rt->due_ms)
		return true;
	if (give_up(cp, id, p))
		return false;
	if (want == CP_TIMER_RTO) {
		karn(rt, &rt->rto_shift, RTO_SHIFT_MAX, p);
		cp_cmd(cp, TOE_CMD_RTO, id, NULL, 0);
		CP_COUNT(cp, rto);
	} else {
		cp_cmd(cp, TOE_CMD_PROBE, id, NULL, 0);
		CP_COUNT(cp, probes);
	}
	arm(cp, id, want, p);
	return true;
}

/* With many flows their polling must not be all there is time for. */
static uint64_t soonest(const struct cp *cp)
{
	return cp->now_ms + TICK_FAST_MS + cp->active.n / TICK_FLOWS;
}

void cp_poll_off(struct cp *cp, uint32_t id)
{
	cp_list_del(&cp->active, id);
	cp->rt[id].poll = CP_POLL_OFF;
	cp->rt[id].timer = CP_TIMER_NONE;
}

void cp_active(struct cp *cp, uint32_t id)
{
	struct cp_rt *rt = &cp->rt[id];
	uint8_t state = cp->conns[id].state;

	if (state != CP_INSTALLING && state != CP_ESTABLISHED && state != CP_CLOSING)
		return;
	rt->poll = CP_POLL_ACTIVE;
	rt->quiet_ms = 0;
	rt->busy_ms = cp->now_ms + TICK_NEW_FOR_MS - TICK_FAST_FOR_MS;
	if (!cp->active.n || cp->tick_at > soonest(cp))
		cp->tick_at = soonest(cp);
	cp_list_add(&cp->active, id);
}

/* Idle for longer than the RTO: the next burst starts slowly. */
static void restart_window(struct cp *cp, uint32_t id, const struct toe_flow_prog *p)
{
	struct cc_state *s = &cp->conns[id].cc;
	struct cc_decision d = {.rate_bps = TOE_RATE_UNPACED};

	if (cp->now_ms - cp->rt[id].quiet_ms < cp_rto_ms(cp, p->srtt_us, p->rttvar_us) ||
	    !cc_restart(s, cp->conns[id].in.mss))
		return;
	d.cwnd = s->cwnd;
	d.ssthresh = s->ssthresh;
	cc_send(cp, id, &d);
}

/* QUIET crosses with bytes that become outstanding: look once more before believing it. */
static void quiet_poll(struct cp *cp, uint32_t id, const struct toe_flow_prog *p)
{
	struct cp_rt *rt = &cp->rt[id];

	if (rt->timer != CP_TIMER_NONE) {
		rt->poll = CP_POLL_ACTIVE;
		rt->quiet_ms = 0;
		return;
	}
	if (!rt->quiet_ms)
		rt->quiet_ms = cp->now_ms ? cp->now_ms : 1;
	if (rt->poll == CP_POLL_ACTIVE && cp->now_ms - rt->quiet_ms >= QUIET_AFTER_MS) {
		restart_window(cp, id, p);
		cp_cmd(cp, TOE_CMD_QUIET, id, NULL, 0);
		rt->poll = CP_POLL_COOLING;
	} else if (rt->poll == CP_POLL_COOLING &&
		   cp->now_ms - rt->quiet_ms >= QUIET_AFTER_MS + COOL_MS) {
		cp_poll_off(cp, id);
	}
}

/*
 * When this flow wants to be looked at again.  Each look is a wake-up: connections that send a
 * message now and then (keepalives of many MQTT clients) must not be looked at each millisecond.
 * One segment has no tail loss probe, its RTO is ten slow ticks at least, and there is no queue to
 * be controlled.
 */
static uint64_t flow_poll(struct cp *cp, uint32_t id)
{
	struct cp_rt *rt = &cp->rt[id];
	const struct toe_flow_prog *shared = &cp->prog[id];
	/* First the labels, then what they label: pairs with proto_publish(). */
	uint32_t loss_epoch = __atomic_load_n(&shared->loss_epoch, __ATOMIC_ACQUIRE);
	uint32_t flags = __atomic_load_n(&shared->flags, __ATOMIC_ACQUIRE);
	struct toe_flow_prog p = *shared;
	uint64_t next;

	p.flags = flags;
	p.loss_epoch = loss_epoch;
	if (p.gen != cp->conns[id].gen)
		return cp->now_ms + TICK_SLOW_MS; /* INSTALL is on its way */
	cc_poll(cp, id, &p);
	if (!timer_poll(cp, id, &p))
		return CP_NEVER;
	quiet_poll(cp, id, &p);
	if (cp->now_ms < rt->busy_ms + TICK_FAST_FOR_MS)
		return cp->now_ms + TICK_FAST_MS;
	next = cp->now_ms + TICK_SLOW_MS;
	if (rt->timer != CP_TIMER_NONE && rt->due_ms < next)
		next = rt->due_ms > cp->now_ms ? rt->due_ms : cp->now_ms + TICK_FAST_MS;
	if (rt->tlp_ms && rt->tlp_ms < next)
		next = rt->tlp_ms;
	return next;
}

static void tick(struct cp *cp)
{
	uint64_t first = soonest(cp);
	uint64_t at = CP_NEVER;
	uint32_t next;

	for (uint32_t id = cp->active.head; id != TOE_NONE; id = next) {
		uint64_t t;

		next = cp->active.link[id].next;
		t = flow_poll(cp, id);
		at = t < at ? t : at;
	}
	cp->tick_at = at > first ? at : first;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t cp_timers_run(struct cp *cp)
{
	uint64_t next = CP_NEVER;

	if (cp->active.n && cp->now_ms >= cp->tick_at)
		tick(cp);
	if (cp->now_ms >= cp->house_at && (cp->half_list.n || cp->syn_sent.n)) {
		cp_half_house(cp);
		cp_active_house(cp);
		cp->house_at = cp->now_ms + HOUSE_MS;
	}
	if (cp->now_ms >= cp->slow_at && (cp->conn_count || cp->tw_list.n || cp->grace_pending)) {
		cp_slow_conns(cp);
		cp_tw_slow(cp);
		cp_listen_slow(cp);
		cp->slow_at = cp->now_ms + SLOW_MS;
	}
	if (cp->active.n)
		next = earlier(next, cp->tick_at);
	if (cp->half_list.n || cp->syn_sent.n)
		next = earlier(next, cp->house_at);
	if (cp->conn_count || cp->tw_list.n || cp->grace_pending)
		next = earlier(next, cp->slow_at);
	return next;
}
