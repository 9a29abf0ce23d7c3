#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Holds the RCU seam to being a detector: ThreadSanitizer must report each of
# the faults of rcu_fault.c in at least one of RUNS runs, and the right program
# in none.  Skipped where ThreadSanitizer is not built in.
# RCU_FAULT names a built program; without it, make builds it here.
set -u
program=${RCU_FAULT:-tests/rcu_fault}
runs=${RUNS:-5}
TSAN_OPTIONS='exitcode=66 halt_on_error=1 report_signal_unsafe=0'
export TSAN_OPTIONS
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT

if [ -z "${RCU_FAULT-}" ]; then
	case ${SEG_CFLAGS-} in
	*sanitize=thread*) MAKEFLAGS='' make -s "$program" || exit 99 ;;
	*) echo "skipped: not built with ThreadSanitizer"; exit 77 ;;
	esac
fi
faults=$("$program")
status=$?
[ $status != 77 ] || { echo "skipped: $faults"; exit 77; }
[ $status = 0 ] && [ "$faults" -gt 0 ] || { echo "$program: $status"; exit 99; }

# reports FAULT: the number of runs in which a data race was reported; a run
# that ended in another way is shown, and counts as none.
reports() {
	found=0
	for run in $(seq "$runs"); do
		"$program" "$1" > "$work/out" 2>&1
		status=$?
		if [ $status = 66 ] && grep -q 'data race' "$work/out" &&
		   grep -q 'rcu_fault\.c' "$work/out"; then
			found=$((found + 1))
		elif [ $status != 0 ]; then
			echo "fault $1: ended with $status" >&2
			cat "$work/out" >&2
			touch "$work/failed"
		fi
	done
	echo $found
}

n=$(reports 0)
echo "right: $n of $runs runs reported"
[ "$n" = 0 ] || { cat "$work/out"; touch "$work/failed"; }
for fault in $(seq "$faults"); do
	n=$(reports "$fault")
	echo "fault $fault: $n of $runs runs reported"
	[ "$n" -gt 0 ] || touch "$work/failed"
done
[ ! -e "$work/failed" ]
