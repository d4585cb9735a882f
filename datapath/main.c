/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * toe-datapath: command line, start and stop of the engine.
 *
 * Started by toe-keeper with a socket on which DP_START brings the control-plane queue, the kick
 * socket and the TAP; answers DP_READY when the port is up.  The main thread is lcore 0.  Exit
 * codes: 0 clean stop, 2 usage or configuration, 3 environment (DPDK, port, keeper).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_launch.h>
#include <rte_lcore.h>

#include "common/ctl_sock.h"
#include "common/log.h"
#include "engine_priv.h"
#include "fail.h"
#include "graph.h"
#include "keeper_link.h"
#include "module_sock.h"
#include "pipeline.h"
#include "port.h"

#define EXIT_USAGE       2
#define EXIT_ENVIRONMENT 3
#define START_TIMEOUT_MS 10000
#define ERR_BYTES        512
#define SOCKETS_MAX      32u

struct options {
	const char *config;
	int keeper_fd;
	bool dump_graph;
	bool standalone;
};

/* Everything that start() made, so that stop() can undo any part of it. */
struct program {
	struct toe_config cfg;
	struct toe_engine engine;
	int start_fds[3]; /* cpq memfd, kick socket, TAP; -1 = none */
	int known[SOCKETS_MAX];
	unsigned known_n;
	bool eal;
	bool link;
};

static volatile bool stopping;
/* For the signal handler only; set before the handler is installed. */
static struct toe_pipeline *running;

static void on_stop(int sig)
{
	(void)sig;
	stopping = true;
	toe_pipeline_wake_all(running);
}

static void usage(FILE *out)
{
	fprintf(out,
		"usage: toe-datapath --config FILE (--keeper-fd N | --standalone | "
		"--dump-graph)\n"
		"  --keeper-fd N   socket inherited from toe-keeper, which starts this program\n"
		"  --standalone    without keeper, control plane and TAP: to look at a pipeline\n"
		"  --dump-graph    print the pipeline as DOT and exit; needs no privileges\n");
}

/* 0, or -1 after saying why. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longopts[] = {
		{"config", required_argument, NULL, 'c'},
		{"keeper-fd", required_argument, NULL, 'k'},
		{"dump-graph", no_argument, NULL, 'd'},
		{"standalone", no_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	char *end;
	int c;

	*o = (struct options){.keeper_fd = -1};
	while ((c = getopt_long(argc, argv, "c:h", longopts, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->config = optarg;
			break;
		case 'k':
			o->keeper_fd = (int)strtol(optarg, &end, 10);
			if (*end != '\0' || fcntl(o->keeper_fd, F_GETFD) < 0) {
				LOG_ERROR("--keeper-fd %s: not an open descriptor; toe-keeper "
					  "starts this program, try: toe up",
					  optarg);
				return -1;
			}
			break;
		case 'd':
			o->dump_graph = true;
			break;
		case 's':
			o->standalone = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			return -1;
		}
	}
	if (optind < argc || o->config == NULL) {
		usage(stderr);
		return -1;
	}
	if (o->keeper_fd < 0 && !o->standalone && !o->dump_graph) {
		LOG_ERROR("no --keeper-fd: toe-keeper starts this program, try: toe up");
		return -1;
	}
	return 0;
}

/* Exit code: a placement that cannot work is refused before anything is touched. */
static int check_graph(const struct options *o, const struct toe_config *cfg)
{
	static struct toe_graph g;
	char err[ERR_BYTES];

	if (toe_graph_parse(&g, cfg, err, sizeof(err)) != 0) {
		LOG_ERROR("%s: %s", cfg->path, err);
		return EXIT_USAGE;
	}
	if (o->dump_graph)
		toe_graph_dump(&g, stdout);
	if (toe_graph_check_cpus(&g, err, sizeof(err)) == 0)
		return 0;
	if (o->dump_graph) {
		LOG_WARN("%s", err); /* may be meant for another machine */
		return 0;
	}
	LOG_ERROR("%s: %s", cfg->path, err);
	return EXIT_USAGE;
}

/* ---- keeper ---- */

/* Waits for DP_START and takes its descriptors. */
static int receive_start(struct program *p, int fd, char *err, size_t err_len)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	struct toe_ctl_msg m;
	unsigned n = 0;
	int rc;

	if (poll(&pfd, 1, START_TIMEOUT_MS) <= 0)
		return fail(err, err_len, "keeper sent nothing within %d s",
			    START_TIMEOUT_MS / 1000);
	rc = toe_ctl_recv(fd, &m, p->start_fds, 3, &n);
	if (rc == -EPROTO)
		return fail(err, err_len,
			    "keeper speaks ABI version %u, this program %u: install programs of "
			    "one build",
			    m.abi_version, TOE_ABI_VERSION);
	if (rc != 0)
		return fail(err, err_len, "keeper: %s", strerror(-rc));
	for (unsigned i = n; i < 3; i++)
		p->start_fds[i] = -1;
	if (m.type != TOE_CTL_DP_START || n < 2)
		return fail(err, err_len,
			    "keeper: expected DP_START with 2 or 3 descriptors, got message %u "
			    "with %u",
			    m.type, n);
	return 0;
}

/* Instead of the keeper: a queue nobody else sees. */
static int make_start(struct program *p, char *err, size_t err_len)
{
	int pair[2];

	p->start_fds[0] = toe_engine_make_cpq(&p->cfg);
	if (p->start_fds[0] < 0 || toe_ctl_pair(pair) != 0)
		return fail(err, err_len, "cannot make a control-plane queue");
	/* the other end stays open and is never read: the kick socket just does not hang up */
	p->start_fds[1] = pair[0];
	return 0;
}

static uint32_t caps_bits(const struct toe_port_caps *c)
{
	return (c->tx_ip_cksum ? TOE_PORT_TX_IP_CKSUM : 0) |
	       (c->tx_tcp_cksum ? TOE_PORT_TX_TCP_CKSUM : 0) |
	       (c->rx_ip_cksum ? TOE_PORT_RX_IP_CKSUM : 0) |
	       (c->rx_tcp_cksum ? TOE_PORT_RX_TCP_CKSUM : 0) | (c->tx_tso ? TOE_PORT_TX_TSO : 0);
}

static int send_ready(const struct toe_engine *e)
{
	struct toe_ctl_msg m;

	toe_ctl_init(&m, TOE_CTL_DP_READY);
	m.u.engine.epoch = e->cpq->epoch;
	m.u.engine.up = 1;
	m.u.engine.mtu = e->caps.mtu;
	m.u.engine.port_caps = caps_bits(&e->caps);
	m.u.engine.datapath_pid = getpid();
	memcpy(m.u.engine.port_mac, &e->mac, sizeof(m.u.engine.port_mac));
	snprintf(m.u.engine.port, sizeof(m.u.engine.port), "%s", e->cfg->port_if);
	return toe_ctl_send(e->keeper_fd, &m, NULL, 0);
}

/* ---- start and stop ---- */

static void set_nonblock(int fd)
{
	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Exit code; what was made so far is undone by stop(). */
static int start(struct program *p, const struct options *o, char *err, size_t err_len)
{
	struct toe_engine *e = &p->engine;
	int rc = o->standalone ? make_start(p, err, err_len)
			       : receive_start(p, o->keeper_fd, err, err_len);

	if (rc != 0)
		return EXIT_ENVIRONMENT;
	e->cfg = &p->cfg;
	e->eth_port = TOE_NO_PORT;
	e->keeper_fd = o->standalone ? -1 : o->keeper_fd;
	e->cpq_kick_fd = p->start_fds[1];
	e->tap_fd = p->start_fds[2];
	set_nonblock(e->cpq_kick_fd);
	set_nonblock(e->tap_fd);
	p->known_n = toe_port_sockets(p->known, SOCKETS_MAX);
	if (toe_eal_start(&p->cfg, err, err_len) != 0)
		return EXIT_ENVIRONMENT;
	p->eal = true;
	if (toe_engine_init(e, err, err_len) != 0 ||
	    toe_engine_map_cpq(e, p->start_fds[0], err, err_len) != 0 ||
	    toe_port_start(e, p->known, p->known_n, err, err_len) != 0)
		return EXIT_ENVIRONMENT;
	/* no fault of the placement: check_graph() has seen it */
	e->pipeline = toe_pipeline_create(e, err, err_len);
	if (e->pipeline == NULL || toe_pipeline_init(e->pipeline, err, err_len) != 0)
		return EXIT_ENVIRONMENT;
	toe_telemetry_start(e);
	return 0;
}

static void stop(struct program *p)
{
	struct toe_engine *e = &p->engine;

	toe_telemetry_stop();
	toe_module_sock_stop(e);
	if (p->link)
		toe_keeper_link_stop(e);
	toe_pipeline_free(e->pipeline);
	e->pipeline = NULL;
	if (!p->eal)
		return;
	toe_port_stop(e);
	toe_engine_fini(e);
	toe_eal_stop(&p->cfg);
}

static int lcore_main(void *arg)
{
	return toe_pipeline_run(arg, rte_lcore_id(), &stopping);
}

static void catch_signals(struct toe_pipeline *p)
{
	struct sigaction sa = {.sa_handler = on_stop};

	running = p;
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
}

/* Lcores run until a signal; exit code. */
static int run(struct program *p, char *err, size_t err_len)
{
	struct toe_engine *e = &p->engine;
	int rc = 0;

	catch_signals(e->pipeline);
	for (unsigned i = 1; i < toe_pipeline_lcores(e->pipeline); i++)
		TOE_CHECK(rte_eal_remote_launch(lcore_main, e->pipeline, i) == 0);
	rc = toe_module_sock_start(e);
	/* Nobody else writes to this socket yet: the link starts afterwards. */
	if (rc == 0 && e->keeper_fd >= 0) {
		rc = send_ready(e);
		if (rc == 0)
			rc = toe_keeper_link_start(e);
		p->link = rc == 0;
	}
	if (rc == 0) {
		LOG_INFO("running on %u lcore(s), port %s", toe_pipeline_lcores(e->pipeline),
			 p->cfg.port_if);
	} else {
		stopping = true;
		toe_pipeline_wake_all(e->pipeline);
		fail(err, err_len, "keeper or %s/%s: %s", e->cfg->run_dir, TOE_MODULE_SOCKET,
		     strerror(-rc));
	}
	lcore_main(e->pipeline);
	rte_eal_mp_wait_lcore();
	/* the handler would touch a pipeline that is being freed */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	return rc == 0 ? 0 : EXIT_ENVIRONMENT;
}

int main(int argc, char **argv)
{
	static struct program p = {.start_fds = {-1, -1, -1}};
	struct options o;
	char err[ERR_BYTES] = "";
	int rc;

	toe_log_init("toe-datapath");
	signal(SIGPIPE, SIG_IGN);
	if (parse_options(argc, argv, &o) != 0)
		return EXIT_USAGE;
	if (toe_config_load(&p.cfg, o.config, err, sizeof(err)) != 0) {
		LOG_ERROR("%s", err);
		return EXIT_USAGE;
	}
	rc = check_graph(&o, &p.cfg);
	if (rc != 0 || o.dump_graph)
		return rc;
	rc = start(&p, &o, err, sizeof(err));
	if (rc == 0)
		rc = run(&p, err, sizeof(err));
	if (rc != 0)
		LOG_ERROR("%s", err);
	stop(&p);
	return rc;
}
