//! The status in the text format of Prometheus.
//!
//! Ten thousand nodes on a thousand hosts are no time series: nodes are counted by state, and those
//! that are not live are named, up to [`MAX_NAMED`].

use std::fmt::{Display, Write};

use super::{Hook, State, Status};

/// How many nodes that are not live are named.
pub const MAX_NAMED: usize = 100;

/// The metrics, each with all its samples in one place, as the format wants it.
pub fn text(status: &Status) -> String {
    let mut page = Page {
        text: String::new(),
        mountpoint: escaped(&status.mountpoint),
    };
    let zookeeper = &status.zookeeper;
    page.gauge(
        "livedata_info",
        "The version of the serving process.",
        [([("version", &*status.version)], 1)],
    );
    page.lone_gauge(
        "livedata_status_timestamp_seconds",
        "When this was so; an old one is a copy that nobody renews.",
        status.at,
    );
    page.lone_gauge(
        "livedata_zookeeper_connected",
        "Whether there is a session with ZooKeeper.",
        u8::from(zookeeper.connected),
    );
    if let Some(since) = zookeeper.since {
        page.lone_gauge(
            "livedata_zookeeper_since_timestamp_seconds",
            "Since when there is a session, or none.",
            since,
        );
    }
    page.lone_counter(
        "livedata_zookeeper_sessions_total",
        "Sessions with ZooKeeper since the server started.",
        zookeeper.sessions,
    );
    page.gauge(
        "livedata_nodes",
        "Configured nodes by state.",
        State::ALL.map(|state| ([("state", state.as_str())], status.n_nodes(state))),
    );
    let not_live = status.nodes.iter().filter(|node| !node.is_live());
    page.gauge(
        "livedata_node_not_live",
        "Nodes that are not live, by name; the first hundred of them.",
        not_live.take(MAX_NAMED).map(|node| {
            let labels = [
                ("node", &*node.name),
                ("znode", &node.znode),
                ("state", node.state.as_str()),
            ];
            (labels, 1)
        }),
    );
    page.lone_gauge("livedata_files", "Nodes that have a file.", status.files);
    page.lone_gauge(
        "livedata_stale_files",
        "Files that may be old, be it that ZooKeeper is away or their znode cannot be read.",
        status.stale,
    );
    let too_old = status.nodes.iter().filter(|node| node.too_old);
    page.lone_gauge(
        "livedata_failing_files",
        "Files whose reading fails, for they are older than max_stale.",
        too_old.count(),
    );
    // What is kept of a deleted znode never gets any younger.
    let shows_znode = status
        .nodes
        .iter()
        .filter(|node| node.state != State::Absent);
    let ages = shows_znode.filter_map(|node| node.age);
    page.lone_gauge(
        "livedata_oldest_age_seconds",
        "How old the knowledge is that a file is current, of the oldest one.",
        ages.fold(0.0, f64::max),
    );
    page.lone_gauge(
        "livedata_heartbeat_interval_seconds",
        "How old that gets while all is well.",
        status.heartbeat_interval,
    );
    page.gauge(
        "livedata_tree_files",
        "Files of trees.",
        status
            .trees
            .iter()
            .map(|tree| ([("tree", &*tree.name)], tree.files)),
    );
    page.gauge(
        "livedata_tree_unreadable_znodes",
        "Znodes of trees that cannot be read, or whose children cannot be listed.",
        status
            .trees
            .iter()
            .map(|tree| ([("tree", &*tree.name)], tree.unreadable)),
    );
    page.gauge(
        "livedata_tree_left_out_znodes",
        "Znodes of trees with names that no file can have there.",
        status
            .trees
            .iter()
            .map(|tree| ([("tree", &*tree.name)], tree.left_out)),
    );
    if let Some(content) = &status.content_of_trees {
        page.lone_gauge(
            "livedata_tree_content_memory_bytes",
            "Content of trees in memory.",
            content.bytes_in_memory,
        );
        page.lone_gauge(
            "livedata_tree_content_disk_bytes",
            "Content of trees on disk.",
            content.bytes_on_disk,
        );
    }
    hooks(&mut page, &status.hooks);
    let n_wrong = status
        .dropins
        .iter()
        .filter(|dropin| dropin.error.is_some());
    let n_wrong = n_wrong.count();
    page.gauge(
        "livedata_dropins",
        "Drop-ins by state.",
        [
            ([("state", "ok")], status.dropins.len() - n_wrong),
            ([("state", "wrong")], n_wrong),
        ],
    );
    page.lone_counter(
        "livedata_changes_total",
        "Changes published since the server started.",
        status.changes,
    );
    page.lone_counter(
        "livedata_requests_total",
        "Requests of the kernel since the server started.",
        status.requests,
    );
    page.lone_counter(
        "livedata_audit_repairs_total",
        "Changes that no watch told of, since the server started.",
        status.repaired_by_audit,
    );
    page.lone_counter(
        "livedata_garbled_replies_total",
        "Replies that no ZooKeeper server sends, since the server started.",
        status.garbled_replies,
    );
    page.lone_gauge("livedata_inodes", "Inodes in memory.", status.inodes);
    if let Some(cache) = &status.cache {
        page.lone_gauge(
            "livedata_cache_healthy",
            "Whether cache.dir can be written.",
            u8::from(cache.error.is_none()),
        );
        page.lone_gauge(
            "livedata_cache_entries",
            "Znodes that cache.dir knows.",
            cache.entries,
        );
        page.lone_gauge(
            "livedata_cache_size_bytes",
            "How long the file in cache.dir is.",
            cache.bytes,
        );
        page.lone_gauge(
            "livedata_cache_waiting_entries",
            "Znodes of which the newest is not in cache.dir yet.",
            cache.waiting,
        );
    }
    let processes = [
        ([("process", "server")], &status.processes.server),
        ([("process", "publisher")], &status.processes.publisher),
    ];
    page.gauge(
        "livedata_process_start_timestamp_seconds",
        "When a process started.",
        processes
            .iter()
            .filter_map(|(labels, process)| Some((*labels, process.since?))),
    );
    page.family(
        "livedata_process_restarts_total",
        "counter",
        "How often a process was started again after a death.",
        processes
            .iter()
            .map(|(labels, process)| (*labels, process.restarts)),
    );
    page.text
}

fn hooks(page: &mut Page, hooks: &[Hook]) {
    let labels = |hook: &'_ Hook| [("hook", hook.hook.clone()), ("of", hook.of.clone())];
    let all: Vec<_> = hooks.iter().map(|hook| (labels(hook), hook)).collect();
    let each = |value: fn(&Hook) -> Option<f64>| {
        let samples = all.iter().filter_map(move |(labels, hook)| {
            let labels = [(labels[0].0, &*labels[0].1), (labels[1].0, &*labels[1].1)];
            Some((labels, value(hook)?))
        });
        samples.collect::<Vec<_>>()
    };
    page.family(
        "livedata_hook_runs_total",
        "counter",
        "Runs of a hook for a node or tree that have ended.",
        each(|hook| Some(hook.runs as f64)),
    );
    page.family(
        "livedata_hook_failures_total",
        "counter",
        "Those of them that failed.",
        each(|hook| Some(hook.failures as f64)),
    );
    page.gauge(
        "livedata_hook_failures_in_a_row",
        "How many of the last runs failed, one after the other.",
        each(|hook| Some(hook.failures_in_a_row as f64)),
    );
    page.gauge(
        "livedata_hook_running",
        "Commands of a hook that run now.",
        each(|hook| Some(hook.running.len() as f64)),
    );
    page.gauge(
        "livedata_hook_waiting",
        "Whether a hook is to run.",
        each(|hook| Some(f64::from(u8::from(hook.waits)))),
    );
    page.gauge(
        "livedata_hook_last_start_timestamp_seconds",
        "When a hook last started.",
        each(|hook| hook.started),
    );
    page.gauge(
        "livedata_hook_last_duration_seconds",
        "How long its last run took.",
        each(|hook| hook.seconds),
    );
    page.gauge(
        "livedata_hook_last_exit_code",
        "The exit code of its last run, where it ended by itself.",
        each(|hook| hook.code.map(f64::from)),
    );
}

/// The text so far. Every sample says which mount it is about, for a host may have several.
struct Page {
    text: String,
    mountpoint: String,
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

impl Page {
    /// A metric and its samples; nothing where there are none.
    fn family<'a, const N: usize>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, impl Display)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let text = &mut self.text;
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = write!(text, "{name}{{mountpoint=\"{}\"", self.mountpoint);
            for (label, content) in labels {
                let _ = write!(text, ",{label}=\"{}\"", escaped(content));
            }
            let _ = writeln!(text, "}} {value}");
        }
    }

    fn gauge<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, impl Display)>,
    ) {
        self.family(name, "gauge", help, samples);
    }

    fn lone_gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help, [([], value)]);
    }

    fn lone_counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help, [([], value)]);
    }
}

/// The content of a label.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Node;

    fn node(name: &str, state: State) -> Node {
        Node {
            name: name.into(),
            znode: format!("/{name}"),
            state,
            ..Node::default()
        }
    }

    #[test]
    fn a_label_is_escaped() {
        assert_eq!(escaped("a\"b\\c\nd\u{e9}"), "a\\\"b\\\\c\\nd\u{e9}");
    }

    #[test]
    fn nodes_are_counted_and_those_not_live_are_named_to_a_limit() {
        let mut status = Status {
            mountpoint: "/mnt/\"x\"".into(),
            ..Status::default()
        };
        status.nodes.push(node("good", State::Live));
        let denied = (0..2 * MAX_NAMED).map(|n| node(&format!("n{n}"), State::Denied));
        status.nodes.extend(denied);
        let text = text(&status);
        let count = |what: &str| text.lines().filter(|line| line.starts_with(what)).count();
        assert!(text.contains("livedata_nodes{mountpoint=\"/mnt/\\\"x\\\"\",state=\"live\"} 1\n"));
        assert!(text.contains(",state=\"denied\"} 200\n"));
        assert_eq!(count("livedata_nodes{"), State::ALL.len());
        assert_eq!(count("livedata_node_not_live{"), MAX_NAMED);
        assert!(!text.contains("good"));
        // Nobody has asked for a cache.
        assert!(!text.contains("livedata_cache"));
    }
}
