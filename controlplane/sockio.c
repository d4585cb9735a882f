/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Application sockets (bind to a local port) and control segments (map, survive SIGBUS).
 *
 * An application may punch a hole into its region; with hugepages our next touch is a SIGBUS.  The
 * handler puts an empty page there: that application sees nonsense of its own making until the
 * datapath, which takes the same signal, has it evicted.
 */
#include "sockio.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define REGIONS_MAX 64u
#define PAGE        4096u

/* Written by the only thread, read by the signal handler on it. */
static struct {
	uint8_t *base; /* stored last, atomically: NULL = free */
	uint64_t bytes;
} regions[REGIONS_MAX];

/* What the socket is bound to: *addr has family 0 if it is no address yet. */
static int local_name(int fd, struct sockaddr_storage *ss, struct cp_addr *addr, uint16_t *port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	socklen_t len = sizeof(*ss);

	memset(ss, 0, sizeof(*ss));
	memset(addr, 0, sizeof(*addr));
	if (getsockname(fd, (struct sockaddr *)ss, &len) < 0)
		return -errno;
	if (ss->ss_family == AF_INET) {
		*addr = cp_addr_make(AF_INET, &in->sin_addr);
		*port = ntohs(in->sin_port);
	} else if (ss->ss_family == AF_INET6) {
		*addr = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)
				? cp_addr_make(AF_INET, &in6->sin6_addr.s6_addr[12])
				: cp_addr_make(AF_INET6, &in6->sin6_addr);
		*port = ntohs(in6->sin6_port);
	} else {
		return -EAFNOSUPPORT;
	}
	if (cp_addr_any(addr))
		addr->family = 0;
	return 0;
}

/* ss: as local_name() filled it. */
static int bind_any_port(int fd, struct sockaddr_storage *ss, const struct cp_addr *addr,
			 int ifindex)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	socklen_t len = ss->ss_family == AF_INET ? sizeof(*in) : sizeof(*in6);

	if (ss->ss_family == AF_INET && addr->family == AF_INET) {
		memcpy(&in->sin_addr, addr->b, 4);
	} else if (ss->ss_family == AF_INET6 && addr->family == AF_INET6) {
		memcpy(&in6->sin6_addr, addr->b, 16);
		if (toe_addr_link_local(AF_INET6, addr->b))
			in6->sin6_scope_id = (uint32_t)ifindex;
	} else if (ss->ss_family == AF_INET6) {
		memset(&in6->sin6_addr, 0, sizeof(in6->sin6_addr));
		in6->sin6_addr.s6_addr[10] = in6->sin6_addr.s6_addr[11] = 0xff;
		memcpy(&in6->sin6_addr.s6_addr[12], addr->b, 4);
	} else {
		return -EXDEV;
	}
	if (bind(fd, (struct sockaddr *)ss, len) == 0)
		return 0;
	/* Anything but "no port left" is for the kernel to report, or not to mind. */
	return errno == EADDRINUSE ? -EADDRNOTAVAIL : -EXDEV;
}

int cp_sock_bind(int fd, const struct cp_addr *addr, int ifindex, uint16_t *port)
{
	struct sockaddr_storage ss;
	struct cp_addr bound;
	int err = local_name(fd, &ss, &bound, port);

	if (err || (bound.family && !cp_addr_same(&bound, addr)))
		return -EXDEV;
	if (*port)
		return 0;
	err = bind_any_port(fd, &ss, addr, ifindex);
	if (err)
		return err;
	err = local_name(fd, &ss, &bound, port);
	return err || !*port ? -EXDEV : 0;
}

uint8_t *cp_region_map(int fd, uint64_t bytes)
{
	struct stat st;
	uint8_t *p;

	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < bytes)
		return NULL;
	for (uint32_t i = 0; i < REGIONS_MAX; i++) {
		if (regions[i].base)
			continue;
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED)
			return NULL;
		regions[i].bytes = bytes;
		__atomic_store_n(&regions[i].base, p, __ATOMIC_RELEASE);
		return p;
	}
	return NULL;
}

void cp_region_unmap(uint8_t *p, uint64_t bytes)
{
	for (uint32_t i = 0; i < REGIONS_MAX; i++)
		if (regions[i].base == p)
			__atomic_store_n(&regions[i].base, NULL, __ATOMIC_RELEASE);
	munmap(p, bytes);
}

static void on_sigbus(int sig, siginfo_t *si, void *uc)
{
	uint8_t *at = si->si_addr;

	(void)uc;
	for (uint32_t i = 0; i < REGIONS_MAX; i++) {
		uint8_t *base = __atomic_load_n(&regions[i].base, __ATOMIC_ACQUIRE);

		if (!base || at < base || at >= base + regions[i].bytes)
			continue;
		at = base + (size_t)(at - base) / PAGE * PAGE;
		if (mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			 -1, 0) != MAP_FAILED)
			return;
	}
	signal(sig, SIG_DFL); /* not ours: die of it when the access repeats */
}

int cp_region_guard(void)
{
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	sigemptyset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, NULL) < 0 ? -errno : 0;
}
