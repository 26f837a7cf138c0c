#!/bin/sh
# SPDX-License-Identifier: MIT
#
# nspawn.sh - resnetd installed into a Debian container that boots systemd, and what systemd then does with it: start, reload, crash,
# hang, limit of starts, wrong configuration, sandbox, credentials, socket activation. nspawn_inside.sh asks the questions.
#
# Needs root, debootstrap and systemd-nspawn, and RESNETD_ROOTFS or /var/tmp/resnetd-rootfs for the container, which is made when it
# is not there (a few minutes, 300 MB) and stays.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

root=${RESNETD_ROOTFS:-/var/tmp/resnetd-rootfs}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
for need in debootstrap systemd-nspawn cc; do
    command -v $need >/dev/null || {
        echo "SKIP: nspawn: $need is not here"
        exit 77
    }
done
[ "$(id -u)" -eq 0 ] || {
    echo "SKIP: nspawn: only root can boot a container"
    exit 77
}

packages=systemd,systemd-sysv,dbus,curl,procps,libmicrohttpd12,libcjson1,libnettle8,libpthreadpool0,libinih1,libjpeg62-turbo
packages=$packages,libpng16-16,libwebp7,libsystemd0,libzip4,libprotobuf-c1,libcurl3-gnutls
mark=$root/made-for-resnetd
if [ -e "$root" ] && [ ! -e "$mark" ]; then
    echo "SKIP: nspawn: $root was not made by this script"
    exit 77
fi
if [ ! -e "$root" ]; then
    timeout 900 debootstrap --variant=minbase --include=$packages bookworm "$root" "$mirror" >"$tmp/debootstrap" 2>&1 || {
        tail -n 5 "$tmp/debootstrap"
        rm -rf "$root"
        echo "SKIP: nspawn: debootstrap cannot make $root"
        exit 77
    }
    touch "$mark"
fi

# What an earlier run changed goes; then make install, as a package would.
rm -rf "${root:?}"/proof "${root:?}"/usr/local "$root"/etc/credstore "$root"/etc/systemd/system/*resnetd* "$root"/etc/systemd/system/*.wants \
    "$root"/var/log/journal
make -s -C "$builddir" install DESTDIR="$root" >"$tmp/install" 2>&1
if ! cmp -s "$builddir/resnetd" "$root/usr/local/sbin/resnetd"; then
    tail -n 5 "$tmp/install"
    echo "SKIP: nspawn: make install DESTDIR=$root does not install to /usr/local: configure with the default --prefix"
    exit 77
fi
mkdir -p "$root/proof"
cp "$srcdir/tests/proof/nspawn_inside.sh" "$srcdir/tests/data/ship.jpg" "$srcdir/etc/no-network.conf" "$root/proof"
cc -shared -fPIC -O1 -o "$root/proof/stuck_decoder.so" "$srcdir/tests/proof/stuck_decoder.c" -ldl || exit 1
# The photo with 17 columns in its frame header: enough to name it, as nobody decodes it.
"${PYTHON:-/usr/bin/python3}" - "$srcdir/tests/data/ship.jpg" "$root/proof/stuck.jpg" <<'EOP' || exit 1
import sys
data = bytearray(open(sys.argv[1], 'rb').read())
at = data.index(b'\xff\xc0')
data[at + 7:at + 9] = (17).to_bytes(2, 'big')
open(sys.argv[2], 'wb').write(data)
EOP
cat >"$root/etc/systemd/system/proof.service" <<'EOP'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=600
ExecStart=/bin/sh /proof/nspawn_inside.sh
StandardOutput=file:/proof/out
StandardError=file:/proof/trace
ExecStopPost=/bin/systemctl --no-block poweroff
EOP
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../proof.service "$root/etc/systemd/system/multi-user.target.wants/proof.service"

# With priority: other work on this machine is not what is measured.
timeout -k 10 420 nice -n -15 systemd-nspawn -q -b -D "$root" --private-network --register=no --keep-unit >"$tmp/console" 2>&1 </dev/null
boot=$?
cp "$root/proof/out" "$tmp/out" 2>/dev/null || {
    tail -n 20 "$tmp/console"
    echo "FAIL: nspawn: the container did not get to the questions (status $boot)"
    exit 1
}
cat "$tmp/out"
[ ! -s "$root/proof/trace" ] || { echo "nspawn: what it complained about:"; tail -n 20 "$root/proof/trace"; }
grep -q '^nspawn: the end' "$tmp/out" && ! grep -q ', fail$' "$tmp/out"
