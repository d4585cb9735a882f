#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Publishes what standard input says, on one connection, QoS 0: lines of TOPIC RETAIN PAYLOAD [SIZE],
the payload filled with blanks up to SIZE bytes.  Ends when the broker has read everything.
usage: pub_lines.py HOST [PORT]"""

import socket
import sys

import mqttc as m


def main():
    sock = socket.create_connection((sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1883), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(60)
    sock.sendall(m.connect(4, ""))
    if sock.recv(4, socket.MSG_WAITALL) != b"\x20\x02\0\0":
        return "refused"
    for line in sys.stdin:
        topic, retain, payload, *size = line.split()
        payload = payload.encode().ljust(int(size[0]) if size else 0)
        sock.sendall(m.publish(4, topic, payload, retain=retain == "1"))
    sock.sendall(m.PINGREQ_BYTES)
    if sock.recv(2, socket.MSG_WAITALL) != b"\xd0\0":
        return "no PINGRESP"
    sock.sendall(m.disconnect(4))
    sock.close()
    return 0


sys.exit(main())
