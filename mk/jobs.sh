# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# Sourced.  JOBS: "-j<CPUs>" for a make that is started here, empty under a make that has its own jobs.

case "${MAKEFLAGS:-}" in
*-j* | *jobserver*) JOBS=() ;;
*) JOBS=("-j$(nproc)" -O) ;;
esac
