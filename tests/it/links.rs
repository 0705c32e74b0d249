//! Links outside of the mount that lead into it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::files::config;
use crate::support::as_user::NOBODY;
use crate::support::mount::Mount;
use crate::support::place::{self, Place};
use crate::support::shown::SOON;
use crate::support::wait::{holds_for, wait_until};
use crate::support::zookeeper::Sandbox;
use crate::survival::kept::{kill, next_of, processes, status, wait_status};

/// A directory for links, and znodes for them.
struct Outside {
    sandbox: Sandbox,
    dir: TempDir,
}

impl Outside {
    /// With the znodes `/a` and `/b`.
    fn new(name: &str) -> Self {
        let sandbox = Sandbox::new(name);
        for name in ["a", "b"] {
            sandbox.admin.create(&format!("/{name}"), name);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { sandbox, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A configuration with links; each node is a name, which is its znode, and a place.
    fn config(&self, nodes: &[(&str, &str)]) -> String {
        self.config_with("mount.links = true", nodes)
    }

    fn config_with(&self, more: &str, nodes: &[(&str, &str)]) -> String {
        let mut lines = more.to_owned();
        for (at, (znode, place)) in nodes.iter().enumerate() {
            lines += &self.node(&format!("n{at}"), znode, place);
        }
        config(&self.sandbox.hosts(), &lines)
    }

    fn node(&self, name: &str, znode: &str, place: &str) -> String {
        let dest = self.path(place);
        format!(
            "\nnodes.{name}.source = /{znode}\nnodes.{name}.dest = {}",
            dest.display()
        )
    }

    /// Where the link at this place leads in a mount.
    fn target(&self, mount: &Mount, place: &str) -> PathBuf {
        let root = mount.root().canonicalize().unwrap();
        root.join(self.path(place).strip_prefix("/").unwrap())
    }

    fn is_link(&self, mount: &Mount, place: &str) -> bool {
        fs::read_link(self.path(place)).is_ok_and(|found| found == self.target(mount, place))
    }

    fn is_nothing(&self, place: &str) -> bool {
        fs::symlink_metadata(self.path(place)).is_err()
    }

    #[track_caller]
    fn wait_until_nothing(&self, place: &str) {
        wait_until(SOON, &format!("{place} is gone"), || self.is_nothing(place));
    }
}

/// The list of the links, as the mount keeps it.
fn list(mount: &Mount) -> PathBuf {
    livedata::keeper::list_of_links(&mount.root().canonicalize().unwrap()).unwrap()
}

fn links(status: &Value) -> &Value {
    &status["details"]["links"]
}

#[track_caller]
fn end(mount: &mut Mount) {
    mount.signal(Signal::TERM);
    assert_eq!(mount.wait(), Some(0), "{}", mount.log());
}

#[test]
fn a_link_is_there_while_the_mount_is() {
    let outside = Outside::new("links");
    let nodes = [
        ("a", "etc/app/a.json"),
        ("b", "b"),
        ("none", "etc/app/none"),
    ];
    let mut mount = Mount::start(&outside.config(&nodes));
    // There from the start, parents too.
    assert_eq!(
        fs::read_to_string(outside.path("etc/app/a.json")).unwrap(),
        "a"
    );
    assert_eq!(fs::read_to_string(outside.path("b")).unwrap(), "b");
    for (_, place) in nodes {
        assert!(outside.is_link(&mount, place), "{place}");
    }
    assert!(fs::read(outside.path("etc/app/none")).is_err());
    let made = fs::metadata(outside.path("etc/app")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid()), (0o755, 0));
    // What the link leads to follows the znode.
    outside.sandbox.admin.set("/a", "new");
    wait_until(SOON, "the new content", || {
        fs::read_to_string(outside.path("etc/app/a.json")).unwrap() == "new"
    });
    let status = status(&mount);
    assert_eq!(links(&status)["wanted"], 3);
    assert_eq!(links(&status)["there"], 3);
    assert_eq!(status["details"]["complaints"].as_array().unwrap().len(), 0);
    // A takeover is no end of them, nor is an upgrade.
    let ino = fs::symlink_metadata(outside.path("b")).unwrap().ino();
    let server = processes(&mount)[0];
    kill(server);
    let server = next_of(&mount, "server", server);
    wait_status(&mount, "it tells of links", |status| {
        links(status)["there"] == 3
    });
    mount.signal(Signal::USR2);
    next_of(&mount, "server", server);
    wait_status(&mount, "it tells of links", |status| {
        links(status)["there"] == 3
    });
    assert_eq!(fs::symlink_metadata(outside.path("b")).unwrap().ino(), ino);

    end(&mut mount);
    // At once, with what was made for them; and nothing else.
    for place in ["etc/app/a.json", "etc", "b"] {
        assert!(outside.is_nothing(place), "{place}");
    }
    assert!(outside.dir.path().exists());
    assert!(!list(&mount).exists());
}

#[test]
fn whoever_unmounts_the_links_go() {
    let outside = Outside::new("links-umount");
    let livedata = env!("CARGO_BIN_EXE_livedata-fuse");
    for (program, arguments) in [
        ("umount", &[][..]),
        ("umount", &["-l"]),
        (livedata, &["umount"]),
    ] {
        let mut mount = Mount::start(&outside.config(&[("a", "d/a")]));
        assert!(outside.is_link(&mount, "d/a"));
        // With files open, `umount -l` leaves the processes; not the links.
        let held = (arguments == ["-l"]).then(|| fs::File::open(mount.path("")).unwrap());
        let output = Command::new(program)
            .args(arguments)
            .arg(mount.root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        outside.wait_until_nothing("d/a");
        outside.wait_until_nothing("d");
        if held.is_some() {
            // Files are served to the end; there are no links any more, whatever comes.
            mount.reload(&outside.config(&[("a", "d/a"), ("b", "d/b")]));
            mount.wait_for_log(1, "reloaded: 2 nodes");
            mount.wait_for_log(1, "no link is made: the mount is gone");
            assert!(outside.is_nothing("d"));
        }
        drop(held);
        assert_eq!(mount.wait(), Some(0));
        assert!(!list(&mount).exists());
    }
}

#[test]
fn what_is_not_ours_is_left_alone_and_reported() {
    let outside = Outside::new("links-foreign");
    fs::write(outside.path("file"), "theirs").unwrap();
    fs::create_dir(outside.path("dir")).unwrap();
    symlink("/nowhere", outside.path("link")).unwrap();
    fs::write(outside.path("parent"), "theirs").unwrap();
    let nodes = [
        ("a", "file"),
        ("a", "dir"),
        ("a", "link"),
        ("a", "parent/a"),
        ("b", "good"),
    ];
    let mut mount = Mount::start(&outside.config(&nodes));
    assert!(outside.is_link(&mount, "good"));
    let status = status(&mount);
    assert_eq!(links(&status)["wanted"], 5);
    assert_eq!(links(&status)["there"], 1);
    let problems = links(&status)["problems"].to_string();
    for why in [
        "file: something that is no symbolic link stands there, which is left alone",
        "dir: something that is no symbolic link stands there",
        "link: a symbolic link to /nowhere stands there",
        "parent: Not a directory",
    ] {
        assert!(problems.contains(why), "{why}: {problems}");
        mount.wait_for_log(1, why);
    }
    let complaints = status["details"]["complaints"].to_string();
    assert!(
        complaints.contains("4 links are not as they should be"),
        "{complaints}"
    );
    // Once it makes way, the next reload sees to it.
    fs::remove_file(outside.path("file")).unwrap();
    mount.signal(Signal::HUP);
    wait_until(SOON, "the link", || outside.is_link(&mount, "file"));
    end(&mut mount);
    assert!(outside.is_nothing("good") && outside.is_nothing("file"));
    assert!(outside.path("dir").is_dir());
    assert_eq!(
        fs::read_link(outside.path("link")).unwrap(),
        Path::new("/nowhere")
    );
    assert_eq!(
        fs::read_to_string(outside.path("parent")).unwrap(),
        "theirs"
    );
}

#[test]
fn what_others_put_in_the_place_of_a_link_stays() {
    let outside = Outside::new("links-replaced");
    let mut mount = Mount::start(&outside.config(&[("a", "d/a"), ("b", "d/b")]));
    fs::remove_file(outside.path("d/a")).unwrap();
    fs::write(outside.path("d/a"), "theirs").unwrap();
    end(&mut mount);
    assert_eq!(fs::read_to_string(outside.path("d/a")).unwrap(), "theirs");
    assert!(outside.is_nothing("d/b"));
}

#[test]
fn after_all_processes_were_killed_the_next_mount_takes_over() {
    let outside = Outside::new("links-killed");
    let mut mount = Mount::start(&outside.config(&[("a", "d/a"), ("b", "e/b")]));
    let ino = fs::symlink_metadata(outside.path("d/a")).unwrap().ino();
    let kill_all = |mount: &mut Mount| {
        for pid in mount.processes() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        mount.wait();
    };
    kill_all(&mut mount);
    assert!(outside.is_link(&mount, "d/a") && outside.is_link(&mount, "e/b"));
    // One node was removed meanwhile.
    fs::write(mount.config(), outside.config(&[("a", "d/a")])).unwrap();
    mount.start_again(&[]);
    assert_eq!(
        fs::symlink_metadata(outside.path("d/a")).unwrap().ino(),
        ino
    );
    assert_eq!(fs::read_to_string(outside.path("d/a")).unwrap(), "a");
    assert!(outside.is_nothing("e"));
    assert_eq!(links(&status(&mount))["there"], 1);
    // And then all links.
    kill_all(&mut mount);
    let none = outside.config_with("mount.links = false", &[("a", "d/a")]);
    fs::write(mount.config(), none).unwrap();
    mount.start_again(&[]);
    outside.wait_until_nothing("d");
    wait_until(SOON, "the list is gone", || !list(&mount).exists());
    assert_eq!(links(&status(&mount))["wanted"], 0);
    end(&mut mount);
}

#[test]
fn nodes_that_come_and_go_bring_and_take_their_links() {
    let outside = Outside::new("links-reload");
    let mut mount = Mount::start(&outside.config(&[("a", "d/a")]));
    mount.reload(&outside.config(&[("a", "d/other"), ("b", "e/b")]));
    wait_until(SOON, "the links", || {
        outside.is_link(&mount, "d/other") && outside.is_link(&mount, "e/b")
    });
    assert!(outside.is_nothing("d/a"));
    // Drop-ins too.
    let dropins = mount.config().with_file_name("mount.d");
    fs::create_dir(&dropins).unwrap();
    mount.signal(Signal::HUP);
    fs::write(dropins.join("x.ini"), outside.node("x", "b", "f/x")).unwrap();
    wait_until(SOON, "the link", || outside.is_link(&mount, "f/x"));
    assert_eq!(fs::read_to_string(outside.path("f/x")).unwrap(), "b");
    fs::remove_file(dropins.join("x.ini")).unwrap();
    outside.wait_until_nothing("f");
    // That there are links is no live setting.
    mount.reload(&outside.config_with("", &[("b", "e/b"), ("a", "g/a")]));
    mount.wait_for_log(1, "mount.* changed; that takes effect with the next mount");
    wait_until(SOON, "the link", || outside.is_link(&mount, "g/a"));
    let server = processes(&mount)[0];
    kill(server);
    next_of(&mount, "server", server);
    wait_status(&mount, "both links", |status| links(status)["there"] == 2);
    end(&mut mount);
    assert_eq!(fs::read_dir(outside.dir.path()).unwrap().count(), 0);
}

#[test]
fn without_the_setting_there_are_none() {
    let outside = Outside::new("links-off");
    let mut mount = Mount::start(&outside.config_with("", &[("a", "d/a")]));
    assert_eq!(links(&status(&mount))["wanted"], 0);
    assert!(outside.is_nothing("d") && !list(&mount).exists());
    mount.reload(&outside.config(&[("a", "d/a"), ("b", "b")]));
    wait_until(SOON, "the reload", || {
        outside.target(&mount, "b").exists() && mount.n_logged("mount.* changed") == 1
    });
    let server = processes(&mount)[0];
    kill(server);
    next_of(&mount, "server", server);
    holds_for(Duration::from_millis(300), "there is no link", || {
        outside.is_nothing("d") && outside.is_nothing("b")
    });
    end(&mut mount);
}

#[test]
fn two_mounts_do_not_share_a_link() {
    let outside = Outside::new("links-two");
    let mut one = Mount::start(&outside.config(&[("a", "a")]));
    let mut other = Mount::start(&outside.config(&[("b", "a"), ("b", "b")]));
    assert_eq!(fs::read_to_string(outside.path("a")).unwrap(), "a");
    assert!(outside.is_link(&one, "a") && outside.is_link(&other, "b"));
    let problems = links(&status(&other))["problems"].to_string();
    let theirs = outside.target(&one, "a");
    assert!(problems.contains(theirs.to_str().unwrap()), "{problems}");
    end(&mut other);
    assert!(outside.is_link(&one, "a"), "it was not the other's to take");
    end(&mut one);
    assert!(outside.is_nothing("a"));
}

/// No link is made through a mount of ours, where a stranger may lead it elsewhere, or where
/// everybody may replace it.
#[test]
fn a_link_goes_nowhere_that_is_not_safe() {
    let outside = Outside::new("links-safe");
    let open = |name: &str, mode: u32| {
        fs::create_dir(outside.path(name)).unwrap();
        fs::set_permissions(outside.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let give = |name: &str| {
        std::os::unix::fs::lchown(outside.path(name), Some(65534), Some(65534)).unwrap();
    };
    open("open", 0o777);
    open("sticky", 0o1777);
    open("sticky/theirs", 0o755);
    give("sticky/theirs");
    open("sticky/ours", 0o755);
    open("group", 0o2775);
    open("theirs", 0o755);
    give("theirs");
    open("real", 0o755);
    symlink("real", outside.path("by-root")).unwrap();
    symlink(outside.path("real"), outside.path("by-stranger")).unwrap();
    give("by-stranger");
    symlink("loop", outside.path("loop")).unwrap();
    symlink("../..", outside.path("real/up")).unwrap();
    let name = outside.dir.path().file_name().unwrap().to_str().unwrap();
    let up = format!("real/up/{name}/real/deep/a");
    let nodes = [
        ("a", "open/a"),
        ("a", "sticky/a"),
        ("a", "sticky/theirs/a"),
        ("a", "sticky/ours/a"),
        ("a", "group/a"),
        ("a", "theirs/a"),
        ("a", "by-root/a"),
        ("a", "by-stranger/b"),
        ("a", "loop/a"),
        ("a", &up),
        ("b", "into/a"),
        ("b", "into-deep/a"),
    ];
    let mut mount = Mount::start(&outside.config(&[("a", "first")]));
    symlink(mount.root(), outside.path("into")).unwrap();
    symlink(mount.root().join("tmp"), outside.path("into-deep")).unwrap();
    mount.reload(&outside.config(&nodes));
    let status = wait_status(&mount, "the links", |status| links(status)["there"] == 6);
    for place in [
        "sticky/a",
        "sticky/ours/a",
        "group/a",
        "theirs/a",
        "by-root/a",
    ] {
        assert!(outside.is_link(&mount, place), "{place}");
    }
    assert_eq!(
        fs::read_link(outside.path("real/deep/a")).unwrap(),
        outside.target(&mount, &up)
    );
    let problems = links(&status)["problems"].to_string();
    for why in [
        "open can be written by everybody, and has no sticky bit",
        "sticky/theirs belongs to neither root nor our user",
        "by-stranger is a symbolic link of neither root's nor our user's",
        "loop: Too many levels of symbolic links",
        "mnt is in a mount of livedata-fuse",
    ] {
        assert!(problems.contains(why), "{why}: {problems}");
    }
    assert_eq!(
        problems.matches("is in a mount of").count(),
        2,
        "{problems}"
    );
    for place in ["open/a", "sticky/theirs/a", "real/b"] {
        assert!(outside.is_nothing(place), "{place}");
    }
    end(&mut mount);
    for place in ["sticky/a", "theirs/a", "real/a", "real/deep"] {
        assert!(outside.is_nothing(place), "{place}");
    }
}

#[test]
fn a_file_system_that_hangs_below_a_link_stops_nothing_else() {
    let outside = Outside::new("links-hang");
    let mut mount = Mount::start(&outside.config(&[("a", "a")]));
    // What makes links waits for its turn as it would wait for a disk.
    let holds = fs::File::options().read(true).open(list(&mount)).unwrap();
    rustix::fs::flock(&holds, rustix::fs::FlockOperation::LockExclusive).unwrap();
    mount.reload(&outside.config(&[("a", "a"), ("b", "b")]));
    wait_until(SOON, "the file", || outside.target(&mount, "b").exists());
    outside.sandbox.admin.set("/a", "new");
    wait_until(SOON, "the content", || {
        fs::read_to_string(outside.path("a")).unwrap() == "new"
    });
    let status = wait_status(&mount, "a complaint", |status| {
        let complaints = status["details"]["complaints"].to_string();
        complaints.contains("links are still being made")
    });
    assert_eq!(status["server"]["state"], "serving");
    let server = processes(&mount)[0];
    kill(server);
    next_of(&mount, "server", server);
    mount.signal(Signal::TERM);
    assert_eq!(mount.wait(), Some(0));
    mount.wait_for_log(1, "not removed yet");
    // Whoever hung goes on, and the last one takes all away.
    drop(holds);
    wait_until(SOON, "all of them have ended", || {
        mount.processes().is_empty()
    });
    assert!(outside.is_nothing("a") && outside.is_nothing("b"));
}

#[test]
fn thousands_of_links() {
    const N: usize = 3000;
    let outside = Outside::new("links-many");
    let mut lines = "mount.links = true".to_owned();
    for n in 0..N {
        lines += &outside.node(&format!("n{n}"), "a", &format!("d{}/{n}", n % 1000));
    }
    let mut mount = Mount::start(&config(&outside.sandbox.hosts(), &lines));
    wait_status(&mount, "all links", |status| links(status)["there"] == N);
    assert_eq!(fs::read_to_string(outside.path("d7/2007")).unwrap(), "a");
    end(&mut mount);
    wait_until(SOON, "all are gone", || {
        fs::read_dir(outside.dir.path()).unwrap().count() == 0
    });
}

/// Without root: what cannot be made is reported, one by one, and stops nothing else.
#[test]
fn a_user_has_the_links_that_he_may_make() {
    let sandbox = Sandbox::new("links-user");
    sandbox.admin.create("/a", "one");
    let place = Place::of_user(NOBODY, "");
    let outside = place.path("out/a.json");
    let lines = format!(
        "log.file = log
        mount.links = true
        nodes.a.source = /a
        nodes.a.dest = {}
        nodes.no.source = /a
        nodes.no.dest = /etc/livedata-test-no.json
        nodes.nor.source = /a
        nodes.nor.dest = /root/livedata-test/nor.json",
        outside.display()
    );
    place.configure(&config(&sandbox.hosts(), &lines));
    let as_user = |script: &str| {
        let script = format!("export XDG_RUNTIME_DIR=$PWD/run; {script}");
        place::run(place.command("sh").args(["-euc", &script]))
    };
    let ran = as_user("mkdir run; ./livedata-fuse mount config.ini mnt; cat out/a.json");
    assert!(ran.stdout.ends_with("ready\none"), "{ran:?}");
    let ran = as_user("./livedata-fuse status --json mnt || true");
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(links(&status)["there"], 1, "{status}");
    let problems = links(&status)["problems"].to_string();
    for why in [
        "/etc/livedata-test-no.json: Permission denied",
        "/root/livedata-test/nor.json: ",
    ] {
        assert!(problems.contains(why), "{why}: {problems}");
    }
    let ran = as_user("./livedata-fuse umount mnt");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    place.wait_until_gone();
    assert!(fs::symlink_metadata(place.path("out")).is_err());
    // Nobody could remember them without such a directory.
    let mounted = as_user("unset XDG_RUNTIME_DIR; ./livedata-fuse mount config.ini mnt; ls mnt");
    assert_eq!(mounted.code, Some(0), "{mounted:?}");
    assert!(fs::symlink_metadata(place.path("out")).is_err());
    assert!(
        mounted.stderr.contains("nobody could remember them"),
        "{mounted:?}"
    );
    assert_eq!(as_user("./livedata-fuse umount mnt").code, Some(0));
    place.wait_until_gone();
}
