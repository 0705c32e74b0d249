//! poll(2) and epoll(7) on open files.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::files::config;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::zookeeper::Sandbox;

/// Waits at most that long for a file to be superseded, and gives what poll says.
fn superseded(file: &File, patience: Duration) -> PollFlags {
    // Without IN, which is always there.
    let mut waits = [PollFd::new(file, PollFlags::PRI)];
    poll(&mut waits, Some(&Timespec::try_from(patience).unwrap())).unwrap();
    waits[0].revents()
}

fn readable(file: &File) -> PollFlags {
    let mut waits = [PollFd::new(file, PollFlags::IN | PollFlags::PRI)];
    poll(&mut waits, Some(&Timespec::default())).unwrap();
    waits[0].revents()
}

const SUPERSEDED: PollFlags = PollFlags::PRI.union(PollFlags::ERR);

#[test]
fn poll_tells_of_a_superseded_version() {
    let sandbox = Sandbox::new("poll");
    for name in ["a", "marker"] {
        sandbox.admin.create(&format!("/{name}"), "0");
    }
    let nodes = "nodes.a.source = /a\nnodes.marker.source = /marker";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let open = |name: &str| File::open(mount.path(name)).unwrap();
    let file = open("a");
    assert_eq!(readable(&file), PollFlags::IN, "there is something to read");

    // Another file changes.
    let marker = open("marker");
    sandbox.admin.set("/marker", "1");
    assert_eq!(superseded(&marker, SOON), SUPERSEDED);
    assert_eq!(superseded(&file, Duration::ZERO), PollFlags::empty());

    // Many wait for one; some on one file, some on their own.
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8)
            .map(|n| {
                let own = open("a");
                let file = &file;
                scope.spawn(move || superseded(if n % 2 == 0 { file } else { &own }, SOON))
            })
            .collect();
        sandbox.admin.set("/a", "1");
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), SUPERSEDED);
        }
    });
    // Who begins later is told at once.
    assert_eq!(readable(&file), PollFlags::IN | SUPERSEDED);
    assert_eq!(superseded(&file, Duration::ZERO), SUPERSEDED);
    assert_eq!(mount.read("a").unwrap(), b"1");

    // So when the file is deleted.
    let file = open("a");
    assert_eq!(readable(&file), PollFlags::IN);
    sandbox.admin.delete("/a");
    assert_eq!(superseded(&file, SOON), SUPERSEDED);
    assert!(!mount.has("a"));
}

#[test]
fn epoll_tells_of_a_superseded_version() {
    let sandbox = Sandbox::new("epoll");
    for name in ["a", "b"] {
        sandbox.admin.create(&format!("/{name}"), "0");
    }
    let nodes = "nodes.a.source = /a\nnodes.b.source = /b";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let files = ["a", "b"].map(|name| File::open(mount.path(name)).unwrap());
    for (n, file) in files.iter().enumerate() {
        let data = epoll::EventData::new_u64(n as u64);
        let flags = epoll::EventFlags::PRI | epoll::EventFlags::ET;
        epoll::add(&set, file.as_fd(), data, flags).unwrap();
    }
    let next = |patience: Duration| {
        let mut events = Vec::with_capacity(4);
        let patience = Timespec::try_from(patience).unwrap();
        epoll::wait(
            &set,
            rustix::buffer::spare_capacity(&mut events),
            Some(&patience),
        )
        .unwrap();
        let superseded = epoll::EventFlags::PRI | epoll::EventFlags::ERR;
        for event in &events {
            let flags = event.flags;
            assert_eq!(flags, superseded);
        }
        events
            .iter()
            .map(|event| event.data.u64())
            .collect::<Vec<_>>()
    };
    assert_eq!(next(Duration::ZERO), [0_u64; 0]);
    sandbox.admin.set("/b", "1");
    assert_eq!(next(SOON), [1_u64]);
    sandbox.admin.set("/a", "1");
    assert_eq!(next(SOON), [0_u64]);
    assert_eq!(next(Duration::ZERO), [0_u64; 0], "once");
}
