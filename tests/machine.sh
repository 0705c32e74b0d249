#!/bin/bash
# Makes a Debian 12 machine, as `vagrant up` brings it, one with an ensemble of three ZooKeeper servers
# (ports 2181 to 2183) and a mount of three of its znodes at /mnt/live, both also after a reboot. Run
# by a user who may sudo, in the directory of the sources; may be run again.
set -euo pipefail
cd "$(dirname "$0")/.."

tests/setup.sh
export PATH=$PATH:$HOME/.cargo/bin
cargo build --locked --release --bins
sudo install target/release/livedata-fuse target/release/livedata-writer /usr/local/bin/
sudo ln -sf /usr/local/bin/livedata-fuse /sbin/mount.fuse.livedata

# --- the ensemble -------------------------------------------------------------------------------

sudo install -d /etc/zookeeper-ensemble
for n in 1 2 3; do
    sudo tee "/etc/zookeeper-ensemble/$n.cfg" >/dev/null <<EOF
tickTime=2000
initLimit=10
syncLimit=5
dataDir=/var/lib/zookeeper-$n
clientPort=$((2180 + n))
clientPortAddress=127.0.0.1
admin.enableServer=false
4lw.commands.whitelist=srvr
server.1=127.0.0.1:2881:3881
server.2=127.0.0.1:2882:3882
server.3=127.0.0.1:2883:3883
EOF
done
sudo tee /etc/systemd/system/zookeeper@.service >/dev/null <<'EOF'
[Unit]
Description=ZooKeeper, member %i of the ensemble of this machine
After=network.target

[Service]
DynamicUser=yes
StateDirectory=zookeeper-%i
ExecStartPre=/bin/sh -c 'echo %i >/var/lib/zookeeper-%i/myid'
ExecStart=/usr/bin/java -Xmx128m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp /usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar \
    org.apache.zookeeper.server.quorum.QuorumPeerMain /etc/zookeeper-ensemble/%i.cfg
# What a Java program answers to SIGTERM.
SuccessExitStatus=143
Restart=on-failure

[Install]
WantedBy=multi-user.target
EOF
sudo systemctl daemon-reload
sudo systemctl enable --quiet --now zookeeper@1 zookeeper@2 zookeeper@3

# A server that has only begun to listen may leave the question without an end.
serves() {
    timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$1 && printf srvr >&3 && grep -q Mode: <&3" \
        2>/dev/null
}
for port in 2181 2182 2183; do
    for n in {1..300}; do
        if serves "$port"; then break; fi
        if [ "$n" = 300 ]; then
            echo "machine: ZooKeeper at port $port does not answer: journalctl -u 'zookeeper@*'" >&2
            exit 1
        fi
        sleep 0.1
    done
done

# --- the mount ----------------------------------------------------------------------------------

sudo install -d /etc/livedata /mnt/live /var/lib/livedata-fuse
# That some exist is as it should be, the second time.
timeout 60 java -cp /usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
    org.apache.zookeeper.ZooKeeperMain -server 127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183 \
    >/dev/null <<'EOF'
create /app ""
create /app/flags ""
create /app/banner ""
create /services ""
create /services/web ""
create /services/web/1 "10.0.0.1:80"
create /services/web/2 "10.0.0.2:80"
quit
EOF
sudo tee /etc/livedata/config.ini >/dev/null <<'EOF'
[live-data]
zookeeper.hosts = 127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183
zookeeper.timeout = 20 seconds
defaults.mode = 0444

nodes.flags.source = /app/flags
nodes.flags.dest = flags.json
nodes.banner.source = /app/banner
nodes.banner.dest = banner.txt
trees.services.source = /services
EOF
sudo tee /etc/systemd/system/livedata-demo.service >/dev/null <<'EOF'
[Unit]
Description=ZooKeeper's znodes as files in /mnt/live
After=zookeeper@1.service zookeeper@2.service zookeeper@3.service

[Service]
Type=notify
ExecStart=/usr/local/bin/livedata-fuse mount -f /etc/livedata/config.ini /mnt/live
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure

[Install]
WantedBy=multi-user.target
EOF
sudo systemctl daemon-reload
sudo systemctl enable --quiet livedata-demo
sudo systemctl restart livedata-demo

# What is there already stays.
if [ ! -s /mnt/live/flags.json ]; then
    printf '{\n  "dark_mode": true,\n  "new_checkout": false\n}\n' \
        | livedata-writer /etc/livedata/config.ini - /app/flags
    echo "Maintenance on Sunday, 9 to 10 h." \
        | livedata-writer /etc/livedata/config.ini - /app/banner
fi
livedata-fuse status --wait-fresh --timeout 30s /mnt/live

here=$PWD
grep -qxF "cd $here" ~/.bashrc || echo "cd $here" >>~/.bashrc
