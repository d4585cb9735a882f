// SPDX-License-Identifier: BSD-3-Clause
/*
 * The TAP through which Linux goes on using the port's address.
 *
 * In: interface name; out: a descriptor.  Not persistent: the interface is gone with the last
 * descriptor, also when we are killed.
 */
#include "setup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int kp_tap_create(const char *ifname)
{
	struct ifreq ifr = {0};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	/* exclusive: somebody's persistent TAP of that name is not ours to use */
	ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	if (ioctl(fd, TUNSETIFF, &ifr) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}
