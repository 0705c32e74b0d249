//! The keys there are, and which of them this version does not support yet: one table.
//!
//! Whoever implements a key deletes its row's `Later` (and reads the key, of course).

/// What this version does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// It is read.
    Now,
    /// It is ignored with a warning, unless its value is empty.
    Later,
}

use Support::{Later, Now};

/// Every key; `*` stands for one name without a dot.
const KEYS: &[(&str, Support)] = &[
    ("zookeeper.hosts", Now),
    ("zookeeper.credentials", Now),
    ("zookeeper.timeout", Now),
    ("zookeeper.tls", Now),
    ("zookeeper.ca_cert", Now),
    ("zookeeper.cert", Now),
    ("zookeeper.key", Now),
    ("zookeeper.verify", Now),
    ("zookeeper.sasl_mechanism", Now),
    ("zookeeper.read_only", Now),
    ("secrets.path", Now),
    ("secrets.provider", Now),
    ("mount.xattr", Now),
    ("mount.status_dir", Now),
    ("mount.status_mode", Now),
    ("mount.links", Now),
    ("mount.dropin_dir", Now),
    ("heartbeat_interval", Now),
    ("cache.dir", Now),
    ("cache.max_bytes", Now),
    ("log.level", Now),
    ("log.file", Now),
    ("defaults.owner", Now),
    ("defaults.group", Now),
    ("defaults.mode", Now),
    ("defaults.on_delete", Now),
    ("defaults.on_disconnect", Now),
    ("defaults.max_stale", Now),
    ("nodes.*.source", Now),
    ("nodes.*.dest", Now),
    ("nodes.*.owner", Now),
    ("nodes.*.group", Now),
    ("nodes.*.mode", Now),
    ("nodes.*.on_delete", Now),
    ("nodes.*.required", Now),
    ("nodes.*.on_disconnect", Now),
    ("nodes.*.max_stale", Now),
    ("nodes.*.hooks", Later),
    ("trees.*.source", Now),
    ("trees.*.dest", Now),
    ("trees.*.depth", Now),
    ("trees.*.include", Now),
    ("trees.*.exclude", Now),
    ("trees.*.mode", Now),
    ("trees.*.dir_mode", Now),
    ("trees.*.owner", Now),
    ("trees.*.group", Now),
    ("trees.*.data_name", Now),
    ("trees.*.on_disconnect", Now),
    ("trees.*.max_stale", Now),
    ("trees.*.hooks", Later),
    ("hooks.max_parallel", Later),
    ("hooks.*.command", Later),
    ("hooks.*.run_mode", Later),
    ("hooks.*.run_on_load", Later),
    ("hooks.*.pipe_stdin", Later),
    ("hooks.*.user", Later),
    ("hooks.*.group", Later),
    ("hooks.*.notify_signal", Later),
    ("hooks.*.timeout", Later),
    ("hooks.*.kill_timeout", Later),
    ("hooks.*.retries", Later),
    ("hooks.*.backoff", Later),
    ("hooks.*.ok_codes", Later),
    ("hooks.*.splay", Later),
    ("hooks.*.wait_min", Later),
    ("hooks.*.wait_max", Later),
    ("hooks.*.description", Later),
];

/// What is known of `key`; none if nothing.
pub(super) fn support(key: &str) -> Option<Support> {
    KEYS.iter()
        .find(|(pattern, _)| matches(pattern, key))
        .map(|&(_, support)| support)
}

/// The known key that `key` was perhaps meant to be.
pub(super) fn nearest(key: &str) -> Option<String> {
    // What a node may say is no hint for a tree.
    let kind = ["nodes.", "trees.", "hooks."]
        .into_iter()
        .find(|kind| key.starts_with(kind));
    KEYS.iter()
        .filter(|(pattern, _)| kind.is_none_or(|kind| pattern.starts_with(kind)))
        .filter_map(|(pattern, _)| {
            let candidate = named_like(pattern, key);
            let (left, right) = without_name(pattern, &candidate, key);
            let most = last(&candidate).len().max(6) / 3;
            // The lengths alone rule most of them out, at no cost.
            if left.len().abs_diff(right.len()) > most {
                return None;
            }
            let distance = strsim::damerau_levenshtein(left, right);
            (distance <= most).then_some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The section that one which means nothing was perhaps meant to be, or what to write instead.
pub(super) fn nearest_section(name: &str) -> Option<String> {
    let name = name.trim().to_lowercase();
    if strsim::damerau_levenshtein(&name, "live-data") <= 2 {
        return Some("did you mean [live-data]?".into());
    }
    if name == "default" {
        return Some("did you mean [DEFAULT]?".into());
    }
    let first = name
        .split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or_default();
    for kind in ["nodes", "trees", "hooks"] {
        if strsim::damerau_levenshtein(first, kind) <= 1 {
            return Some(format!("did you mean [{kind}.NAME]?"));
        }
    }
    ["zookeeper", "secrets", "mount", "cache", "log", "defaults"]
        .contains(&&*name)
        .then(|| format!("write {name}.KEY = value under [live-data]"))
}

fn matches(pattern: &str, key: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == key,
        Some((kind, option)) => key
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_suffix(option))
            .is_some_and(|name| !name.is_empty() && !name.contains('.')),
    }
}

/// The pattern with the name that `key` has, where it has one.
fn named_like(pattern: &str, key: &str) -> String {
    let name = key.split('.').nth(1).filter(|name| !name.is_empty());
    pattern.replace('*', name.unwrap_or("NAME"))
}

/// What there is to compare of two keys of one kind: the options. Else all of both.
fn without_name<'a>(pattern: &str, candidate: &'a str, key: &'a str) -> (&'a str, &'a str) {
    if let Some((kind, _)) = pattern.split_once('*')
        && let (Some(left), Some(right)) = (candidate.strip_prefix(kind), key.strip_prefix(kind))
    {
        let option = |rest: &'a str| rest.split_once('.').map_or(rest, |(_, option)| option);
        return (option(left), option(right));
    }
    (candidate, key)
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys() {
        for (key, expected) in [
            ("zookeeper.hosts", Some(Now)),
            ("zookeeper.read_only", Some(Now)),
            ("mount.links", Some(Now)),
            ("nodes.a.source", Some(Now)),
            ("nodes.a.hooks", Some(Later)),
            ("nodes..source", None),
            ("nodes.a.b.source", None),
            ("nodes.source", None),
            ("nodes.a", None),
            ("hooks.max_parallel", Some(Later)),
            ("", None),
        ] {
            assert_eq!(support(key), expected, "{key}");
        }
    }

    #[test]
    fn nearest_keys() {
        for (key, expected) in [
            ("zookeeper.host", Some("zookeeper.hosts")),
            ("zookeper.hosts", Some("zookeeper.hosts")),
            ("heartbeat_intervall", Some("heartbeat_interval")),
            ("nodes.a.soruce", Some("nodes.a.source")),
            ("node.a.source", Some("nodes.a.source")),
            ("nodes.a.modes", Some("nodes.a.mode")),
            ("trees.a.on_delete", None),
            ("trees.a.deph", Some("trees.a.depth")),
            ("nodes.some-long-name.colour", None),
            ("nodes.a", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(key).as_deref(), expected, "{key}");
        }
    }
}
