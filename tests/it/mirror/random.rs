//! Random scripts: whatever happened, what is shown in the end is what is there, and nothing
//! untrue was told on the way.

use std::time::Duration;

use livedata::subtree::Subtree;

use super::harness::{Hand, World, path as znode, seconds};

const PATHS: [&str; 6] = ["/a", "/b", "/a/a", "/a/b", "/b/a", "/a/a/a"];
const N_STEPS: usize = 60;

/// What else happens in a script, and must be forgiven on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Besides {
    Nothing,
    /// Watches are used up without firing: only the audit finds what they hid, and until then a
    /// heartbeat vouches for what is no more.
    LostWatches,
    /// Restores from backup: what is older comes back, and zxids are used again.
    Rewinds,
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watching {
    Nodes,
    /// Nodes and trees, which overlap.
    Trees,
}

/// Tells which seed it was.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

/// One script, in a runtime of its own, so that nothing of another one matters.
fn run(seed: u64, watching: Watching, besides: Besides) {
    let _seed = Seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(script(seed, watching, besides));
}

async fn script(seed: u64, watching: Watching, besides: Besides) {
    let mut random = fastrand::Rng::with_seed(seed);
    let hand = Hand::new(seed);
    // Without it a change under an ACL that forbids reading uses the watch up unheard.
    hand.zookeeper.tell_of_unreadable(true);
    hand.zookeeper.hosts(random.usize(1..=3));
    for path in PATHS {
        if random.bool() {
            hand.put(path, "first");
        }
    }
    let heartbeat = Duration::from_millis(random.u64(20..20_000));
    // Servers older than 3.6.
    hand.zookeeper.lack_tree_watches(random.u8(..4) == 0);
    let world = hand.watched(heartbeat, &[]);
    watch_some(&world, watching, &mut random);
    if besides == Besides::LostWatches {
        world.book.lock().losses_are_known();
    }
    for step in 0..N_STEPS {
        happen(&world, watching, &mut random, step).await;
        match besides {
            Besides::LostWatches if random.u8(..8) == 0 => world.zookeeper.lose_next_event(),
            Besides::Rewinds if random.u8(..30) == 0 => {
                let zxid = random.i64(0..=world.zookeeper.last_zxid());
                world.rewind(zxid);
            }
            Besides::Nothing | Besides::LostWatches | Besides::Rewinds => {}
        }
    }
    // Quiet.
    let zookeeper = &world.zookeeper;
    zookeeper.hang(false);
    zookeeper.refuse(false);
    zookeeper.lag(0);
    zookeeper.delay(Duration::ZERO..Duration::from_millis(3));
    for path in PATHS {
        // It may not exist.
        let _ = zookeeper.set_readable(path, true);
    }
    world.heard().await;
    let mut audit = Duration::ZERO;
    match besides {
        Besides::Nothing => {}
        // Two sweeps, of two heartbeats each: it may just have begun one.
        Besides::LostWatches => audit = 4 * heartbeat,
        // What a restore took away is served until it is there again.
        Besides::Rewinds => PATHS.iter().for_each(|path| world.put(path, "last")),
    }
    // The longest wait of a znode in trouble, or for the sync at a server that lags.
    world.right(heartbeat + audit + seconds(12)).await;
    world.end().await;
}

fn watch_some(world: &World, watching: Watching, random: &mut fastrand::Rng) {
    let mut trees = Vec::new();
    if watching == Watching::Trees {
        let exclude = ["b".to_string()];
        let include = ["a/a".to_string()];
        for (root, depth, include, exclude) in [
            ("/a", None, &[][..], &[][..]),
            ("/a/a", None, &[], &[]),
            ("/", Some(1), &[], &[]),
            ("/a", Some(1), &[], &exclude),
            ("/", None, &include, &[]),
            ("/c/d", Some(0), &[], &[]),
        ] {
            if random.u8(..3) == 0 {
                trees.push(Subtree::new(znode(root), depth, include, exclude).unwrap());
            }
        }
    }
    let nodes = match watching {
        Watching::Trees if random.bool() => Vec::new(),
        Watching::Trees | Watching::Nodes => some(random),
    };
    world.watch_all(&nodes, &trees);
}

fn some(random: &mut fastrand::Rng) -> Vec<&'static str> {
    PATHS.into_iter().filter(|_| random.u8(..4) > 0).collect()
}

async fn happen(world: &World, watching: Watching, random: &mut fastrand::Rng, step: usize) {
    let path = PATHS[random.usize(..PATHS.len())];
    let zookeeper = &world.zookeeper;
    match random.u8(..40) {
        0..10 => world.put(path, &format!("{step}")),
        10..15 => {
            if zookeeper.get(path).is_some() {
                world.delete(path);
            }
        }
        15..18 => zookeeper.cut(),
        18 => zookeeper.expire(),
        19 => zookeeper.refuse(true),
        20 | 21 => zookeeper.refuse(false),
        22 => {
            zookeeper.hang(true);
            let silence = [0, 10, 1000, 70_000][random.usize(..4)];
            world.passes(Duration::from_millis(silence)).await;
            if random.bool() {
                zookeeper.cut();
            }
            zookeeper.hang(false);
        }
        23 => {
            let most = [1, 3, 50, 1500][random.usize(..4)];
            zookeeper.delay(Duration::ZERO..Duration::from_millis(most));
        }
        24 | 25 => zookeeper.lag(random.usize(..6)),
        26 | 27 => {
            let _ = zookeeper.set_readable(path, random.bool());
        }
        28 | 29 => {
            watch_some(world, watching, random);
            world.heard().await;
        }
        _ => {
            let most = [1, 10, 1000, 20_000][random.usize(..4)];
            world
                .passes(Duration::from_millis(random.u64(..=most)))
                .await;
        }
    }
}

#[test]
fn what_is_shown_in_the_end_is_what_is_there() {
    for seed in 0..1000 {
        run(seed, Watching::Nodes, Besides::Nothing);
    }
}

#[test]
fn what_is_shown_of_trees_in_the_end_is_what_is_there() {
    for seed in 0..2000 {
        run(seed, Watching::Trees, Besides::Nothing);
    }
}

#[test]
fn what_lost_watches_hid_is_shown_in_the_end() {
    for seed in 0..500 {
        run(seed, Watching::Nodes, Besides::LostWatches);
        run(seed, Watching::Trees, Besides::LostWatches);
    }
}

#[test]
fn what_restores_left_is_shown_in_the_end() {
    for seed in 0..500 {
        run(seed, Watching::Nodes, Besides::Rewinds);
    }
}
