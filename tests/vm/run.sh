#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# usage: run.sh PROGRAM...   (in the build directory; names from there)
# Runs programs of this build under a real kernel with several memory nodes: in
# an emulated machine, which has neither disk nor network, and is started twice.
#   nodes   0 to 3 with a CPU and memory each, node 4 with memory only
#   sparse  nodes 0 and 2: the CPU that would make node 1 is never plugged in
# guest.sh says what is run there.  What the programs print stays in
# numa/<machine>/; the kernel, a package that is not installed, in numa/.
# Exit status: 0 all passed, 1 not, 77 there is no emulator or no kernel.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
package=linux-image-6.12-cloud-amd64

skip() {
	echo "SKIP: numa/machine: $*"
	exit 77
}

kernel() {
	local real
	[ ! -s numa/vmlinuz ] || return 0
	real=$(LC_ALL=C apt-cache depends "$package" |
		sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p') || return 1
	rm -f numa/linux-image-*.deb
	(cd numa && apt-get -qq -o APT::Sandbox::User=root download "$real") &&
		dpkg-deb --fsys-tarfile numa/linux-image-*.deb |
		tar -xO --wildcards './boot/vmlinuz-*' > numa/vmlinuz.new &&
		mv numa/vmlinuz.new numa/vmlinuz
}

# The shared libraries of a program, by their paths.
libraries() {
	LD_LIBRARY_PATH=$PWD/.libs ldd "$@" |
		sed -n 's/^\t\(.* => \)\{0,1\}\(\/[^ ]*\) (0x.*/\2/p' | sort -u
	# loaded by glibc itself when a thread is cancelled
	${CC:-cc} -print-file-name=libgcc_s.so.1
}

# initramfs PROGRAM...: with libtool's wrappers replaced by what they wrap.
initramfs() {
	local root=numa/root program file files=()
	rm -rf $root
	mkdir -p $root/bin $root/lib $root/lib64
	cp "$(command -v busybox)" $root/bin/busybox
	cp "$here/init" $root/
	install -D -t $root/t "$here/guest.sh"
	for program in "$@"; do
		file=${program%/*}/.libs/${program##*/}
		[ -f "$file" ] || file=$program
		install -D "$file" "$root/t/$program"
		files+=("$file")
	done
	libraries "${files[@]}" | while read -r file; do
		case $file in
		/lib64/*) cp -L "$file" $root/lib64/ ;;
		*) cp -L "$file" $root/lib/ ;;
		esac
	done
	(cd $root && find . | sort | cpio -o -H newc --quiet) > numa/initramfs
	rm -rf $root
}

# memory NODE MIB
memory() {
	echo -object "memory-backend-ram,id=m$1,size=$2M" \
		-numa "node,nodeid=$1,memdev=m$1${3:+,cpus=$3}"
}

# Two pairs of nodes that are near each other; node 4 is nearest to node 0.
distances() {
	local from to distance
	for from in 0 1 2 3; do
		for to in $(seq $((from + 1)) 4); do
			distance=22
			[ $((from / 2)) != $((to / 2)) ] || distance=16
			[ $to != 4 ] || distance=36
			[ "$from-$to" != 0-4 ] || distance=28
			echo -numa "dist,src=$from,dst=$to,val=$distance"
		done
	done
}

machine_nodes() {
	echo -m 768M -smp 4,sockets=4,cores=1
	memory 0 256 0
	for node in 1 2 3; do memory $node 128 $node; done
	memory 4 128
	distances
}

machine_sparse() {
	echo -m 512M -smp 1,maxcpus=3,sockets=3,cores=1
	echo -device max-x86_64-cpu,socket-id=2,core-id=0,thread-id=0
	memory 0 256 0
	echo -numa node,nodeid=1,cpus=1
	memory 2 256 2
}

# The machine's clock is this one's, and a rate that it measured while it had
# to wait would be wrong by a factor: it is told.
clock() {
	sed -n 's/^bogomips[^0-9]*\([0-9]*\)\.\([0-9]\).*/\1\2/p' \
		/proc/cpuinfo | awk 'NR == 1 && $1 > 10000 {
			print "tsc=reliable tsc_early_khz=" $1 * 50 }'
}

# boot MACHINE NODES: what guest.sh prints, as it prints it; results in numa/.
# The first words of -append are for a busy host, where a CPU may wait long for
# its turn; those of the second line save time; and pages are to stay.
boot() {
	rm -rf "numa/$1"
	mkdir "numa/$1"
	# shellcheck disable=SC2046
	timeout -k 5 900 nice qemu-system-x86_64 -accel tcg,thread=multi \
		-M pc -cpu max $(machine_"$1") -nodefaults -no-reboot \
		-display none -serial stdio -device virtio-serial-pci \
		-chardev "file,id=out,path=numa/$1/results.tar" \
		-device virtserialport,chardev=out \
		-kernel numa/vmlinuz -initrd numa/initramfs -append "$(clock) \
		no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1 \
		lpj=4000000 mitigations=off rcupdate.rcu_expedited=1 \
		numa_balancing=disable maxcpus=1 console=ttyS0 quiet \
		panic=-1 oops=panic VM_NAME=$1 VM_NODES=$2" < /dev/null |
		tr -d '\r' || :
}

# report MACHINE: cmocka's closing lines, and what failed.
report() {
	local out=numa/$1 name
	if ! tar -xf "$out/results.tar" -C "$out" 2> /dev/null ||
	   [ ! -e "$out/status" ]; then
		echo "FAIL: numa/$1/machine (it did not come to its end)"
		failed=1
		return
	fi
	rm "$out/results.tar"
	grep -hF '[  PASSED  ]' "$out"/*.log || :
	[ "$(cat "$out/status")" != 0 ] || return 0
	failed=1
	while read -r name; do
		echo "-- numa/$1/$name:"
		tail -n 60 "$out/${name//\//-}.log"
	done < "$out/failed"
}

[ "$(uname -m)" = x86_64 ] || skip "only on x86-64 so far"
for tool in qemu-system-x86_64 busybox cpio dpkg-deb; do
	[ -n "$(command -v $tool)" ] || skip "$tool is missing"
done
mkdir -p numa
kernel || skip "no kernel: apt-get could not download $package"
initramfs "$@"
failed=0
boot nodes 0-4
report nodes
boot sparse 0,2
report sparse
exit $failed
