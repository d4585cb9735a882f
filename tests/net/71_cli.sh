#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The operator's side: JSON with the documented keys, toe check, the graph of the pipeline, toe run --fallback, and
# an installation that finds its parts.
# PLACEMENTS: single spread
. "$(dirname "$0")/../lib/net.sh"

# keys FILE JQ-ARRAY-OF-KEYS [PATH]: valid JSON, and at PATH an object with all of these keys
keys()
{
	local missing
	missing=$(jq -er "$2 - (${3:-.} | keys) | join(\" \")" "$1" 2>&1)
	[ -z "$missing" ] || fail "$(basename "$1"): keys missing at ${3:-.}: $missing"
}
# json_of NAME COMMAND...: into $LOGS/NAME.json
json_of()
{
	local name=$1
	shift
	"$@" --json >"$LOGS/$name.json" 2>"$LOGS/$name.err" || fail "$*: $(tail -1 "$LOGS/$name.err")"
	jq -e . "$LOGS/$name.json" >/dev/null || fail "$*: not JSON"
}

# ---- no engine: run --fallback, status, check
export TOE_RUN_DIR=$RUN_DIR.none
out=$("$BIN/toe" run --fallback -- echo works 2>"$LOGS/fallback.err") || fail "run --fallback"
[ "$out" = works ] || fail "run --fallback printed $out"
grep -q WARNING "$LOGS/fallback.err" || fail "run --fallback does not warn"
"$BIN/toe" run --fallback -- sh -c 'exit 7' 2>/dev/null
[ $? -eq 7 ] || fail "run --fallback hides the exit code"
"$BIN/toe" run -- echo works >"$LOGS/none.out" 2>&1
[ $? -eq 69 ] || fail "run without engine: exit code is not 69"
# nor is a socket that nobody listens to any more an engine
mkdir -p "$TOE_RUN_DIR"
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(sys.argv[1])' "$TOE_RUN_DIR/keeper.sock"
"$BIN/toe" run -- echo works >"$LOGS/none.out" 2>&1
[ $? -eq 69 ] || fail "run, nobody at the socket: exit code is not 69"
[ "$("$BIN/toe" run --fallback -- echo works 2>"$LOGS/fallback.err")" = works ] || fail "run --fallback, nobody at the socket"
grep -q WARNING "$LOGS/fallback.err" || fail "run --fallback, nobody at the socket: no warning"
rm "$TOE_RUN_DIR/keeper.sock"
"$BIN/toe" status --json >"$LOGS/down.json"
[ $? -eq 69 ] || fail "status without engine: exit code is not 69"
[ "$(json "$LOGS/down.json" .up)" = false ] || fail "status without engine: $(cat "$LOGS/down.json")"
echo 'port: { interface = "nosuch0"; };' >"$LOGS/noif.conf"
"$BIN/toe" check --json --config "$LOGS/noif.conf" >"$LOGS/check-bad.json"
[ $? -eq 1 ] || fail "check without the interface: exit code is not 1"
[ "$(json "$LOGS/check-bad.json" '[.[] | select(.result == "FAIL") | .item] | join(" ")')" = port ] ||
	fail "check without the interface: $(cat "$LOGS/check-bad.json")"
echo 'port: { interface = "lo"; }; mqtt: { offload = ( "a" ); };' >"$LOGS/noif.conf"
"$BIN/toe" check --json --config "$LOGS/noif.conf" >"$LOGS/check-bad.json"
[ "$(json "$LOGS/check-bad.json" '[.[] | select(.item == "port" or .item == "mqtt") | "\(.result) \(.text[:29])"] | join(",")')" = \
	'FAIL lo is not an Ethernet interfa,warn mqtt.offload does nothing, be' ] || fail "check of lo: $(cat "$LOGS/check-bad.json")"
[ "$("$BIN/toe" config --config "$LOGS/noif.conf" 2>&1 >/dev/null)" = "toe config: warning: mqtt.offload does nothing, because \
mqtt.ports is empty: name the broker's ports, like mqtt.ports = ( 1883 )" ] || fail "config does not warn"
rmdir "$RUN_DIR.none" 2>/dev/null
export TOE_RUN_DIR=$RUN_DIR

# ---- wrong usage: one line that says what is wrong, exit code 2
# usage TEXT ARGS...
usage()
{
	local text=$1
	shift
	"$BIN/toe" "$@" >"$LOGS/usage.out" 2>"$LOGS/usage.err"
	[ $? -eq 2 ] && [ "$(wc -l <"$LOGS/usage.err")" = 1 ] && [ ! -s "$LOGS/usage.out" ] && grep -qF -- "$text" "$LOGS/usage.err" ||
		fail "toe $*: exit code $?, $(cat "$LOGS/usage.err")"
}
usage 'toe: no command "nix": see toe help' nix
usage 'toe: no option "--nix": see toe help' --nix status
usage 'toe run: invalid option' run -c x
usage 'toe run: say which program' run
usage 'toe status: unexpected "x"' status x
usage "toe status: unrecognized option '--nix'" status --nix
usage 'toe stats: no part "bogus": stages, counters' stats bogus
usage 'toe mqtt: filter add needs a FILTER' mqtt filter add
usage 'toe mqtt: no mode "bogus": on, shadow or suspend' mqtt mode bogus
usage 'toe testbed: say up or down' testbed
usage 'toe status: --run-dir is empty' status --run-dir ''
usage 'toe status: --run-dir is empty' --run-dir= status
# options of every command, in front of it
for options in "--json --run-dir $RUN_DIR.front" "--run-dir=$RUN_DIR.front --json"; do
	# shellcheck disable=SC2086
	"$BIN/toe" $options status >"$LOGS/front.json"
	[ $? -eq 69 ] && [ "$(json "$LOGS/front.json" .run_dir)" = "$RUN_DIR.front" ] || fail "toe $options status"
done
[ "$("$BIN/toe" --run-dir "$RUN_DIR.front" run --fallback -- echo --json 2>/dev/null)" = --json ] || fail "options of the program"
# ---- --help of each command: its options and an example; what there is to say is in the manual page, too
"$BIN/toe" help >"$LOGS/help.txt" || fail "toe help"
mapfile -t commands < <(sed -n 's/^  toe \([a-z]*\).*/\1/p' "$LOGS/help.txt" | grep -v version | sort -u)
[ ${#commands[@]} -ge 11 ] || fail "toe help: ${commands[*]}"
for command in "${commands[@]}"; do
	"$BIN/toe" "$command" --help >"$LOGS/help.$command" 2>&1 || fail "toe $command --help: exit code $?"
	grep -q "^example: toe $command" "$LOGS/help.$command" || fail "toe $command --help: no example"
	grep -q -- '^  --run-dir DIR ' "$LOGS/help.$command" || fail "toe $command --help: no --run-dir"
	grep -q "^\.B.*toe $command" mk/toe.1 || fail "toe.1: no toe $command"
done
mapfile -t options < <(sed -n 's/.*{"\([a-z-]*\)", [a-z]*_argument, NULL, .*/\1/p' controlplane/cli/*.[ch] | sort -u)
[ ${#options[@]} -ge 12 ] || fail "options in the source: ${options[*]}"
for option in "${options[@]}"; do
	cat "$LOGS"/help.* | grep -q -- "^  --$option " || fail "--$option is in no --help"
	grep -qF -- "\\-\\-${option//-/\\-}" mk/toe.1 || fail "toe.1: no --$option"
done
if command -v man >/dev/null; then
	man --warnings -l -Tutf8 mk/toe.1 2>"$LOGS/man.err" >/dev/null
	[ ! -s "$LOGS/man.err" ] || fail "toe.1: $(head -1 "$LOGS/man.err")"
fi
# no such testbed; an engine in that run directory would not be one
"$BIN/toe" testbed down --prefix "$PREFIX-none" >"$LOGS/nobed.log" 2>&1
[ $? -eq 69 ] && grep -q "no testbed $PREFIX-none\$" "$LOGS/nobed.log" || fail "testbed down without one: $(cat "$LOGS/nobed.log")"
T=nosuch tests/run-net >"$LOGS/nosuch.log" 2>&1 && fail "no test is none that passed"
grep -q '^no test matches nosuch' "$LOGS/nosuch.log" || fail "run-net: $(cat "$LOGS/nosuch.log")"

# ---- the configuration: every option of the sample, with the value in force
write_config 'mqtt: { ports = ( 1883, 1884 ); offload = ( "a/#" ); };' 'tcp: { rx_buf = "64K"; ecn = false; };'
json_of config "$BIN/toe" config --config "$CONFIG"
[ "$(json "$LOGS/config.json" '"\(.file) \(.tcp.rx_buf) \(.tcp.ecn) \(.mqtt.ports) \(.mqtt.offload) \(.port.driver)"')" = \
	"$CONFIG 65536 false [1883,1884] [\"a/#\"] af_packet" ] || fail "config --json: $(cat "$LOGS/config.json")"
diff <("$BIN/toe" config --sample | sed -n 's/^[[:blank:]]*#*\([a-z_0-9]*\) = .*/\1/p' | sort) \
	<(jq -r 'del(.file)[] | if type == "object" then keys[] else "run_dir" end' "$LOGS/config.json" | sort) ||
	fail "config --json: not the options of config --sample"
printf 'mqtt: { offload = ( "\xff" ); };' >"$LOGS/latin.conf"
"$BIN/toe" config --json --config "$LOGS/latin.conf" >"$LOGS/latin.out" 2>&1
[ $? -eq 1 ] && grep -q UTF-8 "$LOGS/latin.out" || fail "config --json of what is not UTF-8: $(cat "$LOGS/latin.out")"

# ---- the graph, without privileges or an engine
write_config
"$BIN/toe-datapath" --dump-graph --config "$CONFIG" >"$LOGS/graph.dot" || fail "--dump-graph"
if command -v dot >/dev/null; then
	dot -Tsvg "$LOGS/graph.dot" >/dev/null || fail "dot does not read the graph"
fi
edge() { grep -qF "\"$1\" -> \"$2\"" "$LOGS/graph.dot" || fail "graph lacks $1 -> $2"; }
if [ "$TOE_PLACEMENT" = spread ]; then pre='pre.0 pre.1' post='post.0 post.1'; else pre=pre post=post; fi
grep -q '^digraph toe {' "$LOGS/graph.dot" && [ "$(tail -1 "$LOGS/graph.dot")" = '}' ] || fail "graph is not DOT"
for p in $pre; do edge seq "$p"; edge "$p" reorder; done
for p in $post; do edge proto "$p"; edge "$p" dma; done
for e in 'netif_rx seq' 'sched seq' 'dma seq' 'ctrl seq' 'reorder proto' 'reorder exception' 'dma egress' \
	'egress ctxq' 'egress sched' 'egress netif_tx' 'ctxq dma' 'exception netif_tx'; do
	# shellcheck disable=SC2086
	edge $e
done
rings=$(grep -c 'label=ring' "$LOGS/graph.dot")
if [ "$TOE_PLACEMENT" = spread ]; then
	[ "$rings" -gt 0 ] || fail "two lcores, but no rings"
else
	[ "$rings" -eq 0 ] || fail "one lcore, but $rings rings"
fi

# ---- an engine with a connection
[ "$(id -u)" -eq 0 ] || skip "needs root"
# ---- a broker's configuration
"$BIN/toe" mqtt check tests/unit/data/broker/plain.conf >"$LOGS/plain.out" || fail "mqtt check: $(cat "$LOGS/plain.out")"
"$BIN/toe" mqtt check tests/unit/data/broker/gateway.conf --json >"$LOGS/gateway.json"
[ $? -eq 1 ] || fail "mqtt check of an unsafe configuration: exit code is not 1"
[ "$(json "$LOGS/gateway.json" '[.[] | select(.severity == "unsafe")] | length')" = 7 ] ||
	fail "mqtt check: $(cat "$LOGS/gateway.json")"
"$BIN/toe" mqtt check "$LOGS/none.conf" >/dev/null
[ $? -eq 1 ] || fail "mqtt check of no file: exit code is not 1"
"$BIN/toe" mqtt check 2>/dev/null
[ $? -eq 2 ] || fail "mqtt check without a file: exit code is not 2"

testbed_up
# a second one beside it, for what it says
end()
{
	local status=$?
	"$BIN/toe" testbed down --prefix "$PREFIX-b" --run-dir "$RUN_DIR-b" >/dev/null 2>&1
	net_end $status
}
trap end EXIT
json_of testbed "$BIN/toe" testbed up --prefix "$PREFIX-b" --run-dir "$RUN_DIR-b"
# an engine that is there already is left alone
"$BIN/toe" testbed up --prefix "$PREFIX-c" --run-dir "$RUN_DIR-b" >"$LOGS/nobed.log" 2>&1 && fail "two engines in one run directory"
grep -q 'an engine is running in .*toe down, or another' "$LOGS/nobed.log" || fail "$(cat "$LOGS/nobed.log")"
mv "$RUN_DIR-b/testbed.conf" "$LOGS/" # so that it is no testbed's
"$BIN/toe" testbed down --prefix "$PREFIX-c" --run-dir "$RUN_DIR-b" >"$LOGS/nobed.log" 2>&1
[ $? -eq 69 ] || fail "testbed down beside an engine: $(cat "$LOGS/nobed.log")"
"$BIN/toe" --run-dir "$RUN_DIR-b" status >/dev/null || fail "testbed down ends an engine that is no testbed's"
mv "$LOGS/testbed.conf" "$RUN_DIR-b/"
keys "$LOGS/testbed.json" '["server_ns","client_ns","address","client_address","port","tap","run_dir","config"]'
ip netns exec "$(json "$LOGS/testbed.json" .client_ns)" ping -q -c 3 -i 0.05 -W 2 "$(json "$LOGS/testbed.json" .address)" \
	>/dev/null || fail "the second testbed does not answer"
"$BIN/toe" testbed down --prefix "$PREFIX-b" --run-dir "$RUN_DIR-b" >/dev/null || fail "second testbed down"

start_echo 7000 lt
cli_spawn client "$BIN/tests/progs/tcp_client" --host "$SRV" --port 7000 --bytes 100M --rate 1M --timeout 60
wait_for 10 "connection" grep -q connected "$LOGS/client.log"
flows() { [ "$("$BIN/toe" stats --json | jq .counters.segs_data_rx)" -gt 0 ]; }
wait_for 5 "data" flows
json_of status "$BIN/toe" status
keys "$LOGS/status.json" '["up","up_s","run_dir","port","tap","address","ipv6","ipv6_link_local","mac","mtu","offloads","keeper_pid","datapath_pid",
	"controlplane_pid","controlplane_restarts","applications","processes","controlplane"]'
keys "$LOGS/status.json" '["tx_ip_checksum","tx_tcp_checksum","rx_ip_checksum","rx_tcp_checksum","tso"]' .offloads
"$BIN/toe" status | grep -q '^offloads ' || fail "status shows no offloads"
keys "$LOGS/status.json" '["connections","connections_max","half_open","orphans","time_wait","counters","apps"]' .controlplane
[ "$(json "$LOGS/status.json" '"\(.up) \(.address) \(.applications) \(.controlplane.connections)"')" = "true $SRV 1 1" ] ||
	fail "status: $(cat "$LOGS/status.json")"
json_of stats "$BIN/toe" stats
keys "$LOGS/stats.json" '["stages","counters","drops","lcores"]'
keys "$LOGS/stats.json" '["items","cycles","cycles_per_item","lcore"]' .stages.proto
keys "$LOGS/stats.json" '["frames_rx","frames_tx","segs_data_rx","segs_data_tx","segs_rtx","held","installed"]' .counters
# for people, with what each means
"$BIN/toe" stats counters | grep -q '^segs_data_rx  *[0-9]*  segments with payload accepted$' || fail "$("$BIN/toe" stats counters)"
"$BIN/toe" stats drops --all | grep -q '^window  *[0-9]*  segment outside the receive window$' || fail "$("$BIN/toe" stats drops --all)"
json_of conns "$BIN/toe" conns
keys "$LOGS/conns.json" '["state","local","remote","app","orphan"]' '.conns[0]'
[ "$(json "$LOGS/conns.json" '.conns[0] | "\(.state) \(.local)"')" = "ESTAB $SRV:7000" ] ||
	fail "conns: $(cat "$LOGS/conns.json")"
json_of listeners "$BIN/toe" listeners
keys "$LOGS/listeners.json" '["local","app"]' '.listeners[0]'
# ---- what was not offloaded, of a program that has ended
json_of unsupported "$BIN/toe" stats --unsupported
[ "$(json "$LOGS/unsupported.json" '[.[]] | add')" = 0 ] || fail "unsupported before: $(cat "$LOGS/unsupported.json")"
app refused bash -c 'exec 3<>/dev/tcp/127.0.0.1/9; exec 3<>/dev/tcp/::1/9'
wait "$SPAWNED"
ended() { [ "$("$BIN/toe" status --json | jq .applications)" = 1 ]; }
wait_for 10 "the end of that program" ended
json_of unsupported "$BIN/toe" stats --unsupported
[ "$(json "$LOGS/unsupported.json" '"\(.connect_route) \(.connect_family)"')" = "2 0" ] ||
	fail "unsupported: $(cat "$LOGS/unsupported.json")"
"$BIN/toe" stats --unsupported | grep -q '^connect_route  *2$' || fail "$("$BIN/toe" stats --unsupported)"
setpriv --reuid=65534 --regid=65534 --clear-groups "$BIN/toe" stats --unsupported >"$LOGS/nobody.log" 2>&1
[ $? -eq 77 ] || fail "a user reads what all applications did: $(cat "$LOGS/nobody.log")"
json_of check ip netns exec "$PREFIX-srv" "$BIN/toe" check --config "$ENGINE_CONFIG"
[ "$(json "$LOGS/check.json" '[.[] | select(.result == "FAIL")] | length')" = 0 ] || fail "check: $(cat "$LOGS/check.json")"
"$BIN/toe" stats graph >"$LOGS/live.dot" || fail "stats graph"
edges() { grep -F -- '->' "$1" | tr -d '[:blank:]' | sort; } # telemetry turns tabs into blanks
diff <(edges "$LOGS/graph.dot") <(edges "$LOGS/live.dot") ||
	fail "the running graph is not the one of --dump-graph"

# ---- network programs without an engine are the kernel's
export TOE_RUN_DIR=$RUN_DIR.none
cli_spawn without "$BIN/toe" run --fallback -- "$BIN/tests/progs/echo_server" --port 7300
wait_for 10 "echo server without an engine" grep -q ready "$LOGS/without.log"
grep -q WARNING "$LOGS/without.log" || fail "no warning: $(cat "$LOGS/without.log")"
grep -q libtoe "/proc/$SPAWNED/maps" && fail "run --fallback preloads libtoe all the same"
export TOE_RUN_DIR=$RUN_DIR
app asks "$BIN/tests/progs/tcp_client" --host "$CLI" --port 7300 --bytes 1M --timeout 20
wait "$SPAWNED" || fail "echo server without an engine: $(tail -1 "$LOGS/asks.log")"
# one that has inherited an application whose engine it does not find
mapfile -t inherited < <("$BIN/toe" run -- env | grep -E '^(TOE_APP|LD_PRELOAD)=')
[ ${#inherited[@]} -eq 2 ] || fail "toe run: environment: ${inherited[*]}"
orphaned() { in_cli env TOE_RUN_DIR="$RUN_DIR.none" "${inherited[@]}" "$@" >"$LOGS/orphaned.log" 2>&1; }
orphaned "$BIN/tests/progs/tcp_client" --host "$CLI" --port 7300 --bytes 1M --timeout 20
[ $? -eq 69 ] && grep -q 'cannot attach' "$LOGS/orphaned.log" || fail "without its engine: $(cat "$LOGS/orphaned.log")"
orphaned TOE_FALLBACK=1 "$BIN/tests/progs/tcp_client" --host "$CLI" --port 7300 --bytes 1M --timeout 20 ||
	fail "TOE_FALLBACK=1: $(cat "$LOGS/orphaned.log")"
grep -q 'not offloaded' "$LOGS/orphaned.log" || fail "TOE_FALLBACK=1: no warning: $(cat "$LOGS/orphaned.log")"

# an engine in another network namespace: said once, to root and others, and the program runs
# where NAMESPACE-END LINES COMMAND...: toe run by that command there, and how many lines it says
where()
{
	local end=$1 lines=$2
	shift 2
	[ "$(ip netns exec "$PREFIX-$end" "$@" "$BIN/toe" run -- echo works 2>"$LOGS/where.err")" = works ] &&
		[ "$(grep -c 'toe run: WARNING: echo .* another network namespace' "$LOGS/where.err")" = "$lines" ] &&
		[ "$(wc -l <"$LOGS/where.err")" = "$lines" ] || fail "toe run in $end by $*: $(cat "$LOGS/where.err")"
}
where srv 0 env
where cli 1 env
where srv 0 setpriv --reuid=65534 --regid=65534 --clear-groups
where cli 1 setpriv --reuid=65534 --regid=65534 --clear-groups

# toe run says what it found in the broker's configuration, and runs it all the same; only if it matters
printf 'listener 1883\nallow_anonymous true\nupgrade_outgoing_qos true\n' >"$LOGS/mosquitto.conf"
echo 'mqtt: { ports = ( 1883 ); offload = ( "a/#" ); };' >"$LOGS/mqtt.conf"
srv_spawn broker "$BIN/toe" run --config "$LOGS/mqtt.conf" -- mosquitto -c "$LOGS/mosquitto.conf"
wait_for 10 "mosquitto" broker_answers
grep -q 'mosquitto.conf:3: unsafe for MQTT offload: upgrade_outgoing_qos:' "$LOGS/broker.log" ||
	fail "toe run does not name what is unsafe: $(head -3 "$LOGS/broker.log")"
end_process "$SPAWNED"
app broker mosquitto -c "$LOGS/mosquitto.conf"
wait_for 10 "mosquitto" broker_answers
grep -q 'MQTT offload' "$LOGS/broker.log" && fail "toe run warns of what nobody uses"

# ---- installation
[ "$TOE_PLACEMENT" = single ] || exit 0
root=$LOGS/root
san=${B#build} # PREFIX of the environment is the name of the testbed
make -s install PREFIX=/usr DESTDIR="$root" B="$B" SAN="${san#-}" >"$LOGS/install.log" 2>&1 || fail "install: $(tail -1 "$LOGS/install.log")"
for file in usr/bin/toe usr/lib/toe/toe-keeper usr/lib/toe/toe-datapath usr/lib/toe/toe-controlplane \
	usr/lib/toe/libtoe.so etc/toe/toe.conf lib/systemd/system/toe.service usr/share/man/man1/toe.1 \
	usr/share/doc/toe/README.md usr/share/doc/toe/mosquitto-toe.conf; do
	[ -s "$root/$file" ] || fail "install: no $file"
done
[ -x "$root/usr/bin/toe" ] || fail "install: toe cannot be executed"
grep -q '^ExecStart=/usr/bin/toe up --foreground' "$root/lib/systemd/system/toe.service" || fail "install: unit starts something else"
echo '# mine' >>"$root/etc/toe/toe.conf"
make -s install PREFIX=/usr DESTDIR="$root" B="$B" SAN="${san#-}" >>"$LOGS/install.log" 2>&1 || fail "install again"
grep -q '^# mine' "$root/etc/toe/toe.conf" || fail "install overwrites the administrator's configuration"
# and out again: all of it, and only that
uninstall() { make -s uninstall PREFIX=/usr DESTDIR="$1" B="$B" SAN="${san#-}" >"$LOGS/uninstall.log" 2>&1 || fail "uninstall: $(tail -1 "$LOGS/uninstall.log")"; }
cp -a "$root" "$root.out"
touch "$root.out/usr/bin/other" "$root.out/usr/lib/toe/other"
mkdir -p "$root.out/etc/systemd/system/mosquitto.service.d"
touch "$root.out/etc/systemd/system/mosquitto.service.d/toe.conf"
uninstall "$root.out"
[ "$(cd "$root.out" && find . -type f | sort | tr '\n' ' ')" = './etc/systemd/system/mosquitto.service.d/toe.conf ./etc/toe/toe.conf '\
'./usr/bin/other ./usr/lib/toe/other ' ] || fail "uninstall leaves: $(cd "$root.out" && find . -type f)"
for text in 'etc/toe/toe.conf has been changed and stays' 'usr/lib/toe is not empty and stays' \
	'mosquitto.service.d/toe.conf is still there'; do
	grep -qF "$text" "$LOGS/uninstall.log" || fail "uninstall does not say that $text: $(cat "$LOGS/uninstall.log")"
done
cp -a "$root" "$root.out2"
cp "$root.out2/usr/share/doc/toe/toe.conf.sample" "$root.out2/etc/toe/toe.conf"
uninstall "$root.out2"
[ -z "$(find "$root.out2" -type f)" ] && [ ! -e "$root.out2/etc/toe" ] && [ ! -s "$LOGS/uninstall.log" ] ||
	fail "uninstall leaves $(find "$root.out2" -type f), says $(cat "$LOGS/uninstall.log")"
rm -rf "$root.out" "$root.out2"

# where it would be: the folder appears in /usr/lib, and the program in /usr/bin, for this process only
# shellcheck disable=SC2016 # for the inner shell
unshare -m sh -ec 'mount -t overlay overlay -o "lowerdir=$1/usr/lib:/usr/lib" /usr/lib
	mount -t overlay overlay -o "lowerdir=$1/usr/bin:/usr/bin" /usr/bin
	cd / && /usr/bin/toe check --json' sh "$root" >"$LOGS/installed.json" 2>"$LOGS/installed.err"
grep -qi 'overlay' "$LOGS/installed.err" && skip "no overlay mounts here: the installed toe was not started"
[ "$(json "$LOGS/installed.json" '.[] | select(.item == "programs") | .text')" = 'in /usr/lib/toe' ] ||
	fail "installed toe: $(cat "$LOGS/installed.err" "$LOGS/installed.json")"
