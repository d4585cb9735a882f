/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Far ends of token descriptors.  One token stands for one connection of an application: when the
 * last descriptor of the near end is closed, wherever it was passed to, the far end hangs up.
 */
#ifndef KP_TOKEN_H
#define KP_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

/* Shared by all applications. */
struct kp_token_watch {
	int epfd;       /* readable when a token hung up */
	uint64_t nonce; /* of this keeper, part of every far end's name */
};

enum kp_token_state {
	KP_TOKEN_FREE,
	KP_TOKEN_LIVE,
	KP_TOKEN_HUNG, /* to be told to the control plane */
	KP_TOKEN_TOLD, /* until it says that the id is free */
};

struct kp_token {
	int fd;          /* far end while LIVE */
	uint32_t serial; /* random; tells two uses of an id apart */
	uint32_t state;  /* enum kp_token_state */
};

/* Tokens of one application, by id. */
struct kp_tokens {
	struct kp_token *t;
	uint32_t n;
	uint32_t low;     /* no free id below */
	uint32_t live_n;  /* descriptors held */
	uint32_t hung_n;  /* in state HUNG */
	uint32_t hung_at; /* none of them below */
};

struct kp_token_event {
	uint32_t app_id;
	uint32_t id;
	uint32_t serial;
};

/* For the life of the program. */
int kp_token_watch_init(struct kp_token_watch *w);
int kp_tokens_init(struct kp_tokens *ts, uint32_t n);
void kp_tokens_free(const struct kp_token_watch *w, struct kp_tokens *ts);

/* Watches the far end fd: the id (>= 0; fd is now ours), or -errno (fd stays the caller's). */
int kp_token_add(const struct kp_token_watch *w, struct kp_tokens *ts, uint32_t app_id, int fd);
/* Forgets a token again that nobody has been told of. */
void kp_token_undo(const struct kp_token_watch *w, struct kp_tokens *ts, uint32_t id);
/* Whose near end is this?  0 or -errno (-ENOENT: no token of ours). */
int kp_token_identify(const struct kp_token_watch *w, int near_fd, struct kp_token_event *who);
/* Does the token still exist as it was? */
bool kp_token_valid(const struct kp_tokens *ts, const struct kp_token_event *who);

/* Up to max hang-ups; each is then given to kp_token_hup(). */
unsigned kp_token_poll(struct kp_token_watch *w, struct kp_token_event *ev, unsigned max);
/* True if this is news. */
bool kp_token_hup(const struct kp_token_watch *w, struct kp_tokens *ts,
		  const struct kp_token_event *ev);
/* Up to max ids that are HUNG; they become TOLD. */
unsigned kp_tokens_tell(struct kp_tokens *ts, uint32_t *ids, unsigned max);
/* All have to be told again, to another control plane. */
void kp_tokens_rewind(struct kp_tokens *ts);
/* The id may be used again.  -EINVAL: it has not hung up. */
int kp_token_release(struct kp_tokens *ts, uint32_t id);

#endif
