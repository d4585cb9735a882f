# SPDX-License-Identifier: BSD-3-Clause
"""What scenarios are written with: Run (one scenario against one broker) and its clients.

A scenario never waits for a time to pass in order to see that nothing comes: `settle` pings every client
until a whole round brings nothing but PINGRESPs.  The first answers come from the publishers, so that what
they sent is through the broker; a later answer to a subscriber comes after what was queued for it.

Everything a client receives is recorded: PUBLISHes by (phase, publisher, topic, QoS), in order; other
packets by (phase, type), in order.  No order is recorded between those, because no standard promises any.
The publisher is the first word of the payload, by convention of the scenarios.
"""

import selectors
import socket
import struct
import time

import mqttc as m

LIMIT_S = 20  # for any single condition; reached only when something is wrong
SCENARIOS = {}
EXPIRY_KEY = "message_expiry"


class Failure(Exception):
    """A scenario's own check does not hold, or a condition never came true."""


def scenario(func):
    """Registers a scenario under its name."""
    SCENARIOS[func.__name__] = func
    return func


def options(qos=0, no_local=False, rap=False, handling=0):
    """Subscription options byte (v5 3.8.3.1)."""
    return qos | no_local << 2 | rap << 3 | handling << 4


class Client:
    """One MQTT client; survives reconnects, keeping what the session keeps."""

    def __init__(self, run, name, ver=4, cid=None, **kw):
        self.run, self.name, self.ver = run, name, ver
        self.cid = run.rid + name if cid is None else cid
        self.kw = kw  # of mqttc.connect
        self.auto_ack, self.reading, self.sock = True, True, None
        self.next_pid, self.pending = 0, {}  # packet identifiers of ours without an answer
        self.inflight = {}  # of the server: packet identifier -> QoS
        self.buf = bytearray()
        self.connack, self.pings, self.pongs, self.eof = None, 0, 0, False
        self.messages, self.answers = [], {}
        self.record = True  # False: what it gets is up to chance
        self.strict = True  # False: records what nobody asked for, instead of refusing it
        self.receive_buffer = 0

    # -- connection --

    def open(self):
        """TCP only."""
        self.drop()
        self.buf.clear()
        self.pending.clear()
        self.connack, self.pings, self.pongs, self.eof, self.reading = None, 0, 0, False, True
        self.sock = socket.socket()
        if self.receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self.sock.settimeout(LIMIT_S)
        self.sock.connect((self.run.host, self.run.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.run.selector.register(self.sock, selectors.EVENT_READ, self)
        return self

    def connect(self, wait=True, **kw):
        self.open()
        self.kw.update(kw)
        if self.kw.get("clean", True):
            self.inflight.clear()
        self.send(m.connect(self.ver, self.cid, **self.kw))
        if wait:
            self.run.until(lambda: self.connack or self.eof, f"{self.name}: CONNACK")
            if self.eof or self.connack["code"]:
                raise Failure(f"{self.name}: connection refused: {self.connack}")
        return self

    def drop(self, reset=False):
        """Closes without DISCONNECT."""
        if self.sock:
            self.run.selector.unregister(self.sock)
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
            self.sock = None

    def disconnect(self, reason=None, props=None):
        """DISCONNECT, and waits for the broker's FIN: after that the broker is done with it."""
        self.send(m.disconnect(self.ver, reason, props))
        self.run.until(lambda: self.eof, f"{self.name}: close after DISCONNECT")
        self.drop()

    def send(self, data):
        view = memoryview(data)
        while view and self.sock:
            self.sock.settimeout(LIMIT_S)
            try:
                n = self.sock.send(view[:65536])
            except (BrokenPipeError, ConnectionResetError):
                return  # the reader sees the end of the stream
            view = view[n:]
            if view:
                self.run.pump(0)

    # -- requests --

    def pid(self):
        self.next_pid = self.next_pid % 65535 + 1
        return self.next_pid

    def request(self, data, pid, kind, wait=True):
        self.pending[pid] = kind
        self.send(data)
        if wait:
            what = f"{self.name}: {m.NAMES[kind]} {pid}"
            self.run.until(lambda: pid not in self.pending or self.eof, what)
            if self.eof:
                raise Failure(f"{what}: closed instead")
        return self.answers.get((kind, pid))

    def subscribe(self, *filters, props=None, wait=True):
        """filters: name or (name, options); returns the SUBACK."""
        pairs = [f if isinstance(f, tuple) else (f, 0) for f in filters]
        pid = self.pid()
        return self.request(m.subscribe(self.ver, pid, pairs, props), pid, m.SUBACK, wait)

    def unsubscribe(self, *filters, wait=True):
        pid = self.pid()
        return self.request(m.unsubscribe(self.ver, pid, filters), pid, m.UNSUBACK, wait)

    def publish(self, topic, payload=b"", qos=0, retain=False, props=None, wait=True):
        """QoS 1 and 2 wait for the end of the handshake."""
        payload = payload.encode() if isinstance(payload, str) else payload
        pid = self.pid() if qos else 0
        data = m.publish(self.ver, topic, payload, qos, retain, False, pid, props)
        if not qos:
            self.send(data)
            return None
        return self.request(data, pid, m.PUBACK if qos == 1 else m.PUBCOMP, wait)

    def ping(self):
        self.pings += 1
        self.send(m.PINGREQ_BYTES)

    # -- receiving --

    def readable(self):
        try:
            data = self.sock.recv(262144)
        except OSError:
            data = b""
        if data:
            # an ACK at once: mosquitto leaves Nagle's algorithm on, and a delayed ACK holds its next packet
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if not data:
            self.eof = True
            self.run.selector.unregister(self.sock)
            self.sock.close()
            self.sock = None
            if self.buf and self.record:  # a take-over in a stream may cut it
                self.run.violation(f"{self.name}: closed inside a packet")
            self.note("closed")
            return
        self.buf += data
        try:
            while True:
                got = m.frame(self.buf)
                if not got:
                    return
                del self.buf[:got[2]]
                if self.too_large(got[2]):
                    continue
                self.on_packet(m.decode(self.ver, got[0], got[1]))
                if not self.sock:
                    return
        except m.Malformed as e:
            if self.strict:
                self.run.violation(f"{self.name}: {e}")
            else:
                self.note("malformed", str(e))
            self.eof = True
            self.drop()

    def too_large(self, size):
        """True for a packet of limit + 1 bytes: the standard forbids it, but mosquitto 2.0.11 does not
        count the first byte of a packet; a server may do either."""
        limit = dict(self.kw.get("props") or {}).get("max_packet", 1 << 30)
        if size > limit + 1:
            raise m.Malformed(f"packet of {size} bytes, limit {limit}")
        return size > limit

    def note(self, kind, value=True):
        if self.record:
            self.run.event((self.run.phase, self.name, kind), value)

    def on_packet(self, p):
        kind = p.pop("type")
        if kind == m.PUBLISH:
            self.on_publish(p)
            return
        if kind == m.PINGRESP:
            self.pongs += 1
            if self.pongs > self.pings:
                raise m.Malformed("PINGRESP that nobody asked for")
            return
        if kind == m.CONNACK:
            if self.connack:
                raise m.Malformed("second CONNACK")
            self.connack = p
        elif kind in (m.PUBACK, m.PUBCOMP, m.SUBACK, m.UNSUBACK, m.PUBREC):
            self.on_answer(kind, p)
        elif kind == m.PUBREL:
            self.inflight.pop(p["pid"], None)
            if self.auto_ack:
                self.send(m.ack(m.PUBCOMP, p["pid"]))
            p = dict(p, pid=0)
        self.note(m.NAMES[kind], p)

    def on_answer(self, kind, p):
        pid = p["pid"]
        self.answers[(kind, pid)] = p
        want = self.pending.get(pid)
        if kind == m.PUBREC:
            if want == m.PUBCOMP and p["reason"] >= 0x80:
                del self.pending[pid]
            elif want == m.PUBCOMP:
                self.send(m.ack(m.PUBREL, pid))
        elif want == kind:
            del self.pending[pid]
        elif self.record and self.strict:
            raise m.Malformed(f"{m.NAMES[kind]} {pid} that nobody asked for")

    def on_publish(self, p):
        pid = p.pop("pid", 0)
        if pid:
            if pid in self.inflight and not p["dup"]:
                raise m.Malformed(f"packet identifier {pid} is in use")
            self.inflight[pid] = p["qos"]
            if len(self.inflight) > dict(self.kw.get("props") or {}).get("receive_max", 65535):
                raise m.Malformed("more messages in flight than Receive Maximum")
        self.messages.append(p)
        self.note(("PUBLISH", publisher(p["payload"]), p["topic"], p["qos"]), p)
        if not self.auto_ack:
            return
        if p["qos"] == 1:
            self.inflight.pop(pid)
            self.send(m.ack(m.PUBACK, pid))
        elif p["qos"] == 2:
            self.send(m.ack(m.PUBREC, pid))

    def payloads(self):
        return [p["payload"].decode() for p in self.messages]


def publisher(payload):
    word = payload[:40].split(b" ")[0]
    return word.decode() if word and len(word) < 40 and word.isalnum() else "-"


class Run:
    """One scenario against one broker."""

    def __init__(self, name, host, port, rid):
        self.name, self.host, self.port = name, host, port
        self.rid = f"{rid}{name}"  # the same for both brokers: lengths count
        self.selector = selectors.DefaultSelector()
        self.clients, self.phase, self.events, self.problems = [], "", {}, []

    def t(self, topic=""):
        """A topic of this scenario's own."""
        return f"{self.rid}/{topic}" if topic else self.rid

    def client(self, name, ver=4, **kw):
        c = Client(self, name, ver, **kw)
        self.clients.append(c)
        return c

    def connected(self, name, ver=4, **kw):
        return self.client(name, ver, **kw).connect()

    def event(self, key, value):
        self.events.setdefault(key, []).append(value)

    def violation(self, text):
        self.problems.append(f"{self.phase or 'start'}: {text}")

    def check(self, condition, text):
        if not condition:
            raise Failure(f"{self.phase or 'start'}: {text}")

    def begin(self, phase):
        self.phase = phase

    def pump(self, timeout):
        for key, _ in self.selector.select(timeout):
            if key.data.reading and key.data.sock:
                key.data.readable()

    def hold(self, client):
        """The client stops reading: its receive buffer and then its window fill up."""
        client.reading = False
        self.selector.unregister(client.sock)

    def release(self, client):
        client.reading = True
        self.selector.register(client.sock, selectors.EVENT_READ, client)

    def until(self, condition, what, limit=LIMIT_S):
        end = time.monotonic() + limit
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                raise Failure(f"{self.phase or 'start'}: waited in vain for {what}")
            self.pump(min(left, 0.5))

    def pinged(self, clients):
        for c in clients:
            c.ping()
        self.until(lambda: all(c.pongs == c.pings or c.eof for c in clients), "PINGRESP of " +
                   ", ".join(c.name for c in clients if c.pongs != c.pings))

    def settle(self):
        """Until nothing is under way any more."""
        quiet = 0
        while quiet < 2:
            before = sum(len(v) for v in self.events.values())
            self.pinged([c for c in self.clients if c.sock and c.reading and c.connack])
            quiet = quiet + 1 if before == sum(len(v) for v in self.events.values()) else 0

    def provoke(self, client, data):
        """Sends what may make the broker close; True if it did.  The PINGREQ behind it, unread when the
        broker closes, turns the close into a reset: the broker's last word must come before that."""
        client.send(data)
        client.ping()
        self.until(lambda: client.eof or client.pings == client.pongs, "answer or close")
        return client.eof

    def close(self):
        for c in self.clients:
            c.drop()
        self.selector.close()


# ---- comparing --------------------------------------------------------------------------------------

def normal(events):
    """Copies of one message for overlapping subscriptions may come in any order."""
    out = {}
    for key, values in events.items():
        values = [dict(v, props=_props(v["props"])) if isinstance(v, dict) and "props" in v else v
                  for v in values]
        if isinstance(key[2], tuple):
            runs = []
            for v in values:
                if runs and runs[-1][0]["payload"] == v["payload"]:
                    runs[-1].append(v)
                else:
                    runs.append([v])
            values = [v for run in runs for v in sorted(run, key=repr)]
        out[key] = values
    return out


def _props(props):
    """User properties keep their order; the order of others means nothing."""
    out = {k: props[k] for k in sorted(props)}
    if "assigned_client_id" in out:
        out["assigned_client_id"] = [bool(out["assigned_client_id"][0])]
    if "subscription_id" in out:
        out["subscription_id"] = sorted(out["subscription_id"])
    return out


def same(a, b, key=None):
    if key == EXPIRY_KEY and isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(abs(x - y) <= 1 for x, y in zip(a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], k) for k in a)
    return a == b


def brief(v):
    if isinstance(v, dict) and len(v.get("payload", b"")) > 60:
        v = dict(v, payload=v["payload"][:40] + b"... %d bytes" % len(v["payload"]))
    return str(v)[:300]


def difference(a, b):
    """Readable lines, none if equal; a and b are Run.events of the same scenario."""
    lines = []
    a, b = normal(a), normal(b)
    for key in sorted(a.keys() | b.keys(), key=repr):
        x, y = a.get(key, []), b.get(key, [])
        if len(x) == len(y) and all(same(i, j) for i, j in zip(x, y)):
            continue
        phase, client, kind = key
        lines.append(f"in phase '{phase}', client {client}, {kind}: A has {len(x)}, B has {len(y)}")
        at = next((i for i, (p, q) in enumerate(zip(x, y)) if not same(p, q)), min(len(x), len(y)))
        for side, values in (("A", x), ("B", y)):
            shown = brief(values[at]) if at < len(values) else "nothing more"
            lines.append(f"   {side}[{at}]: {shown}")
    return lines
