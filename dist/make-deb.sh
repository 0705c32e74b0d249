#!/bin/sh
# Makes the Debian package of what is built, with nothing but dpkg.
#
#   dist/make-deb.sh                        target/release -> target/livedata-fuse_VERSION_ARCH.deb
#   dist/make-deb.sh PROGRAMS DIRECTORY     those programs -> a package in that directory
#
# Prints the path of the package.
set -eu
cd "$(dirname "$0")/.."

programs=${1:-target/release}
to=${2:-target}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
arch=$(dpkg --print-architecture)

for name in livedata-fuse livedata-writer; do
    [ -x "$programs/$name" ] || { echo "make-deb: $programs/$name is not built" >&2; exit 1; }
done

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

put() { # put MODE FILE... DIRECTORY/
    mode=$1
    shift
    for directory; do :; done
    install -d "$root/$directory"
    while [ $# -gt 1 ]; do
        install -m "$mode" "$1" "$root/$directory"
        shift
    done
}
put_as() { install -D -m "$1" "$2" "$root/$3"; } # put_as MODE FILE PATH

put 755 "$programs/livedata-fuse" "$programs/livedata-writer" usr/bin/
strip --strip-unneeded "$root"/usr/bin/livedata-*
# mount(8) runs mount.TYPE, and looks for it in /sbin only, which is /usr/sbin by now.
install -d "$root/usr/sbin"
ln -s ../bin/livedata-fuse "$root/usr/sbin/mount.fuse.livedata"

put 644 dist/livedata-fuse@.service lib/systemd/system/
put_as 644 dist/tmpfiles.conf usr/lib/tmpfiles.d/livedata-fuse.conf
put_as 644 dist/sysusers.conf usr/lib/sysusers.d/livedata-fuse.conf
put 644 dist/man/*.1 usr/share/man/man1/
gzip -9n "$root"/usr/share/man/man1/*.1
for name in livedata-fuse livedata-writer; do
    put_as 644 dist/completions/$name.bash usr/share/bash-completion/completions/$name
    put_as 644 dist/completions/$name.fish usr/share/fish/vendor_completions.d/$name.fish
    put_as 644 dist/completions/_$name usr/share/zsh/vendor-completions/_$name
done

doc=usr/share/doc/livedata-fuse
put 644 README.md $doc/
put 644 dist/live.ini dist/unprivileged.conf dist/alerts.yml $doc/examples/
put_as 644 mount.d/example.ini $doc/examples/mount.d/example.ini
{
    echo "livedata-fuse may be used under the Apache License 2.0, which Debian has in"
    echo "/usr/share/common-licenses/Apache-2.0, or under this one:"
    echo
    cat LICENSE-MIT
} >"$root/$doc/copyright"
chmod 644 "$root/$doc/copyright"
# Configurations may name secrets; whoever may write them may run commands.
install -d -m 755 "$root/etc/livedata" "$root/etc/livedata/mount.d"

# The oldest C library that has all that the programs ask for.
libc=$(objdump -T "$root"/usr/bin/livedata-* | sed -n 's/.*(GLIBC_\([0-9.]*\)).*/\1/p' |
    sort -uV | tail -n 1)

install -d "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<END
Package: livedata-fuse
Version: $version
Architecture: $arch
Maintainer: The livedata-fuse authors <root@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: ${libc:+libc6 (>= $libc), libgcc-s1}
Recommends: fuse3
Section: admin
Priority: optional
Description: configuration from ZooKeeper as files that are always current
 Shows the znodes you name as read-only files. Watches push every change, and
 applications just open a path, in any language, with no client library. The
 last known content is served while ZooKeeper is away.
 .
 livedata-writer shows the difference between a file and a znode, and sets it.
END
[ -n "$libc" ] || sed -i '/^Depends:/d' "$root/DEBIAN/control"
for name in postinst prerm postrm; do put_as 755 dist/deb/$name DEBIAN/$name; done
(cd "$root" && find usr lib etc -type f -exec md5sum {} +) >"$root/DEBIAN/md5sums"

# The same files make the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
package=$to/livedata-fuse_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz -z6 --build "$root" "$package" >/dev/null
echo "$package"
