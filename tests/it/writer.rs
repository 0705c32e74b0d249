//! The writer as its users run it, against a real server.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use livedata::source::MAX_REQUEST;
use zookeeper_client as zk;

use crate::source::server::Server;

struct Fixture {
    server: Server,
    client: zk::Client,
    dir: tempfile::TempDir,
}

impl Fixture {
    /// A server with `/some/node`, and a configuration for it.
    async fn new() -> Self {
        let server = Server::start().await;
        let client = server.client().await;
        let fixture = Self {
            server,
            client,
            dir: tempfile::tempdir().unwrap(),
        };
        fixture.create("/some", b"").await;
        fixture.create("/some/node", b"old\n").await;
        fixture.file("config.ini", fixture.config("").as_bytes());
        fixture.file("input.json", b"new\n");
        fixture
    }

    fn config(&self, chroot: &str) -> String {
        config(&self.server.host(), chroot)
    }

    fn file(&self, name: &str, content: &[u8]) {
        std::fs::write(self.dir.path().join(name), content).unwrap();
    }

    async fn create(&self, path: &str, content: &[u8]) {
        let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
        self.client.create(path, content, &options).await.unwrap();
    }

    async fn get(&self, path: &str) -> (Vec<u8>, i32) {
        let (content, stat) = self.client.get_data(path).await.unwrap();
        (content, stat.version)
    }

    fn write(&self, arguments: &[&str]) -> (i32, String, String) {
        write(self.dir.path(), arguments, b"")
    }
}

fn config(host: &str, chroot: &str) -> String {
    format!("[live-data]\nzookeeper.hosts = {host}{chroot}\n")
}

fn writer(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livedata-writer"));
    command
        .args(arguments)
        .current_dir(dir)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the writer in `dir`; its exit code, standard output and standard error.
fn write(dir: &Path, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = writer(dir, arguments).spawn().unwrap();
    // It may not want it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

const DIFFERENCE: &str = "--- /some/node\n+++ input.json\n@@ -1 +1 @@\n-old\n+new\n";
const WRITTEN: &str = "Writing input.json to ZooKeeper /some/node...\nWrote data to Zookeeper.\n";
const UNCHANGED: &str = "No changes detected. Not writing.\n";

#[tokio::test]
async fn the_writer_shows_and_sets() {
    let fixture = Fixture::new().await;
    let usual = ["config.ini", "input.json", "/some/node"];
    let dry = ["--dry-run", "config.ini", "input.json", "/some/node"];
    assert_eq!(
        fixture.write(&dry),
        (0, DIFFERENCE.into(), "Dry run. Not writing.\n".into())
    );
    assert_eq!(fixture.get("/some/node").await, (b"old\n".to_vec(), 0));
    assert_eq!(
        fixture.write(&usual),
        (0, DIFFERENCE.into(), WRITTEN.into())
    );
    assert_eq!(fixture.get("/some/node").await, (b"new\n".to_vec(), 1));
    assert_eq!(fixture.write(&usual), (0, String::new(), UNCHANGED.into()));

    // A path without its leading slash, and standard input for either file.
    let relative = ["config.ini", "-", "some/node"];
    let (code, difference, said) = write(fixture.dir.path(), &relative, b"from stdin\n");
    assert_eq!(code, 0, "{said}");
    assert!(difference.starts_with("--- /some/node\n+++ <stdin>\n@@ "));
    assert_eq!(
        fixture.get("/some/node").await,
        (b"from stdin\n".to_vec(), 2)
    );
    let config = fixture.config("");
    let piped = ["-", "input.json", "/some/node"];
    let (code, _, said) = write(fixture.dir.path(), &piped, config.as_bytes());
    assert_eq!((code, &*said), (0, WRITTEN));

    // Below a chroot.
    fixture.file("chroot.ini", fixture.config("/some").as_bytes());
    fixture.file("input.json", b"through the chroot\n");
    let (code, difference, _) = fixture.write(&["chroot.ini", "input.json", "/node"]);
    assert_eq!(code, 0);
    assert!(difference.starts_with("--- /node\n"));
    assert_eq!(
        fixture.get("/some/node").await,
        (b"through the chroot\n".to_vec(), 4)
    );

    // No text.
    fixture.file("input.json", b"\xff\xfe");
    let (code, difference, said) = fixture.write(&usual);
    assert_eq!((code, &*difference), (0, ""));
    assert_eq!(
        said,
        format!("Skipping diff, data appears to be binary.\n{WRITTEN}")
    );
}

#[tokio::test]
async fn the_writer_says_in_one_line_what_is_wrong() {
    let fixture = Fixture::new().await;
    let fails = |arguments: &[&str], code: i32, line: &str| {
        let (exit, _, said) = fixture.write(arguments);
        assert_eq!((exit, &*said), (code, &*format!("{line}\n")));
    };
    fails(
        &["config.ini", "input.json", "/none"],
        1,
        "Target node does not exist. Please create it with appropriate ACLs first.",
    );
    fails(
        &["config.ini", "missing.json", "/some/node"],
        2,
        "SOURCE missing.json: No such file or directory",
    );
    fails(
        &["config.ini", ".", "/some/node"],
        2,
        "SOURCE .: Is a directory",
    );
    fails(
        &["missing.ini", "input.json", "/some/node"],
        2,
        "CONFIG missing.ini: No such file or directory",
    );
    fails(
        &[".", "input.json", "/some/node"],
        2,
        "CONFIG .: Is a directory",
    );
    fails(
        &["-", "-", "/some/node"],
        2,
        "CONFIG and SOURCE cannot both be standard input",
    );
    fails(
        &["config.ini", "input.json", "/some//node"],
        2,
        "DEST: `/some//node` has an empty component; write single slashes and none at the end",
    );
    let (code, _, said) = fixture.write(&["config.ini"]);
    assert_eq!(code, 2);
    assert!(said.contains("Usage: livedata-writer"), "{said}");

    let acl = zk::Acl::new(zk::Permission::READ, zk::AuthId::anyone());
    let everything = zk::Acl::new(zk::Permission::ALL, zk::AuthId::authed());
    let acls = [acl, everything];
    fixture
        .client
        .set_acl("/some/node", &acls, None)
        .await
        .unwrap();
    let (code, difference, said) = fixture.write(&["config.ini", "input.json", "/some/node"]);
    assert_eq!((code, &*difference), (1, DIFFERENCE));
    assert_eq!(
        said,
        "Writing input.json to ZooKeeper /some/node...\nNot authorised to write /some/node. \
         Please name a user whom its ACL lets write it in zookeeper.credentials. \
         Nothing was written.\n"
    );
    fixture
        .client
        .set_acl("/some/node", &acls[1..], None)
        .await
        .unwrap();
    fails(
        &["config.ini", "input.json", "/some/node"],
        1,
        "Not authorised to read /some/node. Please name a user whom its ACL lets read it in \
         zookeeper.credentials. Nothing was written.",
    );
    assert_eq!(fixture.get("/some/node").await, (b"old\n".to_vec(), 0));
}

/// What is said to fit does, at the byte.
#[tokio::test]
async fn the_largest_content_is_written() {
    let fixture = Fixture::new().await;
    let room = MAX_REQUEST - 20 - "/some/node".len();
    fixture.file("input.json", &vec![0xff; room + 1]);
    let usual = ["config.ini", "input.json", "/some/node"];
    let (code, _, said) = fixture.write(&usual);
    assert_eq!(code, 1);
    assert_eq!(
        said,
        format!(
            "input.json is too large: {} bytes, but at most {room} fit into /some/node. \
             Nothing was written.\n",
            room + 1
        )
    );
    fixture.file("input.json", &vec![0xff; room]);
    let (code, _, said) = fixture.write(&usual);
    assert_eq!(code, 0, "{said}");
    assert_eq!(fixture.get("/some/node").await.0.len(), room);
    // It can be read again, and replaced.
    assert_eq!(fixture.write(&usual), (0, String::new(), UNCHANGED.into()));
    // One more byte is one too many for the server, too.
    let larger = vec![0xff; room + 1];
    let sent = fixture.client.set_data("/some/node", &larger, None).await;
    assert!(sent.is_err());
}

/// A reader of the difference that goes away is a reason to stop, but not in a panic.
#[tokio::test]
async fn closed_outputs_do_not_panic() {
    let fixture = Fixture::new().await;
    let usual = ["config.ini", "input.json", "/some/node"];
    let mut child = writer(fixture.dir.path(), &usual).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("cannot show the difference: Broken pipe"),
        "{said}"
    );
    assert_eq!(fixture.get("/some/node").await.1, 0);

    let mut child = writer(fixture.dir.path(), &usual).spawn().unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fixture.get("/some/node").await, (b"new\n".to_vec(), 1));
}

/// Nobody listens: the writer tries for 15 s, and then names the host.
#[test]
fn the_writer_gives_up_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    std::fs::write(dir.path().join("config.ini"), config(&host, "")).unwrap();
    std::fs::write(dir.path().join("input.json"), "new\n").unwrap();
    let before = std::time::Instant::now();
    let (code, _, said) = write(dir.path(), &["config.ini", "input.json", "/some/node"], b"");
    assert_eq!(code, 1);
    assert!(
        said.starts_with(&format!(
            "ZooKeeper was not reached within 15 s: {host}: Connection refused"
        )),
        "{said}"
    );
    assert!(said.ends_with(". Nothing was written.\n"), "{said}");
    assert_eq!(said.lines().count(), 1);
    assert!((15..25).contains(&before.elapsed().as_secs()));
}
