#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What was installed is found and built against as a stranger would: by
# pkg-config, shared and static, by CMake, also after a move, and from C++.
# The environment says where it is: PREFIX, LIBDIR, INCLUDEDIR, BINDIR, MANDIR;
# and what to build with: CC, CXX, SEG_CFLAGS.  Run by "make installcheck".
set -u
srcdir=$(cd "${srcdir:-.}" && pwd)
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
status=0
PKG_CONFIG_PATH=$LIBDIR/pkgconfig
LD_LIBRARY_PATH=$LIBDIR
export PKG_CONFIG_PATH LD_LIBRARY_PATH
printf 'page 0\npage 1\npage 0\n' > "$work/expected"

# what, program: built without a message, it must print the three lines
check() {
	if [ -s "$work/messages" ] || ! "$2" > "$work/out" 2>&1 ||
	   ! cmp -s "$work/out" "$work/expected"; then
		echo "FAIL: installed/$1"
		cat "$work/messages" "$work/out" 2> /dev/null
		status=1
		return
	fi
	echo "PASS: installed/$1"
}

# what, a command that builds $work/a.out
build() {
	what=$1
	shift
	rm -f "$work/a.out"
	"$@" $SEG_CFLAGS -Wall -Wextra -o "$work/a.out" > "$work/messages" 2>&1
	check "$what" "$work/a.out"
}

flags=$(pkg-config --cflags --libs libseg) || exit 1
[ "$(pkg-config --modversion libseg)" = "$VERSION" ] ||
	{ echo "FAILED: the version of libseg.pc"; status=1; }
# shellcheck disable=SC2086
build "C, pkg-config" $CC "$srcdir/examples/start/pages.c" $flags
for cxx in $CXX clang++ clang++-14; do
	command -v "${cxx%% *}" > /dev/null || continue
	case $cxx:$SEG_CFLAGS in
	"$CXX":*) ;;
	*fsanitize*) continue ;;	# each has a runtime of its own
	esac
	for standard in c++17 c++20; do
		# shellcheck disable=SC2086
		build "$cxx $standard, pkg-config" $cxx -std=$standard \
			-Werror "$srcdir/examples/start/pages.cc" $flags
	done
done
if [ -f "$LIBDIR/libseg.a" ]; then
	flags=$(pkg-config --static --cflags --libs libseg |
		sed 's/-lseg/-l:libseg.a/')
	# shellcheck disable=SC2086
	build "C, pkg-config --static" $CC "$srcdir/examples/start/pages.c" \
		$flags
	! ldd "$work/a.out" | grep -q libseg ||
		{ echo "FAILED: libseg.so is in the static program"; status=1; }
fi

cmake_project() { # what, prefix, further arguments
	what=$1
	rm -rf "$work/build"
	if ! cmake -S "$srcdir/examples/start" -B "$work/build" \
		-DCMAKE_PREFIX_PATH="$2" -DCMAKE_C_FLAGS="$SEG_CFLAGS" \
		-DCMAKE_CXX_FLAGS="$SEG_CFLAGS" > "$work/messages" 2>&1 ||
	   ! cmake --build "$work/build" >> "$work/messages" 2>&1; then
		check "$what" false
		return
	fi
	: > "$work/messages"
	for program in "$work"/build/pages "$work"/build/pages_*; do
		check "$what, $(basename "$program")" "$program"
	done
	if grep -q "$3" "$work/build/CMakeCache.txt"; then
		echo "FAILED: $what: found in $3"
		status=1
	fi
}

if command -v cmake > /dev/null; then
	cmake_project "CMake" "$PREFIX" "$work/moved"
	lib=$work/moved${LIBDIR#"$PREFIX"}
	include=$work/moved${INCLUDEDIR#"$PREFIX"}
	mkdir -p "$lib/cmake" "$include"
	cp -a "$LIBDIR"/libseg.* "$lib"
	cp -a "$LIBDIR/cmake/seg" "$lib/cmake"
	cp -a "$INCLUDEDIR"/seg*.h* "$include"
	LD_LIBRARY_PATH=$lib \
		cmake_project "CMake, moved" "$work/moved" "seg_DIR.*$PREFIX"
	sed 's/seg 0.1 REQUIRED/seg 0.999 REQUIRED/' \
		"$srcdir/examples/start/CMakeLists.txt" > "$work/CMakeLists.txt"
	! cmake -S "$work" -B "$work/later" -DCMAKE_PREFIX_PATH="$PREFIX" \
		> /dev/null 2>&1 ||
		{ echo "FAILED: CMake took a version that is not there"
		  status=1; }
else
	echo "skipped: CMake, which is missing"
fi

"$BINDIR/segstat" -h > "$work/out" 2>&1 && grep -q usage "$work/out" ||
	{ echo "FAILED: segstat"; status=1; }
for page in man1/segstat.1 man3/seg_pool.3 man7/seg.7 man7/seg_cxx.7; do
	[ -f "$MANDIR/$page" ] || { echo "FAILED: no $page"; status=1; }
done
exit $status
