#!/bin/bash
# Shows the whole thing on this machine: a private ZooKeeper, three znodes, the mount, a change.
#
#   tests/demo.sh          stays mounted until Ctrl-C
#   tests/demo.sh --once   ends by itself
#
# Everything is under target/demo and gone afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

once=
case "${1-}" in
    --once) once=yes ;;
    "") ;;
    *) echo "usage: $0 [--once]" >&2; exit 2 ;;
esac

if [ "$(id -u)" != 0 ]; then
    # Who mounts must own /dev/fuse or go through fusermount3; both work, if the device is there.
    [ -w /dev/fuse ] || { echo "demo: /dev/fuse is not writable; try: sudo make demo" >&2; exit 1; }
fi

PATH=$PATH:${HOME:-/root}/.cargo/bin
demo=$PWD/target/demo
mnt=$demo/mnt
server=

heading() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
[ -t 1 ] || heading() { printf '\n== %s\n' "$*"; }

# Runs a command and shows it as one would type it.
run() { echo "\$ $*"; "$@"; }

is_mounted() { grep -qF " $mnt " /proc/self/mountinfo; }

clean_up() {
    status=$?
    trap - EXIT
    trap '' INT TERM HUP
    if is_mounted; then
        timeout 10 livedata-fuse umount "$mnt" 2>/dev/null \
            || timeout 10 livedata-fuse umount --lazy "$mnt" 2>/dev/null \
            || umount -l "$mnt" 2>/dev/null || fusermount3 -uz "$mnt" || true
    fi
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        for _ in {1..50}; do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    if [ "$status" != 0 ] && [ "$status" != 130 ] && [ -s "$demo/zookeeper.log" ]; then
        echo "demo: failed; the end of ZooKeeper's log:" >&2
        tail -n 5 "$demo/zookeeper.log" >&2
    fi
    # What is mounted must not be deleted through.
    is_mounted || rm -rf "$demo"
    exit "$status"
}

tests/setup.sh --demo
echo "Building ..."
# The debug build is there in a third of the time, and fast enough to look at.
cargo build --locked --quiet --bins
PATH=$PWD/target/debug:$PATH

if is_mounted; then
    echo "demo: $mnt is mounted already; is another demo running?" >&2
    exit 1
fi
rm -rf "$demo"
mkdir -p "$demo/data" "$mnt"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

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
    >"$demo/zookeeper.log" 2>&1 </dev/null &
server=$!

# A server that has only begun to listen may leave the question without an end.
serves() {
    timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port && printf srvr >&3 && grep -q Mode: <&3" \
        2>/dev/null
}
for n in {1..300}; do
    serves && break
    kill -0 "$server" 2>/dev/null || { echo "demo: ZooKeeper did not start" >&2; exit 1; }
    [ "$n" != 300 ] || { echo "demo: ZooKeeper does not answer" >&2; exit 1; }
    sleep 0.1
done

heading "A ZooKeeper of our own, with three znodes"
timeout 60 java "${java_options[@]}" org.apache.zookeeper.ZooKeeperMain \
    -server "127.0.0.1:$port" >"$demo/zkcli.log" 2>&1 <<'EOF'
create /app ""
create /app/flags '{"new_checkout": false, "dark_mode": true}'
create /app/banner "Maintenance on Sunday, 9 to 10 h."
create /app/experiments '[{"id": 7, "name": "blue button", "share": 0.1}]'
quit
EOF
grep -q "Created /app/experiments" "$demo/zkcli.log" \
    || { echo "demo: the znodes could not be created" >&2; tail -n 5 "$demo/zkcli.log" >&2; exit 1; }
echo "127.0.0.1:$port   /app/flags   /app/banner   /app/experiments"

heading "The configuration"
cat >"$demo/config.ini" <<EOF
[live-data]
zookeeper.hosts = 127.0.0.1:$port

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
cat "$demo/config.ini"

# From here on as a user would type it, with short paths.
cd "$demo"
heading "Mounted"
run livedata-fuse mount config.ini mnt
run ls -l --time-style=full-iso mnt
run cat mnt/flags.json; echo

heading "Switch a flag"
echo '{"new_checkout": true, "dark_mode": true}' >flags.json
run livedata-writer config.ini flags.json /app/flags

heading "The file has it"
# One push away: a few milliseconds, and no reader has to do anything.
for _ in {1..500}; do cmp -s flags.json mnt/flags.json && break; sleep 0.01; done
run ls -l --time-style=full-iso mnt/flags.json
run cat mnt/flags.json
cmp -s flags.json mnt/flags.json || { echo "demo: the change did not arrive" >&2; exit 1; }

[ -z "$once" ] || exit 0
heading "Go on by hand, in another terminal"
cat <<EOF
  cd $demo && export PATH=\$PATH:${PWD%/demo}/debug
  nano flags.json && livedata-writer config.ini flags.json /app/flags
  watch -n 0.2 cat mnt/flags.json      (or inotifywait -m mnt)

Ctrl-C here ends it: the mount, the server and this directory go away.
EOF
# A wait, unlike a sleep, lets a signal through at once.
while kill -0 "$server" 2>/dev/null; do wait "$server" || true; done
echo "demo: ZooKeeper ended" >&2
exit 1
