//! Every line of the writer's table against the fake, in virtual time.

use std::fmt::Write as _;

use tokio::time::Instant;

use super::*;
use crate::source::ConnectError;
use crate::source::fake::{FakeZooKeeper, Request};

/// Keeps what is shown: the difference, and after it what is said.
#[derive(Default)]
struct Shown {
    diff: String,
    said: String,
    is_full: bool,
}

impl Output for Shown {
    fn diff(&mut self, diff: &diff::Diff<'_>) -> io::Result<()> {
        if self.is_full {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut out = Vec::new();
        diff.write(&mut out, diff::Style::Plain)?;
        self.diff = String::from_utf8(out).unwrap();
        Ok(())
    }

    fn say(&mut self, line: &str) {
        writeln!(self.said, "{line}").unwrap();
    }
}

const WRITING: &str = "Writing input.json to ZooKeeper /some/node...\n";
const CHANGED: &str = "The data in ZooKeeper changed unexpectedly.";

fn job(content: &[u8]) -> Job {
    Job {
        source_name: "input.json".into(),
        content: content.into(),
        dest: ZnodePath::parse("/some/node").unwrap(),
        chroot: None,
        dry_run: false,
        connect_timeout: CONNECT_TIMEOUT,
    }
}

/// A service with `old` in the node.
fn holding(old: &[u8]) -> FakeZooKeeper {
    let zookeeper = FakeZooKeeper::new(1);
    zookeeper.create("/some/node", old).unwrap();
    zookeeper
}

/// Runs a job; the result or the failure's line, with what was shown.
async fn write(zookeeper: &FakeZooKeeper, job: &Job) -> (Result<Done, String>, Shown) {
    let mut shown = Shown::default();
    let result = run(zookeeper, job, &mut shown).await;
    (result.map_err(|failure| failure.to_string()), shown)
}

/// Writes `new` and expects a failure that says `line`, after which the node holds `left` or is
/// not there.
async fn fails(zookeeper: &FakeZooKeeper, line: &str, left: Option<&[u8]>) {
    let (result, shown) = write(zookeeper, &job(b"new\n")).await;
    assert_eq!(result.unwrap_err(), line);
    assert!(!line.contains('\n'));
    assert!(!shown.said.contains("Wrote"), "{}", shown.said);
    let holds = zookeeper.get("/some/node").map(|value| value.content);
    assert_eq!(holds.as_deref(), left);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_shown_and_written() {
    let zookeeper = holding(b"old\n");
    let (result, shown) = write(&zookeeper, &job(b"new\n")).await;
    let now = zookeeper.get("/some/node").unwrap();
    assert_eq!(result, Ok(Done::Written(now.stat)));
    assert_eq!((&*now.content, now.stat.version), (&b"new\n"[..], 1));
    assert_eq!(
        shown.diff,
        "--- /some/node\n+++ input.json\n@@ -1 +1 @@\n-old\n+new\n"
    );
    assert_eq!(shown.said, format!("{WRITING}Wrote data to Zookeeper.\n"));
}

#[tokio::test(start_paused = true)]
async fn an_equal_node_is_not_written() {
    let zookeeper = holding(b"same\n");
    let (result, shown) = write(&zookeeper, &job(b"same\n")).await;
    assert_eq!(result, Ok(Done::Unchanged));
    assert_eq!(shown.said, "No changes detected. Not writing.\n");
    assert_eq!(shown.diff, "");
    assert_eq!(zookeeper.counts().of(Request::Set), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_only() {
    let zookeeper = holding(b"old\n");
    let dry = Job {
        dry_run: true,
        ..job(b"new\n")
    };
    let (result, shown) = write(&zookeeper, &dry).await;
    assert_eq!(result, Ok(Done::Shown));
    assert!(shown.diff.ends_with("-old\n+new\n"));
    assert_eq!(shown.said, "Dry run. Not writing.\n");
    assert_eq!(zookeeper.counts().of(Request::Set), 0);
}

#[tokio::test(start_paused = true)]
async fn binary_data_is_written_without_a_difference() {
    for (old, new) in [
        (&b"\xff"[..], &b"text"[..]),
        (b"text", b"\xff"),
        (b"", b"\xc3"),
    ] {
        let zookeeper = holding(old);
        let (result, shown) = write(&zookeeper, &job(new)).await;
        assert!(matches!(result, Ok(Done::Written(_))));
        assert_eq!(shown.diff, "");
        assert_eq!(
            shown.said,
            format!(
                "Skipping diff, data appears to be binary.\n{WRITING}Wrote data to Zookeeper.\n"
            )
        );
        assert_eq!(&*zookeeper.get("/some/node").unwrap().content, new);
    }
}

#[tokio::test(start_paused = true)]
async fn emptying_a_node_is_a_change() {
    let zookeeper = holding(b"old\n");
    let (result, _) = write(&zookeeper, &job(b"")).await;
    assert!(matches!(result, Ok(Done::Written(_))));
    assert_eq!(&*zookeeper.get("/some/node").unwrap().content, b"");
}

#[tokio::test(start_paused = true)]
async fn a_missing_node() {
    let line = "Target node does not exist. Please create it with appropriate ACLs first.";
    fails(&FakeZooKeeper::new(1), line, None).await;
    let zookeeper = holding(b"old\n");
    zookeeper.before_next(Request::Set, |zookeeper| {
        zookeeper.delete("/some/node").unwrap();
    });
    fails(&zookeeper, line, None).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_between_reading_and_writing() {
    let zookeeper = holding(b"old\n");
    zookeeper.before_next(Request::Set, |zookeeper| {
        zookeeper.set("/some/node", "theirs\n").unwrap();
    });
    fails(&zookeeper, CHANGED, Some(b"theirs\n")).await;
}

#[tokio::test(start_paused = true)]
async fn no_permission() {
    let zookeeper = holding(b"old\n");
    zookeeper.set_writable("/some/node", false).unwrap();
    fails(
        &zookeeper,
        "Not authorised to write /some/node. Please name a user whom its ACL lets write it in \
         zookeeper.credentials. Nothing was written.",
        Some(b"old\n"),
    )
    .await;
    zookeeper.set_readable("/some/node", false).unwrap();
    fails(
        &zookeeper,
        "Not authorised to read /some/node. Please name a user whom its ACL lets read it in \
         zookeeper.credentials. Nothing was written.",
        Some(b"old\n"),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_not_sent() {
    let zookeeper = holding(b"\xff");
    let room = MAX_REQUEST - 20 - "/some/node".len();
    let (result, _) = write(&zookeeper, &job(&vec![b'x'; room])).await;
    assert!(matches!(result, Ok(Done::Written(_))));
    zookeeper.take_counts();
    let (result, _) = write(&zookeeper, &job(&vec![b'x'; room + 1])).await;
    let line = format!(
        "input.json is too large: {} bytes, but at most {room} fit into /some/node. \
         Nothing was written.",
        room + 1
    );
    assert_eq!(result, Err(line));
    let chroot = ZnodePath::parse("/apps").ok();
    let below = Job {
        chroot,
        ..job(&vec![b'x'; room])
    };
    assert!(write(&zookeeper, &below).await.0.is_err());
    assert_eq!(zookeeper.take_counts(), Default::default());
}

#[test]
fn the_chroot_takes_room_in_the_request() {
    let limit = |chroot: &str, dest: &str| {
        let job = Job {
            chroot: ZnodePath::parse(chroot).ok(),
            dest: ZnodePath::parse(dest).unwrap(),
            ..job(b"")
        };
        MAX_REQUEST - job.limit()
    };
    assert_eq!(limit("", "/a"), 22);
    assert_eq!(limit("/", "/a"), 22);
    assert_eq!(limit("/chroot", "/a"), 29);
    assert_eq!(limit("/chroot", "/"), 27);
}

#[tokio::test(start_paused = true)]
async fn zookeeper_is_not_reached() {
    let zookeeper = holding(b"old\n");
    zookeeper.hosts(2);
    zookeeper.refuse(true);
    let before = Instant::now();
    fails(
        &zookeeper,
        "ZooKeeper was not reached within 15 s: zk01:2181: Connection refused, \
         zk02:2181: Connection refused. Nothing was written.",
        Some(b"old\n"),
    )
    .await;
    assert_eq!(before.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn zookeeper_does_not_answer() {
    let zookeeper = holding(b"old\n");
    zookeeper.hang(true);
    let before = Instant::now();
    fails(
        &zookeeper,
        "ZooKeeper was not reached within 15 s: zk01:2181: no answer within 3.0 s. \
         Nothing was written.",
        Some(b"old\n"),
    )
    .await;
    assert_eq!(before.elapsed().as_secs(), 15);
    zookeeper.hang(false);
    zookeeper.before_next(Request::Read, |zookeeper| zookeeper.hang(true));
    fails(
        &zookeeper,
        "ZooKeeper was not reached within 15 s: connected, but no answer. Nothing was written.",
        Some(b"old\n"),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn zookeeper_comes_back_in_time() {
    let zookeeper = holding(b"old\n");
    zookeeper.refuse(true);
    let back = zookeeper.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        back.refuse(false);
    });
    let (result, _) = write(&zookeeper, &job(b"new\n")).await;
    assert!(matches!(result, Ok(Done::Written(_))));
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_not_tried_again() {
    let zookeeper = holding(b"old\n");
    zookeeper.refuse_with(|host| ConnectError::AuthFailed { host });
    let line = "zk01:2181: authentication failed. Nothing was written.";
    fails(&zookeeper, line, Some(b"old\n")).await;
    zookeeper.refuse_with(|_| ConnectError::Credentials("secret not found: 'a/b'".into()));
    let line = "credentials: secret not found: 'a/b'. Nothing was written.";
    fails(&zookeeper, line, Some(b"old\n")).await;
    assert_eq!(zookeeper.counts().of(Request::Connect), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_before_the_set_is_made_again() {
    for request in [Request::Sync, Request::Read] {
        for before in [true, false] {
            let zookeeper = holding(b"old\n");
            if before {
                zookeeper.before_next(request, FakeZooKeeper::cut);
            } else {
                zookeeper.after_next(request, FakeZooKeeper::expire);
            }
            let (result, _) = write(&zookeeper, &job(b"new\n")).await;
            assert!(matches!(result, Ok(Done::Written(_))));
            assert_eq!(zookeeper.get("/some/node").unwrap().stat.version, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lags_or_is_cut_off_is_not_believed() {
    let zookeeper = holding(b"new\n");
    zookeeper.set("/some/node", "old\n").unwrap();
    zookeeper.lag(1);
    let (result, shown) = write(&zookeeper, &job(b"new\n")).await;
    assert!(matches!(result, Ok(Done::Written(_))), "{}", shown.said);
    zookeeper.read_only(true);
    fails(
        &zookeeper,
        "ZooKeeper was not reached within 15 s: the server is read-only, cut off from the \
         others. Nothing was written.",
        Some(b"new\n"),
    )
    .await;
}

const LOST: &str = "The connection to ZooKeeper broke before the data was written; the node is \
                    unchanged. Please run it again.";

#[tokio::test(start_paused = true)]
async fn a_set_that_was_lost_did_not_happen() {
    let zookeeper = holding(b"old\n");
    zookeeper.before_next(Request::Set, FakeZooKeeper::cut);
    fails(&zookeeper, LOST, Some(b"old\n")).await;
    assert_eq!(zookeeper.counts().of(Request::Set), 1);
}

#[tokio::test(start_paused = true)]
async fn a_set_whose_reply_was_lost_happened() {
    let zookeeper = holding(b"old\n");
    zookeeper.after_next(Request::Set, |zookeeper| {
        zookeeper.cut();
        // The server that is found next has not heard of it yet.
        zookeeper.lag(1);
    });
    let (result, shown) = write(&zookeeper, &job(b"new\n")).await;
    let now = zookeeper.get("/some/node").unwrap();
    assert_eq!(result, Ok(Done::Written(now.stat)));
    assert_eq!(now.stat.version, 1);
    let looking = "The connection broke. Looking what became of the write...\n";
    assert_eq!(
        shown.said,
        format!("{WRITING}{looking}Wrote data to Zookeeper.\n")
    );
}

fn unknown(why: &str) -> String {
    format!(
        "The connection to ZooKeeper broke, and whether the data was written cannot be told: \
         {why}. Please look at the node before running it again."
    )
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_another_writer_came_between() {
    let zookeeper = holding(b"old\n");
    zookeeper.after_next(Request::Set, |zookeeper| {
        zookeeper.cut();
        zookeeper.set("/some/node", "theirs\n").unwrap();
    });
    let line = unknown("somebody else wrote to the node meanwhile");
    fails(&zookeeper, &line, Some(b"theirs\n")).await;

    // One set only, and not ours: this much is known.
    let zookeeper = holding(b"old\n");
    zookeeper.before_next(Request::Set, |zookeeper| {
        zookeeper.cut();
        zookeeper.set("/some/node", "theirs\n").unwrap();
    });
    fails(&zookeeper, CHANGED, Some(b"theirs\n")).await;

    let zookeeper = holding(b"old\n");
    zookeeper.before_next(Request::Set, |zookeeper| {
        zookeeper.cut();
        zookeeper.set("/some/node", "theirs\n").unwrap();
        zookeeper.set("/some/node", "new\n").unwrap();
    });
    let line = unknown("the node holds this data, but it was written more than once meanwhile");
    fails(&zookeeper, &line, Some(b"new\n")).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_the_node_is_another_one() {
    let zookeeper = holding(b"old\n");
    zookeeper.after_next(Request::Set, |zookeeper| {
        zookeeper.cut();
        zookeeper.delete("/some/node").unwrap();
    });
    let line = unknown("the node has been deleted meanwhile");
    fails(&zookeeper, &line, None).await;

    let zookeeper = holding(b"old\n");
    zookeeper.after_next(Request::Set, |zookeeper| {
        zookeeper.cut();
        zookeeper.delete("/some/node").unwrap();
        zookeeper.create("/some/node", "old\n").unwrap();
    });
    let line = unknown("somebody else wrote to the node meanwhile");
    fails(&zookeeper, &line, Some(b"old\n")).await;

    let zookeeper = holding(b"old\n");
    zookeeper.after_next(Request::Set, |zookeeper| {
        zookeeper.cut();
        zookeeper.set_readable("/some/node", false).unwrap();
    });
    let line = unknown("reading it again failed: not authorised");
    fails(&zookeeper, &line, Some(b"new\n")).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_zookeeper_stays_away() {
    let zookeeper = holding(b"old\n");
    zookeeper.after_next(Request::Set, |zookeeper| {
        zookeeper.refuse(true);
        zookeeper.cut();
    });
    let before = Instant::now();
    let line =
        unknown("ZooKeeper was not reached again within 15 s: zk01:2181: Connection refused");
    fails(&zookeeper, &line, Some(b"new\n")).await;
    assert_eq!(before.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_in_mid_set() {
    let zookeeper = holding(b"old\n");
    zookeeper.after_next(Request::Set, |zookeeper| zookeeper.hang(true));
    let before = Instant::now();
    let line =
        unknown("ZooKeeper was not reached again within 15 s: zk01:2181: no answer within 3.0 s");
    fails(&zookeeper, &line, Some(b"new\n")).await;
    assert_eq!(before.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_shown_is_not_written() {
    let zookeeper = holding(b"old\n");
    let mut closed = Shown {
        is_full: true,
        ..Shown::default()
    };
    let result = run(&zookeeper, &job(b"new\n"), &mut closed).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "cannot show the difference: broken pipe. Nothing was written."
    );
    assert_eq!(zookeeper.counts().of(Request::Set), 0);
}
