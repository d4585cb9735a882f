#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A subscriber over WebSocket that does what the standards forbid and brokers take: CONNECT, SUBSCRIBE and the
request behind which they belong in one piece, lines that end without CR, frames of text without a mask.
usage: web_odd.py HOST PORT TOPIC; prints as mosquitto_sub -d -v, until the broker closes."""

import socket
import sys

import mqttc as m

HEAD = ("GET /mqtt HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: mqtt\n\n")


def frame(data):
    return bytes([0x81, len(data)]) + data


def packets(stream):
    """What the broker sends: frames of less than 126 bytes, one packet each, as mosquitto makes them."""
    while stream.readline().strip():
        pass
    while head := stream.read(2):
        yield stream.read(head[1])


def main():
    host, port, topic = sys.argv[1:]
    sock = socket.create_connection((host, int(port)), 10)
    sock.settimeout(None)
    sock.sendall(HEAD.encode() + frame(m.connect(4, "odd")) + frame(m.subscribe(4, 1, [(topic, 0)])))
    for p in packets(sock.makefile("rb")):
        if p[0] >> 4 == 9:
            print("Subscribed (mid: 1)", flush=True)
        elif p[0] >> 4 == 3:
            n = 4 + p[3]
            print(p[4:n].decode(), p[n:].decode(), flush=True)
    return 0


sys.exit(main())
