/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What in a broker's configuration (mosquitto.conf) a fan-out in front of it cannot know of.
 *
 *   unsafe  with it the engine would deliver what the broker would not, or the other way round
 *   note    a difference the operator should know of
 */
#ifndef TOE_BROKER_CONF_H
#define TOE_BROKER_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct broker_finding {
	bool unsafe;        /* else a note */
	char file[160];     /* end of its path if that is longer */
	unsigned line;      /* from 1 */
	char option[40];    /* as written, with its port if it is of a listener */
	const char *reason; /* one sentence without a full stop */
};

/*
 * Reads the file and what its include_dir names, in mosquitto's order.  Returns how many findings
 * there are; the first max of them are in out.  -errno: a file cannot be read, so nothing is known.
 */
int broker_conf_scan(const char *path, struct broker_finding *out, size_t max);

/*
 * Where the broker keeps what outlives it.  1: out is that path, as the broker uses it (relative to
 * its directory, perhaps); 0: it keeps nothing; -errno: not known, as above, or longer than room.
 */
int broker_conf_db(const char *path, char *out, size_t room);

#define BROKER_BRIDGE_PORTS 16
#define BROKER_BRIDGE_BYTES 4096
#define BROKER_FILTER_MAX   159 /* bytes, of one that can be told (toe_ctl_kconn) */

/* What bridges take out of a broker, all of them together. */
struct broker_bridges {
	uint16_t port_n;
	uint16_t ports[BROKER_BRIDGE_PORTS];  /* of the brokers they connect to */
	uint16_t len;                         /* in filters */
	uint8_t filters[BROKER_BRIDGE_BYTES]; /* {length (1 byte), local topic filter}, ... */
};

/* How many there are, and *out; -errno: not known, as above; (-E2BIG) more than it can hold;
 * (-ENOTSUP) one that takes messages while it is not connected. */
int broker_conf_bridges(const char *path, struct broker_bridges *out);

/* The configuration file of a command line, if that starts mosquitto with one; else NULL. */
const char *broker_conf_of(char *const *cmd);

/* One line each, after prefix.  How many are unsafe, or -errno as above (printed too). */
int broker_conf_print(FILE *out, const char *prefix, const char *path);

#endif
