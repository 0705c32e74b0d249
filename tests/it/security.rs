//! What SECURITY.md says: who reaches what of a mount's processes, and what they may do. What has
//! its test elsewhere is named there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use rustix::thread::CapabilitySet;

use crate::files::config;
use crate::support::as_user::{self, NOBODY};
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::shown::SOON;
use crate::support::wait::{wait_for, wait_until};
use crate::support::zookeeper::{Sandbox, shared_server};
use crate::survival::kept::{kill, next_of, processes, status};

/// A user without an account.
const SOMEONE: u32 = 12_345;

/// A mount with all processes that there can be, and a znode `/a` of this content.
fn whole_mount(sandbox: &Sandbox, content: &str, more: &str) -> Mount {
    sandbox.admin.create("/a", content);
    let lines = format!(
        "nodes.a.source = /a
        nodes.a.hooks = h
        hooks.h.command = true
        hooks.h.pipe_stdin = true
        {more}"
    );
    let mount = Mount::start(&config(&sandbox.hosts(), &lines));
    mount.wait_for_log(1, "hooks know what is there");
    wait_until(SOON, "all processes are there", || roles(&mount).len() == 4);
    mount
}

/// The processes of a mount by what they are called; the one without a name of its own is the keeper.
fn roles(mount: &Mount) -> BTreeMap<String, Pid> {
    let named = mount.processes().into_iter().filter_map(|pid| {
        let name = fs::read_to_string(proc_of(pid).join("comm")).ok()?;
        let name = name.trim_end().strip_prefix("livedata-")?;
        Some((
            name.replace("fuse", "keeper")
                .replace("publis", "publisher"),
            pid,
        ))
    });
    named.collect()
}

fn proc_of(pid: Pid) -> PathBuf {
    format!("/proc/{}", pid.as_raw_nonzero()).into()
}

/// What the descriptors of a process lead to.
fn descriptors(pid: Pid) -> BTreeMap<i32, String> {
    let open = fs::read_dir(proc_of(pid).join("fd")).unwrap();
    let targets = open.filter_map(|entry| {
        let path = entry.unwrap().path();
        // It may be closed by now.
        let target = fs::read_link(&path).ok()?.to_str()?.to_owned();
        Some((path.file_name()?.to_str()?.parse().ok()?, target))
    });
    targets.collect()
}

/// The flags of a descriptor that is open.
fn flags_of(pid: Pid, number: i32) -> Option<i32> {
    let path = proc_of(pid).join("fdinfo").join(number.to_string());
    let info = fs::read_to_string(path).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    Some(i32::from_str_radix(flags.unwrap().trim(), 8).unwrap())
}

fn closes(flags: i32) -> bool {
    flags & libc::O_CLOEXEC != 0
}

/// The lines of a table of sockets, split into words, without the heading.
fn table(pid: Pid, name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(proc_of(pid).join("net").join(name)).unwrap_or_default();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    text.lines().skip(1).map(words).collect()
}

#[test]
fn the_control_socket_is_the_only_one_that_can_be_reached() {
    let sandbox = Sandbox::new("sockets");
    let mount = whole_mount(&sandbox, "1", "");
    let mut reachable = Vec::new();
    for (role, pid) in roles(&mount) {
        let inodes: BTreeSet<String> = descriptors(pid)
            .values()
            .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.into()))
            .collect();
        assert!(!inodes.is_empty(), "{role} speaks with somebody");
        let mut known = BTreeSet::new();
        for line in table(pid, "unix") {
            // Num RefCount Protocol Flags Type St Inode Path
            if inodes.contains(&line[6]) {
                known.insert(line[6].clone());
                let listens = u32::from_str_radix(&line[3], 16).unwrap() & 0x1_0000 != 0;
                assert_eq!(listens, line.len() > 7, "{role}: {line:?}");
                reachable.extend(line.get(7).map(|path| (role.clone(), path.clone())));
            }
        }
        for protocol in ["tcp", "tcp6"] {
            for line in table(pid, protocol) {
                // sl local remote st tx:rx tr:when retrnsmt uid timeout inode
                if inodes.contains(&line[9]) {
                    known.insert(line[9].clone());
                    assert_eq!(role, "server", "{line:?}");
                    assert_ne!(line[3], "0A", "{role} listens: {line:?}");
                }
            }
        }
        assert_eq!(known, inodes, "{role} has sockets of another kind");
    }
    let [(role, path)] = &reachable[..] else {
        panic!("{reachable:?}");
    };
    assert_eq!(role, "keeper");
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    let path = Path::new(path);
    assert_eq!(mode(path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let connect = "
import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    print('connected')
except OSError as error:
    print(type(error).__name__)
";
    let arguments = ["-I", "-S", "-c", connect, path.to_str().unwrap()];
    let tried = |user| String::from_utf8(as_user::run(user, "/usr/bin/python3", &arguments).stdout);
    assert_eq!(tried(NOBODY).unwrap(), "PermissionError\n");
    assert_eq!(tried(0).unwrap(), "connected\n", "what this test is about");
}

#[test]
fn each_process_holds_what_it_needs_and_hands_nothing_on() {
    let sandbox = Sandbox::new("descriptors-of");
    let us = rustix::process::getpid();
    let mut inherited = descriptors(us);
    inherited.retain(|number, _| flags_of(us, *number).is_some_and(|flags| !closes(flags)));
    let mount = whole_mount(&sandbox, "1", "");
    for (role, pid) in roles(&mount) {
        let open = descriptors(pid);
        let has = |what: &str| open.values().any(|target| target.contains(what));
        let holds = [has("/dev/fuse"), has("memfd:livedata-record")];
        let expected = match role.as_str() {
            "keeper" | "server" => [true, true],
            _ => [false, false],
        };
        assert_eq!(holds, expected, "{role}: {open:#?}");
        assert_eq!(
            has("memfd:livedata-hooks"),
            matches!(role.as_str(), "keeper" | "runner"),
            "{role}: {open:#?}"
        );
        for (number, target) in open.iter().filter(|(number, _)| **number > 2) {
            // Closed by now, or what whoever started the tests let all inherit.
            let Some(flags) = flags_of(pid, *number) else {
                continue;
            };
            if inherited.get(number) == Some(target) {
                continue;
            }
            assert!(closes(flags), "{role}: {number} -> {target}");
        }
    }
}

#[test]
fn nobody_else_looks_into_the_processes() {
    let sandbox = Sandbox::new("look-into");
    let mount = whole_mount(&sandbox, "1", "");
    for (role, pid) in roles(&mount) {
        for what in ["fd", "map_files"] {
            let path = proc_of(pid).join(what);
            let listed = as_user::run(NOBODY, "/bin/ls", &[path.to_str().unwrap()]);
            assert!(!listed.status.success(), "{role}: {listed:?}");
        }
        // In it lie the memory that is handed on, the private side of the mount, and /dev/fuse.
        for number in descriptors(pid).keys() {
            let path = proc_of(pid).join("fd").join(number.to_string());
            let listed = as_user::run(NOBODY, "/bin/ls", &["-L", path.to_str().unwrap()]);
            assert!(!listed.status.success(), "{role}: {listed:?}");
        }
        for what in ["mem", "environ", "maps"] {
            let path = proc_of(pid).join(what);
            assert_eq!(as_user::read(NOBODY, &path), None, "{role}: {what}");
        }
        let shown = fs::read_to_string(proc_of(pid).join("mountinfo")).unwrap();
        let root = mount.root();
        let n_mounts = shown
            .lines()
            .filter(|line| line.contains(root.to_str().unwrap()))
            .count();
        assert_eq!(n_mounts, 1, "{role}: the private side is in no table");
    }
}

/// Sets of capabilities of each thread of a process, by their names in its status.
fn capabilities(pid: Pid) -> Vec<BTreeMap<String, u64>> {
    let tasks = fs::read_dir(proc_of(pid).join("task")).unwrap();
    let sets = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.unwrap().path().join("status")).ok()?;
        let sets = text.lines().filter_map(|line| {
            let (name, set) = line.strip_prefix("Cap")?.split_once(":\t")?;
            Some((name.to_owned(), u64::from_str_radix(set, 16).unwrap()))
        });
        Some(sets.collect())
    });
    sets.collect()
}

#[test]
fn server_and_publisher_keep_privileges_for_files_only() {
    let sandbox = Sandbox::new("capabilities");
    let dir = tempfile::tempdir().unwrap();
    let in_dir = |name: &str| dir.path().join(name).display().to_string();
    // Directories of somebody else, who lets nobody in.
    for name in ["secrets", "links", "logs"] {
        fs::create_dir(in_dir(name)).unwrap();
        fs::set_permissions(in_dir(name), Permissions::from_mode(0o700)).unwrap();
    }
    let secret = r#"{"secrets": {"s": {"type": "simple", "value": "reader:right"}}}"#;
    fs::write(in_dir("secrets/s.json"), secret).unwrap();
    fs::set_permissions(in_dir("secrets/s.json"), Permissions::from_mode(0o400)).unwrap();
    for name in ["secrets", "secrets/s.json", "links", "logs"] {
        std::os::unix::fs::chown(in_dir(name), Some(SOMEONE), Some(SOMEONE)).unwrap();
    }
    sandbox.admin.create("/b", "1");
    sandbox.admin.set_acl_digest("/b", "reader:right");
    let mount = whole_mount(
        &sandbox,
        "1",
        &format!(
            "zookeeper.credentials = s
            secrets.path = {}
            mount.links = true
            nodes.b.source = /b
            nodes.b.dest = {}
            nodes.b.owner = {SOMEONE}
            trees.t.source = /t
            trees.t.owner = {SOMEONE}
            trees.t.dir_mode = 0700",
            in_dir("secrets/s.json"),
            in_dir("links/below/b")
        ),
    );
    let files =
        CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH | CapabilitySet::FOWNER;
    let ours = capabilities(rustix::process::getpid()).remove(0);
    assert_ne!(ours["Eff"] & !files.bits(), 0, "what this test is about");
    let check = |role: &str| {
        let threads = wait_for(SOON, role, || {
            roles(&mount).get(role).copied().map(capabilities)
        });
        assert!(!threads.is_empty());
        for sets in threads {
            for (name, set) in &sets {
                let expected = match name.as_str() {
                    "Inh" | "Amb" => 0,
                    _ => ours[name] & files.bits(),
                };
                assert_eq!(*set, expected, "Cap{name} of the {role}");
            }
        }
    };
    check("server");
    check("publisher");
    // They do what they did: through links, in directories of others, by a successor, too.
    let works = |content: &str| {
        sandbox.admin.set("/b", content);
        let link = in_dir("links/below/b");
        wait_until(SOON, "the link shows it", || {
            fs::read_to_string(&link).is_ok_and(|found| found == content)
        });
    };
    works("2");
    sandbox.admin.create("/t/d/e", "1");
    mount.wait_for_content("t/d/e", "1");
    let [server, _] = processes(&mount);
    kill(server);
    next_of(&mount, "server", server);
    check("server");
    check("publisher");
    works("3");
    sandbox.admin.delete("/t/d/e");
    mount.wait_for_content("t/d", "");
    // Commands are what root makes of them.
    let runner = capabilities(roles(&mount)["runner"]).remove(0);
    assert_eq!(runner["Eff"], ours["Eff"]);
}

#[test]
fn content_is_told_to_nobody() {
    const CONTENT: &str = "q7Xw-this-is-secret";
    let sandbox = Sandbox::new("told");
    let mount = whole_mount(&sandbox, CONTENT, "log.level = debug");
    mount.wait_for_content("a", CONTENT);
    let next = format!("{CONTENT}-2");
    sandbox.admin.set("/a", &next);
    mount.wait_for_content("a", &next);
    wait_until(SOON, "the hook ran", || {
        mount.details()["hooks"][0]["runs"].as_u64() >= Some(1)
    });
    let has = |bytes: &[u8]| bytes.windows(4).any(|bytes| bytes == b"q7Xw");
    assert!(has(&mount.read("a").unwrap()));
    for file in [".livedata/status.json", ".livedata/metrics.prom"] {
        let told = mount.read(file).unwrap();
        assert!(!told.is_empty() && !has(&told), "{file}");
    }
    assert!(!has(status(&mount).to_string().as_bytes()));
    assert!(!has(mount.log().as_bytes()), "{}", mount.log());
    for (role, pid) in roles(&mount) {
        for what in ["cmdline", "environ"] {
            assert!(!has(&fs::read(proc_of(pid).join(what)).unwrap()), "{role}");
        }
        for (number, target) in descriptors(pid) {
            let path = proc_of(pid).join("fd").join(number.to_string());
            if target.contains("memfd:livedata-hooks") {
                let journal = fs::read(path).unwrap();
                assert!(!journal.is_empty() && !has(&journal), "{role}");
            }
        }
    }
}

#[test]
fn secrets_that_others_can_read_are_warned_of_once() {
    let sandbox = Sandbox::new("open-secrets");
    let proxy = Proxy::start(shared_server().address());
    sandbox.admin.create("/a", "1");
    sandbox.admin.set_acl_digest("/a", "reader:old");
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("secrets.json");
    let write = |credential: &str, mode| {
        let secret =
            format!(r#"{{"secrets": {{"s": {{"type": "simple", "value": "{credential}"}}}}}}"#);
        let new = dir.path().join("new");
        fs::write(&new, secret).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
        fs::rename(new, &file).unwrap();
    };
    write("reader:old", 0o644);
    let lines = format!(
        "zookeeper.credentials = s\nsecrets.path = {}\nnodes.a.source = /a",
        file.display()
    );
    let hosts = sandbox.hosts_through(proxy.address());
    let mount = Mount::start(&config(&hosts, &lines));
    assert_eq!(mount.read("a").unwrap(), b"1", "it is no error");
    let warning = format!("can read the secrets file {} (mode 0644)", file.display());
    assert_eq!(mount.n_logged(&warning), 1, "{}", mount.log());
    let next_session = |session| {
        proxy.cut();
        mount.next_session(session)
    };
    let session = next_session(mount.session());
    assert_eq!(mount.n_logged(&warning), 1, "said before");
    write("reader:old", 0o600);
    let session = next_session(session);
    assert_eq!(mount.n_logged(&warning), 1, "all is well");
    write("reader:new", 0o644);
    sandbox.admin.set_acl_digest("/a", "reader:new");
    next_session(session);
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    assert_eq!(mount.n_logged(&warning), 2, "another content");
    assert!(!mount.log().contains("reader:"), "a secret is in the log");
}

#[test]
fn a_log_file_is_not_for_everybody() {
    let sandbox = Sandbox::new("log-file");
    sandbox.admin.create("/a", "1");
    let lines = "log.file = own.log\nnodes.a.source = /a";
    let place = crate::support::place::Place::new(&config(&sandbox.hosts(), lines));
    place.mounted();
    let log = place.path("own.log");
    let mode = fs::metadata(log).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode & 0o027, 0, "{mode:o}");
}

/// The compiler refuses unsafe code where no line allows it, and a block of it that does not say why
/// it is sound.
#[test]
fn unsafe_code_is_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for line in [
        "unsafe_code = \"deny\"",
        "undocumented_unsafe_blocks = \"deny\"",
    ] {
        assert!(manifest.lines().any(|found| found == line), "{line}");
    }
    let mut allowing = Vec::new();
    let mut left = vec![root.join("src")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        if text.contains("(unsafe_code") || text.contains("undocumented_unsafe_blocks") {
            allowing.push(path);
        }
    }
    assert_eq!(allowing, [root.join("src/sys.rs")]);
}
