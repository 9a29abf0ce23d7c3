#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tools/segstat reads a process that publishes, once, as JSON and live, fits it
# into narrow terminals, and says what is wrong.
set -u

segstat=${SEGSTAT:-./tools/segstat}
tmp=$(mktemp -d) || exit 99
child=
trap 'kill $child 2> /dev/null; rm -rf "$tmp"' EXIT
failed=0

fail() {
	echo "FAILED: $*"
	sed 's/^/    /' "$tmp/out" "$tmp/err"
	failed=1
}

run() { "$segstat" "$@" > "$tmp/out" 2> "$tmp/err"; }

# status, text on stderr, arguments
refused() {
	local want=$1 text=$2 status

	shift 2
	run "$@"
	status=$?
	[ "$status" -eq "$want" ] || fail "status $status, not $want: $*"
	grep -q -- "$text" "$tmp/err" || fail "no '$text' on stderr: $*"
}

[ -w /dev/shm ] || { echo "no /dev/shm"; exit 77; }
seq 400000 > "$tmp/in"
SEG_CONF=publish:1 ./stress/ingest --quiet --seconds 600 --budget 32M \
	"$tmp/in" > "$tmp/ingest" 2>&1 &
child=$!
until run -1 "$child" && grep -q RecordPageCache "$tmp/out"; do
	kill -0 $child 2> /dev/null || { fail "ingest ended"; exit 1; }
done

# Each table, and the limit as it was given; sums, not rates
for word in "^$child ingest" '^BUDGET .*charged  *limit' '^POOL .*active' \
	'^CACHE .*weight.*hits%' '^Budget .* 32.0M ' '^Pool  ' '^PageCache '; do
	grep -q -- "$word" "$tmp/out" || fail "no '$word'"
done
! grep -q '/s' "$tmp/out" || fail "rates in sums"

# 80 columns at most, and so for others, down to one figure
for columns in 80 132 40 10; do
	COLUMNS=$columns run -1 "$child" || fail "status $?: $columns columns"
	awk -v most=$((columns > 25 ? columns : 25)) 'NR > 1 &&
		length($0) > most { bad = 1 } END { exit bad }' "$tmp/out" ||
		fail "more than $columns columns"
done
COLUMNS=200 run -1 "$child"
grep -q '^POOL .*misuses' "$tmp/out" || fail "not all columns"

# The largest first
awk '/^CACHE/ { on = 1; next } on && NF { print $2 }' "$tmp/out" |
	sed 's/K/ 1024/; s/M/ 1048576/' |
	awk '{ v = $1 * ($2 ? $2 : 1); if (NR > 1 && v > last) bad = 1;
		last = v } END { exit bad || NR != 2 }' || fail "not sorted"

# JSON has each member; its lists are those of the process
run -1 -j "$child" || fail "status $?: -1 -j"
[ "$(wc -l < "$tmp/out")" -eq 1 ] || fail "not one line"
for name in '"version":1,' "\"process\":$child," '"command":"ingest"' \
	'"limit_bytes":33554432' '"classes":\[{"slice_bytes":4096' \
	'"name":"RecordPageCache"' '"evictions_total"' '"misuses_total":0'; do
	grep -q -- "$name" "$tmp/out" || fail "no '$name' in JSON"
done
if command -v python3 > /dev/null; then
	python3 -c 'import json, sys
o = json.load(sys.stdin)
b, p, c = (o[k] for k in ("budgets", "pools", "caches"))
assert len(b) == len(p) == 1 and len(c) == 2
assert p[0]["budget"] == c[0]["budget"] == b[0]["id"] and not b[0]["budget"]
assert b[0]["charged_bytes"] <= b[0]["limit_bytes"]
assert len(p[0]["classes"]) == 7' < "$tmp/out" 2> "$tmp/err" ||
		fail "bad JSON"
fi

# Alone it lists who publishes
run || fail "status $?: the list"
grep -q "^ *$child ingest  .* 32.0M  *1  *2$" "$tmp/out" || fail "not listed"
run -j || fail "status $?: the list as JSON"
grep -q "\"process\":$child," "$tmp/out" || fail "not listed as JSON"

# Nothing in a page may control a terminal, its version neither
file=$(ls /dev/shm/libseg.*."$child")
kill -STOP $child
until run -1 "$child"; do	# it was writing
	kill -CONT $child
	kill -STOP $child
done
printf '\033[31mx' | dd of="$file" bs=1 seek=72 conv=notrunc 2> /dev/null
run -1 "$child" || fail "status $?: a bad version"
grep -q 'libseg ?\[31mx' "$tmp/out" || fail "the version is elsewhere"
kill -CONT $child

# Live: rates follow, until the process ends, which takes its file along
run -i 0.3 "$child" & live=$!
until grep -q 'allocations/s' "$tmp/out"; do
	kill -0 $live 2> /dev/null || { fail "it did not go on"; break; }
done
kill -INT $child
wait $child
wait $live
[ $? -eq 1 ] || fail "it went on without the process"
grep -q 'has ended' "$tmp/err" || fail "no word of the end"
! grep -q "$(printf '\033')" "$tmp/out" || fail "escapes in a file"
ls /dev/shm/libseg.*."$child" 2> /dev/null && fail "the file is still there"

# Killed: the file stays until it is looked at
SEG_CONF=publish:1 ./stress/ingest --quiet --seconds 600 --budget 32M \
	"$tmp/in" > "$tmp/ingest" 2>&1 &
child=$!
until run -1 "$child"; do kill -0 $child || exit 1; done
kill -KILL $child
wait $child 2> /dev/null
ls /dev/shm/libseg.*."$child" > "$tmp/out" 2>&1 || fail "no file is left"
refused 1 'has ended' -1 "$child"
refused 1 'publishes nothing' -1 "$child"
child=

refused 1 'publishes nothing .*or there is no such process' -1 1
refused 2 'usage' -x
refused 2 'usage' 1 2
refused 2 'not a good value: x' x
refused 2 'not a good value: 0' -i 0 1
run -h && grep -q usage "$tmp/out" || fail "no help"
run -V && grep -q libseg "$tmp/out" || fail "no version"
if [ -c /dev/full ]; then
	! "$segstat" -h > /dev/full 2> "$tmp/err" || fail "stdout was full"
fi
[ $failed -eq 0 ] && echo "ok"
exit $failed
