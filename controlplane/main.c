/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * toe-controlplane --config FILE --keeper-fd N
 *
 * Reads the configuration, waits for CP_START on the keeper's socket, maps the queue and the state,
 * checks that they fit this program, and runs the loop.  Started by toe-keeper only, which starts
 * it again when it dies.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cc.h"
#include "common/cpq_layout.h"
#include "common/ctl_sock.h"
#include "common/log.h"
#include "loop.h"

static const struct option options[] = {
	{"config", required_argument, NULL, 'c'},
	{"keeper-fd", required_argument, NULL, 'k'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static void usage(FILE *to)
{
	fputs("usage: toe-controlplane [--config FILE] --keeper-fd N\n"
	      "Control plane of the TCP offload engine; started by toe-keeper (`toe up`).\n",
	      to);
}

static bool cpq_ok(const struct toe_cpq_hdr *h, uint64_t size)
{
	if (h->magic != TOE_CPQ_MAGIC)
		return false;
	if (h->abi_version != TOE_ABI_VERSION || h->abi_fingerprint != TOE_ABI_FINGERPRINT) {
		LOG_ERROR("queue has layout %u/%08x, this program %u/%08x", h->abi_version,
			  h->abi_fingerprint, TOE_ABI_VERSION, TOE_ABI_FINGERPRINT);
		return false;
	}
	return toe_cpq_layout_ok(h, size);
}

static int map_cpq(int fd, struct toe_cpq_hdr **out)
{
	struct toe_cpq_hdr *h;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < sizeof(*h))
		return -EPROTO;
	h = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (h == MAP_FAILED)
		return -errno;
	if (!cpq_ok(h, (uint64_t)st.st_size)) {
		LOG_ERROR("control-plane queue is malformed");
		return -EPROTO;
	}
	*out = h;
	return 0;
}

/* fds: queue, state, kick socket; they become ours. */
static int prepare(struct cp_start *s, const int fds[3])
{
	struct cp_state_geometry g;
	bool fresh;
	int err = map_cpq(fds[0], &s->cpq);

	if (err)
		return err;
	g = (struct cp_state_geometry){
		.conn_n = s->cpq->conn_n,
		.flow_group_n = s->cpq->flow_group_n,
		.app_n = s->cfg->applications,
		.slot_n = s->cfg->app_connections,
		.listener_n = s->cfg->app_listeners,
	};
	err = cp_state_map(fds[1], &g, &s->state, &fresh);
	if (err)
		return err;
	if (!cc_find(s->cfg->cc)) {
		LOG_ERROR("tcp.cc: there is no congestion control \"%s\"", s->cfg->cc);
		return -EINVAL;
	}
	s->kick_fd = fds[2];
	close(fds[0]);
	close(fds[1]);
	LOG_INFO("%s state, %u connections at most", fresh ? "fresh" : "inherited", g.conn_n);
	return 0;
}

static int serve(const struct toe_config *cfg, int keeper_fd)
{
	struct cp_start s = {.cfg = cfg, .keeper_fd = keeper_fd};
	int fds[TOE_CTL_FDS_MAX];
	unsigned nfds = 0;
	int err = toe_ctl_recv(keeper_fd, &s.msg, fds, TOE_CTL_FDS_MAX, &nfds);

	if (err == -EPROTO)
		LOG_ERROR("keeper speaks layout %u/%08x, this program %u/%08x", s.msg.abi_version,
			  s.msg.abi_fingerprint, TOE_ABI_VERSION, TOE_ABI_FINGERPRINT);
	if (!err && (s.msg.type != TOE_CTL_CP_START || nfds != 3))
		err = -EPROTO;
	if (err) {
		LOG_ERROR("no start message from the keeper: %s", strerror(-err));
		return err;
	}
	err = prepare(&s, fds);
	if (err) {
		s.msg.status = err;
		toe_ctl_send(keeper_fd, &s.msg, NULL, 0);
		return err;
	}
	return cp_loop_run(&s);
}

int main(int argc, char **argv)
{
	static struct toe_config cfg;
	const char *config = NULL;
	char err[256];
	long fd = -1;
	int opt;

	toe_log_init("toe-controlplane");
	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			config = optarg;
			break;
		case 'k':
			fd = strtol(optarg, NULL, 10);
			break;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (fd < 0 || optind != argc) {
		usage(stderr);
		return 2;
	}
	toe_config_defaults(&cfg);
	if (config && toe_config_load(&cfg, config, err, sizeof(err)) < 0) {
		LOG_ERROR("%s", err);
		return EXIT_FAILURE;
	}
	signal(SIGPIPE, SIG_IGN);
	if (serve(&cfg, (int)fd) < 0)
		return EXIT_FAILURE;
	return EXIT_SUCCESS;
}
