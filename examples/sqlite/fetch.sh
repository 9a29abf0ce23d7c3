#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# fetch.sh DIRECTORY: the sources of the SQLite that is installed, from Debian's
# source package, and the test programs in them, compiled as they are against
# the installed library.  What is there already is kept.
set -eu
version=$(dpkg-query -W -f '${source:Version}' libsqlite3-0)
mkdir -p "$1/apt/parts" "$1/apt/lists/partial" "$1/apt/cache/archives/partial"
cd "$1"

# The system's own list of places, read for sources; the system's is not
# changed.
apt_source() {
	for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ ! -f "$list" ] || sed 's/^deb /deb-src /' "$list" \
			> "apt/parts/$(basename "$list" .list).list"
	done
	for list in /etc/apt/sources.list.d/*.sources; do
		[ ! -f "$list" ] || sed 's/^Types:.*/Types: deb-src/' "$list" \
			> "apt/parts/$(basename "$list")"
	done
	set -- -qq -o Dir::Etc::SourceList=/dev/null \
		-o "Dir::Etc::SourceParts=$PWD/apt/parts" \
		-o "Dir::State::lists=$PWD/apt/lists" \
		-o "Dir::Cache=$PWD/apt/cache" -o APT::Sandbox::User=
	apt-get "$@" update &&
		apt-get "$@" source "sqlite3=$version"
}

if [ ! -f source-of ] || [ "$(cat source-of)" != "$version" ]; then
	rm -rf sqlite3-* speedtest1 kvtest threadtest3
	apt_source > apt/log 2>&1 || { cat apt/log >&2; exit 1; }
	echo "$version" > source-of
fi
source=$(ls -d sqlite3-*/)
compile() { # program, more sources
	[ -x "$1" ] || { program=$1; shift
		${CC:-cc} -O2 -w -o "$program" "$source/test/$program.c" "$@" \
			-I"$source/test" -I"$source/src" -lsqlite3 -lpthread -lm
	}
}
compile speedtest1
compile kvtest
compile threadtest3 "$source/src/test_multiplex.c"
