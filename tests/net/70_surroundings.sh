#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Wrong surroundings: each gets a clear message and a clean exit, never a crash or a half-started engine.
# PLACEMENTS: single
. "$(dirname "$0")/../lib/net.sh"

# expect_error WORDS COMMAND...: fails with one of the words (extended regex), not by a signal
expect_error()
{
	local words=$1 rc
	shift
	timeout 20 "$@" >"$LOGS/err.log" 2>&1 </dev/null
	rc=$?
	[ $rc -ne 0 ] || fail "$*: succeeds"
	[ $rc -ne 124 ] && [ $rc -lt 128 ] || fail "$*: exit code $rc"
	grep -qiE "$words" "$LOGS/err.log" || fail "$*: message lacks $words: $(tail -2 "$LOGS/err.log")"
	say "ok: $(tail -1 "$LOGS/err.log")"
}

# the engine is not running
export TOE_RUN_DIR=$RUN_DIR.none
expect_error 'toe up|not running' "$BIN/toe" status
expect_error 'toe up|not running' "$BIN/toe" stats
expect_error 'toe up|not running' "$BIN/toe" run -- true
# configuration
echo 'port: { mtu = 9; };' >"$LOGS/bad.conf"
expect_error 'bad.conf:1: port.mtu' "$BIN/toe" up --config "$LOGS/bad.conf"
expect_error 'No such file' "$BIN/toe" up --config "$LOGS/none.conf"
# no such interface
echo 'port: { interface = "nosuch0"; };' >"$LOGS/noif.conf"
expect_error 'nosuch0' "$BIN/toe" up --config "$LOGS/noif.conf"
[ -e "$RUN_DIR.none/keeper.sock" ] && fail "half-started engine left a socket"
rm -rf "$RUN_DIR.none"
# DPDK is not installed: its library is an empty file in a mount namespace of our own
eal=$(ldconfig -p | sed -n 's/.*librte_eal\.so\.[0-9]* .*=> //p' | head -1)
echo 'port: { interface = "dpdk0"; };' >"$LOGS/nodpdk.conf"
expect_error 'librte_' unshare --mount --net sh -c "ip link add dpdk0 type veth peer name dpdk1 &&
	mount --bind /dev/null '$eal' && exec '$BIN/toe' up --config '$LOGS/nodpdk.conf'"
[ -e "$RUN_DIR.none/keeper.sock" ] && fail "half-started engine left a socket"
rm -rf "$RUN_DIR.none"
# not root
expect_error 'root|CAP_|privilege|permission' setpriv --reuid=65534 --regid=65534 --clear-groups \
	"$BIN/toe" up --config "$LOGS/noif.conf"
expect_error 'root|CAP_|privilege|permission' unshare --user --map-root-user \
	"$BIN/toe" testbed up --prefix "$PREFIX-u"
ip netns list | grep -q "$PREFIX-u" && fail "testbed half made"
rmdir "$RUN_DIR.none" 2>/dev/null
export TOE_RUN_DIR=$RUN_DIR

SRV_NS=(ip netns exec "$PREFIX-srv")
testbed_up
# a second engine on the same run directory or port
expect_error 'running|use' "${SRV_NS[@]}" "$BIN/toe" up --config "$ENGINE_CONFIG"
# a port somebody has already, kernel or engine
start_echo 7000 lt
expect_error 'in use' "${SRV_NS[@]}" "$BIN/toe" run -- "$BIN/tests/progs/echo_server" --port 7000
expect_error 'in use' "${SRV_NS[@]}" "$BIN/tests/progs/echo_server" --port 7000
srv_spawn kernel-echo "$BIN/tests/progs/echo_server" --port 7002
wait_for 5 "kernel echo server" grep -q ready "$LOGS/kernel-echo.log"
expect_error 'in use' "${SRV_NS[@]}" "$BIN/toe" run -- "$BIN/tests/progs/echo_server" --port 7002
# a program that does not exist
expect_error 'No such file|not found' "${SRV_NS[@]}" "$BIN/toe" run -- /nonexistent/program
# without hugepages it runs: this is the usual case here
if [ "$(awk '/HugePages_Total/ { print $2 }' /proc/meminfo)" = 0 ]; then
	in_cli "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 1M --timeout 20 ||
		fail "without hugepages"
fi
