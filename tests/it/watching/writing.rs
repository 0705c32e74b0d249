//! Nobody writes: not as root, and not where root has made the mount writable.

use std::fs;
use std::process::{Command, Stdio};

use crate::files::config;
use crate::support::as_user::NOBODY;
use crate::support::mount::Mount;
use crate::support::place::{Place, Ran, run};
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;

/// Tries everything below a directory and prints what became of each.
const TRIES: &str = r#"
import ctypes, errno, os, sys
root = sys.argv[1]
outside = sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
a, new, d, staging = (os.path.join(root, n) for n in ("a", "new", "dir", ".livedata-staging"))
def opened(path, flags):
    os.close(os.open(path, flags, 0o666))
def renamed_at_once(one, other):
    if libc.renameat2(-100, one.encode(), -100, other.encode(), 2):
        raise OSError(ctypes.get_errno(), "renameat2")
def written():
    fd = os.open(a, os.O_RDWR)
    try: os.write(fd, b"x")
    finally: os.close(fd)
tries = {
    "write": written,
    "open_trunc": lambda: opened(a, os.O_WRONLY | os.O_TRUNC),
    "create": lambda: opened(new, os.O_CREAT | os.O_WRONLY),
    "create_excl": lambda: opened(new, os.O_CREAT | os.O_EXCL | os.O_RDWR),
    "tmpfile": lambda: opened(root, os.O_TMPFILE | os.O_RDWR),
    "mkdir": lambda: os.mkdir(new),
    "rmdir": lambda: os.rmdir(d),
    "unlink": lambda: os.unlink(a),
    "unlink_deep": lambda: os.unlink(d + "/b"),
    "rename": lambda: os.rename(a, new),
    "rename_over": lambda: os.rename(a, d + "/b"),
    "exchange": lambda: renamed_at_once(a, d + "/b"),
    "chmod": lambda: os.chmod(a, 0o777),
    "chmod_root": lambda: os.chmod(root, 0o777),
    "chown": lambda: os.chown(a, 1, 1),
    "truncate": lambda: os.truncate(a, 0),
    "link": lambda: os.link(a, new),
    "symlink": lambda: os.symlink("a", new),
    "setxattr": lambda: os.setxattr(a, "user.x", b"x"),
    "removexattr": lambda: os.removexattr(a, "user.x"),
    "utime": lambda: os.utime(a, (1, 1)),
    "mknod": lambda: os.mknod(new),
    "mkfifo": lambda: os.mkfifo(new),
    "staging_stat": lambda: os.stat(staging),
    "staging_list": lambda: os.listdir(staging),
    "staging_file": lambda: os.stat(staging + "/17"),
    "staging_out": lambda: os.rename(staging + "/17", a),
    "staging_in": lambda: os.rename(a, staging + "/17"),
    "staging_make": lambda: os.mkdir(staging),
    "staging_remove": lambda: os.rmdir(staging),
    "rename_out": lambda: os.rename(a, outside + "/a"),
}
for name, attempt in tries.items():
    try:
        attempt()
        print(name, "OK")
    except OSError as err:
        print(name, errno.errorcode[err.errno])
print("listed", ",".join(sorted(os.listdir(root))))
"#;

/// Writes into the page cache of a file that may be opened for writing, and prints what it reads.
const SCRIBBLES: &str = r#"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(fd, 4, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
mapped[0:4] = b"evil"
print(open(sys.argv[1]).read())
"#;

/// Runs a program of Python in a mount namespace of its own, after `sh` did `first` in it; $1 is
/// the mount.
fn python(mount: &Mount, first: &str, user: u32, program: &str, argument: &str) -> Ran {
    let outside = tempfile::tempdir().unwrap();
    let script = format!(
        "{first}
         exec setpriv --reuid {user} --regid {user} --clear-groups -- \
             /usr/bin/python3 -I -S -c \"$2\" \"$1{argument}\" \"$3\""
    );
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--", "sh", "-euc", &script, "sh"])
        .arg(mount.root())
        .arg(program)
        .arg(outside.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

const REMOUNT: &str = "mount -o remount,rw,bind \"$1\"";

#[test]
fn nobody_can_write() {
    let sandbox = Sandbox::new("writing");
    for name in ["a", "b"] {
        sandbox.admin.create(&format!("/{name}"), name);
    }
    let nodes = "
        nodes.a.source = /a
        nodes.a.mode = 0666
        nodes.b.source = /b
        nodes.b.dest = dir/b
        nodes.c.source = /c";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let before = (mount.ino("a"), mount.mtime("a"), mount.ino("dir/b"));
    for (first, user) in [("", 0), ("", NOBODY), (REMOUNT, 0), (REMOUNT, NOBODY)] {
        let ran = python(&mount, first, user, TRIES, "");
        for line in ran.stdout.lines() {
            let (name, result) = line.split_once(' ').unwrap();
            let may_be: &[&str] = match (name, first.is_empty()) {
                ("listed", _) => &["a,dir"],
                // What is not there for whoever asks.
                ("staging_stat" | "staging_list" | "staging_file", _) => &["ENOENT"],
                // As between any two mounts; a read-only one comes first.
                ("rename_out", _) => &["EXDEV", "EROFS"],
                ("staging_out" | "staging_in" | "staging_remove", _) => {
                    &["ENOENT", "EROFS", "EACCES"]
                }
                ("tmpfile", _) => &["EROFS", "EACCES", "ENOTSUP"],
                // The kernel is told once and for all that there are none.
                ("setxattr" | "removexattr", false) => &["EROFS", "EACCES", "ENOTSUP"],
                ("chmod" | "chmod_root" | "chown" | "utime", false) => {
                    &["EROFS", "EACCES", "EPERM"]
                }
                // The kernel looks whose file it is before it links it.
                ("link", false) => &["EROFS", "EACCES", "EPERM"],
                _ => &["EROFS", "EACCES"],
            };
            assert!(
                may_be.contains(&result),
                "{name} as {user} after {first:?}: {result}"
            );
            // Root meets no permissions, so only what is read-only stops it.
            assert!(user != 0 || result != "EACCES", "{name} as root: {result}");
        }
        assert_eq!(ran.stdout.lines().count(), 32, "{ran:?}");
        assert_eq!(mount.read("a").unwrap(), b"a");
        let after = (mount.ino("a"), mount.mtime("a"), mount.ino("dir/b"));
        assert_eq!(after, before);
    }
    // What comes from ZooKeeper goes on.
    sandbox.admin.set("/a", "2");
    mount.wait_for_content("a", "2");
    sandbox.admin.create("/c", "1");
    mount.wait_for_content("c", "1");
}

#[test]
fn the_next_publication_heals_what_root_scribbles() {
    let sandbox = Sandbox::new("scribble");
    sandbox.admin.create("/a", "good");
    let mount = Mount::start(&config(&sandbox.hosts(), "nodes.a.source = /a"));
    let ran = python(&mount, REMOUNT, 0, SCRIBBLES, "/a");
    assert_eq!(ran.stdout, "evil\n", "what this test is about");
    sandbox.admin.set("/a", "next");
    mount.wait_for_content("a", "next");
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"next");
}

#[test]
fn unmounting_leaves_no_private_side() {
    let sandbox = Sandbox::new("private");
    sandbox.admin.create("/a", "1");
    let nodes = "log.file = log\nnodes.a.source = /a";
    let place = Place::new(&config(&sandbox.hosts(), nodes));
    place.mounted();
    assert_eq!(place.read("a").unwrap(), "1");
    // The number of a super block is that of its connection.
    let device = rustix::fs::stat(place.root()).unwrap().st_dev;
    let connection = rustix::fs::minor(device).to_string();
    let is_connected = || {
        let script = "mount -t fusectl none /sys/fs/fuse/connections && \
            ls /sys/fs/fuse/connections";
        let ran = place.in_namespace(script);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout.lines().any(|line| line == connection)
    };
    assert!(is_connected());
    let ran = place.run(&["umount", "mnt"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    place.wait_until_gone();
    wait_until(SOON, "the super block goes", || !is_connected());
}
