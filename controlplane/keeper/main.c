// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe-keeper: starts, supervises and ends the engine, and owns what must outlive its parts.
 *
 * In: options (`toe up` gives them), configuration; out: exit status, one line to `toe up` on the
 * status descriptor ("ok ..." or "error ..."), log.  One thread, one libuv loop; ends by `toe
 * down`, SIGTERM, or the death of the datapath.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/privileges.h"
#include "common/ctl_sock.h"
#include "common/log.h"

#include "region.h"

#define PREDECESSOR_MS      10000 /* one that is ending gives each child KP_TERM_MS */
#define PREDECESSOR_LOOK_MS 20

#ifndef TOE_VERSION
#define TOE_VERSION "0"
#endif

static const char usage[] =
	"toe-keeper: supervisor of the engine, started by `toe up`\n"
	"  --config FILE    configuration (default: built-in)\n"
	"  --run-dir DIR    sockets, logs, pid file (default: configuration, " TOE_ENV_RUN_DIR ")\n"
	"  --daemon         log to DIR/log/keeper.log, give up terminal and session\n"
	"  --status-fd N    where to say \"ok ...\" or \"error ...\"\n"
	"  --cleanup        restore what a killed keeper left behind, and exit\n"
	"  --port NAME      interface to restore, instead of the configuration's\n"
	"  --version, --help\n";

struct options {
	const char *config;
	const char *port;
	bool daemon;
	bool cleanup;
};

void kp_report(struct kp_keeper *kp, bool ok, const char *text)
{
	if (kp->status_fd < 0)
		return;
	dprintf(kp->status_fd, "%s %s\n", ok ? "ok" : "error", text);
	close(kp->status_fd);
	kp->status_fd = -1;
}

int kp_fail(struct kp_keeper *kp, const char *text)
{
	if (kp->status_fd < 0)
		LOG_ERROR("%s", text);
	kp_report(kp, false, text); /* `toe up` says it */
	return 1;
}

static int parse(int argc, char **argv, struct kp_keeper *kp, struct options *o)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"run-dir", required_argument, NULL, 'r'},
		{"daemon", no_argument, NULL, 'd'},
		{"status-fd", required_argument, NULL, 's'},
		{"cleanup", no_argument, NULL, 'x'},
		{"port", required_argument, NULL, 'p'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "c:r:h", longs, NULL)) != -1) {
		switch (opt) {
		case 'c':
			o->config = optarg;
			break;
		case 'r':
			setenv(TOE_ENV_RUN_DIR, optarg, 1);
			break;
		case 'd':
			o->daemon = true;
			break;
		case 's':
			kp->status_fd = atoi(optarg);
			fcntl(kp->status_fd, F_SETFD, FD_CLOEXEC);
			break;
		case 'x':
			o->cleanup = true;
			break;
		case 'p':
			o->port = optarg;
			break;
		case 'V':
			puts("toe-keeper " TOE_VERSION);
			exit(0);
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	return optind == argc ? 0 : 2;
}

/* ---- run directory ---- */

static int make_dirs(const char *path)
{
	char part[160];

	snprintf(part, sizeof(part), "%s", path);
	for (char *p = part + 1;; p++) {
		char end = *p;

		if (end != '/' && end != '\0')
			continue;
		*p = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = end;
		if (end == '\0')
			return 0;
	}
}

/* What it says, "" for nothing: who has the lock, and perhaps KP_ENDING. */
static const char *pid_text(const char *path)
{
	static char buf[32];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	buf[n < 0 ? 0 : n] = '\0';
	if (fd >= 0)
		close(fd);
	return buf;
}

/* One that is ending is waited for. */
static int lock_pid_file(const char *path)
{
	const struct timespec pause = {.tv_nsec = PREDECESSOR_LOOK_MS * 1000000L};
	int fd = kp_lock_file(path, 0644, KP_LOCK_PATIENCE_MS);
	bool ending = true;

	for (int ms = 0; fd == -EBUSY && ending && ms < PREDECESSOR_MS; ms += PREDECESSOR_LOOK_MS) {
		ending = strstr(pid_text(path), KP_ENDING) != NULL;
		if (ending)
			nanosleep(&pause, NULL);
		fd = kp_lock_file(path, 0644, KP_LOCK_PATIENCE_MS);
	}
	return fd;
}

static int open_run_dir(struct kp_keeper *kp)
{
	char path[160];
	char text[KP_ERR_BYTES];
	int rc = make_dirs(toe_config_path(&kp->cfg, "log", path, sizeof(path)));

	if (rc < 0) {
		snprintf(text, sizeof(text), "%s: %s", path, strerror(-rc));
		return kp_fail(kp, text);
	}
	toe_config_path(&kp->cfg, "keeper.pid", path, sizeof(path));
	kp->pid_fd = lock_pid_file(path);
	if (kp->pid_fd == -EBUSY) {
		snprintf(text, sizeof(text), "already running in %s (process %d): `toe down` first",
			 kp->cfg.run_dir, atoi(pid_text(path)));
		return kp_fail(kp, text);
	}
	if (kp->pid_fd < 0) {
		kp_lock_why(path, kp->pid_fd, text, sizeof(text));
		return kp_fail(kp, text);
	}
	if (ftruncate(kp->pid_fd, 0) == 0)
		dprintf(kp->pid_fd, "%d\n", (int)getpid());
	return 0;
}

/* What the shell happened to have open must not stay open as long as the engine runs. */
static void close_inherited(int status_fd)
{
	unsigned keep = status_fd > 2 ? (unsigned)status_fd : 2;

	if (keep > 3)
		close_range(3, keep - 1, 0);
	close_range(keep + 1, ~0u, 0);
}

static int daemonise(struct kp_keeper *kp)
{
	char path[160];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int log = open(toe_config_path(&kp->cfg, "log/keeper.log", path, sizeof(path)),
		       O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (null < 0 || log < 0)
		return kp_fail(kp, "log/keeper.log cannot be written");
	dup2(null, STDIN_FILENO);
	dup2(log, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	close(null);
	close(log);
	setsid();                   /* fails if `toe up` has done it */
	toe_log_init("toe-keeper"); /* no terminal any more: with time stamps */
	return chdir("/");
}

/* Copies what is left of in, or a remark if there is no file.  0 or -1. */
static int write_config(int in, int out)
{
	static const char none[] = "# built-in configuration\n";
	char buf[4096];
	ssize_t n;

	if (in < 0)
		return write(out, none, sizeof(none) - 1) < 0 ? -1 : 0;
	while ((n = read(in, buf, sizeof(buf))) > 0) {
		if (write(out, buf, (size_t)n) != n)
			return -1;
	}
	return (int)n;
}

/* The children get our copy: a restart must not see what was edited meanwhile. */
static int copy_config(struct kp_keeper *kp)
{
	bool from_file = kp->cfg.path[0] != '\0';
	int in = -1;
	int out;
	int rc;

	toe_config_path(&kp->cfg, "engine.conf", kp->config_path, sizeof(kp->config_path));
	if (strcmp(kp->config_path, kp->cfg.path) == 0)
		return 0;
	if (from_file)
		in = open(kp->cfg.path, O_RDONLY | O_CLOEXEC);
	out = open(kp->config_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	rc = out >= 0 && (in >= 0 || !from_file) ? write_config(in, out) : -1;
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return rc == 0 ? 0 : kp_fail(kp, "engine.conf cannot be written into the run directory");
}

/* ---- limits and checks ---- */

static int check_privileges(struct kp_keeper *kp)
{
	if (toe_may_own_port())
		return 0;
	return kp_fail(kp, "needs root (CAP_NET_ADMIN and CAP_NET_RAW)");
}

static int check_limits(struct kp_keeper *kp)
{
	struct toe_ctl_app app = {0};
	struct rlimit rl = {0};

	if (kp_region_geometry(&kp->cfg, &app) < 0)
		return kp_fail(kp, "limits.app_connections or tcp buffers: too large together");
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	getrlimit(RLIMIT_NOFILE, &rl);
	kp->fd_limit = rl.rlim_cur > 1u << 22 ? 1u << 22 : (uint32_t)rl.rlim_cur;
	if (kp->fd_limit < 2 * KP_FD_RESERVE)
		return kp_fail(kp, "limit of open files is too low: at least 512 (ulimit -Hn)");
	kp->fd_limit -= KP_FD_RESERVE;
	if (kp->fd_limit < kp->cfg.connections)
		LOG_WARN("limit of open files allows %u connections, tcp.connections is %u: raise "
			 "it (ulimit -Hn, LimitNOFILE)",
			 kp->fd_limit, kp->cfg.connections);
	return 0;
}

/* ---- loop ---- */

static void on_signal(uv_signal_t *h, int signum)
{
	struct kp_keeper *kp = h->data;

	LOG_INFO("signal %d", signum);
	kp_stop(kp, 0, NULL);
}

static int open_loop(struct kp_keeper *kp)
{
	static const int signals[] = {SIGCHLD, SIGTERM, SIGINT};
	int rc = uv_loop_init(&kp->loop);

	if (rc < 0)
		return rc;
	kp->loop_ready = true;
	kp->loop.data = kp;
	for (int i = 0; i < 3 && rc == 0; i++) {
		rc = uv_signal_init(&kp->loop, &kp->sig[i]);
		kp->sig[i].data = kp;
		if (rc == 0)
			rc = uv_signal_start(&kp->sig[i], i == 0 ? kp_on_sigchld : on_signal,
					     signals[i]);
	}
	if (rc == 0)
		rc = kp_linger_init(kp);
	if (rc == 0)
		rc = kp_relay_init(kp);
	if (rc == 0)
		rc = kp_ipv6_watch(kp);
	if (rc == 0)
		rc = kp_token_watch_init(&kp->tokens);
	if (rc == 0)
		rc = uv_poll_init(&kp->loop, &kp->token_poll, kp->tokens.epfd);
	kp->token_poll.data = kp;
	if (rc == 0)
		rc = uv_poll_start(&kp->token_poll, UV_READABLE, kp_tokens_ready);
	return rc;
}

static int run(struct kp_keeper *kp, const struct options *o)
{
	int rc = open_run_dir(kp);

	kp_notify_init(kp, !o->daemon);
	if (rc == 0 && o->daemon)
		rc = daemonise(kp);
	if (rc == 0)
		rc = copy_config(kp);
	if (rc == 0)
		rc = check_limits(kp);
	if (rc != 0)
		return rc;
	kp->netns = kp_own_netns();
	kp_setup_init(&kp->setup, &kp->cfg);
	rc = open_loop(kp);
	if (rc < 0)
		return kp_fail(kp, uv_strerror(rc));
	if (kp_start(kp) == 0 || kp->dp.pid > 0)
		uv_run(&kp->loop, UV_RUN_DEFAULT);
	return kp->exit_code;
}

int main(int argc, char **argv)
{
	static struct kp_keeper kp = {.pid_fd = -1,
				      .status_fd = -1,
				      .listen_fd = -1,
				      .cpq_fd = -1,
				      .state_fd = -1,
				      .dp_kick = {-1, -1},
				      .tokens = {.epfd = -1},
				      .dp = {.chan = {.fd = -1}},
				      .cp = {.chan = {.fd = -1}},
				      .setup = {.lock_fd = -1, .tap_fd = -1}};
	struct options o = {0};
	char err[KP_ERR_BYTES];
	char path[PATH_MAX];

	toe_log_init("toe-keeper");
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	umask(022);
	kp.pending_tail[KP_DP] = &kp.pending[KP_DP];
	kp.pending_tail[KP_CP] = &kp.pending[KP_CP];
	if (parse(argc, argv, &kp, &o) != 0)
		return 2;
	toe_config_defaults(&kp.cfg);
	if (o.config && !realpath(o.config, path)) {
		snprintf(err, sizeof(err), "%s: %s", o.config, strerror(errno));
		return kp_fail(&kp, err);
	}
	if (o.config && toe_config_load(&kp.cfg, path, err, sizeof(err)) < 0)
		return kp_fail(&kp, err);
	if (o.port)
		snprintf(kp.cfg.port_if, sizeof(kp.cfg.port_if), "%s", o.port);
	if (kp.cfg.run_dir[0] != '/')
		return kp_fail(&kp, "run_dir must be an absolute path");
	/* the children read the same configuration: one directory for all */
	setenv(TOE_ENV_RUN_DIR, kp.cfg.run_dir, 1);
	if (o.daemon)
		close_inherited(kp.status_fd);
	if (check_privileges(&kp) != 0)
		return 77;
	return o.cleanup ? kp_cleanup(&kp) : run(&kp, &o);
}
