/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: modules/mqtt/mqtt_stage.c modules/mqtt/mqtt_connect.c modules/mqtt/mqtt_older.c
 * modules/mqtt/mqtt_rx.c modules/mqtt/mqtt_tx.c modules/mqtt/mqtt_session.c
 * modules/mqtt/mqtt_subscribe.c modules/mqtt/mqtt_decide.c modules/mqtt/mqtt_fanout.c
 * modules/mqtt/mqtt_fence.c modules/mqtt/mqtt_control.c modules/mqtt/mqtt_kernel.c
 * modules/mqtt/mqtt_restore.c modules/mqtt/mqtt_audit.c modules/mqtt/mqtt_framer.c
 * modules/mqtt/mqtt_props.c modules/mqtt/mqtt_publish.c modules/mqtt/mqtt_wire.c
 * tests/unit/mqtt_model.h */
/* The MQTT module, and its name for programs in which no stream_registry.c finds it. */
#ifndef MQTT_MODULE_H
#define MQTT_MODULE_H

struct toe_stream_module;

extern const struct toe_stream_module mqtt_module;

#endif
