//! The writer as its users run it, against a real server, and beside Baseplate's.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use livedata::source::MAX_REQUEST;

use crate::support::process;
use crate::support::proxy::{Mode, Proxy};
use crate::support::wait::wait_until;
use crate::support::wire::Wire;
use crate::support::zookeeper::{Sandbox, shared_server};

const SOON: Duration = Duration::from_secs(30);

const USUAL: [&str; 3] = ["config.ini", "input.json", "/some/node"];
const DIFFERENCE: &str = "--- /some/node\n+++ input.json\n@@ -1 +1 @@\n-old\n+new\n";
const WRITING: &str = "Writing input.json to ZooKeeper /some/node...\n";
const WRITTEN: &str = "Writing input.json to ZooKeeper /some/node...\nWrote data to Zookeeper.\n";
const UNCHANGED: &str = "No changes detected. Not writing.\n";
const NO_NODE: &str = "Target node does not exist. Please create it with appropriate ACLs first.\n";
const CHANGED: &str = "The data in ZooKeeper changed unexpectedly.\n";
const BROKE: &str = "The connection broke. Looking what became of the write...\n";

/// Which writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Ours,
    Baseplate,
}

/// `/some/node`, a configuration that names it, and the writer's directory.
struct Desk {
    sandbox: Sandbox,
    dir: tempfile::TempDir,
}

/// A writer at work.
struct Running {
    child: Child,
    log: PathBuf,
}

/// What it did.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: i32,
    /// Standard output.
    difference: String,
    /// Standard error.
    said: String,
}

impl Desk {
    /// The znode holds `old`, and `input.json` holds `new`.
    fn new(name: &str) -> Self {
        let desk = Self {
            sandbox: Sandbox::new(name),
            dir: tempfile::tempdir().unwrap(),
        };
        desk.sandbox.admin.create("/some/node", "old\n");
        desk.config("config.ini", &desk.sandbox.hosts());
        desk.file("input.json", "new\n");
        desk
    }

    /// [`Desk::new`] with a faulty network, which the configuration leads through.
    fn with_proxy(name: &str) -> (Self, Proxy) {
        let desk = Self::new(name);
        let proxy = Proxy::start(shared_server().address());
        desk.config("config.ini", &desk.sandbox.hosts_through(proxy.address()));
        (desk, proxy)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn config(&self, name: &str, hosts: &str) {
        // Baseplate wants a secrets file, needed or not.
        self.file("secrets.json", r#"{"secrets": {}, "vault": {}}"#);
        let secrets = self.path("secrets.json");
        let text = format!(
            "[live-data]\nzookeeper.hosts = {hosts}\nsecrets.path = {}\n",
            secrets.display()
        );
        self.file(name, text);
    }

    /// What a znode holds, and its version.
    #[track_caller]
    fn znode(&self, path: &str) -> (String, i32) {
        let (content, stat) = self.sandbox.admin.get(path).unwrap();
        (String::from_utf8(content).unwrap(), stat.version)
    }

    fn start(&self, arguments: &[&str]) -> Running {
        Running::start(Program::Ours, self.dir.path(), arguments, Stdio::null())
    }

    #[track_caller]
    fn write(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }

    /// [`Desk::write`] with standard input.
    #[track_caller]
    fn write_from(&self, arguments: &[&str], input: impl Into<Stdio>) -> Ended {
        Running::start(Program::Ours, self.dir.path(), arguments, input.into()).end()
    }

    /// Writes and must end like this, with nothing on standard output.
    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, line: &str) {
        let ended = self.write(arguments);
        assert_eq!((ended.code, ended.said), (code, format!("{line}\n")));
        assert_eq!(ended.difference, "");
    }
}

impl Running {
    fn start(program: Program, dir: &Path, arguments: &[&str], input: Stdio) -> Self {
        let log = dir.join("log");
        let mut command = program.command(dir, arguments);
        command
            .stdin(input)
            .stdout(File::create(dir.join("difference")).unwrap())
            .stderr(File::create(&log).unwrap());
        Self {
            child: process::spawn(command),
            log,
        }
    }

    /// Waits until it has ended.
    #[track_caller]
    fn end(mut self) -> Ended {
        let read = |path: &Path| String::from_utf8(fs::read(path).unwrap()).unwrap();
        let Some(status) = process::wait(&mut self.child, SOON) else {
            let _ = self.child.kill();
            panic!("it still runs:\n{}", read(&self.log));
        };
        Ended {
            code: status.code().expect("it ends by itself"),
            difference: read(&self.log.with_file_name("difference")),
            said: read(&self.log),
        }
    }
}

impl Program {
    fn command(self, dir: &Path, arguments: &[&str]) -> Command {
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv/bin/python");
        let mut command = match self {
            Self::Ours => process::bound_to_us(env!("CARGO_BIN_EXE_livedata-writer"), "KILL"),
            Self::Baseplate => {
                assert!(Path::new(python).exists(), "run tests/setup.sh first");
                let mut command = process::bound_to_us(python, "KILL");
                command.args(["-m", "baseplate.lib.live_data.writer"]);
                command
            }
        };
        command
            .args(arguments)
            .current_dir(dir)
            .env_remove("RUST_LOG");
        command
    }
}

fn ended(code: i32, difference: &str, said: &str) -> Ended {
    Ended {
        code,
        difference: difference.into(),
        said: said.into(),
    }
}

#[test]
fn it_shows_and_sets() {
    let desk = Desk::new("shows");
    let dry = ["--dry-run", "config.ini", "input.json", "/some/node"];
    let shown = ended(0, DIFFERENCE, "Dry run. Not writing.\n");
    assert_eq!(desk.write(&dry), shown);
    assert_eq!(desk.znode("/some/node"), ("old\n".into(), 0));
    assert_eq!(desk.write(&USUAL), ended(0, DIFFERENCE, WRITTEN));
    assert_eq!(desk.znode("/some/node"), ("new\n".into(), 1));
    assert_eq!(desk.write(&USUAL), ended(0, "", UNCHANGED));
    assert_eq!(desk.write(&dry), ended(0, "", UNCHANGED));
    assert_eq!(desk.znode("/some/node"), ("new\n".into(), 1));
}

#[test]
fn a_relative_dest_gets_its_slash() {
    let desk = Desk::new("relative");
    let relative = ["config.ini", "input.json", "some/node"];
    assert_eq!(desk.write(&relative), ended(0, DIFFERENCE, WRITTEN));
    assert_eq!(desk.znode("/some/node"), ("new\n".into(), 1));
}

#[test]
fn dest_is_below_the_chroot() {
    let desk = Desk::new("chroot");
    desk.config("below.ini", &format!("{}/some", desk.sandbox.hosts()));
    let ended = desk.write(&["below.ini", "input.json", "/node"]);
    assert_eq!(
        (ended.code, &*ended.difference),
        (0, DIFFERENCE.replace("/some", "").as_str())
    );
    assert_eq!(desk.znode("/some/node"), ("new\n".into(), 1));
    // The root of the chroot is a znode like others.
    let ended = desk.write(&["below.ini", "input.json", "/"]);
    assert_eq!(
        (ended.code, desk.znode("/some").0.as_str()),
        (0, "new\n"),
        "{}",
        ended.said
    );
}

#[test]
fn standard_input_is_as_good_as_a_file() {
    let desk = Desk::new("stdin");
    let file = |name| File::open(desk.path(name)).unwrap();
    let source = ["config.ini", "-", "/some/node"];
    let written = WRITTEN.replace("input.json", "<stdin>");
    let difference = DIFFERENCE.replace("input.json", "<stdin>");
    assert_eq!(
        desk.write_from(&source, file("input.json")),
        ended(0, &difference, &written)
    );
    desk.file("input.json", "newer\n");
    let config = ["-", "input.json", "/some/node"];
    let ended = desk.write_from(&config, file("config.ini"));
    assert_eq!((ended.code, &*ended.said), (0, WRITTEN));

    // A socket, which cannot be opened by a name.
    let (ours, its) = UnixStream::pair().unwrap();
    fs::copy(desk.path("config.ini"), desk.path("copy.ini")).unwrap();
    std::io::copy(&mut file("copy.ini"), &mut &ours).unwrap();
    drop(ours);
    let socket = std::os::fd::OwnedFd::from(its);
    let ended = desk.write_from(&config, socket);
    assert_eq!((ended.code, &*ended.said), (0, UNCHANGED));

    desk.file("wrong.ini", "[live-data]\nzookeeper.hosts = nowhere:x\n");
    let ended = desk.write_from(&config, file("wrong.ini"));
    assert_eq!(ended.code, 1);
    assert!(
        ended.said.starts_with("<stdin>:2: zookeeper.hosts: "),
        "{}",
        ended.said
    );
}

/// A named pipe can be read once only.
#[test]
fn a_configuration_may_come_through_a_pipe() {
    let desk = Desk::new("pipe");
    let config = fs::read(desk.path("config.ini")).unwrap();
    let made = Command::new("mkfifo").arg(desk.path("pipe.ini")).status();
    assert!(made.unwrap().success());
    let running = desk.start(&["pipe.ini", "input.json", "/some/node"]);
    fs::write(desk.path("pipe.ini"), config).unwrap();
    assert_eq!(running.end(), ended(0, DIFFERENCE, WRITTEN));
}

#[test]
fn what_is_no_text_is_not_shown() {
    let desk = Desk::new("binary");
    let skipped = "Skipping diff, data appears to be binary.\n";
    desk.file("input.json", b"\xff\xfe\n");
    let said = format!("{skipped}{WRITTEN}");
    assert_eq!(desk.write(&USUAL), ended(0, "", &said));
    let (content, stat) = desk.sandbox.admin.get("/some/node").unwrap();
    assert_eq!(
        (content.as_slice(), stat.version),
        (b"\xff\xfe\n".as_slice(), 1)
    );
    assert_eq!(desk.write(&USUAL), ended(0, "", UNCHANGED));
    // Also where only the old content is none.
    desk.file("input.json", "text\n");
    assert_eq!(desk.write(&USUAL), ended(0, "", &said));
    assert_eq!(desk.znode("/some/node"), ("text\n".into(), 2));
}

#[test]
fn nothing_is_content_too() {
    let desk = Desk::new("empty");
    desk.sandbox.create_null("/null");
    desk.sandbox.admin.create("/empty", "");
    desk.file("empty", "");
    for znode in ["/null", "/empty"] {
        assert_eq!(
            desk.write(&["config.ini", "empty", znode]),
            ended(0, "", UNCHANGED)
        );
        let difference = format!("--- {znode}\n+++ input.json\n@@ -0,0 +1 @@\n+new\n");
        let written = WRITTEN.replace("/some/node", znode);
        assert_eq!(
            desk.write(&["config.ini", "input.json", znode]),
            ended(0, &difference, &written)
        );
        assert_eq!(desk.znode(znode), ("new\n".into(), 1));
        let ended = desk.write(&["config.ini", "empty", znode]);
        let difference = format!("--- {znode}\n+++ empty\n@@ -1 +0,0 @@\n-new\n");
        assert_eq!((ended.code, ended.difference), (0, difference));
        assert_eq!(desk.znode(znode), (String::new(), 2));
    }
}

#[test]
fn patch_takes_the_difference() {
    let desk = Desk::new("patch");
    let long: String = (0..200).map(|n| format!("line {n}\n")).collect();
    let contents = [
        long.replace("line 17\n", "")
            .replace("line 90\n", "\n\nline 90\r\n"),
        long,
        "no newline at its end".into(),
        "no newline at its end\nbut two lines".into(),
        "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n".into(),
        "\\ No newline at end of file\n".into(),
        "\u{feff}wide \u{1f980}\x1b[31m\x0c\u{2028}\n\n\n".into(),
        "\n".into(),
        "carriage\r\nreturns\r\nrule\r".into(),
        "last\n".into(),
    ];
    for content in contents {
        let before = desk.sandbox.admin.get("/some/node").unwrap().0;
        desk.file("before", &before);
        desk.file("in put.json", &content);
        let ended = desk.write(&["config.ini", "in put.json", "/some/node"]);
        assert_eq!(ended.code, 0, "{}", ended.said);
        assert_eq!(desk.znode("/some/node").0, content);
        let patched = Command::new("patch")
            .args(["--batch", "--binary", "--fuzz=0", "before", "difference"])
            .current_dir(desk.dir.path())
            .output()
            .expect("the package patch is installed");
        let said = String::from_utf8_lossy(&patched.stdout).into_owned();
        assert_eq!(said, "patching file before\n", "{}", ended.difference);
        let after = fs::read(desk.path("before")).unwrap();
        assert_eq!(after, content.as_bytes(), "{}", ended.difference);
    }
}

#[test]
fn it_says_in_one_line_what_is_wrong() {
    let desk = Desk::new("wrong");
    let missing = ["config.ini", "input.json", "/none"];
    desk.fails(&missing, 1, NO_NODE.trim_end());
    for (arguments, line) in [
        (
            ["config.ini", "missing.json", "/some/node"],
            "SOURCE missing.json: No such file or directory",
        ),
        (
            ["config.ini", ".", "/some/node"],
            "SOURCE .: Is a directory",
        ),
        (
            ["missing.ini", "input.json", "/some/node"],
            "CONFIG missing.ini: No such file or directory",
        ),
        (
            [".", "input.json", "/some/node"],
            "CONFIG .: Is a directory",
        ),
        (
            ["-", "-", "/some/node"],
            "CONFIG and SOURCE cannot both be standard input",
        ),
        (
            ["config.ini", "input.json", "/some//node"],
            "DEST: `/some//node` has an empty component; write single slashes and none at the end",
        ),
    ] {
        desk.fails(&arguments, 2, line);
    }
    let ended = desk.write(&["config.ini"]);
    assert_eq!(ended.code, 2);
    assert!(
        ended.said.contains("Usage: livedata-writer"),
        "{}",
        ended.said
    );
    assert_eq!(desk.znode("/some/node"), ("old\n".into(), 0));
}

#[test]
fn a_wrong_configuration_is_named_by_line_and_key() {
    let desk = Desk::new("config");
    for (text, line) in [
        (
            "[live-data]\nzookeeper.hosts = zk:x\n",
            "config.ini:2: zookeeper.hosts: \"zk:x\" has no port from 1 to 65535; \
             write zk01:2181, for example",
        ),
        (
            "[live-data]\n",
            "config.ini: zookeeper.hosts: missing; write zookeeper.hosts = zk01:2181, for example",
        ),
        (
            "# hi\nzookeeper.hosts\n",
            "config.ini:2: \"zookeeper.hosts\" is a key without a value; \
             write key = value, or indent the line to continue the value above",
        ),
        (
            "zookeeper.hosts = zk:1\nzookeeper.timeout = soon\n",
            "config.ini:2: zookeeper.timeout: \"soon\" is not a time; write 5 seconds, for \
             example (units: milliseconds, seconds, minutes, hours, days)",
        ),
    ] {
        desk.file("config.ini", text);
        desk.fails(&USUAL, 1, line);
    }
}

/// The configuration is that of the mount, and its nodes are the mount's concern.
#[test]
fn what_is_wrong_elsewhere_in_the_configuration_is_no_noise() {
    let desk = Desk::new("noise");
    let more = "mount.xattr = true\nnodez.a.source = /typo\nnodes.a.source = //wrong\n\
                nodes.b.source = /b\nnodes.b.owner = nobody-of-this-name\n";
    let config = fs::read_to_string(desk.path("config.ini")).unwrap();
    desk.file("config.ini", config + more);
    assert_eq!(desk.write(&USUAL), ended(0, DIFFERENCE, WRITTEN));
}

#[test]
fn who_may_not_is_told_what_to_do() {
    let desk = Desk::new("acl");
    let denied = |verb: &str| {
        format!(
            "Not authorised to {verb} /some/node. Please name a user whom its ACL lets {verb} it \
             in zookeeper.credentials. Nothing was written.\n"
        )
    };
    desk.sandbox.admin.set_acl_read_only("/some/node");
    let said = format!("{WRITING}{}", denied("write"));
    assert_eq!(desk.write(&USUAL), ended(1, DIFFERENCE, &said));
    desk.sandbox.admin.set_acl_nobody("/some/node");
    assert_eq!(desk.write(&USUAL), ended(1, "", &denied("read")));
    assert_eq!(desk.znode("/some/node"), ("old\n".into(), 0));
}

#[test]
fn credentials_come_from_the_secrets_file() {
    let desk = Desk::new("secrets");
    desk.sandbox
        .admin
        .set_acl_digest("/some/node", "writer:pass:word");
    let secrets = r#"{"vault": {}, "secrets": {
        "secret/right": {"type": "simple", "value": "d3JpdGVyOnBhc3M6d29yZA==", "encoding": "base64"},
        "secret/wrong": {"type": "simple", "value": "writer:guess"},
        "secret/other": {"type": "credential", "value": "x"}}}"#;
    let config = fs::read_to_string(desk.path("config.ini")).unwrap();
    desk.file("secrets.json", secrets);
    // Others could read it, of which there would be a line, too.
    let own = fs::Permissions::from_mode(0o600);
    fs::set_permissions(desk.path("secrets.json"), own).unwrap();
    let with = |names: &str| {
        desk.file(
            "config.ini",
            format!("{config}zookeeper.credentials = {names}\n"),
        );
        desk.write(&USUAL)
    };
    for (names, says) in [
        ("secret/wrong", "Not authorised to read /some/node."),
        ("secret/none", "secret not found: 'secret/none'"),
        (
            "secret/other",
            "secret/other: secret does not have type=simple",
        ),
    ] {
        let ended = with(names);
        assert_eq!(
            (ended.code, ended.said.lines().count()),
            (1, 1),
            "{}",
            ended.said
        );
        assert!(ended.said.contains(says), "{}", ended.said);
        assert!(!ended.said.contains("guess"), "{}", ended.said);
    }
    assert_eq!(desk.znode("/some/node"), ("old\n".into(), 0));
    assert_eq!(
        with("secret/wrong,secret/right"),
        ended(0, DIFFERENCE, WRITTEN)
    );
    assert_eq!(desk.znode("/some/node"), ("new\n".into(), 1));

    fs::remove_file(desk.path("secrets.json")).unwrap();
    let ended = with("secret/right");
    assert_eq!((ended.code, ended.said.lines().count()), (1, 1));
    assert!(
        ended.said.contains("cannot read the secrets file"),
        "{}",
        ended.said
    );
    // Who needs no secrets needs no secrets file.
    desk.sandbox.admin.set_acl_world("/some/node");
    desk.file("config.ini", &config);
    assert_eq!(desk.write(&USUAL).code, 0);
}

/// What is said to fit does, at the byte, and one byte more would cost the connection.
#[test]
fn the_largest_content_is_written() {
    let (desk, proxy) = Desk::with_proxy("large");
    let full_path = desk.sandbox.full_path("/some/node");
    let room = MAX_REQUEST - 20 - full_path.len();
    desk.file("input.json", vec![0xff; room + 1]);
    let line = format!(
        "input.json is too large: {} bytes, but at most {room} fit into /some/node. \
         Nothing was written.",
        room + 1
    );
    desk.fails(&USUAL, 1, &line);
    assert_eq!(proxy.n_accepted(), 0);

    desk.file("input.json", vec![0xff; room]);
    assert_eq!(desk.write(&USUAL).code, 0);
    let (content, stat) = desk.sandbox.admin.get("/some/node").unwrap();
    assert_eq!((content.len(), stat.version), (room, 1));
    // It can be read again, and replaced.
    assert_eq!(desk.write(&USUAL), ended(0, "", UNCHANGED));
    desk.file("input.json", "new\n");
    assert_eq!(desk.write(&USUAL).code, 0);

    for (length, fits) in [(room, true), (room + 1, false)] {
        let mut wire = Wire::connect(shared_server().address());
        let sent = wire.set(&full_path, &vec![0xff; length]);
        assert_eq!(sent.ok(), fits.then_some(0));
    }
}

#[test]
fn what_somebody_else_wrote_meanwhile_stands() {
    let (desk, proxy) = Desk::with_proxy("race");
    let said = format!("{WRITING}{CHANGED}");
    assert_eq!(
        race(Program::Ours, &desk, &proxy, "other\n"),
        ended(1, DIFFERENCE, &said)
    );
    assert_eq!(desk.znode("/some/node"), ("other\n".into(), 1));
    // Even if it was what we want to write, or what was there.
    let ended = race(Program::Ours, &desk, &proxy, "new\n");
    assert_eq!(ended.code, 1);
    assert!(ended.said.ends_with(CHANGED), "{}", ended.said);
    assert_eq!(desk.znode("/some/node"), ("new\n".into(), 2));
}

#[test]
fn a_node_that_is_deleted_meanwhile_stays_deleted() {
    let (desk, proxy) = Desk::with_proxy("deleted");
    let running = held(Program::Ours, &desk, &proxy);
    desk.sandbox.admin.delete("/some/node");
    proxy.release();
    assert_eq!(
        running.end(),
        ended(1, DIFFERENCE, &format!("{WRITING}{NO_NODE}"))
    );
    assert!(!desk.sandbox.admin.exists("/some/node"));
}

/// The reply is lost: only the znode can tell.
#[test]
fn a_write_without_an_answer_is_found() {
    let (desk, proxy) = Desk::with_proxy("applied");
    let running = held(Program::Ours, &desk, &proxy);
    proxy.set_to_client(Mode::Hole);
    proxy.release();
    wait_until(SOON, "the set is applied", || {
        desk.znode("/some/node").1 == 1
    });
    proxy.refuse();
    proxy.set(Mode::Pass);
    proxy.accept();
    let said = format!("{WRITING}{BROKE}Wrote data to Zookeeper.\n");
    assert_eq!(running.end(), ended(0, DIFFERENCE, &said));
    assert_eq!(desk.znode("/some/node"), ("new\n".into(), 1));
}

/// The request is lost; and what others do until the writer is back.
#[test]
fn a_write_that_is_lost_is_told_from_one_that_is_not_known() {
    let unknown = |why: &str| {
        format!(
            "The connection to ZooKeeper broke, and whether the data was written cannot be told: \
             {why}. Please look at the node before running it again.\n"
        )
    };
    let check = |meanwhile: &dyn Fn(&Desk), line: &str, after: Option<(&str, i32)>| {
        let (desk, proxy) = Desk::with_proxy("lost");
        let running = held(Program::Ours, &desk, &proxy);
        proxy.refuse();
        proxy.release();
        meanwhile(&desk);
        proxy.accept();
        let said = format!("{WRITING}{BROKE}{line}");
        assert_eq!(running.end(), ended(1, DIFFERENCE, &said));
        let found = desk.sandbox.admin.get("/some/node");
        let found = found.map(|(content, stat)| (content, stat.version));
        let after = after.map(|(content, version)| (content.as_bytes().to_vec(), version));
        assert_eq!(found, after);
    };
    let lost = "The connection to ZooKeeper broke before the data was written; the node is \
                unchanged. Please run it again.\n";
    check(&|_| (), lost, Some(("old\n", 0)));
    let set = |content: &'static str| {
        move |desk: &Desk| {
            desk.sandbox.admin.set("/some/node", content);
        }
    };
    check(&set("other\n"), CHANGED, Some(("other\n", 1)));
    let twice = |desk: &Desk| {
        set("one\n")(desk);
        set("other\n")(desk);
    };
    let line = unknown("somebody else wrote to the node meanwhile");
    check(&twice, &line, Some(("other\n", 2)));
    let back = |desk: &Desk| {
        set("one\n")(desk);
        set("new\n")(desk);
    };
    let line = unknown("the node holds this data, but it was written more than once meanwhile");
    check(&back, &line, Some(("new\n", 2)));
    let delete = |desk: &Desk| desk.sandbox.admin.delete("/some/node");
    let line = unknown("the node has been deleted meanwhile");
    check(&delete, &line, None);
}

#[test]
fn one_host_that_serves_is_enough() {
    let desk = Desk::new("hosts");
    let hosts = format!("{},{},{}", closed(), closed(), desk.sandbox.hosts());
    desk.config("config.ini", &hosts);
    assert_eq!(desk.write(&USUAL), ended(0, DIFFERENCE, WRITTEN));
}

/// A reader of the difference that goes away is a reason to stop, but not in a panic.
#[test]
fn closed_outputs_do_not_panic() {
    let desk = Desk::new("closed");
    let run = |redirections: &str| {
        let mut command = process::bound_to_us("bash", "KILL");
        command
            .args([
                "-c",
                &format!("set -o pipefail; \"$0\" \"$@\" {redirections}"),
            ])
            .arg(env!("CARGO_BIN_EXE_livedata-writer"))
            .args(USUAL)
            .current_dir(desk.dir.path())
            .env_remove("RUST_LOG")
            .stdout(Stdio::null());
        let mut child = process::spawn(command);
        let status = process::wait(&mut child, SOON).expect("it ends");
        let said = fs::read_to_string(desk.path("log")).unwrap_or_default();
        (status.code(), said)
    };
    // The exit code of head is 0; with pipefail that of the writer counts.
    let (code, said) = run("2>log | head -c 0");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.starts_with("cannot show the difference: Broken pipe"),
        "{said}"
    );
    let (code, said) = run("2>log >/dev/full");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.starts_with("cannot show the difference: No space left"),
        "{said}"
    );
    assert_eq!(desk.znode("/some/node").1, 0);
    assert_eq!(run("2>/dev/full").0, Some(0));
    assert_eq!(desk.znode("/some/node"), ("new\n".into(), 1));
}

/// Nobody listens: the writer tries for 15 s, and then names the host.
#[test]
fn it_gives_up_after_a_while() {
    let desk = Desk::new("down");
    let host = closed();
    desk.config("config.ini", &host);
    let before = Instant::now();
    let ended = desk.write(&USUAL);
    let start = format!("ZooKeeper was not reached within 15 s: {host}: Connection refused");
    assert_eq!((ended.code, &*ended.difference), (1, ""));
    assert!(ended.said.starts_with(&start), "{}", ended.said);
    assert!(
        ended.said.ends_with(". Nothing was written.\n"),
        "{}",
        ended.said
    );
    assert_eq!(ended.said.lines().count(), 1);
    assert!((15..25).contains(&before.elapsed().as_secs()));
}

/// Where Baseplate's writer behaves, ours says the same, and ends and writes the same.
#[test]
fn it_does_what_the_writer_of_baseplate_does() {
    fn check(case: &str, expected: (i32, &str), run: impl Fn(Program) -> Ended) {
        let ours = run(Program::Ours);
        let theirs = run(Program::Baseplate);
        // They differ in what they tell beforehand, and theirs mixes in the difference.
        let outcome = |ended: &Ended| {
            let lines = ended.said.lines();
            let said = lines.filter(|line| line.starts_with(char::is_uppercase));
            let said = said.filter(|line| !line.starts_with("Writing "));
            (
                ended.code,
                said.fold(String::new(), |said, line| said + line + "\n"),
            )
        };
        let expected = (expected.0, expected.1.to_owned());
        assert_eq!(outcome(&ours), expected, "ours, {case}: {}", ours.said);
        assert_eq!(
            outcome(&theirs),
            expected,
            "theirs, {case}: {}",
            theirs.said
        );
    }
    let write = |old: &[u8], new: &[u8], dest: &str, after: (&[u8], i32)| {
        let (old, new, after) = (old.to_vec(), new.to_vec(), (after.0.to_vec(), after.1));
        let dest = dest.to_owned();
        move |program: Program| {
            let desk = Desk::new("baseplate");
            desk.sandbox.admin.create("/node", &old);
            desk.file("input.json", &new);
            let arguments = ["config.ini", "input.json", dest.as_str()];
            let dir = desk.dir.path();
            let ended = Running::start(program, dir, &arguments, Stdio::null()).end();
            let (content, stat) = desk.sandbox.admin.get("/node").unwrap();
            assert_eq!((content, stat.version), after, "{program:?}");
            ended
        }
    };
    let wrote = (0, "Wrote data to Zookeeper.\n");
    check(
        "changed",
        wrote,
        write(b"a\n", b"b\n", "/node", (b"b\n", 1)),
    );
    check("relative", wrote, write(b"a\n", b"b", "node", (b"b", 1)));
    check("emptied", wrote, write(b"a\n", b"", "/node", (b"", 1)));
    check("filled", wrote, write(b"", b"\r\n", "/node", (b"\r\n", 1)));
    check(
        "equal",
        (0, UNCHANGED),
        write(b"a\n", b"a\n", "/node", (b"a\n", 0)),
    );
    check(
        "both empty",
        (0, UNCHANGED),
        write(b"", b"", "/node", (b"", 0)),
    );
    let binary = "Skipping diff, data appears to be binary.\nWrote data to Zookeeper.\n";
    check(
        "binary",
        (0, binary),
        write(b"\xff", b"a", "/node", (b"a", 1)),
    );
    check(
        "to binary",
        (0, binary),
        write(b"a", b"\x80", "/node", (b"\x80", 1)),
    );
    check(
        "missing",
        (1, NO_NODE),
        write(b"a", b"b", "/none", (b"a", 0)),
    );
    check("race", (1, CHANGED), |program| {
        let (desk, proxy) = Desk::with_proxy("baseplate");
        let ended = race(program, &desk, &proxy, "other\n");
        assert_eq!(
            desk.znode("/some/node"),
            ("other\n".into(), 1),
            "{program:?}"
        );
        ended
    });
    for (case, arguments) in [
        ("no source", ["config.ini", "missing", "/some/node"]),
        ("no config", ["missing", "input.json", "/some/node"]),
        ("a directory", ["config.ini", ".", "/some/node"]),
    ] {
        for program in [Program::Ours, Program::Baseplate] {
            let desk = Desk::new("baseplate");
            let dir = desk.dir.path();
            let ended = Running::start(program, dir, &arguments, Stdio::null()).end();
            assert_eq!(ended.code, 2, "{case}, {program:?}: {}", ended.said);
        }
    }
}

/// A writer that has read the znode, and whose set waits in the proxy.
#[track_caller]
fn held(program: Program, desk: &Desk, proxy: &Proxy) -> Running {
    proxy.hold_sets();
    let running = Running::start(program, desk.dir.path(), &USUAL, Stdio::null());
    wait_until(SOON, "the set is held", || proxy.n_held() == 1);
    running
}

/// Writes, and somebody else writes `content` between the reading and the setting.
#[track_caller]
fn race(program: Program, desk: &Desk, proxy: &Proxy, content: &str) -> Ended {
    let running = held(program, desk, proxy);
    desk.sandbox.admin.set("/some/node", content);
    proxy.release();
    running.end()
}

/// An address where nobody listens.
fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
