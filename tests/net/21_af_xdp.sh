#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The port driven by net_af_xdp instead of net_af_packet: an echo of 10 MB, and the kernel behind the TAP.
# PLACEMENTS: single
. "$(dirname "$0")/../lib/net.sh"
compgen -G '/usr/lib/*/dpdk/pmds-*/librte_net_af_xdp.so*' >/dev/null || skip "DPDK has no net_af_xdp here"
write_config 'port: { driver = "af_xdp"; };'
if ! (testbed_up) >"$LOGS/try.log" 2>&1; then
	# only what the driver itself says counts as "cannot": anything else is a failure
	why=$(grep -rhiE 'xdp|xsk|umem' "$LOGS/engine-log" "$LOGS/testbed.log" "$LOGS/try.log" 2>/dev/null | tail -1)
	[ -n "$why" ] && skip "net_af_xdp does not start here: $why"
	fail "engine with af_xdp: $(tail -1 "$LOGS/testbed.log")"
fi
testbed_up
start_echo 7000 et
in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 10M --timeout 60 || fail "echo with af_xdp"
not_in_kernel 7000 || fail "the kernel has the connection"
in_cli ping -q -c 5 -i 0.05 -W 2 "$SRV" >/dev/null || fail "ping with af_xdp"
