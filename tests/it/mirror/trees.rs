//! Subtrees: found, followed and forgotten, on the fake service in virtual time.

use std::time::Duration;

use livedata::mirror::Update;
use livedata::source::fake::Request;
use livedata::subtree::Subtree;

use super::HEARTBEAT;
use super::harness::{Hand, World, path, seconds};

fn tree(root: &str, depth: Option<u32>) -> Subtree {
    Subtree::new(path(root), depth, &[], &[]).unwrap()
}

fn filtered(root: &str, include: &[&str], exclude: &[&str]) -> Subtree {
    let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    Subtree::new(path(root), None, &owned(include), &owned(exclude)).unwrap()
}

async fn showing(seed: u64, znodes: &[&str], trees: &[Subtree]) -> World {
    let hand = Hand::new(seed);
    for znode in znodes {
        hand.put(znode, "content");
    }
    let world = hand.watched_trees(HEARTBEAT, trees);
    world.right(seconds(1)).await;
    world
}

fn settled(history: &[Update]) -> usize {
    let is = |update: &&Update| **update == Update::Settled;
    history.iter().filter(is).count()
}

#[tokio::test(start_paused = true)]
async fn a_subtree_is_found_with_few_requests() {
    let hand = Hand::new(1);
    for directory in 0..20 {
        for leaf in 0..50 {
            hand.put(&format!("/t/{directory}/{leaf}"), "content");
        }
    }
    hand.put("/other", "content");
    let world = hand.watched_trees(HEARTBEAT, &[tree("/t", None)]);
    let took = world.right(seconds(2)).await;
    assert!(took < Duration::from_millis(200), "{took:?}");
    let counts = world.zookeeper.counts();
    assert_eq!(counts.of(Request::WatchTree), 1);
    assert_eq!(counts.of(Request::Sync), 1, "before anything is believed");
    assert_eq!(counts.n_reads(), 1021, "one each");
    assert_eq!(counts.n_lists(), 21, "of those only that have children");
    assert_eq!(counts.n_checks(), 0);
    assert_eq!(world.zookeeper.n_watches(), 1);
    assert!(counts.max_in_flight > 100, "{counts:?}");
    assert_eq!(settled(&world.take_history()), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_happens_costs_what_it_must() {
    let world = showing(1, &["/t/a/1", "/t/a/2", "/t/b"], &[tree("/t", None)]).await;
    world.zookeeper.take_counts();
    world.put("/t/a/3", "new");
    world.right(seconds(1)).await;
    world.put("/t/a/3", "newer");
    world.right(seconds(1)).await;
    let counts = world.zookeeper.take_counts();
    assert_eq!(
        (counts.n_reads(), counts.n_checks(), counts.n_lists()),
        (2, 0, 0)
    );
    world.delete("/t/a/3");
    world.right(seconds(1)).await;
    let counts = world.zookeeper.take_counts();
    // It is looked for, and its absence is proven.
    assert_eq!((counts.n_reads(), counts.n_lists()), (1, 0));
    assert_eq!(counts.of(Request::Sync), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_beyond_the_depth_is_not_read_but_counts_as_children() {
    let world = showing(1, &["/t/a/deep", "/t/b"], &[tree("/t", Some(1))]).await;
    assert_eq!(world.text("/t/a/deep"), None);
    world.zookeeper.take_counts();
    world.put("/t/b/deep", "1");
    world.right(seconds(1)).await;
    world.delete("/t/b/deep");
    world.delete("/t/a");
    world.right(seconds(1)).await;
    assert!(
        world.zookeeper.take_counts().n_reads() <= 1,
        "/t/a is looked for"
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_excluded_is_not_even_listed() {
    let trees = [filtered("/t", &["*.json"], &["secret"])];
    let znodes = [
        "/t/a/x.json",
        "/t/a/x.txt",
        "/t/secret/y.json",
        "/t/z.json/below",
    ];
    let world = showing(1, &znodes, &trees).await;
    let shown: Vec<String> = world.book.lock().shown.keys().cloned().collect();
    assert_eq!(shown, ["/t/a/x.json", "/t/z.json", "/t/z.json/below"]);
    let counts = world.zookeeper.counts();
    assert_eq!((counts.n_reads(), counts.n_lists()), (3, 3));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_missing_is_awaited() {
    let world = Hand::new(1).watched_trees(HEARTBEAT, &[tree("/t/u", None)]);
    world.right(seconds(1)).await;
    for _ in 0..3 {
        world.put("/t/u/a", "1");
        world.right(seconds(1)).await;
        world.delete("/t");
        world.right(seconds(1)).await;
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_only_what_differs_is_fetched_and_listed() {
    let names: Vec<String> = (0..300).map(|n| format!("/t/{}/{n}", n % 10)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = showing(1, &names, &[tree("/t", None)]).await;
    for round in 0..5 {
        world.zookeeper.refuse(true);
        world.zookeeper.cut();
        world.passes(seconds(5)).await;
        world.put("/t/3/13", &format!("{round}"));
        world.put(&format!("/t/4/new-{round}"), "1");
        world.delete(&format!("/t/5/{}5", round + 1));
        world.zookeeper.take_counts();
        world.zookeeper.refuse(false);
        world.right(seconds(3)).await;
        let counts = world.zookeeper.take_counts();
        // The changed one, the new one; and the one that is gone is looked for.
        assert!(counts.n_reads() <= 3, "{counts:?}");
        assert_eq!(counts.n_lists(), 2, "{counts:?}");
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lags_brings_nothing_back() {
    for seed in 0..50 {
        let world = showing(seed, &["/t/a", "/t/b", "/t/c/d"], &[tree("/t", None)]).await;
        world.delete("/t/b");
        world.delete("/t/c");
        world.put("/t/e", "1");
        world.right(seconds(1)).await;
        world.zookeeper.lag(4);
        world.zookeeper.cut();
        // What was deleted would be news, and is found to be an untruth by the harness.
        world.passes(seconds(2)).await;
        world.right(seconds(12)).await;
        assert!(!world.take_history().iter().any(|update| {
            matches!(update, Update::Content { path, .. } if path.as_str() == "/t/b")
                && world.text("/t/b").is_some()
        }));
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wiped_server_takes_no_tree_away() {
    let world = showing(1, &["/t/a", "/t/b/c"], &[tree("/t", None)]).await;
    world.wipe();
    world.passes(seconds(60)).await;
    for at in ["/t", "/t/a", "/t/b", "/t/b/c"] {
        assert!(world.text(at).is_some(), "{at}");
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_read_only_server_adds_and_takes_nothing() {
    let world = showing(1, &["/t/a", "/t/b"], &[tree("/t", None)]).await;
    world.zookeeper.refuse(true);
    world.zookeeper.cut();
    world.delete("/t/b");
    world.put("/t/c", "1");
    world.zookeeper.read_only(true);
    world.zookeeper.refuse(false);
    world.passes(seconds(30)).await;
    assert!(world.text("/t/b").is_some());
    assert_eq!(world.text("/t/c"), None);
    world.zookeeper.read_only(false);
    world.zookeeper.cut();
    world.right(seconds(3)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_znode_that_is_denied_stops_nothing_else() {
    let world = showing(1, &["/t/a/x", "/t/b/y"], &[tree("/t", None)]).await;
    world.zookeeper.tell_of_unreadable(true);
    world.zookeeper.set_readable("/t/a", false).unwrap();
    world.put("/t/a", "secret");
    world.put("/t/a/z", "1");
    world.put("/t/b/z", "1");
    let all = |world: &World| world.text("/t/a/z").is_some() && world.text("/t/b/z").is_some();
    let begun = tokio::time::Instant::now();
    while !all(&world) {
        assert!(begun.elapsed() < seconds(1));
        world.passes(Duration::from_millis(5)).await;
    }
    assert_eq!(world.text("/t/a").as_deref(), Some(""));
    world.zookeeper.set_readable("/t/a", true).unwrap();
    world.right(seconds(12)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_creation_and_a_lost_deletion_are_found_by_the_audit() {
    let heartbeat = seconds(1);
    for lost in ["created", "deleted"] {
        let hand = Hand::new(1);
        hand.put("/t/a", "1");
        hand.put("/t/b", "1");
        let world = hand.watched_trees(heartbeat, &[tree("/t", None)]);
        world.right(seconds(1)).await;
        world.book.lock().losses_are_known();
        world.zookeeper.lose_next_event();
        match lost {
            "created" => world.put("/t/c", "1"),
            _ => world.delete("/t/b"),
        }
        world.right(heartbeat * 5).await;
        let history = world.take_history();
        assert!(
            history
                .iter()
                .any(|update| matches!(update, Update::Repaired { .. })),
            "{lost}"
        );
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_server_is_followed_by_two_watches_of_each_znode() {
    let hand = Hand::new(1);
    hand.zookeeper.lack_tree_watches(true);
    hand.put("/t/a/1", "1");
    hand.put("/t/b", "1");
    let world = hand.watched_trees(HEARTBEAT, &[tree("/t", None)]);
    world.right(seconds(1)).await;
    assert_eq!(world.zookeeper.n_watches(), 2 * 4);
    for round in 0..20 {
        world.put("/t/b/new", &format!("{round}"));
        world.put("/t/a/1", &format!("{round}"));
        world.right(seconds(1)).await;
        world.delete("/t/b/new");
        world.right(seconds(1)).await;
    }
    world.passes(seconds(1)).await;
    assert_eq!(world.zookeeper.n_watches(), 2 * 4, "none is left over");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn other_trees_are_watched_in_a_session_of_their_own() {
    let hand = Hand::new(1);
    for at in ["/t/a", "/u/b", "/u/c/d"] {
        hand.put(at, "1");
    }
    let world = hand.watched_trees(HEARTBEAT, &[tree("/t", None)]);
    world.right(seconds(1)).await;
    world.watch_all(&["/u/b"], &[tree("/u", Some(1)), tree("/u/c", None)]);
    world.heard().await;
    world.right(seconds(1)).await;
    assert_eq!(world.zookeeper.n_sessions(), 1);
    assert_eq!(world.zookeeper.n_watches(), 1, "one tree is in the other");
    world.watch(&["/u/b"]);
    world.heard().await;
    world.right(seconds(1)).await;
    world.put("/u/b", "2");
    world.right(seconds(1)).await;
    assert_eq!(world.zookeeper.n_watches(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_says_nothing_of_children() {
    let world = showing(1, &["/t/a/deep", "/t/b"], &[tree("/t", Some(1))]).await;
    world.zookeeper.set_readable("/t/a", false).unwrap();
    world.put("/t/a", "changed");
    world.take_history();
    world.zookeeper.cut();
    world.passes(seconds(5)).await;
    assert!(world.unreadable("/t/a").is_some());
    let of_children = |update: &Update| matches!(update, Update::Children { .. });
    assert!(!world.take_history().iter().any(of_children));
    world.zookeeper.set_readable("/t/a", true).unwrap();
    world.right(seconds(12)).await;
    world.end().await;
}
