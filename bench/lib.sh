# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Sourced by bench/*.sh: namespaces joined by a veth pair as the testbed joins them, but with the kernel at both
# ends, and processes to end.  The script sets K (names of the namespaces), PREFIX (of the engine's testbed), BIN,
# TOE_RUN_DIR and SRV, and calls bench_begin.

PIDS=()

# Offloads off, as the testbed has them.
link_up()
{
	ip netns exec "$1" ethtool -K "$2" tx off rx off tso off gso off gro off >/dev/null 2>&1
	ip -n "$1" link set lo up
	ip -n "$1" link set "$2" up
}

# kernel_up [ADDRESS]: the server's end without an address is left to raw frames.
kernel_up()
{
	ip netns add "$K-srv" && ip netns add "$K-cli" || exit 1
	ip link add toe0 netns "$K-srv" type veth peer name cli0 netns "$K-cli" || exit 1
	[ -n "${1:-}" ] && ip -n "$K-srv" addr add "$1/24" dev toe0
	ip -n "$K-cli" addr add 10.99.0.2/24 dev cli0
	link_up "$K-srv" toe0
	link_up "$K-cli" cli0
	client_napi "$K-cli" "$K-srv"
}

# The receiver's softirq in a thread of its own instead of in the sender's system call, as a NIC would have it.
client_napi()
{
	[ "${NAPI:-}" = threaded ] || return 0
	ip netns exec "$1" ethtool -K cli0 gro on || exit 1
	ip netns exec "$1" sh -c 'echo 1 >/sys/class/net/cli0/threaded' || exit 1
	tc -n "$2" qdisc replace dev toe0 root pfifo limit 20000 || exit 1
}

kernel_down() { ip netns del "$K-srv" 2>/dev/null; ip netns del "$K-cli" 2>/dev/null; }

stop_all()
{
	local p
	for p in "${PIDS[@]}"; do
		kill "$p" 2>/dev/null
		wait "$p" 2>/dev/null
	done
	PIDS=()
}

bench_end()
{
	trap - EXIT
	stop_all
	[ -d "$TOE_RUN_DIR" ] && "$BIN/toe" testbed down --prefix "$PREFIX" >/dev/null 2>&1
	kernel_down
	rm -rf "$TMP"
}

bench_begin()
{
	TMP=$(mktemp -d)
	trap bench_end EXIT
	trap 'exit 130' INT TERM
}
