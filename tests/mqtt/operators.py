#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""operators.py SOCKET N: bad clients of the datapath's module socket, until it is killed.

N connections at a time, each of its kind: silent, half a question, a question byte by byte, a line without
an end, an answer that is never read, a list that is left in the middle, questions one after the other, news
of the kernel with nonsense in them.  Who is closed comes again.  Says "ready" once all kinds have begun.
"""

import random
import socket
import sys
import threading
import time

LONG = b"mqtt subs " + b"\xff" * 65536


def connected(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    return s


def held(s, text):
    s.sendall(text)
    while s.recv(65536):  # until it is closed
        pass


def unread(s):
    s.sendall(b"mqtt subs\n")
    time.sleep(5)


def drip(s):
    for c in b"mqtt status" + b" " * 500:
        s.sendall(bytes([c]))
        time.sleep(0.05)


def middle(s):
    s.sendall(b"mqtt subs\n")
    s.recv(100)


KINDS = (
    lambda s: held(s, b""), lambda s: held(s, b"mqtt sta"), drip, lambda s: held(s, LONG), unread, middle,
    lambda s: held(s, b"mqtt subs\n"), lambda s: held(s, b"mqtt sessions \0\n"),
    lambda s: held(s, b"mqtt kernel 4294967295 -1 99999999999999999999 7 zz\n"), lambda s: held(s, b"\n"),
    lambda s: held(s, b"mqtt filter_add " + b"a/" * 400 + b"#\n"),
)


def one(path, number, begun):
    while True:
        try:
            with connected(path) as s:
                begun.add(number)
                KINDS[number % len(KINDS)](s)
        except OSError:
            time.sleep(random.random() / 20)


def main():
    begun = set()
    n = int(sys.argv[2])
    for i in range(n):
        threading.Thread(target=one, args=(sys.argv[1], i, begun), daemon=True).start()
    while len(begun) < min(n, len(KINDS)):
        time.sleep(0.01)
    print("ready", flush=True)
    threading.Event().wait()


main()
