//! What `livedata-fuse check` prints: the configuration as it was understood.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};
use serde_json::{Value, json};

use super::dropins::Listed;
use super::{Config, Node, Problem, Sasl, Tls, Tree};

mod hooks;

/// For people: the connection, a line for each node, tree and hook, then the problems. Ends with a newline.
pub fn table(config: &Config) -> String {
    let mut text = connection(config);
    let mut names = Names::default();
    if config.nodes.is_empty() && config.trees.is_empty() {
        text.push_str("no nodes\n");
    }
    if !config.nodes.is_empty() {
        let nodes = config.nodes.iter().map(|node| row(node, &mut names));
        text += &columns(["NODE", "ZNODE", "FILE", "OWNER", "MODE"], nodes);
    }
    if !config.trees.is_empty() {
        let trees = config.trees.iter().map(|tree| tree_row(tree, &mut names));
        text += &columns(TREE_COLUMNS, trees);
    }
    if !config.hooks.all.is_empty() {
        text += &hooks::table(config, &mut names);
    }
    for dropin in &config.dropins {
        let file = printable(&dropin.file.display().to_string());
        write!(text, "drop-in {file}: {} nodes", dropin.n_nodes).expect("a String takes all");
        if dropin.n_trees > 0 {
            write!(text, ", {} trees", dropin.n_trees).expect("a String takes all");
        }
        if dropin.n_hooks > 0 {
            write!(text, ", {} hooks", dropin.n_hooks).expect("a String takes all");
        }
        text.push('\n');
    }
    for problem in &config.problems {
        writeln!(text, "{}: {problem}", problem.severity.as_str()).expect("a String takes all");
    }
    text
}

/// For programs: the same. Times are in milliseconds; secrets are named, not shown.
pub fn json(config: &Config) -> Value {
    json!({
        "file": config.file.display().to_string(),
        "zookeeper": {
            "hosts": config.zookeeper.hosts,
            "chroot": config.zookeeper.chroot.as_ref().map(ToString::to_string),
            "timeout_ms": milliseconds(config.zookeeper.timeout),
            "credentials": config.zookeeper.credentials,
            "tls": config.zookeeper.tls.as_ref().map(tls),
            "sasl_mechanism": config.zookeeper.sasl.map(Sasl::as_str),
            "read_only": config.zookeeper.read_only,
        },
        "heartbeat_interval_ms": milliseconds(config.heartbeat_interval),
        "cache_dir": config.cache_dir.as_ref().map(|dir| dir.display().to_string()),
        "cache_max_bytes": config.cache_max_bytes,
        "nodes": config.nodes.iter().map(node).collect::<Vec<_>>(),
        "dropins": config.dropins.iter().map(Listed::json).collect::<Vec<_>>(),
        "trees": config.trees.iter().map(tree).collect::<Vec<_>>(),
        "hooks": hooks::json(config),
        "hooks_max_parallel": config.hooks.max_parallel,
        "hooks_on_unmount": config.hooks.on_unmount.as_str(),
        "warnings": config.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}

fn connection(config: &Config) -> String {
    let zookeeper = &config.zookeeper;
    let mut text = format!("ZooKeeper {}", zookeeper.hosts.join(","));
    if let Some(chroot) = &zookeeper.chroot {
        text += &printable(&chroot.to_string());
    }
    text += &format!(", session timeout {:?}", zookeeper.timeout);
    if zookeeper.read_only {
        text += ", read-only servers will do";
    }
    if !zookeeper.credentials.is_empty() {
        let names = zookeeper.credentials.join(", ");
        text += &format!(", credentials {}", printable(&names));
    }
    if let Some(sasl) = zookeeper.sasl {
        text += &format!(" by SASL {}", sasl.as_str());
    }
    if let Some(tls) = &zookeeper.tls {
        match &tls.ca_cert {
            Some(file) => text += &format!(", TLS with the CAs in {}", file.display()),
            None => text += ", TLS with the CAs of the system",
        }
        if let Some((cert, _)) = &tls.identity {
            text += &format!(" as {}", cert.display());
        }
        text = printable(&text);
    }
    text + "\n"
}

fn tls(tls: &Tls) -> Value {
    let text = |path: &Path| path.display().to_string();
    json!({
        "ca_cert": tls.ca_cert.as_deref().map(text),
        "cert": tls.identity.as_ref().map(|(cert, _)| text(cert)),
        "key": tls.identity.as_ref().map(|(_, key)| text(key)),
    })
}

fn row(node: &Node, names: &mut Names) -> [String; 5] {
    let owner = names.user(node.uid).to_owned();
    [
        printable(&node.name),
        printable(node.source.as_str()),
        printable(&node.dest.to_string()),
        format!("{owner}:{}", names.group(node.gid)),
        format!("{:04o}", node.mode),
    ]
}

const TREE_COLUMNS: [&str; 9] = [
    "TREE",
    "ZNODE",
    "DIRECTORY",
    "OWNER",
    "MODE",
    "DIRS",
    "DEPTH",
    "INCLUDE",
    "EXCLUDE",
];

fn tree_row(tree: &Tree, names: &mut Names) -> [String; 9] {
    let owner = names.user(tree.uid).to_owned();
    let patterns = |texts: &[String]| match texts {
        [] => "-".to_owned(),
        texts => printable(&texts.join(",")),
    };
    [
        printable(&tree.name),
        printable(tree.subtree.root().as_str()),
        printable(&tree.dest.to_string()),
        format!("{owner}:{}", names.group(tree.gid)),
        format!("{:04o}", tree.mode),
        format!("{:04o}", tree.dir_mode),
        tree.subtree
            .depth()
            .map_or_else(|| "all".into(), |depth| depth.to_string()),
        patterns(tree.subtree.includes()),
        patterns(tree.subtree.excludes()),
    ]
}

/// The rows below their header, each column as wide as its longest cell.
fn columns<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut all = vec![header.map(str::to_owned)];
    all.extend(rows);
    let widths: [usize; N] = std::array::from_fn(|column| {
        let lengths = all.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "{cell:width$}  ").expect("a String takes all");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn tree(tree: &Tree) -> Value {
    json!({
        "name": tree.name,
        "source": tree.subtree.root().as_str(),
        "dest": tree.dest.to_string(),
        "depth": tree.subtree.depth(),
        "include": tree.subtree.includes(),
        "exclude": tree.subtree.excludes(),
        "uid": tree.uid,
        "gid": tree.gid,
        "mode": format!("{:04o}", tree.mode),
        "dir_mode": format!("{:04o}", tree.dir_mode),
        "data_name": tree.data_name.as_str(),
        "on_disconnect": tree.on_disconnect.as_str(),
        "max_stale_ms": milliseconds(tree.max_stale),
        "hooks": tree.hooks,
    })
}

fn node(node: &Node) -> Value {
    json!({
        "name": node.name,
        "source": node.source.as_str(),
        "dest": node.dest.to_string(),
        "uid": node.uid,
        "gid": node.gid,
        "mode": format!("{:04o}", node.mode),
        "on_delete": node.on_delete.as_str(),
        "on_disconnect": node.on_disconnect.as_str(),
        "max_stale_ms": milliseconds(node.max_stale),
        "required": node.required,
        "hooks": node.hooks,
    })
}

fn problem(problem: &Problem) -> Value {
    json!({
        "severity": problem.severity.as_str(),
        "file": problem.file.display().to_string(),
        "line": problem.line,
        "key": problem.key,
        "message": problem.message,
    })
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A file name may hold what a terminal obeys.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// The names of ids, each looked up once; a number that has no name stays a number.
#[derive(Default)]
struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    fn user(&mut self, id: u32) -> &str {
        self.users.entry(id).or_insert_with(|| {
            let user = User::from_uid(Uid::from_raw(id)).ok().flatten();
            user.map_or_else(|| id.to_string(), |user| user.name)
        })
    }

    fn group(&mut self, id: u32) -> &str {
        self.groups.entry(id).or_insert_with(|| {
            let group = Group::from_gid(Gid::from_raw(id)).ok().flatten();
            group.map_or_else(|| id.to_string(), |group| group.name)
        })
    }
}
