#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The bench builds and runs through; its figures are nobody's business here.
set -u
bench=bench/cachebench
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT

./$bench --seconds 0.002 --rounds 1 --entries 1000 --threads 1,2 \
	--only libseg,libseg-pin,index,mutex-lru > "$work/rows" || exit 1
for row in hit pin one onepin mix insert; do
	grep -q "^| $row " "$work/rows" || {
		echo "no figures for the row $row"
		exit 1
	}
done
./$bench lines | grep -q . || exit 1
# A trace of two requests of 12 bytes.
printf '\1\0\0\0\0\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0' > "$work/good.kv"
command -v zstd > /dev/null || exit 0
zstd -q --rm "$work/good.kv" || exit 99
./$bench traces "$work" > "$work/out" 2>&1 || {
	cat "$work/out"
	exit 1
}
./$bench traces "$work/none" > /dev/null 2>&1 && {
	echo "a folder that is not there is no error"
	exit 1
}
exit 0
