#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# stress/ingest: a tiny run of each kind, and a clear end with bad input.
set -u

ingest=${INGEST:-./stress/ingest}
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
failed=0

fail() {
	echo "FAILED: $*"
	sed 's/^/    /' "$tmp/out" "$tmp/err"
	failed=1
}

run() {
	"$ingest" --quiet --decay 50 "$@" >"$tmp/out" 2>"$tmp/err"
}

# status, text on stderr, arguments
refused() {
	local want=$1 text=$2 status

	shift 2
	run "$@"
	status=$?
	[ "$status" -eq "$want" ] || fail "status $status, not $want: $*"
	grep -q -- "$text" "$tmp/err" || fail "no '$text' on stderr: $*"
	! grep -q 'all promises held' "$tmp/out" || fail "no failure: $*"
}

# bytes that must be verified, arguments
good() {
	local bytes=$1

	shift
	run "$@" || fail "status $?: $*"
	grep -q "verified  *$bytes bytes" "$tmp/out" ||
		fail "not $bytes bytes verified: $*"
}

count() { grep -c "$1" "$2" || true; }

# Lines of all lengths; nothing but newlines; no newline at all, with zeros.
seq 1 40000 | awk '{ s = substr(s $1, 1, 99); print substr(s, 1, $1 % 97) }' \
	>"$tmp/lines"
head -c 30000 /dev/zero | tr '\0' '\n' >"$tmp/newlines"
{ seq -s ' ' 1 60000 | tr '\n' ' '; head -c 300000 /dev/zero; } >"$tmp/binary"
printf x >"$tmp/one"
: >"$tmp/empty"
size() { cat "$@" | wc -c; }
three=("$tmp/lines" "$tmp/newlines" "$tmp/binary")
echo "seed 1 and 2, $(size "${three[@]}") bytes"

good "$(size "${three[@]}")" "${three[@]}" --seed 1
good "$(size "${three[@]}")" "${three[@]}" --seed 2 --budget 4M --epoch 4 \
	--records-per-page 100 --writers 8 --readers 3
good 1 "$tmp/one"

# a figure of a cache: cache, a pattern with one group
figure() {
	sed -n "/^  $1 /,/keeps of the memory/s/.*$2.*/\1/p" "$tmp/out"
}
EVICTED='listener called for \([0-9]*\)'
# The caches: far too small for what is read, with and without short reads; how
# many of the two have to evict, and the arguments
caches() {
	local cache name evicting=0 least=$1

	shift
	good "$(size "${three[@]}")" "${three[@]}" --budget 16M --epoch 8 \
		--records-per-page 64 --readers 4 --log "$tmp/log" "$@"
	for cache in PageCache RecordPageCache; do
		name="\\] $cache EVICT: returning page [0-9]*, cause="
		[ "$(figure $cache "$EVICTED")" -eq 0 ] ||
			evicting=$((evicting + 1))
		[ "$(figure $cache "$EVICTED")" -eq \
			"$(count "$name" "$tmp/log")" ] ||
			fail "the log of $cache has other evictions: $*"
		[ "$(figure $cache 'hits, \([0-9]*\) misses')" -gt 0 ] ||
			fail "$cache was not asked: $*"
		[ "$(figure $cache 'keeps .* now \([0-9.]*\)')" = 0.00 ] ||
			fail "$cache kept something: $*"
	done
	[ $evicting -ge "$least" ] ||
		fail "$evicting of at least $least caches evicted: $*"
}
caches 2
caches 2 --page-cache 256K --record-cache 512K
caches 2 --page-cache 4K --record-cache 4K
# Only at the limit: the one that is asked first may always have enough.
caches 1 --page-cache 1G --record-cache 1G --budget 6M --records-per-page 256
caches 2 --page-cache 256K --record-cache 512K --short-reads

# Pages of random sizes: each class is used
good "$(size "${three[@]}")" "${three[@]}" --budget 8M --epoch 16 --classes all
grep 'of each class' "$tmp/out" | tr ',' '\n' |
	awk '$NF > 0 { n++ } END { exit n != 7 }' || fail "not all classes"

# The old way: it ends well if nothing comes to its limit, else out of memory;
# the listener is never called.
good "$(size "$tmp/lines")" "$tmp/lines" --before --budget 256M
for cache in PageCache RecordPageCache; do
	[ "$(figure $cache "$EVICTED")" -eq 0 ] || fail "the old $cache evicted"
done
refused 1 'out of memory' --before --budget 24M --seconds 60 "${three[@]}"
grep -q 'mapped after the decay  *2[34]' "$tmp/out" ||
	fail "the old way gave something back"

good "$(size "$tmp/lines")" "$tmp/lines" --budget 16M --epoch 2 --log-segments \
	--log "$tmp/log" --svg "$tmp/svg" --csv "$tmp/csv"
[ "$(count 'Allocated new region' "$tmp/log")" -gt 0 ] || fail "empty log"
[ "$(count 'Allocated new region' "$tmp/log")" -eq \
	"$(count 'Freed region' "$tmp/log")" ] || fail "regions were kept"
[ "$(count 'allocate() size=' "$tmp/log")" -eq \
	"$(count 'Segment returned to pool' "$tmp/log")" ] ||
	fail "segments were kept"
grep -q 'total mapped now: 0 KB of 16384 KB' "$tmp/log" || fail "not back to 0"
[ "$(tail -n 1 "$tmp/svg")" = "</svg>" ] || fail "the picture has no end"
awk -F, 'NR > 1 && ($3 > $2 || $2 != 16777216) { bad = 1 }
	END { exit bad || NR < 3 }' "$tmp/csv" || fail "bad samples"

refused 2 'no file is named'
refused 2 'bogus' --bogus "$tmp/lines"
refused 2 'not a good value: 12Q' --budget 12Q "$tmp/lines"
refused 2 'not a good value: 0' --writers 0 "$tmp/lines"
refused 2 'not a good value: some' --classes some "$tmp/lines"
refused 2 'are needed' --budget 1M "$tmp/lines"
refused 2 'out of range (4 KiB to 16 TiB - 4 KiB)' --budget 17000G "$tmp/lines"
refused 2 'out of range' --budget 4095 "$tmp/lines"
for option in --page-cache --record-cache; do
	refused 2 'not a good value: 0' $option 0 "$tmp/lines"
	refused 2 'not a good value: 1T' $option 1T "$tmp/lines"
	refused 2 'not a good value: -1' $option -1 "$tmp/lines"
	refused 2 "$option: out of range" $option 4095 "$tmp/lines"
	refused 2 "$option: out of range" $option 17000G "$tmp/lines"
done
refused 2 'not to be had' --before --short-reads --budget 256M "$tmp/lines"
refused 2 'is an input' --store "$tmp/lines" "$tmp/lines"
[ -s "$tmp/lines" ] || fail "the input was emptied"
refused 1 'No such file' "$tmp/missing"
refused 1 'is a directory' "$tmp"
refused 1 'is empty' "$tmp/lines" "$tmp/empty"
refused 1 'not a regular file' /dev/null
refused 1 'No such file' --store "$tmp/missing/store" "$tmp/lines"
for pair in '--csv --svg' '--store --log' '--log --csv'; do
	# neither is there yet; two ways to write one name; both are there
	# shellcheck disable=SC2086
	set -- $pair
	refused 2 'two outputs' "$1" "$tmp/new" "$2" "$tmp/new" "$tmp/lines"
	refused 2 'two outputs' "$1" "$tmp/new" "$2" "$tmp/./new" "$tmp/lines"
	[ ! -e "$tmp/new" ] || fail "a refused output was made: $pair"
	refused 2 'two outputs' "$1" "$tmp/log" "$2" "$tmp/log" "$tmp/lines"
done
refused 2 'is the --overlay' --overlay "$tmp/csv" --csv "$tmp/csv" "$tmp/lines"
[ -s "$tmp/csv" ] || fail "the overlay was emptied"

# refused, and nothing was run: not even its first line is there
before() {
	refused "$@"
	! grep -q seed "$tmp/out" || fail "it ran first: $*"
}
before 1 'No such file' --overlay "$tmp/missing" "$tmp/lines"
before 1 'not a timeline CSV' --overlay "$tmp/lines" "$tmp/lines"
before 1 'not a timeline CSV' --overlay "$tmp/empty" "$tmp/lines"
head -n 1 "$tmp/csv" >"$tmp/bad.csv"
before 1 'not a timeline CSV' --overlay "$tmp/bad.csv" "$tmp/lines"
echo '1.0,2,3' >>"$tmp/bad.csv"
before 1 'not a timeline CSV' --overlay "$tmp/bad.csv" "$tmp/lines"
before 1 'directory' --overlay "$tmp" "$tmp/lines"
for output in --svg --csv --log; do
	before 1 'No such file' $output "$tmp/missing/file" "$tmp/lines"
	before 1 'directory' $output "$tmp" "$tmp/lines"
done
good "$(size "$tmp/lines")" "$tmp/lines" --overlay "$tmp/csv" --svg "$tmp/svg"
grep -q 'stopped after' "$tmp/svg" || fail "the overlay is not in the picture"
if [ "$(id -u)" -ne 0 ]; then
	chmod 000 "$tmp/one"
	refused 1 'Permission denied' "$tmp/one"
fi
if [ -c /dev/full ]; then
	refused 1 'cannot write to the store' --store /dev/full "${three[@]}"
	refused 1 'No space left' --store /dev/full --epoch 2 "${three[@]}"
	before 1 'No space left' --svg /dev/full "$tmp/lines"
	before 1 'No space left' --csv /dev/full "$tmp/lines"
	refused 1 'No space left' --log /dev/full "$tmp/lines"
fi
for what in --help "$tmp/lines"; do
	if [ -c /dev/full ] && "$ingest" --quiet --decay 50 "$what" \
		>/dev/full 2>"$tmp/err"; then
		fail "stdout was full: $what"
	fi
	[ ! -c /dev/full ] || grep -q 'stdout: No space' "$tmp/err" ||
		fail "no message: stdout was full: $what"
	! "$ingest" --quiet --decay 50 "$what" >&- 2>"$tmp/err" ||
		fail "stdout was closed: $what"
	grep -q 'stdout: Bad file' "$tmp/err" ||
		fail "no message: stdout was closed: $what"
done
# the disk is full in the middle of a run: a limit of 512 blocks of 1 KiB
(ulimit -f 512 && run --store "$tmp/store" --epoch 2 "${three[@]}") &&
	fail "a store of 512 KiB was enough"
grep -q 'cannot write to the store' "$tmp/err" || fail "no message: full disk"

# an interrupt ends it cleanly: what was taken is verified, nothing is lost
# (its first line says that it listens; a file of its own, or the line could
# be that of the run before)
: >"$tmp/begun"
"$ingest" --quiet --decay 50 --seconds 600 "${three[@]}" \
	>"$tmp/begun" 2>"$tmp/err" &
child=$!
until grep -q seed "$tmp/begun" || ! kill -0 $child 2>/dev/null; do :; done
kill -INT $child
wait $child
status=$?
[ $status -eq 130 ] || fail "interrupted, but status $status"
grep -q 'finished cleanly' "$tmp/err" || fail "no message: interrupted"

[ $failed -eq 0 ] && echo "ok"
exit $failed
