#!/bin/sh
# Installs what building, the tests and the demonstration need on a Debian 12 machine, and does
# nothing where it is all there. Works as root or through sudo.
#
#   tests/setup.sh          everything
#   tests/setup.sh --demo   no Python packages and no linters, which only developers need
#   tests/setup.sh --bench  the C client of ZooKeeper, too, with which the benchmark compares
set -eu
cd "$(dirname "$0")/.."

with_python=yes
[ "${1-}" != --demo ] || with_python=

say() { echo "setup: $*" >&2; }

# --- packages -----------------------------------------------------------------------------------

packages=
need() { # need PACKAGE FILE-OR-COMMAND
    case $2 in
        /*) [ -e "$2" ] || packages="$packages $1" ;;
        *) command -v "$2" >/dev/null || packages="$packages $1" ;;
    esac
}

# The package zookeeper holds the programs only; zookeeperd would start a server.
need zookeeper /usr/share/zookeeper/bin/zkCli.sh
need libzookeeper-java /usr/share/java/zookeeper.jar
need libslf4j-java /usr/share/java/slf4j-simple.jar
need libnetty-java /usr/share/java/netty-codec.jar
need openssl openssl
need default-jre-headless java
need fuse3 fusermount3
need util-linux setpriv
need ca-certificates /etc/ssl/certs/ca-certificates.crt
need python3 /usr/bin/python3
need diffutils diff
need patch patch
need attr getfattr
# For promtool, which tests the metrics and the alerts.
[ -z "$with_python" ] || need prometheus promtool
[ "${1-}" != --bench ] || need libzookeeper-mt-dev /usr/include/zookeeper/zookeeper.h
# `make lint` has it read the Vagrantfile.
[ -z "$with_python" ] || need ruby ruby
# The unit is verified, and the package made and installed into a directory.
if [ -n "$with_python" ]; then
    need systemd systemd-analyze
    need binutils objdump
    need xz-utils xz
fi
# Crates bring some C and assembler to compile, and a linker is needed anyway.
need gcc cc
need libc6-dev /usr/include/stdio.h
need make make
if [ -n "$with_python" ] && [ -x /usr/bin/python3 ]; then
    # A venv with pip needs ensurepip, which Debian packages on its own.
    /usr/bin/python3 -S -c 'import ensurepip' 2>/dev/null || packages="$packages python3-venv"
elif [ -n "$with_python" ]; then
    packages="$packages python3-venv"
fi

# A toolchain is taken from Debian where there is none, or only an old one of Debian's: rustc-web
# is the recent one of Debian 12, and the newest of it comes with the security updates.
PATH=$PATH:${HOME:-/root}/.cargo/bin
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
rust() { rustc --version 2>/dev/null | cut -d' ' -f2; }
is_new_enough() { [ "$(printf '%s\n' "$wanted" "$(rust)" | sort -V | head -n 1)" = "$wanted" ]; }
no_rust=
if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    no_rust=yes
elif [ "$(command -v rustc)" = /usr/bin/rustc ] && ! is_new_enough; then
    no_rust=yes
fi

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        say "not root, and no sudo. As root, run:"
        say "    apt-get install --no-install-recommends$packages${no_rust:+ cargo-web rustc-web}"
        exit 1
    fi
}

install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}

if [ -n "$packages$no_rust" ]; then
    say "installing:$packages${no_rust:+ a Rust toolchain}"
    as_root apt-get update -qq </dev/null >&2
fi
# shellcheck disable=SC2086  # a list of names
[ -z "$packages" ] || install $packages
# The package starts a server, which nobody asked for.
case " $packages " in *" prometheus "*)
    as_root systemctl disable --now prometheus >/dev/null 2>&1 || true ;;
esac
if [ -n "$no_rust" ]; then
    install cargo-web rustc-web || install cargo rustc || true
fi
# For `make lint`. Where the toolchain is not Debian's, it brings them.
if [ -n "$with_python" ] && [ "$(command -v rustc)" = /usr/bin/rustc ]; then
    command -v rustfmt >/dev/null || install rustfmt-web || install rustfmt || true
    command -v cargo-clippy >/dev/null || install rust-web-clippy || install rust-clippy || true
fi

# --- the toolchain ------------------------------------------------------------------------------

if ! is_new_enough; then
    have=$(rust)
    say "Rust $wanted or newer is needed, and this machine has ${have:-none}."
    say "Debian 12 has one among its security updates (the suite bookworm-security in the sources"
    say "of apt); anywhere else rustup is the usual way. Then run this again."
    exit 1
fi

# --- Python: Baseplate, whose files and classes we promise to be compatible with; watchdog, which
# --- must see our changes ------------------------------------------------------------------------

[ -n "$with_python" ] || exit 0
baseplate=2.7.0
kazoo=2.11.0
watchdog=6.0.0
venv=target/venv
site=$venv/lib/python3*/site-packages
installed() {
    # shellcheck disable=SC2086  # the version of Python is a pattern
    ls -d $site/baseplate-$baseplate.dist-info $site/kazoo-$kazoo.dist-info \
        $site/watchdog-$watchdog.dist-info >/dev/null 2>&1 && [ -x $venv/bin/python ]
}
if ! installed; then
    say "making $venv with baseplate $baseplate, kazoo $kazoo and watchdog $watchdog"
    mkdir -p target
    /usr/bin/python3 -m venv --clear $venv
    # Its dependency thrift-unofficial is a source package that needs a setuptools with
    # pkg_resources and the old commands; the one of the venv is, so nothing is upgraded here.
    $venv/bin/pip install --quiet --quiet --disable-pip-version-check --no-input \
        "baseplate[zookeeper]==$baseplate" "kazoo==$kazoo" \
        "watchdog==$watchdog" </dev/null >&2
    installed || { say "pip did not install what was asked for"; exit 1; }
fi
