// SPDX-License-Identifier: BSD-3-Clause
/*
 * Ports that an engine which was killed has left taken over.
 *
 * In: <run_dir>/engine.conf, which an orderly end removes, else the lock files of this network
 * namespace; out: their names.  A lock file that its owner holds is not left over, nor is one that
 * names another run directory: that is for `toe down` there.  No state.
 */
#include "cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "controlplane/keeper/port_lock.h"

/* 1: nobody holds it, 0: somebody does or there is none, -1: not allowed to look. */
static int ownerless(const char *lock)
{
	int fd = open(lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int rc;

	if (fd < 0)
		return errno == EACCES ? -1 : 0;
	rc = flock(fd, LOCK_SH | LOCK_NB) == 0;
	close(fd);
	return rc;
}

/* Root only can read whose it was. */
static bool of_others(const struct cli *cli, const char *lock, const char *port,
		      struct cli_left *left)
{
	struct kp_lock_head head;

	if (!kp_lock_read(lock, &head) || strcmp(head.run_dir, cli->cfg.run_dir) == 0)
		return false;
	snprintf(left->other_port, sizeof(left->other_port), "%s", port);
	snprintf(left->other_dir, sizeof(left->other_dir), "%s", head.run_dir);
	return true;
}

static void of_config(const struct cli *cli, struct cli_left *left)
{
	struct toe_config cfg;
	char err[512];
	char lock[128];
	bool pci;

	left->known = toe_config_load(&cfg,
				      toe_config_path(&cli->cfg, "engine.conf", left->config,
						      sizeof(left->config)),
				      err, sizeof(err)) == 0;
	if (!left->known)
		return;
	kp_lock_path(&cfg, lock, sizeof(lock));
	pci = strcmp(cfg.port_driver, "pci") == 0;
	/* one of an interface that is gone has nothing to give back */
	if (ownerless(lock) == 0 || (!pci && if_nametoindex(cfg.port_if) == 0) ||
	    of_others(cli, lock, toe_config_port_name(&cfg), left))
		return;
	snprintf(left->ports[left->n++], sizeof(left->ports[0]), "%s", toe_config_port_name(&cfg));
}

static void of_namespace(const struct cli *cli, struct cli_left *left)
{
	const size_t begin = strlen(KP_LOCK_PREFIX);
	char suffix[32];
	char lock[PATH_MAX];
	struct dirent *e;
	DIR *d = opendir(KP_LOCK_DIR);

	kp_lock_suffix(suffix, sizeof(suffix));
	while (d && left->n < CLI_LEFT_MAX && (e = readdir(d))) {
		size_t len = strlen(e->d_name);
		size_t name = len - strlen(suffix) - begin;
		char *to = left->ports[left->n];

		if (len <= begin + strlen(suffix) || name >= IF_NAMESIZE ||
		    strncmp(e->d_name, KP_LOCK_PREFIX, begin) != 0 ||
		    strcmp(e->d_name + begin + name, suffix) != 0)
			continue;
		snprintf(lock, sizeof(lock), KP_LOCK_DIR "/%s", e->d_name);
		snprintf(to, sizeof(left->ports[0]), "%.*s", (int)name, e->d_name + begin);
		if (if_nametoindex(to) != 0 && ownerless(lock) == 1 &&
		    !of_others(cli, lock, to, left))
			left->n++;
	}
	if (d)
		closedir(d);
}

void cli_left_over(const struct cli *cli, struct cli_left *left)
{
	memset(left, 0, sizeof(*left));
	if (cli_keeper_pid(cli) > 0)
		return; /* it is starting or ending */
	of_config(cli, left);
	if (!left->known)
		of_namespace(cli, left);
}

int cli_nothing_left(const struct cli *cli, const struct cli_left *left, int error)
{
	if (!left->other_dir[0])
		return cli_no_engine(cli, error);
	cli_fail(cli,
		 "no engine is running in %s; %s was left taken over by that of %s: toe down "
		 "--run-dir %s",
		 cli->cfg.run_dir, left->other_port, left->other_dir, left->other_dir);
	return CLI_NOT_RUNNING;
}

void cli_left_names(const struct cli_left *left, char *buf, size_t len)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < left->n && at < len; i++)
		at += (size_t)snprintf(buf + at, len - at, "%s%s", i ? ", " : "", left->ports[i]);
}
