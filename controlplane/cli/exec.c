// SPDX-License-Identifier: BSD-3-Clause
/*
 * Runs ip, ethtool, nft and the like and collects what they print.  In: argument vector; out: exit
 * status and the beginning of the output.  Waits; no state.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 32

int cli_run(char *const argv[], char *out, size_t out_len)
{
	char rest[512];
	size_t n = 0;
	int status;
	int p[2];
	pid_t pid;

	if (out_len)
		out[0] = '\0';
	if (!argv[0])
		return 127;
	if (pipe2(p, O_CLOEXEC) < 0)
		return 126;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		dup2(null, STDIN_FILENO);
		dup2(p[1], STDOUT_FILENO);
		dup2(p[1], STDERR_FILENO);
		execvp(argv[0], argv);
		dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	close(p[1]);
	for (;;) {
		bool keep = n + 1 < out_len;
		ssize_t got = keep ? read(p[0], out + n, out_len - n - 1)
				   : read(p[0], rest, sizeof(rest));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += keep ? (size_t)got : 0;
	}
	close(p[0]);
	if (out_len)
		out[n] = '\0';
	if (pid < 0)
		return 126;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int cli_runl(char *out, size_t out_len, const char *word, ...)
{
	char *argv[WORDS_MAX];
	int n = 0;
	va_list ap;

	va_start(ap, word);
	for (const char *w = word; w && n < WORDS_MAX - 1; w = va_arg(ap, const char *))
		argv[n++] = (char *)w;
	va_end(ap);
	argv[n] = NULL;
	return cli_run(argv, out, out_len);
}

bool cli_in_path(const char *program)
{
	const char *path = getenv("PATH");
	char file[512];

	for (const char *p = path ? path : "/usr/sbin:/usr/bin:/sbin:/bin"; *p;) {
		size_t len = strcspn(p, ":");

		snprintf(file, sizeof(file), "%.*s/%s", (int)len, p, program);
		if (access(file, X_OK) == 0)
			return true;
		p += len + (p[len] == ':');
	}
	return false;
}
