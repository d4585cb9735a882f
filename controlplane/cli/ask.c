// SPDX-License-Identifier: BSD-3-Clause
/*
 * Sockets of a running engine: keeper (messages), control plane (JSON lines), datapath (DPDK
 * telemetry), its stream modules (JSON lines, lists in pieces).
 *
 * In: run directory; out: connections and parsed answers, or one line that says what to do.  No
 * state.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/ctl_sock.h"

#define ANSWER_S        5
#define ANSWER_MAX      (64u << 20)
#define TELEMETRY_BYTES (256u << 10) /* of one answer; DPDK 22.11 sends up to 16 KiB */

int cli_keeper(const struct cli *cli)
{
	char path[128];

	return toe_ctl_connect(toe_config_path(&cli->cfg, TOE_KEEPER_SOCKET, path, sizeof(path)));
}

int cli_no_engine(const struct cli *cli, int error)
{
	if (error == -EACCES || error == -EPERM) {
		cli_fail(cli, "%s: no permission", cli->cfg.run_dir);
		return CLI_NO_PERMISSION;
	}
	if (error == -ENOENT || error == -ECONNREFUSED || error == -ENOTDIR) {
		cli_fail(cli, "no engine is running in %s: start one with `toe up`",
			 cli->cfg.run_dir);
		return CLI_NOT_RUNNING;
	}
	return cli_fail(cli, "%s: %s", cli->cfg.run_dir, strerror(-error));
}

pid_t cli_keeper_pid(const struct cli *cli)
{
	char path[128];
	char buf[16] = "";
	int fd = open(toe_config_path(&cli->cfg, "keeper.pid", path, sizeof(path)),
		      O_RDONLY | O_CLOEXEC);
	pid_t pid = 0;

	if (fd < 0)
		return 0;
	/* who lives holds the lock; a stale file is not locked */
	if (flock(fd, LOCK_SH | LOCK_NB) < 0 && read(fd, buf, sizeof(buf) - 1) > 0)
		pid = atoi(buf);
	close(fd);
	return pid;
}

static int connect_unix(const char *path, int type)
{
	struct timeval limit = {.tv_sec = ANSWER_S};
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd;
	int rc;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* Is it the engine that is missing, or only this part of it? */
static int part_missing(const struct cli *cli, const char *part, int error)
{
	int keeper = cli_keeper(cli);

	if (keeper < 0)
		return cli_no_engine(cli, keeper);
	close(keeper);
	/* the datapath's socket is in a directory that only root may look into */
	if (error == -EACCES || error == -EPERM || (error == -ENOENT && geteuid() != 0)) {
		cli_fail(cli, "no permission to ask the %s: try as root", part);
		return CLI_NO_PERMISSION;
	}
	return cli_fail(cli, "the %s does not answer (%s): see %s/log", part, strerror(-error),
			cli->cfg.run_dir);
}

/* ---- control plane ---- */

/* Everything until end of file, NUL-terminated; NULL: errno. */
static char *read_all(int fd)
{
	size_t size = 1 << 16;
	size_t n = 0;
	char *buf = malloc(size);

	while (buf) {
		ssize_t got;

		if (n + 1 == size) {
			char *more = size < ANSWER_MAX ? realloc(buf, size * 2) : NULL;

			if (!more) {
				errno = EMSGSIZE;
				break;
			}
			buf = more;
			size *= 2;
		}
		got = read(fd, buf + n, size - n - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		if (got == 0) {
			buf[n] = '\0';
			return buf;
		}
		n += (size_t)got;
	}
	free(buf);
	return NULL;
}

/* The text of the answer; NULL: *error. */
static char *control_text(const struct cli *cli, const char *cmd, int *error)
{
	char path[128];
	char line[128];
	char *text = NULL;
	int len = snprintf(line, sizeof(line), "{\"cmd\":\"%s\"}\n", cmd);
	int fd = connect_unix(toe_config_path(&cli->cfg, TOE_CONTROL_SOCKET, path, sizeof(path)),
			      SOCK_STREAM);

	*error = fd;
	if (fd < 0)
		return NULL;
	if (send(fd, line, (size_t)len, MSG_NOSIGNAL) == len)
		text = read_all(fd);
	*error = errno ? -errno : -EIO;
	close(fd);
	return text;
}

json_t *cli_control_quiet(const struct cli *cli, const char *cmd)
{
	int error;
	char *text = control_text(cli, cmd, &error);
	json_t *j = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

	free(text);
	return j;
}

json_t *cli_control(const struct cli *cli, const char *cmd, int *status)
{
	json_error_t e;
	json_t *j;
	int error;
	char *text = control_text(cli, cmd, &error);

	if (!text) {
		*status = part_missing(cli, "control plane", error);
		return NULL;
	}
	j = json_loads(text, JSON_DECODE_ANY, &e);
	free(text);
	if (!j)
		*status = cli_fail(cli, "control plane: answer is not JSON: %s", e.text);
	return j;
}

/* ---- datapath ---- */

/* Where DPDK puts the socket of that prefix: for root and for others. */
static void telemetry_path(const char *prefix, bool root, char *buf, size_t len)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");

	if (prefix[0] == '/')
		snprintf(buf, len, "%s", prefix);
	else
		snprintf(buf, len, "%s/dpdk/%s/dpdk_telemetry.v2",
			 root  ? "/var/run"
			 : xdg ? xdg
			       : "/tmp",
			 prefix);
}

static int connect_telemetry(const struct cli *cli)
{
	char path[160];
	char prefix[108] = "";
	FILE *f = fopen(toe_config_path(&cli->cfg, "datapath.prefix", path, sizeof(path)), "re");
	int rc = -ENOENT;

	if (!f)
		return -errno;
	if (fgets(prefix, sizeof(prefix), f))
		prefix[strcspn(prefix, "\n")] = '\0';
	fclose(f);
	for (int root = 1; root >= 0 && rc < 0 && prefix[0]; root--) {
		telemetry_path(prefix, root, path, sizeof(path));
		rc = connect_unix(path, SOCK_SEQPACKET);
	}
	return rc;
}

json_t *cli_telemetry(const struct cli *cli, const char *cmd, int *status)
{
	static char buf[TELEMETRY_BYTES];
	static const char part[] = "datapath";
	json_t *answer = NULL;
	json_t *inner = NULL;
	json_error_t e;
	ssize_t n;
	int fd = connect_telemetry(cli);

	if (fd < 0) {
		*status = part_missing(cli, part, fd);
		return NULL;
	}
	n = recv(fd, buf, sizeof(buf), 0); /* it introduces itself first */
	if (n > 0 && send(fd, cmd, strlen(cmd), MSG_NOSIGNAL) > 0)
		n = recv(fd, buf, sizeof(buf), 0);
	if (n <= 0) {
		*status = part_missing(cli, part, n < 0 ? -errno : -EPIPE);
		close(fd);
		return NULL;
	}
	close(fd);
	answer = json_loadb(buf, (size_t)n, 0, &e);
	if (answer && json_object_size(answer) == 1)
		inner = json_incref(json_object_iter_value(json_object_iter(answer)));
	json_decref(answer);
	if (!inner || json_is_null(inner)) {
		*status = cli_fail(cli, "datapath: no answer to %s%s%s", cmd, answer ? "" : ": ",
				   answer ? " (no such instance?)" : e.text);
		json_decref(inner);
		return NULL;
	}
	return inner;
}

/* ---- stream modules ---- */

/* One document, or the pieces of a list as one; NULL: not that, or *error is what it says. */
static json_t *join_pieces(char *text, int *error)
{
	char *save = NULL;
	json_t *whole = NULL;

	*error = -EBADMSG;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		json_t *piece = json_loads(line, 0, NULL);
		const json_t *refused = json_object_get(piece, "errno");
		bool fits = !whole || (json_is_array(whole) && json_is_array(piece));

		if (refused)
			*error = -(int)json_integer_value(refused);
		if (!piece || refused || !fits) {
			json_decref(piece);
			json_decref(whole);
			return NULL;
		}
		if (whole)
			json_array_extend(whole, piece);
		else
			whole = json_incref(piece);
		json_decref(piece);
	}
	return whole;
}

json_t *cli_module(const struct cli *cli, const char *question, int *error, bool *answered)
{
	char path[128];
	char *text = NULL;
	json_t *j = NULL;
	int fd = connect_unix(toe_config_path(&cli->cfg, TOE_MODULE_SOCKET, path, sizeof(path)),
			      SOCK_STREAM);

	*answered = false;
	*error = fd;
	if (fd < 0)
		return NULL;
	errno = EPIPE;
	if (send(fd, question, strlen(question), MSG_NOSIGNAL) == (ssize_t)strlen(question) &&
	    send(fd, "\n", 1, MSG_NOSIGNAL) == 1)
		text = read_all(fd);
	*error = -errno;
	close(fd);
	if (text) {
		*answered = true;
		j = join_pieces(text, error);
	}
	free(text);
	return j;
}

int cli_no_datapath(const struct cli *cli, int error)
{
	return part_missing(cli, "datapath", error);
}
