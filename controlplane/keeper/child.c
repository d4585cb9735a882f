// SPDX-License-Identifier: BSD-3-Clause
/*
 * Starting toe-datapath and toe-controlplane, and what is left of them when they are gone.
 *
 * In: program path; out: process id, its end of the message socket, the last line of its log.  The
 * children die with us (PR_SET_PDEATHSIG), run in sessions of their own so that ^C reaches only us,
 * and write to <run_dir>/log/<name>.log.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ctl_sock.h"
#include "common/log.h"

#define LOG_ROTATE_BYTES (4 << 20)

static int open_log(struct kp_child *c)
{
	char old[sizeof(c->log_path) + 4];
	struct stat st;

	if (stat(c->log_path, &st) == 0 && st.st_size > LOG_ROTATE_BYTES) {
		snprintf(old, sizeof(old), "%s.1", c->log_path);
		rename(c->log_path, old);
	}
	return open(c->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void exec_child(const struct kp_child *c, const char *program, int sock, int log)
{
	char fd_text[16];
	char *argv[6];
	sigset_t none;
	int n = 0;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	setsid();
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	dup2(log, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	fcntl(sock, F_SETFD, 0);
	snprintf(fd_text, sizeof(fd_text), "%d", sock);
	argv[n++] = (char *)program;
	argv[n++] = "--config";
	argv[n++] = c->kp->config_path;
	argv[n++] = "--keeper-fd";
	argv[n++] = fd_text;
	argv[n] = NULL;
	execv(program, argv);
	dprintf(STDERR_FILENO, "%s cannot be run: %s\n", program, strerror(errno));
	_exit(127);
}

int kp_child_spawn(struct kp_child *c, const char *program, char *err, size_t err_len)
{
	pid_t keeper = getpid();
	struct stat st;
	int socks[2] = {-1, -1};
	int log = open_log(c);
	int rc = log < 0 ? -errno : toe_ctl_pair(socks);

	if (rc < 0) {
		snprintf(err, err_len, "%s: %s", log < 0 ? c->log_path : "socketpair",
			 strerror(-rc));
		if (log >= 0)
			close(log);
		return -1;
	}
	c->log_from = fstat(log, &st) == 0 ? st.st_size : 0;
	c->pid = fork();
	if (c->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != keeper)
			_exit(1); /* it died before we asked to be told */
		exec_child(c, program, socks[1], log);
	}
	close(socks[1]);
	close(log);
	if (c->pid < 0) {
		snprintf(err, err_len, "fork: %s", strerror(errno));
		c->pid = 0;
		close(socks[0]);
		return -1;
	}
	c->ready = false;
	c->started_ms = uv_hrtime() / 1000000;
	rc = kp_chan_open(&c->chan, &c->kp->loop, socks[0]);
	if (rc < 0) {
		snprintf(err, err_len, "event loop: %s", uv_strerror(rc));
		kill(c->pid, SIGKILL);
		close(socks[0]);
		return -1;
	}
	LOG_INFO("%s started, process %d, log %s", c->name, (int)c->pid, c->log_path);
	return 0;
}

void kp_child_last_line(const struct kp_child *c, char *buf, size_t len)
{
	char tail[1024];
	struct stat st;
	int64_t from = c->log_from;
	ssize_t n = 0;
	char *end;
	char *line;
	int fd = open(c->log_path, O_RDONLY | O_CLOEXEC);

	buf[0] = '\0';
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_size - from > (int64_t)sizeof(tail) - 1)
		from = st.st_size - ((int64_t)sizeof(tail) - 1);
	n = pread(fd, tail, sizeof(tail) - 1, from);
	close(fd);
	if (n <= 0)
		return;
	tail[n] = '\0';
	end = tail + n;
	while (end > tail && (end[-1] == '\n' || end[-1] == ' '))
		*--end = '\0';
	line = strrchr(tail, '\n');
	line = line ? line + 1 : tail;
	snprintf(buf, len, "%s", line);
	for (char *p = buf; *p; p++) {
		if ((unsigned char)*p < ' ')
			*p = ' ';
	}
}

void kp_child_death(int status, char *buf, size_t len)
{
	if (WIFSIGNALED(status))
		snprintf(buf, len, "killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(buf, len, "ended with status %d", WEXITSTATUS(status));
}
