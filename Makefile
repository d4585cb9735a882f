# SPDX-License-Identifier: BSD-3-Clause
#
# make help lists the targets.  Sources are found by wildcard, one folder per program; a new file needs no
# edit here.  Unit tests and test programs name the sources they need in a `/* LINK: ... */` comment.
# V=1 shows commands; SAN=address|undefined|thread builds into its own folder.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

VERSION := 0.1.0
PREFIX  ?= /usr
SAN     ?=
B       := build$(addprefix -,$(SAN))
CC      := gcc
SHELL   := /bin/bash
Q       := $(if $(V),,@)
say      = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2);)

# ---- flags ------------------------------------------------------------------------------------------
WARN   := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Werror
san_address   := -fsanitize=address -fno-omit-frame-pointer
# DPDK's headers load unaligned words (rte_hash_crc.h, x86 only), inline in our code.
san_undefined := -fsanitize=undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined
# TSan does not model fences.  Ours only decide who wakes a sleeper; data is published by release stores.
# RTE_USE_C11_MEM_MODEL: rings with atomics, which TSan understands, instead of compiler barriers.
san_thread    := -fsanitize=thread -Wno-tsan -DRTE_USE_C11_MEM_MODEL
SANFLAGS := $(san_$(SAN))

# Comments and white space do not count, values of macros do.
ABI := 0x$(shell cat include/toe/*.h | $(CC) -fpreprocessed -dD -E -P - 2>/dev/null | \
	tr -d '[:space:]' | sha256sum | cut -c1-8)

pkg = $(shell pkg-config $(1) $(2) 2>/dev/null)
# DPDK's inline functions are not ours to warn about.
sys = $(patsubst -I%,-isystem %,$(1))

CP_PKGS := libmnl libuv jansson libconfig
DP_PKGS := libdpdk libconfig $(if $(wildcard modules/xdp/*.c),libbpf)

BASE_CFLAGS := -std=gnu11 -D_GNU_SOURCE -O2 -g $(WARN) $(SANFLAGS) -Iinclude -I. \
	-DTOE_ABI_FINGERPRINT=$(ABI)u -DTOE_VERSION='"$(VERSION)"' \
	-DTOE_LIBDIR='"$(PREFIX)/lib/toe"' $(CFLAGS_EXTRA)
CP_CFLAGS  := $(BASE_CFLAGS) $(call sys,$(call pkg,--cflags,$(CP_PKGS)))
DP_CFLAGS  := $(BASE_CFLAGS) -Idatapath -DALLOW_EXPERIMENTAL_API \
	$(call sys,$(call pkg,--cflags,$(DP_PKGS)))
LIB_CFLAGS := $(BASE_CFLAGS) -fPIC -fvisibility=hidden

LDFLAGS := $(SANFLAGS) -Wl,--as-needed -Wl,-z,relro,-z,now
CP_LIBS := $(call pkg,--libs,$(CP_PKGS)) -lpthread
DP_LIBS := $(call pkg,--libs,$(DP_PKGS)) -lpthread -lm
LIB_LIBS := -lpthread -ldl

# Objects depend on this file, so that other flags (or another ABI) rebuild them.
FLAGS_TEXT := $(CC) $(DP_CFLAGS) $(CP_CFLAGS) $(LDFLAGS)
$(shell mkdir -p $(B); printf '%s\n' "$(subst ",\",$(FLAGS_TEXT))" | cmp -s - $(B)/.flags || \
	printf '%s\n' "$(subst ",\",$(FLAGS_TEXT))" >$(B)/.flags)

# ---- sources ----------------------------------------------------------------------------------------
COMMON_SRC := $(wildcard common/*.c)
DP_SRC     := $(wildcard datapath/*.c datapath/stages/*.c modules/mqtt/*.c modules/xdp/*.c)
CP_SRC     := $(wildcard controlplane/*.c)
KEEPER_SRC := $(wildcard controlplane/keeper/*.c)
CLI_SRC    := $(wildcard controlplane/cli/*.c)
LIB_SRC    := $(wildcard libtoe/*.c)
LIB_COMMON := common/ctl_sock.c common/log.c common/broker_conf.c common/broker_db.c \
	$(addprefix modules/mqtt/mqtt_,wire.c props.c framer.c)
UNIT_SRC   := $(wildcard tests/unit/test_*.c)
PROG_SRC   := $(wildcard tests/progs/*.c tests/oracle/*.c bench/*.c)

obj = $(patsubst %.c,$(B)/obj/$(1)/%.o,$(2))
COMMON_OBJ := $(call obj,base,$(COMMON_SRC))

UNIT  := $(patsubst tests/unit/%.c,$(B)/tests/%,$(UNIT_SRC))
PROGS := $(patsubst tests/%.c,$(B)/tests/%,$(filter tests/%,$(PROG_SRC))) \
	$(patsubst bench/%.c,$(B)/bench/%,$(filter bench/%,$(PROG_SRC)))
BINS  := $(if $(DP_SRC),$(B)/toe-datapath) $(if $(CP_SRC),$(B)/toe-controlplane) \
	$(if $(KEEPER_SRC),$(B)/toe-keeper) $(if $(CLI_SRC),$(B)/toe) \
	$(if $(LIB_SRC),$(B)/libtoe.so)

# ---- building ---------------------------------------------------------------------------------------
.PHONY: all progs units
all: $(BINS) $(PROGS) ## build everything into build/ (default); make build/toe-keeper etc.: one part
progs: $(PROGS) ## build the test programs and load clients only
units: $(UNIT) ## build the unit tests only

$(B)/obj/base/%.o: %.c $(B)/.flags
	$(call say,CC,$<) mkdir -p $(@D); $(CC) $(CP_CFLAGS) -MMD -MP -c -o $@ $<
$(B)/obj/dp/%.o: %.c $(B)/.flags
	$(call say,CC,$<) mkdir -p $(@D); $(CC) $(DP_CFLAGS) -MMD -MP -c -o $@ $<
$(B)/obj/pic/%.o: %.c $(B)/.flags
	$(call say,CC-PIC,$<) mkdir -p $(@D); $(CC) $(LIB_CFLAGS) -MMD -MP -c -o $@ $<
# TEST_CFLAGS: tests.mk says which test needs DPDK; product sources go by their folder.
$(B)/obj/test/%.o: %.c $(B)/.flags
	$(call say,CC-TEST,$<) mkdir -p $(@D); $(CC) \
		$(if $(filter datapath/% modules/% tests/modules/%,$<),$(DP_CFLAGS),$(or $(TEST_CFLAGS),$(CP_CFLAGS))) \
		-DTOE_DEBUG -MMD -MP -c -o $@ $<

link = $(call say,LD,$@) $(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(1)
$(B)/toe-datapath: $(call obj,dp,$(DP_SRC)) $(COMMON_OBJ)
	$(call link,$(DP_LIBS))
$(B)/toe-controlplane: $(call obj,base,$(CP_SRC)) $(COMMON_OBJ)
	$(call link,$(CP_LIBS))
$(B)/toe-keeper: $(call obj,base,$(KEEPER_SRC)) $(COMMON_OBJ)
	$(call link,$(CP_LIBS))
$(B)/toe: $(call obj,base,$(CLI_SRC)) $(COMMON_OBJ)
	$(call link,$(CP_LIBS))
LIB_MAP := $(wildcard libtoe/libtoe.map)
$(B)/libtoe.so: $(call obj,pic,$(LIB_SRC) $(LIB_COMMON)) $(LIB_MAP)
	$(call link,-shared -Wl$(comma)-z$(comma)defs -Wl$(comma)-soname$(comma)libtoe.so \
		$(addprefix -Wl$(comma)--version-script=,$(LIB_MAP)) $(LIB_LIBS))
comma := ,

# One rule per unit test and test program, from their LINK comments.
$(B)/tests.mk: $(UNIT_SRC) $(PROG_SRC) $(wildcard tests/*/*.h) mk/links.awk mk/test-rules.awk
	$(Q)mkdir -p $(@D); awk -v B=$(B) -f mk/links.awk -f mk/test-rules.awk $(UNIT_SRC) $(PROG_SRC) >$@
ifeq ($(filter clean help deps format uninstall,$(MAKECMDGOALS)),)
include $(B)/tests.mk
-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
endif

# ---- checking ---------------------------------------------------------------------------------------
.PHONY: deps unit lint format check mutants test net demo bench bench-mqtt bench-loss fuzz soak
deps: ## install missing Debian packages (mk/packages); nothing to do if all are there
	$(Q)mk/deps.sh

unit: ## build and run the unit tests; T=name: only tests/unit/test_*name*.c
	$(Q)B=$(B) SAN=$(SAN) MAKE="$(MAKE)" mk/run-unit.sh $(foreach t,$(UNIT),$(if $(findstring $(T),$(t)),$(t),$(if $(T),,$(t))))

fuzz: ## each parser FUZZ_SECONDS=60 on random input; T=name: only fuzz_*name*.c; FUZZ_SEED=1: as make test does
	$(Q)B=$(B) T="$(T)" FUZZ_SECONDS="$(FUZZ_SECONDS)" FUZZ_SEED="$(FUZZ_SEED)" mk/fuzz.sh

soak: all ## with root: hours of wire soak, fuzzing, bad networks, MQTT order; TOE_SOAK=100 FUZZ_SECONDS=600 MESSAGES=1e7
	$(Q)B=$(B) MAKE="$(MAKE)" FUZZ_SECONDS="$(FUZZ_SECONDS)" mk/soak.sh

lint: ## format, clang-tidy, cppcheck, include direction, sizes, forbidden words, shellcheck, codespell
	$(Q)B=$(B) MAKE="$(MAKE)" mk/lint.sh

format: ## clang-format all C files in place
	$(Q)find include common datapath controlplane libtoe modules tests bench \
		-name '*.[ch]' -print0 | xargs -0 clang-format -i

check: ## without root: deps, build, unit tests, lint
	$(Q)B=$(B) MAKE="$(MAKE)" mk/check.sh

mutants: ## break the stack in many ways and demand that the tests see each; T=name: only those
	$(Q)B=$(B) T="$(T)" MAKE="$(MAKE)" mk/mutants.sh

test: ## with root: everything that can run here; last line "N passed, N failed"
	$(Q)B=$(B) MAKE="$(MAKE)" mk/test.sh

net: all ## with root: the network tests only; T=name: only tests/net/*name*.sh
	$(Q)B=$(B) T="$(T)" tests/run-net

bench: all ## with root: echo and bulk beside the kernel, medians and ratios; ROUNDS=3
	$(Q)B=$(B) bench/run.sh

bench-mqtt: all ## with root: MQTT fan-out, mosquitto on the kernel and under toe; COUNTS="100 1000"
	$(Q)B=$(B) bench/mqtt_bench.sh

bench-loss: all ## with root: goodput through 0 to 5 % loss, kernel and toe; LOSS="0 0.01" CC=reno
	$(Q)B=$(B) bench/loss.sh

demo: ## with root: mosquitto on the kernel and offloaded, side by side, checked; KEEP=1 leaves it up
	$(Q)mk/deps.sh || { echo "demo: FAILED: packages are missing"; exit 1; }
	$(Q). mk/jobs.sh && $(MAKE) --no-print-directory "$${JOBS[@]}" all || { echo "demo: FAILED: build"; exit 1; }
	$(Q)B=$(B) KEEP="$(KEEP)" tests/demo.sh

# ---- the rest ---------------------------------------------------------------------------------------
.PHONY: install uninstall clean help print-cflags
D := $(DESTDIR)$(PREFIX)
install: all ## install below DESTDIR/PREFIX (/usr), configuration to DESTDIR/etc/toe
	install -d $(D)/bin $(D)/lib/toe $(D)/share/doc/toe $(DESTDIR)/etc/toe \
		$(DESTDIR)/lib/systemd/system
	install -m 755 $(B)/toe $(D)/bin/toe
	install -m 755 $(B)/toe-keeper $(B)/toe-datapath $(B)/toe-controlplane $(D)/lib/toe/
	install -m 644 $(B)/libtoe.so $(D)/lib/toe/
	install -m 644 README.md CHANGES.md docs/*.md $(D)/share/doc/toe/
	install -D -m 644 mk/toe.1 $(D)/share/man/man1/toe.1
	$(B)/toe config --sample >$(B)/toe.conf
	test -e $(DESTDIR)/etc/toe/toe.conf || \
		install -m 644 $(B)/toe.conf $(DESTDIR)/etc/toe/toe.conf
	install -m 644 $(B)/toe.conf $(D)/share/doc/toe/toe.conf.sample
	sed 's|@PREFIX@|$(PREFIX)|g' mk/toe.service.in >$(DESTDIR)/lib/systemd/system/toe.service
	sed 's|@PREFIX@|$(PREFIX)|g' mk/mosquitto-toe.conf.in >$(D)/share/doc/toe/mosquitto-toe.conf

uninstall: ## remove what install put below DESTDIR/PREFIX; a changed toe.conf stays
	$(Q)DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" mk/uninstall.sh

clean: ## remove build folders
	rm -rf build build-address build-undefined build-thread

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo '  V=1 shows commands, SAN=address|undefined|thread builds with a sanitizer, T= selects tests'

# For mk/lint.sh and editors: make -s print-cflags KIND=DP|CP|LIB
print-cflags:
	@:$(info $($(KIND)_CFLAGS))
