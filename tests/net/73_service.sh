#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What systemd sees of the engine and of a broker on it, with the commands of the units and without systemd: the main
# process says when it is ready, ends with 1 when the data path dies and with 0 when it is asked to; what a killed one
# left taken over is put back.
# PLACEMENTS: single
. "$(dirname "$0")/../lib/net.sh"
testbed_up
in_srv "$BIN/toe" down >"$LOGS/down.log" 2>&1 || fail "toe down: $(cat "$LOGS/down.log")"
in_srv ip addr add $SRV/24 dev toe0 # as outside of testbeds: it is the port's, the engine borrows it

UNITS=$LOGS/units
mkdir -p "$UNITS/mosquitto.service.d"
write_mosquitto_conf
# of FILE: for this testbed
of() { sed "s|@PREFIX@/bin/toe|$BIN/toe|g; s|@PREFIX@|/usr|g; s|/etc/toe/toe.conf|$ENGINE_CONFIG|g; s|/etc/mosquitto/|$LOGS/|g" "$1"; }
of mk/toe.service.in >"$UNITS/toe.service"
of mk/mosquitto-toe.conf.in >"$UNITS/mosquitto.service.d/toe.conf"
cp /lib/systemd/system/mosquitto.service "$UNITS/" 2>/dev/null ||
	printf '[Service]\nType=notify\nExecStart=/bin/true\n' >"$UNITS/mosquitto.service"
if command -v systemd-analyze >/dev/null; then
	systemd-analyze verify --man=no "$UNITS/toe.service" "$UNITS/mosquitto.service" >"$LOGS/verify.log" 2>&1 &&
		[ ! -s "$LOGS/verify.log" ] || fail "units: $(head -3 "$LOGS/verify.log")"
fi
# command KEY FILE: the last one of that key, as a shell understands it
command_of() { sed -n "s/^$1=-\{0,1\}//p" "$UNITS/$2" | sed 's/\$\$/$/g' | tail -1; }

# notifications: "PID TEXT" per line; by path, because abstract names are of one network namespace
NOTIFY=/tmp/toe-notify-$PREFIX
end()
{
	local status=$?
	rm -f "$NOTIFY"
	net_end $status
}
trap end EXIT
spawn notify python3 -u -c '
import os, socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
print("listens")
while True:
    text, extra, _, _ = s.recvmsg(4096, 256)
    print(struct.unpack("3i", extra[0][2][:12])[0], text.decode().replace("\n", " "))' "$NOTIFY"
wait_for 10 "the receiver of notifications" grep -q listens "$LOGS/notify.log"
# says PID TEXT
says() { grep -q "^$1 $2" "$LOGS/notify.log"; }
# service NAME COMMAND: as systemd starts it; pid in SPAWNED
service()
{
	# shellcheck disable=SC2086 # words
	srv_spawn "$1" env NOTIFY_SOCKET="$NOTIFY" bash -c "exec $2"
}
start_engine()
{
	service keeper "$(command_of ExecStart toe.service)"
	ENGINE=$SPAWNED
	wait_for 20 "the engine to say that it is ready" says "$ENGINE" 'READY=1 STATUS=engine is up: port toe0'
}
# ends PID: its exit code in RC
ends() { wait_for 10 "process $1 to end" gone "$1"; wait "$1"; RC=$?; }
LOCK=/run/toe-port-toe0.$(stat -Lc %i "/run/netns/$PREFIX-srv").lock
port()
{
	ip -n "$PREFIX-srv" -4 -o addr show dev toe0 | awk '{ print $4 }'
	ip -n "$PREFIX-srv" route show dev toe0
	in_srv nft list tables
	ls "$LOCK" 2>/dev/null
}
port >"$LOGS/port.before"
as_before() { diff <(port) "$LOGS/port.before" || fail "$1: the port is not as before"; }

# ---- ready is up, and the children say nothing in its name
start_engine
"$BIN/toe" status --json >"$LOGS/status.json" || fail "said to be ready, but $(cat "$LOGS/status.json")"
[ "$(json "$LOGS/status.json" .keeper_pid)" = "$ENGINE" ] || fail "the keeper is not the main process"
for program in toe-datapath toe-controlplane; do
	tr '\0' '\n' <"/proc/$(pid_of $program)/environ" | grep '^NOTIFY_SOCKET' && fail "$program has NOTIFY_SOCKET"
done

# ---- a broker, offloaded, that says itself when it is ready
ready_broker()
{
	service mosquitto "$(command_of ExecStart mosquitto.service.d/toe.conf)"
	BROKER_PID=$SPAWNED
	if ldd "$(command -v mosquitto)" | grep -q libsystemd; then
		wait_for 10 "mosquitto to say that it is ready" says "$BROKER_PID" READY=1
	fi
	wait_for 10 "mosquitto" broker_answers
}
ready_broker
[ "$("$BIN/toe" status --json | jq .applications)" = 1 ] || fail "the broker is not offloaded"

# ---- the data path dies: a failure, for Restart=on-failure; the broker goes on
kill -9 "$(pid_of toe-datapath)"
ends "$ENGINE"
[ "$RC" -eq 1 ] || fail "killed data path: the main process ended with $RC"
says "$ENGINE" 'STOPPING=1 STATUS=datapath killed by signal 9' || fail "no reason: $(tail -1 "$LOGS/notify.log")"
as_before "killed data path"
wait_for 10 "mosquitto through the kernel" broker_answers
end_process "$BROKER_PID"
# and where there is no engine it starts all the same
ready_broker
grep -q 'WARNING: .*runs on the kernel' "$LOGS/mosquitto.log" || fail "no warning: $(head -1 "$LOGS/mosquitto.log")"
end_process "$BROKER_PID"

# ---- stopped: by SIGTERM to the main process
start_engine
kill "$ENGINE"
ends "$ENGINE"
[ "$RC" -eq 0 ] || fail "stopped: the main process ended with $RC"
says "$ENGINE" STOPPING=1 || fail "it does not say that it stops"
as_before "stopped"
post() { in_srv env SERVICE_RESULT="$1" bash -c "$(command_of ExecStopPost toe.service)" >"$LOGS/post.log" 2>&1; }
post success || fail "ExecStopPost, nothing to do: $(cat "$LOGS/post.log")"
[ ! -s "$LOGS/post.log" ] || fail "ExecStopPost, nothing to do, says $(cat "$LOGS/post.log")"

# ---- killed: what runs after it puts the port back
start_engine
kill -9 "$ENGINE"
ends "$ENGINE"
[ -e "$RUN_DIR/engine.conf" ] || fail "killed: nothing is left to put back"
post signal || fail "ExecStopPost after a kill: $(cat "$LOGS/post.log")"
grep -q 'put back toe0' "$LOGS/post.log" || fail "ExecStopPost after a kill: $(cat "$LOGS/post.log")"
as_before "killed"

# ---- in the background it is nobody's main process
lines=$(wc -l <"$LOGS/notify.log")
in_srv env NOTIFY_SOCKET="$NOTIFY" "$BIN/toe" up --config "$ENGINE_CONFIG" >"$LOGS/up.log" 2>&1 || fail "toe up: $(cat "$LOGS/up.log")"
in_srv "$BIN/toe" down >"$LOGS/down.log" 2>&1 || fail "toe down: $(cat "$LOGS/down.log")"
[ "$(wc -l <"$LOGS/notify.log")" = "$lines" ] || fail "toe up in the background notifies: $(tail -1 "$LOGS/notify.log")"
