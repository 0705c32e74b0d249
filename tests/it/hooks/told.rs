//! What a command is told, and as whom it runs.

use std::fs;

use sha2_of::sha256;

use super::{Hooked, hook};
use crate::support::shown::SOON;
use crate::support::wait::wait_until;

mod sha2_of {
    /// By a program, so that nobody shares our mistakes.
    pub(super) fn sha256(path: &std::path::Path) -> String {
        let output = std::process::Command::new("sha256sum")
            .arg(path)
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .into()
    }
}

#[test]
fn the_environment_says_what_and_where() {
    let hooked = Hooked::start(
        "environment",
        &hook("command = env > $DIR/new; mv $DIR/new $DIR/env"),
    );
    hooked.set("2");
    wait_until(SOON, "it ran", || hooked.path("env").exists());
    let env = fs::read_to_string(hooked.path("env")).unwrap();
    let of = |name: &str| {
        let mut lines = env
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{name}=")));
        lines.next().map(str::to_owned)
    };
    let (_, stat) = hooked.sandbox.admin.get("/a").unwrap();
    let file = hooked.mount.path("a");
    for (name, expected) in [
        ("LIVEDATA_NAME", "a"),
        ("LIVEDATA_ZNODE", "/a"),
        ("LIVEDATA_FILE", file.to_str().unwrap()),
        ("LIVEDATA_VERSION", "1"),
        ("LIVEDATA_MZXID", &stat.mzxid.to_string()),
        ("LIVEDATA_EVENT", "changed"),
    ] {
        assert_eq!(of(name).as_deref(), Some(expected), "{name}");
    }
    for foreign in [
        "NOTIFY_SOCKET",
        "JOURNAL_STREAM",
        "RUST_BACKTRACE",
        "LIVEDATA_FILES",
    ] {
        assert_eq!(of(foreign), None, "{foreign}");
    }
}

#[test]
fn a_list_is_executed_as_it_is() {
    let command = r#"command = ["/usr/bin/touch", "$DIR/it is $HOME; really"]"#;
    let hooked = Hooked::start("list", &hook(command));
    hooked.set("2");
    wait_until(SOON, "it ran", || {
        hooked.path("it is $HOME; really").exists()
    });
}

#[test]
fn it_runs_as_somebody_else() {
    let hooked = Hooked::start(
        "account",
        &hook(
            "user = nobody
            group = daemon
            command = echo $(id -u) $(id -g) $(id -G) $HOME $USER > $DIR/new; \
                grep ^Cap /proc/self/status >> $DIR/new; mv $DIR/new $DIR/out",
        ),
    );
    hooked.set("2");
    wait_until(SOON, "it ran", || hooked.path("out").exists());
    let lines = hooked.lines("out");
    assert_eq!(lines[0], "65534 1 1 /nonexistent nobody");
    let effective = lines
        .iter()
        .find(|line| line.starts_with("CapEff"))
        .unwrap();
    assert!(effective.ends_with("0000000000000000"), "{effective}");
}

#[test]
fn the_groups_of_a_user_come_along() {
    // Whoever has more than one group in this machine's user database.
    let groups = fs::read_to_string("/etc/group").unwrap();
    let member = groups.lines().find_map(|line| {
        let members = line.rsplit(':').next()?;
        members
            .split(',')
            .find(|name| !name.is_empty())
            .map(str::to_owned)
    });
    let user = member.unwrap_or("nobody".into());
    let expected = std::process::Command::new("id")
        .args(["-G", &user])
        .output()
        .unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    let lines = format!("user = {user}\ncommand = id -G > $DIR/new; mv $DIR/new $DIR/out");
    let hooked = Hooked::start("groups", &hook(&lines));
    hooked.set("2");
    wait_until(SOON, "it ran", || hooked.path("out").exists());
    let sorted = |text: &str| {
        let mut all: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        all.sort();
        all
    };
    assert_eq!(sorted(&hooked.lines("out")[0]), sorted(&expected));
}

#[test]
fn content_is_piped_whole() {
    let command = "pipe_stdin = true
        command = sha256sum > $DIR/new; mv $DIR/new $DIR/out";
    let hooked = Hooked::start("piped", &hook(command));
    let content: Vec<u8> = (0..1_040_000_u32).map(|n| (n % 251) as u8).collect();
    for content in [content, vec![b'x'; 70_000], Vec::new()] {
        let _ = fs::remove_file(hooked.path("out"));
        hooked.sandbox.admin.set("/a", &content);
        hooked.mount.wait_for_content("a", &content);
        wait_until(SOON, "it ran", || hooked.path("out").exists());
        let expected = sha256(&hooked.mount.path("a"));
        assert!(hooked.lines("out")[0].starts_with(&expected));
    }
    // Nothing to read where there is nothing.
    hooked.sandbox.admin.delete("/a");
    hooked.wait_standing("h", "it ran for the deletion", |hook| {
        hook["event"] == "deleted" && hook["runs"] == 4
    });
}

#[test]
fn who_reads_no_stdin_comes_to_no_harm() {
    let hooked = Hooked::start("unread", &hook("pipe_stdin = true\ncommand = exec true"));
    hooked.sandbox.admin.set("/a", vec![7; 1_040_000]);
    let ended = hooked.wait_standing("h", "it has ended", |hook| hook["runs"] == 1);
    assert_eq!(
        (&ended["code"], &ended["failures"]),
        (&0.into(), &0.into()),
        "{ended}"
    );
}

#[test]
fn it_inherits_nothing() {
    let command = "command = ls -l /proc/self/fd > $DIR/new; mv $DIR/new $DIR/out";
    let hooked = Hooked::start("descriptors", &hook(command));
    hooked.set("2");
    wait_until(SOON, "it ran", || hooked.path("out").exists());
    let lines = hooked.lines("out");
    let descriptors: Vec<_> = lines.iter().filter(|line| line.contains(" -> ")).collect();
    // The fourth is the directory that ls reads.
    assert_eq!(descriptors.len(), 4, "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("0 -> /dev/null")),
        "{lines:#?}"
    );
}

#[test]
fn a_tree_tells_which_files_changed() {
    let lines = r#"
        trees.t.source = /t
        trees.t.hooks = env, stdin
        hooks.env.command = [ "$LIVEDATA_EVENT" = load ] || { printf '%s\n' "$LIVEDATA_NAME $LIVEDATA_N_FILES" "$LIVEDATA_FILES" > $DIR/new; mv $DIR/new $DIR/env; }
        hooks.env.wait_min = 500 milliseconds
        hooks.stdin.pipe_stdin = events
        hooks.stdin.command = cat > $DIR/stdin.new; mv $DIR/stdin.new $DIR/stdin
        hooks.stdin.wait_min = 500 milliseconds"#;
    let hooked = Hooked::start_with("tree-hook", lines, &[], |sandbox| {
        let znodes = ["/t/a", "/t/b", "/t/dir/c"];
        sandbox.admin.create_many(znodes.map(|path| (path, "1")));
    });
    let admin = &hooked.sandbox.admin;
    admin.set("/t/a", "2");
    admin.delete("/t/b");
    admin.create("/t/dir/d", "1");
    let files = ["t/a", "t/b", "t/dir/d"].map(|file| hooked.mount.path(file));
    let files = files.map(|file| file.to_str().unwrap().to_owned());
    let expected = format!("t 3\n{}\n", files.join("\n"));
    wait_until(SOON, "the environment tells", || {
        fs::read_to_string(hooked.path("env")).is_ok_and(|text| text == expected)
    });
    wait_until(SOON, "stdin tells", || hooked.lines("stdin").len() == 3);
    let events = hooked.lines("stdin");
    let events: Vec<serde_json::Value> = events
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["changed", "deleted", "created"]);
    for (event, file) in events.iter().zip(&files) {
        assert_eq!(event["file"], file.as_str());
    }
    assert_eq!(
        (&events[0]["version"], &events[0]["znode"]),
        (&1.into(), &"/t/a".into())
    );
    assert!(events[1]["version"].is_null());
}

#[test]
fn many_files_of_a_tree_are_told_as_far_as_there_is_room() {
    let lines = r#"
        trees.t.source = /t
        trees.t.hooks = h
        hooks.h.pipe_stdin = events
        hooks.h.wait_min = 1 seconds
        hooks.h.wait_max = 1 minutes
        hooks.h.command = [ $LIVEDATA_EVENT = load ] || echo $LIVEDATA_N_FILES $(printf '%s\n' "$LIVEDATA_FILES" | wc -l) $(wc -l) >> $DIR/out"#;
    let hooked = Hooked::start_with("many-files", lines, &[], |sandbox| {
        sandbox.admin.create("/t/first", "1");
    });
    let name = "x".repeat(100);
    let znodes = (0..2000).map(|n| (format!("/t/{name}{n}"), "1"));
    hooked.sandbox.admin.create_many(znodes);
    wait_until(SOON, "it ran", || !hooked.lines("out").is_empty());
    let line = &hooked.lines("out")[0];
    let numbers: Vec<usize> = line
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    assert_eq!((numbers[0], numbers[2]), (2000, 2000));
    assert!((300..700).contains(&numbers[1]), "{line}");
}
