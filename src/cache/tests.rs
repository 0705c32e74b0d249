// The log itself: every byte damaged, every place where it could end, and what a rewrite keeps.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicU64;

use tempfile::TempDir;

use super::batch::Batch;
use super::load::{self, Reading};
use super::log::{Log, SLACK};
use super::out::Out;
use super::place::{self, Place};
use super::rewrite::{Rewrite, Step};
use super::*;

const IDENTITY: u64 = 7;

/// A directory with a log in it.
struct Fixture {
    dir: TempDir,
    place: Place,
}

/// What is known, by path.
type Shown = BTreeMap<String, Known>;

impl Fixture {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let place = Place::open(dir.path(), "mnt").unwrap();
        Self { dir, place }
    }

    fn load(&self) -> (Log, Loaded) {
        let reading = Reading {
            is_ours: true,
            with_contents: true,
            progress: &AtomicU64::new(0),
        };
        load::load(&self.place, IDENTITY, &reading).unwrap()
    }

    /// An empty log that has a file.
    fn log(&self) -> Log {
        let mut log = Log::empty(IDENTITY, 0);
        self.rewrite(&mut log);
        log
    }

    fn rewrite(&self, log: &mut Log) -> Vec<ZnodePath> {
        let mut rewrite = Rewrite::start(log, &self.place).unwrap();
        loop {
            if let Step::Done(lost) = rewrite.step(log, &self.place).unwrap() {
                return lost;
            }
        }
    }

    /// The only log there is.
    fn file(&self) -> PathBuf {
        let mut files = fs::read_dir(self.dir.path().join("mnt")).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none());
        file
    }
}

/// Writes a file as the cache wants its files to be.
fn put(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
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
        version: 5,
        ephemeral_owner: -1,
        ..Stat::default()
    }
}

fn content(mzxid: i64, bytes: &[u8], seconds: u64) -> News {
    News::Content {
        stat: stat(mzxid),
        content: bytes.into(),
        confirmed: at(seconds),
    }
}

fn known(mzxid: i64, bytes: &[u8], seconds: u64) -> Known {
    Known::Content {
        stat: stat(mzxid),
        content: bytes.into(),
        confirmed: at(seconds),
    }
}

fn batch(news: impl IntoIterator<Item = (&'static str, News)>) -> Batch {
    let mut batch = Batch::default();
    for (text, news) in news {
        batch.tell(path(text), news);
    }
    batch
}

fn shown(loaded: &Loaded) -> Shown {
    let entry = |entry: &Entry| (entry.path.to_string(), entry.known.clone());
    let shown: Shown = loaded.entries.iter().map(entry).collect();
    assert_eq!(shown.len(), loaded.entries.len(), "one entry per znode");
    shown
}

/// Batches of one of each kind, and what is known after each of them.
fn history() -> Vec<(Batch, Shown)> {
    let mut shown = Shown::new();
    let mut history = Vec::new();
    let mut then = |batch, path: &str, known: Option<Known>| {
        match known {
            Some(known) => shown.insert(path.into(), known),
            None => shown.remove(path),
        };
        history.push((batch, shown.clone()));
    };
    let one = |path, news| batch([(path, news)]);
    then(
        one("/a", content(2, b"first", 10)),
        "/a",
        Some(known(2, b"first", 10)),
    );
    then(
        one("/b", content(3, b"", 11)),
        "/b",
        Some(known(3, b"", 11)),
    );
    then(
        one("/a", content(4, b"second", 12)),
        "/a",
        Some(known(4, b"second", 12)),
    );
    then(
        one("/a", News::Confirmed(at(20))),
        "/a",
        Some(known(4, b"second", 20)),
    );
    then(
        one("/c", News::Absent { zxid: 9 }),
        "/c",
        Some(Known::Absent { zxid: 9 }),
    );
    then(one("/b", News::Forgotten), "/b", None);
    then(
        one("/a", content(5, b"third", 21)),
        "/a",
        Some(known(5, b"third", 21)),
    );
    then(
        one("/a", News::Absent { zxid: 10 }),
        "/a",
        Some(Known::Absent { zxid: 10 }),
    );
    then(
        one("/d", content(6, b"fourth", 22)),
        "/d",
        Some(known(6, b"fourth", 22)),
    );
    history
}

/// Writes the history; gives where each batch ends, from the header of an empty log on.
fn write(fixture: &Fixture) -> (Vec<u64>, Vec<Shown>) {
    let mut log = fixture.log();
    let (mut ends, mut states) = (vec![log.end], vec![Shown::new()]);
    for (batch, shown) in history() {
        log.append(&batch).unwrap();
        ends.push(log.end);
        states.push(shown);
    }
    (ends, states)
}

#[test]
fn what_was_written_is_read() {
    let fixture = Fixture::new();
    let (_, states) = write(&fixture);
    let (log, loaded) = fixture.load();
    assert_eq!(shown(&loaded), states[states.len() - 1]);
    assert_eq!(loaded.latest, at(22));
    assert_eq!(loaded.dropped, [""; 0]);
    assert!(!log.wants_rewrite());
}

#[test]
fn wherever_it_ends_a_beginning_is_read() {
    let fixture = Fixture::new();
    let (ends, states) = write(&fixture);
    let file = fixture.file();
    let whole = fs::read(&file).unwrap();
    assert_eq!(ends.last(), Some(&(whole.len() as u64)));
    for n in (0..whole.len()).rev() {
        put(&file, &whole[..n]);
        let (mut log, loaded) = fixture.load();
        let n_batches = ends.iter().filter(|end| **end <= n as u64).count();
        let expected = n_batches.checked_sub(1).map_or(&states[0], |i| &states[i]);
        assert_eq!(shown(&loaded), *expected, "cut after {n}");
        let is_cut = n != 0 && !ends.contains(&(n as u64));
        assert_eq!(loaded.dropped.len(), usize::from(is_cut), "cut after {n}");
        // An empty file is a log without news.
        assert!(!log.wants_rewrite());
        assert_eq!(log.end, fs::metadata(&file).unwrap().len());
        // It goes on from there.
        if n % 7 == 0 {
            if n % 14 == 0 {
                fixture.rewrite(&mut log);
            }
            let news = content(99, b"more", 99);
            log.append(&batch([("/more", news)])).unwrap();
            let mut expected = expected.clone();
            expected.insert("/more".into(), known(99, b"more", 99));
            let (_, loaded) = fixture.load();
            assert_eq!(shown(&loaded), expected);
            assert_eq!(loaded.dropped, [""; 0]);
            fs::remove_file(fixture.file()).unwrap();
        }
    }
}

#[test]
fn a_damaged_byte_costs_its_entry_and_is_reported() {
    let fixture = Fixture::new();
    let (ends, _) = write(&fixture);
    let file = fixture.file();
    let whole = fs::read(&file).unwrap();
    for flipped in 0..whole.len() {
        for mask in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[flipped] ^= mask;
            put(&file, &bytes);
            let (log, loaded) = fixture.load();
            // The history without the batch that was hit; the first one is the head of the log.
            let hit = ends.iter().filter(|end| **end <= flipped as u64).count();
            let mut expected = Shown::new();
            for (i, (batch, _)) in history().into_iter().enumerate() {
                if i + 1 != hit {
                    apply(&mut expected, batch, hit);
                }
            }
            assert_eq!(shown(&loaded), expected, "byte {flipped} of batch {hit}");
            assert_eq!(loaded.dropped.len(), 1, "byte {flipped}");
            let is_last = hit == ends.len() - 1;
            assert_eq!(log.wants_rewrite(), !is_last, "byte {flipped}");
        }
    }
}

/// The naive twin of the log. The fourth batch confirms what the third one told, and nothing else.
fn apply(shown: &mut Shown, batch: Batch, hit: usize) {
    for (path, news) in batch.news {
        let path = path.to_string();
        match news {
            News::Content {
                stat,
                content,
                confirmed,
            } => {
                let known = Known::Content {
                    stat,
                    content,
                    confirmed,
                };
                shown.insert(path, known);
            }
            News::Absent { zxid } => {
                shown.insert(path, Known::Absent { zxid });
            }
            News::Forgotten => {
                shown.remove(&path);
            }
            News::Confirmed(time) => {
                if hit != 3
                    && let Some(Known::Content { confirmed, .. }) = shown.get_mut(&path)
                {
                    *confirmed = time;
                }
            }
        }
    }
}

#[test]
fn a_content_cannot_pretend_to_be_an_entry() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    // The forger has a log of the same kind, and so all but the salt.
    let other = Fixture::new();
    let forged = batch([("/victim", content(9, b"forged", 1))]);
    other.log().append(&forged).unwrap();
    let forgery = fs::read(other.file()).unwrap();
    log.append(&batch([("/a", content(2, &forgery, 1))]))
        .unwrap();
    let mut bytes = fs::read(fixture.file()).unwrap();
    let n = bytes.len();
    bytes[n - forgery.len() - 60] ^= 1;
    fs::write(fixture.file(), bytes).unwrap();
    let (_, loaded) = fixture.load();
    assert_eq!(loaded.dropped.len(), 1);
    assert_eq!(shown(&loaded), Shown::new());
}

#[test]
fn a_hundred_thousand_updates_of_one_znode_stay_small() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    let bytes = [7; 1000];
    let (mut longest, mut n_rewrites) = (0, 0);
    for n in 1..=100_000 {
        let news = batch([("/a", content(n, &bytes, n as u64))]);
        // Without a sync, for the disk is not the question.
        log.append_and(&news, Out::write).unwrap();
        longest = longest.max(log.end);
        if log.wants_rewrite() {
            fixture.rewrite(&mut log);
            n_rewrites += 1;
            assert!(log.end < 4000);
        }
    }
    assert!(longest <= 2 * 2000 + SLACK + 2000, "{longest}");
    assert!((50..200).contains(&n_rewrites), "{n_rewrites}");
    let (_, loaded) = fixture.load();
    assert_eq!(shown(&loaded)["/a"], known(100_000, &bytes, 100_000));
}

#[test]
fn what_changes_during_a_rewrite_is_in_the_new_log() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    let large = vec![3; 6 << 20];
    log.append(&batch([
        ("/changed", content(2, &large, 1)),
        ("/confirmed", content(3, &large, 1)),
        ("/forgotten", content(4, &large, 1)),
        ("/gone", content(5, &large, 1)),
    ]))
    .unwrap();
    let mut rewrite = Rewrite::start(&log, &fixture.place).unwrap();
    let during = || {
        batch([
            ("/changed", content(7, b"new", 2)),
            ("/confirmed", News::Confirmed(at(3))),
            ("/forgotten", News::Forgotten),
            ("/gone", News::Absent { zxid: 8 }),
            ("/added", content(9, b"added", 4)),
        ])
    };
    let mut n_steps = 0;
    while let Step::More = rewrite.step(&mut log, &fixture.place).unwrap() {
        n_steps += 1;
        if n_steps == 2 {
            log.append(&during()).unwrap();
        }
        assert!(n_steps < 20);
    }
    assert!(n_steps >= 2, "it was not done in one step");
    let (loaded_log, loaded) = fixture.load();
    let expected: Shown = [
        ("/changed", known(7, b"new", 2)),
        ("/confirmed", known(3, &large, 3)),
        ("/gone", Known::Absent { zxid: 8 }),
        ("/added", known(9, b"added", 4)),
    ]
    .map(|(path, known)| (path.to_string(), known))
    .into();
    assert!(shown(&loaded) == expected);
    assert_eq!(loaded.latest, at(4));
    assert_eq!(loaded.dropped, [""; 0]);
    // What is read is what the writer thinks.
    assert!(log.index.read().frames == loaded_log.index.read().frames);
    assert_eq!(log.n_live, loaded_log.n_live);
    assert_eq!(log.next_id, loaded_log.next_id);
}

#[test]
fn a_rewrite_that_is_cut_short_changes_nothing() {
    let fixture = Fixture::new();
    let (_, states) = write(&fixture);
    let (log, _) = fixture.load();
    drop(Rewrite::start(&log, &fixture.place).unwrap());
    let (_, loaded) = fixture.load();
    assert_eq!(shown(&loaded), states[states.len() - 1]);
    assert_eq!(loaded.dropped, [""; 0]);
}

#[test]
fn of_two_logs_the_newer_one_counts() {
    let fixture = Fixture::new();
    let (_, states) = write(&fixture);
    let old = fixture.file();
    let copy = fs::read(&old).unwrap();
    let (mut log, _) = fixture.load();
    fixture.rewrite(&mut log);
    log.append(&batch([("/d", News::Forgotten)])).unwrap();
    // As a power failure leaves it, after the rename and before the removal.
    put(&old, &copy);
    let (_, loaded) = fixture.load();
    let mut expected = states[states.len() - 1].clone();
    expected.remove("/d");
    assert_eq!(shown(&loaded), expected);
}

#[test]
fn what_is_lost_in_the_old_log_is_named() {
    let fixture = Fixture::new();
    let mut log = fixture.log();
    let news = batch([
        ("/a", content(2, b"aaaa", 1)),
        ("/b", content(3, b"bbbb", 1)),
    ]);
    log.append(&news).unwrap();
    let mut bytes = fs::read(fixture.file()).unwrap();
    let hit = bytes.windows(4).position(|bytes| bytes == b"aaaa").unwrap();
    bytes[hit] ^= 1;
    fs::write(fixture.file(), bytes).unwrap();
    assert_eq!(fixture.rewrite(&mut log), [path("/a")]);
    let (_, loaded) = fixture.load();
    assert_eq!(
        shown(&loaded),
        [("/b".to_string(), known(3, b"bbbb", 1))].into()
    );
}

#[test]
fn names_of_directories() {
    let name = |text: &str| place::name(Path::new(text));
    assert_eq!(name("/mnt/live"), "mnt-live");
    assert_eq!(name("/mnt-live"), "mnt%2dlive");
    assert_eq!(name("/.a/b.c"), "%2ea-b.c");
    assert_eq!(name("/"), "-");
    assert_eq!(name("/\u{e4}%"), "%c3%a4%25");
    let long = [name(&"/x".repeat(300)), name(&"/x".repeat(301))];
    assert_eq!(long.each_ref().map(String::len), [255, 255]);
    assert_ne!(long[0], long[1]);
}
