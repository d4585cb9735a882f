// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/netem.c tests/progs/lib/util.c tests/progs/lib/hist.c */
/*
 * Network emulator in real time: a middle box between two ports.  Every frame that one port
 * receives leaves by the other, later, damaged, twice or never, as the options and the seed say
 * (tests/progs/lib/netem.h has the rules).  Prints "ready", and at SIGTERM or SIGINT one JSON
 * object with what happened, per direction and cause; "missed" is what the kernel dropped before we
 * read it.
 *
 * Frames are untagged and unmerged: offloads of both ports and of their peers are off.  State: a
 * pool of frames and a delay line per direction, all of this one thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "tests/progs/lib/netem.h"
#include "tests/progs/lib/util.h"

#define SLOT_BYTES 9216u
#define SLOTS      32768u /* touched only as far as they are needed at the same time */
#define BATCH      64u
#define ROUNDS     8u /* batches of one port before the other has its turn */
#define SOCK_BYTES (64 * 1024 * 1024)

static struct netem_conf conf = {.seed = 1, .reorder_ns = 500000, .queue_bytes = 256 * 1024};
static const char *interface[NETEM_PORTS];

static struct {
	int fd;
	struct netem_direction dir; /* of what comes in here */
	struct netem_line line;     /* of what came in here */
} ports[NETEM_PORTS];

static uint8_t *pool;
static uint32_t free_slots[SLOTS + BATCH], free_n;
static uint32_t rx_slots[BATCH]; /* ready to be received into */
static int timer_fd;

static uint8_t *slot_data(uint32_t slot)
{
	return pool + (size_t)slot * SLOT_BYTES;
}

static int port_open(const char *name)
{
	const int on = 1, bytes = SOCK_BYTES;
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct packet_mreq promisc = {.mr_type = PACKET_MR_PROMISC};
	/* protocol 0: nothing of other interfaces before bind */
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	sa.sll_ifindex = (int)if_nametoindex(name);
	promisc.mr_ifindex = sa.sll_ifindex;
	if (fd < 0 || sa.sll_ifindex == 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promisc, sizeof(promisc)) < 0 ||
	    bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		die("netem: %s: %s", name, strerror(errno));
	return fd;
}

static void ports_init(void)
{
	pool = mmap(NULL, (size_t)(SLOTS + BATCH) * SLOT_BYTES, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pool == MAP_FAILED)
		die("netem: no memory");
	for (uint32_t i = 0; i < SLOTS; i++)
		free_slots[free_n++] = SLOTS + BATCH - 1 - i;
	for (uint32_t i = 0; i < BATCH; i++)
		rx_slots[i] = i;
	for (int p = 0; p < NETEM_PORTS; p++) {
		ports[p].fd = port_open(interface[p]);
		netem_direction_init(&ports[p].dir, &conf, (enum netem_port)p);
		ports[p].line.heap = calloc(SLOTS, sizeof(*ports[p].line.heap));
		ports[p].line.max = SLOTS;
		if (!ports[p].line.heap)
			die("netem: no memory");
	}
}

/* The frame in rx_slots[i]; the slot goes to the line, another takes its place. */
static void frame_take(int p, uint32_t i, uint32_t len, uint64_t now)
{
	struct netem_direction *d = &ports[p].dir;
	struct netem_verdict v;

	if (len > SLOT_BYTES) {
		d->n.frames++;
		d->n.oversize++;
		return;
	}
	netem_frame_decide(d, slot_data(rx_slots[i]), len, now, &v);
	if (v.copies == 0)
		return;
	if (v.flip_bit != NETEM_NO_BIT)
		netem_frame_flip(slot_data(rx_slots[i]), v.flip_bit);
	if (free_n < v.copies) {
		d->n.full += v.copies;
		return;
	}
	if (v.copies == 2) {
		uint32_t twin = free_slots[--free_n];

		memcpy(slot_data(twin), slot_data(rx_slots[i]), len);
		netem_line_push(&ports[p].line, v.due_ns[1], twin, len);
	}
	netem_line_push(&ports[p].line, v.due_ns[0], rx_slots[i], len);
	rx_slots[i] = free_slots[--free_n];
}

/* Of what waits at the port; true if there may be more. */
static bool port_receive(int p)
{
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	uint64_t now;
	int n;

	memset(msgs, 0, sizeof(msgs));
	for (uint32_t i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){slot_data(rx_slots[i]), SLOT_BYTES};
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	n = recvmmsg(ports[p].fd, msgs, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
	if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENETDOWN)
		die("netem: %s: %s", interface[p], strerror(errno));
	now = now_ns();
	for (int i = 0; i < n; i++)
		frame_take(p, (uint32_t)i, msgs[i].msg_len, now);
	return n == (int)BATCH;
}

/* Sends what came in at p and is due by the other port; true if there may be more. */
static bool line_release(int p)
{
	struct netem_counts *c = &ports[p].dir.n;
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	struct netem_entry e;
	unsigned n = 0, done = 0;
	uint64_t now = now_ns();

	memset(msgs, 0, sizeof(msgs));
	while (n < BATCH && netem_line_pop(&ports[p].line, now, &e)) {
		iov[n] = (struct iovec){slot_data(e.slot), e.len};
		msgs[n].msg_hdr.msg_iov = &iov[n];
		msgs[n].msg_hdr.msg_iovlen = 1;
		free_slots[free_n++] = e.slot; /* nothing takes it before we have sent it */
		n++;
	}
	while (done < n) {
		int sent = sendmmsg(ports[!p].fd, msgs + done, n - done, MSG_DONTWAIT);

		if (sent > 0) {
			c->sent += (uint64_t)sent;
			done += (unsigned)sent;
		} else if (errno != EINTR) {
			c->send_failed++;
			done++;
		}
	}
	return n == BATCH;
}

static void timer_arm(void)
{
	struct itimerspec when = {0};
	uint64_t next = UINT64_MAX;

	for (int p = 0; p < NETEM_PORTS; p++)
		if (ports[p].line.n > 0 && ports[p].line.heap[0].due_ns < next)
			next = ports[p].line.heap[0].due_ns;
	if (next != UINT64_MAX) {
		when.it_value.tv_sec = (time_t)(next / 1000000000);
		when.it_value.tv_nsec = (long)(next % 1000000000);
	}
	timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void epoll_watch(int ep, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	if (fd < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("netem: epoll: %s", strerror(errno));
}

static void forward(int signal_fd)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev[4];
	bool more = false;

	epoll_watch(ep, ports[NETEM_A].fd);
	epoll_watch(ep, ports[NETEM_B].fd);
	epoll_watch(ep, timer_fd);
	epoll_watch(ep, signal_fd);
	while (true) {
		int n = epoll_wait(ep, ev, 4, more ? 0 : -1);

		for (int i = 0; i < n; i++)
			if (ev[i].data.fd == signal_fd)
				return;
		more = false;
		for (int p = 0; p < NETEM_PORTS; p++) {
			for (unsigned i = 0; i < ROUNDS && port_receive(p); i++)
				more |= line_release(p);
			more |= line_release(p);
		}
		timer_arm(); /* also takes back that it has expired */
	}
}

static void counts_print(int p)
{
	struct netem_counts *c = &ports[p].dir.n;
	struct tpacket_stats st = {0};
	socklen_t len = sizeof(st);

	if (getsockopt(ports[p].fd, SOL_PACKET, PACKET_STATISTICS, &st, &len) == 0)
		c->missed = st.tp_drops;
	printf("\"%s\":{\"frames\":%lu,\"bytes\":%lu,\"data_segments\":%lu,\"sent\":%lu,"
	       "\"loss\":%lu,\"burst\":%lu,\"named\":%lu,\"tail\":%lu,\"full\":%lu,"
	       "\"oversize\":%lu,\"send_failed\":%lu,\"missed\":%lu,\"duplicate\":%lu,"
	       "\"corrupt\":%lu,\"reorder\":%lu,\"passed_by\":%lu}",
	       p == NETEM_A ? "ab" : "ba", c->frames, c->bytes, c->data_segments, c->sent, c->loss,
	       c->burst, c->named, c->tail, c->full, c->oversize, c->send_failed, c->missed,
	       c->duplicate, c->corrupt, c->reorder, c->passed_by);
}

static double probability_parse(const char *text, char **end)
{
	double p = strtod(text, end);

	if (*end == text || !(p >= 0 && p <= 1))
		die("netem: %s: not a probability", text);
	return p;
}

static double probability(const char *text)
{
	char *end;
	double p = probability_parse(text, &end);

	if (*end)
		die("netem: %s: not a probability", text);
	return p;
}

static void burst_parse(const char *text)
{
	char *end;

	conf.burst_begin = probability_parse(text, &end);
	if (*end != ',')
		die("netem: --burst BEGIN,END");
	conf.burst_end = probability(end + 1);
}

static void option_set(int o)
{
	switch (o) {
	case 'a':
	case 'b':
		interface[o == 'a' ? NETEM_A : NETEM_B] = optarg;
		break;
	case 's':
		conf.seed = parse_u64(optarg, "seed");
		break;
	case 'l':
		conf.loss = probability(optarg);
		break;
	case 'g':
		burst_parse(optarg);
		break;
	case 'r':
		conf.reorder = probability(optarg);
		break;
	case 'R':
		conf.reorder_ns = parse_u64(optarg, "reorder-us") * 1000;
		break;
	case 'd':
		conf.duplicate = probability(optarg);
		break;
	case 'c':
		conf.corrupt = probability(optarg);
		break;
	case 'D':
		conf.delay_ns = parse_u64(optarg, "delay-us") * 1000;
		break;
	case 'j':
		conf.jitter_ns = parse_u64(optarg, "jitter-us") * 1000;
		break;
	case 'm':
		conf.rate_bps = parse_u64(optarg, "rate-mbit") * 1000000;
		break;
	case 'q':
		conf.queue_bytes = parse_u64(optarg, "queue-bytes");
		break;
	case 'n':
		if (netem_named_parse(&conf, optarg) < 0)
			die("netem: --drop ab:NTH,ba:NTH,...");
		break;
	default:
		die("usage: netem --a IF --b IF [--seed N] [--loss P] [--burst BEGIN,END]\n"
		    "  [--reorder P] [--reorder-us N] [--duplicate P] [--corrupt P]\n"
		    "  [--delay-us N] [--jitter-us N] [--rate-mbit N] [--queue-bytes N]\n"
		    "  [--drop ab:NTH,ba:NTH,...]");
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"a", 1, 0, 'a'},           {"b", 1, 0, 'b'},          {"seed", 1, 0, 's'},
		{"loss", 1, 0, 'l'},        {"burst", 1, 0, 'g'},      {"reorder", 1, 0, 'r'},
		{"corrupt", 1, 0, 'c'},     {"reorder-us", 1, 0, 'R'}, {"duplicate", 1, 0, 'd'},
		{"delay-us", 1, 0, 'D'},    {"jitter-us", 1, 0, 'j'},  {"rate-mbit", 1, 0, 'm'},
		{"queue-bytes", 1, 0, 'q'}, {"drop", 1, 0, 'n'},       {0},
	};
	sigset_t ends;
	int o, signal_fd;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1)
		option_set(o);
	if (!interface[NETEM_A] || !interface[NETEM_B] || optind != argc)
		option_set('?');
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	signal_fd = signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	ports_init();
	puts("ready");
	fflush(stdout);
	forward(signal_fd);
	putchar('{');
	counts_print(NETEM_A);
	putchar(',');
	counts_print(NETEM_B);
	puts("}");
	return 0;
}
