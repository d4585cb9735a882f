// SPDX-License-Identifier: BSD-3-Clause
/*
 * IPv6 of the TAP: settings, the port's addresses, and which of them are the engine's.
 *
 * In: struct kp_setup with what the port had; out: 0 or -errno.  The TAP is the port to everybody
 * on the link, so it takes over what has passed duplicate address detection there without another.
 */
#include "setup.h"

#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"

/* disable_ipv6 has taken these from the port.  Backwards: the kernel shows the latest first. */
static int put(const struct kp_setup *s, bool link_local)
{
	int rc = 0;

	for (uint32_t i = s->saved.addr_n; i-- > 0 && rc == 0;) {
		const struct kp_addr *a = &s->saved.addrs[i];

		if (a->family == AF_INET6 && (a->scope == RT_SCOPE_LINK) == link_local)
			rc = kp_addr_add_again(s->tap_ifindex, a, s->saved.boot_s);
	}
	return rc;
}

int kp_ipv6_link_local(const struct kp_setup *s)
{
	return put(s, true);
}

int kp_ipv6_global(const struct kp_setup *s, const struct toe_config *cfg)
{
	struct kp_addr own;
	int rc = put(s, false);

	if (rc < 0 || !cfg->address6[0])
		return rc;
	rc = kp_addr_parse(cfg->address6, &own);
	return rc < 0 ? rc : kp_addr_add(s->tap_ifindex, &own);
}

static void set_conf(const struct kp_setup *s, const char *name, int value)
{
	int rc = kp_if_set_ipv6_conf(s->tap_if, name, value);

	if (rc < 0)
		LOG_WARN("%s: %s = %d: %s", s->tap_if, name, value, strerror(-rc));
}

void kp_ipv6_conf(const struct kp_setup *s, const struct toe_config *cfg)
{
	static const char *const names[] = {"accept_ra",  "accept_ra_defrtr", "accept_ra_pinfo",
					    "autoconf",   "use_tempaddr",     "addr_gen_mode",
					    "accept_dad", "dad_transmits"};
	int value;

	for (size_t i = 0; s->kernel_port && i < sizeof(names) / sizeof(names[0]); i++) {
		if (kp_if_ipv6_conf(s->port_if, names[i], &value) == 0 && value >= 0)
			set_conf(s, names[i], value);
	}
	/* the port's own value is ours by now */
	value = s->kernel_port ? s->saved.disable_ipv6 : -1;
	if (cfg->address6[0])
		value = 0;
	if (value >= 0)
		set_conf(s, "disable_ipv6", value);
}

bool kp_ipv6_look(struct kp_setup *s)
{
	static const uint8_t none[16];
	struct kp_addr a[KP_ADDRS_MAX];
	uint8_t was[2][16];
	uint32_t n = 0;

	if (kp_addr_list(s->tap_ifindex, AF_INET6, a, &n, KP_ADDRS_MAX) < 0)
		return false;
	memcpy(was, s->ipv6, sizeof(was));
	if (memcmp(s->own6, none, sizeof(none)) != 0)
		memcpy(s->ipv6[0], s->own6, sizeof(s->own6));
	kp_addr_pick(a, n, s->ipv6);
	return memcmp(was, s->ipv6, sizeof(was)) != 0;
}
