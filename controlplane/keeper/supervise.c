// SPDX-License-Identifier: BSD-3-Clause
/*
 * Life of the engine: start in order, restart of the control plane, end.
 *
 *   setup > datapath > DP_READY > TAP > control plane > CP_READY > listen > up
 *
 * In: SIGCHLD, messages of readiness, timers, kp_stop(); out: the two child programs.  A control
 * plane that dies is started again with back-off; a datapath that dies is the end of everything.
 * State: kp->state and the two struct kp_child.  Runs in the loop.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ctl_sock.h"
#include "common/log.h"

#include "region.h"
#include "siblings.h"

#define HUNG_MS 500u /* a child that closed its socket has so long to exit */

static void stop_datapath(struct kp_keeper *kp);
static void start_control_plane(struct kp_keeper *kp);

static void set_timer(struct kp_child *c, uv_timer_cb cb, uint64_t ms)
{
	uv_timer_start(&c->timer, cb, ms, 0);
}

static void kill_child(uv_timer_t *t)
{
	struct kp_child *c = t->data;

	if (c->pid > 0) {
		LOG_WARN("%s does not end: killing it", c->name);
		kill(c->pid, SIGKILL);
	}
}

static void not_ready(uv_timer_t *t)
{
	struct kp_child *c = t->data;
	struct kp_keeper *kp = c->kp;
	char line[160];
	char why[KP_ERR_BYTES];

	kp_child_last_line(c, line, sizeof(line));
	snprintf(why, sizeof(why), "%s is not ready after %u s%s%s", c->name, KP_READY_MS / 1000,
		 line[0] ? "; its last line: " : "", line);
	if (kp->state == KP_STARTING) {
		kp_stop(kp, 1, why);
	} else if (c->pid > 0) {
		LOG_ERROR("%s: killing it", why);
		kill(c->pid, SIGKILL);
	}
}

/* ---- the end ---- */

static void finish(struct kp_keeper *kp)
{
	kp_apps_engine_gone(kp);
	kp_setup_undo(&kp->setup);
	kp_parting(kp->state_fd, kp->setup.port_if);
	kp_remove_files(kp);
	close(kp->pid_fd); /* from here on another `toe up` may start */
	kp_clients_farewell(kp);
	LOG_INFO("engine is down");
	if (kp->loop_ready)
		uv_stop(&kp->loop);
}

static void stop_datapath(struct kp_keeper *kp)
{
	if (kp->dp.pid == 0) {
		finish(kp);
		return;
	}
	kill(kp->dp.pid, SIGTERM);
	set_timer(&kp->dp, kill_child, KP_TERM_MS);
}

void kp_stop(struct kp_keeper *kp, int exit_code, const char *reason)
{
	if (kp->state == KP_STOPPING)
		return;
	if (reason)
		LOG_ERROR("%s", reason);
	else
		LOG_INFO("stopping");
	kp_report(kp, false, reason ? reason : "stopped before it was up");
	kp_notify(kp, "STOPPING=1", reason ? reason : "stopping");
	kp->state = KP_STOPPING;
	kp->exit_code = exit_code;
	if (kp->pid_fd >= 0)
		dprintf(kp->pid_fd, KP_ENDING);
	kp_clients_stop_listening(kp);
	if (kp->cp.in_loop)
		uv_timer_stop(&kp->cp.timer);
	if (kp->dp.in_loop)
		uv_timer_stop(&kp->dp.timer);
	if (kp->cp.pid > 0) {
		kill(kp->cp.pid, kp->dp.pid > 0 ? SIGTERM : SIGKILL);
		set_timer(&kp->cp, kill_child, KP_TERM_MS);
		return;
	}
	stop_datapath(kp);
}

/* ---- deaths ---- */

static void restart_control_plane(uv_timer_t *t)
{
	struct kp_child *c = t->data;

	start_control_plane(c->kp);
}

static void control_plane_died(struct kp_keeper *kp, const char *how)
{
	uint64_t ran_ms = uv_hrtime() / 1000000 - kp->cp.started_ms;

	if (kp->state == KP_STARTING) {
		kp_stop(kp, 1, how);
		return;
	}
	if (ran_ms >= KP_HEALTHY_MS)
		kp->cp_backoff_ms = KP_BACKOFF_MIN_MS;
	LOG_ERROR("%s; starting it again in %u ms, connections go on", how, kp->cp_backoff_ms);
	kp->engine.cp_restarts++;
	kp->engine.controlplane_pid = 0;
	kp_relay_lost(kp);
	set_timer(&kp->cp, restart_control_plane, kp->cp_backoff_ms);
	kp->cp_backoff_ms *= 2;
	if (kp->cp_backoff_ms > KP_BACKOFF_MAX_MS)
		kp->cp_backoff_ms = KP_BACKOFF_MAX_MS;
}

static void child_died(struct kp_child *c, int status)
{
	struct kp_keeper *kp = c->kp;
	char how[64];
	char line[160];
	char why[KP_ERR_BYTES];

	c->pid = 0;
	uv_timer_stop(&c->timer);
	kp_chan_drain(&c->chan); /* what it said before it died counts */
	kp_chan_close(&c->chan);
	c->ready = false;
	kp_child_death(status, how, sizeof(how));
	kp_child_last_line(c, line, sizeof(line));
	snprintf(why, sizeof(why), "%s %s%s%s", c->name, how,
		 !line[0]              ? ""
		 : WIFSIGNALED(status) ? "; last line of its log: "
				       : ": ",
		 line);
	if (kp->state == KP_STOPPING) {
		LOG_INFO("%s %s", c->name, how);
		if (kp->cp.pid == 0 && (c == &kp->cp || kp->dp.pid == 0))
			stop_datapath(kp);
		return;
	}
	if (c == &kp->cp) {
		control_plane_died(kp, why);
		return;
	}
	kp->engine.up = 0;
	kp_apps_engine_gone(kp);
	kp_stop(kp, 1, why);
}

void kp_on_sigchld(uv_signal_t *h, int signum)
{
	struct kp_keeper *kp = h->data;
	struct kp_child *children[] = {&kp->cp, &kp->dp};

	(void)signum;
	for (int i = 0; i < 2; i++) {
		int status;

		if (children[i]->pid > 0 &&
		    waitpid(children[i]->pid, &status, WNOHANG) == children[i]->pid)
			child_died(children[i], status);
	}
}

/* A child closed its socket, or sent something that is no message: it has to go. */
static void child_end(struct kp_chan *ch, int error, const struct toe_ctl_msg *m)
{
	struct kp_keeper *kp = ch->poll.loop->data;
	struct kp_child *c = ch == &kp->dp.chan ? &kp->dp : &kp->cp;

	if (error == -EPROTO)
		LOG_ERROR("%s speaks another version: %u/%08x, we %u/%08x: rebuild everything",
			  c->name, m->abi_version, m->abi_fingerprint, TOE_ABI_VERSION,
			  TOE_ABI_FINGERPRINT);
	kp_chan_close(ch);
	if (c->pid > 0 && kp->state != KP_STOPPING)
		set_timer(c, kill_child, HUNG_MS);
}

/* ---- start ---- */

static int open_child(struct kp_keeper *kp, struct kp_child *c, const char *program)
{
	char path[256];
	char err[KP_ERR_BYTES];

	if (!toe_sibling(program, path, sizeof(path)))
		snprintf(err, sizeof(err), "%s is missing: build it (make) or reinstall", path);
	else if (kp_child_spawn(c, path, err, sizeof(err)) == 0)
		return 0;
	if (kp->state == KP_UP)
		LOG_ERROR("%s", err); /* tried again by back-off */
	else
		kp_stop(kp, 1, err);
	return -1;
}

static void start_control_plane(struct kp_keeper *kp)
{
	if (open_child(kp, &kp->cp, "toe-controlplane") < 0) {
		if (kp->state == KP_UP)
			control_plane_died(kp, "control plane cannot be started");
		return;
	}
	kp->engine.controlplane_pid = kp->cp.pid;
	set_timer(&kp->cp, not_ready, KP_READY_MS);
	if (kp_cp_replay(kp) < 0)
		kill(kp->cp.pid, SIGKILL); /* back-off does the rest */
}

void kp_dp_ready(struct kp_keeper *kp, const struct toe_ctl_msg *m)
{
	char err[KP_ERR_BYTES];

	if (kp->dp.ready || kp->state != KP_STARTING)
		return;
	if (m->status < 0) {
		snprintf(err, sizeof(err), "datapath: %s", strerror(-m->status));
		kp_stop(kp, 1, err);
		return;
	}
	kp->dp.ready = true;
	uv_timer_stop(&kp->dp.timer);
	kp->engine.port_caps = m->u.engine.port_caps;
	if (m->u.engine.mtu)
		kp->engine.mtu = m->u.engine.mtu;
	if (kp_setup_tap(&kp->setup, &kp->cfg, m->u.engine.port_mac, err, sizeof(err)) < 0) {
		kp_stop(kp, 1, err);
		return;
	}
	kp_ipv6_started(kp);
	memcpy(kp->engine.port_mac, kp->setup.mac, 6);
	kp->engine.up = 1;
	start_control_plane(kp);
}

void kp_cp_ready(struct kp_keeper *kp, const struct toe_ctl_msg *m)
{
	char text[KP_ERR_BYTES];
	int rc;

	if (kp->cp.ready || kp->state == KP_STOPPING)
		return;
	if (m->status < 0) {
		LOG_ERROR("control plane: %s", strerror(-m->status));
		kill(kp->cp.pid, SIGKILL);
		return;
	}
	kp->cp.ready = true;
	uv_timer_stop(&kp->cp.timer);
	if (kp->state == KP_STARTING) {
		rc = kp_clients_listen(kp);
		if (rc < 0) {
			snprintf(text, sizeof(text), "%s/" TOE_KEEPER_SOCKET ": %s",
				 kp->cfg.run_dir, strerror(-rc));
			kp_stop(kp, 1, text);
			return;
		}
		kp->state = KP_UP;
		snprintf(text, sizeof(text), "engine is up: port %s, TAP %s%s%s, run directory %s",
			 kp->engine.port, kp->engine.tap, kp->cfg.address[0] ? " " : "",
			 kp->cfg.address, kp->cfg.run_dir);
		LOG_INFO("%s", text);
		kp_report(kp, true, text);
		kp_notify(kp, "READY=1", text);
	} else {
		LOG_INFO("control plane is back, restart %u", kp->engine.cp_restarts);
	}
	kp_relay_resume(kp);
}

static int make_shared(struct kp_keeper *kp)
{
	int rc = kp_cpq_create(&kp->cfg);

	if (rc < 0)
		return rc;
	kp->cpq_fd = rc;
	rc = kp_state_create();
	if (rc < 0)
		return rc;
	kp->state_fd = rc;
	rc = toe_ctl_pair(kp->dp_kick);
	if (rc < 0)
		return rc;
	for (int i = 0; i < 2; i++)
		fcntl(kp->dp_kick[i], F_SETFL, O_NONBLOCK);
	return 0;
}

static void init_child(struct kp_keeper *kp, struct kp_child *c, const char *name, const char *log)
{
	c->kp = kp;
	c->name = name;
	toe_config_path(&kp->cfg, log, c->log_path, sizeof(c->log_path));
	uv_timer_init(&kp->loop, &c->timer);
	c->timer.data = c;
	c->in_loop = true;
	c->chan.on_end = child_end;
	c->chan.on_msg = c == &kp->dp ? kp_dp_msg : kp_cp_msg;
}

static void on_cp_drain(struct kp_chan *ch)
{
	kp_tokens_flush(ch->poll.loop->data);
}

int kp_start(struct kp_keeper *kp)
{
	struct toe_ctl_engine *e = &kp->engine;
	char err[KP_ERR_BYTES];
	int rc;

	init_child(kp, &kp->dp, "datapath", "log/datapath.log");
	init_child(kp, &kp->cp, "control plane", "log/controlplane.log");
	kp->cp.chan.on_drain = on_cp_drain;
	kp->cp_backoff_ms = KP_BACKOFF_MIN_MS;
	if (kp_setup_port(&kp->setup, &kp->cfg, err, sizeof(err)) < 0) {
		kp_stop(kp, 1, err);
		return -1;
	}
	rc = make_shared(kp);
	if (rc < 0) {
		snprintf(err, sizeof(err), "shared memory: %s", strerror(-rc));
		kp_stop(kp, 1, err);
		return -1;
	}
	e->epoch = 1;
	e->port_ipv4 = kp->setup.ipv4;
	e->mtu = (uint16_t)kp->setup.mtu;
	e->tap_ifindex = kp->setup.tap_ifindex;
	e->keeper_pid = getpid();
	memcpy(e->port_mac, kp->setup.mac, 6);
	memcpy(e->port, kp->setup.port_if, sizeof(e->port));
	memcpy(e->tap, kp->setup.tap_if, sizeof(e->tap));
	if (open_child(kp, &kp->dp, "toe-datapath") < 0)
		return -1;
	e->datapath_pid = kp->dp.pid;
	set_timer(&kp->dp, not_ready, KP_READY_MS);
	rc = kp_dp_hello(kp);
	if (rc < 0)
		LOG_WARN("datapath does not listen: %s", strerror(-rc)); /* its exit follows */
	return 0;
}
