# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Sourced by tests/net/*.sh behind net.sh: which topics are fast and which are slow, and why; each subscriber has each
# message once and in order.  The messages of a topic are numbers.

m() { "$BIN/toe" mqtt "$@" || fail "toe mqtt $*: exit code $?"; }
of() { m status --json | jq -r "$1"; }
is() { [ "$(of "$1")" = "$2" ]; }
state() { m subs --json | jq -r "[.[] | select(.filter == \"$1\") | .state] | join(\",\")"; }
state_is() { [ "$(state "$1")" = "$2" ]; }
# Connections of the broker: in the engine but not of mqtt.ports, of them followed, the kernel's, of them followed
conns() { is '"\(.other_conns) \(.other_followed) \(.kernel_conns) \(.kernel_followed)"' "$*"; }
SUBSCRIBER=(stdbuf -oL mosquitto_sub -d -v)
# subscribed SPAWN NAME ARGS...: SUBSCRIBER, by srv_spawn or cli_spawn; returns when the broker has subscribed it
subscribed()
{
	local how=$1 name=$2
	shift 2
	"$how" "$name" "${SUBSCRIBER[@]}" "$@"
	wait_for 10 "$name to subscribe" grep -q 'Subscribed (mid' "$LOGS/$name.log"
}
# A certificate of the broker's, cert.pem and key.pem in the logs
make_cert()
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$SRV" \
		-addext "subjectAltName=IP:$SRV,IP:127.0.0.1" -keyout "$LOGS/key.pem" -out "$LOGS/cert.pem" 2>"$LOGS/openssl.log" ||
		fail "openssl: $(tail -1 "$LOGS/openssl.log")"
	chmod 644 "$LOGS/key.pem"
}
publish() { seq "$2" "$3" | in_cli mosquitto_pub -h "$SRV" -t "$1" -l || fail mosquitto_pub; }
# has NAME TOPIC FIRST LAST: those, once, in order
has()
{
	wait_for 10 "message $4 of $2 at $1" grep -qx "$2 $4" "$LOGS/$1.log"
	cmp -s <(grep "^$2 " "$LOGS/$1.log") <(seq "$3" "$4" | sed "s|^|$2 |") || fail "$1, $2: not $3 to $4, once, in order"
}
# why REASON TOPIC FIRST LAST: all of them, and the subscriber "sub" of all topics gets them
why()
{
	local before
	before=$(of ".publishes.$1")
	publish "$2" "$3" "$4"
	wait_for 10 "message $4 of $2" grep -qx "$2 $4" "$LOGS/sub.log"
	[ "$(of ".publishes.$1")" -eq $((before + $4 - $3 + 1)) ] || fail "$2 is not $1: $(m slow)"
}
# only_its_topics_are_slow NAME: which is subscribed to b/+ and c, and is read along; a is at 20, the others at nothing
only_its_topics_are_slow()
{
	[ "$(state 'b/+') $(state c)" = "kernel kernel" ] || fail "its subscriptions: $(m subs)"
	why FAST a 21 40
	why KERNEL b/x 1 20
	why KERNEL c 1 20
	why FAST b 1 20
	has "$1" b/x 1 20
	has "$1" c 1 20
	m status | grep -q 'all slow' && fail "all topics are said to be slow: $(m status)"
	return 0
}
# fast_and_slow NAME: behind only_its_topics_are_slow, b/x and a in turn, 41 to 1040; sub and NAME get them in order
fast_and_slow()
{
	local who
	seq 1000 | awk '{ print $1 % 2 ? "b/x" : "a", 0, 40 + $1 }' | in_cli tests/mqtt/pub_lines.py "$SRV" || fail pub_lines.py
	wait_for 10 "the last of them" grep -qx 'a 1040' "$LOGS/sub.log"
	wait_for 20 "the last one at $1" grep -qx 'b/x 1039' "$LOGS/$1.log"
	cmp -s <(grep '^a ' "$LOGS/sub.log" | tail -500) <(seq 42 2 1040 | sed 's|^|a |') || fail "sub, a"
	for who in sub "$1"; do
		cmp -s <(grep '^b/x ' "$LOGS/$who.log" | tail -500) <(seq 41 2 1039 | sed 's|^|b/x |') || fail "$who, b/x"
	done
}
# slow_publisher COMMAND...: publishes what it reads on b/x; the broker delivers, to sub and one
slow_publisher()
{
	seq 1041 1060 | in_cli "$@" || fail "$*"
	wait_for 10 "its last message" grep -qx 'b/x 1060' "$LOGS/one.log"
	wait_for 10 "its last message" grep -qx 'b/x 1060' "$LOGS/sub.log"
	wait_for 10 "it to be gone" conns 1 1 0 0
}
# through_the_kernel ARGS...: beside one through the engine; MQTT 5; pid in TWO, which stays
through_the_kernel()
{
	subscribed srv_spawn two -h 127.0.0.1 "$@" -V 5 -t 'd/#'
	TWO=$SPAWNED
	conns 1 1 1 1 || fail "not followed: $(m status --json)"
	why FAST e 1 20
	why KERNEL d/x 1 20
	has two d/x 1 20
}
# session_begins TOPIC ARGS...: one that lasts, through the engine, beside these two
session_begins()
{
	local topic=$1
	shift
	subscribed cli_spawn lasts -h "$SRV" "$@" -c -i lasts -q 1 -t "$topic"
	conns 2 2 1 1 || fail "not followed: $(m status --json)"
	why KERNEL "$topic" 1 20
	end_process "$SPAWNED"
	wait_for 10 "it to be gone" conns 1 1 1 1
	why FAST "$topic" 21 40
}
# session_resumed TOPIC OTHER ARGS...: that session, through the kernel, where it subscribes to OTHER, too
session_resumed()
{
	local topic=$1 other=$2
	shift 2
	subscribed srv_spawn again -h 127.0.0.1 "$@" -c -i lasts -q 1 -t "$other"
	conns 1 1 2 2 || fail "not followed when it comes back: $(m status --json)"
	why KERNEL "$topic" 41 60
	has again "$topic" 41 60
	end_process "$SPAWNED"
	wait_for 10 "it to be gone" conns 1 1 1 1
}
