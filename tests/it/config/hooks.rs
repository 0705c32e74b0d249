//! Hooks: what is said of them, who names them, whom they run as, and how `check` shows them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use livedata::config::check;
use livedata::config::dropins::{Dropins, Taken};
use livedata::config::{
    Account, Command, Config, Hook, OnUnmount, RunMode, Severity, Stdin, Surroundings,
};
use serde_json::{Value, json};

use super::{SURROUNDINGS, dropin, messages, parse};

/// Root mounts, and there are two users: web (80, groups 80 and 8080) and lone (99).
const ROOT: Surroundings<'static> = Surroundings {
    uid: 0,
    gid: 0,
    group: &|name| {
        Ok(match name {
            "web" => Some(80),
            "logs" => Some(4),
            _ => None,
        })
    },
    account: &|name, group| {
        Ok(match name {
            "web" | "80" => Some(account(80, group.unwrap_or(80), Some("web"))),
            "lone" => Some(account(99, group.unwrap_or(99), Some("lone"))),
            _ => None,
        })
    },
    ..SURROUNDINGS
};

fn account(uid: u32, gid: u32, name: Option<&str>) -> Account {
    let groups = match name {
        Some("web") => vec![gid, 8080],
        _ => vec![gid],
    };
    Account {
        uid,
        gid,
        groups,
        name: name.map(str::to_owned),
        home: name.map(|name| PathBuf::from("/home").join(name)),
        shell: name.map(|_| "/bin/sh".into()),
    }
}

/// The main file alone, with names of hooks resolved.
fn joined(text: &str) -> Config {
    let main = parse(format!("zookeeper.hosts = zk01\n{text}")).unwrap();
    Dropins::new("d".into()).join(&main)
}

/// The hooks that are left, who has them, and the problems.
fn said(config: &Config) -> Vec<String> {
    let hooks = config.hooks.all.iter();
    let hooks = hooks.map(|hook| format!("hook {}", hook.name));
    let nodes = config.nodes.iter();
    let nodes = nodes.map(|node| format!("node {} {:?}", node.name, node.hooks));
    let trees = config.trees.iter();
    let trees = trees.map(|tree| format!("tree {} {:?}", tree.name, tree.hooks));
    let problems = config.problems.iter();
    let problems = problems.map(|problem| format!("{}: {problem}", problem.severity.as_str()));
    hooks.chain(nodes).chain(trees).chain(problems).collect()
}

fn only(config: &Config) -> &Hook {
    let [hook] = &config.hooks.all[..] else {
        panic!("{:?}", config.hooks)
    };
    hook
}

#[test]
fn all_that_can_be_said_of_a_hook() {
    let config = joined(
        "hooks.max_parallel = 3
hooks.on_unmount = leave
nodes.a.source = /a
nodes.a.hooks = Reload, reload
[hooks.Reload]
command = [\"reload\", \"$DC\",
    \"now\"]
run_mode = queue
run_on_load = yes
pipe_stdin = events
notify_signal = sigusr1
timeout = 1 minute
kill_timeout = 2 seconds
retries = 3
backoff = 250 milliseconds
ok_codes = 0, 3 4
splay = 10 seconds
wait_min = 2 seconds
wait_max = 5 seconds
description = for $DC
",
    );
    assert_eq!(config.problems, []);
    assert_eq!(config.hooks.max_parallel, 3);
    assert_eq!(config.hooks.on_unmount, OnUnmount::Leave);
    assert_eq!(config.nodes[0].hooks, ["reload"]);
    let expected = Hook {
        name: "reload".into(),
        line: 7,
        command: Command::Exec(vec!["reload".into(), "$DC".into(), "now".into()]),
        run_mode: RunMode::Queue,
        run_on_load: true,
        stdin: Stdin::Events,
        account: None,
        notify_signal: Some(libc::SIGUSR1),
        timeout: Some(Duration::from_secs(60)),
        kill_timeout: Duration::from_secs(2),
        retries: 3,
        backoff: Duration::from_millis(250),
        ok_codes: vec![0, 3, 4],
        splay: Duration::from_secs(10),
        wait_min: Duration::from_secs(2),
        wait_max: Duration::from_secs(5),
        description: Some("for ams".into()),
    };
    assert_eq!(*only(&config), expected);
    let text = serde_json::to_vec(&config.hooks).unwrap();
    assert_eq!(
        serde_json::from_slice::<livedata::config::Hooks>(&text).unwrap(),
        config.hooks
    );
}

#[test]
fn what_nobody_says_of_a_hook() {
    let config = joined("nodes.a.source = /a\nnodes.a.hooks = h\nhooks.h.command = echo $DC");
    assert_eq!(config.problems, []);
    assert_eq!(config.hooks.max_parallel, 16);
    assert_eq!(config.hooks.on_unmount, OnUnmount::Kill);
    let expected = Hook {
        name: "h".into(),
        line: 4,
        // The shell expands it.
        command: Command::Shell("echo $DC".into()),
        run_mode: RunMode::Queue,
        run_on_load: false,
        stdin: Stdin::Nothing,
        account: None,
        notify_signal: None,
        timeout: None,
        kill_timeout: Duration::from_secs(5),
        retries: 0,
        backoff: Duration::from_secs(1),
        ok_codes: vec![0],
        splay: Duration::ZERO,
        wait_min: Duration::ZERO,
        wait_max: Duration::ZERO,
        description: None,
    };
    assert_eq!(*only(&config), expected);
    // The longest wait goes by the shortest.
    let config = joined("hooks.h.command = x\nhooks.h.wait_min = 500 milliseconds");
    assert_eq!(only(&config).wait_max, Duration::from_secs(2));
}

/// How messages of times end.
const NO_TIME: &str = "is not a time; write 5 seconds, for example (units: milliseconds, seconds, minutes, hours, days)";

#[test]
fn wrong_hooks_are_left_out() {
    for (options, expected) in [
        (
            "run_mode = x",
            &[
                "hooks.h.command: missing; write hooks.h.command = what is to run",
                "hooks.h.run_mode: \"x\" is no run mode; write queue, discard or parallel",
            ][..],
        ),
        (
            "command =",
            &["hooks.h.command: missing; write hooks.h.command = what is to run"],
        ),
        (
            "command = [\"a\", 1]",
            &[
                "hooks.h.command: begins with [ and is no JSON list of strings (invalid type: integer `1`, \
               expected a string at line 1 column 7); write [\"systemctl\", \"reload\", \"web\"], or a text for \
               the shell",
            ],
        ),
        (
            "command = []",
            &[
                "hooks.h.command: the list names no program; write [\"systemctl\", \"reload\", \"web\"], or a text \
               for the shell",
            ],
        ),
        (
            "command = [\"a\\u0000\"]",
            &["hooks.h.command: a command cannot have a NUL; take it out"],
        ),
        (
            "command = a\nrun_mode = Queue",
            &["hooks.h.run_mode: \"Queue\" is no run mode; write queue, discard or parallel"],
        ),
        (
            "command = a\nrun_on_load = maybe # sometimes",
            &[
                "hooks.h.run_on_load: \"maybe # sometimes\" is not a boolean; write true or false (a comment must be a line of its own)",
            ],
        ),
        (
            "command = a\npipe_stdin = event",
            &[
                "hooks.h.pipe_stdin: \"event\" is nothing to pipe; write true for the content, false or events",
            ],
        ),
        (
            "command = a\nnotify_signal = SIGHUB",
            &[
                "hooks.h.notify_signal: \"SIGHUB\" is no signal; write HUP or USR1, for example, or its number",
            ],
        ),
        (
            "command = a\nnotify_signal = 9",
            &[
                "hooks.h.notify_signal: \"9\" is a signal that no command can take notice of; write HUP, for example",
            ],
        ),
        (
            "command = a\nnotify_signal = stop",
            &[
                "hooks.h.notify_signal: \"stop\" is a signal that no command can take notice of; write HUP, for example",
            ],
        ),
        (
            "command = a\ntimeout = 5s",
            &["hooks.h.timeout: \"5s\" ..."],
        ),
        (
            "command = a\ntimeout = 0 seconds",
            &[
                "hooks.h.timeout: \"0 seconds\" is no time at all; write more than 0, such as 5 seconds",
            ],
        ),
        (
            "command = a\nretries = -1\nok_codes = 0 256\nuser = nobody-here",
            &[
                "hooks.h.retries: \"-1\" is no number of retries; write 3, for example, or 0 for none",
                "hooks.h.ok_codes: \"256\" is no exit code from 0 to 255; write 0, 3 or so",
                "hooks.h.user: there is no user \"nobody-here\" here; write the name of one that exists, or a number",
            ],
        ),
        (
            "command = a\nwait_min = 2 seconds\nwait_max = 1 seconds",
            &[
                "hooks.h.wait_max: \"1 seconds\" is less than hooks.h.wait_min; write at least as much, or take it out",
            ],
        ),
        (
            "command = a\nkill_timeout = 5\nbackoff = soon\nsplay = 1.5 seconds\nwait_min = 1 sec\nwait_max = x\ngroup = x",
            &[
                "hooks.h.kill_timeout: \"5\" ...",
                "hooks.h.backoff: \"soon\" ...",
                "hooks.h.splay: \"1.5 seconds\" ...",
                "hooks.h.wait_min: \"1 sec\" ...",
                "hooks.h.wait_max: \"x\" ...",
                "hooks.h.group: there is no group \"x\" here; write the name of one that exists, or a number",
            ],
        ),
    ] {
        let config = joined(&format!("nodes.a.source = /a\n[hooks.h]\n{options}\n"));
        assert_eq!(config.hooks.all, [], "{options}");
        assert_eq!(config.nodes.len(), 1, "{options}");
        let problems = config.problems.iter();
        let found: Vec<_> = problems
            .map(|problem| {
                assert_eq!(problem.severity, Severity::Error, "{problem}");
                assert!(problem.line.is_some_and(|line| line > 3), "{problem}");
                format!("{}: {}", problem.key.as_ref().unwrap(), problem.message)
            })
            .collect();
        let expected = expected.iter();
        let expected: Vec<_> = expected.map(|text| text.replace("...", NO_TIME)).collect();
        assert_eq!(found, expected, "{options}");
    }
}

#[test]
fn lines_and_keys_of_wrong_hooks() {
    let text = "nodes.a.source = /a
nodes.a.hooks = h, g
[hooks.h]
command = a
retries = many
[hooks.two words]
command = a
[hooks.a.b]
command = a
[hooks.i]
comand = a
[hooks.g]
command = a
";
    assert_eq!(
        said(&joined(text)),
        [
            "hook g",
            "node a [\"g\"]",
            "error: live.ini:3: nodes.a.hooks: the hook \"h\" is left out, since something in it is wrong",
            "error: live.ini:6: hooks.h.retries: \"many\" is no number of retries; write 3, for example, or 0 for none",
            "error: live.ini:8: hooks.two words.command: the name has a blank or a comma, so no node can name it; write another name",
            "error: live.ini:10: hooks.a.b.command: a name has no dot, so this is left out; write hooks.a-b.command",
            "warning: live.ini:12: hooks.i.comand: unknown key; did you mean hooks.i.command?",
            "error: live.ini:12: hooks.i.command: missing; write hooks.i.command = what is to run",
        ]
    );
}

#[test]
fn what_holds_for_all_hooks_is_right_or_nothing_is() {
    for (line, expected) in [
        (
            "hooks.max_parallel = 0",
            "fatal: live.ini:2: hooks.max_parallel: \"0\" is no number from 1; write 16, for example",
        ),
        (
            "hooks.max_parallel = many",
            "fatal: live.ini:2: hooks.max_parallel: \"many\" is no number from 1; write 16, for example",
        ),
        (
            "hooks.on_unmount = wait",
            "fatal: live.ini:2: hooks.on_unmount: \"wait\" is nothing to do with commands; write kill or leave",
        ),
    ] {
        assert_eq!(
            messages(format!("zookeeper.hosts = zk01\n{line}")),
            [expected]
        );
    }
    for key in ["hooks.max_parallel", "hooks.on_unmount"] {
        let error = dropin(format!("nodes.a.source = /a\n{key} = 1\n").as_bytes()).unwrap_err();
        let expected = format!(
            "d.ini:2: {key}: a drop-in holds nodes, trees and hooks only; write it in the main file"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let text = "nodes.a.source = /a
nodes.a.hooks = h
[hooks.h]
command = a
run_mode = parallel
notify_signal = HUP
backoff = 1 second
wait_max = 1 second
[hooks.unnamed]
command = a
";
    assert_eq!(
        said(&joined(text)),
        [
            "hook h",
            "hook unnamed",
            "node a [\"h\"]",
            "warning: live.ini:7: hooks.h.notify_signal: has no effect without run_mode = queue",
            "warning: live.ini:8: hooks.h.backoff: has no effect without retries",
            "warning: live.ini:9: hooks.h.wait_max: has no effect without wait_min",
            "warning: live.ini:11: hooks.unnamed: no node and no tree names it, so it never runs; write nodes.NAME.hooks = unnamed",
        ]
    );
}

#[test]
fn names_that_are_not_those_of_hooks() {
    let text = "nodes.a.source = /a
nodes.a.hooks = reload-wbe reload-web,other
trees.t.source = /t
trees.t.hooks = content, reload-web, EVENTS
nodes.b.source = /b
nodes.b.hooks = content
hooks.reload-web.command = a
hooks.content.command = a
hooks.content.pipe_stdin = true
hooks.events.command = a
hooks.events.pipe_stdin = events
";
    assert_eq!(
        said(&joined(text)),
        [
            "hook reload-web",
            "hook content",
            "hook events",
            "node a [\"reload-web\"]",
            "node b [\"content\"]",
            "tree t [\"reload-web\", \"events\"]",
            "error: live.ini:3: nodes.a.hooks: there is no hook \"reload-wbe\"; did you mean reload-web?",
            "error: live.ini:3: nodes.a.hooks: there is no hook \"other\"; write hooks.other.command = what is to run, or take it out",
            "error: live.ini:5: trees.t.hooks: the hook \"content\" reads the content, and a tree has no one content; write hooks.content.pipe_stdin = events",
        ]
    );
}

#[test]
fn hooks_are_named_across_files() {
    let main = parse(
        "zookeeper.hosts = zk01\nnodes.a.source = /a\nnodes.a.hooks = one, two\nhooks.main.command = m\n",
    )
    .unwrap();
    assert_eq!(main.problems, [], "alone it may be right");
    let mut dropins = Dropins::new("d".into());
    let take = |dropins: &mut Dropins, name: &str, text: &str| {
        dropins.take(name, text.as_bytes(), &main.defaults, &SURROUNDINGS);
        said(&dropins.join(&main))
    };
    take(&mut dropins, "2.ini", "hooks.two.command = second\n");
    assert_eq!(
        take(
            &mut dropins,
            "1.ini",
            "trees.t.source = /t\ntrees.t.hooks = main two\nhooks.one.command = 1\n"
        ),
        [
            "hook main",
            "hook one",
            "hook two",
            "node a [\"one\", \"two\"]",
            "tree t [\"main\", \"two\"]",
        ]
    );
    // The first of a name has it, until it is gone.
    let conflict = "hooks.two.command = first\nhooks.main.command = m\nhooks.one.command = 1\n";
    assert_eq!(
        take(&mut dropins, "1.ini", conflict),
        [
            "hook main",
            "hook two",
            "hook one",
            "node a [\"one\", \"two\"]",
            "warning: live.ini:4: hooks.main: no node and no tree names it, so it never runs; write nodes.NAME.hooks = main",
            "error: d/1.ini:2: hooks.main: live.ini:4 has a hook of this name already; choose another name",
            "error: d/2.ini:1: hooks.two: d/1.ini:1 has a hook of this name already; choose another name",
        ]
    );
    let all = dropins.join(&main).hooks.all;
    assert_eq!(all[1].command, Command::Shell("first".into()));
    let listed: Vec<Value> = dropins
        .join(&main)
        .dropins
        .iter()
        .map(|listed| listed.json())
        .collect();
    assert_eq!(
        listed[0],
        json!({"file": "d/1.ini", "nodes": 0, "trees": 0, "hooks": 2,
            "error": "d/1.ini:2: hooks.main: live.ini:4 has a hook of this name already; choose another name"})
    );
    assert_eq!(listed[1]["hooks"], 0);
    dropins.remove("1.ini");
    let config = dropins.join(&main);
    assert_eq!(config.hooks.all[1].command, Command::Shell("second".into()));
    assert_eq!(config.nodes[0].hooks, ["two"]);
    assert_eq!(
        config.problems[0].to_string(),
        "live.ini:3: nodes.a.hooks: there is no hook \"one\"; write hooks.one.command = what is to run, or take it out"
    );
}

#[test]
fn a_wrong_dropin_keeps_its_hooks() {
    let main = parse("zookeeper.hosts = zk01\nnodes.a.source = /a\nnodes.a.hooks = h\n").unwrap();
    let mut dropins = Dropins::new("d".into());
    let right = "hooks.h.command = right\n";
    for (text, is_taken) in [
        (right, true),
        ("hooks.max_parallel = 9\nhooks.h.command = x", false),
    ] {
        dropins.take("1.ini", text.as_bytes(), &main.defaults, &SURROUNDINGS);
        let config = dropins.join(&main);
        assert_eq!(only(&config).command, Command::Shell("right".into()));
        assert_eq!(config.nodes[0].hooks, ["h"]);
        assert_eq!(
            config.problems.is_empty(),
            is_taken,
            "{:?}",
            config.problems
        );
    }
    // One whose hook is wrong is right as a whole: it is left out.
    let wrong = "hooks.h.command = x\nhooks.h.retries = x";
    dropins.take("1.ini", wrong.as_bytes(), &main.defaults, &SURROUNDINGS);
    assert_eq!(
        said(&dropins.join(&main)),
        [
            "node a []",
            "error: live.ini:3: nodes.a.hooks: the hook \"h\" is left out, since something in it is wrong",
            "error: d/1.ini:2: hooks.h.retries: \"x\" is no number of retries; write 3, for example, or 0 for none",
        ]
    );
}

/// What a hook with these options runs as.
fn runs_as(options: &str, surroundings: &Surroundings<'_>) -> Result<Option<Account>, String> {
    let text = format!("zookeeper.hosts = zk01\n[hooks.h]\ncommand = x\n{options}\n");
    let config = Config::parse(Path::new("live.ini"), text.as_bytes(), surroundings).unwrap();
    match config.hooks.all.first() {
        Some(hook) => Ok(hook.account.clone()),
        None => Err(config.problems[0].to_string()),
    }
}

#[test]
fn whom_hooks_run_as() {
    for (options, expected) in [
        ("", None),
        ("user =", None),
        ("user = web", Some(account(80, 80, Some("web")))),
        ("user = 80", Some(account(80, 80, Some("web")))),
        (
            "user = web\ngroup = logs",
            Some(account(80, 4, Some("web"))),
        ),
        ("user = lone\ngroup = 7", Some(account(99, 7, Some("lone")))),
        ("user = 4242\ngroup = logs", Some(account(4242, 4, None))),
        ("group = logs", Some(account(0, 4, None))),
    ] {
        assert_eq!(runs_as(options, &ROOT), Ok(expected), "{options}");
    }
    for (options, expected) in [
        (
            "user = 4242",
            "live.ini:4: hooks.h.user: \"4242\" is no user of this host, so its group is unknown; write hooks.h.group too",
        ),
        (
            "user = x",
            "live.ini:4: hooks.h.user: there is no user \"x\" here; write the name of one that exists, or a number",
        ),
        (
            "user = web\ngroup = x",
            "live.ini:5: hooks.h.group: there is no group \"x\" here; write the name of one that exists, or a number",
        ),
        (
            "user = 4294967295",
            "live.ini:4: hooks.h.user: there is no user \"4294967295\" here; write the name of one that exists, or a number",
        ),
    ] {
        assert_eq!(runs_as(options, &ROOT), Err(expected.into()), "{options}");
    }
}

#[test]
fn who_is_not_root_runs_hooks_as_itself() {
    let web = Surroundings {
        uid: 80,
        gid: 80,
        ..ROOT
    };
    for options in ["", "user = web", "group = web", "user = 80\ngroup = 80"] {
        assert_eq!(runs_as(options, &web), Ok(None), "{options}");
    }
    for (options, place) in [
        ("user = lone", "4: hooks.h.user"),
        ("user = lone\ngroup = web", "4: hooks.h.user"),
        ("group = logs", "4: hooks.h.group"),
        ("user = web\ngroup = logs", "5: hooks.h.group"),
    ] {
        let expected = format!(
            "live.ini:{place}: only root can run a command as another, and the user 80 mounts; take it out, or mount as root"
        );
        assert_eq!(runs_as(options, &web), Err(expected), "{options}");
    }
}

#[test]
fn users_of_this_host() {
    let here = Surroundings {
        uid: 0,
        gid: 0,
        ..Surroundings::here(None)
    };
    let root = runs_as("user = root", &here).unwrap().unwrap();
    assert_eq!(
        (root.uid, root.gid, root.name.as_deref()),
        (0, 0, Some("root"))
    );
    assert_eq!(root.home.as_deref(), Some(Path::new("/root")));
    assert!(root.groups.contains(&0));
    assert_eq!(runs_as("user = 0", &here).unwrap(), Some(root));
    let found = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let nobody = runs_as("user = nobody\ngroup = 0", &here).unwrap().unwrap();
    assert_eq!((nobody.uid, nobody.gid), (found.uid.as_raw(), 0));
    assert!(nobody.groups.contains(&0));
    assert!(
        !nobody.groups.contains(&found.gid.as_raw()),
        "not a login's"
    );
    let nobody = runs_as("user = nobody", &here).unwrap().unwrap();
    assert_eq!(nobody.gid, found.gid.as_raw());
    assert!(nobody.groups.contains(&nobody.gid));
}

#[test]
fn a_hook_waits_for_a_user_database_that_fails() {
    let main = parse("zookeeper.hosts = zk01\nnodes.a.source = /a\nnodes.a.hooks = h\n").unwrap();
    let fails = Surroundings {
        account: &|_, _| Err(io::ErrorKind::Interrupted.into()),
        ..ROOT
    };
    let mut dropins = Dropins::new("d".into());
    let uids = |dropins: &Dropins| -> Vec<u32> {
        let hooks = dropins.join(&main).hooks.all.into_iter();
        hooks.map(|hook| hook.account.unwrap().uid).collect()
    };
    // A number is not certain either: its groups are not known.
    for user in ["web", "80"] {
        dropins.remove("1.ini");
        let text = format!("hooks.h.command = x\nhooks.h.user = {user}\n");
        let mut take =
            |surroundings| dropins.take("1.ini", text.as_bytes(), &main.defaults, surroundings);
        assert_eq!(take(&fails), Taken::ForNow);
        assert_eq!(take(&ROOT), Taken::Finally);
        assert_eq!(take(&fails), Taken::ForNow);
        assert_eq!(uids(&dropins), [80], "it keeps what it has");
        let error = dropins.join(&main).dropins[0].error.clone().unwrap();
        let expected = format!("d/1.ini: cannot look up the user {user:?} (operation interrupted)");
        assert_eq!(error, expected);
    }
}

#[test]
fn check_shows_hooks() {
    let text = "zookeeper.hosts = zk01
nodes.a.source = /a
nodes.a.hooks = h list
trees.t.source = /t
trees.t.hooks = h
[hooks.h]
command = echo one two three four five six seven eight nine ten eleven > /dev/null
    wait
user = 424242
group = 434343
run_mode = parallel
timeout = 1 minute
pipe_stdin = events
[hooks.list]
command = [\"a b\", \"c\"]
pipe_stdin = true
notify_signal = HUP
description = a list
";
    let main = Config::parse(Path::new("live.ini"), text.as_bytes(), &ROOT).unwrap();
    let config = Dropins::new("d".into()).join(&main);
    let table = check::table(&config);
    let at = table.find("HOOK").unwrap();
    assert_eq!(
        &table[at..],
        "\
HOOK  RUN MODE  USER           COMMAND                                                       ON
h     parallel  424242:434343  echo one two three four five six seven eight nine ten ele...  a,t/
list  queue     -              [\"a b\",\"c\"]                                                   a
"
    );
    let json = check::json(&config);
    assert_eq!(
        json["hooks"],
        json!([
            {
                "name": "h",
                "command": "echo one two three four five six seven eight nine ten eleven > /dev/null\nwait",
                "run_mode": "parallel", "run_on_load": false, "pipe_stdin": "events",
                "user": 424_242, "group": 434_343, "groups": [434_343], "notify_signal": null,
                "timeout_ms": 60_000, "kill_timeout_ms": 5000, "retries": 0, "backoff_ms": 1000,
                "ok_codes": [0], "splay_ms": 0, "wait_min_ms": 0, "wait_max_ms": 0,
                "description": null, "on": {"nodes": ["a"], "trees": ["t"]},
            },
            {
                "name": "list", "command": ["a b", "c"],
                "run_mode": "queue", "run_on_load": false, "pipe_stdin": true,
                "user": null, "group": null, "groups": null, "notify_signal": 1,
                "timeout_ms": null, "kill_timeout_ms": 5000, "retries": 0, "backoff_ms": 1000,
                "ok_codes": [0], "splay_ms": 0, "wait_min_ms": 0, "wait_max_ms": 0,
                "description": "a list", "on": {"nodes": ["a"], "trees": []},
            },
        ])
    );
    assert_eq!(json["nodes"][0]["hooks"], json!(["h", "list"]));
    assert_eq!(json["trees"][0]["hooks"], json!(["h"]));
    assert_eq!(json["hooks_max_parallel"], 16);
}

/// A main file and a drop-in on disk: what is wrong with them.
fn on_disk(main: &str, dropin: &str, mode: u32) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("live.ini");
    fs::write(&file, format!("zookeeper.hosts = zk01\n{main}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(directory.path().join("mount.d")).unwrap();
    fs::write(directory.path().join("mount.d/1.ini"), dropin).unwrap();
    let config = Config::load_all(&file, None).unwrap();
    let start = format!("{}/", directory.path().display());
    let problems = config.problems.iter();
    problems
        .map(|problem| format!("{}: {problem}", problem.severity.as_str()).replace(&start, ""))
        .collect()
}

#[test]
fn programs_that_are_not_there() {
    let main = "nodes.a.source = /a
nodes.a.hooks = one two three four five six seven
hooks.one.command = no-such-program-here now
hooks.two.command = [\"/bin/no-such-program-here\"]
hooks.three.command = sh -c true
hooks.four.command = exec no-such-program-here
hooks.five.command = \"no-such-program-here\"; true
";
    let dropin = "hooks.six.command = [\"no-such-program-here\"]\nhooks.seven.command = [\"sh\"]\n";
    assert_eq!(
        on_disk(main, dropin, 0o644),
        [
            "warning: live.ini:4: hooks.one.command: there is no \"no-such-program-here\" in PATH; write the whole path, or install it",
            "warning: live.ini:5: hooks.two.command: \"/bin/no-such-program-here\" is no file that can be run; write the path of one, or install it",
            "warning: mount.d/1.ini:1: hooks.six.command: there is no \"no-such-program-here\" in PATH; write the whole path, or install it",
        ]
    );
    // Who does not look says nothing of it.
    assert_eq!(joined(main).hooks.all.len(), 5);
    assert!(!said(&joined(main)).iter().any(|text| text.contains("PATH")));
}

#[test]
fn a_main_file_that_others_can_write() {
    let main = "nodes.a.source = /a\nnodes.a.hooks = h\nhooks.h.command = true\n";
    assert_eq!(on_disk(main, "", 0o640), [""; 0]);
    for (mode, text) in [(0o664, "0664"), (0o602, "0602")] {
        let expected = format!(
            "warning: live.ini:4: hooks.h: hooks are code, and others than its owner can write the file (mode {text}); chmod go-w"
        );
        assert_eq!(on_disk(main, "", mode), [expected]);
    }
    // Without hooks it is not worth a word.
    assert_eq!(on_disk("nodes.a.source = /a\n", "", 0o666), [""; 0]);
}
