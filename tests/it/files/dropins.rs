//! Drop-ins: files with more nodes, followed while the mount runs.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::config;
use crate::support::as_user::NOBODY;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_for, wait_until};
use crate::support::zookeeper::Sandbox;
use crate::watching::events::Watcher;

/// A directory of drop-ins, there before the mount is.
struct Dropins(TempDir);

impl Dropins {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file in place.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes a file elsewhere, and renames it.
    fn replace(&self, name: &str, text: &str) {
        let temporary = self.path(".new");
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.path(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// A mount with these drop-ins, and the node `main` in the main file.
    fn mount(&self, sandbox: &Sandbox) -> Mount {
        Mount::start(&self.config(sandbox, "nodes.main.source = /main"))
    }

    fn config(&self, sandbox: &Sandbox, nodes: &str) -> String {
        let dir = self.0.path().display();
        let lines = format!("mount.dropin_dir = {dir}\n{nodes}");
        config(&sandbox.hosts(), &lines)
    }
}

fn sandbox(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    for name in ["main", "a", "b", "c"] {
        sandbox.admin.create(&format!("/{name}"), name);
    }
    sandbox
}

/// What is wrong with each drop-in, in name order; null where nothing is.
fn errors(mount: &Mount) -> Vec<Value> {
    let details = mount.details();
    let dropins = details["dropins"].as_array().cloned().unwrap_or_default();
    dropins
        .into_iter()
        .map(|mut dropin| dropin["error"].take())
        .collect()
}

/// Waits until the one drop-in is wrong for this reason.
#[track_caller]
fn wait_for_error(mount: &Mount, what: &str) {
    wait_until(SOON, &format!("the status says {what:?}"), || {
        errors(mount)
            .iter()
            .any(|error| error.as_str().is_some_and(|error| error.contains(what)))
    });
    let complaints = mount.details()["complaints"].to_string();
    assert!(complaints.contains("1 drop-in is wrong"), "{complaints}");
}

/// Waits until the status complains of the directory.
#[track_caller]
fn wait_for_complaint(mount: &Mount, what: &str) {
    wait_until(SOON, &format!("the status complains {what:?}"), || {
        mount.details()["complaints"].to_string().contains(what)
    });
}

#[track_caller]
fn wait_until_right(mount: &Mount) {
    wait_until(SOON, "all drop-ins are right", || {
        let details = mount.details();
        details["complaints"] == serde_json::json!([]) && errors(mount).iter().all(Value::is_null)
    });
}

#[test]
fn drop_ins_come_change_and_go() {
    let sandbox = sandbox("dropins");
    let dropins = Dropins::new();
    dropins.write("a.ini", "nodes.a.source = /a\nnodes.a.dest = dir/a");
    let mount = dropins.mount(&sandbox);
    assert_eq!(mount.read("dir/a").unwrap(), b"a", "it is there at once");
    let session = mount.session();
    let main = (mount.ino("main"), mount.mtime("main"));
    let watcher = Watcher::new([mount.path("main")]);

    // Both ways of writing a file.
    dropins.replace("b.ini", "nodes.b.source = /b");
    mount.wait_for_content("b", "b");
    dropins.write("c.ini", "nodes.c.source = /c");
    mount.wait_for_content("c", "c");
    let c = (mount.ino("c"), mount.mtime("c"));
    dropins.write("a.ini", "nodes.a.source = /a\nnodes.a.dest = other/a");
    mount.wait_for_content("other/a", "a");
    mount.wait_until_gone("dir");
    dropins.replace("b.ini", "nodes.b.source = /b\nnodes.b.dest = b2");
    mount.wait_for_content("b2", "b");
    mount.wait_until_gone("b");
    // They follow their znodes.
    sandbox.admin.set("/a", "new");
    mount.wait_for_content("other/a", "new");
    // An empty file defines nothing.
    dropins.write("a.ini", "");
    mount.wait_until_gone("other");
    dropins.remove("b.ini");
    mount.wait_until_gone("b2");

    assert_eq!((mount.ino("c"), mount.mtime("c")), c);
    assert_eq!((mount.ino("main"), mount.mtime("main")), main);
    assert_eq!(watcher.now(), [], "nobody else's file was touched");
    assert_eq!(mount.session(), session, "the session goes on");
    wait_until_right(&mount);
}

#[test]
fn a_reload_reads_drop_ins_too() {
    let sandbox = sandbox("dropins-hup");
    let dropins = Dropins::new();
    dropins.write("b.ini", "nodes.b.source = /b");
    let mount = dropins.mount(&sandbox);
    // The node moves from the main file to a drop-in, and is never away.
    dropins.write("moved.ini", "nodes.main.source = /main");
    let with_c = dropins.config(&sandbox, "nodes.c.source = /c\ndefaults.mode = 0440");
    mount.reload(&with_c);
    wait_until(SOON, "the reload is done", || {
        assert_eq!(mount.read("main").as_deref(), Some(&b"main"[..]));
        mount.n_logged("reloaded: 3 nodes") == 1
    });
    mount.wait_for_content("c", "c");
    // The defaults are those of the main file.
    wait_until(SOON, "the new mode", || {
        ["main", "b", "c"]
            .iter()
            .all(|file| mount.meta(file).permissions().mode() & 0o777 == 0o440)
    });
    assert_eq!(mount.n_logged("mount.* changed"), 0);
    assert_eq!(
        (mount.read("main").unwrap(), mount.read("b").unwrap()),
        (b"main".into(), b"b".into())
    );
}

#[test]
fn a_wrong_drop_in_keeps_what_it_defined() {
    let sandbox = sandbox("dropins-wrong");
    let dropins = Dropins::new();
    dropins.write("a.ini", "nodes.a.source = /a");
    let mount = dropins.mount(&sandbox);
    let ino = mount.ino("a");
    for (wrong, why) in [
        ("no INI at all", "a.ini:1"),
        (
            "zookeeper.hosts = evil\nnodes.b.source = /b",
            "a drop-in holds nodes",
        ),
    ] {
        dropins.write("a.ini", wrong);
        wait_for_error(&mount, why);
        assert_eq!(mount.ino("a"), ino);
        assert!(!mount.has("b"));
    }
    assert_eq!(
        mount.n_logged("a drop-in holds nodes"),
        1,
        "it is said once"
    );
    // It goes on with what it has, also through a reload.
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    mount.signal(Signal::HUP);
    mount.wait_for_log(1, "reloaded: 2 nodes");
    assert_eq!(mount.read("a").unwrap(), b"2");
    // Of one that is right as a whole, only the wrong node is left out.
    dropins.write(
        "a.ini",
        "nodes.b.source = /b\nnodes.c.source = /c\nnodes.c.mode = 999",
    );
    mount.wait_for_content("b", "b");
    mount.wait_until_gone("a");
    assert!(!mount.has("c"));
    wait_for_error(&mount, "nodes.c.mode");
    dropins.write("a.ini", "nodes.a.source = /a");
    mount.wait_for_content("a", "2");
    mount.wait_until_gone("b");
    wait_until_right(&mount);
}

#[test]
fn a_half_written_drop_in_takes_nothing_away() {
    let sandbox = sandbox("dropins-half");
    let dropins = Dropins::new();
    dropins.write("ab.ini", "nodes.a.source = /a\nnodes.b.source = /b");
    let mount = dropins.mount(&sandbox);
    let inos = || (mount.ino("a"), mount.ino("b"));
    let before = inos();
    // Truncated, then half of it: that alone would be right.
    let mut half = File::create(dropins.path("ab.ini")).unwrap();
    for (n, text) in ["", "nodes.a.source = /a\n"].iter().enumerate() {
        half.write_all(text.as_bytes()).unwrap();
        // The writer is slow, and others have their drop-ins read meanwhile.
        let other = format!("nodes.c.source = /c\nnodes.c.dest = c{n}");
        dropins.write("c.ini", &other);
        mount.wait_for_content(&format!("c{n}"), "c");
        mount.signal(Signal::HUP);
        mount.wait_for_log(n + 1, "reloaded: ");
        holds_for(Duration::from_millis(300), "nothing goes", || {
            inos() == before
        });
    }
    half.write_all(b"nodes.main2.source = /main\n").unwrap();
    drop(half);
    mount.wait_for_content("main2", "main");
    mount.wait_until_gone("b");
    assert_eq!(mount.ino("a"), before.0);
    // An editor that moves the old file away first.
    fs::rename(dropins.path("ab.ini"), dropins.path("ab.ini~")).unwrap();
    dropins.write("ab.ini", "nodes.a.source = /a\nnodes.b.source = /b");
    dropins.remove("ab.ini~");
    wait_until(SOON, "the new one is taken", || {
        assert!(mount.has("a"));
        mount.has("b")
    });
    assert_eq!(mount.ino("a"), before.0);
}

#[test]
fn the_first_drop_in_has_the_dest() {
    let sandbox = sandbox("dropins-dest");
    let dropins = Dropins::new();
    let at_x = |node| format!("nodes.{node}.source = /{node}\nnodes.{node}.dest = x");
    dropins.write("1.ini", &at_x("a"));
    dropins.write("2.ini", &at_x("b"));
    let mount = dropins.mount(&sandbox);
    assert_eq!(mount.read("x").unwrap(), b"a");
    wait_for_error(&mount, "1.ini:1) has the file \"x\" already");
    assert!(errors(&mount)[0].is_null(), "the first is right");
    dropins.remove("1.ini");
    mount.wait_for_content("x", "b");
    wait_until_right(&mount);
    // The main file comes first, and a name is claimed as a dest is.
    dropins.write("0.ini", "nodes.main.source = /c\nnodes.main.dest = y");
    wait_for_error(&mount, "has a node of this name already");
    assert!(!mount.has("y"));
    dropins.write("0.ini", "nodes.y.source = /c\nnodes.y.dest = main/y");
    wait_for_error(&mount, "\"main\" is a file, of nodes.main");
    assert_eq!(mount.read("main").unwrap(), b"main");
}

#[test]
fn a_drop_in_that_others_can_write_is_refused() {
    let sandbox = sandbox("dropins-owner");
    let dropins = Dropins::new();
    dropins.write("a.ini", "nodes.a.source = /a");
    let path = dropins.path("a.ini");
    let mode = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    mode(0o664);
    let mount = dropins.mount(&sandbox);
    assert!(!mount.has("a"));
    wait_for_error(
        &mount,
        "a.ini: refused: others than its owner can write it (mode 0664)",
    );
    mount.wait_for_log(
        1,
        "a.ini: refused: others than its owner can write it (mode 0664)",
    );
    mode(0o644);
    mount.wait_for_content("a", "a");
    wait_until_right(&mount);
    let ino = mount.ino("a");
    chown(&path, Some(NOBODY), None).unwrap();
    wait_for_error(&mount, "a.ini: refused: it belongs to the user 65534");
    dropins.write("a.ini", "nodes.b.source = /b");
    holds_for(
        Duration::from_millis(500),
        "what it says is not taken",
        || !mount.has("b") && mount.ino("a") == ino,
    );
    // What a link points to counts, and a pipe is not waited for.
    symlink(&path, dropins.path("link.ini")).unwrap();
    let made = Command::new("mkfifo")
        .arg(dropins.path("pipe.ini"))
        .status();
    assert!(made.unwrap().success());
    wait_until(SOON, "both are refused", || {
        let errors = errors(&mount);
        errors.len() == 3
            && errors[1].to_string().contains("belongs to the user 65534")
            && errors[2].to_string().contains("no regular file")
    });
    chown(&path, Some(0), None).unwrap();
    mount.wait_for_content("b", "b");
    mount.wait_until_gone("a");
}

#[test]
fn temporary_files_of_editors_are_no_drop_ins() {
    let sandbox = sandbox("dropins-editors");
    let dropins = Dropins::new();
    let names = [
        ".a.ini.swp",
        ".a.ini",
        "a.ini~",
        "#a.ini#",
        "4913",
        ".#a.ini",
        "a.ini.bak",
        "a",
    ];
    for name in names {
        dropins.write(name, "nodes.a.source = /a");
    }
    let mount = dropins.mount(&sandbox);
    for name in names {
        dropins.write(name, "nodes.a.source = /a\n");
    }
    dropins.write("z.ini", "nodes.b.source = /b");
    mount.wait_for_content("b", "b");
    assert!(!mount.has("a"));
    assert_eq!(errors(&mount), [Value::Null]);
}

#[test]
fn a_successor_keeps_what_a_drop_in_defined() {
    let sandbox = sandbox("dropins-successor");
    let dropins = Dropins::new();
    dropins.write("a.ini", "nodes.a.source = /a");
    dropins.write("b.ini", "nodes.b.source = /b");
    let mount = dropins.mount(&sandbox);
    dropins.write("c.ini", "nodes.c.source = /c\nnodes.c.dest = dir/c");
    mount.wait_for_content("dir/c", "c");
    let inos = ["a", "b", "dir/c"].map(|file| mount.ino(file));
    let mut half = None;
    for n in 1..=3 {
        let server = mount.server().unwrap();
        kill_process(server, Signal::STOP).unwrap();
        // It sees nothing of all this. The second time everything is a reason to keep.
        match n {
            1 => dropins.write("a.ini", "no INI at all"),
            2 => {
                half = Some(File::create(dropins.path("c.ini")).unwrap());
                fs::write(mount.config(), "no INI at all").unwrap();
            }
            _ => {}
        }
        kill_process(server, Signal::KILL).unwrap();
        wait_until(SOON, "another server", || {
            mount.server().is_some_and(|other| other != server) && !mount.details().is_null()
        });
        let content = format!("after {n}");
        for (name, file) in [("a", "a"), ("b", "b"), ("c", "dir/c")] {
            assert!(mount.has(file), "{file}, {n}");
            sandbox.admin.set(&format!("/{name}"), &content);
            mount.wait_for_content(file, &content);
        }
    }
    assert_ne!(["a", "b", "dir/c"].map(|file| mount.ino(file)), inos);
    // The writer of the other one is slow, and goes on.
    let mut half = half.unwrap();
    wait_until(SOON, "a.ini is wrong", || {
        half.write_all(b"#\n").unwrap();
        errors(&mount)[0].to_string().contains("a.ini:1")
    });
    assert!(mount.has("a") && mount.has("dir/c"));
    half.write_all(b"nodes.c.source = /c\n").unwrap();
    drop(half);
    mount.wait_for_content("c", "after 3");
    dropins.remove("b.ini");
    mount.wait_until_gone("b");
    assert_eq!(mount.read("a").unwrap(), b"after 3");
}

#[test]
fn the_directory_may_come_and_go() {
    let sandbox = sandbox("dropins-dir");
    let mount = Mount::start(&config(&sandbox.hosts(), "nodes.main.source = /main"));
    let ino = mount.ino("main");
    let dir = mount.config().with_file_name("mount.d");
    assert_eq!(mount.n_logged("mount.d"), 0, "nobody asked for it");
    for n in 1..=2 {
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("a.ini"), "nodes.a.source = /a").unwrap();
        mount.wait_for_content("a", "a");
        fs::write(dir.join("b.ini"), "nodes.b.source = /b").unwrap();
        mount.wait_for_content("b", "b");
        // It is the directory that is away, not the files.
        let inos = || (mount.ino("a"), mount.ino("b"));
        let before = inos();
        let elsewhere = dir.with_file_name("elsewhere");
        fs::rename(&dir, &elsewhere).unwrap();
        wait_for_complaint(&mount, "there are no drop-ins any more");
        mount.wait_for_log(2 * n - 1, "there are no drop-ins any more");
        holds_for(Duration::from_secs(3), "they stay", || inos() == before);
        mount.signal(Signal::HUP);
        mount.wait_for_log(n, "reloaded: 3 nodes");
        fs::rename(&elsewhere, &dir).unwrap();
        wait_until_right(&mount);
        assert_eq!(inos(), before);
        fs::remove_dir_all(&dir).unwrap();
        let start = Instant::now();
        mount.wait_until_gone("a");
        assert!(start.elapsed() > Duration::from_secs(8), "they had time");
        mount.wait_until_gone("b");
        wait_until_right(&mount);
    }
    // As Kubernetes shows a config map: one rename exchanges all files.
    let version = |n: usize, node: &str| {
        let version = dir.join(format!("..{n}"));
        fs::create_dir(&version).unwrap();
        let text = format!("nodes.{node}.source = /{node}");
        fs::write(version.join("x.ini"), text).unwrap();
        symlink(format!("..{n}"), dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    fs::create_dir(&dir).unwrap();
    version(1, "a");
    symlink("..data/x.ini", dir.join("x.ini")).unwrap();
    mount.wait_for_content("a", "a");
    version(2, "b");
    mount.wait_for_content("b", "b");
    mount.wait_until_gone("a");
    assert_eq!(mount.ino("main"), ino);
}

/// Anybody could write there, as far as the mode of the volume says, but not to what is in it.
#[test]
fn the_data_of_a_kubernetes_volume_may_be_named() {
    let sandbox = sandbox("dropins-volume");
    let volume = tempfile::tempdir().unwrap();
    fs::set_permissions(volume.path(), Permissions::from_mode(0o777)).unwrap();
    let path = |name: &str| volume.path().join(name);
    let version = |n: usize, node: &str| {
        fs::create_dir(path(&format!("..{n}"))).unwrap();
        let text = format!("nodes.{node}.source = /{node}");
        fs::write(path(&format!("..{n}/x.ini")), text).unwrap();
        symlink(format!("..{n}"), path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    version(1, "a");
    symlink("..data/x.ini", path("x.ini")).unwrap();
    let lines = format!("mount.dropin_dir = {}", path("..data").display());
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    assert!(mount.has("a"));
    let start = Instant::now();
    version(2, "b");
    mount.wait_for_content("b", "b");
    assert!(start.elapsed() < Duration::from_secs(5), "it is told of");
    mount.wait_until_gone("a");
    wait_until_right(&mount);
}

/// Another mount, whose server is stopped, is a file system that does not answer.
#[test]
fn a_directory_that_does_not_answer_holds_up_nothing() {
    let sandbox = sandbox("dropins-hang");
    sandbox.admin.create("/dropin", "nodes.a.source = /a");
    let lines = "nodes.dropin.source = /dropin\nnodes.dropin.dest = dir/a.ini";
    let other = Mount::start(&config(&sandbox.hosts(), lines));
    let other_server = other.server().unwrap();
    kill_process(other_server, Signal::STOP).unwrap();
    let dir = other.path("dir");
    let lines = format!(
        "mount.dropin_dir = {}\nnodes.main.source = /main",
        dir.display()
    );
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    assert!(mount.has("main") && !mount.has("a"));
    assert_eq!(mount.n_logged("does not answer"), 1);
    wait_for_complaint(&mount, "does not answer");
    sandbox.admin.set("/main", "2");
    mount.wait_for_content("main", "2");
    mount.signal(Signal::HUP);
    mount.wait_for_log(1, "reloaded: 1 nodes");
    // A successor has its mirror before it knows of the directory.
    let server = mount.server().unwrap();
    kill_process(server, Signal::KILL).unwrap();
    sandbox.admin.set("/main", "3");
    mount.wait_for_content("main", "3");
    wait_for_complaint(&mount, "does not answer");
    assert_ne!(mount.server(), Some(server));
    kill_process(other_server, Signal::CONT).unwrap();
    mount.wait_for_content("a", "a");
    wait_until_right(&mount);
    sandbox.admin.set("/dropin", "nodes.b.source = /b");
    mount.wait_for_content("b", "b");
    mount.wait_until_gone("a");
}

/// Under a lease, a file cannot be opened for a while, and looks as it did before.
#[test]
fn a_drop_in_that_could_not_be_read_is_read_again() {
    const LEASE: &str = "import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print(flush=True)
sys.stdin.read()";
    let sandbox = sandbox("dropins-lease");
    let dropins = Dropins::new();
    let mount = dropins.mount(&sandbox);
    dropins.write("a.new", "nodes.a.source = /a");
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-I", "-S", "-c", LEASE]);
    command.arg(dropins.path("a.new"));
    let mut holder = (command.stdin(Stdio::piped()).stdout(Stdio::piped()))
        .spawn()
        .unwrap();
    let mut line = [0];
    let read = holder.stdout.as_mut().unwrap().read(&mut line);
    assert_eq!(read.unwrap(), 1, "there is a lease");
    fs::rename(dropins.path("a.new"), dropins.path("a.ini")).unwrap();
    wait_for_error(&mount, "a.ini: cannot be read");
    assert!(!mount.has("a"));
    drop(holder.stdin.take());
    holder.wait().unwrap();
    mount.wait_for_content("a", "a");
    wait_until_right(&mount);
    assert_eq!(
        mount.n_logged("a.ini: cannot be read"),
        1,
        "it is said once"
    );
}

/// The server would wait for itself.
#[test]
fn a_link_into_the_mount_is_not_followed() {
    let sandbox = sandbox("dropins-inside");
    sandbox.admin.create("/dropin", "nodes.b.source = /b");
    let dropins = Dropins::new();
    let nodes = "nodes.main.source = /main\nnodes.d.source = /dropin\nnodes.d.dest = dir/d.ini";
    let mount = Mount::start(&dropins.config(&sandbox, nodes));
    // The kernel knows nothing yet of what is in the mount.
    let n_requests = || mount.details()["requests"].clone();
    let before = n_requests();
    symlink(mount.path("dir"), dropins.path("by-dir")).unwrap();
    for (link, target) in [
        ("1.ini", mount.path("dir/d.ini")),
        ("2.ini", mount.path("nothing/d.ini")),
        ("3.ini", "by-dir/d.ini".into()),
        ("4.ini", mount.root().join("../mnt/dir/../dir/d.ini")),
        ("5.ini", mount.root()),
    ] {
        symlink(target, dropins.path(link)).unwrap();
    }
    wait_until(SOON, "all are refused", || {
        let errors = errors(&mount);
        let inside = |error: &Value| error.to_string().contains("is in the mount itself");
        errors.len() == 5 && errors.iter().all(inside)
    });
    assert_eq!(n_requests(), before, "the mount was not asked");
    assert!(mount.has("dir/d.ini") && !mount.has("b"));
    // Others are.
    fs::write(dropins.path("elsewhere"), "nodes.b.source = /b").unwrap();
    symlink("elsewhere", dropins.path("6.ini")).unwrap();
    mount.wait_for_content("b", "b");
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let sandbox = sandbox("dropins-dir-owner");
    let dropins = Dropins::new();
    dropins.write("a.ini", "nodes.a.source = /a");
    let mount = dropins.mount(&sandbox);
    let ino = mount.ino("a");
    let path = dropins.path("");
    let mode = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    for (n, bits) in [0o775, 0o1777, 0o757].into_iter().enumerate() {
        mode(bits);
        let why = format!("refused: others than its owner can write it (mode {bits:04o})");
        wait_for_complaint(&mount, &why);
        mount.wait_for_log(1, &why);
        dropins.write("b.ini", &format!("nodes.b{n}.source = /b"));
        dropins.write("a.ini", "");
        let stays = || mount.ino("a") == ino && !mount.has(&format!("b{n}"));
        holds_for(Duration::from_secs(2), "what it defined stays", stays);
        dropins.write("a.ini", "nodes.a.source = /a");
        mode(0o755);
        mount.wait_for_content(&format!("b{n}"), "b");
        wait_until_right(&mount);
        assert_eq!(mount.ino("a"), ino);
    }
    chown(&path, Some(NOBODY), None).unwrap();
    wait_for_complaint(
        &mount,
        "refused: it belongs to the user 65534; the directory must",
    );
    dropins.write("c.ini", "nodes.c.source = /c");
    holds_for(Duration::from_secs(2), "nothing is taken", || {
        mount.ino("a") == ino && !mount.has("c")
    });
    // At a start, too.
    let other = dropins.mount(&sandbox);
    assert!(other.has("main") && !other.has("a"));
    chown(&path, Some(0), None).unwrap();
    mount.wait_for_content("c", "c");
    other.wait_for_content("a", "a");
    wait_until_right(&mount);
}

#[test]
fn a_thousand_drop_ins() {
    const N: usize = 1000;
    let sandbox = Sandbox::new("dropins-many");
    sandbox.admin.create("/main", "main");
    let dropins = Dropins::new();
    let text = |n: usize| format!("nodes.n{n}.source = /main\nnodes.n{n}.dest = many/{n}\n");
    for n in 0..N {
        dropins.write(&format!("{n}.ini"), &text(n));
    }
    let start = Instant::now();
    let mount = dropins.mount(&sandbox);
    println!("{N} drop-ins: mounted after {:?}", start.elapsed());
    let count = || fs::read_dir(mount.path("many")).map_or(0, Iterator::count);
    assert_eq!(count(), N);
    // All of them change at once.
    for n in 0..N {
        dropins.replace(&format!("{n}.ini"), &text(n + N));
    }
    let start = Instant::now();
    wait_for(SOON, "all are taken", || {
        (mount.has(&format!("many/{}", 2 * N - 1)) && count() == N).then_some(())
    });
    println!("{N} drop-ins: changed after {:?}", start.elapsed());
    wait_until_right(&mount);
}
