// SPDX-License-Identifier: BSD-3-Clause
// mqtt.js, MQTT 3.1.1: mqttjs_client.js sub|pub HOST TOPIC QOS COUNT; sub prints "subscribed", then payloads.
"use strict";
const mqtt = require("mqtt");
const [mode, host, topic, qosText, countText] = process.argv.slice(2);
const qos = Number(qosText), count = Number(countText);
const client = mqtt.connect(`mqtt://${host}:1883`, { reconnectPeriod: 0, protocolVersion: 4 });
const limit = setTimeout(() => { console.error("not finished after 60 s"); process.exit(1); }, 60000);
let left = count;
let over = false;

function finish() {
	over = true; // the PUBACK behind our DISCONNECT may be answered with a reset
	clearTimeout(limit);
	client.end(false, () => process.exit(0));
}

client.on("error", (e) => { if (over) return; console.error(String(e)); process.exit(1); });
client.on("connect", () => {
	if (mode === "sub") {
		client.subscribe(topic, { qos }, (e) => {
			if (e) { console.error(String(e)); process.exit(1); }
			console.log("subscribed");
		});
		return;
	}
	for (let i = 1; i <= count; i++) {
		client.publish(topic, `m ${i}`, { qos }, (e) => {
			if (e) { console.error(String(e)); process.exit(1); }
			if (--left === 0) finish();
		});
	}
});
client.on("message", (t, payload) => {
	console.log(payload.toString());
	if (--left === 0) finish();
});
