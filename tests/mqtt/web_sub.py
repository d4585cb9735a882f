#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A subscriber over WebSocket (paho-mqtt 1.x), with the options and the output of mosquitto_sub -d -v; one more:
--publish TOPIC publishes the lines of standard input, QoS 1, and ends."""

import argparse
import sys
import threading

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

arg = argparse.ArgumentParser(add_help=False)
arg.add_argument("-h", dest="host", required=True)
arg.add_argument("-p", dest="port", type=int, required=True)
arg.add_argument("-t", dest="topics", action="append", default=[])
arg.add_argument("-i", dest="client_id", default="")
arg.add_argument("-q", dest="qos", type=int, default=0)
arg.add_argument("-c", dest="keep", action="store_true")
arg.add_argument("-V", dest="level", type=int, default=4)
arg.add_argument("-u", dest="user")
arg.add_argument("-P", dest="password")
arg.add_argument("--expiry", type=int, help="with -V 5: seconds the new session outlives the connection")
arg.add_argument("--cafile")
arg.add_argument("--publish")
opt = arg.parse_args()


def on_connect(client, _data, _flags, code, *_props):
    if code != 0:
        sys.exit(f"refused: {code}")
    if opt.topics:
        client.subscribe([(t, opt.qos) for t in opt.topics])
    connected.set()


connected = threading.Event()
more = {} if opt.level == 5 else {"clean_session": not opt.keep}
client = paho.Client(opt.client_id, transport="websockets", protocol=opt.level, **more)
client.on_connect = on_connect
client.on_subscribe = lambda _c, _d, mid, *_: print(f"Subscribed (mid: {mid})", flush=True)
client.on_message = lambda _c, _d, m: print(m.topic, m.payload.decode(), flush=True)
if opt.user:
    client.username_pw_set(opt.user, opt.password)
if opt.cafile:
    client.tls_set(opt.cafile)
if opt.expiry:
    lasts = Properties(PacketTypes.CONNECT)
    lasts.SessionExpiryInterval = opt.expiry
    client.connect(opt.host, opt.port, clean_start=True, properties=lasts)
else:
    client.connect(opt.host, opt.port)
if not opt.publish:
    client.loop_forever()
client.loop_start()
if not connected.wait(20):
    sys.exit("no connection")
for line in sys.stdin:
    client.publish(opt.publish, line.rstrip("\n"), 1).wait_for_publish(20)
client.disconnect()
client.loop_stop()
