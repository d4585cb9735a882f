# SPDX-License-Identifier: BSD-3-Clause
"""MQTT 5 properties of PUBLISH and the limits a client may set."""

import time

import mqttc as m
from harness import options, scenario


@scenario
def properties(r):
    """Everything a publisher may attach arrives unaltered, user properties in order, at v5 only."""
    blocks = {
        "none": [],
        "user": [("user", ("k", "1")), ("user", ("a", "ö")), ("user", ("k", "2")), ("user", ("", ""))],
        "type": [("content_type", "text/plain"), ("payload_format", 1)],
        "reply": [("response_topic", r.t("answer")), ("correlation_data", bytes(range(256)))],
        "all": [("user", ("k", "v")), ("correlation_data", b""), ("content_type", ""),
                ("user", ("k", "w")), ("payload_format", 0), ("response_topic", "r"),
                ("message_expiry", 1000), ("user", ("z", "x" * 3000))],
    }
    p = r.connected("p", 5)
    for ver in (3, 4, 5):
        for qos in (0, 1):
            r.connected(f"s{ver}{qos}", ver).subscribe((r.t("p/#"), qos))
    rap = r.connected("rap", 5)
    rap.subscribe((r.t("p/#"), options(1, rap=True)), props={"subscription_id": 12})
    r.settle()
    for qos in (0, 1, 2):
        for retain in (False, True):
            r.begin(f"qos {qos} retain {retain}")
            for name, block in blocks.items():
                p.publish(r.t(f"p/{name}"), f"p {name}", qos, retain, block)
            r.settle()
    r.begin("retained")
    r.connected("late5", 5).subscribe((r.t("p/#"), 1))
    r.connected("late4", 4).subscribe((r.t("p/#"), 1))
    r.settle()
    r.begin("from version 4")
    old = r.connected("q", 4)
    for qos in (0, 1):
        old.publish(r.t("p/old"), "q old", qos)
    r.settle()


@scenario
def topic_alias(r):
    """Aliases of a publisher, mixed with names, redefined, on two topics and after a reconnect."""
    p = r.connected("p", 5)
    for ver in (4, 5):
        r.connected(f"s{ver}", ver, props={"topic_alias_max": 5} if ver == 5 else None).subscribe(
            (r.t("#"), 1))
    r.settle()
    for qos in (0, 1):
        r.begin(f"qos {qos}")
        p.publish(r.t("a"), "p defines 1", qos, props={"topic_alias": 1})
        p.publish("", "p uses 1", qos, props={"topic_alias": 1})
        p.publish(r.t("a"), "p by name", qos)
        p.publish(r.t("b"), "p defines 10", qos, props={"topic_alias": 10})
        p.publish("", "p uses 10", qos, props={"topic_alias": 10})
        p.publish("", "p uses 1", qos, props={"topic_alias": 1})
        p.publish(r.t("c"), "p redefines 1", qos, props={"topic_alias": 1})
        p.publish("", "p uses 1", qos, props={"topic_alias": 1, "user": ("a", "b")})
        p.publish(r.t("a"), "p by name", qos, True, {"topic_alias": 1})
        p.publish("", "p uses 1", qos, props={"topic_alias": 1})
        r.settle()
    r.begin("errors")
    for i, (topic, props) in enumerate((("", {"topic_alias": 3}), ("", {}), ("x", {"topic_alias": 0}),
                                        ("x", {"topic_alias": 11}), ("x", {"topic_alias": 65535}))):
        c = r.connected(f"bad{i}", 5)
        r.provoke(c, m.publish(5, topic, b"x", props=props))
        c.drop()
    r.begin("reconnected")
    p.connect()
    r.provoke(p, m.publish(5, "", b"p gone", props={"topic_alias": 1}))


@scenario
def maximum_packet_size(r):
    """v5 3.1.2.11.4: a packet that is too large is not sent to that client, to others it is."""
    p = r.connected("p", 5)
    for limit in (40, 60, 100, 200):
        r.connected(f"l{limit}", 5, props={"max_packet": limit}).subscribe((r.t("z"), 0))
        r.connected(f"q{limit}", 5, props={"max_packet": limit}).subscribe((r.t("z"), 1))
        c = r.connected(f"i{limit}", 5, props={"max_packet": limit})
        c.subscribe((r.t("z"), 0), props={"subscription_id": 200})
    r.connected("any", 5).subscribe((r.t("z"), 1))
    r.connected("any4", 4).subscribe((r.t("z"), 1))
    r.settle()
    for qos in (0, 1):
        r.begin(f"qos {qos}")
        # QoS 1: few, because mosquitto takes each that it could not send off the in-flight quota of 20
        for size in (0, 1, 20, 50, 80, 150, 300) if qos else [*range(80), 120, *range(150, 210, 10), 300]:
            p.publish(r.t("z"), b"p " + b"x" * size, qos)
        p.publish(r.t("z"), b"p y", qos, props=[("user", ("k", "v" * 50))])
        r.settle()


@scenario
def message_expiry(r):
    """The rest of the interval is delivered, or nothing when it is over."""
    p = r.connected("p", 5)
    off = r.connected("off", 5, clean=False, props={"session_expiry": 3600})
    off.subscribe((r.t("e/#"), 1))
    off4 = r.connected("off4", 4, clean=False)
    off4.subscribe((r.t("e/#"), 1))
    r.connected("live", 5).subscribe((r.t("e/#"), 1))
    off.disconnect()
    off4.disconnect()
    r.begin("live")
    for qos in (0, 1, 2):
        for expiry in (3, 4, 100, 4294967295):
            for retain in (False, True):
                p.publish(r.t(f"e/{qos}{expiry}"), f"p {expiry}", qos, retain,
                          {"message_expiry": expiry})
    r.settle()
    time.sleep(6)  # the thing tested is time: 4 s are over, whatever the rounding
    r.begin("later")
    off.connect()
    off4.connect()
    r.connected("late", 5).subscribe((r.t("e/#"), 1))
    r.settle()


message_expiry.slow = True


@scenario
def receive_maximum(r):
    """v5 4.9: the broker keeps to the client's Receive Maximum; the rest follows the ACKs."""
    p = r.connected("p", 5)
    s = r.connected("s", 5, props={"receive_max": 3})
    s.subscribe((r.t("w"), 2), (r.t("zero"), 0))
    r.settle()
    s.auto_ack = False
    r.begin("not acknowledged")
    for i in range(10):
        p.publish(r.t("w"), f"p {i}", 1 + i % 2)
        p.publish(r.t("zero"), f"p {i}", 0)
    r.settle()
    r.begin("acknowledged")
    s.auto_ack = True
    for pid, qos in list(s.inflight.items()):
        if qos == 1:
            del s.inflight[pid]
        s.send(m.ack(m.PUBACK if qos == 1 else m.PUBREC, pid))
    r.settle()
    r.check(len([x for x in s.messages if x["qos"]]) == 10, "not all messages came")


@scenario
def connack(r):
    """What CONNECT is answered, version by version and with odd parameters."""
    cases = [
        ("plain", {}), ("empty", {"cid": ""}), ("emptykeep", {"cid": "", "clean": False}),
        ("long", {"cid": r.rid + "x" * 100}), ("alive", {"keepalive": 65535}),
        ("user", {"user": "someone", "password": b"secret"}), ("useronly", {"user": "someone"}),
        ("passonly", {"password": b"secret"}),
        ("will", {"will": {"topic": r.t("w"), "payload": b"x"}}),
        ("willwild", {"will": {"topic": r.t("#"), "payload": b"x"}}),
        ("willempty", {"will": {"topic": "", "payload": b"x"}}),
        ("willqos3", {"will": {"topic": "w", "payload": b"x", "qos": 3}}),
    ]
    five = [
        ("expiry", {"props": {"session_expiry": 10}}), ("zeromax", {"props": {"receive_max": 0}}),
        ("zeropacket", {"props": {"max_packet": 0}}), ("auth", {"props": {"auth_method": "x"}}),
        ("twice", {"props": [("receive_max", 1), ("receive_max", 2)]}),
        ("response", {"props": {"request_response": 1}}),
        ("wrong", {"props": {"topic_alias": 1}}), ("info", {"props": {"request_problem": 2}}),
    ]
    for ver in (3, 4, 5, 2, 6):
        for name, kw in cases + (five if ver == 5 else []):
            c = r.client(f"v{ver}{name}", ver, **kw)
            c.open()
            c.send(m.connect(ver, c.cid, **c.kw))
            r.until(lambda c=c: c.connack or c.eof, "CONNACK or close")
            if c.connack and c.connack["code"]:
                r.until(lambda c=c: c.eof, "close after a refusal")
            c.drop()
