#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# make uninstall: removes what make install puts below DESTDIR and PREFIX, and nothing else: not a configuration that
# somebody has changed, not a folder with something else in it.  Says what stays.  Exit code 1: an engine is running.
set -u
cd "$(dirname "$0")/.." || exit 1
: "${DESTDIR:=}" "${PREFIX:=/usr}"
D=$DESTDIR$PREFIX
CONF=$DESTDIR/etc/toe/toe.conf

say() { echo "uninstall: $*"; }

# the keeper starts the other programs again: they have to be there
if [ -z "$DESTDIR" ] && [ -x "$D/bin/toe" ] && "$D/bin/toe" status >/dev/null 2>&1; then
	say "an engine is running: toe down (or systemctl disable --now toe) first" >&2
	exit 1
fi
if [ -e "$CONF" ]; then
	if cmp -s "$CONF" "$D/share/doc/toe/toe.conf.sample"; then
		rm -f "$CONF"
	else
		say "$CONF has been changed and stays"
	fi
fi
rm -f "$D/bin/toe" "$D/lib/toe/"{toe-keeper,toe-datapath,toe-controlplane,libtoe.so} \
	"$D/share/man/man1/toe.1" "$DESTDIR/lib/systemd/system/toe.service" \
	"$D/share/doc/toe/"{README.md,CHANGES.md,toe.conf.sample,mosquitto-toe.conf}
for file in docs/*.md; do
	rm -f "$D/share/doc/toe/${file#docs/}"
done
for dir in "$D/lib/toe" "$D/share/doc/toe" "$DESTDIR/etc/toe"; do
	[ -d "$dir" ] && rmdir --ignore-fail-on-non-empty "$dir"
	[ -d "$dir" ] && [ "$(ls -A "$dir")" != toe.conf ] && say "$dir is not empty and stays"
done
# not of make install, but of no use without it
for file in "$DESTDIR/etc/systemd/system/"{multi-user.target.wants/toe.service,mosquitto.service.d/toe.conf}; do
	[ -e "$file" ] || [ -L "$file" ] || continue
	say "$file is still there: remove it, then systemctl daemon-reload"
done
exit 0
