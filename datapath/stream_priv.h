/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the stream stage: what its files share.  Modules see stream_module.h only.
 *
 * To TCP the stage is the application: proto's cursors (rx_head, tx_tail) are moved by HC items the
 * stage makes.  To the application it is TCP: it fills RX-PAYLOAD-BUF, empties TX-PAYLOAD-BUF and
 * decides what ctxq publishes.  Wire positions and application positions therefore differ, by what
 * the module consumed and injected.
 */
#ifndef TOE_STREAM_PRIV_H
#define TOE_STREAM_PRIV_H

#include "apps.h"
#include "engine.h"
#include "hostmem.h"
#include "stage.h"
#include "stream_extq.h"
#include "stream_module.h"
#include "stream_stash.h"

#define STREAM_MODULES_MAX 8u
/* So much is shown to proto beyond what the peer has acknowledged: the rest can still be taken
 * back, and no peer's window lets more go anyway. */
#define STREAM_AHEAD (512u << 10)
/* Bytes fetched from the application at once: with the header of a buffer, a block of 32 KiB. */
#define STREAM_FETCH_MAX    (32768u - (uint32_t)sizeof(struct toe_buf))
#define STREAM_TX_LIMIT     (256u << 10) /* unacknowledged bytes above which none are fetched */
#define STREAM_RESERVE      8u    /* modules leave one in so many bytes of the arena to the stage */
#define STREAM_KEPT         16u   /* and one of it all to what applications write */
#define STREAM_FETCH_LITTLE 4080u /* bytes of that fetched at once: a block of 4 KiB */
#define STREAM_FETCH_LEAST  112u  /* and what the smallest block holds */
#define STREAM_PIN          1024u /* fewer bytes of a buffer are copied than keep all of it */
#define STREAM_TURN         (64u << 10) /* bytes offered that waited, or fetched, per poll */
#define STREAM_OPS          1024u       /* copies in flight */
#define STREAM_DIRTY_TURN   256u        /* connections looked after per poll */

/* toe_stream_conn.flags */
#define SC_DIRTY    0x001u /* on the list */
#define SC_RX_WAIT  0x002u /* the module did not take all: until toe_stream_rx_resume() */
#define SC_TX_WAIT  0x004u
#define SC_RX_FIN   0x008u  /* the peer's FIN has arrived */
#define SC_RX_ENDED 0x010u  /* rx_end() has been called */
#define SC_TX_FIN   0x020u  /* the application shut down or closed */
#define SC_TX_ENDED 0x040u  /* nothing more is sent */
#define SC_ABORT    0x080u  /* reset it as soon as there is an item */
#define SC_DEAD     0x100u  /* reset: nothing is sent or forwarded any more */
#define SC_NO_APP   0x200u  /* its memory is gone */
#define SC_STARVED  0x400u  /* waits for memory: looked after again every millisecond */
#define SC_RESET    0x800u  /* the module keeps a reset from the application */
#define SC_BEGUN    0x1000u /* the application is known to have written something */
#define SC_FIRST    0x2000u /* on the list of those whose first bytes have not been fetched */
#define SC_TX_END   0x4000u /* tx_end() has been called, or is being called */

struct toe_stream_conn {
	struct toe_stream *of; /* the module's; NULL: closed */
	uint32_t id;
	uint32_t gen;
	uint32_t flags;
	uint32_t ctl; /* the application's wishes, TOE_CTL_* */

	/* wire */
	uint32_t rx_pos;    /* position after the last byte received in order */
	uint32_t rx_wnd;    /* no byte comes from further behind it */
	uint32_t held;      /* taken by the module, neither forwarded nor consumed */
	uint32_t told_head; /* what proto knows */
	uint32_t told_tail;
	uint32_t told_ctl;
	uint32_t state; /* TOE_SLOT_* as proto sees them */
	uint32_t error;
	uint32_t srtt_us;
	uint32_t cwnd;

	/* application */
	uint32_t app_id;
	uint32_t slot;
	uint32_t rx_size;
	uint32_t tx_size;
	uint32_t rx_put;   /* copies submitted up to here */
	uint32_t rx_tail;  /* copies completed up to here */
	uint32_t rx_head;  /* the application has read up to here */
	uint32_t tx_tail;  /* the application has written up to here */
	uint32_t tx_get;   /* copies submitted up to here */
	uint32_t tx_head;  /* copies completed up to here: the application may reuse it */
	uint32_t tx_short; /* short writes counted by libtoe */
	/* what ctxq has been told */
	uint32_t pub_rx_tail;
	uint32_t pub_tx_head;
	uint32_t pub_state;

	struct toe_extq tx;   /* to the peer, until acknowledged; wire positions */
	struct toe_extq fwd;  /* to the application, waiting for room */
	struct toe_stash ooo; /* from the peer, bytes before them are missing */
	struct toe_extq rxq;  /* from the peer, not taken by the module */
	struct toe_extq txq;  /* from the application, not taken by the module */
	struct toe_work *end; /* CLOSE that waits for the last byte, or for INSTALL */
	/* Copies in flight, and REMOVE that waits for them, or for a reset to be shown: behind it
	 * the slot is somebody else's */
	uint32_t copies;
	struct toe_work *removed;
	struct toe_stream_conn *next_dirty;
	struct toe_stream_conn *next_first;
	struct toe_stream_conn *prev_first;
};

/* One module's view; what modules hold a pointer to. */
struct toe_stream {
	struct stream_core *core;
	const struct toe_stream_module *m;
	void *priv;
	uint8_t *states; /* conn_bytes per connection */
};

/* A copy in flight, in order of submission. */
enum stream_op_kind { STREAM_OP_FORWARD, STREAM_OP_FETCH, STREAM_OP_PART };
struct stream_op {
	uint32_t conn;
	uint32_t pos; /* FORWARD: new rx_tail.  FETCH: new tx_head */
	uint32_t kind;
	struct toe_buf *buf; /* one reference; NULL: none needed */
};

struct stream_core {
	struct toe_stage *stage;
	struct toe_engine *engine;
	struct toe_arena *arena;
	struct toe_hostmem *mem;
	struct toe_stream_conn *conns;
	unsigned module_n;
	struct toe_stream modules[STREAM_MODULES_MAX];
	struct stream_op ops[STREAM_OPS];
	uint32_t op_head;
	uint32_t op_tail;
	uint32_t turn; /* bytes of STREAM_TURN that have been used */
	bool share;    /* toe_stream_burst() found the pipeline busy */
	bool busy;     /* a copy could not be submitted: there are too many in flight */
	struct toe_stream_conn *dirty_first;
	struct toe_stream_conn *dirty_last;
	struct toe_stream_conn *starved; /* list by next_dirty */
	uint32_t starved_ms;             /* when it was started */
	/* what applications write first is fetched in the order in which it was noticed */
	struct toe_stream_conn *first_first;
	struct toe_stream_conn *first_last;
	uint32_t open_n;
	/* everything an application has written: tickets of toe_stream_sync() */
	uint64_t sync_asked; /* the newest ticket */
	uint64_t sync_sent;  /* the one under way, or the last that was */
	uint64_t sync_done;
	uint32_t sync_app;
	uint32_t sync_conn; /* one of its connections, for a slot that exists */
};

/* The open connection an item is about, or NULL. */
static inline struct toe_stream_conn *stream_find(struct stream_core *k, uint32_t id, uint32_t gen)
{
	struct toe_stream_conn *c;

	if (id >= k->engine->conn_n)
		return NULL;
	c = &k->conns[id];
	return c->of != NULL && c->gen == gen ? c : NULL;
}

/* On the list of connections to look after. */
void stream_mark(struct stream_core *k, struct toe_stream_conn *c);
/* The same, but no sooner than in the next millisecond: there was no memory. */
void stream_starve(struct stream_core *k, struct toe_stream_conn *c);
/* What applications write may have the last of the memory, which what peers send may not: a peer
 * can keep it for ever, behind a hole that it does not fill. */
static inline void stream_last_memory(struct stream_core *k, bool on)
{
	toe_arena_keep(k->arena, on ? 0 : toe_arena_size(k->arena) / STREAM_KEPT);
}
/* Once: the module is told that nothing more is sent. */
void stream_end_tx(struct toe_stream_conn *c);
/* Nothing more can be done for it: RST. */
void stream_give_up(struct stream_core *k, struct toe_stream_conn *c);

/* stream_app.c: the application's side. */
void stream_app_hc(struct stream_core *k, struct toe_stream_conn *c, const struct toe_hc *hc);
void stream_app_close(struct stream_core *k, struct toe_stream_conn *c,
		      const struct toe_cmd_close *close);
/* Room in the application's ring or copies to give: goes on with what waits. */
void stream_app_drain(struct stream_core *k, struct toe_stream_conn *c);
void stream_app_fetch(struct stream_core *k, struct toe_stream_conn *c);
/* The first bytes of connections, in order, as far as it is possible now. */
void stream_app_first(struct stream_core *k);
void stream_app_unlist(struct stream_core *k, struct toe_stream_conn *c);
unsigned stream_app_complete(struct stream_core *k);
/* data lies in b, which stays as it is, or (b NULL) anywhere.  0 or -ENOSPC. */
int stream_app_forward(struct stream_core *k, struct toe_stream_conn *c, struct toe_buf *b,
		       const uint8_t *data, uint32_t len);

/* stream_wire.c: TCP's side. */
void stream_wire_install(struct stream_core *k, const struct toe_work *w);
/* True: the item goes on; false: later. */
bool stream_wire_item(struct stream_core *k, struct toe_stream_conn *c, struct toe_work *w);
void stream_wire_offer(struct stream_core *k, struct toe_stream_conn *c);
void stream_wire_close(struct stream_core *k, struct toe_stream_conn *c);
/* REMOVE has come (c->removed): closes and hands it on, if nothing has to come first. */
void stream_wire_remove(struct stream_core *k, struct toe_stream_conn *c);
/* Gives back the memory of what waits for the application or the module. */
void stream_wire_drop(struct stream_core *k, struct toe_stream_conn *c);
/* Tells proto about moved cursors; false: no item free. */
bool stream_wire_tell(struct stream_core *k, struct toe_stream_conn *c);
/* Puts what the application may know into the item's snapshot; true: there is news. */
bool stream_wire_stamp(struct toe_stream_conn *c, struct toe_snap *snap);
bool stream_wire_publish(struct stream_core *k, struct toe_stream_conn *c);
/* The application's bytes that the module has not taken. */
void stream_wire_offer_tx(struct stream_core *k, struct toe_stream_conn *c);

/* stream_api.c */
unsigned stream_sync_poll(struct stream_core *k);

/* stream_control.c */
unsigned stream_control_poll(struct stream_core *k);

#endif
