#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The bench runs through and says what it could not measure; its ratios and
# bars are right on figures that are made up.  Real ones are nobody's business.
set -u
srcdir=${srcdir:-.}
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
command -v python3 > /dev/null || {
	echo "SKIP: python3 is missing"
	exit 77
}
bench() { # arguments: the report is $work/report
	python3 -B "$srcdir/bench/segbench.py" --svg "$work/chart.svg" "$@" \
		> "$work/report" 2> "$work/errors"
}
fail() {
	echo "$*"
	cat "$work/report" "$work/errors"
	exit 1
}
has() { # a line that the report must have, as a basic regular expression
	grep -q "$1" "$work/report" || fail "not in the report: $1"
}

# All workloads, with one that is not there.
bench --quick --rounds 1 \
	--peers libseg,libseg-back,glibc,magazine,floor,nobody \
	--preload nobody="$work/none.so" --json "$work/all.json" ||
	fail "a quick run fails"
has '^| nobody | \*\*missing\*\*'
for row in pair batch64-lifo batch64-fifo batch64-random batch1024-lifo \
	ws-untouched ws-touched; do
	has "^| $row | mixed | 2 | [0-9.]* to [0-9.]* | "
done
for row in 'handover-1:1 | 64K | 4' 'handover-3:1 | 4K | 4' \
	'tail-p99.9 | mixed | 2' 'tail-clock | mixed | 2' \
	'grow-again | 64K | 1' 'grow-give-back | 64K | 1' \
	'pace-slow-get | 64K | 1' 'pace-kernel | 64K | 1' \
	'convert-charged | 128K | 1' 'resident-left | 64K | 1'; do
	has "^| $row | [0-9.e-]* to "
done
has '^| libseg | built in | 100 | 100 | 100 |'
grep -q 'Failed' "$work/report" && fail "something failed"
has '^| pair | ours / best public | <= 0.8 | '
has '^| pair | ours / magazine | <= 1.2 | '
grep -q '</svg>' "$work/chart.svg" || fail "no chart"

# A preload that the program does not see, a peer and a workload that are not.
bench --quick --only pair --rounds 2 --peers libseg,jemalloc \
	--preload jemalloc=/dev/null
has 'jemalloc, pair: status 1: .*the library is not preloaded'
bench --peers libseg,nobody && fail "a peer of no such name is no error"
bench --only nothing && fail "a workload of no such name is no error"
bench/segbench_work --peer libseg nothing 2> /dev/null && exit 1

# Ratios by hand: in each round ours is 0.5, 2, 0.5 of the best public one,
# which is by the median (10) "fast"; and half of the magazine, but for 4K.
# The purge of "kept" leaves all, so that it is not the one to beat.
cat > "$work/made.json" << 'J'
{"machine": "m", "rounds": 3, "ms": 1, "cpu": false, "mib": 100,
 "quick": false, "missing": {}, "failures": [],
 "peers": {"libseg": "", "fast": "", "kept": "", "magazine": ""},
 "samples": {
  "pair 8K 1": {"libseg": [5, 20, 5], "fast": [10, 10, 10],
   "kept": [11, 1, 11], "magazine": [10, 40, 10]},
  "pair 4K 2": {"libseg": [null, 13, 13], "fast": [10, 10, 10],
   "kept": [20, 20, 20], "magazine": [10, 10, 10]},
  "grow-left 64K 1": {"fast": [9], "kept": [90]},
  "grow-give-back 64K 1": {"libseg": [9.5], "fast": [10], "kept": [1]},
  "tail-max mixed 2": {"libseg": [999.7]},
  "resident-ms 64K 1": {"libseg": [900, 900, Infinity]}}}
J
bench --from "$work/made.json" || fail "no report of a file"
has '^| pair | 8K | 1 | 5 to 20 | 5 | 10 | 11 | 10 | 0.5 (0.5 to 2) | 0.5 '
has '^| pair | ours / best public | <= 0.8 | 0.9 | 1.3 | pair, 4K, 2 threads, fast | \*\*missed\*\* in 1 of 2 |'
has '^| pair | ours / magazine | <= 1.2 | 0.9 | 1.3 | .* | \*\*missed\*\* in 1 '
has '^| grow-give-back | ours / best public | <= 1.0 | 0.95 .* fast | met in all'
has '^| grow-give-back | ours | <= 9 | 9.5 | .* | \*\*missed\*\*, \*\*missed\*\* in 1 rounds of 1 |'
has '^| resident-ms | ours | <= 1000 | 900 | never | .* | met, \*\*missed\*\* in 1 rounds of 3 |'
has '^| tail-max | mixed | 2 | 1000 to 1000 | 1000 | - |'
has '^| tail-p99.9 | ours / magazine | <= 1.5 | - .* not measured |'
exit 0
