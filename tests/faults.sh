#!/usr/bin/env bash
# Stops runs in every way, a hundred times and more, goes on with them, and prints what was counted: kills, signals, full
# disks (as the owner of the machine), files cut at each byte of their last lines, and seeds of any length.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test "$@" --test it -- --include-ignored --nocapture --test-threads 1 program::faults |
    grep -E "stops in|full disks|cuts of|rows made|SKIPPED|test result"
