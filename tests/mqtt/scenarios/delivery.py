# SPDX-License-Identifier: BSD-3-Clause
"""QoS, retain, sessions, versions; which subscription gets what."""

import mqttc as m
from harness import options, scenario


def _subscribers(r, filt):
    subs = []
    for ver in (3, 4, 5):
        for clean in (True, False):
            for qos in (0, 1, 2):
                name = f"s{ver}{'c' if clean else 'p'}{qos}"
                props = {"session_expiry": 3600} if ver == 5 and not clean else None
                c = r.connected(name, ver, clean=clean, props=props)
                c.subscribe((filt, qos))
                subs.append(c)
    return subs


def _publish_all(r, pubs, mark):
    for p in pubs:
        for qos in (0, 1, 2):
            for retain in (False, True):
                p.publish(r.t(f"m/{p.name}/{qos}{int(retain)}"), f"{p.name} {mark} {qos} {retain}",
                          qos, retain)


@scenario
def matrix(r):
    """All QoS x retain x clean/persistent x version, live, offline and retained."""
    subs = _subscribers(r, r.t("m/#"))
    pubs = [r.connected(f"p{ver}", ver) for ver in (3, 4, 5)]
    r.settle()
    r.begin("live")
    _publish_all(r, pubs, "live")
    r.settle()
    r.begin("offline")
    for s in subs:
        if "c" not in s.name:
            s.disconnect()
    _publish_all(r, pubs, "offline")
    r.settle()
    r.begin("resumed")
    for s in subs:
        if "c" not in s.name:
            s.connect()
    r.settle()
    r.begin("live again")
    _publish_all(r, pubs, "again")
    r.settle()
    r.begin("retained")
    for ver in (3, 4, 5):
        for qos in (0, 1, 2):
            r.connected(f"late{ver}{qos}", ver).subscribe((r.t("m/#"), qos))
    r.settle()
    r.begin("cleared")
    for p in pubs:
        for qos in (0, 1, 2):
            p.publish(r.t(f"m/{p.name}/{qos}1"), b"", qos, True)
    r.connected("none", 4).subscribe((r.t("m/#"), 1))
    r.settle()


@scenario
def wildcards(r):
    """Filters of all forms against topics of all forms; one client per filter and version."""
    filters = ["#", "+", "+/+", "/#", "/+", "a/#", "a/+", "+/b", "a/b", "a/b/#", "a/+/c", "+/+/+",
               "a//c", "a/+/#", "+/#", "a/", "b/+/", "//", "+//+", "a/b/c/d/e/f/g/h/+", "ä/+",
               "$a/#", "+/$b", "A/b"]
    topics = ["a", "/", "/a", "a/", "a/b", "a/b/c", "a//c", "//", "a/b/c/d", "b/x/", "b//", "ä/ö",
              "a/b/c/d/e/f/g/h/i", "$a/b", "a/$b", "A/b", "A/B", "a b/c",
              "x" * 200 + "/b"]
    p = r.connected("p")
    for i, f in enumerate(filters):
        r.connected(f"f{i}", (3, 4, 5)[i % 3]).subscribe((r.t() + "/" + f, i % 2))
    r.settle()
    for qos in (0, 1):
        r.begin(f"qos {qos}")
        for n, topic in enumerate(topics):
            p.publish(r.t() + "/" + topic, f"p {n}", qos)
        r.settle()


@scenario
def root_wildcards(r):
    """# and + at the first level: everything of this scenario, nothing that starts with $."""
    p = r.connected("p")
    first = r.rid + "x"
    for i, f in enumerate(("#", "+/#", "+/+", "+", "/+", "$" + first + "/#", "$" + first + "/+")):
        c = r.connected(f"f{i}", (4, 5)[i % 2])
        c.record = False  # other scenarios' messages come too
        c.subscribe(f)
    r.settle()
    for topic in (first, first + "/a", "/" + first, "$" + first + "/a", "$" + first, first + "/$a"):
        p.publish(topic, "root " + topic)
    r.settle()
    for c in r.clients[1:]:
        for p in c.messages:
            if first in p["topic"]:
                r.event((r.phase, c.name, "got"), p)


root_wildcards.alone = True  # a subscriber to # changes what others are answered


@scenario
def bad_filters(r):
    """Filters and topics that are not allowed: answered or closed alike."""
    bad = ["a/#/b", "a#", "#a", "a+", "a/+b/c", "", "$share", "$share/g", "$share/g/", "$share//a",
           "$share/g+/a", "a\0b", b"a\xff", b"\xed\xa0\x80", b"\xc0\x80"]
    for ver in (3, 4, 5):
        for i, f in enumerate(bad):
            c = r.connected(f"v{ver}n{i}", ver)
            pid = c.pid()
            c.pending[pid] = 9
            r.provoke(c, m.subscribe(ver, pid, [(f, 0)]))
            c.drop()


@scenario
def overlaps(r):
    """Several filters of one client match one message."""
    p4, p5 = r.connected("p4", 4), r.connected("p5", 5)
    for ver in (3, 4, 5):
        for order in (0, 1):
            c = r.connected(f"s{ver}{order}", ver)
            fs = [(r.t("a/#"), 0), (r.t("a/+"), 1), (r.t("a/b"), 2), (r.t("+/b"), 1)]
            c.subscribe(*(reversed(fs) if order else fs))
    one = r.connected("again", 5)
    one.subscribe((r.t("a/b"), 0))
    one.subscribe((r.t("a/b"), 2))
    r.settle()
    for qos in (0, 1, 2):
        r.begin(f"qos {qos}")
        for p in (p4, p5):
            for topic in ("a/b", "a/c", "x/b", "a"):
                p.publish(r.t(topic), f"{p.name} {topic}", qos)
        r.settle()
    r.begin("one filter less")
    for c in r.clients[2:]:
        c.unsubscribe(r.t("a/+"), r.t("not/there"))
    r.settle()
    for p in (p4, p5):
        p.publish(r.t("a/b"), f"{p.name} less")
        p.publish(r.t("a/c"), f"{p.name} less")
    r.settle()


@scenario
def subscription_ids(r):
    """v5 3.3.2.3.8: identifiers of all filters that match, in one copy or in several."""
    p4, p5 = r.connected("p4", 4), r.connected("p5", 5)
    c = r.connected("s", 5)
    c.subscribe((r.t("a/#"), 0), props={"subscription_id": 1})
    c.subscribe((r.t("a/+"), 1), props={"subscription_id": 268435455})
    c.subscribe((r.t("a/b"), 2), props={"subscription_id": 300})
    c.subscribe((r.t("+/b"), 0))
    d = r.connected("one", 5)
    d.subscribe((r.t("a/b"), 0), props={"subscription_id": 7})
    r.settle()
    for qos in (0, 1):
        r.begin(f"qos {qos}")
        for p in (p4, p5):
            for topic in ("a/b", "a/c", "x/b"):
                p.publish(r.t(topic), f"{p.name} {topic}", qos)
        r.settle()
    r.begin("changed")
    d.subscribe((r.t("a/b"), 0), props={"subscription_id": 8})
    r.settle()
    p5.publish(r.t("a/b"), "p5 changed")
    r.settle()
    r.begin("removed")
    d.subscribe((r.t("a/b"), 1))
    r.settle()
    p5.publish(r.t("a/b"), "p5 removed")
    r.settle()


@scenario
def no_local(r):
    """v5: nothing of one's own; another subscription of the same client is not affected."""
    a, b = r.connected("a", 5), r.connected("b", 5)
    for c in (a, b):
        c.subscribe((r.t("n/#"), options(1, no_local=True)), (r.t("both"), 1))
        c.subscribe((r.t("both"), options(0, no_local=True)))  # a second time, with No Local
    r.settle()
    for qos in (0, 1):
        r.begin(f"qos {qos}")
        for c in (a, b):
            c.publish(r.t("n/x"), f"{c.name} n", qos)
            c.publish(r.t("both"), f"{c.name} both", qos)
        r.settle()
    r.begin("without")
    a.subscribe((r.t("n/#"), options(1)))
    r.settle()
    a.publish(r.t("n/x"), "a own")
    r.settle()
    r.begin("shared")
    c = r.connected("c", 5)
    c.pending[9] = 9
    r.provoke(c, m.subscribe(5, 9, [("$share/g/" + r.t("n"), options(0, True))]))


@scenario
def retain_options(r):
    """v5: retain as published; retain handling 0, 1, 2; MQTT 3 beside it."""
    p = r.connected("p", 5)
    for qos in (0, 1, 2):
        p.publish(r.t(f"k/{qos}"), f"p kept {qos}", qos, True)
    r.begin("first subscribe")
    subs = {}
    for handling in (0, 1, 2):
        for rap in (False, True):
            c = subs[(handling, rap)] = r.connected(f"h{handling}r{int(rap)}", 5)
            c.subscribe((r.t("k/#"), options(2, rap=rap, handling=handling)))
    old = r.connected("old", 4)
    old.subscribe((r.t("k/#"), 2))
    r.settle()
    r.begin("second subscribe")
    for (handling, rap), c in subs.items():
        c.subscribe((r.t("k/#"), options(1, rap=rap, handling=handling)))
    old.subscribe((r.t("k/#"), 1))
    r.settle()
    r.begin("live")
    for qos in (0, 1, 2):
        for retain in (True, False):
            p.publish(r.t(f"k/{qos}"), f"p live {qos}", qos, retain)
    r.settle()
    r.begin("other retain-as-published")
    for (handling, rap), c in subs.items():
        c.subscribe((r.t("k/#"), options(1, rap=not rap, handling=2)))
    p.publish(r.t("k/0"), "p other", 0, True)
    p.publish(r.t("k/0"), "p other", 0, False)
    r.settle()
    r.begin("emptied")
    for qos in (0, 1, 2):
        p.publish(r.t(f"k/{qos}"), b"", qos, True)
    r.settle()
    r.connected("late", 5).subscribe((r.t("k/#"), 2))
    r.settle()


@scenario
def shared_subscriptions(r):
    """A group gets each message once; which member is the broker's choice, the same for both."""
    p = r.connected("p", 5)
    for ver in (4, 5):
        for i in range(3):
            c = r.connected(f"m{ver}{i}", ver)
            c.subscribe((f"$share/g{ver}/" + r.t("s/#"), 1))
    r.connected("plain").subscribe((r.t("s/+"), 1))
    for i, name in enumerate(("", "+")):  # names that OASIS forbids and mosquitto takes
        r.connected(f"odd{i}", 4 + i).subscribe((f"$share/{name}/" + r.t("o/a"), 0))
    r.settle()
    r.begin("live")
    for i in range(3):
        p.publish(r.t("o/a"), f"o {i}", 0)
    for i in range(12):
        p.publish(r.t("s/a"), f"p {i}", i % 2)
    r.settle()
    r.begin("one gone")
    r.clients[1].disconnect()
    r.clients[4].unsubscribe("$share/g5/" + r.t("s/#"))
    for i in range(6):
        p.publish(r.t("s/a"), f"p {i}", i % 2)
    r.settle()


@scenario
def many_subscribers(r):
    """150 clients of all kinds on one topic; a third of them leaves, another third changes its QoS."""
    p = r.connected("p", 5)
    for i in range(150):
        ver = (3, 4, 5)[i % 3]
        c = r.connected(f"s{i}", ver)
        c.subscribe(((r.t("f/x"), r.t("f/#"), r.t("+/x"))[i // 3 % 3], i // 9 % 3),
                    props={"subscription_id": i + 1} if ver == 5 and i % 2 else None)
    r.settle()
    for phase in ("all", "changed", "less"):
        r.begin(phase)
        for n in range(30):
            p.publish(r.t("f/x"), f"p {n}", n % 10 == 9, n % 10 == 5)
        r.settle()
        for i, c in enumerate(r.clients[1:]):
            if phase == "all" and i % 3 == 1:
                c.subscribe((r.t("f/x"), 1))
            if phase == "changed" and i % 3 == 2:
                c.disconnect()
        r.settle()  # retained messages of the new subscriptions belong to this phase
