#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Publishers that come back: a few ClientIDs, each ending its connection and beginning the next one at once, by
DISCONNECT, close, reset or take-over, with a will, with messages behind CONNECT, fast and retained ones in turn.
Two subscribers see each message once, in the order (connection, number), the will last.  Which of them the broker
does not get to see before the next connection takes the old one's place is up to chance (it closes that one); all
of the last connection have to come.  Before that, some whose CONNECT the broker answers by closing, and who have gone
by then.  usage: again.py HOST CONNECTIONS [SEED]"""

import random
import select
import socket
import struct
import sys
import threading
import time

import mqttc as m

IDS = 4
PORT = 1883
LIMIT_S = 60
WILL = 1 << 30


def connected(host, data):
    """A connection that has sent data, which begins with CONNECT, and has read CONNACK."""
    sock = socket.create_connection((host, PORT), LIMIT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    cut = random.randrange(1, len(data)) if random.random() < 0.3 else len(data)
    sock.sendall(data[:cut])
    sock.sendall(data[cut:])
    if sock.recv(4, socket.MSG_WAITALL) != b"\x20\x02\0\0":
        raise RuntimeError("refused")
    return sock


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def refused(host):
    data = bytearray(m.connect(4, "refused"))
    data[data.index(b"MQTT") + 5] |= 1  # 3.1.2.3: reserved
    sock = socket.create_connection((host, PORT), LIMIT_S)
    sock.sendall(data)
    reset(sock)


class Publisher(threading.Thread):
    def __init__(self, host, name, connections):
        super().__init__()
        self.host, self.name_, self.connections = host, name, connections
        self.must = set()  # (connection, number) that have to arrive
        self.sent = 0
        self.error = None

    def message(self, conn, number):
        retain = random.random() < 0.05
        return m.publish(4, f"again/{'r' if retain else ''}{self.name_}",
                         f"{self.name_} {conn} {number}".encode().ljust(random.choice((16, 500))), retain=retain)

    def one(self, conn, old):
        """Returns the connection if it is to be taken over."""
        last = conn == self.connections
        end = "disconnect" if last else random.choice(("disconnect", "close", "reset", "take-over"))
        number = random.choice((0, 5))
        will = {"topic": "again/will", "payload": f"{self.name_} {conn} {WILL}".encode()}
        sock = connected(self.host, m.connect(4, self.name_, will=will) +
                         b"".join(self.message(conn, n) for n in range(number)))
        if old:
            old.close()
        for _ in range(random.randrange(1, 5)):
            more = random.randrange(1, 50)
            sock.sendall(b"".join(self.message(conn, number + n) for n in range(more)))
            number += more
        self.sent += number
        if last:
            self.must = {(conn, n) for n in range(number)}
        if end == "take-over":
            return sock
        if end == "disconnect":
            sock.sendall(m.disconnect(4))
        if end == "reset":
            reset(sock)
        else:
            sock.close()
        return None

    def run(self):
        old = None
        try:
            for conn in range(1, self.connections + 1):
                old = self.one(conn, old)
        except (OSError, RuntimeError) as e:
            self.error = f"{self.name_}: {e!r}"


class Subscriber(threading.Thread):
    def __init__(self, host):
        super().__init__()
        self.sock = connected(host, m.connect(4, ""))
        self.sock.sendall(m.subscribe(4, 1, [("again/#", 0)]) + m.PINGREQ_BYTES)
        self.buf = b""
        self.seen = {}  # ClientID -> (connection, number) in the order of arrival
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            if not select.select([self.sock], [], [], 0.1)[0]:
                continue
            self.buf += self.sock.recv(1 << 16)
            while (got := m.frame(self.buf)) is not None:
                first, body, size = got
                self.buf = self.buf[size:]
                if first >> 4 == m.PUBLISH:
                    name, conn, number = m.decode(4, first, body)["payload"].split()
                    self.seen.setdefault(name.decode(), []).append((int(conn), int(number)))

    def lacks(self, publisher):
        return publisher.must - set(self.seen.get(publisher.name_, [])[-len(publisher.must):])


def main():
    host, connections = sys.argv[1], int(sys.argv[2])
    random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    for _ in range(40):
        refused(host)
    subscribers = [Subscriber(host) for _ in range(2)]
    for s in subscribers:
        s.start()
    publishers = [Publisher(host, f"p{i}", connections) for i in range(IDS)]
    for p in publishers:
        p.start()
    for p in publishers:
        p.join()
    wrong = [p.error for p in publishers if p.error]
    until = time.monotonic() + LIMIT_S
    while not wrong and time.monotonic() < until and any(s.lacks(p) for s in subscribers for p in publishers):
        time.sleep(0.05)
    for s in subscribers:
        s.done.set()
        s.join()
    for p in publishers:
        for s in subscribers:
            seen = s.seen.get(p.name_, [])
            if s.lacks(p):
                wrong.append(f"{p.name_}: {len(s.lacks(p))} of the last {len(p.must)} have not come")
            wrong += [f"{p.name_}: {b} behind {a}" for a, b in zip(seen, seen[1:]) if b <= a][:3]
    came = sum(number != WILL for seen in subscribers[0].seen.values() for _, number in seen)
    print("\n".join(wrong) or f"{IDS * connections} connections, {came} of {sum(p.sent for p in publishers)} messages, in order")
    return 1 if wrong else 0


sys.exit(main())
