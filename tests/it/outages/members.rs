//! Members of an ensemble that are killed, stopped and restarted in turn.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::files::config;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::shown::SOON;
use crate::support::wait::{wait_for, wait_until};
use crate::support::zookeeper::Ensemble;

/// An ensemble with `/a` and `/b`, and a mount of both whose session is at that member.
struct World {
    ensemble: Ensemble,
    admin: Admin,
    mount: Mount,
    /// The ways of the mount to the members.
    ways: Vec<Proxy>,
    ino: u64,
}

impl World {
    fn at(choose: impl FnOnce(&Ensemble) -> usize) -> (Self, usize) {
        let ensemble = Ensemble::start();
        let admin = Admin::connect(ensemble.hosts());
        admin.create("/a", "0");
        admin.create("/b", "1");
        let chosen = choose(&ensemble);
        let members = ensemble.members.iter();
        let ways: Vec<Proxy> = members
            .map(|member| Proxy::start(member.address()))
            .collect();
        for (member, way) in ways.iter().enumerate() {
            if member != chosen {
                way.refuse();
            }
        }
        let hosts: Vec<String> = ways.iter().map(Proxy::hosts).collect();
        let lines = "
            zookeeper.timeout = 4 seconds
            nodes.a.source = /a
            nodes.b.source = /b";
        let mount = Mount::start(&config(&hosts.join(","), lines));
        for way in &ways {
            way.accept();
        }
        let ino = mount.ino("b");
        let world = Self {
            ensemble,
            admin,
            mount,
            ways,
            ino,
        };
        assert_eq!(world.connected(), chosen);
        (world, chosen)
    }

    fn connected(&self) -> usize {
        wait_for(SOON, "a member has the mount's session", || {
            self.ensemble.member_of(self.mount.session())
        })
    }

    #[track_caller]
    fn change(&self, content: &str) {
        self.admin.set("/a", content);
        self.mount.wait_for_content("a", content);
        assert_eq!(self.mount.read("b").unwrap(), b"1");
        assert_eq!(self.mount.ino("b"), self.ino, "b did not change");
    }
}

#[test]
fn a_killed_follower_is_survived() {
    let (mut world, follower) = World::at(Ensemble::follower);
    let session = world.mount.session();
    world.ensemble.members[follower].kill();
    assert_eq!(world.mount.read("b").unwrap(), b"1");
    world.change("1");
    world.mount.next_session(session);
    assert_ne!(world.connected(), follower);
    world.ensemble.members[follower].restart();
    world.change("2");
}

#[test]
fn a_killed_leader_is_survived() {
    let (mut world, leader) = World::at(Ensemble::leader);
    world.ensemble.members[leader].kill();
    assert_eq!(world.mount.read("b").unwrap(), b"1");
    world.change("1");
    assert_ne!(world.connected(), leader);
    world.ensemble.members[leader].restart();
    world.change("2");
}

/// It answers nothing and holds its connections: only silence tells.
#[test]
fn a_stopped_member_is_left() {
    let (world, stopped) = World::at(Ensemble::follower);
    let session = world.mount.session();
    world.ensemble.members[stopped].pause();
    let start = Instant::now();
    world.mount.next_session(session);
    // 0.4 of 4 s, an attempt or two at the stopped member of at most 3 s each, and a busy machine.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "left after {took:?}");
    assert_ne!(world.connected(), stopped);
    world.change("1");
    world.ensemble.members[stopped].resume();
    wait_until(SOON, "the member is back", || {
        world.ensemble.members[stopped].mode().is_some()
    });
    world.change("2");
}

/// Every change that was acknowledged shows soon, whichever member is down, and none goes back.
#[test]
fn a_rolling_restart_leaves_no_file_stale() {
    /// A failover of the writer, of the mount, an election; on a busy machine.
    const LONGEST: Duration = Duration::from_secs(20);
    let (mut world, _) = World::at(Ensemble::follower);
    let over = AtomicBool::new(false);
    let acknowledged = Mutex::new(VecDeque::new());
    let longest = AtomicU64::new(0);
    let World {
        ensemble,
        admin,
        mount,
        ..
    } = &mut world;
    let mount = &*mount;
    thread::scope(|scope| {
        let _over = super::Over(&over);
        let writer = scope.spawn(|| {
            let mut n = 0_u64;
            while !over.load(Ordering::Relaxed) {
                n += 1;
                admin.set("/a", n.to_string());
                acknowledged.lock().unwrap().push_back((n, Instant::now()));
                thread::sleep(Duration::from_millis(10));
            }
            n
        });
        let reader = scope.spawn(|| {
            let _over = super::Over(&over);
            let mut last = 0;
            loop {
                let is_over = over.load(Ordering::Relaxed);
                let content = mount.read("a").expect("the file stays");
                let shown: u64 = String::from_utf8(content).unwrap().parse().unwrap();
                assert!(shown >= last, "{shown} after {last}");
                last = shown;
                let mut waiting = acknowledged.lock().unwrap();
                while let Some((_, at)) = waiting.front().filter(|(n, _)| *n <= shown) {
                    longest.fetch_max(at.elapsed().as_millis() as u64, Ordering::Relaxed);
                    waiting.pop_front();
                }
                if let Some((n, at)) = waiting.front() {
                    assert!(at.elapsed() < LONGEST, "{shown} shows long after {n}");
                } else if is_over {
                    return;
                }
                drop(waiting);
                thread::sleep(Duration::from_millis(3));
            }
        });
        for member in &mut ensemble.members {
            let until = acknowledged.lock().unwrap().back().map_or(0, |(n, _)| *n) + 20;
            member.restart();
            wait_until(SOON, "changes go on", || {
                over.load(Ordering::Relaxed)
                    || mount.read("a").is_some_and(|content| {
                        let shown = String::from_utf8_lossy(&content).parse();
                        shown.is_ok_and(|shown: u64| shown >= until)
                    })
            });
        }
        over.store(true, Ordering::Relaxed);
        let last = writer.join().unwrap();
        reader.join().unwrap();
        println!("{last} changes, the longest wait {longest:?} ms");
        mount.wait_for_content("a", last.to_string());
    });
    assert_eq!(mount.ino("b"), world.ino);
    assert_eq!(world.ways.len(), 3);
}
