//! The kernel reads what lies on disk.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::*;
use crate::live::Live;

/// A mount whose contents all lie on disk, and who makes room for it.
fn mount(kept: &Kept) -> (Live, Spilling) {
    let store = Store::new();
    let reader = store.reader.clone();
    let live = Live::mount_tree((store.writer, store.reader));
    let spilling = Spilling::start(&reader, kept.place(tempfile::tempfile), 0).unwrap();
    (live, spilling)
}

fn put(live: &mut Live, spilling: &Spilling, name: &str, content: Content) {
    live.apply(Change::Put {
        path: path(name),
        ownership: DIRECTORIES,
        content,
    });
    wait_until(PATIENCE, "it lies on disk", || {
        spilling.n_bytes_in_memory() == 0
    });
}

#[test]
fn whoever_reads_gets_what_was_written() {
    let kept = Kept::default();
    let (mut live, spilling) = mount(&kept);
    let sizes = [256, 4096, 100_000, (1 << 20) + 1];
    for (n, size) in sizes.into_iter().enumerate() {
        put(
            &mut live,
            &spilling,
            &format!("f{n}"),
            content(n as u8, size),
        );
    }
    assert_eq!(
        spilling.n_bytes_on_disk(),
        sizes.iter().sum::<usize>() as u64
    );
    // From the middle, from behind the end, and all of it by many at once.
    let file = File::open(live.path("f3")).unwrap();
    let mut some = vec![0; 1000];
    file.read_exact_at(&mut some, 500_000).unwrap();
    assert_eq!(some, bytes(3, 1 << 20)[500_000..501_000]);
    assert_eq!(file.read_at(&mut some, 1 << 20).unwrap(), 1);
    assert_eq!(file.read_at(&mut some, 2 << 20).unwrap(), 0);
    std::thread::scope(|scope| {
        for n in 0..16 {
            let (path, n) = (live.path(&format!("f{}", n % 4)), n % 4);
            scope.spawn(move || assert!(fs::read(path).unwrap() == bytes(n, sizes[n as usize])));
        }
    });
    // Warm reads ask nobody.
    fs::read(live.path("f3")).unwrap();
    let before = live.requests.get();
    assert!(fs::read(live.path("f3")).unwrap() == bytes(3, sizes[3]));
    assert_eq!(live.requests.get(), before);
}

#[test]
fn damage_is_an_error_of_that_file_alone() {
    let kept = Kept::default();
    let (mut live, spilling) = mount(&kept);
    for (n, name) in ["a", "b"].into_iter().enumerate() {
        put(&mut live, &spilling, name, content(n as u8, 10 * KIB));
    }
    let file = kept.file().unwrap();
    file.write_all_at(b"damage", 100).unwrap();
    for _ in 0..2 {
        let err = fs::read(live.path("a")).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::EIO));
    }
    assert_eq!(fs::read(live.path("b")).unwrap(), bytes(1, 10 * KIB));
    put(&mut live, &spilling, "a", content(0, 10 * KIB));
    assert_eq!(fs::read(live.path("a")).unwrap(), bytes(0, 10 * KIB));
}

#[test]
fn a_superseded_version_is_read_from_the_disk_by_who_has_it_open() {
    let kept = Kept::default();
    let (mut live, spilling) = mount(&kept);
    put(&mut live, &spilling, "a", content(1, 100 * KIB));
    let old = File::open(live.path("a")).unwrap();
    put(&mut live, &spilling, "a", content(2, 100 * KIB));
    assert_eq!(fs::read(live.path("a")).unwrap(), bytes(2, 100 * KIB));
    let mut read = vec![0; 100 * KIB];
    old.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes(1, 100 * KIB));
    drop(old);
    wait_until(PATIENCE, "nobody needs it", || {
        spilling.n_bytes_on_disk() == 100 << 10
    });
}
