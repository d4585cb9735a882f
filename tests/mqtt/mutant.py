#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A broker with a fault, to show that the differential suite sees it: mutant.py PORT HOST:PORT FAULT.

Passes everything on, but of the QoS 0 PUBLISHes to each client every 40th is dropped (drop), sent twice
(twice), sent after the next packet (swap), or has its RETAIN bit turned over (retain); late: the last
PUBLISH is sent again after UNSUBACK.  Prints "ready".
"""

import asyncio
import pathlib
import socket
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import mqttc as m  # noqa: E402

EVERY = 40
port, upstream, fault = int(sys.argv[1]), sys.argv[2].split(":"), sys.argv[3]


class Fault:
    """Of one connection: packets in, packets out."""

    def __init__(self):
        self.count, self.held, self.last = 0, b"", b""

    def packet(self, data):
        kind, qos = data[0] >> 4, data[0] >> 1 & 3
        out, self.held = data + self.held, b""
        if kind == m.UNSUBACK and fault == "late":
            return data + self.last
        if kind != m.PUBLISH or qos:
            return out
        self.last, self.count = data, self.count + 1
        if self.count % EVERY:
            return out
        if fault == "drop":
            return out[len(data):]
        if fault == "twice":
            return data + out
        if fault == "retain":
            return bytes([data[0] ^ 1]) + out[1:]
        if fault == "swap":
            self.held = data
            return out[len(data):]
        return out


async def to_broker(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def to_client(reader, writer, upstream_socket):
    buf, state = bytearray(), Fault()
    try:
        while data := await reader.read(65536):
            buf += data
            # no delayed ACK: mosquitto leaves Nagle's algorithm on
            upstream_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            while got := m.frame(buf):
                writer.write(state.packet(bytes(buf[:got[2]])))
                del buf[:got[2]]
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def serve(reader, writer):
    try:
        up_reader, up_writer = await asyncio.open_connection(*upstream)
    except OSError:
        writer.close()
        return
    sock = up_writer.get_extra_info("socket")
    await asyncio.gather(to_broker(reader, up_writer), to_client(up_reader, writer, sock))


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main())
