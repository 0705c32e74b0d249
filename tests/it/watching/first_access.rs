//! The first look after a change asks nothing.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::events::Watcher;
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::wait_for;
use crate::support::zookeeper::Sandbox;

/// How many requests the kernel has made so far.
fn requests(mount: &Mount) -> u64 {
    let output = Command::new(env!("CARGO_BIN_EXE_livedata-fuse"))
        .args(["status", "--json"])
        .arg(mount.root())
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["details"]["requests"].as_u64().unwrap()
}

/// The same, when the publisher has done all of its own.
fn settled(mount: &Mount) -> u64 {
    let mut last = (requests(mount), 0);
    wait_for(SOON, "the requests stand still", || {
        let now = requests(mount);
        last = (now, if now == last.0 { last.1 + 1 } else { 0 });
        (last.1 == 5).then_some(now)
    })
}

#[test]
fn the_first_look_after_a_change_asks_nothing() {
    let sandbox = Sandbox::new("first-look");
    sandbox.admin.create("/a", "0");
    let nodes = "nodes.a.source = /a\nnodes.a.dest = dir/a";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let path = mount.path("dir/a");
    // The kernel asks some things once.
    drop(fs::read(&path).unwrap());
    for (size, at_most) in [(1 << 10, 0), (100 << 10, 0), (1_000_000, 16)] {
        for round in 0..5u8 {
            let content = vec![b'a' + round; size];
            let watcher = Watcher::new([mount.path("dir")]);
            sandbox.admin.set("/a", &content);
            assert_eq!(watcher.take(1)[0].name, "a");
            let before = settled(&mount);
            let mut file = File::open(&path).unwrap();
            let mut read = Vec::new();
            file.read_to_end(&mut read).unwrap();
            assert!(read == content);
            let meta = fs::metadata(&path).unwrap();
            assert_eq!((meta.len(), meta.nlink()), (size as u64, 1));
            drop(file);
            let asked = requests(&mount) - before;
            assert!(asked <= at_most, "{size} bytes: {asked} requests");
        }
    }
}
