# SPDX-License-Identifier: BSD-3-Clause
"""MQTT 3.1, 3.1.1 and 5.0 packets: encoding, and a strict decoder of what a server may send.

Encoding lets a caller build wrong packets (tests want them); decoding refuses everything that the
standards forbid a server to send: reserved bits, a length that is not used up, a property that does not
belong to the packet or appears twice, invalid UTF-8.
"""

import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = (
    8, 9, 10, 11, 12, 13, 14, 15)
NAMES = ("?", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
         "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH")

# v5 2.2.2.2: id -> name, type, packets of a server that may carry it
_ACKS = (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK)
PROPERTIES = {
    0x01: ("payload_format", "u8", (PUBLISH,)),
    0x02: ("message_expiry", "u32", (PUBLISH,)),
    0x03: ("content_type", "str", (PUBLISH,)),
    0x08: ("response_topic", "str", (PUBLISH,)),
    0x09: ("correlation_data", "bin", (PUBLISH,)),
    0x0B: ("subscription_id", "var", (PUBLISH,)),
    0x11: ("session_expiry", "u32", (CONNACK,)),
    0x12: ("assigned_client_id", "str", (CONNACK,)),
    0x13: ("server_keep_alive", "u16", (CONNACK,)),
    0x15: ("auth_method", "str", (CONNACK, AUTH)),
    0x16: ("auth_data", "bin", (CONNACK, AUTH)),
    0x17: ("request_problem", "u8", ()),
    0x18: ("will_delay", "u32", ()),
    0x19: ("request_response", "u8", ()),
    0x1A: ("response_information", "str", (CONNACK,)),
    0x1C: ("server_reference", "str", (CONNACK, DISCONNECT)),
    0x1F: ("reason", "str", (CONNACK, DISCONNECT, AUTH) + _ACKS),
    0x21: ("receive_max", "u16", (CONNACK,)),
    0x22: ("topic_alias_max", "u16", (CONNACK,)),
    0x23: ("topic_alias", "u16", (PUBLISH,)),
    0x24: ("max_qos", "u8", (CONNACK,)),
    0x25: ("retain_available", "u8", (CONNACK,)),
    0x26: ("user", "pair", (CONNACK, PUBLISH, DISCONNECT, AUTH) + _ACKS),
    0x27: ("max_packet", "u32", (CONNACK,)),
    0x28: ("wildcards", "u8", (CONNACK,)),
    0x29: ("subscription_ids", "u8", (CONNACK,)),
    0x2A: ("shared", "u8", (CONNACK,)),
}
PROPERTY_IDS = {name: (pid, kind) for pid, (name, kind, _) in PROPERTIES.items()}
REPEATABLE = ("user", "subscription_id")


class Malformed(Exception):
    """The server sent what it must not send."""


# ---- encoding ---------------------------------------------------------------------------------------

def varint(n):
    out = bytearray()
    while True:
        n, low = n >> 7, n & 0x7F
        out.append(low | (0x80 if n else 0))
        if not n:
            return bytes(out)


def binary(b):
    return struct.pack(">H", len(b)) + b


def string(s):
    return binary(s if isinstance(s, bytes) else s.encode())


def packet(first, body):
    return bytes([first]) + varint(len(body)) + body


def _value(kind, v):
    if kind == "pair":
        return string(v[0]) + string(v[1])
    if kind == "var":
        return varint(v)
    if kind == "str":
        return string(v)
    if kind == "bin":
        return binary(v)
    return struct.pack({"u8": ">B", "u16": ">H", "u32": ">I"}[kind], v)


def properties(props):
    """props: dict or list of (name, value); a list keeps order and repeats."""
    items = props.items() if isinstance(props, dict) else props or ()
    body = b""
    for name, v in items:
        pid, kind = PROPERTY_IDS[name]
        body += bytes([pid]) + _value(kind, v)
    return varint(len(body)) + body


def connect(ver, cid, clean=True, keepalive=0, will=None, props=None, bridge=False, user=None,
            password=None):
    """will: dict of topic, payload, qos, retain, props."""
    flags = 2 if clean else 0
    body = string("MQIsdp" if ver == 3 else "MQTT") + bytes([ver | (0x80 if bridge else 0)])
    tail = string(cid)
    if will:
        flags |= 4 | will.get("qos", 0) << 3 | (0x20 if will.get("retain") else 0)
        tail += properties(will.get("props")) if ver == 5 else b""
        tail += string(will["topic"]) + binary(will.get("payload", b""))
    if user is not None:
        flags |= 0x80
        tail += string(user)
    if password is not None:
        flags |= 0x40
        tail += binary(password)
    body += bytes([flags]) + struct.pack(">H", keepalive)
    body += properties(props) if ver == 5 else b""
    return packet(0x10, body + tail)


def publish(ver, topic, payload=b"", qos=0, retain=False, dup=False, pid=0, props=None):
    body = string(topic) + (struct.pack(">H", pid) if qos else b"")
    body += properties(props) if ver == 5 else b""
    return packet(0x30 | dup << 3 | qos << 1 | bool(retain), body + payload)


def ack(kind, pid, reason=None):
    body = struct.pack(">H", pid) + (b"" if reason is None else bytes([reason]))
    return packet(kind << 4 | (2 if kind == PUBREL else 0), body)


def subscribe(ver, pid, filters, props=None):
    """filters: (filter, options byte)"""
    body = struct.pack(">H", pid) + (properties(props) if ver == 5 else b"")
    return packet(0x82, body + b"".join(string(f) + bytes([o]) for f, o in filters))


def unsubscribe(ver, pid, filters, props=None):
    body = struct.pack(">H", pid) + (properties(props) if ver == 5 else b"")
    return packet(0xA2, body + b"".join(string(f) for f in filters))


def disconnect(ver, reason=None, props=None):
    if ver < 5 or reason is None:
        return packet(0xE0, b"")
    return packet(0xE0, bytes([reason]) + (properties(props) if props is not None else b""))


PINGREQ_BYTES = b"\xc0\x00"


# ---- decoding ---------------------------------------------------------------------------------------

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise Malformed("packet ends inside a field")
        self.at += n
        return self.data[self.at - n:self.at]

    def left(self):
        return len(self.data) - self.at

    def u8(self):
        return self.take(1)[0]

    def u16(self):
        return struct.unpack(">H", self.take(2))[0]

    def u32(self):
        return struct.unpack(">I", self.take(4))[0]

    def bin(self):
        return bytes(self.take(self.u16()))

    def str(self):
        try:
            s = self.bin().decode()
        except UnicodeDecodeError as e:
            raise Malformed(f"invalid UTF-8: {e}") from e
        if "\0" in s:
            raise Malformed("NUL in a string")
        return s

    def pair(self):
        return (self.str(), self.str())

    def var(self):
        value = 0
        for i in range(4):
            b = self.u8()
            value |= (b & 0x7F) << (7 * i)
            if not b & 0x80:
                if i and not b:
                    raise Malformed("variable byte integer longer than needed")
                return value
        raise Malformed("variable byte integer of more than 4 bytes")

    def properties(self, kind):
        size = self.var()
        end = self.at + size
        if size > self.left():
            raise Malformed("properties longer than the packet")
        props = {}
        while self.at < end:
            pid = self.var()
            if pid not in PROPERTIES:
                raise Malformed(f"unknown property {pid:#x}")
            name, form, where = PROPERTIES[pid]
            if kind not in where:
                raise Malformed(f"property {name} in {NAMES[kind]}")
            if name in props and name not in REPEATABLE:
                raise Malformed(f"property {name} twice")
            props.setdefault(name, []).append(getattr(self, form)())
        if self.at != end:
            raise Malformed("property crosses the end of the properties")
        if 0 in props.get("subscription_id", ()) or 0 in props.get("topic_alias", ()):
            raise Malformed("subscription identifier or topic alias 0")
        return props


def _publish(r, ver, flags):
    p = {"dup": flags >> 3 & 1, "qos": flags >> 1 & 3, "retain": flags & 1}
    if p["qos"] == 3 or (p["dup"] and not p["qos"]):
        raise Malformed(f"PUBLISH flags {flags:#x}")
    p["topic"] = r.str()
    if "+" in p["topic"] or "#" in p["topic"]:
        raise Malformed("wildcard in a topic name")
    if p["qos"]:
        p["pid"] = r.u16()
        if not p["pid"]:
            raise Malformed("packet identifier 0")
    p["props"] = r.properties(PUBLISH) if ver == 5 else {}
    if not p["topic"] and "topic_alias" not in p["props"]:
        raise Malformed("empty topic name")
    p["payload"] = bytes(r.take(r.left()))
    return p


def _acks(r, ver, kind):
    p = {"pid": r.u16(), "reason": 0, "props": {}}
    if ver == 5 and r.left():
        p["reason"] = r.u8()
        if r.left():
            p["props"] = r.properties(kind)
    return p


def _codes(r, ver, kind):
    p = {"pid": r.u16(), "props": r.properties(kind) if ver == 5 else {}, "codes": []}
    if kind == SUBACK or ver == 5:
        p["codes"] = list(r.take(r.left()))
        if not p["codes"]:
            raise Malformed(f"{NAMES[kind]} without reason codes")
    if kind == SUBACK and ver < 5 and any(c not in (0, 1, 2, 0x80) for c in p["codes"]):
        raise Malformed(f"SUBACK codes {p['codes']}")
    return p


def decode(ver, first, body):
    """A packet from a server: dict with "type" and its fields."""
    kind, flags, r = first >> 4, first & 0x0F, Reader(body)
    if kind != PUBLISH and flags != (2 if kind == PUBREL else 0):
        raise Malformed(f"{NAMES[kind]} flags {flags:#x}")
    if kind == PUBLISH:
        p = _publish(r, ver, flags)
    elif kind == CONNACK:
        p = {"session_present": r.u8(), "code": r.u8(), "props": {}}
        if p["session_present"] > 1 or (p["session_present"] and p["code"]):
            raise Malformed(f"CONNACK flags {p['session_present']}, code {p['code']}")
        # a server that refuses the protocol level answers in the form of an older one
        if ver == 5 and r.left():
            p["props"] = r.properties(kind)
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        p = _acks(r, ver, kind)
    elif kind in (SUBACK, UNSUBACK):
        p = _codes(r, ver, kind)
    elif kind == PINGRESP:
        p = {}
    elif kind in (DISCONNECT, AUTH) and ver == 5:
        p = {"reason": r.u8() if r.left() else 0, "props": {}}
        if r.left():
            p["props"] = r.properties(kind)
    else:
        raise Malformed(f"a server does not send {NAMES[kind]}")
    if r.left():
        raise Malformed(f"{r.left()} bytes left over in {NAMES[kind]}")
    p["type"] = kind
    return p


def frame(buf):
    """First packet of a bytearray: (first byte, body, length of all), None if it is not complete."""
    value = 0
    for i in range(1, 5):
        if i >= len(buf):
            return None
        value |= (buf[i] & 0x7F) << (7 * (i - 1))
        if not buf[i] & 0x80:
            break
    else:
        raise Malformed("remaining length of more than 4 bytes")
    total = 1 + i + value
    if len(buf) < total:
        return None
    return buf[0], bytes(buf[1 + i:total]), total
