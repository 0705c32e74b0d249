//! Disks that are full or read-only, and well again. Needs root.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use super::*;

/// A small file system of memory. Unmounts on drop.
pub struct Disk(tempfile::TempDir);

impl Disk {
    pub fn new(options: &std::ffi::CStr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        rustix::mount::mount("none", dir.path(), "tmpfs", MountFlags::empty(), options).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space that is left, until the file is removed.
    pub fn fill(&self) -> PathBuf {
        let file = self.path().join("full");
        let written = std::fs::write(&file, vec![0; 16 << 20]);
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        file
    }

    fn make_read_only(&self, is_read_only: bool) {
        let flags = match is_read_only {
            true => MountFlags::RDONLY,
            false => MountFlags::empty(),
        };
        // A process that another test is about to start has our files open until it is executed.
        wait_until(
            PATIENCE,
            "nobody writes there",
            || match rustix::mount::mount_remount(self.path(), flags, "") {
                Err(rustix::io::Errno::BUSY) => false,
                result => result.map(|()| true).unwrap(),
            },
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path(), UnmountFlags::DETACH);
    }
}

fn is_failing(cache: &Cache) -> bool {
    matches!(cache.state().health, Health::Failing { .. })
}

#[test]
fn a_full_disk_loses_nothing_that_is_on_it_and_heals() {
    let disk = Disk::new(c"size=8m,mode=755");
    let (cache, _) = open(disk.path());
    tell(&cache, "/a", 1, b"a");
    assert!(cache.flush(PATIENCE));
    let full = disk.fill();
    let large = vec![1; 1 << 20];
    tell(&cache, "/large", 2, &large);
    assert!(!cache.flush(PATIENCE));
    assert!(is_failing(&cache));
    assert_eq!(cache.state().n_waiting, 1);
    // A start now finds what was written before it was full.
    let (reader, found) = open(disk.path());
    assert_eq!(shown(&found), [("/a".into(), known(1, b"a", 1))].into());
    assert_eq!(found.dropped, [""; 0]);
    drop(reader);
    // Newer news take the place of those that wait.
    tell(&cache, "/large", 3, &large);
    std::fs::remove_file(full).unwrap();
    wait_until(PATIENCE, "it is written again", || !is_failing(&cache));
    assert!(cache.flush(PATIENCE));
    drop(cache);
    let found = loaded(disk.path());
    assert!(found["/large"] == known(3, &large, 3));
    assert_eq!(found.len(), 2);
}

#[test]
fn a_disk_that_is_full_from_the_start() {
    let disk = Disk::new(c"size=1m,mode=755");
    let full = disk.fill();
    let (cache, found) = open(disk.path());
    assert!(found.entries.is_empty());
    tell(&cache, "/a", 1, &[1; 10_000]);
    assert!(!cache.flush(PATIENCE));
    assert!(is_failing(&cache));
    std::fs::remove_file(full).unwrap();
    wait_until(PATIENCE, "it is written", || cache.flush(PATIENCE));
    drop(cache);
    assert_eq!(loaded(disk.path()).len(), 1);
}

#[test]
fn a_log_that_cannot_be_compacted_is_still_written() {
    let disk = Disk::new(c"size=8m,mode=755");
    let (cache, _) = open(disk.path());
    let large = vec![1; 1 << 20];
    for (n, text) in ["/a", "/b", "/c", "/a", "/b", "/c"].iter().enumerate() {
        tell(&cache, text, n as i64, &large);
        assert!(cache.flush(PATIENCE), "{n}");
    }
    // 6 MiB, of which 3 are outdated: with the next one it wants to be written anew, into 2 MiB.
    tell(&cache, "/a", 6, &large);
    assert!(cache.flush(PATIENCE));
    tell(&cache, "/b", 7, b"small");
    assert!(cache.flush(PATIENCE));
    tell(&cache, "/c", 8, b"small");
    assert!(cache.flush(PATIENCE));
    assert_eq!(cache.state().health, Health::Healthy);
    drop(cache);
    let found = loaded(disk.path());
    assert!(found["/a"] == known(6, &large, 6));
    assert_eq!(found["/b"], known(7, b"small", 7));
    assert_eq!(found["/c"], known(8, b"small", 8));
}

#[test]
fn a_read_only_disk_is_read_and_written_when_it_can_be() {
    let disk = Disk::new(c"size=8m,mode=755");
    let (cache, _) = open(disk.path());
    tell(&cache, "/a", 1, b"a");
    drop(cache);
    disk.make_read_only(true);
    let (cache, found) = open(disk.path());
    assert_eq!(shown(&found)["/a"], known(1, b"a", 1));
    tell(&cache, "/b", 2, b"b");
    assert!(!cache.flush(PATIENCE));
    assert!(is_failing(&cache));
    disk.make_read_only(false);
    wait_until(PATIENCE, "it is written again", || cache.flush(PATIENCE));
    assert_eq!(cache.state().health, Health::Healthy);
    drop(cache);
    assert_eq!(loaded(disk.path()).keys().collect::<Vec<_>>(), ["/a", "/b"]);
}

#[test]
fn a_disk_that_is_read_only_from_the_start() {
    let disk = Disk::new(c"size=8m,mode=755");
    disk.make_read_only(true);
    let dir = disk.path().join("cache");
    let (cache, found) = open(&dir);
    assert!(found.entries.is_empty());
    assert!(is_failing(&cache));
    tell(&cache, "/a", 1, b"a");
    disk.make_read_only(false);
    wait_until(PATIENCE, "it is written", || cache.flush(PATIENCE));
    drop(cache);
    assert_eq!(loaded(&dir).len(), 1);
}

/// A file system whose server answers nothing, until it is dropped.
struct Hung {
    dir: tempfile::TempDir,
    server: Option<std::os::fd::OwnedFd>,
}

impl Hung {
    fn new() -> Self {
        use rustix::fs::{Mode, OFlags};
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let server = rustix::fs::open("/dev/fuse", flags, Mode::empty()).unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            server.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).unwrap();
        let flags = MountFlags::empty();
        rustix::mount::mount("none", dir.path(), "fuse", flags, options.as_c_str()).unwrap();
        let server = Some(server);
        Self { dir, server }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.server = None;
        let _ = rustix::mount::unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_disk_that_does_not_answer_holds_up_nobody() {
    let mut disk = Hung::new();
    let dir = disk.dir.path().join("cache");
    let (cache, found) = open(&dir);
    assert!(found.entries.is_empty());
    assert!(found.dropped[0].contains("does not answer"));
    for n in 0..10_000 {
        tell(&cache, &format!("/{}", n % 10), n, b"content");
    }
    cache.confirmed([&path("/1")], at(10_000));
    assert!(!cache.flush(Duration::from_millis(50)));
    assert_eq!(cache.state().n_waiting, 10, "the newest per znode");
    assert_eq!(cache.state().health, Health::Starting);
    // The server of that file system dies, and so the calls come back.
    disk.server = None;
    wait_until(PATIENCE, "it says so", || is_failing(&cache));
    rustix::mount::unmount(disk.dir.path(), UnmountFlags::DETACH).unwrap();
    wait_until(PATIENCE, "it is written", || cache.flush(PATIENCE));
    drop(cache);
    let found = loaded(&dir);
    assert_eq!(found.len(), 10);
    assert_eq!(found["/1"], known(9991, b"content", 10_000));
}

#[test]
fn an_end_does_not_wait_for_a_disk_that_does_not_answer() {
    let disk = Hung::new();
    let cache = Cache::take_over(disk.dir.path(), Path::new(MOUNTPOINT), SERVICE).unwrap();
    tell(&cache, "/a", 1, b"a");
    let end = std::thread::spawn(move || drop(cache));
    wait_until(PATIENCE, "it ends", || end.is_finished());
}
