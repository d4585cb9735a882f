#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Debian's source of mosquitto, built with what Debian's package leaves out: listeners for WebSocket.  Prints the path of
# the program, build/mosquitto-ws/mosquitto; fetched and built once (10 s, needs the Debian mirror of this machine).
# Exit code 1, and why on stderr: not available.
set -eu
cd "$(dirname "$0")/../.."
OUT=$PWD/build/mosquitto-ws
mkdir -p "$OUT"
exec 9>"$OUT/lock"
flock 9
if [ ! -x "$OUT/mosquitto" ]; then
	rm -rf "$OUT/src"
	mkdir -p "$OUT/src/lists/partial" "$OUT/src/parts"
	# the packages' own sources, as source; one-line and deb822 style
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ -f "$f" ] && sed 's/^deb /deb-src /; s/^Types: *deb *$/Types: deb-src/' "$f" >"$OUT/src/parts/${f##*/}"
	done
	apt=(apt-get -q -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$OUT/src/parts"
		-o "Dir::State::lists=$OUT/src/lists" -o APT::Sandbox::User=root -o Acquire::Retries=3)
	{
		cd "$OUT/src"
		"${apt[@]}" update && "${apt[@]}" source mosquitto &&
			make -C mosquitto-*/src WITH_WEBSOCKETS=yes WITH_DOCS=no mosquitto
	} >"$OUT/log" 2>&1 </dev/null || { echo "mosquitto_ws.sh: cannot build it: $(tail -1 "$OUT/log")" >&2; exit 1; }
	mv mosquitto-*/src/mosquitto "$OUT/mosquitto"
	rm -rf "$OUT/src"
fi
echo "$OUT/mosquitto"
