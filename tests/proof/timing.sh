#!/bin/sh
# SPDX-License-Identifier: MIT
#
# timing.sh - does the time of an answer tell about the admin token? TIMING_CALLS chooses how many calls are measured.

"${builddir:-.}/tests/proof/constant_time" "${TIMING_CALLS:-1000000}"
