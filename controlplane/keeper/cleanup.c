// SPDX-License-Identifier: BSD-3-Clause
/*
 * What is removed when an engine ends, by itself or because it was killed.
 *
 * In: configuration; out: "ok NAME" for a port that was put back, "ok " for none.  Runs after the
 * loop, or instead of it (toe-keeper --cleanup).
 */
#include "keeper.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/dpdk_dir.h"
#include "common/log.h"

#define DATAPATH_GONE_TRIES 200 /* of 10 ms */

static void remove_dpdk_files(const struct kp_keeper *kp)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	char prefix[32];
	int rc = toe_dpdk_dir_remove(kp->cfg.run_dir);

	/* of a keeper that was killed just now it may still be ending */
	for (int i = 0; rc == -EBUSY && i < DATAPATH_GONE_TRIES; i++) {
		nanosleep(&pause, NULL);
		rc = toe_dpdk_dir_remove(kp->cfg.run_dir);
	}
	if (rc < 0) {
		toe_dpdk_prefix(kp->cfg.run_dir, prefix, sizeof(prefix));
		LOG_WARN("DPDK's directory dpdk/%s is not removed: %s", prefix, strerror(-rc));
	}
}

void kp_remove_files(const struct kp_keeper *kp)
{
	static const char *const names[] = {TOE_KEEPER_SOCKET, TOE_CONTROL_SOCKET,
					    TOE_MODULE_SOCKET, "datapath.prefix",
					    "engine.conf",     "keeper.pid"};
	char path[160];

	remove_dpdk_files(kp);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(toe_config_path(&kp->cfg, names[i], path, sizeof(path)));
}

int kp_cleanup(struct kp_keeper *kp)
{
	char err[KP_ERR_BYTES];
	char path[160];
	int rc;

	/* no engine starts here meanwhile; without the directory there cannot be one */
	kp->pid_fd = kp_lock_file(toe_config_path(&kp->cfg, "keeper.pid", path, sizeof(path)), 0644,
				  KP_LOCK_PATIENCE_MS);
	if (kp->pid_fd < 0 && kp->pid_fd != -ENOENT) {
		kp_lock_why(path, kp->pid_fd, err, sizeof(err));
		return kp_fail(kp, err);
	}
	rc = kp_setup_cleanup(&kp->cfg, err, sizeof(err));
	if (rc <= 0)
		unlink(path); /* perhaps made just now */
	if (rc < 0)
		return kp_fail(kp, err);
	if (rc > 0)
		kp_remove_files(kp);
	else
		remove_dpdk_files(kp);
	LOG_INFO("%s", rc ? "restored" : "nothing to restore");
	kp_report(kp, true, rc ? toe_config_port_name(&kp->cfg) : "");
	return 0;
}
