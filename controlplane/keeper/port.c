// SPDX-License-Identifier: BSD-3-Clause
/*
 * Settings of a network interface by ioctl and /proc/sys, in the namespace we run in.
 *
 * In: interface name; out: 0 or -errno.  No state.
 */
#include "setup.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int if_ioctl(unsigned long what, struct ifreq *ifr, const char *ifname)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", ifname);
	rc = ioctl(fd, what, ifr) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

int kp_if_index(const char *ifname)
{
	struct ifreq ifr = {0};
	int rc = if_ioctl(SIOCGIFINDEX, &ifr, ifname);

	return rc < 0 ? rc : ifr.ifr_ifindex;
}

int kp_if_mac(const char *ifname, uint8_t mac[6])
{
	struct ifreq ifr = {0};
	int rc = if_ioctl(SIOCGIFHWADDR, &ifr, ifname);

	if (rc < 0)
		return rc;
	if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return -EPROTOTYPE;
	memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
	return 0;
}

int kp_if_set_mac(const char *ifname, const uint8_t mac[6])
{
	struct ifreq ifr = {0};

	ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(ifr.ifr_hwaddr.sa_data, mac, 6);
	return if_ioctl(SIOCSIFHWADDR, &ifr, ifname);
}

int kp_if_mtu(const char *ifname, uint32_t *mtu)
{
	struct ifreq ifr = {0};
	int rc = if_ioctl(SIOCGIFMTU, &ifr, ifname);

	*mtu = rc < 0 ? 0 : (uint32_t)ifr.ifr_mtu;
	return rc;
}

int kp_if_set_mtu(const char *ifname, uint32_t mtu)
{
	struct ifreq ifr = {0};

	ifr.ifr_mtu = (int)mtu;
	return if_ioctl(SIOCSIFMTU, &ifr, ifname);
}

int kp_if_flag(const char *ifname, short flag, bool *on)
{
	struct ifreq ifr = {0};
	int rc = if_ioctl(SIOCGIFFLAGS, &ifr, ifname);

	*on = rc == 0 && (ifr.ifr_flags & flag);
	return rc;
}

int kp_if_set_flag(const char *ifname, short flag, bool on)
{
	struct ifreq ifr = {0};
	int rc = if_ioctl(SIOCGIFFLAGS, &ifr, ifname);

	if (rc < 0)
		return rc;
	if (on)
		ifr.ifr_flags |= flag;
	else
		ifr.ifr_flags &= (short)~flag;
	return if_ioctl(SIOCSIFFLAGS, &ifr, ifname);
}

static int sysctl_open(const char *ifname, const char *name, int flags)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", ifname, name);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int kp_if_ipv6_conf(const char *ifname, const char *name, int *value)
{
	char buf[16] = "";
	int fd = sysctl_open(ifname, name, O_RDONLY);

	*value = -1;
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	if (read(fd, buf, sizeof(buf) - 1) > 0)
		*value = atoi(buf);
	close(fd);
	return 0;
}

int kp_if_set_ipv6_conf(const char *ifname, const char *name, int value)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%d\n", value);
	int fd = sysctl_open(ifname, name, O_WRONLY);
	int rc;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	rc = write(fd, buf, (size_t)len) == len ? 0 : -errno;
	close(fd);
	return rc;
}
