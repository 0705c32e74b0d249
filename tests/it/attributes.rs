//! Extended attributes: which znode a file shows, and which version of it.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::files::config;
use crate::support::as_user::{self, NOBODY};
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::shown::SOON;
use crate::support::wait::{wait_for, wait_until};
use crate::support::zookeeper::{Sandbox, shared_server};
use crate::survival::kept::{kill, next_of, processes, status};

/// The value of `user.zookeeper.NAME`.
fn get(path: &Path, name: &str) -> Result<String, Errno> {
    let mut room = [0; 512];
    let n_bytes = rustix::fs::getxattr(path, full(name), &mut room)?;
    Ok(String::from_utf8(room[..n_bytes].to_vec()).unwrap())
}

/// The same of an open file.
fn get_held(file: &File, name: &str) -> Result<String, Errno> {
    let mut room = [0; 512];
    let n_bytes = rustix::fs::fgetxattr(file, full(name), &mut room)?;
    Ok(String::from_utf8(room[..n_bytes].to_vec()).unwrap())
}

/// The names without `user.zookeeper.`.
fn list(path: &Path) -> Vec<String> {
    let mut room = [0; 4096];
    let n_bytes = rustix::fs::listxattr(path, &mut room[..]).unwrap();
    let names = String::from_utf8(room[..n_bytes].to_vec()).unwrap();
    let names = names.split_terminator('\0');
    names
        .map(|name| name.strip_prefix("user.zookeeper.").unwrap().to_owned())
        .collect()
}

/// What stands around two names in a list.
const LONG: &str = "user.zookeeper.\0";

/// How long an attribute and the list of them are, as the system tells those who ask for nothing
/// else; rustix never asks so.
fn sizes(path: &Path, name: &str) -> [usize; 2] {
    let ask = "import ctypes, os, sys
libc = ctypes.CDLL(None)
path, name = map(os.fsencode, sys.argv[1:])
print(libc.getxattr(path, name, None, 0), libc.listxattr(path, None, 0))";
    let output = Command::new("/usr/bin/python3")
        .args(["-c", ask])
        .arg(path)
        .arg(name)
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let mut sizes = output.split_whitespace().map(|size| size.parse().unwrap());
    [sizes.next().unwrap(), sizes.next().unwrap()]
}

fn full(name: &str) -> CString {
    CString::new(format!("user.zookeeper.{name}")).unwrap()
}

fn run(program: &str, arguments: &[&str], path: &Path) -> Output {
    Command::new(program)
        .args(arguments)
        .arg(path)
        .output()
        .unwrap()
}

/// All that `getfattr -d` prints but for the name of the file.
#[track_caller]
fn dumped(path: &Path) -> String {
    let output = run("getfattr", &["--absolute-names", "-d"], path);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (name, rest) = text.split_once('\n').unwrap();
    assert_eq!(name, format!("# file: {}", path.display()));
    rest.to_owned()
}

/// As `date -u` has it.
fn date(milliseconds: i64) -> String {
    let seconds = milliseconds / 1000;
    let format = format!("+%Y-%m-%dT%H:%M:%S.{:03}Z", milliseconds % 1000);
    let output = Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), &format])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

const ON: &str = "mount.xattr = true\n";

const ALL: [&str; 8] = [
    "path",
    "version",
    "czxid",
    "mzxid",
    "pzxid",
    "ctime",
    "mtime",
    "ephemeral_owner",
];

#[test]
fn getfattr_tells_where_a_file_comes_from() {
    let sandbox = Sandbox::new("xattr");
    sandbox.admin.create("/dir/a", "1");
    let lines = format!("{ON}nodes.a.source = /dir/a\nnodes.a.dest = d/a\nnodes.b.source = /dir/a");
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    let is_right = |file: &str| {
        let (_, stat) = sandbox.admin.get("/dir/a").unwrap();
        let expected = format!(
            "user.zookeeper.ctime=\"{}\"\n\
             user.zookeeper.czxid=\"{:#x}\"\n\
             user.zookeeper.ephemeral_owner=\"0x0\"\n\
             user.zookeeper.mtime=\"{}\"\n\
             user.zookeeper.mzxid=\"{:#x}\"\n\
             user.zookeeper.path=\"/dir/a\"\n\
             user.zookeeper.pzxid=\"{:#x}\"\n\
             user.zookeeper.version=\"{}\"\n\n",
            date(stat.ctime),
            stat.czxid,
            date(stat.mtime),
            stat.mzxid,
            stat.pzxid,
            stat.version
        );
        let mut found: Vec<_> = Vec::new();
        let dumped = dumped(&mount.path(file));
        found.extend(dumped.lines());
        found.sort_unstable();
        let mut expected: Vec<_> = expected.lines().collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    };
    is_right("d/a");
    is_right("b");
    sandbox.admin.set("/dir/a", "2");
    mount.wait_for_content("d/a", "2");
    mount.wait_for_content("b", "2");
    is_right("d/a");
    is_right("b");
    // The same bytes are another version, and the same inode.
    let ino = mount.ino("b");
    sandbox.admin.set("/dir/a", "2");
    for file in ["d/a", "b"] {
        wait_until(SOON, "the version", || {
            get(&mount.path(file), "version").unwrap() == "2"
        });
        is_right(file);
    }
    assert_eq!(mount.ino("b"), ino);
    // Directories have none, and whoever may not read a file may not know.
    assert_eq!(dumped_nothing(&mount.root()), "");
    assert_eq!(dumped_nothing(&mount.path("d")), "");
    let arguments = ["-n", "user.zookeeper.path"];
    let path = mount.path("b");
    let path = path.to_str().unwrap();
    let refused = as_user::run(
        NOBODY,
        "/usr/bin/getfattr",
        &[&arguments[..], &[path]].concat(),
    );
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.contains("Permission denied"), "{refused}");
}

fn dumped_nothing(path: &Path) -> String {
    let output = run("getfattr", &["--absolute-names", "-d", "-m-"], path);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn sizes_and_other_names_are_answered_as_on_any_file_system() {
    let sandbox = Sandbox::new("xattr-size");
    sandbox.admin.create("/a", "1");
    let lines = format!("{ON}nodes.a.source = /a");
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    let path = mount.path("a");
    let get_into = |room: &mut [u8]| rustix::fs::getxattr(&path, full("path"), room);
    assert_eq!(
        sizes(&path, "user.zookeeper.path"),
        [2, list(&path).join(LONG).len() + LONG.len()]
    );
    assert_eq!(get_into(&mut [0; 1]), Err(Errno::RANGE));
    let mut room = [b'x'; 3];
    assert_eq!(get_into(&mut room), Ok(2));
    assert_eq!(&room, b"/ax");

    let [_, n_bytes] = sizes(&path, "user.zookeeper.path");
    let list_into = |n| rustix::fs::listxattr(&path, &mut vec![0_u8; n][..]);
    assert_eq!(list_into(n_bytes - 1), Err(Errno::RANGE));
    assert_eq!(list_into(n_bytes), Ok(n_bytes));
    assert_eq!(list(&path), ALL);

    for name in [
        "user.zookeeper.stale_since",
        "user.zookeeper.unreadable",
        "user.zookeeper.",
        "user.zookeeper",
        "user.other",
        "security.capability",
        "security.selinux",
        "system.posix_acl_access",
        "trusted.x",
    ] {
        for path in [path.clone(), mount.root()] {
            let found = rustix::fs::getxattr(&path, name, &mut [0_u8; 64][..]);
            let allowed = match name.starts_with("system.") {
                // The kernel itself answers this where there are no access control lists.
                true => matches!(found, Err(Errno::NODATA | Errno::OPNOTSUPP)),
                false => found == Err(Errno::NODATA),
            };
            assert!(allowed, "{name}: {found:?}");
        }
    }
    // Nobody writes, and nobody is told that there is no such thing.
    for name in ["user.zookeeper.path", "user.x", "security.x", "trusted.x"] {
        let set = rustix::fs::setxattr(&path, name, b"x", XattrFlags::empty());
        assert_eq!(set, Err(Errno::ROFS), "{name}");
        let removed = rustix::fs::removexattr(&path, name);
        assert_eq!(removed, Err(Errno::ROFS), "{name}");
    }
    for (program, arguments) in [
        ("ls", &["-l"][..]),
        ("ls", &["-lZ"]),
        ("getcap", &[]),
        ("getfacl", &["-p"]),
        ("cat", &[]),
    ] {
        let Ok(output) = Command::new(program).args(arguments).arg(&path).output() else {
            continue;
        };
        assert!(output.status.success(), "{program}: {output:?}");
        assert_eq!(output.stderr, b"", "{program}");
    }
    // All of them are carried along.
    let copy = tempfile::tempdir_in("/var/tmp").unwrap();
    let output = Command::new("cp")
        .arg("--preserve=xattr")
        .arg(&path)
        .arg(copy.path().join("a"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The number in the content is the version.
#[test]
fn a_held_version_is_never_told_the_next_one() {
    let sandbox = Sandbox::new("xattr-held");
    sandbox.admin.create("/a", "0");
    let lines = format!("{ON}nodes.a.source = /a\nnodes.b.source = /a");
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    let over = AtomicBool::new(false);
    const N_CHANGES: usize = 4000;
    let held: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> = ["a", "b"]
            .map(|name| {
                let (over, path) = (&over, mount.path(name));
                scope.spawn(move || {
                    let mut held = Vec::new();
                    let mut n_told = 0;
                    while !over.load(Ordering::Relaxed) {
                        let file = File::open(&path).unwrap();
                        let content = fs::read_to_string(proc_path(&file)).unwrap();
                        // Known before the name leads there.
                        assert_eq!(get_held(&file, "version").unwrap(), content);
                        n_told += 1;
                        if n_told % 16 == 0 && held.len() < 200 {
                            held.push((file, content));
                        }
                    }
                    assert!(n_told > 100, "{n_told}");
                    held
                })
            })
            .into_iter()
            .collect();
        let mut server = processes(&mount)[0];
        for round in 0..4 {
            let first = round * N_CHANGES / 4 + 1;
            let changes = first..first + N_CHANGES / 4;
            sandbox
                .admin
                .set_many(changes.map(|n| ("/a", n.to_string())));
            // A successor knows, too, also of what is held.
            kill(server);
            server = next_of(&mount, "server", server);
        }
        mount.wait_for_content("a", N_CHANGES.to_string());
        over.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .flat_map(|reader| reader.join().unwrap())
            .collect()
    });
    for (file, content) in &held {
        let told = get_held(file, "version");
        assert!(
            told.as_ref() == Ok(content) || told == Err(Errno::NODATA),
            "{told:?}, not {content}"
        );
    }
    let n_told = held
        .iter()
        .filter(|(file, _)| get_held(file, "version").is_ok());
    assert_eq!(n_told.count(), held.len(), "none was forgotten");
    assert_eq!(get_held(&held[0].0, "stale_since"), Err(Errno::NODATA));
    assert_eq!(
        get(&mount.path("a"), "version").unwrap(),
        N_CHANGES.to_string()
    );
    // It is current again once ZooKeeper has said so.
    wait_until(SOON, "it is current", || list(&mount.path("b")) == ALL);
}

fn proc_path(file: &File) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[test]
fn off_by_default_they_cost_one_question() {
    let sandbox = Sandbox::new("xattr-off");
    sandbox.admin.create("/a", "1");
    let off = "nodes.a.source = /a";
    let mut mount = Mount::start(&config(&sandbox.hosts(), off));
    let path = mount.path("a");
    let n_requests = || status(&mount)["details"]["requests"].as_u64().unwrap();
    let all_off = |path: &Path| {
        assert_eq!(get(path, "version"), Err(Errno::OPNOTSUPP));
        let listed = rustix::fs::listxattr(path, &mut [0_u8; 64][..]);
        assert!(
            matches!(listed, Err(Errno::OPNOTSUPP) | Ok(0)),
            "{listed:?}"
        );
        assert_eq!(
            rustix::fs::setxattr(path, full("x"), b"x", XattrFlags::empty()),
            Err(Errno::ROFS)
        );
    };
    all_off(&path);
    let before = n_requests();
    for _ in 0..100 {
        all_off(&path);
        assert!(run("ls", &["-l"], &path).status.success());
    }
    let asked = n_requests() - before;
    // What else ls asks of a directory is warm by then.
    assert!(asked <= 3, "{asked} requests");

    // A reload does not change it, and says so; nor does a takeover with that configuration.
    mount.reload(&config(&sandbox.hosts(), &format!("{ON}{off}")));
    mount.wait_for_log(1, "mount.* changed; that takes effect with the next mount");
    let server = processes(&mount)[0];
    kill(server);
    next_of(&mount, "server", server);
    all_off(&path);
    mount.signal(Signal::TERM);
    assert_eq!(mount.wait(), Some(0));

    // The next mount has them; and keeps them whatever the file says then.
    mount.start_again(&[]);
    assert_eq!(get(&path, "version").unwrap(), "0");
    mount.reload(&config(&sandbox.hosts(), off));
    mount.wait_for_log(2, "mount.* changed; that takes effect with the next mount");
    let server = processes(&mount)[0];
    kill(server);
    next_of(&mount, "server", server);
    assert_eq!(get(&path, "version").unwrap(), "0");
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    assert_eq!(get(&path, "version").unwrap(), "1");
}

#[test]
fn what_is_not_known_to_be_current_says_since_when_and_why() {
    let sandbox = Sandbox::new("xattr-stale");
    let proxy = Proxy::start(shared_server().address());
    for name in ["a", "denied", "strict", "kept"] {
        sandbox.admin.create(&format!("/{name}"), "1");
    }
    let lines = format!(
        "{ON}
        heartbeat_interval = 200 milliseconds
        nodes.a.source = /a
        nodes.denied.source = /denied
        nodes.kept.source = /kept
        nodes.kept.on_delete = keep
        nodes.strict.source = /strict
        nodes.strict.on_disconnect = error
        nodes.strict.max_stale = 1 seconds"
    );
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, &lines));
    let unreadable = |file: &str| {
        wait_for(SOON, &format!("{file} says why"), || {
            get(&mount.path(file), "unreadable").ok()
        })
    };
    sandbox.admin.set_acl_nobody("/denied");
    sandbox.admin.set("/denied", "2");
    assert_eq!(unreadable("denied"), "its ACL denies it to us");
    assert_eq!(get(&mount.path("denied"), "version").unwrap(), "0");
    sandbox.admin.delete("/kept");
    assert_eq!(unreadable("kept"), "the znode was deleted");
    assert_eq!(list(&mount.path("a")), ALL);

    proxy.refuse();
    let since = wait_for(SOON, "it is stale", || {
        get(&mount.path("a"), "stale_since").ok()
    });
    assert!(since.ends_with('Z'), "{since}");
    assert_eq!(get(&mount.path("a"), "unreadable"), Err(Errno::NODATA));
    assert_eq!(get(&mount.path("a"), "version").unwrap(), "0");
    assert!(unreadable("strict").contains("max_stale"));
    let names = list(&mount.path("strict"));
    assert_eq!(names, ["path", "stale_since", "unreadable"]);

    proxy.accept();
    for file in ["a", "strict"] {
        wait_until(SOON, &format!("{file} is current"), || {
            list(&mount.path(file)) == ALL
        });
    }
    assert_eq!(get(&mount.path("strict"), "version").unwrap(), "0");
    sandbox.admin.set_acl_world("/denied");
    wait_until(SOON, "denied is current", || {
        list(&mount.path("denied")) == ALL && mount.read("denied").as_deref() == Some(b"2")
    });
    assert_eq!(get(&mount.path("denied"), "version").unwrap(), "1");
}

/// What comes from the cache says since when it is as old as it is.
#[test]
fn what_comes_from_the_cache_has_them_too() {
    let sandbox = Sandbox::new("xattr-cache");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "1");
    sandbox.admin.set("/a", "2");
    let cache = tempfile::tempdir().unwrap();
    let lines = format!(
        "{ON}cache.dir = {}\nnodes.a.source = /a\nnodes.b.source = /a",
        cache.path().display()
    );
    let hosts = sandbox.hosts_through(proxy.address());
    let mut mount = Mount::start(&config(&hosts, &lines));
    mount.signal(Signal::TERM);
    assert_eq!(mount.wait(), Some(0));
    proxy.refuse();
    mount.start_again(&["--wait", "1s"]);
    for file in ["a", "b"] {
        let path = mount.path(file);
        assert_eq!(get(&path, "version").unwrap(), "1");
        let mtime = mount.mtime(file).duration_since(std::time::UNIX_EPOCH);
        let mtime = i64::try_from(mtime.unwrap().as_millis()).unwrap();
        assert_eq!(get(&path, "stale_since").unwrap(), date(mtime));
    }
    proxy.accept();
    for file in ["a", "b"] {
        wait_until(Duration::from_secs(30), "it is current", || {
            list(&mount.path(file)) == ALL
        });
        assert_eq!(get(&mount.path(file), "version").unwrap(), "1");
    }
    let server = processes(&mount)[0];
    kill(server);
    next_of(&mount, "server", server);
    assert_eq!(get(&mount.path("b"), "version").unwrap(), "1");
}
