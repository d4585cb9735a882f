// SPDX-License-Identifier: BSD-3-Clause
/*
 * Keeps the kernel from seeing, and answering, the frames of the port a second time: an nft netdev
 * table with an ingress chain of policy drop.  AF_PACKET sockets are served before that hook.
 *
 * In: interface name; out: the table, or the first line nft printed.  Runs nft(8) with the rules on
 * its standard input and waits for it (at start and stop only).
 */
#include "setup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NFT_TIMEOUT_MS 5000

void kp_nft_table(const char *ifname, char *buf, size_t len)
{
	snprintf(buf, len, "toe_%s", ifname);
	for (char *p = buf; *p; p++) {
		if (!isalnum((unsigned char)*p) && *p != '_')
			*p = '_';
	}
}

static void exec_nft(int in, int out)
{
	signal(SIGPIPE, SIG_DFL);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	execlp("nft", "nft", "-f", "-", (char *)NULL);
	execl("/usr/sbin/nft", "nft", "-f", "-", (char *)NULL);
	dprintf(STDERR_FILENO, "nft cannot be run (%s): apt-get install nftables\n",
		strerror(errno));
	_exit(127);
}

/* The first line the child prints; kills it if it takes too long. */
static void read_answer(int fd, pid_t pid, char *buf, size_t len)
{
	size_t n = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		char more[256];
		ssize_t got;
		int rc = poll(&p, 1, NFT_TIMEOUT_MS);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0) {
			kill(pid, SIGKILL);
			snprintf(buf, len, "no answer");
			return;
		}
		got = n + 1 < len ? read(fd, buf + n, len - n - 1) : read(fd, more, sizeof(more));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		if (n + 1 < len)
			n += (size_t)got;
	}
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

static int run_nft(const char *rules, char *err, size_t err_len)
{
	char line[256] = "";
	int in[2];
	int out[2];
	int status = -1;
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(out, O_CLOEXEC) < 0) {
		close(in[0]);
		close(in[1]);
		return -errno;
	}
	pid = fork();
	if (pid == 0)
		exec_nft(in[0], out[1]);
	close(in[0]);
	close(out[1]);
	if (pid > 0) {
		/* a pipe holds 64 KiB, the rules are some hundred bytes */
		(void)!write(in[1], rules, strlen(rules));
		close(in[1]);
		read_answer(out[0], pid, line, sizeof(line));
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	} else {
		snprintf(line, sizeof(line), "fork: %s", strerror(errno));
		close(in[1]);
	}
	close(out[0]);
	if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	snprintf(err, err_len, "nft: %s", line[0] ? line : "failed without a word");
	return -1;
}

int kp_nft_block(const char *ifname, char *err, size_t err_len)
{
	char table[64];
	char rules[512];

	kp_nft_table(ifname, table, sizeof(table));
	/* add before delete: delete alone fails if there is no such table; all is one transaction
	 */
	snprintf(rules, sizeof(rules),
		 "add table netdev %s\n"
		 "delete table netdev %s\n"
		 "table netdev %s {\n"
		 "\tchain ingress {\n"
		 "\t\ttype filter hook ingress device \"%s\" priority -500; policy drop;\n"
		 "\t}\n"
		 "}\n",
		 table, table, table, ifname);
	return run_nft(rules, err, err_len);
}

int kp_nft_unblock(const char *ifname, char *err, size_t err_len)
{
	char table[64];
	char rules[256];

	kp_nft_table(ifname, table, sizeof(table));
	snprintf(rules, sizeof(rules), "add table netdev %s\ndelete table netdev %s\n", table,
		 table);
	return run_nft(rules, err, err_len);
}
