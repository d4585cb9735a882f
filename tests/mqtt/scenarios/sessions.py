# SPDX-License-Identifier: BSD-3-Clause
"""Wills, take-over, resumption, keep alive, bridges."""

import time

import mqttc as m
from harness import options, scenario


@scenario
def wills(r):
    """Sent after an abnormal end, not after DISCONNECT; after the client's own last messages."""
    w = r.connected("watch", 5)
    w.subscribe((r.t("w/#"), options(2, rap=True)))
    w4 = r.connected("watch4", 4)
    w4.subscribe((r.t("w/#"), 1))
    r.settle()
    ends = {
        "normal": lambda c: c.disconnect(), "fin": lambda c: c.drop(),
        "rst": lambda c: c.drop(reset=True),
        "error": lambda c: (c.send(b"\x00\x00"), r.until(lambda: c.eof, "close"), c.drop()),
        "second": lambda c: (c.send(m.connect(c.ver, c.cid)), r.until(lambda: c.eof, "close")),
    }
    for ver in (3, 4, 5):
        for name, end in ends.items():
            for qos in (0, 1, 2):
                r.begin(f"v{ver} {name} qos {qos}")
                topic = r.t(f"w/{ver}{name}{qos}")
                will = {"topic": topic, "payload": b"mortal will", "qos": qos, "retain": qos == 1}
                if ver == 5:
                    will["props"] = [("user", ("a", "b")), ("content_type", "t")]
                c = r.connected(f"m{ver}{name}{qos}", ver, will=will)
                c.publish(topic, "mortal last", 0)
                if name == "rst":
                    r.pinged([c])  # a reset may destroy what was not read yet
                end(c)
                if name not in ("normal", "second"):  # mosquitto sends none after a second CONNECT
                    r.until(lambda: any(p["payload"] == b"mortal will" and p["topic"] == topic
                                        for p in w.messages), "will")
                r.settle()
                mine = [p["payload"] for p in w.messages if p["topic"] == topic and not p["qos"]]
                r.check(mine[:1] == [b"mortal last"], f"last message and will in order: {mine}")
    r.begin("with will")
    c = r.connected("polite", 5, will={"topic": r.t("w/polite"), "payload": b"mortal polite"})
    c.disconnect(0x04)
    r.until(lambda: b"mortal polite" in [p["payload"] for p in w.messages], "will of 0x04")
    r.settle()
    r.begin("delay")
    c = r.connected("delayed", 5, clean=False, props={"session_expiry": 60},
                    will={"topic": r.t("w/late"), "payload": b"mortal late", "props": {"will_delay": 1}})
    c.drop()
    r.until(lambda: b"mortal late" in [p["payload"] for p in w.messages], "delayed will")
    r.settle()


@scenario
def take_over(r):
    """A second connection with the same ClientID: the first one is closed, the session goes on."""
    p = r.connected("p")
    for ver in (3, 4, 5):
        for clean in (True, False):
            for first in (4, 5):
                r.begin(f"v{first} then v{ver} clean {clean}")
                tag = f"{first}{ver}{int(clean)}"
                a = r.client("a" + tag, first, cid=r.rid + tag, clean=clean, props=_keep(first, clean))
                a.connect().subscribe((r.t("o/" + tag), 1))
                r.settle()
                p.publish(r.t("o/" + tag), "p before", 0)
                r.settle()
                b = r.client("b" + tag, ver, cid=r.rid + tag, clean=clean, props=_keep(ver, clean))
                b.connect()
                r.until(lambda a=a: a.eof, "end of the old connection")
                p.publish(r.t("o/" + tag), "p after", 0)
                p.publish(r.t("o/" + tag), "p after", 1)
                r.settle()
                b.disconnect()
                # nothing of it is left for the next round
                r.connected("clean" + tag, 4, cid=r.rid + tag).disconnect()


def _keep(ver, clean):
    return {"session_expiry": 3600} if ver == 5 and not clean else None


@scenario
def take_over_in_stream(r):
    """Take-over while messages stream: each at most once for QoS 0, all of QoS 1, in order."""
    p = r.connected("p")
    p.record = False
    old = r.client("s", 4, cid=r.rid + "s", clean=False)
    old.record = False
    old.connect().subscribe((r.t("st/#"), 1))
    r.settle()
    got, count = [old], 0
    for generation in range(5):
        for _ in range(30):
            p.publish(r.t("st/x"), f"p {count}", 0)
            p.publish(r.t("st/x"), f"p {count}", 1, wait=False)
            count += 1
        new = r.client(f"s{generation}", 4, cid=r.rid + "s", clean=False)
        new.record = False
        new.connect()
        got.append(new)
        for _ in range(30):
            p.publish(r.t("st/x"), f"p {count}", 0)
            p.publish(r.t("st/x"), f"p {count}", 1, wait=False)
            count += 1
        r.until(lambda: not p.pending, "PUBACKs")
    r.settle()
    for qos in (0, 1):
        seen = []
        for c in got:
            mine = [(int(m["payload"].split()[1]), m["dup"]) for m in c.messages if m["qos"] == qos]
            fresh = [n for n, dup in mine if not dup]
            r.check(fresh == sorted(set(fresh)), f"{c.name}: QoS {qos} out of order: {fresh}")
            seen += [n for n, dup in mine if not dup or n not in seen]
        r.check(len(seen) == len(set(seen)), f"QoS {qos} twice without DUP")
        missing = set(range(count)) - set(seen)
        r.check(not (qos == 1 and missing), f"QoS 1 lost: {sorted(missing)[:10]}")
    # the last connection was alone for the last 30: it must have them whatever the QoS
    last = [m for m in got[-1].messages if int(m["payload"].split()[1]) >= count - 30]
    r.event(("", "verdict", "last"), sorted({(m["payload"], m["qos"]) for m in last}))


@scenario
def resumption(r):
    """Subscriptions and queued messages of a session that comes back, by version and end."""
    p = r.connected("p", 5)
    for ver in (3, 4, 5):
        for end in ("disconnect", "drop"):
            name = f"r{ver}{end}"
            c = r.connected(name, ver, clean=False, props=_keep(ver, False))
            c.subscribe((r.t("q/a"), 1), (r.t("q/b"), 2), (r.t("q/c"), 0))
            r.settle()
            if end == "drop":
                c.drop()
                # the broker has seen the end once it answers a connection that came later
                r.connected(name + "x").disconnect()
            else:
                c.disconnect()
            r.begin(name + " away")
            for qos in (0, 1, 2):
                for topic in "abc":
                    p.publish(r.t("q/" + topic), f"p away {qos}", qos)
            r.settle()
            r.begin(name + " back")
            c.connect()
            r.settle()
            for topic in "abc":
                p.publish(r.t("q/" + topic), "p live", 0)
            r.settle()
            r.begin(name + " unsubscribed")
            c.unsubscribe(r.t("q/a"))
            c.disconnect()
            c.connect()
            r.settle()
            for topic in "abc":
                p.publish(r.t("q/" + topic), "p less", 0)
            r.settle()
            r.begin(name + " clean")
            c.disconnect()
            c.connect(clean=True, props=None)
            for topic in "abc":
                p.publish(r.t("q/" + topic), "p none", 1)
            r.settle()
            c.disconnect()


@scenario
def session_expiry(r):
    """v5: a session that expired, or that DISCONNECT ends early, is not resumed."""
    p = r.connected("p")
    cases = {"zero": (0, None), "long": (3600, None), "short": (1, None), "ended": (3600, 0),
             "longer": (1, 3600)}
    subs = {}
    for name, (expiry, at_end) in cases.items():
        c = subs[name] = r.connected(name, 5, clean=False, props={"session_expiry": expiry})
        c.subscribe((r.t("x/#"), 1))
        c.disconnect(0, None if at_end is None else {"session_expiry": at_end})
    p.publish(r.t("x/1"), "p away", 1)
    end = time.monotonic() + 15
    r.begin("back")
    probe = r.client("probe", 5, cid=subs["short"].cid, clean=False, props={"session_expiry": 1})
    probe.record = False
    while time.monotonic() < end:  # the broker looks for expired sessions now and then
        time.sleep(2.5)
        if not probe.connect().connack["session_present"]:
            break
        probe.disconnect()
    probe.drop()
    for name, c in subs.items():
        if name != "short":
            c.connect()
    r.settle()
    p.publish(r.t("x/1"), "p live", 0)
    r.settle()


session_expiry.slow = True


@scenario
def in_flight(r):
    """Messages sent and not acknowledged come again after a reconnect, QoS 2 exactly once."""
    p = r.connected("p")
    s = r.connected("s", 4, clean=False)
    s.subscribe((r.t("i/#"), 2))
    r.settle()
    s.auto_ack = False
    for qos in (1, 2):
        for n in range(3):
            p.publish(r.t("i/x"), f"p {qos}{n}", qos)
    r.settle()
    pids = {pid: qos for pid, qos in s.inflight.items() if qos == 2}
    s.send(m.ack(m.PUBREC, sorted(pids)[0]))
    r.until(lambda: sorted(pids)[0] not in s.inflight, "PUBREL")
    s.drop()
    r.begin("back")
    s.auto_ack = True
    s.connect()
    p.publish(r.t("i/x"), "p live", 0)
    r.settle()


@scenario
def publisher_qos2(r):
    """A PUBLISH with QoS 2 repeated before PUBREL is delivered once; an id may be used again."""
    s = r.connected("s")
    s.subscribe((r.t("d"), 2))
    for ver in (4, 5):
        p = r.connected(f"p{ver}", ver)
        p.record = False
        p.pending[7] = 0
        r.begin(f"v{ver}")
        for dup in (False, True, True):
            p.send(m.publish(ver, r.t("d"), b"p once", 2, False, dup, 7))
        r.pinged([p])
        p.send(m.ack(m.PUBREL, 7))
        r.pinged([p])
        p.send(m.publish(ver, r.t("d"), b"p again", 2, False, False, 7))
        r.pinged([p])
        p.send(m.ack(m.PUBREL, 7))
        p.send(m.ack(m.PUBREL, 99))
        r.settle()


def _cut(r, c, begin, limit):
    r.until(lambda: c.eof, f"end of {c.name}", limit)
    return time.monotonic() - begin


@scenario
def keep_alive(r):
    """A silent client is cut at 1.5 x keep alive, with its will; one that publishes or pings is not."""
    w = r.connected("watch", 4)
    w.subscribe((r.t("k/#"), 0))
    will = {"topic": r.t("k/will"), "payload": b"silent gone"}
    silent = r.connected("silent", 4, keepalive=2, will=will)
    silent5 = r.connected("silent5", 5, keepalive=2, will=dict(will, payload=b"silent5 gone"))
    reader = r.connected("reader", 4, keepalive=2, will=dict(will, payload=b"reader gone"))
    reader.subscribe((r.t("k/busy"), 0))
    busy = r.connected("busy", 4, keepalive=2, will=dict(will, payload=b"busy gone"))
    pinger = r.connected("pinger", 5, keepalive=2, will=dict(will, payload=b"pinger gone"))
    never = r.connected("never", 4, keepalive=0, will=dict(will, payload=b"never gone"))
    for c in (busy, w):
        c.record = False
    begin, n = time.monotonic(), 0
    quiet = (silent, silent5, reader)
    while not all(c.eof for c in quiet) or time.monotonic() - begin < 12:
        r.check(time.monotonic() - begin < 16, "silent clients are not cut")
        busy.publish(r.t("k/busy"), f"busy {n}", 0)
        pinger.ping()
        n += 1
        r.pump(0.2)
        time.sleep(0.2)
        for c in quiet:
            r.check(not c.eof or time.monotonic() - begin >= 2.5, f"{c.name} cut too early")
    r.check(not busy.eof, "a client that publishes was cut")
    r.check(not pinger.eof, "a client that pings was cut")
    r.check(not never.eof, "a client without keep alive was cut")
    r.until(lambda: n <= sum(x["topic"].endswith("busy") for x in w.messages), "all messages")
    texts = sorted(x["payload"] for x in w.messages if x["topic"].endswith("will"))
    r.event(("", "verdict", "wills"), texts)
    seqs = [int(x["payload"].split()[1]) for x in w.messages if x["topic"].endswith("busy")]
    r.check(seqs == list(range(n)), "messages of the busy client are not all there, in order")
    reader.record = False
    r.events = {k: v for k, v in r.events.items() if k[1] != "reader"}  # how many it got is chance


keep_alive.slow = True


@scenario
def bridges(r):
    """Bit 0x80 of the protocol level: No Local and retain as published for MQTT 3.1 and 3.1.1."""
    p = r.connected("p")
    p.publish(r.t("b/kept"), "p kept", 1, True)
    for ver in (3, 4):
        b = r.connected(f"b{ver}", ver, bridge=True)
        b.subscribe((r.t("b/#"), 1))
        plain = r.connected(f"n{ver}", ver)
        plain.subscribe((r.t("b/#"), 1))
    r.settle()
    for qos in (0, 1):
        for retain in (False, True):
            r.begin(f"qos {qos} retain {retain}")
            for c in list(r.clients):
                c.publish(r.t("b/" + c.name), f"{c.name} {qos}{retain}", qos, retain)
            r.settle()
