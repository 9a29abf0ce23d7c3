#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What runs in the emulated machine; started by init, in the directory of the
# programs.  VM_NAME and VM_NODES are words of the kernel's command line.
# A page fault takes 30 to 200 us there, and each grace period a turn of all
# CPUs: so only unit tests that have to do with nodes, and with little of both.
ANYWHERE='tests/topology* tests/place* tests/node* tests/os_numa* tests/region*
	tests/bands tests/class_pool tests/cache_pages tests/decommit_load
	tests/limit_waits tests/thread_exit'
# They know how many regions there are: what they do is done on node 0.
ON_ONE_NODE='tests/stats tests/drain tests/decommit tests/handle
	tests/limit_faults tests/limit_reclaimers'
GROUP=/sys/fs/cgroup/tests
export SEED=1 STRESS_SECONDS=3 TESTING_PERCENT=5

now() { cut -d. -f1 /proc/uptime; }

# result NAME STATUS SECONDS
result() {
	case $2 in
	0) word=PASS ;;
	77) word=SKIP ;;
	*)
		word=FAIL
		echo "$1" >> /out/failed
		{
			dmesg | grep -E 'oom-kill(er)?:| free:|Out of memory'
			echo "status $2"
		} >> "$(log_of "$1")"
		;;
	esac
	echo "$word: numa/$VM_NAME/$1 ($3 s)"
}

log_of() { echo "/out/$(echo "$1" | tr / -).log"; }

# run NAME COMMAND...
run() {
	name=$1 start=$(now) status=0
	shift
	timeout -s KILL 300 "$@" > "$(log_of "$name")" 2>&1 || status=$?
	result "$name" $status $(($(now) - start))
}

# A machine that is not as it was ordered would prove nothing.
nodes() {
	cat /sys/devices/system/node/online
	cat /sys/devices/system/node/node*/distance
	[ "$(cat /sys/devices/system/node/online)" = "$VM_NODES" ]
}

# The nodes that the program may use change under its load, and its pages with
# them; not a byte of what it reads back may differ.  However long a turn takes
# there, the program goes on until it is told to end, which is status 130.
cpuset_changes() {
	sh -c 'echo $$ > '"$GROUP"'/cgroup.procs; exec "$@"' sh "$@" &
	turns=0
	while kill -0 $! 2> /dev/null; do
		for mems in 2 0 "$VM_NODES"; do
			echo $mems > $GROUP/cpuset.mems || return 1
			sleep 0.3
		done
		turns=$((turns + 1))
		[ $turns != 5 ] || kill $!
	done
	status=0
	wait $! || status=$?
	echo "the nodes were changed in $turns turns"
	[ $status = 130 ]
}

# On the larger machine, no test of it has a reason to be skipped.
whole() {
	log=$(log_of tests/vm/placement)
	grep PASSED "$log" && ! grep SKIPPED "$log"
}

# unit HOW FILE...: three at a time.
unit() {
	how=$1
	shift
	printf '%s\n' "$@" | xargs -n 1 -P 3 sh ./guest.sh "$how"
}

# program FILE [COMMAND...]: what was not brought along is not run.
program() {
	[ -f "$1" ] || return 0
	file=$1
	shift
	run "$file" "$@" "$file"
}

on_one_node() { program "$1" taskset 1; }

# With arguments: one of the functions above, as a program of its own.
if [ $# -gt 0 ]; then
	"$@"
	exit
fi

ingest='stress/ingest --seed 1 --quiet --budget 16M --decay 50'
seq 20000 > /tmp/in
echo "numa/$VM_NAME: Linux $(uname -r), nodes $VM_NODES, up in $(now) s"
run nodes sh ./guest.sh nodes
# Nodes are filled up, so nobody else is to run.
program tests/vm/placement
[ "$VM_NAME" != nodes ] || run tests/vm/placement-whole sh ./guest.sh whole
if [ "$VM_NAME" = nodes ]; then
	unit program $ANYWHERE
	unit on_one_node $ON_ONE_NODE
	program stress/pool
	program bench/numa
	grep . "$(log_of bench/numa)"
else
	unit program tests/topology* tests/place* tests/node* tests/os_numa*
	unit on_one_node tests/stats tests/drain
fi
run stress/ingest $ingest --seconds 5 /tmp/in
run stress/ingest-cpuset sh ./guest.sh cpuset_changes $ingest --seconds 250 \
	/tmp/in
echo "numa/$VM_NAME: ended after $(now) s"
[ ! -e /out/failed ]
