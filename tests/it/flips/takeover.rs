//! The server killed while files and directories turn into each other.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::files::config;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;
use crate::survival::kept::{kill, next_of, processes};

/// How often the server is killed.
const ROUNDS: usize = 40;

/// The shapes that the same nodes take on.
const SHAPES: [&[(&str, &str)]; 4] = [
    &[("a", "x")],
    &[("a", "x/a"), ("b", "x/b"), ("c", "x/y/c")],
    &[("a", "x/y"), ("b", "x/a/b"), ("c", "x/b/deep/c")],
    &[],
];

#[test]
fn a_server_killed_in_the_middle_of_flips_loses_nothing() {
    let sandbox = Sandbox::new("flip-kill");
    for name in ["a", "b", "c"] {
        sandbox.admin.create(&format!("/{name}"), name);
    }
    let config = |shape: &[(&str, &str)]| {
        let nodes = shape.iter().map(|(name, dest)| {
            format!("nodes.{name}.source = /{name}\nnodes.{name}.dest = {dest}\n")
        });
        config(&sandbox.hosts(), &nodes.collect::<String>())
    };
    let mount = Mount::start_with(&config(SHAPES[0]), &["--restart-at-once"]);
    let show = |shape: &[(&str, &str)]| {
        // Whole at any moment, for a successor reads it when it likes.
        let new = mount.config().with_extension("new");
        fs::write(&new, config(shape)).unwrap();
        fs::rename(new, mount.config()).unwrap();
        mount.signal(Signal::HUP);
    };
    let (over, n_flips) = (AtomicBool::new(false), AtomicU64::new(0));
    for round in 0..ROUNDS {
        let [server, _] = processes(&mount);
        over.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    show(SHAPES[fastrand::usize(0..SHAPES.len())]);
                    // Enough that most are seen, few enough that they meet.
                    std::thread::sleep(Duration::from_micros(fastrand::u64(0..3000)));
                    let _ = fs::read_dir(mount.path("x")).map(Iterator::count);
                    n_flips.fetch_add(1, Ordering::Relaxed);
                }
            });
            std::thread::sleep(Duration::from_millis(fastrand::u64(5..150)));
            kill(server);
            std::thread::sleep(Duration::from_millis(fastrand::u64(0..60)));
            over.store(true, Ordering::Relaxed);
        });
        let shape = SHAPES[round % SHAPES.len()];
        show(shape);
        wait_until(SOON, &format!("round {round} shows {shape:?}"), || {
            // What the server that was killed showed last may be the same, and go before it comes.
            let is_right =
                |(name, dest): &(&str, &str)| mount.read(dest).as_deref() == Some(name.as_bytes());
            found(&mount) == Some(expected(shape)) && shape.iter().all(is_right)
        });
        next_of(&mount, "server", server);
    }
    println!("{} flips", n_flips.load(Ordering::Relaxed));
    assert_eq!(mount.n_logged("panicked"), 0);
}

/// All files and directories, each with its kind.
fn expected(shape: &[(&str, &str)]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (_, dest) in shape {
        all.insert(format!("f {dest}"));
        let above = dest.match_indices('/').map(|(at, _)| &dest[..at]);
        all.extend(above.map(|above| format!("d {above}")));
    }
    all
}

/// What is there; none while it changes.
fn found(mount: &Mount) -> Option<BTreeSet<String>> {
    let found = Command::new("/usr/bin/find")
        .arg(mount.root())
        .args(["-mindepth", "1", "-printf", "%y %P\\n"])
        .output()
        .unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    found
        .status
        .success()
        .then(|| text.lines().map(String::from).collect())
}
