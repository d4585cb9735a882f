/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: controlplane/netlink.c common/log.c */
/*
 * Neighbours of both families as the kernel's notifications tell them, and a table that a flood
 * has filled.  The notifications are made here, the interface does not exist: questions to the
 * kernel of the machine are refused.
 */
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <libmnl/libmnl.h>

#include "controlplane/netlink.h"

#define IFINDEX   0x7ffffff0
#define NEIGH_MAX 8192u /* netlink.c's */

static struct cp_nl *nl;
static struct cp_addr told;
static uint8_t told_mac[6];
static bool told_gone;
static unsigned told_n;

static void changed(void *ctx, const struct cp_addr *ip, const uint8_t *mac)
{
	(void)ctx;
	told_n++;
	told = *ip;
	told_gone = mac == NULL;
	if (mac != NULL)
		memcpy(told_mac, mac, 6);
}

static int setup(void **state)
{
	(void)state;
	told_n = 0;
	return cp_nl_open(&nl, IFINDEX, changed, NULL);
}

static int teardown(void **state)
{
	(void)state;
	cp_nl_close(nl);
	return 0;
}

static struct cp_addr six(uint16_t net, uint32_t host)
{
	struct cp_addr a = {.family = AF_INET6, .b = {(uint8_t)(net >> 8), (uint8_t)net}};

	memcpy(a.b + 12, &host, 4);
	return a;
}

static void notify(uint16_t type, int ifindex, uint16_t state, const struct cp_addr *ip,
		   const uint8_t *mac)
{
	char buf[256];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct ndmsg *nd;

	h->nlmsg_type = type;
	nd = mnl_nlmsg_put_extra_header(h, sizeof(*nd));
	nd->ndm_family = (uint8_t)ip->family;
	nd->ndm_ifindex = ifindex;
	nd->ndm_state = state;
	mnl_attr_put(h, NDA_DST, toe_ip_addr_bytes(ip->family), ip->b);
	if (mac != NULL)
		mnl_attr_put(h, NDA_LLADDR, 6, mac);
	cp_nl_take(nl, buf, h->nlmsg_len);
}

static const uint8_t mac_a[6] = {2, 0, 0, 0, 0, 10}, mac_b[6] = {2, 0, 0, 0, 0, 11};

static void test_families(void **state)
{
	/* the same 16 bytes */
	struct cp_addr v4 = {.family = AF_INET, .b = {32, 1, 13, 184}};
	struct cp_addr v6 = {.family = AF_INET6, .b = {32, 1, 13, 184}};
	uint8_t mac[6];

	(void)state;
	notify(RTM_NEWNEIGH, IFINDEX, NUD_REACHABLE, &v4, mac_a);
	assert_true(told_n == 1 && cp_addr_same(&told, &v4));
	assert_int_equal(cp_nl_neigh(nl, &v6, 1000, mac), -EAGAIN);
	notify(RTM_NEWNEIGH, IFINDEX, NUD_REACHABLE, &v6, mac_b);
	assert_true(told_n == 2 && cp_addr_same(&told, &v6));
	assert_memory_equal(told_mac, mac_b, 6);
	assert_int_equal(cp_nl_neigh(nl, &v4, 1000, mac), 0);
	assert_memory_equal(mac, mac_a, 6);
	assert_int_equal(cp_nl_neigh(nl, &v6, 1000, mac), 0);
	assert_memory_equal(mac, mac_b, 6);
	/* no news is none; a MAC that moves, and a neighbour that does not answer are */
	notify(RTM_NEWNEIGH, IFINDEX, NUD_STALE, &v6, mac_b);
	assert_int_equal(told_n, 2);
	notify(RTM_NEWNEIGH, IFINDEX, NUD_REACHABLE, &v6, mac_a);
	assert_int_equal(told_n, 3);
	notify(RTM_NEWNEIGH, IFINDEX, NUD_FAILED, &v6, NULL);
	assert_true(told_n == 4 && told_gone);
	assert_int_equal(cp_nl_neigh(nl, &v6, 1000, mac), -EAGAIN);
	notify(RTM_DELNEIGH, IFINDEX, 0, &v4, NULL);
	assert_int_equal(cp_nl_neigh(nl, &v4, 1000, mac), -EAGAIN);
}

static void test_not_ours(void **state)
{
	struct cp_addr v6 = six(0xfe80, 1), group = six(0xff02, 1);
	uint8_t mac[6];

	(void)state;
	notify(RTM_NEWNEIGH, 1, NUD_REACHABLE, &v6, mac_a);
	notify(RTM_NEWNEIGH, IFINDEX, NUD_NOARP, &group, mac_a);
	assert_int_equal(told_n, 0);
	assert_int_equal(cp_nl_neigh(nl, &v6, 1000, mac), -EAGAIN);
}

static void test_flood(void **state)
{
	struct cp_addr old = six(0xfe80, 7), later = six(0xfe80, 8);
	uint8_t mac[6];

	(void)state;
	notify(RTM_NEWNEIGH, IFINDEX, NUD_REACHABLE, &old, mac_a);
	for (uint32_t i = 0; i < 3 * NEIGH_MAX; i++) {
		struct cp_addr a = six(0x2001, i + 1);

		assert_int_equal(cp_nl_neigh(nl, &a, 1000, mac), -EAGAIN);
	}
	notify(RTM_NEWNEIGH, IFINDEX, NUD_REACHABLE, &later, mac_b);
	assert_int_equal(cp_nl_neigh(nl, &later, 1000, mac), 0);
	assert_memory_equal(mac, mac_b, 6);
	assert_int_equal(cp_nl_neigh(nl, &old, 1000, mac), 0);
	/* real ones have their limit, too */
	for (uint32_t i = 0; i < 2 * NEIGH_MAX; i++) {
		struct cp_addr a = six(0x2002, i + 1);

		notify(RTM_NEWNEIGH, IFINDEX, NUD_REACHABLE, &a, mac_a);
	}
	assert_true(told_n <= NEIGH_MAX);
	assert_int_equal(cp_nl_neigh(nl, &old, 1000, mac), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_families, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_ours, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flood, setup, teardown),
	};

	return cmocka_run_group_tests_name("cp_netlink", tests, NULL, NULL);
}
