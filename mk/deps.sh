#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Installs the packages of mk/packages that are missing; quick and silent when none is.
set -eu
cd "$(dirname "$0")/.."

mapfile -t want < <(sed 's/#.*//; /^[[:space:]]*$/d' mk/packages)
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')
missing=()
for p in "${want[@]}"; do
	grep -qxF "$p" <<<"$installed" || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "missing packages: ${missing[*]}" >&2
	echo "install them as root: apt-get install ${missing[*]}   (or: sudo make deps)" >&2
	exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Services of the packages are not wanted: mosquitto would take port 1883.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
	trap 'rm -f "$log" '$policy EXIT
fi
if ! { apt-get -q update && apt-get -q install -y --no-install-recommends "${missing[@]}"; } \
	>"$log" 2>&1 </dev/null; then
	tail -20 "$log" >&2
	echo "apt-get failed; missing: ${missing[*]}" >&2
	exit 1
fi
