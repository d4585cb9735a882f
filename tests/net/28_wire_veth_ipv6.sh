#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# 28_wire_veth.sh over IPv6.
# PLACEMENTS: single spread
# TIMEOUT: 150
SIX=1
. "$(dirname "$0")/28_wire_veth.sh"
