#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# test.sh BUILD_DIR [ARGUMENTS OF check.py]: seg-server of that build under
# load, half a minute.  Skips what is not installed, and says so.
set -eu

build=${1:?usage: test.sh BUILD_DIR [--seconds N] [--seed N] [--sanitizer]}
shift
name="examples/server in $build"
server=$build/examples/server/seg-server
if [ ! -x "$server" ]; then
	echo "SKIP: $name: not built, libmicrohttpd is missing"
	exit 0
fi
for program in wrk python3; do
	if ! command -v $program > /dev/null; then
		echo "SKIP: $name: no $program"
		exit 0
	fi
done
if "$(dirname "$0")/check.py" "$server" "$@"; then
	echo "PASS: $name"
else
	echo "FAIL: $name"
	exit 1
fi
