#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# One set of names: exported by the library = version map = public header =
# man pages.
set -u
export LC_ALL=C
srcdir=${srcdir:-.}
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
status=0

# The first name before a parenthesis after each SEG_API.
cat "$srcdir/include/seg.h" "$srcdir/include/seg_cache.h" \
	"$srcdir/include/seg_limit.h" "$srcdir/include/seg_page.h" | sed '/^#/d' | tr '\n\t' '  ' |
	sed 's@/\*@\n/*@g; s@\*/@\n@g' | sed '/^\/\*/d' | tr -d '\n' |
	tr ';' '\n' | grep SEG_API | sed 's/.*SEG_API//' |
	sed -n 's/^[^(]*\(seg_[a-z_]*\) *(.*/\1/p' | sort > "$work/header"
sed -n 's/^\t\(seg_[a-z_]*\);$/\1/p' "$srcdir/lib/libseg.map" |
	sort > "$work/map"
nm -D --defined-only .libs/libseg.so | awk '$2 != "A" {print $3}' |
	sed 's/@@*LIBSEG_.*//' | sort > "$work/exported"
for name in $(cat "$work/header"); do
	[ -f "$srcdir/man/$name.3" ] && echo "$name"
done > "$work/manual"

# 0.1 has 35; a scan that finds next to none is broken.
if [ "$(wc -l < "$work/header")" -lt 30 ]; then
	echo "only $(wc -l < "$work/header") functions found in seg.h"
	status=1
fi
for other in map exported manual; do
	diff "$work/header" "$work/$other" > "$work/diff" && continue
	echo "seg.h (<) and $other (>) differ:"
	grep '^[<>]' "$work/diff"
	status=1
done
[ $status = 0 ] && echo "$(wc -l < "$work/header") functions, four times"
exit $status
