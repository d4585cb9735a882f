# SPDX-License-Identifier: BSD-3-Clause
"""Rare packets and parameters, most of them of MQTT 5, with QoS 0 messages around them."""

import time

import mqttc as m
from harness import scenario
from scenarios.streams import malformed_packets


def _auth(reason=None, props=None):
    return m.packet(0xF0, b"" if reason is None else bytes([reason]) + m.properties(props))


@scenario
def auth(r):
    """AUTH at any time, of a client that named a method or not: the broker has no plugin for it."""
    w = r.connected("watch", 5)
    w.subscribe((r.t("#"), 0))
    r.settle()
    cases = {
        "empty": _auth(), "continue": _auth(0x18), "again": _auth(0x19),
        "method": _auth(0x19, [("auth_method", "x"), ("auth_data", b"\0\xff")]),
        "data": _auth(0x18, {"auth_data": b""}), "success": _auth(0, {"auth_method": "x"}),
        "unknown": _auth(0x42), "foreign": _auth(0x19, {"topic_alias": 1}),
        "twice": _auth(0x19, [("auth_method", "x"), ("auth_method", "y")]),
        "cut": b"\xf0\x03\x19\x05\x15", "flags": b"\xf1\x00", "large": _auth(0x19, [("auth_method", "x"), ("auth_data", b"d" * 65535)]),
    }
    for name, data in sorted(cases.items()):
        r.begin(name + " later")
        c = r.connected("c", 5, will={"topic": r.t("will"), "payload": b"will"})
        c.strict = False
        c.publish(r.t("f"), "c before", 0)
        r.provoke(c, data + m.publish(5, r.t("f"), b"c behind"))
        c.drop()
        r.settle()
        for where, first in (("first", b""), ("at once", m.connect(5, r.rid + "c"))):
            r.begin(f"{name} {where}")
            c = r.client("c", 5)
            c.strict = False
            c.open()
            c.send(first + data + m.publish(5, r.t("f"), b"c behind"))
            c.ping()
            r.until(lambda c=c: c.eof or c.pongs, "close or answer")
            c.drop()
            r.settle()
        r.begin(name + " method")
        c = r.client("c", 5, props=[("auth_method", "x"), ("auth_data", b"y")])
        c.strict = False
        c.open()
        c.send(m.connect(5, c.cid, **c.kw) + data)
        r.until(lambda c=c: c.eof, "close")
        c.drop()
        r.settle()


@scenario
def will_delay(r):
    """Will Delay Interval: who comes back in time has no will; a session that ends sends it at once;
    messages of before, of the next connection and the will, in order."""
    w = r.connected("watch", 5)
    w.subscribe((r.t("#"), 0))
    r.settle()

    def mortal(name, delay, expiry, clean=False):
        c = r.connected(name, 5, clean=clean, props={"session_expiry": expiry} if expiry else None,
                        will={"topic": r.t("v/" + name), "payload": b"mortal will", "props": {"will_delay": delay}})
        for i in range(20):
            c.publish(r.t("v/" + name), f"{name} {i}", 0)
        return c

    def gone(name):
        r.until(lambda: any(p["topic"] == r.t("v/" + name) and p["payload"] == b"mortal will" for p in w.messages),
                "will of " + name)

    r.begin("back in time")
    for name, reset in (("fin", False), ("rst", True)):
        c = mortal(name, 2, 60)
        r.pinged([c])
        c.drop(reset)
        c.connect(will=None)
        for i in range(20, 40):
            c.publish(r.t("v/" + name), f"{name} {i}", 0)
    r.settle()
    r.begin("session ends")
    for name, delay, expiry in (("none", 60, 0), ("short", 60, 1), ("zero", 0, 60)):
        mortal(name, delay, expiry).drop()
    r.begin("taken over, clean")
    a = mortal("over", 60, 60)
    b = r.client("b", 5, cid=a.cid, clean=True).connect()
    r.until(lambda: a.eof, "end of the old one")
    r.settle()
    b.disconnect()
    r.begin("taken over")
    a = mortal("keep", 1, 60)
    b = r.client("b", 5, cid=a.cid, clean=False, props={"session_expiry": 60}).connect()
    r.until(lambda: a.eof, "end of the old one")
    for i in range(20, 40):
        b.publish(r.t("v/keep"), f"keep {i}", 0)
    r.settle()
    r.begin("with will")
    for reason in (0x04, 0x00, 0x80, 0x93, 0x8E):
        c = mortal(f"r{reason}", 1, 60)
        c.disconnect(reason)
    gone("r4")
    r.begin("late")
    time.sleep(4)  # what must not come has had its time
    r.settle()
    texts = sorted((p["topic"], p["payload"]) for p in w.messages if p["payload"] == b"mortal will")
    r.events = {k: v for k, v in r.events.items() if "will" not in str(v)}  # in which phase one comes is chance
    r.event(("", "verdict", "wills"), texts)


will_delay.slow = True


@scenario
def expiry_at_disconnect(r):
    """Session Expiry Interval at DISCONNECT: 0 to something is an error; never; with fast messages."""
    p = r.connected("p", 5)
    cases = {"zero to more": (0, 10), "none to more": (None, 10), "never": (0xFFFFFFFF, None), "to never": (5, 0xFFFFFFFF),
             "never to zero": (0xFFFFFFFF, 0)}
    for name, (first, last) in cases.items():
        for clean in (False, True):
            r.begin(f"{name} clean {clean}")
            c = r.connected(name.replace(" ", "") + str(int(clean)), 5, clean=clean,
                            props=None if first is None else {"session_expiry": first})
            c.subscribe((r.t("y/#"), 1))
            c.publish(r.t("y/0"), f"c {name}", 0)
            r.settle()
            c.publish(r.t("y/1"), f"c {name}", 0)
            c.record = False  # its last message may come or not
            c.send(m.disconnect(5, 0, {} if last is None else {"session_expiry": last}))
            r.until(lambda c=c: c.eof, "close")
            c.drop()
            c.record = True
            p.publish(r.t("y/1"), "p away", 1)
            c.kw["clean"] = False
            c.connect()
            p.publish(r.t("y/1"), "p live", 0)
            r.settle()
            c.disconnect(0, {"session_expiry": 0} if first else None)


@scenario
def assigned_ids(r):
    """Clients without a ClientID have sessions of their own, which end with them."""
    p = r.connected("p", 5)
    both = []
    for ver in (4, 5):
        for n in range(3):
            c = r.client(f"e{ver}{n}", ver, cid="").connect()
            c.subscribe((r.t("e/#"), n))
            both.append(c)
    r.settle()
    r.begin("live")
    for i in range(10):
        p.publish(r.t("e/x"), f"p {i}", 0)
        for c in both:
            c.publish(r.t("e/" + c.name), f"{c.name} {i}", 0)
    r.settle()
    r.begin("left")
    for c in both[::2]:
        c.drop()
    r.connected("x").disconnect()
    for i in range(10):
        p.publish(r.t("e/x"), f"p {i}", 0)
    r.settle()
    r.begin("resumed")
    c = both[3]
    name = c.connack["props"]["assigned_client_id"][0]
    again = r.client("again", 5, cid=name, clean=False, props={"session_expiry": 60}).connect()
    r.until(lambda: c.eof, "end of the one with that name")
    for i in range(10):
        p.publish(r.t("e/x"), f"p {i}", 0)
    r.settle()
    again.disconnect(0, {"session_expiry": 0})
    r.begin("kept without a name")
    for ver in (3, 4, 5):
        c = r.client(f"k{ver}", ver, cid="", clean=False, props={"session_expiry": 60} if ver == 5 else None)
        c.open()
        c.send(m.connect(ver, "", **c.kw) + m.subscribe(ver, 1, [(r.t("e/#"), 0)]))
        c.strict = False
        r.until(lambda c=c: c.eof or (m.SUBACK, 1) in c.answers, "close or SUBACK")
        p.publish(r.t("e/x"), f"p {ver}", 0)
        r.settle()
        c.drop()


@scenario
def large(r):
    """Topics, filters and properties as long as their length fields can say, and many levels."""
    p4, p5 = r.connected("p4", 4), r.connected("p5", 5)
    top = {"flat": r.t("x" * 65536)[:65535], "levels": r.t("l/" * 40000)[:65535], "l199": "/".join([r.rid] + ["l"] * 199),
           "l200": "/".join([r.rid] + ["l"] * 200), "l201": "/".join([r.rid] + ["l"] * 201), "l127": r.t("/" * 126),
           "l128": r.t("/" * 127), "l129": r.t("/" * 128), "empty": r.t("/" * 60000)}
    for ver in (4, 5):
        r.connected(f"all{ver}", ver).subscribe((r.t("#"), 0))
        for name, topic in top.items():
            c = r.client(f"s{ver}{name}", ver).connect()
            c.strict = False
            c.send(m.subscribe(ver, 1, [(topic, 0)]))
            c.pending[1] = m.SUBACK
            c.ping()
            r.until(lambda c=c: c.eof or c.pongs, "close or SUBACK")
    r.settle()
    for name, topic in top.items():
        r.begin(name)
        for p in (p4, p5):
            for size in (0, 5, 70000):
                c = r.connected("c", p.ver)
                c.strict = False
                r.provoke(c, m.publish(c.ver, topic, b"c " + b"y" * size))
                c.drop()
        r.settle()
    long = "u" * 65535
    blocks = {"user": [("user", (long, long))] * 4, "type": {"content_type": long}, "data": {"correlation_data": b"\xff" * 65535},
              "reply": {"response_topic": long}, "many": [("user", ("k", str(i))) for i in range(10000)]}
    for name, props in blocks.items():
        r.begin("prop " + name)
        for topic in (r.t("short"), top["flat"]):
            p5.publish(topic, b"p5 " + name.encode(), 0, props=props)
        r.settle()


@scenario
def odd_filters(r):
    """Filters that are none, alone and beside a good one, in SUBSCRIBE and UNSUBSCRIBE."""
    p = r.connected("p")
    t = r.t("g").encode()
    names = {"hash in word": t + b"#", "hash first": b"#/" + t, "plus in word": t + b"+/a", "plus word": t + b"/+a",
             "empty": b"", "nul": t + b"/\0", "utf8": t + b"/\xff", "nonchar": t + b"/\xef\xbf\xbe", "surrogate": t + b"/\xed\xa0\x80",
             "two hashes": t + b"/##", "share": b"$share", "share/": b"$share/", "share//": b"$share//" + t, "share g": b"$share/g",
             "share g/": b"$share/g/", "share +": b"$share/+/" + t, "share #": b"$share/g#/" + t, "share bad": b"$share/g/" + t + b"#",
             "dollar": b"$x/" + t, "slash": b"/", "control": t + b"/\x01", "bom": b"\xef\xbb\xbf" + t, "blank": t + b"/ "}
    for ver in (3, 4, 5):
        for name, text in names.items():
            for form in ("one", "before", "behind"):
                r.begin(f"v{ver} {name} {form}")
                c = r.client("c", ver, will={"topic": r.t("will"), "payload": b"will"}).connect()
                c.strict = False
                ok = (r.t("g/+"), 0)
                pairs = {"one": [(text, 0)], "before": [(text, 0), ok], "behind": [ok, (text, 0)]}[form]
                c.publish(r.t("g/x"), "c first", 0)
                if not r.provoke(c, m.subscribe(ver, 1, pairs)):
                    for topic in ("g/x", "g/ ", "g/a", "g"):
                        p.publish(r.t(topic), "p on", 0)
                    r.settle()
                    if not r.provoke(c, m.unsubscribe(ver, 2, [f for f, _ in pairs])):
                        for topic in ("g/x", "g/ "):
                            p.publish(r.t(topic), "p off", 0)
                        r.pinged([p])
                        c.disconnect()
                r.settle()
                r.clients.remove(c)


@scenario
def odd_topics(r):
    """Topics that are none, in the middle of QoS 0 messages that are delivered; will and close."""
    w = r.connected("watch", 5)
    w.subscribe((r.t("#"), 0), ("/#", 0))
    r.settle()
    t = r.t("o").encode()
    names = {"nul": t + b"\0", "nul first": b"\0", "utf8": t + b"\xc3", "utf8 5": t + b"\xf8\x88\x80\x80\x80", "beyond": t + b"\xf4\x90\x80\x80",
             "fffe": t + b"\xef\xbf\xbe", "ffff": t + b"\xef\xbf\xbf", "1ffff": t + b"\xf0\x9f\xbf\xbf", "fdd0": t + b"\xef\xb7\x90",
             "del": t + b"\x7f", "c1": t + b"\xc2\x85", "plus": t + b"/+", "plus in": t + b"+", "hash": t + b"/#", "hash in": t + b"#x",
             "empty": b"", "bom": b"\xef\xbb\xbf" + t, "share": b"$share/g/" + t}
    for ver in (3, 4, 5):
        for name, text in names.items():
            for qos, retain in ((0, 0), (0, 1), (1, 0)):
                r.begin(f"v{ver} {name} {qos}{retain}")
                c = r.connected("c", ver, will={"topic": r.t("will"), "payload": b"will"})
                c.strict = False
                data = m.publish(ver, r.t("o"), b"c before") + m.publish(ver, text, b"c odd", qos, retain, pid=7)
                if not r.provoke(c, data + m.publish(ver, r.t("o"), b"c behind")):
                    c.disconnect()
                r.settle()
                r.clients.remove(c)
                if retain:
                    w.record = False
                    if name not in ("empty",):
                        c = r.connected("c", ver)
                        r.provoke(c, m.publish(ver, text, b"", 0, True))
                        c.drop()
                    r.settle()
                    w.record = True


@scenario
def behind_errors(r):
    """QoS 0 messages in front of a packet out of order and behind it, in one segment."""
    w = r.connected("watch", 5)
    w.subscribe((r.t("#"), 0), ("$SYS/x", 0))
    r.settle()
    for ver in (3, 4, 5):
        for name, data in sorted(malformed_packets(r, ver).items()):
            if name == "PUBACK 0":  # the stage does not read these
                continue
            r.begin(f"v{ver} {name}")
            c = r.connected("c", ver, will={"topic": r.t("will"), "payload": b"will"})
            c.strict = False
            c.pings = "PINGREQ" in name
            if not r.provoke(c, m.publish(ver, r.t("b"), b"c before") + data + m.publish(ver, r.t("b"), b"c behind")):
                c.disconnect()
            r.settle()
            r.clients.remove(c)
