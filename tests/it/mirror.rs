//! The promises of the mirror, against the fake service, in virtual time.

mod harness;
mod random;
mod trees;

use std::collections::HashMap;
use std::time::Duration;

use livedata::mirror::{Command, Reason, Update};
use livedata::source::fake::{FakeZooKeeper, Request};
use livedata::source::{ConnectError, Told};
use tokio::time::Instant;

use self::harness::{Hand, World, path, seconds};

const HEARTBEAT: Duration = Duration::from_secs(300);

/// A mirror that shows these, each with the content given.
async fn showing(seed: u64, znodes: &[(&str, &str)]) -> World {
    let hand = Hand::new(seed);
    for (path, content) in znodes {
        hand.put(path, content);
    }
    let paths: Vec<&str> = znodes.iter().map(|(path, _)| *path).collect();
    let world = hand.watched(HEARTBEAT, &paths);
    world.right(seconds(1)).await;
    world
}

fn numbered(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("/nodes/{i}")).collect()
}

/// A mirror that shows so many.
async fn showing_many(seed: u64, n: usize) -> (World, Vec<String>) {
    let hand = Hand::new(seed);
    let paths = numbered(n);
    for path in &paths {
        hand.put(path, "content");
    }
    let all: Vec<&str> = paths.iter().map(String::as_str).collect();
    let world = hand.watched(HEARTBEAT, &all);
    (world, paths)
}

fn is_content(update: &Update, of: &str) -> bool {
    matches!(update, Update::Content { path, .. } if path.as_str() == of)
}

fn n_disconnects(history: &[Update]) -> usize {
    let is = |update: &&Update| matches!(update, Update::Disconnected { .. });
    history.iter().filter(is).count()
}

// Loading.

#[tokio::test(start_paused = true)]
async fn the_first_load_is_all_in_flight_and_bounded() {
    let (world, _) = showing_many(1, 10_000).await;
    let took = world.right(seconds(1)).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
    let counts = world.zookeeper.counts();
    assert_eq!(counts.of(Request::ReadAndWatch), 10_000);
    assert_eq!(counts.n_reads() + counts.n_checks(), 10_000, "one each");
    assert_eq!(counts.of(Request::Sync), 0);
    assert!((101..=512).contains(&counts.max_in_flight), "{counts:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_is_made_at_once() {
    let begun = Instant::now();
    let world = showing(1, &[("/a", "1")]).await;
    assert!(begun.elapsed() <= Duration::from_millis(20));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_znode_is_picked_up_when_it_is_created() {
    let world = Hand::new(1).watched(HEARTBEAT, &["/a/b"]);
    world.right(seconds(1)).await;
    assert_eq!(world.text("/a/b"), None);
    world.put("/a/b", "1");
    world.right(seconds(1)).await;
    assert_eq!(world.text("/a/b").as_deref(), Some("1"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_znode_is_deleted_and_created_again() {
    let world = showing(1, &[("/a", "1")]).await;
    for content in ["2", "", "3"] {
        world.delete("/a");
        world.right(seconds(1)).await;
        assert_eq!(world.text("/a"), None);
        world.put("/a", content);
        world.right(seconds(1)).await;
        assert_eq!(world.text("/a").as_deref(), Some(content));
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn deleted_and_created_at_once_is_one_change() {
    let world = showing(1, &[("/a", "1")]).await;
    world.take_history();
    world.delete("/a");
    world.put("/a", "2");
    world.right(seconds(1)).await;
    assert_eq!(world.take_history().len(), 1);
    world.end().await;
}

// Events.

#[tokio::test(start_paused = true)]
async fn an_event_in_mid_look_leads_to_another_look() {
    for seed in 0..20 {
        let world = showing(seed, &[("/a", "1")]).await;
        let hand = world.clone();
        let once_more = world.clone();
        world
            .zookeeper
            .after_next(Request::ReadAndWatch, move |_| hand.put("/a", "3"));
        world
            .zookeeper
            .before_next(Request::ReadAndWatch, move |_| once_more.put("/a", "2"));
        world.put("/a", "between");
        world.passes(Duration::from_millis(30)).await;
        assert_eq!(world.text("/a").as_deref(), Some("3"), "seed {seed}");
        world.right(Duration::ZERO).await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn changes_between_the_steps_of_a_look_are_seen() {
    for request in [Request::ReadAndWatch, Request::CheckAndWatch, Request::Sync] {
        for seed in 0..10 {
            let world = showing(seed, &[("/a/b", "1")]).await;
            let (before, after) = (world.clone(), world.clone());
            let zookeeper = &world.zookeeper;
            zookeeper.before_next(request, move |_| before.put("/a/b", "back"));
            zookeeper.after_next(request, move |_| after.delete("/a/b"));
            world.delete("/a/b");
            world.right(seconds(2)).await;
            world.put("/a/b", "last");
            world.right(seconds(2)).await;
            world.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_sets_costs_few_reads_and_the_last_wins() {
    let world = showing(1, &[("/a", "0")]).await;
    world.zookeeper.take_counts();
    for i in 1..=1000 {
        world.put("/a", &i.to_string());
        if i % 10 == 0 {
            world.passes(Duration::from_millis(1)).await;
        }
    }
    assert!(world.right(seconds(1)).await < Duration::from_millis(20));
    assert!(world.zookeeper.counts().n_reads() < 120);
    world.end().await;
}

// The connection.

#[tokio::test(start_paused = true)]
async fn a_reconnect_asks_for_stats_and_only_for_the_content_that_differs() {
    let (world, paths) = showing_many(2, 5000).await;
    world.right(seconds(1)).await;
    world.zookeeper.take_counts();
    world.take_history();
    world.zookeeper.refuse(true);
    world.zookeeper.cut();
    for path in &paths[..7] {
        world.put(path, "differs");
    }
    world.passes(seconds(5)).await;
    world.zookeeper.refuse(false);
    world.right(seconds(2)).await;
    let all = |book: &harness::Book| {
        let fresh =
            |shown: &harness::Shown| shown.confirmed.is_some_and(|at| at.elapsed() < seconds(2));
        book.shown.values().all(fresh)
    };
    world.within(seconds(2), "all is confirmed", all).await;
    let counts = world.zookeeper.counts();
    assert_eq!(counts.of(Request::CheckAndWatch), 5000);
    assert_eq!((counts.n_checks(), counts.n_reads()), (5000, 7));
    assert_eq!(counts.content_bytes, 7 * "differs".len());
    assert!((101..=512).contains(&counts.max_in_flight), "{counts:?}");
    let contents = world.take_history();
    let contents = contents
        .iter()
        .filter(|update| matches!(update, Update::Content { .. }));
    assert_eq!(contents.count(), 7, "and no other is told");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn watches_are_armed_again_after_a_reconnect() {
    let world = showing(3, &[("/a", "1"), ("/b", "1")]).await;
    for content in ["2", "3", "4"] {
        world.zookeeper.cut();
        world.put("/a", content);
        world.right(seconds(2)).await;
        world.put("/b", content);
        assert!(world.right(seconds(1)).await < Duration::from_millis(50));
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_session_is_replaced() {
    let world = showing(4, &[("/a", "1")]).await;
    world.take_history();
    world.zookeeper.expire();
    world.put("/a", "2");
    assert!(world.right(seconds(2)).await < seconds(1));
    let reason = "the session expired".to_string();
    assert_eq!(world.take_history()[0], Update::Disconnected { reason });
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn refused_for_two_hours_then_right_within_two_seconds() {
    for seed in 0..5 {
        let world = showing(seed, &[("/a", "1")]).await;
        world.zookeeper.hosts(3);
        world.take_history();
        world.zookeeper.take_counts();
        world.zookeeper.refuse(true);
        world.zookeeper.cut();
        world.put("/a", "2");
        world.passes(seconds(7200)).await;
        let attempts = world.zookeeper.counts().of(Request::Connect);
        assert!(attempts < 3 * 7200 * 4, "{attempts} attempts");
        // The loss, and then once that no host serves.
        assert_eq!(n_disconnects(&world.take_history()), 2);
        assert_eq!(world.text("/a").as_deref(), Some("1"));
        assert!(!world.book.lock().is_connected);
        world.zookeeper.refuse(false);
        let took = world.right(seconds(2)).await;
        assert!(took <= Duration::from_millis(1100), "seed {seed}: {took:?}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_hours_without_a_name_server_then_right_within_two_seconds() {
    for seed in 0..5 {
        let world = showing(seed, &[("/a", "1")]).await;
        world.zookeeper.hosts(3);
        world.take_history();
        world.zookeeper.take_counts();
        world.zookeeper.refuse_with(|host| {
            let reason = "cannot resolve the name: Temporary failure in name resolution".into();
            ConnectError::Unreachable { host, reason }
        });
        world.zookeeper.cut();
        world.put("/a", "2");
        world.passes(seconds(7200)).await;
        let attempts = world.zookeeper.counts().of(Request::Connect);
        assert!(attempts < 3 * 7200 * 4, "{attempts} attempts");
        assert_eq!(n_disconnects(&world.take_history()), 2, "said once");
        assert_eq!(world.text("/a").as_deref(), Some("1"));
        world.zookeeper.refuse(false);
        let took = world.right(seconds(2)).await;
        assert!(took <= Duration::from_millis(1100), "seed {seed}: {took:?}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn silent_for_two_hours_then_right_within_two_seconds() {
    for seed in 0..5 {
        let world = showing(seed, &[("/a", "1")]).await;
        world.zookeeper.hosts(3);
        world.take_history();
        world.zookeeper.take_counts();
        world.zookeeper.hang(true);
        // What was under way comes when the silence ends; the session is long gone then.
        world.put("/a", "2");
        world.passes(seconds(7200)).await;
        assert!(!world.book.lock().is_connected);
        let attempts = world.zookeeper.counts().of(Request::Connect);
        // Each is given up after three seconds.
        assert!((1500..3000).contains(&attempts), "{attempts} attempts");
        // The loss, and then once that no host serves.
        assert_eq!(n_disconnects(&world.take_history()), 2);
        assert_eq!(world.text("/a").as_deref(), Some("1"));
        assert!(world.age("/a") >= seconds(7200));
        world.zookeeper.hang(false);
        let took = world.right(seconds(2)).await;
        assert!(took <= Duration::from_millis(1100), "seed {seed}: {took:?}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_from_the_start_is_told_and_survived() {
    let hand = Hand::new(1);
    hand.put("/a", "1");
    hand.zookeeper
        .refuse_with(|host| ConnectError::AuthFailed { host });
    let world = hand.watched(HEARTBEAT, &["/a"]);
    world.passes(seconds(60)).await;
    assert_eq!(n_disconnects(&world.take_history()), 1);
    world.zookeeper.refuse(false);
    world.right(seconds(2)).await;
    assert!(world.book.lock().is_connected);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_lost_at_once_again_and_again_is_not_hammered() {
    let world = showing(5, &[("/a", "1")]).await;
    world.zookeeper.take_counts();
    world.zookeeper.cut();
    let begun = Instant::now();
    while begun.elapsed() < seconds(60) {
        world.zookeeper.cut();
        world.passes(Duration::from_millis(20)).await;
    }
    let attempts = world.zookeeper.counts().of(Request::Connect);
    assert!(
        (60..=200).contains(&attempts),
        "{attempts} attempts in 60 s"
    );
    // A session that lasts makes up for it.
    world.right(seconds(2)).await;
    world.passes(seconds(6)).await;
    world.zookeeper.cut();
    world.put("/a", "2");
    assert!(world.right(seconds(2)).await < Duration::from_millis(100));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left_once_requests_stay_unanswered() {
    let world = showing(6, &[("/a", "1"), ("/b", "1")]).await;
    world.put("/a", "2");
    world.passes(Duration::from_millis(1)).await;
    world.zookeeper.hang(true);
    world.put("/b", "2");
    world.passes(seconds(59)).await;
    assert!(world.book.lock().is_connected);
    // The event is on its way for ever; the request of the heartbeat is what nobody answers.
    world.passes(HEARTBEAT + seconds(61)).await;
    assert!(!world.book.lock().is_connected);
    world.zookeeper.hang(false);
    world.right(seconds(5)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_in_mid_load_is_left_after_a_minute() {
    let (world, _) = showing_many(6, 2000).await;
    world
        .zookeeper
        .after_next(Request::ReadAndWatch, |zookeeper| zookeeper.hang(true));
    let gone = |book: &harness::Book| !book.history.is_empty() && !book.is_connected;
    let took = world.within(seconds(62), "it is left", gone).await;
    assert!(took >= seconds(60));
    // Attempts time out and go on.
    world.passes(seconds(600)).await;
    world.zookeeper.hang(false);
    world.right(seconds(5)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_request_is_survived() {
    use Request::{CheckAndWatch, Connect, ReadAndWatch};
    for (seed, request) in (0..).zip([Connect, ReadAndWatch, CheckAndWatch].repeat(5)) {
        let world = showing(seed, &[("/a", "1"), ("/b", "1"), ("/c", "1")]).await;
        world.zookeeper.before_next(request, FakeZooKeeper::cut);
        world.zookeeper.after_next(request, FakeZooKeeper::cut);
        world.put("/a", "2");
        world.delete("/b");
        world.zookeeper.cut();
        world.put("/c", "2");
        world.right(seconds(3)).await;
        world.end().await;
    }
}

// Permissions.

#[tokio::test(start_paused = true)]
async fn a_denied_znode_stays_alone_and_heals() {
    let hand = Hand::new(7);
    hand.put("/good", "1");
    hand.zookeeper.create_unreadable("/bad", "secret").unwrap();
    let world = hand.watched(HEARTBEAT, &["/good", "/bad"]);
    let denied = |book: &harness::Book| {
        book.shown
            .get("/bad")
            .is_some_and(|shown| shown.unreadable == Some(Reason::Denied))
    };
    world.within(seconds(1), "it is denied", denied).await;
    world.put("/good", "2");
    world.passes(seconds(1)).await;
    assert_eq!(world.text("/good").as_deref(), Some("2"));
    world.zookeeper.take_counts();
    world.passes(seconds(3600)).await;
    assert!(
        world.zookeeper.counts().n_reads() < 1000,
        "it is asked slowly"
    );
    world.zookeeper.set_readable("/bad", true).unwrap();
    world.right(seconds(10)).await;
    assert_eq!(world.text("/bad").as_deref(), Some("secret"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn other_credentials_are_tried_where_the_old_ones_are_denied() {
    let hand = Hand::new(7);
    hand.put("/good", "1");
    hand.zookeeper.create_unreadable("/bad", "secret").unwrap();
    let world = hand.watched(HEARTBEAT, &["/good", "/bad"]);
    world.passes(seconds(60)).await;
    assert_eq!(n_disconnects(&world.take_history()), 0);
    world.zookeeper.rotate_credentials();
    world.passes(seconds(60)).await;
    // Still denied with the new ones, which do not change any more.
    assert_eq!(n_disconnects(&world.take_history()), 1);
    assert_eq!(world.unreadable("/bad"), Some(Reason::Denied));
    world.put("/good", "2");
    world.zookeeper.set_readable("/bad", true).unwrap();
    world.right(seconds(11)).await;
    // Where nothing is denied they are for the next session.
    world.zookeeper.rotate_credentials();
    world.passes(seconds(60)).await;
    assert_eq!(n_disconnects(&world.take_history()), 0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn thousands_of_denied_znodes_are_asked_for_slowly() {
    let hand = Hand::new(7);
    let paths = numbered(5000);
    for path in &paths {
        hand.put(path, "content");
        hand.zookeeper.set_readable(path, false).unwrap();
    }
    let all: Vec<&str> = paths.iter().map(String::as_str).collect();
    let world = hand.watched(HEARTBEAT, &all);
    world.passes(seconds(60)).await;
    world.zookeeper.take_counts();
    world.passes(seconds(100)).await;
    let n_reads = world.zookeeper.counts().n_reads();
    assert!(
        (10_000..50_000).contains(&n_reads),
        "{n_reads} reads in 100 s"
    );
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn content_changed_while_denied_is_shown_once_it_may_be_read() {
    for tells in [false, true] {
        let world = showing(8, &[("/a", "1"), ("/b", "1")]).await;
        world.zookeeper.tell_of_unreadable(tells);
        // The denial is noticed: a read is under way when the ACL goes.
        let zookeeper = world.zookeeper.clone();
        world
            .zookeeper
            .before_next(Request::ReadAndWatch, move |_| {
                zookeeper.set_readable("/a", false).unwrap();
            });
        world.put("/a", "2");
        world.passes(seconds(1)).await;
        assert_eq!(world.unreadable("/a"), Some(Reason::Denied));
        assert_eq!(world.text("/a").as_deref(), Some("1"));
        world.put("/a", "3");
        world.zookeeper.set_readable("/a", true).unwrap();
        world.right(seconds(11)).await;
        assert_eq!(world.text("/a").as_deref(), Some("3"));
        world.put("/a", "4");
        world.right(seconds(1)).await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_acl_that_comes_back_with_the_same_content_confirms_it() {
    let world = showing(9, &[("/a", "1")]).await;
    world.zookeeper.set_readable("/a", false).unwrap();
    world.zookeeper.tell_of_unreadable(true);
    // A look that has no other reason: a session that is new.
    world.put("/a", "2");
    world.passes(seconds(100)).await;
    assert_eq!(world.unreadable("/a"), Some(Reason::Denied));
    assert!(world.age("/a") > seconds(99));
    world.zookeeper.set_readable("/a", true).unwrap();
    world.right(seconds(11)).await;
    assert!(world.age("/a") < seconds(11));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_denied_znode_is_not_confirmed_by_a_reconnect() {
    let world = showing(10, &[("/a", "1"), ("/b", "1")]).await;
    world.zookeeper.tell_of_unreadable(true);
    world.zookeeper.set_readable("/a", false).unwrap();
    world.put("/a", "2");
    world.passes(seconds(1)).await;
    assert_eq!(world.unreadable("/a"), Some(Reason::Denied));
    world.zookeeper.cut();
    world.passes(seconds(1)).await;
    assert_eq!(world.unreadable("/a"), Some(Reason::Denied));
    assert!(world.age("/a") > seconds(1));
    assert!(world.age("/b") < seconds(1));
    world.zookeeper.set_readable("/a", true).unwrap();
    world.right(seconds(11)).await;
    world.end().await;
}

/// A mirror that shows `/a`, which is denied now, with that content; a server that lagged has said
/// so, and the next one is up to date.
async fn denied_and_unchanged(seed: u64) -> World {
    let hand = Hand::new(seed);
    let readable = |readable| hand.zookeeper.set_readable("/a", readable).unwrap();
    hand.put("/a", "1");
    readable(false);
    hand.put("/a", "2");
    readable(true);
    let world = hand.clone().watched(HEARTBEAT, &["/a"]);
    world.right(seconds(1)).await;
    readable(false);
    world.zookeeper.lag(3);
    world.zookeeper.cut();
    let denied = |book: &harness::Book| book.shown["/a"].unreadable == Some(Reason::Denied);
    world.within(seconds(1), "it is denied", denied).await;
    world.zookeeper.lag(0);
    world.zookeeper.cut();
    world
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_stat_does_not_hide_that_the_acl_forbids_reading() {
    let world = denied_and_unchanged(1).await;
    world.passes(seconds(60)).await;
    assert_eq!(world.unreadable("/a"), Some(Reason::Denied));
    assert!(world.age("/a") >= seconds(60));
    world.zookeeper.set_readable("/a", true).unwrap();
    world.right(seconds(11)).await;
    assert_eq!(world.text("/a").as_deref(), Some("2"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_may_be_read_again_is_confirmed_for_when_it_was_read() {
    for seed in 0..20 {
        let world = denied_and_unchanged(seed).await;
        world.passes(seconds(10)).await;
        let hand = world.clone();
        world
            .zookeeper
            .before_next(Request::ReadAndWatch, |zookeeper| {
                zookeeper.set_readable("/a", true).unwrap();
            });
        world
            .zookeeper
            .after_next(Request::ReadAndWatch, move |_| hand.put("/a", "3"));
        world.right(seconds(11)).await;
        assert_eq!(world.text("/a").as_deref(), Some("3"));
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_acl_hid_unheard_is_found_by_the_next_session() {
    let world = showing(10, &[("/a", "1")]).await;
    world.zookeeper.set_readable("/a", false).unwrap();
    world.put("/a", "2");
    world.zookeeper.set_readable("/a", true).unwrap();
    world.passes(seconds(10)).await;
    world.zookeeper.cut();
    world.right(seconds(2)).await;
    assert_eq!(world.text("/a").as_deref(), Some("2"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_audit_finds_what_a_lost_watch_hid() {
    for n in [1, 50, 3000] {
        let (world, paths) = showing_many(12, n).await;
        world.right(seconds(30)).await;
        world.take_history();
        // A heartbeat before the audit would vouch for what the watch did not tell of.
        world.command(Command::Heartbeat(seconds(10_000)));
        world.zookeeper.lose_next_event();
        world.put(&paths[n / 2], "lost");
        world.passes(seconds(1)).await;
        assert_ne!(world.text(&paths[n / 2]).as_deref(), Some("lost"), "{n}");
        world.zookeeper.take_counts();
        world.right(seconds(661)).await;
        assert_eq!(world.text(&paths[n / 2]).as_deref(), Some("lost"));
        let repaired = |update: &&Update| matches!(update, Update::Repaired { .. });
        assert_eq!(world.take_history().iter().filter(repaired).count(), 1);
        world.passes(seconds(600)).await;
        let counts = world.zookeeper.take_counts();
        assert!(counts.n_checks() <= 4 * n + 2, "{counts:?}");
        assert_eq!(counts.n_reads(), 1, "content comes only where it differs");
        // The watch is armed again.
        world.put(&paths[n / 2], "heard");
        world.right(seconds(1)).await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_audit_has_nothing_to_say_of_what_stays_absent() {
    let world = showing(13, &[("/a", "1")]).await;
    world.watch(&["/a", "/never", "/gone"]);
    world.heard().await;
    world.put("/gone", "1");
    world.right(seconds(1)).await;
    world.delete("/gone");
    world.right(seconds(1)).await;
    world.take_history();
    world.passes(seconds(3000)).await;
    let history = world.take_history();
    let said = |update: &Update| !matches!(update, Update::Confirmed { .. });
    assert!(!history.iter().any(said), "{history:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_audit_finds_what_an_acl_hid() {
    let world = showing(11, &[("/a", "1")]).await;
    // A heartbeat before the audit would vouch for the content: the server told of no change.
    world.command(Command::Heartbeat(seconds(10_000)));
    world.zookeeper.set_readable("/a", false).unwrap();
    world.put("/a", "2");
    world.zookeeper.set_readable("/a", true).unwrap();
    world.right(seconds(661)).await;
    world.put("/a", "3");
    world.right(seconds(1)).await;
    assert_eq!(world.text("/a").as_deref(), Some("3"));
    world.end().await;
}

// Servers that do not know what we know.

#[tokio::test(start_paused = true)]
async fn a_lagging_server_never_takes_a_version_back() {
    for seed in 0..10 {
        let world = showing(seed, &[("/a", "1"), ("/b", "1")]).await;
        world.put("/a", "2");
        world.put("/a", "3");
        world.right(seconds(1)).await;
        world.zookeeper.lag(2);
        world.zookeeper.cut();
        world.passes(seconds(2)).await;
        world.right(Duration::ZERO).await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lagging_server_never_takes_a_file_away() {
    for seed in 0..10 {
        let world = showing(seed, &[("/a", "1")]).await;
        world.put("/b", "new");
        world.watch(&["/a", "/b"]);
        world.right(seconds(1)).await;
        world.zookeeper.lag(1);
        world.zookeeper.cut();
        world.passes(seconds(2)).await;
        assert_eq!(world.text("/b").as_deref(), Some("new"));
        let absent = |update: &Update| matches!(update, Update::Absent { .. });
        assert!(!world.take_history().iter().any(absent));
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lagging_server_never_brings_a_deleted_file_back() {
    for seed in 0..10 {
        for n in 1..=3 {
            let world = showing(seed, &[("/a", "1")]).await;
            world.put("/a", "2");
            world.put("/a", "3");
            world.right(seconds(1)).await;
            world.delete("/a");
            world.right(seconds(1)).await;
            world.take_history();
            world.zookeeper.lag(n);
            world.zookeeper.cut();
            world.passes(seconds(2)).await;
            let contents = world.take_history();
            assert!(!contents.iter().any(|update| is_content(update, "/a")));
            world.right(Duration::ZERO).await;
            world.put("/a", "again");
            world.right(seconds(1)).await;
            world.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_goes_on_does_not_bring_a_deleted_file_back() {
    let hand = Hand::new(12);
    hand.put("/a", "1");
    hand.put("/a", "2");
    let last = hand.zookeeper.get("/a").unwrap().stat;
    hand.put("/b", "1");
    hand.delete("/a");
    hand.put("/b", "2");
    // The server lags behind the deletion, and shows what was there.
    hand.zookeeper.lag(2);
    let told = HashMap::from([(path("/a"), Told::Absent(Some(last.mzxid)))]);
    let world = hand.watched_on(HEARTBEAT, &["/a"], told);
    world.passes(seconds(10)).await;
    let history = world.take_history();
    assert!(!history.iter().any(|update| is_content(update, "/a")));
    assert_eq!(world.zookeeper.n_watches(), 1);
    // What is created later is told.
    world.put("/a", "again");
    world.passes(seconds(1)).await;
    assert_eq!(world.text("/a").as_deref(), Some("again"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_wiped_ensemble_takes_no_file_away() {
    let world = showing(11, &[("/a", "1"), ("/b/c", "1")]).await;
    world.take_history();
    world.wipe();
    world.passes(seconds(3600)).await;
    for path in ["/a", "/b/c"] {
        assert_eq!(world.text(path).as_deref(), Some("1"));
        assert!(matches!(world.unreadable(path), Some(Reason::Unproven(_))));
        assert!(world.age(path) > seconds(3600));
    }
    let absent = |update: &Update| matches!(update, Update::Absent { .. });
    let history = world.take_history();
    assert!(!history.iter().any(absent));
    assert!(history.len() <= 5, "{history:?}");
    assert!(
        world.zookeeper.n_watches() <= 2,
        "retries pile up no watches"
    );
    // What is put there again counts, older as it is.
    world.book.lock().rewind_is_known();
    world.put("/a", "restored");
    world.passes(seconds(1)).await;
    assert_eq!(world.text("/a").as_deref(), Some("restored"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_while_disconnected_is_proven() {
    for gone in ["/x/y/z", "/x/y", "/x"] {
        let world = showing(12, &[("/x/y/z", "1"), ("/other", "1")]).await;
        world.zookeeper.refuse(true);
        world.zookeeper.cut();
        world.delete(gone);
        world.passes(seconds(10)).await;
        assert_eq!(world.text("/x/y/z").as_deref(), Some("1"));
        world.zookeeper.refuse(false);
        world.right(seconds(2)).await;
        assert_eq!(world.text("/x/y/z"), None, "{gone} was deleted");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_proven_where_the_parent_was_made_again() {
    let world = showing(12, &[("/x/y/z", "1")]).await;
    world.zookeeper.refuse(true);
    world.zookeeper.cut();
    world.delete("/x");
    world.put("/x/y", "");
    world.zookeeper.refuse(false);
    world.right(seconds(2)).await;
    assert_eq!(world.text("/x/y/z"), None);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rewind_is_accepted_once() {
    for seed in 0..10 {
        let world = showing(seed, &[("/a", "1"), ("/b", "1")]).await;
        let backup = world.zookeeper.last_zxid();
        world.put("/a", "2");
        world.put("/a", "3");
        world.right(seconds(1)).await;
        world.take_history();
        world.rewind(backup);
        world.right(seconds(2)).await;
        world.passes(seconds(100)).await;
        let history = world.take_history();
        assert_eq!(
            history
                .iter()
                .filter(|update| is_content(update, "/a"))
                .count(),
            1
        );
        assert_eq!(
            history
                .iter()
                .filter(|update| is_content(update, "/b"))
                .count(),
            0
        );
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn zxids_used_again_after_a_restore_do_not_hide_a_change() {
    let world = showing(13, &[("/a", "1")]).await;
    let backup = world.zookeeper.last_zxid();
    world.put("/a", "lost");
    world.right(seconds(1)).await;
    world.zookeeper.refuse(true);
    world.rewind(backup);
    world.put("/a", "kept");
    world.zookeeper.refuse(false);
    world.right(seconds(2)).await;
    assert_eq!(world.text("/a").as_deref(), Some("kept"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_read_only_server_takes_nothing_back_and_confirms_nothing() {
    let world = showing(14, &[("/a", "1")]).await;
    world.put("/a", "2");
    world.put("/b", "1");
    world.watch(&["/a", "/b"]);
    world.right(seconds(1)).await;
    world.heard().await;
    world.take_history();
    world.zookeeper.take_counts();
    world.zookeeper.read_only(true);
    world.zookeeper.lag(2);
    world.zookeeper.cut();
    world.passes(2 * HEARTBEAT).await;
    assert_eq!(world.text("/a").as_deref(), Some("2"));
    assert_eq!(world.text("/b").as_deref(), Some("1"));
    for path in ["/a", "/b"] {
        assert!(matches!(world.unreadable(path), Some(Reason::Unproven(_))));
    }
    let confirmed = |update: &Update| matches!(update, Update::Confirmed { .. });
    assert!(!world.take_history().iter().any(confirmed));
    assert_eq!(world.zookeeper.counts().of(Request::Sync), 0);
    world.zookeeper.read_only(false);
    world.zookeeper.lag(0);
    world.zookeeper.cut();
    world.right(seconds(2)).await;
    assert!(world.age("/a") < seconds(2));
    world.end().await;
}

// Heartbeats.

#[tokio::test(start_paused = true)]
async fn a_heartbeat_confirms_what_is_clean() {
    let world = showing(15, &[("/a", "1"), ("/b", "1")]).await;
    world.zookeeper.create_unreadable("/denied", "").unwrap();
    world.watch(&["/a", "/b", "/denied", "/missing"]);
    world.passes(HEARTBEAT + seconds(1)).await;
    assert!(world.age("/a") < seconds(2));
    assert!(world.age("/b") < seconds(2));
    assert_eq!(world.unreadable("/denied"), Some(Reason::Denied));
    let history = world.take_history();
    let mut confirmed = history.iter().filter_map(|update| match update {
        Update::Confirmed { paths, .. } => Some(paths.len()),
        Update::Content { .. }
        | Update::Absent { .. }
        | Update::Unreadable { .. }
        | Update::Repaired { .. }
        | Update::Connected { .. }
        | Update::Disconnected { .. }
        | Update::Children { .. }
        | Update::Settled => None,
    });
    assert_eq!((confirmed.next(), confirmed.next()), (Some(2), None));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_does_not_confirm_what_changed_before_it() {
    for seed in 0..20 {
        let world = showing(seed, &[("/a", "1"), ("/b", "1")]).await;
        world.take_history();
        // The event goes out just before the reply to the sync.
        let hand = world.clone();
        world
            .zookeeper
            .before_next(Request::Sync, move |_| hand.put("/a", "2"));
        world.passes(HEARTBEAT + seconds(1)).await;
        let mut told = world.take_history().into_iter();
        let first = told.find(|update| match update {
            Update::Content { .. } => true,
            Update::Confirmed { paths, .. } => paths.contains(&harness::path("/a")),
            Update::Absent { .. }
            | Update::Unreadable { .. }
            | Update::Repaired { .. }
            | Update::Connected { .. }
            | Update::Disconnected { .. }
            | Update::Children { .. }
            | Update::Settled => false,
        });
        assert!(
            first.is_some_and(|update| is_content(&update, "/a")),
            "seed {seed}"
        );
        world.right(Duration::ZERO).await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_lost_confirms_nothing() {
    let world = showing(16, &[("/a", "1")]).await;
    world.take_history();
    let zookeeper = world.zookeeper.clone();
    world.zookeeper.after_next(Request::Sync, move |_| {
        zookeeper.refuse(true);
        zookeeper.cut();
    });
    world.passes(HEARTBEAT + seconds(100)).await;
    assert!(world.age("/a") > HEARTBEAT + seconds(99));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_follows_at_once_on_a_reconnect() {
    let world = showing(17, &[("/a", "1"), ("/b", "1")]).await;
    world.zookeeper.refuse(true);
    world.zookeeper.cut();
    world.passes(seconds(1000)).await;
    assert!(world.age("/a") >= seconds(1000));
    world.zookeeper.refuse(false);
    world.passes(seconds(2)).await;
    assert!(world.age("/a") < seconds(2));
    assert!(world.age("/b") < seconds(2));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_interval_holds_for_the_session_under_way() {
    let world = showing(18, &[("/a", "1")]).await;
    world.command(Command::Heartbeat(seconds(10)));
    world.passes(seconds(11)).await;
    assert!(world.age("/a") < seconds(2));
    // Being told again and again puts nothing off.
    for _ in 0..20 {
        world.command(Command::Heartbeat(seconds(10)));
        world.passes(seconds(3)).await;
        assert!(world.age("/a") <= seconds(11));
    }
    world.command(Command::Heartbeat(seconds(1000)));
    world.passes(seconds(500)).await;
    assert!(world.age("/a") >= seconds(490));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_interval_is_too_short_or_too_long() {
    let world = showing(19, &[("/a", "1")]).await;
    world.command(Command::Heartbeat(Duration::ZERO));
    world.passes(seconds(1)).await;
    assert!(world.age("/a") < Duration::from_millis(50));
    assert!(world.zookeeper.counts().of(Request::Sync) <= 100);
    world.command(Command::Heartbeat(Duration::MAX));
    world.passes(seconds(1)).await;
    world.end().await;
}

// Commands.

#[tokio::test(start_paused = true)]
async fn znodes_come_and_go_while_it_runs() {
    let world = showing(20, &[("/a", "1"), ("/b", "1")]).await;
    world.put("/c", "1");
    world.watch(&["/b", "/c"]);
    world.heard().await;
    world.right(seconds(1)).await;
    world.take_history();
    world.put("/a", "2");
    world.passes(seconds(1)).await;
    assert_eq!(world.take_history(), [], "nobody watches it any more");
    assert_eq!(world.zookeeper.n_watches(), 2);
    world.put("/b", "2");
    world.put("/c", "2");
    world.right(seconds(1)).await;
    world.watch(&["/a", "/b", "/c", "/a"]);
    world.right(seconds(1)).await;
    assert_eq!(world.text("/a").as_deref(), Some("2"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_znode_that_goes_in_mid_look_is_not_told_of() {
    let world = showing(21, &[("/a", "1"), ("/b", "1")]).await;
    world.zookeeper.delay(seconds(1)..seconds(2));
    world.put("/a", "2");
    world.passes(seconds(2)).await;
    world.watch(&["/b"]);
    world.heard().await;
    world.take_history();
    world.passes(seconds(10)).await;
    assert_eq!(world.take_history(), []);
    assert_eq!(world.zookeeper.n_watches(), 1);
    world.watch(&["/a", "/b"]);
    world.right(seconds(10)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn it_moves_over_to_another_service() {
    let world = showing(22, &[("/a", "1")]).await;
    let elsewhere = FakeZooKeeper::new(23);
    world.command(Command::Connect(elsewhere.clone()));
    world.passes(seconds(1)).await;
    assert_eq!(
        (world.zookeeper.n_sessions(), elsewhere.n_sessions()),
        (0, 1)
    );
    assert_eq!(
        world.text("/a").as_deref(),
        Some("1"),
        "it is served meanwhile"
    );
    assert!(matches!(world.unreadable("/a"), Some(Reason::Unproven(_))));
    // And back, from where nobody answers.
    elsewhere.hang(true);
    world.command(Command::Connect(world.zookeeper.clone()));
    world.put("/a", "2");
    assert!(world.right(seconds(1)).await < Duration::from_millis(200));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_better_address_is_taken_while_connecting() {
    let hand = Hand::new(24);
    hand.put("/a", "1");
    let nowhere = FakeZooKeeper::new(25);
    nowhere.hang(true);
    let world = hand.watched(HEARTBEAT, &["/a"]);
    world.command(Command::Connect(nowhere));
    world.passes(seconds(1)).await;
    world.command(Command::Connect(world.zookeeper.clone()));
    assert!(world.right(seconds(1)).await < Duration::from_millis(200));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn commands_do_not_hold_up_an_attempt_to_connect() {
    let hand = Hand::new(26);
    hand.put("/a", "1");
    hand.zookeeper.delay(seconds(1)..seconds(2));
    let world = hand.watched(HEARTBEAT, &["/a"]);
    for _ in 0..50 {
        world.command(Command::Heartbeat(HEARTBEAT));
        world.watch(&["/a"]);
        world.passes(Duration::from_millis(100)).await;
    }
    assert!(world.book.lock().is_connected);
    assert_eq!(world.zookeeper.counts().of(Request::Connect), 1);
    world.right(seconds(5)).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn it_ends_at_once_in_every_phase() {
    // Before anything; while it serves and loads; in an outage; where nobody answers.
    Hand::new(27).watched(HEARTBEAT, &["/a"]).end().await;
    showing(28, &[("/a", "1")]).await.end().await;
    let (loading, _) = showing_many(29, 2000).await;
    loading.passes(Duration::from_millis(8)).await;
    loading.end().await;
    let refused = showing(30, &[("/a", "1")]).await;
    refused.zookeeper.refuse(true);
    refused.zookeeper.cut();
    refused.passes(seconds(100)).await;
    refused.end().await;
    let connecting = showing(31, &[("/a", "1")]).await;
    connecting.zookeeper.hang(true);
    connecting.zookeeper.cut();
    connecting.passes(seconds(100)).await;
    connecting.end().await;
    let hanging = showing(32, &[("/a", "1")]).await;
    hanging.put("/a", "2");
    hanging.passes(Duration::from_millis(3)).await;
    hanging.zookeeper.hang(true);
    hanging.passes(seconds(10)).await;
    hanging.end().await;
}
