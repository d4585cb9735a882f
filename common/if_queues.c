// SPDX-License-Identifier: BSD-3-Clause
/*
 * Receive queues of a Linux interface, by ethtool's ioctl.
 *
 * In: name; out: how many are in use now.  No state; any thread.
 */
#include "common/if_queues.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

void toe_if_queues(const char *ifname, struct toe_if_queues *q)
{
	struct ethtool_channels ch = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq ifr = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	ifr.ifr_data = (void *)&ch;
	q->rx = 1;
	q->what = "combined";
	if (fd >= 0 && ioctl(fd, SIOCETHTOOL, &ifr) == 0 && ch.rx_count + ch.combined_count > 0) {
		q->rx = ch.rx_count + ch.combined_count;
		if (ch.combined_count == 0)
			q->what = "rx";
	}
	if (fd >= 0)
		close(fd);
}
