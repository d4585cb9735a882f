/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine of wire scripts in real time: frames through a packet socket on the peer's end of a
 * veth pair, the application a program under `toe run` (tests/progs/wire_agent), states from `toe
 * conns`.
 *
 * Scripts run side by side: each has its own ports (wire.port_shift).  The engine's kernel answers
 * pings, which is how one knows that what was sent before has been processed: IPv4's, also where a
 * script is about IPv6.
 */
#ifndef TOE_TEST_WIRE_VETH_H
#define TOE_TEST_WIRE_VETH_H

#include <errno.h>
#include <jansson.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "script.h"

#define VETH_PORTS    16u      /* of a script, in each range */
#define VETH_PATIENCE 1500000u /* us: how long a condition is waited for */
#define VETH_ECHO_US  1500000u
#define VETH_SLOW_US  20000u  /* a ping takes a fraction of a millisecond */
#define VETH_SLOW_ALL 100000u /* us: all pings of a script, which time does not stand still for */
#define VETH_BUSY     75      /* exit status: failed while this machine was busy elsewhere */
#define ICMP_ECHO     8u

static struct {
	const char *interface;
	const char *agent, *control; /* paths of sockets: the application's, the control plane's */
	uint8_t engine_mac[6], peer_mac[6];
	int fd, agent_fd;
	uint64_t epoch_us;
	uint64_t waiting_us; /* since when; 0: not */
	uint64_t pings_us;   /* all of them took */
	uint16_t echo_id, echo_sent, echo_came;
	bool listening;
	bool slow; /* somebody was kept waiting, so times mean nothing */
} veth = {.fd = -1, .agent_fd = -1};

/* ---- time and frames ---- */

static uint64_t veth_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000 - veth.epoch_us +
	       WIRE_EPOCH;
}

static bool veth_in(uint16_t port, uint16_t first)
{
	return (uint16_t)(port - wire.port_shift - first) < VETH_PORTS;
}

/* Of this script, not of one that ran before. */
static bool veth_ours(const uint8_t *f, uint32_t len)
{
	const uint8_t *tcp = f + WIRE_TCP;
	uint16_t sport = (uint16_t)(tcp[0] << 8 | tcp[1]), dport = (uint16_t)(tcp[2] << 8 | tcp[3]);
	bool is = wire.six ? f[12] == 0x86 && f[13] == 0xdd && f[20] == 6
			   : f[12] == 8 && f[13] == 0 && f[23] == 6;

	return len >= WIRE_TCP + 20 && is &&
	       (veth_in(sport, WIRE_SERVER_PORT) || veth_in(sport, WIRE_LOCAL_PORT)) &&
	       (veth_in(dport, WIRE_PEER_PORT) || veth_in(dport, WIRE_REMOTE_PORT));
}

static void veth_take(const uint8_t *f, uint32_t len)
{
	if (veth_ours(f, len)) {
		wire_came(f, len);
		return;
	}
	if (len >= 42 && f[12] == 8 && f[23] == 1 && f[34] == 0 &&
	    (uint16_t)(f[38] << 8 | f[39]) == veth.echo_id)
		veth.echo_came = (uint16_t)(f[40] << 8 | f[41]);
}

/* What has come; waits for it until us. */
static void veth_receive(uint64_t until_us)
{
	uint64_t now = veth_now();
	struct pollfd p = {.fd = veth.fd, .events = POLLIN};
	uint8_t f[WIRE_FRAME];
	struct timespec ts = {0};
	ssize_t n;

	if (until_us > now) {
		ts.tv_sec = (time_t)((until_us - now) / 1000000);
		ts.tv_nsec = (long)((until_us - now) % 1000000) * 1000;
	}
	if (ppoll(&p, 1, &ts, NULL) <= 0)
		return;
	while ((n = recv(veth.fd, f, sizeof(f), MSG_DONTWAIT)) > 0)
		veth_take(f, (uint32_t)n);
}

static void veth_send(uint8_t *frame, uint32_t len)
{
	memcpy(frame, veth.engine_mac, 6);
	memcpy(frame + 6, veth.peer_mac, 6);
	if (send(veth.fd, frame, len, 0) != (ssize_t)len)
		wire_fail("%s: %s", veth.interface, strerror(errno));
}

static void veth_echo(void)
{
	uint8_t frame[64];
	const struct frame_spec outer = {
		.src = wire.peer_ip, .dst = wire.engine_ip, .vlan = -1, .payload_len = 0};
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + 14);
	uint8_t *icmp = frame + 34;
	uint16_t sum;

	frame_make(frame, &outer);
	ip->total_length = rte_cpu_to_be_16(28);
	ip->next_proto_id = 1;
	ip->hdr_checksum = 0;
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	memset(icmp, 0, 8);
	icmp[0] = ICMP_ECHO;
	icmp[4] = (uint8_t)(veth.echo_id >> 8);
	icmp[5] = (uint8_t)veth.echo_id;
	icmp[6] = (uint8_t)(++veth.echo_sent >> 8);
	icmp[7] = (uint8_t)veth.echo_sent;
	sum = (uint16_t)~rte_raw_cksum(icmp, 8);
	memcpy(icmp + 2, &sum, 2);
	veth_send(frame, 42);
}

/* False: no answer. */
static bool veth_ping(void)
{
	uint64_t begin = veth_now(), took;

	veth_echo();
	while (veth.echo_came != veth.echo_sent && veth_now() - begin < VETH_ECHO_US)
		veth_receive(begin + VETH_ECHO_US);
	took = veth_now() - begin;
	veth.pings_us += took;
	veth.slow |= took > VETH_SLOW_US || veth.pings_us > VETH_SLOW_ALL;
	return veth.echo_came == veth.echo_sent;
}

static int veth_status(void)
{
	if (veth.fd >= 0 && !veth.slow)
		veth_ping();
	return veth.slow ? VETH_BUSY : 1;
}

/* Twice: what the first one pushed out has then been seen as well. */
static void veth_settle(void)
{
	for (unsigned i = 0; i < 2; i++)
		if (!veth_ping())
			wire_fail("the engine's kernel does not answer pings");
	veth.waiting_us = 0;
}

static bool veth_wait(void)
{
	uint64_t now = veth_now();

	if (veth.waiting_us == 0)
		veth.waiting_us = now;
	if (now - veth.waiting_us > VETH_PATIENCE) {
		veth.waiting_us = 0;
		return false;
	}
	veth_receive(now + 5000);
	return true;
}

static void veth_frame(uint8_t *frame, uint32_t len)
{
	veth_send(frame, len);
	veth_settle();
}

static void veth_advance(uint64_t us, bool stop_at_frame)
{
	uint64_t begin = veth_now();

	veth_receive(0);
	while (veth_now() < us && !(stop_at_frame && w.frame_head != w.frame_tail))
		veth_receive(us);
	veth.slow |= veth_now() > us + VETH_SLOW_US && us >= begin;
}

/* ---- the application ---- */

/* 2001:db8::host, as frames.h has it */
static void veth_ip6(uint8_t to[16], uint8_t host)
{
	const uint8_t ip[16] = {0x20, 1, 0xd, 0xb8, [15] = host};

	memcpy(to, ip, 16);
}

static uint32_t veth_call(enum agent_op op, uint32_t a, uint32_t b, uint32_t c)
{
	struct agent_call call = {op, (uint32_t)(w.at - w.peer), a, b, c, wire.six, {0}};
	const uint32_t ip = htonl(wire.peer_ip);
	struct agent_reply r;

	if (wire.six)
		veth_ip6(call.to, 2);
	else
		memcpy(call.to, &ip, sizeof(ip));
	if (send(veth.agent_fd, &call, sizeof(call), MSG_NOSIGNAL) != sizeof(call) ||
	    recv(veth.agent_fd, &r, sizeof(r), 0) != sizeof(r))
		wire_fail("the application is gone");
	if (r.error != 0)
		wire_fail("the application: %s", strerror(r.error));
	return r.value;
}

static void veth_listen(uint32_t backlog)
{
	veth_call(AGENT_LISTEN, WIRE_SERVER_PORT + wire.port_shift, backlog, 0);
	veth.listening = true;
	veth_settle();
}

static bool veth_accept(bool only_look)
{
	uint32_t port = veth_call(AGENT_ACCEPT, only_look, 0, 0);

	if (port == 0 || only_look)
		return port != 0;
	if (port != 1 && port != (uint16_t)(w.at->port + wire.port_shift))
		wire_fail("the connection is of port %u", port - wire.port_shift);
	w.at->slot = 0;
	return true;
}

static void veth_connect(void)
{
	veth_call(AGENT_CONNECT, w.at->lport + wire.port_shift, WIRE_REMOTE_PORT + wire.port_shift,
		  0);
	w.next_port++;
	w.at->slot = 0;
}

static void veth_write(uint32_t n)
{
	veth_call(AGENT_WRITE, n, w.at->written, 0);
	w.at->written += n;
	veth_settle();
}

static void veth_read(uint32_t n)
{
	uint32_t end = veth_call(AGENT_READ, n, w.at->read, 0);

	w.at->read += n;
	if (end != w.at->read)
		wire_fail("received byte %u is wrong, or there is none", end);
	veth_settle();
}

static uint32_t veth_readable(void)
{
	return veth_call(AGENT_READABLE, 0, 0, 0);
}

static uint32_t veth_acked(void)
{
	return w.at->written - veth_call(AGENT_UNACKED, 0, 0, 0);
}

static bool veth_eof(void)
{
	return veth_call(AGENT_EOF, 0, 0, 0) != 0;
}

static int veth_error(void)
{
	return (int)veth_call(AGENT_ERROR, 0, 0, 0);
}

static void veth_shutdown(bool rd)
{
	veth_call(AGENT_SHUTDOWN, rd, 0, 0);
	veth_settle();
}

static void veth_option(enum wire_option o, const uint32_t v[3])
{
	static const enum agent_op ops[] = {[WIRE_NODELAY] = AGENT_NODELAY,
					    [WIRE_CORK] = AGENT_CORK,
					    [WIRE_LINGER0] = AGENT_LINGER0,
					    [WIRE_KEEPALIVE] = AGENT_KEEPALIVE,
					    [WIRE_USER_TIMEOUT] = AGENT_USER_TIMEOUT,
					    [WIRE_TOS] = AGENT_TOS,
					    [WIRE_TTL] = AGENT_TTL};

	veth_call(ops[o], v[0], v[1], v[2]);
	veth_settle();
}

static void veth_close(void)
{
	veth_call(AGENT_CLOSE, 0, 0, 0);
	veth_settle();
}

/* ---- what is known of the engine ---- */

static const char *veth_rfc_name(const char *shown)
{
	static char name[32];

	if (strcmp(shown, "ESTAB") == 0)
		return "ESTABLISHED";
	if (strcmp(shown, "SYN-RECV") == 0)
		return "SYN-RECEIVED";
	snprintf(name, sizeof(name), "%s", shown);
	return name;
}

/* host: 1 is the engine, 2 its peer. */
static bool veth_endpoint(json_t *row, const char *key, uint8_t host, uint16_t port)
{
	const char *is = json_string_value(json_object_get(row, key));
	const struct in_addr a = {htonl(host == 1 ? wire.engine_ip : wire.peer_ip)};
	char want[64];

	port = (uint16_t)(port + wire.port_shift);
	if (wire.six)
		snprintf(want, sizeof(want), "[2001:db8::%u]:%u", host, port);
	else
		snprintf(want, sizeof(want), "%s:%u", inet_ntoa(a), port);
	return is != NULL && strcmp(is, want) == 0;
}

static int veth_unix(const char *path, int type)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		wire_fail("%s: %s", path, strerror(errno));
	return fd;
}

/* As `toe conns --json` asks the control plane. */
static json_t *veth_conns(void)
{
	static const char question[] = "{\"cmd\":\"conns\"}\n";
	int fd = veth_unix(veth.control, SOCK_STREAM);
	json_t *root = NULL;

	if (send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) == sizeof(question) - 1)
		root = json_loadfd(fd, 0, NULL);
	close(fd);
	if (root == NULL)
		wire_fail("%s: no answer", veth.control);
	return root;
}

/* On its way out of the datapath a connection is neither this nor that. */
static const char *veth_row_state(json_t *row)
{
	const char *is = json_string_value(json_object_get(row, "state"));
	bool live = json_object_get(row, "id") != NULL;

	if (is == NULL || (live && (strcmp(is, "TIME-WAIT") == 0 || strcmp(is, "CLOSED") == 0)))
		return "being removed";
	return veth_rfc_name(is);
}

static const char *veth_state(const struct wire_peer *p)
{
	const char *found = NULL;
	json_t *root = veth_conns();
	json_t *row;
	size_t i;

	json_array_foreach(json_object_get(root, "conns"), i, row)
	{
		if (!veth_endpoint(row, "local", 1, p->lport) ||
		    !veth_endpoint(row, "remote", 2, p->port))
			continue;
		if (found == NULL || strcmp(found, "TIME-WAIT") == 0)
			found = veth_row_state(row);
	}
	json_decref(root);
	if (found != NULL)
		return found;
	return veth.listening && p->lport == WIRE_SERVER_PORT ? "LISTEN" : "CLOSED";
}

/* ---- beginning and end ---- */

static void veth_socket(void)
{
	const int on = 1;
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

	sa.sll_ifindex = (int)if_nametoindex(veth.interface);
	veth.fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (veth.fd < 0 || sa.sll_ifindex == 0 ||
	    setsockopt(veth.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0 ||
	    bind(veth.fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		wire_fail("%s: %s", veth.interface, strerror(errno));
}

static void veth_start(void)
{
	veth_socket();
	veth.echo_id = (uint16_t)getpid();
	veth.agent_fd = veth_unix(veth.agent, SOCK_SEQPACKET);
	veth.epoch_us = veth_now() + veth.epoch_us - WIRE_EPOCH;
}

static void veth_end(void) {}

static bool veth_config(const char *name, uint32_t value)
{
	(void)name;
	(void)value;
	return false;
}

static bool veth_statement(const char *name, char **rest)
{
	(void)name;
	(void)rest;
	return false;
}

static const char *veth_lacks(const char *name)
{
	static const struct {
		const char *name, *why;
	} lacking[] = {
		{"virtual", "says so itself"},
		{"config", "needs another configuration"},
		{"isn", "moves the clock"},
		{"put", "acts inside the region"},
		{"neighbour", "needs a neighbour that is silent"},
		{"flood", "needs thousands of segments at once"},
	};

	for (unsigned i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++)
		if (strcmp(lacking[i].name, name) == 0)
			return lacking[i].why;
	return NULL;
}

static const struct wire_engine wire_engine = {
	.start = veth_start,
	.end = veth_end,
	.now_us = veth_now,
	.status = veth_status,
	.frame = veth_frame,
	.settle = veth_settle,
	.wait = veth_wait,
	.advance = veth_advance,
	.state = veth_state,
	.config = veth_config,
	.lacks = veth_lacks,
	.statement = veth_statement,
	.listen = veth_listen,
	.accept = veth_accept,
	.connect = veth_connect,
	.write = veth_write,
	.read = veth_read,
	.readable = veth_readable,
	.acked = veth_acked,
	.eof = veth_eof,
	.error = veth_error,
	.shutdown = veth_shutdown,
	.option = veth_option,
	.close = veth_close,
};

#endif
