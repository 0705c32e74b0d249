//! What is a file and what a directory, what is left out, and whose it is.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::{listing, truth, wait_for_listing, wait_for_truth};
use crate::files::config;
use crate::support::as_user::{self, NOBODY};
use crate::support::mount::Mount;
use crate::support::zookeeper::Sandbox;

#[test]
fn a_subtree_is_a_directory() {
    let sandbox = Sandbox::new("tree");
    for (path, content) in [
        ("/t", "root"),
        ("/t/leaf", "1"),
        ("/t/empty", ""),
        ("/t/dir", "2"),
        ("/t/dir/x", "3"),
        ("/t/on/the/way", "4"),
        ("/other", "5"),
    ] {
        sandbox.admin.create(path, content);
    }
    sandbox.create_null("/t/null");
    let lines = "
        trees.t.source = /t
        trees.t.dest = some/where
        trees.named.source = t
        trees.named.data_name = .value
        trees.default.source = /t/dir";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    let expected = listing(&[
        ("", None),
        ("/_data_", Some("root")),
        ("/leaf", Some("1")),
        ("/empty", Some("")),
        ("/null", Some("")),
        ("/dir", None),
        ("/dir/_data_", Some("2")),
        ("/dir/x", Some("3")),
        ("/on", None),
        ("/on/_data_", Some("")),
        ("/on/the", None),
        ("/on/the/_data_", Some("")),
        ("/on/the/way", Some("4")),
    ]);
    // Ready means that all is there.
    assert_eq!(super::shown(&mount.path("some/where")).unwrap(), expected);
    assert_eq!(truth(&sandbox.admin, "/t", None), expected);
    assert_eq!(mount.read("named/.value").unwrap(), b"root");
    assert_eq!(mount.read("named/on/the/.value").unwrap(), b"");
    assert!(!mount.has("named/_data_"));
    let expected = listing(&[("", None), ("/_data_", Some("2")), ("/x", Some("3"))]);
    assert_eq!(super::shown(&mount.path("default")).unwrap(), expected);
    assert!(!mount.has("other"));
    // Null turns into content, and back.
    sandbox.admin.set("/t/null", "6");
    mount.wait_for_content("some/where/null", "6");
    sandbox.admin.delete("/t/null");
    sandbox.create_null("/t/null");
    mount.wait_for_content("some/where/null", "");
}

#[test]
fn a_root_may_be_missing_and_a_leaf() {
    let sandbox = Sandbox::new("tree-root");
    let lines = "trees.t.source = /not/yet\ntrees.t.dest = deep/t";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    mount.wait_for_log(1, "no file yet: t (/not/yet: the znode does not exist)");
    let shows = |expected: &[(&str, Option<&str>)]| {
        wait_for_listing(&mount, "deep/t", &listing(expected));
    };
    shows(&[]);
    for _ in 0..3 {
        sandbox.admin.create("/not/yet", "leaf");
        shows(&[("", Some("leaf"))]);
        sandbox.admin.create("/not/yet/a/b", "1");
        let all = [
            ("", None),
            ("/_data_", Some("leaf")),
            ("/a", None),
            ("/a/_data_", Some("")),
            ("/a/b", Some("1")),
        ];
        shows(&all);
        sandbox.admin.delete_all("/not");
        shows(&[]);
        assert!(mount.meta("deep").is_dir(), "it is in the configuration");
        // All at once.
        sandbox.admin.create("/not/yet", "leaf");
        sandbox.admin.create("/not/yet/a/b", "1");
        shows(&all);
        sandbox.admin.delete_all("/not/yet/a");
        shows(&[("", Some("leaf"))]);
        sandbox.admin.delete("/not/yet");
        shows(&[]);
        sandbox.admin.delete("/not");
    }
}

#[test]
fn depth_is_a_limit() {
    let sandbox = Sandbox::new("tree-depth");
    let admin = &sandbox.admin;
    admin.create_many([("/t/a/b/c/d", "4"), ("/t/x", "1"), ("/t/a/y", "2")]);
    let lines: Vec<String> = (0..4)
        .map(|depth| format!("trees.d{depth}.source = /t\ntrees.d{depth}.depth = {depth}"))
        .collect();
    let mount = Mount::start(&config(&sandbox.hosts(), &lines.join("\n")));
    let equal = || {
        for depth in 0..4 {
            let expected = truth(admin, "/t", Some(depth));
            wait_for_listing(&mount, &format!("d{depth}"), &expected);
        }
    };
    equal();
    assert_eq!(mount.read("d0/_data_").unwrap(), b"");
    assert_eq!(mount.read("d1/a/_data_").unwrap(), b"");
    assert!(mount.has("d1/x") && !mount.has("d1/a/y") && !mount.has("d3/a/b/c/d"));
    // What is at the limit gains and loses children, which are not shown.
    for _ in 0..10 {
        for path in ["/t/x/1", "/t/x/2", "/t/a/y/1"] {
            admin.create(path, "below");
        }
        equal();
        admin.set("/t/x", "set");
        admin.delete("/t/x/1");
        equal();
        for path in ["/t/x/2", "/t/a/y/1"] {
            admin.delete(path);
        }
        equal();
    }
    admin.delete_all("/t/a");
    admin.delete("/t/x");
    equal();
    admin.create("/t/x/y/z", "again");
    equal();
}

#[test]
fn patterns_choose() {
    let sandbox = Sandbox::new("tree-patterns");
    let paths = [
        "/t/a.json",
        "/t/b.txt",
        "/t/dir/c.json",
        "/t/dir/d.txt",
        "/t/no/e.json",
    ];
    sandbox.admin.create_many(paths.map(|path| (path, path)));
    let lines = r#"
        trees.json.source = /t
        trees.json.include = *.json, nothing*
        trees.json.exclude = no
        trees.rest.source = /t
        trees.rest.exclude = *.json"#;
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    let json = [
        ("", None),
        ("/a.json", Some("/t/a.json")),
        ("/dir", None),
        ("/dir/c.json", Some("/t/dir/c.json")),
    ];
    wait_for_listing(&mount, "json", &listing(&json));
    let rest = [
        ("", None),
        ("/_data_", Some("")),
        ("/b.txt", Some("/t/b.txt")),
        ("/dir", None),
        ("/dir/_data_", Some("")),
        ("/dir/d.txt", Some("/t/dir/d.txt")),
        // It has children, so it is a directory.
        ("/no", None),
        ("/no/_data_", Some("")),
    ];
    wait_for_listing(&mount, "rest", &listing(&rest));
    // A directory on the way goes with the last that it leads to.
    sandbox.admin.delete("/t/dir/c.json");
    wait_for_listing(&mount, "json", &listing(&json[..2]));
    sandbox.admin.create("/t/dir/c.json", "/t/dir/c.json");
    wait_for_listing(&mount, "json", &listing(&json));
    sandbox.admin.create("/t/no/more.json", "");
    sandbox.admin.create("/t/deep/er/f.json", "6");
    mount.wait_for_content("json/deep/er/f.json", "6");
    assert!(!mount.has("json/no") && !mount.has("json/deep/er/_data_"));
    sandbox.admin.delete_all("/t");
    wait_for_listing(&mount, "json", &listing(&[]));
    wait_for_listing(&mount, "rest", &listing(&[]));
    let what = "\"nothing*\" matches nothing below /t";
    mount.reload(&config(
        &sandbox.hosts(),
        &(lines.to_owned() + "\ntrees.x.source = /x"),
    ));
    sandbox.admin.create("/x", "later");
    mount.wait_for_content("x", "later");
    assert_eq!(mount.n_logged(what), 1, "{}", mount.log());
    assert_eq!(mount.n_logged("matches nothing"), 1, "{}", mount.log());
}

#[test]
fn files_and_directories_have_owners_and_modes() {
    let sandbox = Sandbox::new("tree-modes");
    sandbox
        .admin
        .create_many([("/t/a", "1"), ("/t/dir/b", "2")]);
    let lines = "
        trees.default.source = /t
        trees.all.source = /t
        trees.all.mode = 0444
        trees.closed.source = /t
        trees.closed.mode = 0444
        trees.closed.dir_mode = 0500
        trees.owned.source = /t
        trees.owned.owner = 65534
        trees.owned.group = 65534
        trees.owned.mode = 0440
        trees.owned.dir_mode = 0550";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    let check = |file: &str, content: &[u8]| {
        for (tree, modes, owner) in [
            ("default", [0o100_400, 0o40_555], 0),
            ("all", [0o100_444, 0o40_555], 0),
            ("closed", [0o100_444, 0o40_500], 0),
            ("owned", [0o100_440, 0o40_550], NOBODY),
        ] {
            let path = format!("{tree}/{file}");
            mount.wait_for_content(&path, content);
            let (above, _) = path.rsplit_once('/').unwrap();
            for (path, mode) in [&*path, above].into_iter().zip(modes) {
                let meta = mount.meta(path);
                assert_eq!(
                    (meta.mode(), meta.uid(), meta.gid()),
                    (mode, owner, owner),
                    "{path}"
                );
            }
            let read = as_user::read(NOBODY, &mount.path(&path));
            let may = matches!(tree, "all" | "owned");
            assert_eq!(read.as_deref(), may.then_some(content), "{path}");
        }
    };
    check("a", b"1");
    check("dir/b", b"2");
    sandbox.admin.create("/t/a/now/deeper", "3");
    check("a/now/deeper", b"3");
    check("a/_data_", b"1");
    sandbox.admin.delete_all("/t/a/now");
    for tree in ["default", "all", "closed", "owned"] {
        mount.wait_for_content(&format!("{tree}/a"), b"1");
    }
    check("a", b"1");
    // Nobody writes there.
    let script = format!(
        "echo x > {0}/all/a || mkdir {0}/all/dir/new || rm {0}/all/a",
        mount.root().display()
    );
    let tried = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(!tried.status.success());
    let said = String::from_utf8(tried.stderr).unwrap();
    assert_eq!(said.matches("Read-only file system").count(), 3, "{said}");
}

#[test]
fn names_are_shown_as_they_are_or_left_out() {
    let sandbox = Sandbox::new("tree-names");
    let longest = "é".repeat(127) + "x";
    let too_long = "é".repeat(128);
    assert_eq!((longest.len(), too_long.len()), (255, 256));
    let odd = [
        "with space",
        " ",
        "a\\b",
        "quote\"'",
        "%20",
        "*",
        "...",
        ".hidden",
        "-rf",
        "#",
        "日本語",
        "e\u{301}",
        "\u{202e}x",
        ":",
        "data_",
        "_data_2",
        &longest,
    ];
    for name in odd {
        sandbox.admin.create(&format!("/t/{name}/{name}"), name);
    }
    let lines = "trees.t.source = /t\ntrees.other.source = /t\ntrees.other.data_name = x";
    let mount = Mount::start(&config(&sandbox.hosts(), lines));
    wait_for_truth(&mount, "t", &sandbox.admin, "/t");
    let all = truth(&sandbox.admin, "/t", None);
    assert_eq!(all.len(), 2 + 3 * odd.len());

    sandbox.admin.create(&format!("/t/{too_long}/below"), "1");
    sandbox.admin.create(&format!("/t/ok/{too_long}"), "1");
    sandbox.admin.create("/t/_data_/below", "1");
    sandbox.admin.create("/t/ok/_data_", "1");
    sandbox.admin.create("/t/marker", "1");
    mount.wait_for_content("t/marker", "1");
    mount.wait_for_content("t/ok/_data_", "");
    // With another name for the data it is an ordinary one.
    mount.wait_for_content("other/ok/_data_", "1");
    mount.wait_for_content("other/_data_/below", "1");
    let mut expected = all;
    let more = [
        ("/marker", Some("1")),
        ("/ok", None),
        ("/ok/_data_", Some("")),
    ];
    expected.extend(listing(&more));
    wait_for_listing(&mount, "t", &expected);
    for left_out in [
        format!("trees.t: /t/{too_long} is left out: its name is longer"),
        format!("trees.t: /t/ok/{too_long} is left out: its name is longer"),
        "trees.t: /t/_data_ is left out: its name is that of".into(),
        "trees.t: /t/ok/_data_ is left out: its name is that of".into(),
    ] {
        mount.wait_for_log(1, &left_out);
        sandbox.admin.set("/t/_data_", "set");
        assert_eq!(mount.n_logged(&left_out), 1);
    }
    sandbox.admin.delete_all("/t");
    wait_for_listing(&mount, "t", &listing(&[]));
}
