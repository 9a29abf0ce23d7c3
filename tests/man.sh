#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The pages are free of lint, each alias leads to the page that names the
# function, and the examples of seg*.7 and README.md compile as
# printed and run.
set -u
srcdir=${srcdir:-.}
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
status=0

complain() {
	echo "$*"
	status=1
}

check_alias() { # page, the page that it stands for
	name=$(basename "$1" .3)
	[ -f "$srcdir/man/${2#man3/}" ] || complain "$1: there is no $2"
	grep -q "^\.Nm $name\( ,\)*$" "$srcdir/man/${2#man3/}" ||
		complain "$1: $2 does not name $name"
}

# References to our own pages must lead somewhere; those to the system's pages
# depend on what is installed.
lint() {
	MANPATH=$work mandoc -T lint -W style "$1" 2>&1 |
		grep -v 'outdated mandoc.db' |
		awk '!/referenced manual not found/ || / Xr seg(_[a-z_]+|stat)? [137]/'
}

# Where man and its groff are there: to the footer, and without a complaint.
renders() {
	command -v man > /dev/null && command -v groff > /dev/null || return 0
	MANWIDTH=80 man -l "$1" > "$work/page" 2> "$work/err" || return 1
	[ ! -s "$work/err" ] &&
		tail -n 1 "$work/page" | grep -q "$(sed -n 's/^\.Dd //p' "$1")"
}

check_page() {
	target=$(sed -n '1s/^\.so //p' "$1")
	if [ -n "$target" ]; then
		check_alias "$1" "$target"
		return
	fi
	lint "$1" > "$work/lint"
	[ ! -s "$work/lint" ] || complain "$(cat "$work/lint")"
	renders "$1" || complain "$1: does not render to its end"
}

self_test() {
	cat > "$work/bad.3" <<-'S'
	.Dd November 22, 2026
	.Dt BAD 3
	.Os
	.Sh NAME
	.Nm bad
	.Nd bad
	.Sh SEE ALSO
	.Xr malloc 3 ,
	.Xr seg_nothing 3
	.Bogus
	S
	lint "$work/bad.3" > "$work/lint"
	grep -q 'Xr seg_nothing 3' "$work/lint" ||
		complain "self-test: a dead reference was not found"
	grep -q Bogus "$work/lint" ||
		complain "self-test: a lint warning was not found"
}

check_example() { # name; the program on stdin
	cat > "$work/$1.c"
	[ "$(grep -c . "$work/$1.c")" -ge 10 ] ||
		complain "$1: no example found"
	./libtool --silent --mode=link --tag=CC $CC $SEG_CFLAGS -Wall -Wextra \
		-Werror -I"$srcdir/include" -o "$work/$1" "$work/$1.c" \
		libseg.la || { complain "$1: does not compile"; return; }
	"$work/$1" || complain "$1: exit status $?"
}

check_cxx_example() { # name; the program on stdin
	cat > "$work/$1.cc"
	[ "$(grep -c . "$work/$1.cc")" -ge 10 ] ||
		complain "$1: no example found"
	./libtool --silent --mode=link --tag=CXX $CXX $SEG_CFLAGS -std=c++17 \
		-Wall -Wextra -Werror -I"$srcdir/include" -o "$work/$1" \
		"$work/$1.cc" libseg.la ||
		{ complain "$1: does not compile"; return; }
	"$work/$1" || complain "$1: exit status $?"
}

page_example() { # page
	awk '/^\.\\" example begin/ {on = 1; next}
		/^\.\\" example end/ {on = 0}
		on && !/^\.(Bd|Ed)/ {gsub(/\\e/, "\\"); gsub(/\\&/, ""); print}' \
		"$srcdir/man/$1"
}

page_example seg.7 > "$work/seg.7.in"
page_example seg_cache.7 > "$work/seg_cache.7.in"
awk '/^```$/ {on = 0} on {print} /^```c$/ {on = 1}' "$srcdir/README.md" \
	> "$work/readme.in"
check_example seg.7 < "$work/seg.7.in"
check_example seg_cache.7 < "$work/seg_cache.7.in"
check_example readme < "$work/readme.in"
page_example seg_cxx.7 > "$work/seg_cxx.7.in"
check_cxx_example seg_cxx.7 < "$work/seg_cxx.7.in"
command -v mandoc > /dev/null || {
	echo "mandoc is missing: the pages were not checked"
	[ $status = 0 ] && exit 77
	exit $status
}
mkdir "$work/man1" "$work/man3" "$work/man7"
cp "$srcdir"/man/*.3 "$work/man3"
cp "$srcdir"/man/*.7 "$work/man7"
cp "$srcdir"/man/*.1 "$work/man1"
self_test
for page in "$srcdir"/man/*.[137]; do
	check_page "$page"
done
[ $status = 0 ] && echo "$(ls "$srcdir"/man/*.[137] | wc -l) pages, 4 examples"
exit $status
