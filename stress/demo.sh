#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# demo.sh BUILD_DIR: the main job on a real file, after a short run of the old
# way, then what its event log says.  Leaves demo.svg and demo.log in BUILD_DIR.
# It takes about 30 seconds, after the build.
# The picture has both runs.
# DEMO_SECONDS and DEMO_BYTES make it shorter or the file smaller.
set -eu

build=${1:?usage: demo.sh BUILD_DIR}
ingest=$build/stress/ingest
seconds=${DEMO_SECONDS:-20}
bytes=${DEMO_BYTES:-128000000}
budget=256M
epoch=128
before_end="at its time"
log=$build/demo.log
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0

# What every Debian machine knows about its packages.
collect() {
	apt-cache dumpavail 2>/dev/null || true
	cat /var/lib/dpkg/status /var/lib/dpkg/available \
		/var/lib/dpkg/info/*.list \
		/usr/share/common-licenses/* 2>/dev/null || true
}

# The same again with a number before each line, until it is large enough.
repeat() {
	local round=0

	while [ "$(stat -c %s "$tmp/input")" -lt "$bytes" ]; do
		round=$((round + 1))
		sed "s/^/$round /" "$tmp/once" >>"$tmp/input"
	done
}

check() {	# name, result of a test command
	if [ "$2" -eq 0 ]; then
		echo "     ok: $1"
	else
		echo "     NOT OK: $1"
		failed=1
	fi
}

holds() { if [ "$@" ]; then echo 0; else echo 1; fi; }

collect >"$tmp/once"
[ -s "$tmp/once" ] || { echo "demo: found no file to read" >&2; exit 1; }
cp "$tmp/once" "$tmp/input"
repeat

echo "== the demo takes about $((seconds + 10)) s, after the build"
echo "== the old way, at the most for 5 seconds, to compare: all is mapped at"
echo "   the start, and its caches weigh what was ever pinned as 0"
echo "   (then 3 more, to see whether anything is given back)"
status=0
"$ingest" "$tmp/input" --before --budget $budget --seconds 5 --epoch $epoch \
	--readers 4 --decay 3000 --store "$tmp/store" \
	--csv "$tmp/before.csv" >"$tmp/before.out" 2>"$tmp/before.err" ||
	status=$?
grep -E '^  (throughput|PageCache|Record|  evict|  keeps|mapped after)' \
	"$tmp/before.out" || true
sed 's/^/  /' "$tmp/before.err"
[ $status -eq 0 ] || grep -q 'out of memory' "$tmp/before.err" || exit 1
[ $status -eq 0 ] || before_end="out of memory"

echo "== libseg for $seconds seconds"
"$ingest" "$tmp/input" --budget $budget --seconds "$seconds" --epoch $epoch \
	--readers 4 --decay 200 --store "$tmp/store" --log "$log" \
	--csv "$tmp/libseg.csv" --svg "$build/demo.svg" \
	--overlay "$tmp/before.csv" | tee "$tmp/libseg.out"
[ "${PIPESTATUS[0]}" -eq 0 ] || exit 1

# column of the samples, what: first, most or last; in the unit
sampled() {
	awk -F, -v column="$2" -v what="$3" -v unit="${4:-1048576}" '
		NR == 1 { next }
		what != "first" || NR == 2 { v = $column }
		v > most { most = v }
		END { printf "%.0f", (what == "most" ? most : v) / unit }' "$1"
}

compare() {	# name, column, what, unit
	printf '  %-36s %14s %14s\n' "$1" \
		"$(sampled "$tmp/before.csv" "$2" "$3" "${4:-1048576}")" \
		"$(sampled "$tmp/libseg.csv" "$2" "$3" "${4:-1048576}")"
}

echo "== side by side"
printf '  %-36s %14s %14s\n' "" "the old way" "libseg"
compare "mapped at the start, MiB" 4 first
compare "mapped at the most, MiB" 4 most
compare "mapped at the end, MiB" 4 last
compare "handed out at the end, MiB" 5 last
compare "kept by the caches at the most, MiB" 7 most
compare "pages that the listener was told of" 9 last 1
printf '  %-36s %14s %14s\n' "how it ended" "$before_end" "all returned"

echo "== the event log of that run, $log"
new=$(grep -c 'Allocated new region' "$log" || true)
freed=$(grep -c 'Freed region' "$log" || true)
echo "  1 grep -c 'Allocated new region': $new, 'Freed region': $freed"
check "each of the $new regions that were mapped was unmapped (of 24 or more)" \
	"$(holds "$new" -eq "$freed" -a "$new" -ge 24)"

most=$(sed -n 's/.*total mapped now: \([0-9]*\) KB of .*/\1/p' "$log" |
	sort -n | tail -n 1)
limit=$(sed -n 's/.*total mapped now: [0-9]* KB of \([0-9]*\) KB.*/\1/p' \
	"$log" | sort -nu | tail -n 1)
echo "  2 most of 'total mapped now': ${most:-none} KB of ${limit:-none} KB"
check "mapped within the budget" "$(holds "${most:-1}" -le "${limit:-0}")"

echo "  3 grep 'total mapped now' | tail -n 2"
grep 'total mapped now' "$log" | tail -n 2 | sed 's/^/      /'
zero=$(grep -c 'Freed region.*total mapped now: 0 KB' "$log" || true)
check "it came back to 0 KB (lines that say so: $zero)" "$(holds "$zero" -ge 1)"

head -c 300000 "$tmp/once" >"$tmp/tiny"
"$ingest" "$tmp/tiny" --budget 16M --epoch 4 --decay 100 --quiet \
	--log "$tmp/tiny.log" --log-segments >"$tmp/tiny.out"
out=$(grep -c 'allocate() size=.*segments remaining' "$tmp/tiny.log" || true)
back=$(grep -c 'Segment returned to pool' "$tmp/tiny.log" || true)
echo "  4 a tiny run with each segment logged:" \
	"allocate(): $out, Segment returned: $back"
check "as many releases as allocations" \
	"$(holds "$out" -eq "$back" -a "$out" -gt 0)"

told() {	# cache: what the report says of its listener
	sed -n "/^  $1 /,/listener called for/s/.*listener called for //p" \
		"$tmp/libseg.out"
}
for cache in PageCache RecordPageCache; do
	evicted=$(grep -c "\] $cache EVICT: returning page" "$log" || true)
	heard=$(told $cache)
	echo "  5 grep -c ' $cache EVICT': $evicted"
	check "its listener was called as often (${heard:-?})" \
		"$(holds "$evicted" -gt 0 -a "$evicted" -eq "${heard:--1}")"
done

echo "picture: $build/demo.svg"
exit $failed
