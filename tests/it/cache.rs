//! The last known good content on disk: what a start finds, whoever was killed, whatever the disk
//! did, and whoever else is there.

pub mod disk;
mod kill;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use livedata::cache::{Cache, Error, Health, Known, Loaded};
use livedata::path::ZnodePath;
use livedata::source::Stat;

use crate::support::wait::{holds_for, wait_until};

const MOUNTPOINT: &str = "/mnt/live";
const SERVICE: &str = "zk01:2181/chroot";

/// More than a disk needs on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

type Shown = BTreeMap<String, Known>;

fn open(dir: &Path) -> (Cache, Loaded) {
    Cache::open(dir, Path::new(MOUNTPOINT), SERVICE).unwrap()
}

/// What a start finds, undamaged.
fn loaded(dir: &Path) -> Shown {
    let (_cache, loaded) = open(dir);
    assert_eq!(loaded.dropped, [""; 0]);
    shown(&loaded)
}

fn shown(loaded: &Loaded) -> Shown {
    let entries = loaded.entries.iter();
    entries
        .map(|entry| (entry.path.to_string(), entry.known.clone()))
        .collect()
}

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789)
}

fn stat(mzxid: i64) -> Stat {
    Stat {
        czxid: 1,
        mzxid,
        ..Stat::default()
    }
}

fn tell(cache: &Cache, text: &str, mzxid: i64, bytes: &[u8]) {
    cache.content(&path(text), stat(mzxid), bytes.into(), at(mzxid as u64));
}

fn known(mzxid: i64, bytes: &[u8], seconds: u64) -> Known {
    Known::Content {
        stat: stat(mzxid),
        content: bytes.into(),
        confirmed: at(seconds),
    }
}

/// The directory of the mount in `dir`.
fn place(dir: &Path) -> PathBuf {
    dir.join("mnt-live")
}

/// The log of the mount in `dir`.
fn log(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(place(dir)).unwrap();
    let mut logs = files.map(|file| file.unwrap().path()).filter(|file| {
        file.file_name()
            .unwrap()
            .as_encoded_bytes()
            .starts_with(b"content.")
    });
    let log = logs.next().expect("there is a log");
    assert!(logs.next().is_none(), "one log");
    log
}

#[test]
fn a_start_finds_what_was_last_known() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, loaded_first) = open(dir.path());
    assert!(loaded_first.entries.is_empty() && loaded_first.dropped.is_empty());
    assert_eq!(loaded_first.latest, SystemTime::UNIX_EPOCH);
    tell(&cache, "/a", 1, b"old");
    tell(&cache, "/a", 2, b"new");
    tell(&cache, "/b", 3, b"b");
    tell(&cache, "/kept", 4, b"");
    cache.absent(&path("/gone"), 77);
    assert!(cache.flush(PATIENCE));
    let state = cache.state();
    assert_eq!(state.health, Health::Healthy);
    assert_eq!((state.n_entries, state.n_waiting), (4, 0));
    assert_eq!(state.n_bytes, log(dir.path()).metadata().unwrap().len());
    tell(&cache, "/b", 5, b"b2");
    cache.confirmed([&path("/a"), &path("/b"), &path("/unknown")], at(50));
    cache.absent(&path("/kept"), 78);
    cache.given(at(60));
    drop(cache);

    let (cache, found) = open(dir.path());
    let expected: Shown = [
        ("/a", known(2, b"new", 50)),
        ("/b", known(5, b"b2", 50)),
        ("/kept", Known::Absent { zxid: 78 }),
        ("/gone", Known::Absent { zxid: 77 }),
    ]
    .map(|(path, known)| (path.to_string(), known))
    .into();
    assert_eq!(shown(&found), expected);
    assert_eq!(found.latest, at(60));
    assert_eq!(found.dropped, [""; 0]);
    drop(cache);
}

#[test]
fn it_is_written_without_being_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path());
    tell(&cache, "/a", 1, b"a");
    wait_until(PATIENCE, "it is on disk", || {
        cache.kept(&path("/a"), &stat(1)).is_some()
    });
}

#[test]
fn nodes_no_longer_configured_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path());
    for text in ["/a", "/b", "/c"] {
        tell(&cache, text, 1, b"secret");
    }
    assert!(cache.flush(PATIENCE));
    tell(&cache, "/d", 1, b"not even written");
    cache.retain(|path| path.as_str() == "/a");
    tell(&cache, "/c", 2, b"configured again");
    cache.forgotten(&path("/never"));
    assert!(cache.flush(PATIENCE));
    assert_eq!(cache.state().n_entries, 2);
    drop(cache);
    let found = loaded(dir.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["/a", "/c"]);
}

#[test]
fn what_is_known_already_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path());
    let bytes = [1; 100_000];
    tell(&cache, "/a", 1, &bytes);
    assert!(cache.flush(PATIENCE));
    let n_bytes = cache.state().n_bytes;
    for seconds in 2..50 {
        cache.content(&path("/a"), stat(1), bytes.into(), at(seconds));
        assert!(cache.flush(PATIENCE));
    }
    assert!(cache.state().n_bytes < n_bytes + 5000);
    drop(cache);
    assert_eq!(loaded(dir.path())["/a"], known(1, &bytes, 49));
}

#[test]
fn content_is_read_back_by_path_and_version() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path());
    tell(&cache, "/a", 1, b"one");
    assert!(cache.flush(PATIENCE));
    assert!(cache.kept(&path("/a"), &stat(2)).is_none());
    assert!(cache.kept(&path("/b"), &stat(1)).is_none());
    let kept = cache.kept(&path("/a"), &stat(1)).unwrap();
    assert_eq!(*kept.read().unwrap(), *b"one");
    // It stays readable when the log is written anew without it.
    let large = vec![2; 3 << 20];
    let before = log(dir.path());
    for mzxid in 2..5 {
        tell(&cache, "/a", mzxid, &large);
        assert!(cache.flush(PATIENCE));
    }
    wait_until(PATIENCE, "it was written anew", || !before.exists());
    assert_eq!(*kept.read().unwrap(), *b"one");
    assert!(cache.kept(&path("/a"), &stat(1)).is_none());
    let kept = cache.kept(&path("/a"), &stat(4)).unwrap();
    assert!(*kept.read().unwrap() == *large);
}

#[test]
fn another_service_does_not_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path());
    tell(&cache, "/a", 1, b"a");
    drop(cache);
    let other = Cache::open(dir.path(), Path::new(MOUNTPOINT), "zk01:2181/other");
    let (cache, found) = other.unwrap();
    assert!(found.entries.is_empty());
    assert_eq!(found.dropped.len(), 1, "{:?}", found.dropped);
    assert!(found.dropped[0].contains("another service"));
    assert!(cache.flush(PATIENCE));
    drop(cache);
    // And it is not on disk any more.
    let (_cache, found) = open(dir.path());
    assert!(found.entries.is_empty());
}

#[test]
fn two_mounts_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mountpoints = ["/mnt/live", "/mnt-live"].map(Path::new);
    let open = |mountpoint| Cache::open(dir.path(), mountpoint, SERVICE).unwrap();
    let caches = mountpoints.map(open);
    for (n, (cache, _)) in caches.iter().enumerate() {
        tell(cache, "/a", n as i64, b"a");
        assert!(cache.flush(PATIENCE));
    }
    drop(caches);
    for (n, mountpoint) in mountpoints.into_iter().enumerate() {
        let (_cache, found) = open(mountpoint);
        assert_eq!(shown(&found)["/a"], known(n as i64, b"a", n as u64));
    }
}

#[test]
fn a_second_mount_of_the_same_name_waits_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path());
    tell(&first, "/a", 1, b"a");
    assert!(first.flush(PATIENCE));
    // It may read, and does not write.
    let (second, found) = open(dir.path());
    assert_eq!(shown(&found)["/a"], known(1, b"a", 1));
    assert_eq!(found.dropped, [""; 0]);
    let us = Some(std::process::id());
    wait_until(
        PATIENCE,
        "the second knows who has it",
        || matches!(second.state().health, Health::Locked { holder, .. } if holder == us),
    );
    tell(&second, "/b", 2, b"b");
    assert!(!second.flush(Duration::from_millis(50)));
    tell(&first, "/a", 3, b"newer");
    tell(&first, "/c", 3, b"c");
    drop(first);
    assert!(second.flush(PATIENCE), "{:?}", second.state());
    assert_eq!(second.state().health, Health::Healthy);
    drop(second);
    let found = loaded(dir.path());
    assert_eq!(found["/a"], known(3, b"newer", 3));
    assert_eq!(found["/b"], known(2, b"b", 2));
    assert_eq!(found["/c"], known(3, b"c", 3));
}

#[test]
fn a_successor_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _) = open(dir.path());
    tell(&old, "/a", 1, b"a");
    tell(&old, "/b", 1, b"b");
    assert!(old.flush(PATIENCE));
    let new = Cache::take_over(dir.path(), Path::new(MOUNTPOINT), SERVICE).unwrap();
    tell(&new, "/a", 2, b"a2");
    drop(old);
    assert!(new.flush(PATIENCE));
    drop(new);
    let found = loaded(dir.path());
    assert_eq!(found["/a"], known(2, b"a2", 2));
    assert_eq!(found["/b"], known(1, b"b", 1));
}

#[test]
fn damage_is_dropped_reported_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path());
    tell(&cache, "/a", 1, b"aaaa");
    assert!(cache.flush(PATIENCE));
    tell(&cache, "/b", 1, b"bbbb");
    drop(cache);
    let log = log(dir.path());
    let mut bytes = std::fs::read(&log).unwrap();
    let hit = bytes.windows(4).position(|bytes| bytes == b"aaaa");
    bytes[hit.unwrap()] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let (cache, found) = open(dir.path());
    assert_eq!(shown(&found), [("/b".into(), known(1, b"bbbb", 1))].into());
    assert_eq!(found.dropped.len(), 1);
    assert_eq!(cache.state().n_dropped, 1);
    wait_until(PATIENCE, "it is written anew", || !log.exists());
    drop(cache);
    assert_eq!(loaded(dir.path()).len(), 1);
}

#[test]
fn content_that_the_disk_lost_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path());
    tell(&cache, "/a", 1, b"aaaa");
    tell(&cache, "/b", 1, b"bbbb");
    assert!(cache.flush(PATIENCE));
    let log = log(dir.path());
    let mut bytes = std::fs::read(&log).unwrap();
    let hit = bytes.windows(4).position(|bytes| bytes == b"aaaa");
    bytes[hit.unwrap()] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let kept = cache.kept(&path("/a"), &stat(1)).unwrap();
    assert!(kept.read().is_err(), "never wrong content");
    // A log without a name is written anew.
    std::fs::remove_file(&log).unwrap();
    assert!(cache.flush(PATIENCE));
    tell(&cache, "/c", 1, b"cccc");
    assert!(cache.flush(PATIENCE));
    assert_eq!(cache.lost(), [path("/a")]);
    assert_eq!(cache.lost(), []);
    tell(&cache, "/a", 1, b"aaaa");
    drop(cache);
    let found = loaded(dir.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["/a", "/b", "/c"]);
}

#[test]
fn directories_that_others_can_change_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("cache");
    let refused = |what: &str| {
        let opened = Cache::open(&dir, Path::new(MOUNTPOINT), SERVICE);
        let Err(Error::Insecure { what: why, .. }) = opened else {
            panic!("{what} is refused");
        };
        assert!(why.contains(what), "{why}");
    };
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(&dir).unwrap();
    for others in [0o777, 0o770] {
        mode(&dir, others);
        refused("others can write there");
    }
    mode(&dir, 0o1777);
    drop(open(&dir));
    std::fs::remove_dir_all(place(&dir)).unwrap();
    std::os::unix::fs::symlink(parent.path(), place(&dir)).unwrap();
    refused("is no directory");
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
    std::fs::remove_file(place(&dir)).unwrap();
    std::fs::create_dir(place(&dir)).unwrap();
    std::os::unix::fs::chown(place(&dir), Some(65534), None).unwrap();
    refused("is owned by user 65534");
    std::os::unix::fs::chown(place(&dir), Some(0), None).unwrap();
    // Ours, but open to others: closed before anything is put there.
    mode(&place(&dir), 0o755);
    drop(open(&dir));
    assert_eq!(
        std::fs::metadata(place(&dir)).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    std::os::unix::fs::chown(&dir, Some(65534), None).unwrap();
    refused("is owned by user 65534");
}

#[test]
fn planted_files_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path());
    tell(&cache, "/a", 1, b"a");
    drop(cache);
    let log = log(dir.path());
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    std::fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink(&victim, &log).unwrap();
    std::os::unix::fs::symlink(&victim, place(dir.path()).join("new")).unwrap();
    let (cache, found) = open(dir.path());
    assert!(found.entries.is_empty());
    assert_eq!(found.dropped.len(), 1, "{:?}", found.dropped);
    tell(&cache, "/b", 1, b"b");
    assert!(cache.flush(PATIENCE));
    drop(cache);
    assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
    assert_eq!(loaded(dir.path()).keys().collect::<Vec<_>>(), ["/b"]);

    let lock = place(dir.path()).join("lock");
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&victim, &lock).unwrap();
    let (cache, _) = open(dir.path());
    assert!(!cache.flush(Duration::from_millis(50)) || cache.state().health != Health::Healthy);
    drop(cache);
    assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
}

#[test]
fn it_is_not_kept_in_the_mount_itself() {
    let dir = Path::new("/mnt/live/cache");
    let opened = Cache::open(dir, Path::new(MOUNTPOINT), SERVICE);
    assert!(matches!(opened, Err(Error::InsideMount { .. })));
}

#[test]
fn ten_thousand_znodes() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path());
    let paths: Vec<_> = (0..10_000)
        .map(|n| path(&format!("/services/node-{n:05}")))
        .collect();
    let content: Arc<[u8]> = vec![b'x'; 1024].into();
    let start = Instant::now();
    for (n, path) in paths.iter().enumerate() {
        cache.content(path, stat(n as i64), Arc::clone(&content).into(), at(1));
    }
    let told = start.elapsed();
    assert!(cache.flush(PATIENCE));
    println!(
        "10 000 znodes of 1 KiB: told in {told:?}, on disk after {:?}",
        start.elapsed()
    );
    let n_bytes = cache.state().n_bytes;
    let start = Instant::now();
    cache.confirmed(&paths, at(2));
    let told = start.elapsed();
    assert!(cache.flush(PATIENCE));
    let n_added = cache.state().n_bytes - n_bytes;
    println!(
        "a heartbeat: told in {told:?}, on disk after {:?}, {n_added} bytes",
        start.elapsed()
    );
    assert!(n_added < 1000, "{n_added}");
    drop(cache);
    let start = Instant::now();
    let (cache, found) = open(dir.path());
    println!("loaded in {:?}", start.elapsed());
    assert_eq!(found.entries.len(), paths.len());
    assert!(found.entries.iter().all(|entry| matches!(
        &entry.known,
        Known::Content { content, confirmed, .. } if content.n_bytes() == 1024 && *confirmed == at(2)
    )));
    drop(cache);
}

/// Makes the test binary the process whose umask is 0.
const UMASK: &str = "LIVEDATA_TEST_CACHE_UMASK";

#[test]
fn nobody_else_can_read_it_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("made");
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cache::writes_with_umask_0", "--nocapture"])
        .env(UMASK, &root)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (mut n_looks, mut names) = (0, std::collections::BTreeSet::new());
    let mode = |path: &Path| {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        Some(metadata.permissions().mode() & 0o7777)
    };
    while writer.try_wait().unwrap().is_none() {
        for directory in [root.clone(), place(&root)] {
            assert!(matches!(mode(&directory), None | Some(0o700)));
        }
        for file in std::fs::read_dir(place(&root))
            .into_iter()
            .flatten()
            .flatten()
        {
            assert!(matches!(mode(&file.path()), None | Some(0o600)), "{file:?}");
            names.insert(file.file_name());
            n_looks += 1;
        }
    }
    assert!(writer.wait().unwrap().success());
    println!("{n_looks} looks at {} files", names.len());
    assert!(
        names.len() >= 3,
        "the lock and more than one log: {names:?}"
    );
    assert_eq!(mode(&log(&root)), Some(0o600));
}

#[test]
fn writes_with_umask_0() {
    let Some(root) = std::env::var_os(UMASK) else {
        return;
    };
    rustix::process::umask(rustix::fs::Mode::empty());
    let (cache, _) = open(Path::new(&root));
    for mzxid in 0..40 {
        tell(&cache, "/secret", mzxid, &vec![1; 1 << 20]);
        assert!(cache.flush(PATIENCE));
    }
}

/// Makes the test binary the process that may write short files only.
const LIMIT: &str = "LIVEDATA_TEST_CACHE_LIMIT";

#[test]
fn a_limit_of_file_sizes_ends_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cache::writes_beyond_a_limit", "--nocapture"])
        .env(LIMIT, dir.path())
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success(), "SIGXFSZ would have ended it");
    assert_eq!(
        loaded(dir.path()),
        [("/b".into(), known(2, b"b", 2))].into()
    );
}

#[test]
fn writes_beyond_a_limit() {
    let Some(dir) = std::env::var_os(LIMIT) else {
        return;
    };
    let limit = rustix::process::Rlimit {
        current: Some(100_000),
        maximum: None,
    };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    let (cache, _) = open(Path::new(&dir));
    tell(&cache, "/a", 1, &[1; 200_000]);
    assert!(!cache.flush(PATIENCE));
    assert!(matches!(cache.state().health, Health::Failing { .. }));
    cache.forgotten(&path("/a"));
    tell(&cache, "/b", 2, b"b");
    wait_until(PATIENCE, "it is written", || cache.flush(PATIENCE));
}

#[test]
fn a_lock_that_was_removed_is_taken_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path());
    tell(&first, "/a", 1, b"a");
    assert!(first.flush(PATIENCE));
    std::fs::remove_file(place(dir.path()).join("lock")).unwrap();
    let (second, _) = open(dir.path());
    tell(&second, "/b", 2, b"b");
    assert!(second.flush(PATIENCE));
    tell(&first, "/c", 3, b"c");
    assert!(!first.flush(Duration::from_millis(50)), "the other has it");
    drop(second);
    assert!(first.flush(PATIENCE));
    drop(first);
    assert!(loaded(dir.path()).contains_key("/c"));
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("cache");
    let (cache, _) = open(&dir);
    tell(&cache, "/a", 1, b"a");
    assert!(cache.flush(PATIENCE));
    std::fs::rename(&dir, parent.path().join("moved")).unwrap();
    tell(&cache, "/b", 2, b"b");
    wait_until(PATIENCE, "it is written anew", || {
        cache.flush(PATIENCE) && place(&dir).exists()
    });
    std::fs::remove_dir_all(&dir).unwrap();
    tell(&cache, "/c", 3, b"c");
    assert!(cache.flush(PATIENCE));
    drop(cache);
    let found = loaded(&dir);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["/a", "/b", "/c"]);
    holds_for(
        Duration::from_millis(10),
        "the moved one is left alone",
        || parent.path().join("moved/mnt-live").exists(),
    );
}
