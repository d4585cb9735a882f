#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""paho-mqtt 1.x, MQTT 5: paho_client.py sub|pub HOST TOPIC QOS COUNT; sub prints "subscribed", then payloads."""

import sys
import threading

import paho.mqtt.client as paho

mode, host, topic, qos, count = sys.argv[1:4] + [int(a) for a in sys.argv[4:6]]
done, left = threading.Event(), count


def on_connect(client, _data, _flags, code, _props):
    if code != 0:
        sys.exit(f"refused: {code}")
    if mode == "sub":
        client.subscribe(topic, qos)


def on_message(_client, _data, message):
    global left
    print(message.payload.decode(), flush=True)
    left -= 1
    if left == 0:
        done.set()


client = paho.Client(protocol=paho.MQTTv5)
client.on_connect, client.on_message = on_connect, on_message
client.on_subscribe = lambda *_: print("subscribed", flush=True)
client.connect(host, 1883)
client.loop_start()
if mode == "pub":
    sent = [client.publish(topic, f"m {i}", qos) for i in range(1, count + 1)]
    for info in sent:
        info.wait_for_publish(60)
    ok = all(info.is_published() for info in sent)
else:
    ok = done.wait(60)
client.disconnect()
client.loop_stop()
sys.exit(0 if ok else 1)
