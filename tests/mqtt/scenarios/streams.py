# SPDX-License-Identifier: BSD-3-Clause
"""Bytes and order: sizes, segmentation, back-pressure, malformed packets, streams that change course."""

import random
import struct

import mqttc as m
from harness import Failure, scenario


@scenario
def payload_sizes(r):
    """Nothing, one byte, the edges of the length field, 256 KB."""
    p = r.connected("p", 5)
    for ver in (3, 4, 5):
        for qos in (0, 1):
            r.connected(f"s{ver}{qos}", ver).subscribe((r.t("y"), qos))
    r.settle()
    head = 2 + len(r.t("y"))
    sizes = [0, 1, 2] + [edge - head + d for edge in (128, 16384) for d in range(-4, 3)]
    sizes += [1460, 65535, 65536, 262144]
    for qos in (0, 1, 2):
        r.begin(f"qos {qos}")
        for size in sizes:
            p.publish(r.t("y"), (b"p " + b"%08x" % size * (size // 8 + 1))[:size], qos)
            r.settle()
    r.begin("more than may be held")
    p.publish(r.t("y"), b"p " + b"0123456789abcdef" * 140000, 0)  # 2.2 MB, then a small one behind it
    p.publish(r.t("y"), b"p small", 0)
    r.settle()


@scenario
def split_everywhere(r):
    """A PUBLISH cut into two segments at every byte, and into bytes."""
    for ver in (4, 5):
        s = r.connected(f"s{ver}", ver)
        s.subscribe((r.t("#"), 1))
    r.settle()
    for ver in (4, 5):
        p = r.connected(f"p{ver}", ver)
        props = [("user", ("a", "b")), ("content_type", "c")] if ver == 5 else None
        for qos in (0, 1):
            r.begin(f"v{ver} qos {qos}")
            size = len(m.publish(ver, r.t("cut"), b"p 000" + b"x" * 150, qos, pid=1, props=props))
            for at in list(range(1, size)) + [0]:
                pid = p.pid()
                data = m.publish(ver, r.t("cut"), b"p %03d" % at + b"x" * 150, qos, pid=pid, props=props)
                p.pending.update({pid: m.PUBACK} if qos else {})
                if at:
                    p.send(data[:at])
                    p.send(data[at:])
                else:
                    for i in range(len(data)):
                        p.send(data[i:i + 1])
            r.until(lambda p=p: not p.pending, "PUBACKs")
            r.settle()


@scenario
def many_in_one_segment(r):
    """100 PUBLISHes in one write, of one QoS and mixed, with other packets between them."""
    short = r.rid[:5]  # nobody else's topic: the run's own number
    for qos in (0, 1, 2):
        r.connected(f"s{qos}", (3, 4, 5)[qos]).subscribe((r.t("n/#"), qos), (short, qos))
    r.settle()
    p = r.connected("p")
    r.begin("100 of QoS 0")
    data = b"".join(m.publish(4, short, b"%03d" % i) for i in range(100))
    r.check(len(data) < 1400, "100 packets are more than a segment")
    p.send(data)
    r.settle()
    r.begin("300 in several")
    p.send(b"".join(m.publish(4, r.t("n"), b"p %03d" % i) for i in range(300)))
    r.settle()
    r.begin("mixed")
    data = b""
    for i in range(100):
        qos = i % 2
        pid = p.pid() if qos else 0
        if qos:
            p.pending[pid] = m.PUBACK
        data += m.publish(4, r.t("n/m"), b"p %03d" % i, qos, i % 7 == 0, False, pid)
        if i % 10 == 9:
            p.pings += 1
            data += m.PINGREQ_BYTES
        if i == 50:
            p.pending[60000] = m.SUBACK
            data += m.subscribe(4, 60000, [(r.t("n/m"), 0)])
        if i == 80:
            p.pending[60001] = m.UNSUBACK
            data += m.unsubscribe(4, 60001, [r.t("n/m")])
    p.send(data)
    r.until(lambda: not p.pending, "answers")
    r.settle()
    r.begin("last words")
    p.send(b"".join(m.publish(4, r.t("n"), b"p %03d" % i) for i in range(50)) + m.disconnect(4))
    r.until(lambda: p.eof, "close")
    r.settle()
    r.begin("connect and all at once")
    q = r.client("q")
    q.open()
    q.pending[1] = m.SUBACK
    q.pings = 1
    q.send(m.connect(4, q.cid) + m.subscribe(4, 1, [(r.t("n/q"), 0)]) +
           b"".join(m.publish(4, r.t("n/q"), b"q %03d" % i) for i in range(20)) + m.PINGREQ_BYTES)
    r.until(lambda: not q.pending and q.connack and q.pongs, "answers")
    r.settle()


@scenario
def back_pressure(r):
    """A subscriber that stops reading has retained messages and SUBACK waiting behind a full window;
    it gets a prefix of everything in order, others get all."""
    p = r.connected("p")
    n_kept, size, n = 100, 80000, 400  # 8 MB: more than socket buffers take
    for i in range(n_kept):
        p.publish(r.t(f"kept/{i:03d}"), b"k %05d " % i + b"x" * size, 0, True)
    fine = r.connected("fine")
    fine.subscribe((r.t("live"), 0))
    stuck = r.client("stuck")
    stuck.receive_buffer = 16384
    stuck.connect()
    r.settle()
    stuck.record = False
    stuck.subscribe((r.t("live"), 0))
    r.hold(stuck)
    pid = stuck.pid()
    stuck.pending[pid] = m.SUBACK
    stuck.send(m.subscribe(4, pid, [(r.t("kept/#"), 0)]))
    r.begin("stuck")
    for i in range(n):
        p.publish(r.t("live"), b"p %04d " % i + b"y" * 200, 0)
        if i % 20 == 0:
            r.pinged([p, fine])
    r.settle()
    r.begin("released")
    r.release(stuck)
    r.until(lambda: pid not in stuck.pending, "SUBACK")
    r.settle()
    kept = [x for x in stuck.messages if x["topic"] != r.t("live")]
    live = [int(x["payload"].split()[1]) for x in stuck.messages if x["topic"] == r.t("live")]
    r.check(sorted(x["topic"] for x in kept) == [r.t(f"kept/{i:03d}") for i in range(n_kept)],
            f"{len(kept)} of {n_kept} retained messages")
    r.check(all(x["retain"] == 1 and len(x["payload"]) == size + 8 for x in kept), "retained content")
    r.check(live == list(range(n)), f"live messages lost or out of order: {len(live)} of {n}: {next((a for a in zip(live, range(n)) if a[0] != a[1]), None)} {live[:60]}")
    stuck.record = True
    r.begin("live again")
    for i in range(20):
        p.publish(r.t("live"), f"p {i}", 0)
    r.settle()


def malformed_packets(r, ver):
    """name -> bytes after a successful CONNECT; some are legal."""
    t = r.t("bad")
    v5 = b"\0" if ver == 5 else b""
    ok = m.publish(ver, t, b"legal")
    cases = {
        "legal": ok, "wildcard": m.publish(ver, t + "/#"), "plus": m.publish(ver, t + "/+/x"),
        "empty topic": m.publish(ver, ""), "nul": m.publish(ver, t + "\0x"),
        "utf8": m.publish(ver, t.encode() + b"\xff"), "surrogate": m.publish(ver, b"\xed\xa0\x80"),
        "overlong": m.publish(ver, b"\xc0\xaf"), "control": m.publish(ver, t + "\x01"),
        "nonchar": m.publish(ver, t + "\ufffe"),
        "dup qos 0": m.publish(ver, t, b"x", dup=True), "qos 3": m.publish(ver, t, b"x", 3, pid=1),
        "pid 0": m.publish(ver, t, b"x", 1, pid=0), "qos 1 dup": m.publish(ver, t, b"x", 1, dup=True, pid=9),
        "topic beyond end": b"\x30\x04\x00\x09ab", "no topic": b"\x30\x00", "half topic": b"\x30\x01\x00",
        "pid cut": b"\x32" + m.varint(len(t) + 3) + m.string(t) + b"\x01",
        "long length": b"\x30\x80\x80\x80\x80\x01", "length not minimal":
            bytes([0x30, 0x80 | (2 + len(t) + len(v5)), 0]) + m.string(t) + v5,
        "type 0": b"\x00\x00", "type 15": b"\xf0\x00", "CONNACK": b"\x20\x02\x00\x00",
        "SUBACK": b"\x90\x03\x00\x01\x00", "UNSUBACK": b"\xb0\x02\x00\x01", "PINGRESP": b"\xd0\x00",
        "PINGREQ flags": b"\xc1\x00", "PINGREQ length": b"\xc0\x01\x00", "DISCONNECT flags": b"\xe1\x00",
        "DISCONNECT length": b"\xe0\x01\x00", "SUBSCRIBE flags": b"\x80" + m.subscribe(ver, 1, [(t, 0)])[1:],
        "SUBSCRIBE pid 0": m.subscribe(ver, 0, [(t, 0)]), "SUBSCRIBE none": m.subscribe(ver, 1, []),
        "SUBSCRIBE qos 3": m.subscribe(ver, 1, [(t, 3)]), "SUBSCRIBE bits": m.subscribe(ver, 1, [(t, 0xC0)]),
        "SUBSCRIBE options": m.subscribe(ver, 1, [(t, 0x3C)]),
        "UNSUBSCRIBE pid 0": m.unsubscribe(ver, 0, [t]), "UNSUBSCRIBE none": m.unsubscribe(ver, 1, []),
        "UNSUBSCRIBE flags": b"\xa0" + m.unsubscribe(ver, 1, [t])[1:],
        "PUBACK unknown": m.ack(m.PUBACK, 77), "PUBREC unknown": m.ack(m.PUBREC, 77),
        "PUBCOMP unknown": m.ack(m.PUBCOMP, 77), "PUBREL unknown": m.ack(m.PUBREL, 77),
        "PUBREL flags": b"\x60\x02\x00\x01", "PUBACK short": b"\x40\x01\x00", "PUBACK 0": m.ack(m.PUBACK, 0),
        "$SYS": m.publish(ver, "$SYS/x", b"x"), "after legal": ok + b"\xf0\x00",
    }
    if ver == 5:
        for name, props in (
                ("two aliases", [("topic_alias", 1), ("topic_alias", 2)]), ("id", {"subscription_id": 1}),
                ("two expiries", [("message_expiry", 1), ("message_expiry", 1)]),
                ("format 2", {"payload_format": 2}), ("two types", [("content_type", "a")] * 2),
                ("reply wildcard", {"response_topic": "a/#"}), ("reply empty", {"response_topic": ""}),
                ("foreign", {"session_expiry": 1}), ("format not UTF-8", {"payload_format": 1}),
                ("user UTF-8", [("user", (b"\xff", b"a"))])):
            cases["prop " + name] = m.publish(5, t, b"\xff\xfe", props=props)
        body = m.string(t)
        cases["prop unknown"] = m.packet(0x30, body + b"\x02\x7f\x00")
        cases["prop cut"] = m.packet(0x30, body + b"\x02\x02\x00")
        cases["prop length beyond"] = m.packet(0x30, body + b"\x7f")
        cases["prop none"] = m.packet(0x30, body)
        cases["subid 0"] = m.packet(0x82, struct.pack(">H", 1) + b"\x02\x0b\x00" + m.string(t) + b"\0")
        cases["subid twice"] = m.packet(0x82, struct.pack(">H", 1) + b"\x04\x0b\x01\x0b\x02" +
                                        m.string(t) + b"\0")
        cases["AUTH"] = b"\xf0\x00"
    return cases


@scenario
def malformed(r):
    """What a packet out of order is answered with, or that the connection is closed; the will tells the
    rest of the world."""
    w = r.connected("watch", 5)
    w.subscribe((r.t("#"), 0), ("$SYS/x", 0))
    r.settle()
    for ver in (3, 4, 5):
        for name, data in sorted(malformed_packets(r, ver).items()):
            r.begin(f"v{ver} {name}")
            c = r.connected("c", ver, will={"topic": r.t("will"), "payload": b"will"})
            c.strict = False
            c.pings = "PINGREQ" in name  # mosquitto answers these, flags and all
            if not r.provoke(c, data):
                c.disconnect()
            r.settle()
            r.clients.remove(c)


@scenario
def before_connect(r):
    """First packets that are no CONNECT, or a broken one."""
    good = m.connect(4, r.rid)
    cases = {
        "publish": m.publish(4, r.t(), b"x"), "ping": m.PINGREQ_BYTES, "http": b"GET / HTTP/1.1\r\n\r\n",
        "tls": bytes.fromhex("160301003101000000"), "flags": b"\x11" + good[1:],
        "reserved bit": good[:9] + bytes([good[9] | 1]) + good[10:],
        "name": good.replace(b"MQTT", b"MQTX"), "cut": m.packet(0x10, b"\0\4MQTT\4\2\0"),
        "trailing": m.packet(0x10, good[2:] + b"zz"), "id beyond": m.packet(0x10, good[2:-2]),
        "id utf8": m.connect(4, b"\xff\xfe"), "subscribe": m.subscribe(4, 1, [("a", 0)]),
        "disconnect": b"\xe0\x00", "will qos without will": good[:9] + bytes([0x0A]) + good[10:],
        "password alone": m.connect(4, r.rid, password=b"x"),
    }
    for name, data in sorted(cases.items()):
        c = r.client(name.replace(" ", ""))
        c.open()
        c.send(data)
        if name in ("http", "tls"):
            try:
                c.sock.shutdown(1)  # their length field asks for more than there is
            except OSError:
                pass  # closed already
        r.until(lambda c=c: c.eof or c.connack, "answer or close")
        c.drop()


@scenario
def order(r):
    """One topic, RETAIN and QoS flipping: per subscriber and QoS the sequence is whole and in order;
    subscribers come and go, some by take-over."""
    rng = random.Random(3)
    pubs = [r.connected(f"p{ver}", ver) for ver in (3, 4, 5)]
    stay = []
    for ver in (3, 4, 5):
        for qos in (0, 1, 2):
            c = r.connected(f"s{ver}{qos}", ver)
            c.subscribe((r.t("o"), qos))
            stay.append(c)
    r.settle()
    r.begin("stream")
    sent = {f"{p.name}q{qos}": [] for p in pubs for qos in (0, 1, 2)}
    guests = []
    for i in range(1500):
        p = pubs[i % 3]
        qos = rng.choice((0, 0, 0, 1, 2))
        # QoS of the PUBLISH is part of the name: it counts for the order, not that of the delivery
        p.publish(r.t("o"), f"{p.name}q{qos} {i}", qos, rng.random() < 0.3, wait=False)
        sent[f"{p.name}q{qos}"].append(i)
        if i % 25 == 24:
            r.until(lambda: all(not q.pending for q in pubs), "answers to publishers")
        if i % 60 == 30:
            g = r.client(f"g{i}", (3, 4, 5)[i // 60 % 3], cid=r.rid + f"guest{i // 60 % 4}")
            g.record = False
            g.connect().subscribe((r.t("o") if i % 120 == 30 else r.t("#"), i % 3))
            guests.append(g)
        if i % 60 == 59 and len(guests) > 2:
            g = guests[-2]
            if g.sock and i % 120 == 59:
                g.unsubscribe(r.t("o"), r.t("#"))
            elif g.sock:
                g.disconnect()
    r.until(lambda: all(not q.pending for q in pubs), "answers to publishers")
    r.settle()
    for c in stay + guests:
        for name, numbers in sent.items():
            got = [int(x["payload"].split()[1]) for x in c.messages
                   if x["payload"].split()[0] == name.encode() and not x["retain"]]
            if c in stay:
                r.check(got == numbers, f"{c.name}: {name}: {first_gap(got, numbers)}")
            else:
                r.check(got == sorted(set(got)), f"{c.name}: {name} out of order or twice")


def first_gap(got, want):
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    return f"{len(got)} of {len(want)}, differs at {at}: {got[at:at + 5]} instead of {want[at:at + 5]}"


class Window:
    """When a filter was certainly in force, certainly not, or in between: by a count of steps."""

    def __init__(self):
        self.changes = []  # (step of the request, step of the answer, in force afterwards)

    def state(self, begin, end):
        """True or False if it was so all the time from begin to end, None if it may have changed."""
        active = False
        for asked, answered, after in self.changes:
            if answered < begin:
                active = after
            elif asked <= end:
                return None
        return active


@scenario
def storm(r):
    """SUBSCRIBE and UNSUBSCRIBE against a stream.  A delivery is not judged only if the time from PUBLISH
    to its proof overlaps the time from (UN)SUBSCRIBE to its answer; never may one come twice, or late."""
    rng = random.Random(5)
    p = r.connected("p")
    p.record = False
    subs, windows, asked = [], {}, {}
    for i in range(8):
        c = r.connected(f"s{i}", (3, 4, 5)[i % 3])
        c.record = False
        subs.append(c)
        windows[c] = Window()
    step, sent, judged = 0, [], 0

    def collect():
        for c, (pid, at, after) in list(asked.items()):
            if pid not in c.pending:
                windows[c].changes.append((at, step, after))
                del asked[c]

    for turn in range(1500):
        step += 1
        for c in subs:
            if c not in asked and rng.random() < 0.03:
                changes = windows[c].changes
                after = not (changes and changes[-1][2])
                (c.subscribe if after else c.unsubscribe)(r.t("s/+") if c is subs[0] else r.t("s/a"),
                                                          wait=False)
                asked[c] = (c.next_pid, step, after)
        begin = step
        for n in range(3):
            p.publish(r.t("s/a"), f"p {turn * 3 + n}", 0, n == 1 and turn % 9 == 0)
        if turn % 2:
            r.pinged([p])  # proof: everything so far is processed
            step += 1
            collect()
            sent.append((turn * 3 + 3, begin, step))
    r.until(lambda: all(asked[c][0] not in c.pending for c in asked), "last answers")
    r.settle()
    collect()
    for c in subs:
        fresh = [int(x["payload"].split()[1]) for x in c.messages if not x["retain"]]
        r.check(fresh == sorted(set(fresh)), f"{c.name}: out of order or twice")
        got, first, earlier = set(fresh), 0, 0
        for last_n, begin, end in sent:
            state = windows[c].state(earlier, end)
            block = set(range(first, last_n))
            if state is not None:
                judged += len(block)
                r.check(not state or block <= got, f"{c.name}: lost {sorted(block - got)} of {last_n}")
                r.check(state or not block & got, f"{c.name}: {sorted(block & got)} after UNSUBACK")
            first, earlier = last_n, end
    if judged < 10000:
        raise Failure(f"only {judged} deliveries could be judged")
    r.event(("", "verdict", "storm"), "nothing lost, twice, out of order or late")
