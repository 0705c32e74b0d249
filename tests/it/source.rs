//! One script for the fake and for a real server: what the fake says, ZooKeeper does.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use livedata::path::ZnodePath;
use livedata::source::fake::FakeZooKeeper;
use livedata::source::zookeeper::ZooKeeper;
use livedata::source::{Error, Happened, Session, Source, Stat};
use zookeeper_client as zk;

use crate::support::wire::Wire;
use crate::support::zookeeper::Server;

/// Whom the ACLs of the tests name.
const USER: &[u8] = b"user:password";

/// One step of a script. Those in the first group are another client's.
#[derive(Debug)]
enum Step {
    Create(&'static str, &'static str),
    /// Creates what nobody else may read.
    CreateDenied(&'static str, &'static str),
    Change(&'static str, &'static str),
    Delete(&'static str),
    Deny(&'static str),
    Allow(&'static str),

    /// Reads, and has this content or error.
    Read(&'static str, Result<&'static str, Error>),
    /// Reads with a watch, which is kept if there is one.
    ReadAndWatch(&'static str, Result<&'static str, Error>),
    /// Checks, and the znode is there or not.
    Check(&'static str, bool),
    /// Checks with a watch, which is kept.
    CheckAndWatch(&'static str, bool),
    /// Sets content of that version, and it has this version or error.
    Set(&'static str, &'static str, i32, Result<i32, Error>),
    Sync(&'static str),
    /// Lists children, and has these or this error.
    Children(&'static str, Result<&'static [&'static str], Error>),
    /// Lists children with a watch, which is kept in the place of one on the znode.
    ChildrenAndWatch(&'static str, &'static [&'static str]),
    /// Watches the tree, and keeps the watch.
    WatchTree(&'static str),
    /// All that is known of a znode's [`Stat`] without knowing zxids: version, data length,
    /// children, and whether it was set, and got or lost a child, after it was created.
    Stat(&'static str, (i32, i32, i32), (bool, bool)),

    /// The watch on it fires.
    Fires(&'static str),
    /// The watch on it has fired when the last reply came.
    HasFired(&'static str),
    /// No event came for the watch on it before the reply to a request made now.
    Quiet(&'static str),
    /// This is what the watch of the tree told since the last time, before the reply to a request
    /// made now.
    Heard(&'static str, &'static [(Happened, &'static str)]),
}

/// Another client, which may do everything.
trait Admin {
    async fn create(&self, path: &str, content: &str);
    /// Lets nobody else read it.
    async fn create_denied(&self, path: &str, content: &str);
    async fn set(&self, path: &str, content: &str);
    async fn delete(&self, path: &str);
    /// Lets nobody else read it, or everybody.
    async fn readable(&self, path: &str, readable: bool);
}

/// A server as the program reaches it.
fn source(server: &Server) -> ZooKeeper {
    let credentials = Box::new(|| Ok(Vec::new()));
    ZooKeeper::new([server.hosts()], None, Duration::from_secs(5), credentials)
}

/// Another client of it, whose task runs where this is awaited.
async fn client(server: &Server) -> zk::Client {
    struct OnTokio;
    impl spawns_core::Spawn for OnTokio {
        fn spawn(&self, task: spawns_core::Task) {
            tokio::spawn(Box::into_pin(task.future));
        }
    }
    let connector = zk::Client::connector().with_auth("digest", USER);
    let hosts = server.hosts();
    let mut connecting = pin!(connector.connect(&hosts));
    let connected = std::future::poll_fn(|context| {
        let _scope = spawns_core::enter(&OnTokio);
        connecting.as_mut().poll(context)
    });
    connected.await.unwrap()
}

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(result) => result,
        Err(_) => panic!("{what}: not within 20 s"),
    }
}

/// The watches kept.
struct Watches<S: Session> {
    once: BTreeMap<&'static str, std::pin::Pin<Box<S::Watch>>>,
    trees: BTreeMap<&'static str, S::TreeWatch>,
}

/// Runs a script of steps.
async fn check<S: Session>(session: &S, admin: &impl Admin, script: &[Step]) {
    let mut watches = Watches {
        once: BTreeMap::new(),
        trees: BTreeMap::new(),
    };
    for (i, step) in script.iter().enumerate() {
        let what = format!("step {i}, {step:?}");
        let happens = happens(session, admin, step, &mut watches);
        soon(&what, happens).await;
    }
}

async fn happens<S: Session>(
    session: &S,
    admin: &impl Admin,
    step: &Step,
    Watches {
        once: watches,
        trees,
    }: &mut Watches<S>,
) {
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let text = |content: &[u8]| String::from_utf8(content.to_vec()).unwrap();
    match step {
        Step::Create(at, content) => admin.create(at, content).await,
        Step::CreateDenied(at, content) => admin.create_denied(at, content).await,
        Step::Change(at, content) => admin.set(at, content).await,
        Step::Delete(at) => admin.delete(at).await,
        Step::Deny(at) => admin.readable(at, false).await,
        Step::Allow(at) => admin.readable(at, true).await,
        Step::Read(at, expected) => {
            let read = session.read(&path(at)).await;
            let read = read.map(|value| text(&value.content));
            assert_eq!(&read.as_deref().map_err(Clone::clone), expected, "{step:?}");
        }
        Step::ReadAndWatch(at, expected) => {
            let read = session.read_and_watch(&path(at)).await;
            let read = read.map(|(value, watch)| {
                watches.insert(at, Box::pin(watch));
                text(&value.content)
            });
            assert_eq!(&read.as_deref().map_err(Clone::clone), expected, "{step:?}");
        }
        Step::Check(at, expected) => {
            let found = session.check(&path(at)).await.unwrap();
            assert_eq!(found.is_some(), *expected, "{step:?}");
        }
        Step::CheckAndWatch(at, expected) => {
            let (found, watch) = session.check_and_watch(&path(at)).await.unwrap();
            watches.insert(at, Box::pin(watch));
            assert_eq!(found.is_some(), *expected, "{step:?}");
        }
        Step::Set(at, content, version, expected) => {
            let set = session.set(&path(at), content.as_bytes().into(), *version);
            assert_eq!(&set.await.map(|stat| stat.version), expected, "{step:?}");
        }
        Step::Sync(at) => session.sync(&path(at)).await.unwrap(),
        Step::Children(at, expected) => {
            let names = session.children(&path(at)).await;
            let names = names.map(|children| sorted(children.names));
            let expected = expected.clone();
            let expected = expected.map(|names| names.iter().map(ToString::to_string).collect());
            assert_eq!(names, expected, "{step:?}");
        }
        Step::ChildrenAndWatch(at, expected) => {
            let (children, watch) = session.children_and_watch(&path(at)).await.unwrap();
            watches.insert(at, Box::pin(watch));
            let n = children.names.len();
            assert_eq!(sorted(children.names), *expected, "{step:?}");
            assert_eq!(usize::try_from(children.stat.num_children), Ok(n));
        }
        Step::WatchTree(at) => {
            trees.insert(at, session.watch_tree(&path(at)).await.unwrap());
        }
        Step::Stat(at, sizes, moved) => {
            let stat = session.check(&path(at)).await.unwrap().unwrap();
            let has = (stat.version, stat.data_length, stat.num_children);
            assert_eq!(has, *sizes, "{step:?}: {stat:?}");
            assert!(stat.mzxid >= stat.czxid && stat.pzxid >= stat.czxid);
            assert!(stat.mtime >= stat.ctime && stat.ctime > 0);
            let has_moved = (stat.mzxid > stat.czxid, stat.pzxid > stat.czxid);
            assert_eq!(has_moved, *moved, "{step:?}: {stat:?}");
        }
        Step::Fires(at) => watches.remove(at).unwrap().await,
        Step::HasFired(at) => {
            let fired = watches.remove(at).unwrap().now_or_never();
            assert!(fired.is_some(), "{step:?}");
        }
        Step::Quiet(at) => {
            session.sync(&path(at)).await.unwrap();
            let fired = watches.get_mut(at).unwrap().as_mut().now_or_never();
            assert!(fired.is_none(), "{step:?}");
        }
        Step::Heard(at, expected) => {
            session.sync(&path(at)).await.unwrap();
            let watch = trees.get_mut(at).unwrap();
            let mut heard = Vec::new();
            while let Some(event) = watch.next().now_or_never() {
                let event = event.expect("the session is there");
                heard.push((event.what, event.path.to_string()));
            }
            let expected = expected.iter().map(|(what, at)| (*what, at.to_string()));
            assert_eq!(heard, expected.collect::<Vec<_>>(), "{step:?}");
        }
    }
}

/// The script. Every znode is below `/t`.
fn script() -> Vec<Step> {
    use Step::*;
    vec![
        Create("/t", ""),
        // A set fires a data watch once, and the watch has fired when a later reply comes.
        Create("/t/a", "one"),
        ReadAndWatch("/t/a", Ok("one")),
        Quiet("/t/a"),
        Change("/t/a", "two"),
        Read("/t/a", Ok("two")),
        HasFired("/t/a"),
        Stat("/t/a", (1, 3, 0), (true, false)),
        // One's own set as well.
        ReadAndWatch("/t/a", Ok("two")),
        Set("/t/a", "three", 1, Ok(2)),
        HasFired("/t/a"),
        // A rewrite of the same bytes is a change to ZooKeeper.
        CheckAndWatch("/t/a", true),
        Change("/t/a", "three"),
        Fires("/t/a"),
        Stat("/t/a", (3, 5, 0), (true, false)),
        // Deletion fires it; neither a child nor the ACL does.
        ReadAndWatch("/t/a", Ok("three")),
        Create("/t/a/child", ""),
        Deny("/t/a"),
        Allow("/t/a"),
        Delete("/t/a/child"),
        Quiet("/t/a"),
        Stat("/t/a", (3, 5, 0), (true, true)),
        Delete("/t/a"),
        Fires("/t/a"),
        // Where there is no znode, reading leaves no watch, checking does.
        Read("/t/a", Err(Error::NoNode)),
        ReadAndWatch("/t/a", Err(Error::NoNode)),
        Check("/t/a", false),
        CheckAndWatch("/t/a", false),
        Quiet("/t/a"),
        Create("/t/a", "again"),
        Fires("/t/a"),
        Stat("/t/a", (0, 5, 0), (false, false)),
        Read("/t/a", Ok("again")),
        // Versions.
        Set("/t/a", "no", 1, Err(Error::BadVersion)),
        Set("/t/missing", "no", 0, Err(Error::NoNode)),
        Set("/t/a", "", 0, Ok(1)),
        Read("/t/a", Ok("")),
        Stat("/t/a", (1, 0, 0), (true, false)),
        // Permissions: for content only. A change of the ACL is no event.
        ReadAndWatch("/t/a", Ok("")),
        Deny("/t/a"),
        Read("/t/a", Err(Error::NoAuth)),
        ReadAndWatch("/t/a", Err(Error::NoAuth)),
        Check("/t/a", true),
        Allow("/t/a"),
        Quiet("/t/a"),
        Change("/t/a", "open"),
        Fires("/t/a"),
        // An event on what the session may not read uses the watch up without firing it: nothing
        // tells that the content changed, not even when it may be read and changes again.
        ReadAndWatch("/t/a", Ok("open")),
        Deny("/t/a"),
        Change("/t/a", "secret"),
        Quiet("/t/a"),
        Allow("/t/a"),
        Change("/t/a", "open again"),
        Quiet("/t/a"),
        Read("/t/a", Ok("open again")),
        // So with a watch that was set by a check, and with a deletion.
        Deny("/t/a"),
        CheckAndWatch("/t/a", true),
        Change("/t/a", "secret"),
        Allow("/t/a"),
        Change("/t/a", "open"),
        Quiet("/t/a"),
        CheckAndWatch("/t/a", true),
        Deny("/t/a"),
        Delete("/t/a"),
        Quiet("/t/a"),
        // And with a creation.
        CheckAndWatch("/t/a", false),
        CreateDenied("/t/a", "secret"),
        Check("/t/a", true),
        Allow("/t/a"),
        Change("/t/a", "more"),
        Quiet("/t/a"),
        Read("/t/a", Ok("more")),
        // The parent counts children; their contents do not touch it.
        Create("/t/p", "p"),
        Stat("/t/p", (0, 1, 0), (false, false)),
        Create("/t/p/1", ""),
        Create("/t/p/2", ""),
        Change("/t/p/1", "x"),
        Stat("/t/p", (0, 1, 2), (false, true)),
        Delete("/t/p/1"),
        Stat("/t/p", (0, 1, 1), (false, true)),
        // A znode need not be there to be synced.
        Sync("/t/p"),
        Sync("/t/missing"),
        Check("/", true),
        // Children: their creation and deletion fire the watch once; nothing else does.
        Children("/t/p", Ok(&["2"])),
        Children("/t/missing", Err(Error::NoNode)),
        Children("/t/p/2", Ok(&[])),
        ChildrenAndWatch("/t/p", &["2"]),
        Change("/t/p", "q"),
        Change("/t/p/2", "x"),
        Create("/t/p/2/deep", ""),
        Quiet("/t/p"),
        Create("/t/p/3", ""),
        Fires("/t/p"),
        ChildrenAndWatch("/t/p", &["2", "3"]),
        Delete("/t/p/3"),
        Fires("/t/p"),
        ChildrenAndWatch("/t/p/2/deep", &[]),
        Delete("/t/p/2/deep"),
        Fires("/t/p/2/deep"),
        Deny("/t/p"),
        Children("/t/p", Err(Error::NoAuth)),
        Allow("/t/p"),
        // A tree: all that happens in it, in order, and nothing beside it.
        WatchTree("/t/tree"),
        Create("/t/tree", ""),
        Create("/t/tree2", ""),
        Create("/t/tree/a", "1"),
        Create("/t/tree/a/b", "1"),
        Change("/t/tree/a", "2"),
        Change("/t/tree/a/b", "2"),
        Change("/t/tree", "2"),
        Heard(
            "/t/tree",
            &[
                (Happened::Created, "/t/tree"),
                (Happened::Created, "/t/tree/a"),
                (Happened::Created, "/t/tree/a/b"),
                (Happened::Changed, "/t/tree/a"),
                (Happened::Changed, "/t/tree/a/b"),
                (Happened::Changed, "/t/tree"),
            ],
        ),
        // A one-shot watch below its root goes beside it, and one tree in another.
        WatchTree("/t/tree/a"),
        ReadAndWatch("/t/tree/a/b", Ok("2")),
        Change("/t/tree/a/b", "3"),
        Fires("/t/tree/a/b"),
        Change("/t/tree/a", "3"),
        Delete("/t/tree/a"),
        Heard(
            "/t/tree",
            &[
                (Happened::Changed, "/t/tree/a/b"),
                (Happened::Changed, "/t/tree/a"),
                (Happened::Deleted, "/t/tree/a/b"),
                (Happened::Deleted, "/t/tree/a"),
            ],
        ),
        Heard(
            "/t/tree/a",
            &[
                (Happened::Changed, "/t/tree/a/b"),
                (Happened::Changed, "/t/tree/a"),
                (Happened::Deleted, "/t/tree/a/b"),
                (Happened::Deleted, "/t/tree/a"),
            ],
        ),
        // It stays when its root goes and comes back. What may not be read happens in silence.
        Delete("/t/tree"),
        Create("/t/tree", ""),
        CreateDenied("/t/tree/secret", ""),
        Change("/t/tree/secret", "x"),
        Heard(
            "/t/tree",
            &[
                (Happened::Deleted, "/t/tree"),
                (Happened::Created, "/t/tree"),
            ],
        ),
    ]
}

/// The nearest existing ancestor of `removed`, with its [`Stat`].
async fn nearest<S: Session>(session: &S, removed: &str) -> (ZnodePath, Stat) {
    let mut at = path(removed);
    loop {
        at = at.parent().unwrap();
        if let Some(stat) = session.check(&at).await.unwrap() {
            return (at, stat);
        }
    }
}

async fn stat<S: Session>(session: &S, at: &str) -> Stat {
    session.check(&path(at)).await.unwrap().unwrap()
}

/// A removal can be proved: the nearest existing ancestor's pzxid is above the last mzxid (and
/// czxid and pzxid) of what was removed. Gives back removed paths with those, to look again later.
async fn removals_leave_proof<S: Session>(
    session: &S,
    admin: &impl Admin,
    top: &str,
) -> Vec<(String, i64)> {
    let mut removed = Vec::new();
    let newest = |stat: Stat| stat.mzxid.max(stat.czxid).max(stat.pzxid);

    // A child that was set many times.
    admin.create(top, "").await;
    let child = format!("{top}/child");
    admin.create(&child, "").await;
    let before = stat(session, top).await.pzxid;
    assert_eq!(before, stat(session, &child).await.czxid);
    for i in 0..5 {
        admin.set(&child, &i.to_string()).await;
    }
    assert_eq!(stat(session, top).await.pzxid, before);
    let last = stat(session, &child).await;
    assert!(last.mzxid > before);
    admin.delete(&child).await;
    let (at, proof) = nearest(session, &child).await;
    assert_eq!(at.as_str(), top);
    assert!(proof.pzxid > newest(last), "{proof:?} {last:?}");
    removed.push((child, newest(last)));

    // A whole subtree; then its top is made again without the rest.
    let mut subtree = Vec::new();
    for below in ["/s", "/s/1", "/s/1/x", "/s/1/y", "/s/2"] {
        let below = format!("{top}{below}");
        admin.create(&below, "").await;
        subtree.push(below);
    }
    for below in subtree.iter().rev() {
        admin.set(below, "set").await;
    }
    let mut lasts = Vec::new();
    for below in subtree {
        let last = newest(stat(session, &below).await);
        lasts.push((below, last));
    }
    admin.delete(&format!("{top}/s")).await;
    for (below, last) in &lasts {
        let (at, proof) = nearest(session, below).await;
        assert_eq!(at.as_str(), top);
        assert!(proof.pzxid > *last, "{below}: {proof:?} {last}");
    }
    admin.create(&format!("{top}/s"), "").await;
    for (below, last) in &lasts[1..] {
        let (at, proof) = nearest(session, below).await;
        assert_eq!(at.as_str(), format!("{top}/s"));
        assert!(proof.pzxid > *last, "{below}: {proof:?} {last}");
    }
    removed.extend(lasts.into_iter().skip(1));

    // Right below the root.
    let lone = format!("{top}-lone");
    admin.create(&lone, "").await;
    admin.set(&lone, "set").await;
    let last = newest(stat(session, &lone).await);
    admin.delete(&lone).await;
    let (at, proof) = nearest(session, &lone).await;
    assert_eq!(at, ZnodePath::root());
    assert!(proof.pzxid > last, "{proof:?} {last}");
    removed.push((lone, last));
    removed
}

/// Nothing comes from a session whose connection broke, and it says so.
async fn is_lost<S: Session>(session: &S, break_it: impl FnOnce()) {
    let (_, watch) = session.check_and_watch(&path("/t/a")).await.unwrap();
    let reading = session.lost();
    break_it();
    assert!(!soon("the loss", reading).await.is_empty());
    assert!(!session.lost().await.is_empty());
    let requests = [
        soon("a read", session.read(&path("/t/a"))).await.err(),
        soon("a sync", session.sync(&path("/t/a"))).await.err(),
        soon("a check", session.check(&path("/t/a"))).await.err(),
    ];
    assert_eq!(requests, [const { Some(Error::ConnectionLost) }; 3]);
    assert!(watch.now_or_never().is_none());
}

impl Admin for FakeZooKeeper {
    async fn create(&self, path: &str, content: &str) {
        self.create(path, content).unwrap();
    }

    async fn create_denied(&self, path: &str, content: &str) {
        self.create_unreadable(path, content).unwrap();
    }

    async fn set(&self, path: &str, content: &str) {
        self.set(path, content).unwrap();
    }

    async fn delete(&self, path: &str) {
        self.delete(path).unwrap();
    }

    async fn readable(&self, path: &str, readable: bool) {
        self.set_readable(path, readable).unwrap();
    }
}

impl Admin for zk::Client {
    async fn create(&self, path: &str, content: &str) {
        let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
        self.create(path, content.as_bytes(), &options)
            .await
            .unwrap();
    }

    async fn create_denied(&self, path: &str, content: &str) {
        let options = zk::CreateMode::Persistent.with_acls(zk::Acls::creator_all());
        self.create(path, content.as_bytes(), &options)
            .await
            .unwrap();
    }

    async fn set(&self, path: &str, content: &str) {
        self.set_data(path, content.as_bytes(), None).await.unwrap();
    }

    async fn delete(&self, path: &str) {
        for child in self.list_children(path).await.unwrap() {
            Box::pin(Admin::delete(self, &format!("{path}/{child}"))).await;
        }
        self.delete(path, None).await.unwrap();
    }

    async fn readable(&self, path: &str, readable: bool) {
        let who = if readable {
            zk::AuthId::anyone()
        } else {
            zk::AuthId::authed()
        };
        let acl = zk::Acl::new(zk::Permission::ALL, who);
        self.set_acl(path, &[acl], None).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_fake_follows_the_script() {
    for seed in 0..30 {
        let zookeeper = FakeZooKeeper::new(seed);
        let session = zookeeper.connect().await.unwrap();
        check(&session, &zookeeper, &script()).await;
        removals_leave_proof(&session, &zookeeper, "/r").await;
        is_lost(&session, || zookeeper.cut()).await;
    }
}

#[tokio::test]
async fn a_real_server_follows_the_script() {
    let mut server = Server::start();
    let admin = client(&server).await;
    let session = source(&server).connect().await.unwrap();
    check(&session, &admin, &script()).await;
    is_lost(&session, || server.kill()).await;
}

/// The server takes a snapshot every ten transactions here, so that what it says after a restart
/// comes from snapshots and logs in all mixtures.
#[tokio::test]
async fn removals_can_be_proved_across_restarts_of_a_real_server() {
    let mut server = Server::start_with("snapCount=10\n");
    let mut removed = Vec::new();
    for round in 0..4 {
        let admin = client(&server).await;
        let session = source(&server).connect().await.unwrap();
        let top = format!("/round{round}");
        removed.extend(removals_leave_proof(&session, &admin, &top).await);
        let mut before = Vec::new();
        for (at, _) in &removed {
            before.push(nearest(&session, at).await);
        }
        drop((session, admin));
        server.kill();
        server.restart();
        let session = source(&server).connect().await.unwrap();
        for ((at, last), before) in removed.iter().zip(before) {
            let after = nearest(&session, at).await;
            assert!(after.1.pzxid > *last, "{at}: {after:?} {last}");
            assert_eq!(after, before, "{at}");
        }
    }
}

/// What the fake does not have: transactions of several operations, and ephemeral znodes.
#[tokio::test]
async fn removals_of_other_kinds_can_be_proved_on_a_real_server() {
    let server = Server::start();
    let admin = client(&server).await;
    let session = source(&server).connect().await.unwrap();
    for at in ["/m", "/m/gone", "/m/set", "/e"] {
        Admin::create(&admin, at, "").await;
    }
    Admin::set(&admin, "/m/gone", "set").await;
    let last = stat(&session, "/m/gone").await.mzxid;
    let mut together = admin.new_multi_writer();
    together.add_set_data("/m/set", b"set", None).unwrap();
    together.add_delete("/m/gone", None).unwrap();
    together.commit().await.unwrap();
    let proof = stat(&session, "/m").await;
    assert!(proof.pzxid > last);
    assert_eq!(proof.pzxid, stat(&session, "/m/set").await.mzxid);

    let owner = client(&server).await;
    let options = zk::CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all());
    owner.create("/e/phemeral", b"", &options).await.unwrap();
    owner.set_data("/e/phemeral", b"set", None).await.unwrap();
    let (found, gone) = session.check_and_watch(&path("/e/phemeral")).await.unwrap();
    let found = found.unwrap();
    assert_eq!(found.ephemeral_owner, owner.session_id().0);
    drop(owner);
    soon("the end of the owner's session", gone).await;
    assert!(stat(&session, "/e").await.pzxid > found.mzxid);
}

#[tokio::test]
async fn null_content_is_empty_content_on_a_real_server() {
    let server = Server::start();
    let mut wire = Wire::connect(server.address());
    wire.create_null("/null");
    wire.close();
    let session = source(&server).connect().await.unwrap();
    let (value, watch) = session.read_and_watch(&path("/null")).await.unwrap();
    assert_eq!(&*value.content, b"");
    assert_eq!(value.stat.data_length, 0);
    let set = session.set(&path("/null"), b"x"[..].into(), 0).await;
    assert_eq!(set.unwrap().version, 1);
    assert!(watch.now_or_never().is_some());
}
