/* SPDX-License-Identifier: BSD-3-Clause */
/* Listeners of one family and of both, our own addresses, flow labels. */
/* LINK: tests/unit/cp_rig.h */
#include "cp_rig.h"

/* Each test says which family, whatever rig_family is. */

static int listen_on(uint16_t family, const char *addr, bool v6only, uint16_t port)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.app_id = RIG_APP;
	m.u.listen.family = family;
	m.u.listen.v6only = v6only;
	m.u.listen.port = port;
	m.u.listen.backlog = 8;
	assert_int_equal(inet_pton(family, addr, m.u.listen.addr), 1);
	rig_msg(TOE_CTL_LISTEN, &m);
	return rig_last_msg(TOE_CTL_LISTEN)->status;
}

static uint32_t listener_of_last(void)
{
	return rig_last_msg(TOE_CTL_LISTEN)->u.listen.listener;
}

/* Who gets a SYN from a client of this family; TOE_NONE: nobody. */
static uint32_t who_gets(uint16_t family)
{
	static uint16_t port = 20000;
	uint16_t was = rig_family;
	struct cp_build b;
	struct cp_half h;
	uint32_t sent = rig_count(TOE_CMD_FRAME_TX);
	bool found;

	rig_family = family;
	b = rig_client(++port, CP_TCP_SYN);
	rig_rx(&b);
	b.t = rig_tuple(1, RIG_PORT, 2, port);
	found = cp_listener_find(&rig.cp, &b.t, &h);
	if (found)
		assert_int_equal(rig_sent().flags, CP_TCP_SYN | CP_TCP_ACK);
	else
		assert_int_equal(rig_count(TOE_CMD_FRAME_TX), sent);
	rig_family = was;
	return found ? h.listener : TOE_NONE;
}

static uint32_t told(uint16_t family)
{
	return rig.cp.ports_told[cp_family_index(family)][RIG_PORT];
}

static void engine_addresses(const char *global, const char *local)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.u.engine.epoch = 1;
	m.u.engine.up = 1;
	assert_int_equal(inet_pton(AF_INET6, global, m.u.engine.port_ipv6[0]), 1);
	assert_int_equal(inet_pton(AF_INET6, local, m.u.engine.port_ipv6[1]), 1);
	rig_msg(TOE_CTL_CP_ENGINE, &m);
}

static void both_families(void **state)
{
	uint32_t both, four, six;

	(void)state;
	engine_addresses("2001:db8::1", "fe80::1");
	assert_int_equal(listen_on(AF_INET6, "::", false, RIG_PORT), 0);
	both = listener_of_last();
	assert_int_equal(told(AF_INET), TOE_PORT_LISTEN);
	assert_int_equal(told(AF_INET6), TOE_PORT_LISTEN);
	assert_int_equal(who_gets(AF_INET), both);
	assert_int_equal(who_gets(AF_INET6), both);
	/* of the family before of both, the address before a wildcard */
	assert_int_equal(listen_on(AF_INET, "0.0.0.0", false, RIG_PORT), 0);
	four = listener_of_last();
	assert_int_not_equal(four, both);
	assert_int_equal(who_gets(AF_INET), four);
	assert_int_equal(who_gets(AF_INET6), both);
	assert_int_equal(listen_on(AF_INET6, "2001:db8::1", false, RIG_PORT), 0);
	six = listener_of_last();
	assert_int_equal(who_gets(AF_INET6), six);
	assert_int_equal(who_gets(AF_INET), four);
	/* the same again is the same listener */
	assert_int_equal(listen_on(AF_INET6, "::", false, RIG_PORT), 0);
	assert_int_equal(listener_of_last(), both);
	cp_listener_close(&rig.cp, 0, both);
	cp_listener_close(&rig.cp, 0, four);
	assert_int_equal(told(AF_INET), 0);
	assert_int_equal(told(AF_INET6), TOE_PORT_LISTEN);
}

/* Where the listener is bound to another of the port's addresses, nobody of ours listens. */
static void other_address_is_the_kernels(void **state)
{
	static const uint8_t flags[] = {CP_TCP_SYN, CP_TCP_ACK, CP_TCP_RST};
	struct cp_build b = rig_client(5007, 0);

	(void)state;
	engine_addresses("2001:db8::1", "fe80::1");
	assert_int_equal(listen_on(AF_INET, "10.0.0.1", false, RIG_PORT), 0);
	assert_int_equal(listen_on(AF_INET6, "2001:db8::1", true, RIG_PORT), 0);
	assert_int_not_equal(who_gets(rig_family), TOE_NONE);
	rig_clear();
	b.t = rig_tuple(2, 5008, 8, RIG_PORT);
	for (unsigned i = 0; i < 3; i++) {
		b.flags = flags[i];
		rig_rx(&b);
	}
	assert_int_equal(rig.cmd_n, 3);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TAP), 3);
	assert_int_equal(rig.st->counters[CP_CNT_to_kernel], 3);
}

static void v6only(void **state)
{
	uint32_t six;

	(void)state;
	engine_addresses("2001:db8::1", "fe80::1");
	assert_int_equal(listen_on(AF_INET6, "::", true, RIG_PORT), 0);
	six = listener_of_last();
	assert_int_equal(told(AF_INET), 0);
	assert_int_equal(told(AF_INET6), TOE_PORT_LISTEN);
	assert_int_equal(who_gets(AF_INET), TOE_NONE);
	assert_int_equal(who_gets(AF_INET6), six);
	assert_int_equal(listen_on(AF_INET, "0.0.0.0", false, RIG_PORT), 0);
	assert_int_equal(who_gets(AF_INET), listener_of_last());
	assert_int_equal(who_gets(AF_INET6), six);
}

static void listen_addresses(void **state)
{
	struct toe_cmd_addr6 cmd;

	(void)state;
	engine_addresses("2001:db8::1", "fe80::1");
	assert_int_equal(listen_on(AF_INET6, "fe80::1", false, RIG_PORT), 0);
	assert_int_equal(listen_on(AF_INET6, "2001:db8::2", false, RIG_PORT), -EXDEV);
	assert_int_equal(listen_on(AF_INET6, "::1", false, RIG_PORT), -EXDEV);
	assert_int_equal(listen_on(AF_INET6, "::ffff:10.0.0.1", false, RIG_PORT), -EAFNOSUPPORT);
	assert_int_equal(listen_on(AF_INET, "10.0.0.1", false, RIG_PORT), 0);
	assert_int_equal(listen_on(AF_INET, "10.0.0.2", false, RIG_PORT), -EXDEV);
	/* the address goes, and comes back: the datapath hears of it, once */
	rig_clear();
	engine_addresses("2001:db8::1", "fe80::1");
	assert_int_equal(rig_count(TOE_CMD_ADDR6), 0);
	engine_addresses("::", "::");
	assert_int_equal(rig_count(TOE_CMD_ADDR6), 1);
	assert_int_equal(listen_on(AF_INET6, "2001:db8::1", false, RIG_PORT + 1), -EXDEV);
	engine_addresses("2001:db8::1", "::");
	memcpy(&cmd, rig_last(TOE_CMD_ADDR6)->data, sizeof(cmd));
	assert_memory_equal(cmd.addr[0], rig.cp.port_ipv6[0], 16);
	/* a link IPv6 cannot use */
	rig.cp.mtu = 1279;
	engine_addresses("2001:db8::1", "fe80::1");
	assert_int_equal(listen_on(AF_INET6, "2001:db8::1", false, RIG_PORT + 1), -EXDEV);
}

/* Another application's: refused where some connection would be both's. */
static void taken(void **state)
{
	struct toe_ctl_msg m;

	(void)state;
	engine_addresses("2001:db8::1", "fe80::1");
	memset(&m, 0, sizeof(m));
	m.u.app = rig.app;
	m.u.app.app_id = RIG_APP + 1;
	rig_msg(TOE_CTL_CP_APP, &m);
	memset(&m, 0, sizeof(m));
	m.app_id = RIG_APP + 1;
	m.u.listen.family = AF_INET6;
	m.u.listen.port = RIG_PORT;
	rig_msg(TOE_CTL_LISTEN, &m);
	assert_int_equal(rig_last_msg(TOE_CTL_LISTEN)->status, 0);
	assert_int_equal(listen_on(AF_INET, "0.0.0.0", false, RIG_PORT), -EADDRINUSE);
	assert_int_equal(listen_on(AF_INET6, "2001:db8::1", false, RIG_PORT), -EADDRINUSE);
	m.u.listen.v6only = 1;
	m.u.listen.port = RIG_PORT + 1;
	rig_msg(TOE_CTL_LISTEN, &m);
	assert_int_equal(rig_last_msg(TOE_CTL_LISTEN)->status, 0);
	assert_int_equal(listen_on(AF_INET, "0.0.0.0", false, RIG_PORT + 1), 0);
	assert_int_equal(listen_on(AF_INET6, "::", false, RIG_PORT + 1), -EADDRINUSE);
}

/* Which of our addresses a connection gets; what is not to be connected to is the kernel's. */
static int connect_to(const char *addr)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.app_id = RIG_APP;
	m.u.conn.family = AF_INET6;
	m.u.conn.remote_port = 80;
	m.u.conn.token = 3;
	assert_int_equal(inet_pton(AF_INET6, addr, m.u.conn.remote_addr), 1);
	rig.bind_port++;
	rig_msg(TOE_CTL_CONNECT, &m);
	return rig_last_msg(TOE_CTL_CONNECT)->status;
}

static void source_addresses(void **state)
{
	(void)state;
	engine_addresses("2001:db8::1", "fe80::1");
	assert_int_equal(connect_to("2001:db8::9"), 0);
	assert_memory_equal(rig_sent().t.remote_addr, rig.cp.port_ipv6[0], 16);
	assert_int_equal(connect_to("fe80::9"), 0);
	assert_memory_equal(rig_sent().t.remote_addr, rig.cp.port_ipv6[1], 16);
	assert_int_equal(connect_to("::1"), -EXDEV);
	assert_int_equal(connect_to("::"), -EXDEV);
	assert_int_equal(connect_to("ff02::1"), -EXDEV);
	assert_int_equal(connect_to("::ffff:10.0.0.9"), -EXDEV);
	engine_addresses("::", "fe80::1");
	assert_int_equal(connect_to("2001:db8::9"), -EXDEV);
	engine_addresses("::", "::");
	assert_int_equal(connect_to("fe80::9"), -EXDEV);
}

/* Of the frame sent last. */
static uint32_t label_sent(void)
{
	const struct rig_cmd *c = rig_last(TOE_CMD_FRAME_TX);

	return c == NULL ? 0 : (c->data[15] & 15u) << 16 | c->data[16] << 8 | c->data[17];
}

/* RFC 6437: one label for all packets of a connection, others for others. */
static void flow_label(void **state)
{
	uint32_t id, label;

	(void)state;
	if (rig_family == AF_INET)
		return;
	rig_listen(8);
	id = rig_accept(6500);
	label = label_sent(); /* the SYN-ACK's */
	assert_true(label != 0);
	assert_int_equal(rig.cp.conns[id].in.family, AF_INET6);
	assert_int_equal(rig.cp.conns[id].in.flow_label, label);
	rig_accept(6501);
	assert_int_not_equal(label_sent(), label);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(both_families), T(other_address_is_the_kernels),
		T(v6only),        T(listen_addresses),
		T(taken),         T(source_addresses),
		T(flow_label),
	};

	return rig_run_both("cp_families", tests);
}
