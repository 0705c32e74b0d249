//! The fake's own semantics, in virtual time.

use futures_util::FutureExt;
use tokio::time::{Duration, Instant, timeout};

use super::*;
use crate::source::Session;

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

async fn with(seed: u64, path: &str, content: &str) -> (FakeZooKeeper, FakeSession) {
    let zookeeper = FakeZooKeeper::new(seed);
    zookeeper.create(path, content).unwrap();
    let session = zookeeper.connect().await.unwrap();
    (zookeeper, session)
}

async fn text(session: &FakeSession, at: &str) -> String {
    let value = session.read(&path(at)).await.unwrap();
    String::from_utf8(value.content.to_vec()).unwrap()
}

/// Whether it comes within an hour of virtual time.
async fn comes<T>(future: impl Future<Output = T>) -> bool {
    timeout(Duration::from_secs(3600), future).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_watch_fires_before_a_later_reply() {
    for seed in 0..50 {
        let (zookeeper, session) = with(seed, "/a", "1").await;
        let (_, watch) = session.read_and_watch(&path("/a")).await.unwrap();
        zookeeper.set("/a", "2").unwrap();
        assert_eq!(text(&session, "/a").await, "2");
        assert!(watch.now_or_never().is_some(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn replies_come_in_the_order_of_requests() {
    for seed in 0..20 {
        let (_zookeeper, session) = with(seed, "/a", "1").await;
        let order = Mutex::new(Vec::new());
        let requests = (0..20).map(|i| {
            let (session, order) = (&session, &order);
            async move {
                session.check(&path("/a")).await.unwrap();
                order.lock().push(i);
            }
        });
        let before = Instant::now();
        futures_util::future::join_all(requests).await;
        assert_eq!(*order.lock(), (0..20).collect::<Vec<_>>(), "seed {seed}");
        assert!(before.elapsed() < Duration::from_millis(10), "all at once");
    }
}

#[tokio::test(start_paused = true)]
async fn watches_are_for_one_event() {
    let (zookeeper, session) = with(1, "/a", "1").await;
    assert_eq!(
        session.read_and_watch(&path("/b")).await.err(),
        Some(Error::NoNode)
    );
    let (found, created) = session.check_and_watch(&path("/b")).await.unwrap();
    assert_eq!(found, None);
    let (_, changed) = session.read_and_watch(&path("/a")).await.unwrap();
    zookeeper.create("/b", "").unwrap();
    created.await;
    zookeeper.set("/a", "2").unwrap();
    changed.await;
    zookeeper.set("/a", "3").unwrap();
    zookeeper.set("/b", "3").unwrap();
    text(&session, "/a").await;
    assert_eq!(zookeeper.counts().events, 2);
    let (_, deleted) = session.check_and_watch(&path("/a")).await.unwrap();
    zookeeper.delete("/a").unwrap();
    deleted.await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_loses_what_is_in_flight() {
    let (zookeeper, session) = with(1, "/a", "1").await;
    let (_, watch) = session.read_and_watch(&path("/a")).await.unwrap();
    zookeeper.set("/a", "2").unwrap();
    zookeeper.cut();
    assert_eq!(session.lost().await, "the connection broke");
    assert_eq!(
        session.read(&path("/a")).await.err(),
        Some(Error::ConnectionLost)
    );
    assert!(!comes(watch).await);
    assert_eq!(zookeeper.n_sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_loses_the_request_or_the_reply() {
    let (zookeeper, session) = with(1, "/a", "1").await;
    zookeeper.before_next(Request::Set, FakeZooKeeper::cut);
    let set = session.set(&path("/a"), b"2"[..].into(), 0).await;
    assert_eq!(set.err(), Some(Error::ConnectionLost));
    assert_eq!(zookeeper.get("/a").unwrap().stat.version, 0);
    let session = zookeeper.connect().await.unwrap();
    zookeeper.after_next(Request::Set, FakeZooKeeper::cut);
    let set = session.set(&path("/a"), b"2"[..].into(), 0).await;
    assert_eq!(set.err(), Some(Error::ConnectionLost));
    assert_eq!(zookeeper.get("/a").unwrap().stat.version, 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_reports_nothing_and_goes_on_later() {
    let (zookeeper, session) = with(1, "/a", "1").await;
    zookeeper.hang(true);
    assert!(!comes(session.read(&path("/a"))).await);
    assert!(session.lost().now_or_never().is_none());
    let before = Instant::now();
    let refused = zookeeper.connect().await.err().unwrap();
    assert_eq!(refused.to_string(), "zk01:2181: no answer within 3.0 s");
    assert!(before.elapsed() >= CONNECT_TIMEOUT);
    zookeeper.hang(false);
    assert_eq!(text(&session, "/a").await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_lagging_server_catches_up_at_sync() {
    let (zookeeper, _) = with(1, "/a", "1").await;
    zookeeper.set("/a", "2").unwrap();
    zookeeper.lag(1);
    let session = zookeeper.connect().await.unwrap();
    let (old, watch) = session.read_and_watch(&path("/a")).await.unwrap();
    assert_eq!(&*old.content, b"1");
    zookeeper.set("/a", "3").unwrap();
    assert_eq!(text(&session, "/a").await, "1");
    session.sync(&path("/a")).await.unwrap();
    assert!(watch.now_or_never().is_some(), "before the reply to sync");
    assert_eq!(text(&session, "/a").await, "3");
    zookeeper.set("/a", "4").unwrap();
    assert_eq!(text(&session, "/a").await, "4", "it follows now");
}

#[tokio::test(start_paused = true)]
async fn a_read_only_server_stays_where_it_is() {
    let (zookeeper, _) = with(1, "/a", "1").await;
    zookeeper.read_only(true);
    let session = zookeeper.connect().await.unwrap();
    assert!(session.is_read_only());
    zookeeper.set("/a", "2").unwrap();
    assert!(session.sync(&path("/a")).await.is_err());
    let set = session.set(&path("/a"), b"3"[..].into(), 1).await;
    assert!(matches!(set, Err(Error::Other(_))));
    assert_eq!(text(&session, "/a").await, "1");
}

#[tokio::test(start_paused = true)]
async fn permissions_are_for_content_only() {
    let (zookeeper, session) = with(1, "/a", "1").await;
    zookeeper.set_readable("/a", false).unwrap();
    assert_eq!(session.read(&path("/a")).await.err(), Some(Error::NoAuth));
    let watched = session.read_and_watch(&path("/a")).await;
    assert_eq!(watched.err(), Some(Error::NoAuth));
    let stat = session.check(&path("/a")).await.unwrap().unwrap();
    assert_eq!((stat.mzxid, stat.version), (1, 0));
    zookeeper.set_readable("/a", true).unwrap();
    assert_eq!(text(&session, "/a").await, "1");
    zookeeper.set_writable("/a", false).unwrap();
    let set = session.set(&path("/a"), b"2"[..].into(), 0).await;
    assert_eq!(set.err(), Some(Error::NoAuth));
    assert_eq!(zookeeper.counts().events, 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_on_what_may_not_be_read_uses_its_watch_up() {
    let (zookeeper, session) = with(1, "/a", "1").await;
    for tells in [false, true] {
        zookeeper.tell_of_unreadable(tells);
        let (_, watch) = session.read_and_watch(&path("/a")).await.unwrap();
        zookeeper.set_readable("/a", false).unwrap();
        zookeeper.set("/a", "2").unwrap();
        zookeeper.set_readable("/a", true).unwrap();
        if !tells {
            zookeeper.set("/a", "3").unwrap();
        }
        assert_eq!(comes(watch).await, tells);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_uses_its_watch_up() {
    let (zookeeper, session) = with(1, "/a", "1").await;
    let (_, watch) = session.read_and_watch(&path("/a")).await.unwrap();
    zookeeper.lose_next_event();
    zookeeper.set("/a", "2").unwrap();
    zookeeper.set("/a", "3").unwrap();
    assert!(!comes(watch).await);
    let (_, watch) = session.read_and_watch(&path("/a")).await.unwrap();
    zookeeper.lose_events(1.0);
    zookeeper.set("/a", "4").unwrap();
    assert!(!comes(watch).await);
}

#[tokio::test(start_paused = true)]
async fn a_restore_breaks_every_connection_and_uses_zxids_again() {
    let (zookeeper, session) = with(1, "/a", "1").await;
    let before = zookeeper.last_zxid();
    let newer = zookeeper.set("/a", "2").unwrap();
    zookeeper.rewind(before);
    session.lost().await;
    let session = zookeeper.connect().await.unwrap();
    assert_eq!(text(&session, "/a").await, "1");
    assert_eq!(zookeeper.set("/a", "other").unwrap().mzxid, newer.mzxid);
    zookeeper.wipe();
    session.lost().await;
    let session = zookeeper.connect().await.unwrap();
    assert_eq!(session.read(&path("/a")).await.err(), Some(Error::NoNode));
}

#[tokio::test(start_paused = true)]
async fn hosts_are_tried_in_turn() {
    let zookeeper = FakeZooKeeper::new(1);
    zookeeper.hosts(2);
    zookeeper.refuse(true);
    for expected in ["zk01", "zk02", "zk01"] {
        let refused = zookeeper.connect().await.err().unwrap();
        assert_eq!(
            refused.to_string(),
            format!("{expected}:2181: Connection refused")
        );
    }
    zookeeper.refuse(false);
    assert!(zookeeper.connect().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted() {
    let (zookeeper, session) = with(1, "/a", "12345").await;
    let a = path("/a");
    futures_util::future::join_all((0..7).map(|_| session.check(&a))).await;
    let counts = zookeeper.take_counts();
    assert_eq!((counts.n_checks(), counts.n_reads()), (7, 0));
    assert_eq!((counts.max_in_flight, counts.content_bytes), (7, 0));
    text(&session, "/a").await;
    let counts = zookeeper.counts();
    assert_eq!((counts.n_reads(), counts.max_in_flight), (1, 1));
    assert_eq!(counts.content_bytes, 5);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    async fn run(seed: u64) -> Vec<(Duration, bool)> {
        let (zookeeper, session) = with(seed, "/a", "1").await;
        zookeeper.delay(Duration::ZERO..Duration::from_secs(1));
        zookeeper.lose_events(0.5);
        let start = Instant::now();
        let mut run = Vec::new();
        for i in 0..20 {
            let (_, watch) = session.read_and_watch(&path("/a")).await.unwrap();
            zookeeper.set("/a", i.to_string()).unwrap();
            let fired = timeout(Duration::from_secs(5), watch).await.is_ok();
            run.push((start.elapsed(), fired));
        }
        run
    }
    let first = run(7).await;
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
}
