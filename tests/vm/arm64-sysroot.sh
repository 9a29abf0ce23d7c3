#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# arm64-sysroot.sh DIR: Debian's arm64 builds of what libseg is linked with,
# unpacked into DIR, for a cross compiler (whose packages bring libc) and for
# qemu-user.  Does nothing if DIR is there; ends with 77 if they can't be had.
# Uses lists of its own: dpkg's architectures stay as they are, because libck0
# of two architectures can't be installed side by side.
set -eu
dir=${1:?usage: arm64-sysroot.sh DIR}
[ ! -d "$dir" ] || exit 0
packages='liburcu8 liburcu-dev libck0 libck-dev libnuma1 libnuma-dev
	libcmocka0 libcmocka-dev'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip() {
	echo "skipped: $*" >&2
	exit 77
}

command -v apt-get > /dev/null || skip "no apt-get to fetch arm64 packages"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/debs" \
	"$work/root" "$(dirname "$dir")"
: > "$work/status"
cat > "$work/apt.conf" <<S
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work";
S
export APT_CONFIG="$work/apt.conf"
# A source without arm64, which is no failure here, may make it fail.
apt-get -qq update >&2 || :
# shellcheck disable=SC2086
(cd "$work/debs" && apt-get -qq download $packages >&2) ||
	skip "Debian's arm64 packages can't be fetched: $packages"
for deb in "$work"/debs/*.deb; do
	dpkg-deb -x "$deb" "$work/root"
done
# shellcheck disable=SC2016 # pkg-config's: found from where DIR is
sed -i 's,\([=LI]\)/usr,\1${pcfiledir}/../../..,g' \
	"$work"/root/usr/lib/aarch64-linux-gnu/pkgconfig/*.pc
mv "$work/root" "$dir"
