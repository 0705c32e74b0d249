//! What a mountpoint may be, and what is said about one that it may not.

use std::fs;

use super::place;
use crate::support::place::Place;

#[test]
fn what_is_no_directory_is_refused() {
    let (_sandbox, place) = place("no-directory");
    fs::write(place.path("file"), "").unwrap();
    std::os::unix::fs::symlink("nowhere", place.path("dangling")).unwrap();
    for (path, why) in [
        ("missing", "no such directory; create it first: mkdir -p "),
        (
            "missing/below",
            "no such directory; create it first: mkdir -p ",
        ),
        ("dangling", "no such directory; create it first: mkdir -p "),
        ("file", "file: not a directory"),
        ("file/below", "ot a directory"),
    ] {
        for foreground in [&["mount"][..], &["mount", "-f"]] {
            let ran = place.run(&[foreground, &["config.ini", path]].concat());
            ran.failed(1, why);
            place.assert_gone();
        }
    }
}

#[test]
fn what_is_in_the_directory_is_hidden_with_a_warning() {
    let (_sandbox, place) = place("not-empty");
    fs::write(place.root().join("before"), "kept").unwrap();
    let ran = place.mount(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.says("mnt: not empty; what is in it is hidden");
    assert_eq!(place.read("before"), None);
    assert_eq!(place.run(&["umount", "mnt"]).code, Some(0));
    assert_eq!(place.read("before").as_deref(), Some("kept"));
    place.wait_until_gone();
}

#[test]
fn a_second_mount_at_one_place_is_refused_and_the_first_stays() {
    let (_sandbox, place) = place("twice");
    let daemon = place.mounted();
    for arguments in [&[][..], &["-f"]] {
        let ran = place.mount(arguments);
        ran.failed(1, "already mounted by livedata-fuse");
        ran.says("livedata-fuse umount ");
    }
    assert_eq!(place.daemon(), daemon);
    assert_eq!(place.mountpoints().len(), 1);
    assert_eq!(place.read("a.json").as_deref(), Some("one"));
}

#[test]
fn a_path_may_be_spelt_in_every_way() {
    let (_sandbox, place) = place("ways");
    std::os::unix::fs::symlink("mnt", place.path("link")).unwrap();
    std::os::unix::fs::symlink(place.path("link"), place.path("link-to-link")).unwrap();
    let absolute = place.root().to_str().unwrap().to_owned();
    for path in [
        "mnt/",
        "./mnt",
        "mnt/../mnt",
        "link",
        "link/",
        "link-to-link",
        &absolute,
    ] {
        let ran = place.run(&["mount", "config.ini", path]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{path}");
        assert_eq!(
            ran.stdout,
            format!("{absolute}: 1 files of 1 nodes, ready\n")
        );
        assert_eq!(place.mountpoints(), [place.root()]);
        assert_eq!(place.run(&["umount", path]).code, Some(0), "{path}");
        place.wait_until_gone();
    }
}

#[test]
fn a_name_may_hold_blanks_and_backslashes() {
    let (_sandbox, place) = place("odd-names");
    for name in [
        "a blank",
        "back\\slash",
        "\\040 \\",
        "-dash",
        "caf\u{e9}, x",
    ] {
        fs::create_dir(place.path(name)).unwrap();
        let path = format!("./{name}");
        let ran = place.run(&["mount", "config.ini", &path]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{name}");
        let file = place.path(name).join("a.json");
        assert_eq!(fs::read_to_string(file).unwrap(), "one");
        let again = place.run(&["mount", "config.ini", &path]);
        again.failed(1, "already mounted");
        let ran = place.run(&["umount", &path]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{name}");
        place.wait_until_gone();
    }
}

#[test]
fn it_may_be_below_another_mount_and_over_one() {
    let (_sandbox, place) = place("below");
    let tmpfs = |path| {
        let none = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", path, "tmpfs", none, None).unwrap();
    };
    tmpfs(place.root());
    fs::create_dir(place.root().join("below")).unwrap();
    tmpfs(place.root().join("below"));
    let ran = place.run(&["mount", "config.ini", "mnt/below"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(place.read("below/a.json").as_deref(), Some("one"));
    assert_eq!(place.mountpoints().len(), 3);
    assert_eq!(place.run(&["umount", "mnt/below"]).code, Some(0));
    assert_eq!(place.mountpoints().len(), 2, "the tmpfs stays");
    place
        .run(&["umount", "mnt/below"])
        .failed(1, "not a livedata-fuse mount");
    assert_eq!(place.mountpoints().len(), 2);
}

#[test]
fn mount_options_are_known_or_refused() {
    let (_sandbox, place) = place("options");
    let ran = place.mount(&[
        "-o",
        "noexec,fsname=live,x-systemd.automount",
        "-o",
        "nofail",
    ]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let line = line_of(&place);
    assert!(line.contains(" ro,nosuid,nodev,noexec,"), "{line}");
    // The publisher writes to the same file system, on a mount of its own.
    assert!(line.contains(" - fuse.livedata live rw,"), "{line}");
    assert_eq!(place.run(&["umount", "mnt"]).code, Some(0));
    place.wait_until_gone();

    place.mounted();
    let line = line_of(&place);
    assert!(line.contains(" ro,nosuid,nodev,noatime "), "{line}");
    let source = place.path("config.ini");
    let shown = format!(" - fuse.livedata {} rw,", source.display());
    assert!(line.contains(&shown), "{line}");
}

/// The mount as the mount table has it.
fn line_of(place: &Place) -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = format!(" {} ", place.root().display());
    table
        .lines()
        .find(|line| line.contains(&root))
        .unwrap()
        .into()
}
