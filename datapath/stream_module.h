/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stream modules: code that owns both byte streams of a connection between TCP and the socket.
 *
 * This header is a module's whole view of the engine.  A module never sees a segment: TCP has put
 * the peer's bytes in order and acknowledged them; the module decides what the application reads
 * and what the peer receives.  tests/modules/line_count.c is a complete small module,
 * modules/mqtt/ a large one.
 *
 *              rx()                                 tx()
 *      peer ----------> module ----> application ----------> module ----> peer
 *                         toe_stream_forward()                 toe_stream_send()
 *
 * Every byte given to rx() and taken by it is either forwarded or consumed, sooner or later; until
 * then it counts against the connection's receive window, which is what pushes back (the right edge
 * never moves back).  Every byte given to tx() is either sent on, or dropped.  Anything can be sent
 * in between, from any connection's callback: there is one queue per connection, hence one order.
 *
 * Thread: all calls, both ways, happen in the one instance of the stream stage; nothing here needs
 * or has locks.  Bounded work per call: callbacks handle what they are given, long work is cut into
 * pieces in poll().  No allocation but toe_stream_buf_new().  Time comes from toe_stream_ms().
 */
#ifndef TOE_STREAM_MODULE_H
#define TOE_STREAM_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "stream_mem.h"

struct toe_stream;      /* the stage's instance */
struct toe_stream_conn; /* one connection of it; valid from open() to close() */

/*
 * One command to a module.  what, arg: text.  at: 0 first; the module sets it to go on with the
 * next call (long lists come in pieces), or to 0 when it has finished.  out: JSON text of room
 * bytes, len in use; a piece that does not fit stays for the next call.
 */
struct toe_stream_ask {
	const char *what;
	const char *arg;
	uint64_t at;
	char *out;
	size_t room;
	size_t len;
};

struct toe_stream_module {
	const char *name;
	size_t conn_bytes; /* private state per connection, zeroed before open() */

	/* Does the module want connections accepted on this port?  From any thread, only the
	 * configuration decides.  The first module that wants one gets it, for its whole life. */
	bool (*wants)(const struct toe_config *cfg, uint16_t local_port);

	/* Once, before traffic; the only place for malloc().  0 or -errno. */
	int (*init)(struct toe_stream *s, const struct toe_config *cfg);
	void (*fini)(struct toe_stream *s);

	void (*open)(struct toe_stream *s, struct toe_stream_conn *c);
	/* Last call for c: nothing more can be sent or forwarded. */
	void (*close)(struct toe_stream *s, struct toe_stream_conn *c);

	/* In-order bytes of the peer.  Returns how many the module takes.  The engine keeps the
	 * rest (in the window's budget) and offers it again after toe_stream_rx_resume(). */
	size_t (*rx)(struct toe_stream *s, struct toe_stream_conn *c, const uint8_t *data,
		     size_t len);
	/* The peer's FIN, behind the last byte: what is held has to be forwarded now.  True: the
	 * application may see it; false: not yet, call again after toe_stream_rx_resume(). */
	bool (*rx_end)(struct toe_stream *s, struct toe_stream_conn *c);
	/* Optional.  The peer has reset the connection, and all that it had sent has been offered
	 * and taken.  What is sent to it goes nowhere, but what the application writes is still
	 * offered.  True: the application may see it, tx_end() is next; false: not yet, call again
	 * after toe_stream_rx_resume().  Not called when the peer does not answer any
	 * more: the control plane has given up and told the application, close() is next. */
	bool (*rx_reset)(struct toe_stream *s, struct toe_stream_conn *c);

	/* Bytes the application wrote: b->data[off, off + len).  Returns how many the module takes;
	 * the rest is offered again after toe_stream_tx_resume(), and no more is fetched from the
	 * application until then.  The module may keep references to b.  What a thread of the
	 * application writes first on each of its connections is offered in that order, though
	 * copies or memory run out meanwhile.  Not if the module has sent the peer more than it
	 * takes (STREAM_TX_LIMIT) before, nor if the application had read an eighth of its receive
	 * buffer a moment before, or set an option: it is looked at for that, and what it has
	 * written since is seen, too.  Of all other bytes the order across connections is open. */
	size_t (*tx)(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
		     uint32_t off, uint32_t len);
	/* The application closed its side (FIN follows what has been sent), or the whole socket, or
	 * the connection was reset: nothing may be sent to the peer after this returns.  Within it
	 * something may, if it was no reset.  Once at most, though the module aborts the connection
	 * in it; not at all if close() comes first. */
	void (*tx_end)(struct toe_stream *s, struct toe_stream_conn *c);

	/* Optional.  toe_stream_short_writes(c) has risen: the application keeps bytes to itself
	 * that belong before whatever is sent from now on. */
	void (*tx_short)(struct toe_stream *s, struct toe_stream_conn *c);

	/* Optional.  Unfinished business, at most budget pieces; returns the number done. */
	unsigned (*poll)(struct toe_stream *s, unsigned budget);
	/* Optional.  TSC-free deadline of poll() without other work: milliseconds as
	 * toe_stream_ms(), in *ms; false: none. */
	bool (*deadline)(struct toe_stream *s, uint32_t *ms);

	/* Optional.  A question or an order from outside (toe CLI, telemetry): a command word, its
	 * argument and where to go on; text is written as JSON.  Called in the stage's thread. */
	int (*control)(struct toe_stream *s, struct toe_stream_ask *ask);
};

/* Registers a module with the engine at link time: at file scope, once per module. */
#define TOE_STREAM_MODULE(symbol)                                                                  \
	static const struct toe_stream_module *const toe_stream_entry_##symbol                     \
		__attribute__((used, retain, section("toe_stream_modules"))) = &(symbol)

/* ---- what a module can ask ---- */

uint32_t toe_stream_ms(const struct toe_stream *s); /* wraps; compare by difference */
void *toe_stream_state(struct toe_stream_conn *c);  /* conn_bytes of it */
/* The same by connection id, also of one that is closed: zeroed when it opens again. */
void *toe_stream_state_at(struct toe_stream *s, uint32_t id);
/* Hint: calls about that connection will follow soon.  Any id. */
void toe_stream_prefetch(struct toe_stream *s, uint32_t id);
void *toe_stream_private(struct toe_stream *s); /* what toe_stream_set_private() left */
void toe_stream_set_private(struct toe_stream *s, void *p);

/* Connection id, and the connection of an id if it is open and of that generation, else NULL. */
uint32_t toe_stream_id(const struct toe_stream_conn *c);
uint32_t toe_stream_gen(const struct toe_stream_conn *c);
struct toe_stream_conn *toe_stream_conn(struct toe_stream *s, uint32_t id, uint32_t gen);
uint32_t toe_stream_conn_max(const struct toe_stream *s); /* ids are below it */

struct toe_stream_peer {
	uint8_t addr[16]; /* network order; IPv4: the first 4 bytes, the rest zero */
	uint16_t family;  /* AF_INET or AF_INET6 */
	uint16_t port;    /* host order */
	uint16_t local_port;
	uint32_t app_id;
};
void toe_stream_peer(struct toe_stream *s, const struct toe_stream_conn *c,
		     struct toe_stream_peer *out);

/* The module begins to send to many connections.  If items of what was sent before are still under
 * way, the port is behind: what follows takes turns in sched, where it shares segments with what is
 * there (throughput).  Else the first segment of each idle connection goes at once (latency).
 * Counts items: once per fan-out, not per connection. */
void toe_stream_burst(struct toe_stream *s);

/* Connections the application has through the kernel at this moment (docs/LIBTOE.md): they are not
 * seen by any module. */
uint32_t toe_stream_kernel_conns(struct toe_stream *s, uint32_t app_id);
/* Those of them whose subscriptions a module is told (command "kernel"). */
uint32_t toe_stream_followed(struct toe_stream *s, uint32_t app_id);
/* Times the application was told to read its configuration again (SIGHUP), as far as libtoe sees
 * it; counted before its handler runs. */
uint32_t toe_stream_reloads(struct toe_stream *s, uint32_t app_id);
/* Connections it has in the pipeline that no module follows: of ports that none wants, and those it
 * opened itself.  Counted before the application sees them. */
uint32_t toe_stream_plain_conns(struct toe_stream *s, uint32_t app_id);
/* Those of them whose subscriptions no module is told; for moments more. */
uint32_t toe_stream_plain_unseen(struct toe_stream *s, uint32_t app_id);
/* Differs for two applications that had the same id; 0: there is none. */
uint32_t toe_stream_app_serial(struct toe_stream *s, uint32_t app_id);

/* Processes of the application that have the connection, a bit each, as the application says; 0:
 * not known. */
uint64_t toe_stream_users(struct toe_stream *s, const struct toe_stream_conn *c);

/* Bytes sent and not yet acknowledged by the peer. */
uint32_t toe_stream_queued(const struct toe_stream_conn *c);
/* Bytes the peer has acknowledged, modulo 2^32, from an unknown start: has it read anything since?
 */
uint32_t toe_stream_acked(const struct toe_stream_conn *c);
/* All bytes the application is known to have written, modulo 2^32: those tx() was given and those
 * still to come. */
uint32_t toe_stream_written(const struct toe_stream_conn *c);
/*
 * Have all of the application's writes up to now been noticed?  Writes to two connections may be
 * noticed in another order than they were made.  sync() gives a ticket; once synced() has reached
 * it, toe_stream_written() of every connection covers what the application had written when sync()
 * was called.  c: any connection of the application.
 */
uint64_t toe_stream_sync(struct toe_stream *s, const struct toe_stream_conn *c);
uint64_t toe_stream_synced(const struct toe_stream *s);
/* Times the application's write() did not fit (short write), counted by libtoe. */
uint32_t toe_stream_short_writes(const struct toe_stream_conn *c);
/* True once tx_end() has been called, or the connection is being closed: sending has no effect. */
bool toe_stream_tx_ended(const struct toe_stream_conn *c);

/* ---- what a module can do ---- */

/* Memory for messages: one reference for the caller; NULL: the budget is used up, go without. */
struct toe_buf *toe_stream_buf_new(struct toe_stream *s, size_t len);
void toe_stream_buf_put(struct toe_stream *s, struct toe_buf *b);
size_t toe_stream_mem_used(const struct toe_stream *s);
size_t toe_stream_mem_size(const struct toe_stream *s);

/*
 * Towards the application, in the order of the calls.  data is copied.  from_peer: these bytes were
 * taken in rx() and are done with; else they are the module's own (injected, or consumed before).
 * What the application has no room for waits in the engine.  0, or -ENOSPC: out of memory, the
 * connection is being reset.
 */
int toe_stream_forward(struct toe_stream *s, struct toe_stream_conn *c, const uint8_t *data,
		       size_t len, bool from_peer);
/* The same out of a buffer, without a copy where possible. */
int toe_stream_forward_buf(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
			   uint32_t off, uint32_t len, bool from_peer);
/* n bytes taken in rx() go nowhere: their room in the window is given back. */
void toe_stream_consume(struct toe_stream *s, struct toe_stream_conn *c, size_t n);

/* Towards the peer: b->data[off, off + len), which must not change any more.  0; -ENOSPC: the queue
 * or memory is full, nothing was queued; -EPIPE: after tx_end(). */
int toe_stream_send(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
		    uint32_t off, uint32_t len);

/* Two pieces, or nothing. */
int toe_stream_send2(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b1,
		     uint32_t off1, uint32_t len1, struct toe_buf *b2, uint32_t off2,
		     uint32_t len2);

/* What rx() or tx() did not take may be offered again (from the stage's next turn on).  The engine
 * also does so by itself when memory was short or the peer has acknowledged something: a module
 * that still waits takes nothing again. */
void toe_stream_rx_resume(struct toe_stream *s, struct toe_stream_conn *c);
void toe_stream_tx_resume(struct toe_stream *s, struct toe_stream_conn *c);

/* Resets the connection: RST to the peer, ECONNRESET to the application. */
void toe_stream_abort(struct toe_stream *s, struct toe_stream_conn *c);

#endif
