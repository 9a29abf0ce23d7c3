#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Holds the sources to the rules of CONTRIBUTING.md.  First it checks itself:
# each line of a bad sample must be found, and a good sample must pass.
set -u
srcdir=${srcdir:-.}
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT

# Prints "file:line: rule" for each finding.  strict=1: a library file.
cat > "$work/check.awk" <<'AWK'
function found(rule) { print FILENAME ":" FNR ": " rule; }
function width(s,   i, n) {
	for (i = 1; i <= length(s); i++)
		n = substr(s, i, 1) == "\t" ? n + 8 - n % 8 : n + 1;
	return n;
}
# Splits the line into code and remark, across comments of several lines.
function split_line(s,   at) {
	code = remark = "";
	while (s != "") {
		at = index(s, inside ? "*/" : "/*");
		if (!at) {
			if (inside) remark = remark " " s; else code = code s;
			return;
		}
		if (inside) remark = remark " " substr(s, 1, at - 1);
		else code = code substr(s, 1, at - 1);
		inside = !inside;
		s = substr(s, at + 2);
	}
}
FNR == 1 {
	inside = start = 0;
	last = "";
	r1 = r2 = r3 = "";
	atomic = FILENAME ~ /(^|\/)atomic\.h$/;
	if ($0 !~ /SPDX-License-Identifier: LGPL-2\.1-or-later/)
		found("no licence line");
}
{
	split_line($0);
	gsub(/"([^"\\]|\\.)*"/, "\"\"", code);
	if (width($0) > 80) found("more than 80 columns");
	if ($0 ~ /[ \t]$/) found("space at the end");
	if (FNR == 700) found("700 lines or more");
	if ($0 ~ /^\{/) start = FNR;
	if ($0 ~ /^\}/ && start) {
		if (FNR - start - 1 > 80) found("function of more than 80 lines");
		start = 0;
	}
}
strict && !atomic {
	if (code ~ /(^|[^a-z_])volatile([^a-z_]|$)/) found("volatile");
	if (code ~ /atomic_(thread|signal)_fence|__sync_/) found("fence");
	if (code ~ /(^|[^a-z_])atomic_[a-z_]*(explicit|init)|__atomic_|_Atomic/)
		found("atomic operation not of atomic.h");
	if (match(code, calls)) {
		order = substr(code, RSTART, RLENGTH);
		match(order, "_(" orders ") ?[(]");
		order = substr(order, RSTART, RLENGTH);
		# One reason may head a run of operations of the same order.
		if (remark r1 r2 r3 ~ orders ||
		    (order == last && FNR - last_at <= 4)) {
			last = order;
			last_at = FNR;
		} else {
			found("order without its reason");
		}
	}
	r3 = r2; r2 = r1; r1 = remark;
}
AWK
# The operations are those of the types that atomic.h defines.
types=$(sed -n 's/^SEG_ATOMIC(\([a-z0-9]*\),.*/\1/p' "$srcdir/lib/atomic.h" |
	paste -sd '|' -)
orders='acquire|release|relaxed|seq_cst|acq_rel'
check() { # strict, files
	strict=$1
	shift
	awk -v strict="$strict" -v orders="$orders" \
		-v calls="(^|[^a-z0-9_])($types)_[a-z_]+_($orders) ?[(]" \
		-f "$work/check.awk" "$@"
}

# sample NAME RULE: the text on stdin must be found to break just this rule,
# or, with no rule, none.
sample() {
	cat > "$work/$1"
	got=$(check 1 "$work/$1" | sed 's/^[^ ]*: //' | sort -u)
	[ "$got" = "$2" ] && return
	echo "self-test $1: expected '$2', found '$got'"
	exit 1
}
spdx='/* SPDX-License-Identifier: LGPL-2.1-or-later */'
[ -n "$types" ] || { echo "no types found in atomic.h"; exit 1; }
sample licence.c "no licence line" <<S
int x;
S
sample wide.c "more than 80 columns" <<S
$spdx
$(printf '\t%073d' 0)
S
sample blank.c "space at the end" <<S
$spdx
int x;$(printf '\t')
S
sample volatile.c "volatile" <<S
$spdx
static volatile int x; /* not "volatile" in a comment */
S
sample fence.c "fence" <<S
$spdx
	atomic_thread_fence(memory_order_seq_cst);
S
sample raw.c "atomic operation not of atomic.h" <<S
$spdx
	x = atomic_load_explicit(&y, z);
	x = __atomic_load_n(&y, z);
	static _Atomic int x;
S
sample far.c "order without its reason" <<S
$spdx
	/* relaxed: too far away */



	u64_store_relaxed(&a, 1);
S
sample bare.c "order without its reason" <<S
$spdx
	x = ptr_load_acquire(&a);
S
sample other.c "order without its reason" <<S
$spdx
	/* relaxed: counters, all of these */
	a = u64_load_relaxed(&a);
	b = u64_load_relaxed(&b);
	c = u64_load_relaxed(&c);
	d = u64_load_relaxed(&d);
	e = u64_load_acquire(&e);
S
sample long.c "function of more than 80 lines" <<S
$spdx
static void f(void)
{
$(seq -f '	x = %g;' 81)
}
S
sample huge.c "700 lines or more" <<S
$spdx
$(seq -f 'int x%g;' 700)
S
sample good.c "" <<S
$spdx
/* The word volatile, a volatile_one, atomic_thread_fence and _Atomic. */
static int f(struct thing *t)
{
	const char *s = "volatile /* _Atomic */";

	seg_page_release(t->page);
	u64_store_release(&t->a, 1); /* release -> g() */
	/*
	 * acq_rel: takes what the last owner wrote
	 */
	while (!u64_cas_weak_acq_rel(&t->b, &old,
				     1))
		;
$(seq -f '	x = %g;' 60)
}
S

{
	check 1 "$srcdir"/lib/*.c "$srcdir"/lib/*.h
	find "$srcdir/include" "$srcdir/tests" "$srcdir/stress" \
		"$srcdir/bench" "$srcdir/tools" "$srcdir/examples" \
		-name '*.[ch]' -o -name '*.cc' | sort |
		while read -r file; do check 0 "$file"; done
} > "$work/findings"
cat "$work/findings"
[ ! -s "$work/findings" ] || exit 1
echo "style: nothing found in $(ls "$srcdir"/lib/*.[ch] | wc -l) library files"
