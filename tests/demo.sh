#!/bin/bash
# Shows the whole thing on this machine: a private ZooKeeper, three znodes, the mount, a change.
#
#   tests/demo.sh          stays mounted until Ctrl-C
#   tests/demo.sh --once   ends by itself
#
# Everything is under target/demo (target/demo-2 beside another demo) and gone afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

once=
case "${1-}" in
    --once) once=yes ;;
    "") ;;
    *) echo "usage: $0 [--once]" >&2; exit 2 ;;
esac

fail() { echo "demo: $*" >&2; exit 1; }

# Who is not root mounts through fusermount3, for which the device must be open to all.
[ -e /dev/fuse ] || fail "there is no /dev/fuse; try: sudo modprobe fuse"
[ -r /dev/fuse ] && [ -w /dev/fuse ] || fail "/dev/fuse is not for this user; try: sudo make demo"

# With sudo, what is built belongs to who asked for it and comes from that user's toolchain.
user=
if [ "$(id -u)" = 0 ] && [ "${SUDO_USER:-root}" != root ]; then
    user=$SUDO_USER
    HOME=$(getent passwd "$user" | cut -d: -f6)
    export HOME
fi
export PATH=$PATH:${HOME:-/root}/.cargo/bin
as_user() {
    if [ -n "$user" ]; then runuser -u "$user" -- "$@"; else "$@"; fi
}

if [ -t 1 ]; then
    heading() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
else
    heading() { printf '\n== %s\n' "$*"; }
fi

# Runs a command and shows it as one would type it.
run() { echo "\$ $*"; "$@"; }

# --- from here on something may have to be cleaned up -------------------------------------------

root=$PWD
demo=
mnt=
server=

is_mounted() { grep -qF " ${mnt// /\\040} " /proc/self/mountinfo; }

unmount() {
    timeout 10 livedata-fuse umount "$mnt" 2>/dev/null \
        || timeout 10 livedata-fuse umount --lazy "$mnt" 2>/dev/null \
        || umount -l "$mnt" 2>/dev/null || fusermount3 -uz "$mnt" || true
}

clean_up() {
    status=$?
    trap - EXIT
    trap '' INT TERM HUP
    [ -n "$demo" ] || exit "$status"
    if is_mounted; then unmount; fi
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        for _ in {1..50}; do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    if [ "$status" = 1 ]; then
        for log in zookeeper.log zkcli.log livedata.log; do
            [ -s "$demo/$log" ] || continue
            echo "demo: the end of $log:" >&2
            tail -n 5 "$demo/$log" >&2
        done
    fi
    # What is mounted must not be deleted through.
    is_mounted || rm -rf "$demo"
    exit "$status"
}

# Takes a directory that no living demo has, by a lock that ends with this script (its children do
# not get it), however that ends.
take_directory() {
    local n
    for n in "" -2 -3 -4 -5 -6 -7 -8; do
        mkdir -p "$PWD/target/demo$n"
        exec 9<"$PWD/target/demo$n"
        if flock -n 9 && [ /dev/fd/9 -ef "$PWD/target/demo$n" ]; then
            demo=$PWD/target/demo$n
            mnt=$demo/mnt
            return
        fi
    done
    fail "eight demos are running; end one of them first"
}

tests/setup.sh --demo
[ ! -t 1 ] || printf 'Building, which takes some minutes the first time ...'
# The debug build is there in a third of the time, and fast enough to look at.
as_user cargo build --locked --quiet --bins
[ ! -t 1 ] || printf '\r\033[K'
PATH=$PWD/target/debug:$PATH

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
take_directory
# One that was killed may have left its mount.
if is_mounted; then unmount; fi
if is_mounted; then fail "$mnt is still mounted by an earlier demo"; fi
rm -rf "${demo:?}"/*
mkdir -p "$demo/data" "$mnt"

# Outside of the range that outgoing connections take their ports from.
in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=$((RANDOM % 10000 + 20000))
while in_use "$port"; do port=$((port + 1)); done

java_options=(-Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData
    -Dorg.slf4j.simpleLogger.defaultLogLevel=error
    -cp /usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar)
cat >"$demo/zoo.cfg" <<EOF
dataDir=$demo/data
clientPort=$port
clientPortAddress=127.0.0.1
admin.enableServer=false
4lw.commands.whitelist=srvr
EOF
# Gone with this script even if that is killed; and deaf to the Ctrl-C, for the mount goes first.
setsid setpriv --pdeathsig KILL java "${java_options[@]}" \
    org.apache.zookeeper.server.quorum.QuorumPeerMain "$demo/zoo.cfg" \
    >"$demo/zookeeper.log" 2>&1 </dev/null 9<&- &
server=$!

# A server that has only begun to listen may leave the question without an end.
serves() {
    timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port && printf srvr >&3 && grep -q Mode: <&3" \
        2>/dev/null
}
for n in {1..300}; do
    serves && break
    kill -0 "$server" 2>/dev/null || fail "ZooKeeper did not start"
    [ "$n" != 300 ] || fail "ZooKeeper does not answer"
    sleep 0.1
done

timeout --foreground 60 java "${java_options[@]}" org.apache.zookeeper.ZooKeeperMain \
    -server "127.0.0.1:$port" >"$demo/zkcli.log" 2>&1 9<&- <<'EOF'
create /app ""
create /app/flags ""
create /app/banner ""
create /app/experiments ""
quit
EOF
grep -q "Created /app/experiments" "$demo/zkcli.log" || fail "the znodes could not be created"

cat >"$demo/config.ini" <<EOF
[live-data]
zookeeper.hosts = 127.0.0.1:$port
log.file = livedata.log

nodes.flags.source = /app/flags
nodes.flags.dest = flags.json
nodes.flags.mode = 0444

nodes.banner.source = /app/banner
nodes.banner.dest = banner.txt
nodes.banner.mode = 0444

nodes.experiments.source = /app/experiments
nodes.experiments.dest = experiments.json
nodes.experiments.mode = 0440
EOF

# As a user would type it, with short paths.
cd "$demo"
printf '{\n  "dark_mode": true,\n  "new_checkout": false\n}\n' >flags.json
echo "Maintenance on Sunday, 9 to 10 h." >banner.txt
echo '[{"id": 7, "name": "blue button", "share": 0.1}]' >experiments.json
for file in flags.json banner.txt experiments.json; do
    livedata-writer config.ini "$file" "/app/${file%.*}" >writer.log 2>&1 \
        || fail "a znode could not be set: $(tail -n 1 writer.log)"
done
rm banner.txt experiments.json writer.log
# The user of another terminal changes it by hand.
[ -z "$user" ] || chown "$user": . flags.json config.ini

heading "A ZooKeeper of our own, with three znodes, and what to do with them"
run cat config.ini

heading "Mounted"
run livedata-fuse mount config.ini mnt 9<&-
run ls -l --time-style=+%T.%3N mnt
run cat mnt/flags.json

heading "Switch a flag"
run sed -i s/false/true/ flags.json
run livedata-writer config.ini flags.json /app/flags

# One push away: a few milliseconds, and no reader has to do anything.
for _ in {1..3000}; do cmp -s flags.json mnt/flags.json && break; sleep 0.01; done
cmp -s flags.json mnt/flags.json || fail "the change did not arrive"
heading "The file has it"
run ls -l --time-style=+%T.%3N mnt/flags.json
run cat mnt/flags.json

[ -z "$once" ] || exit 0
heading "Go on in another terminal"
cat <<EOF
  cd $(printf %q "$demo") && PATH=$(printf %q "$root/target/debug"):\$PATH
  nano flags.json && livedata-writer config.ini flags.json /app/flags
  watch -n 0.2 cat mnt/flags.json

Ctrl-C ends it: the mount, the server and this directory go away.
EOF
# The Ctrl-C that was asked for is no failure.
trap 'echo; exit 0' INT
# A wait, unlike a sleep, lets a signal through at once.
while kill -0 "$server" 2>/dev/null; do wait "$server" || true; done
fail "ZooKeeper ended"
