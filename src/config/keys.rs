//! The keys there are: one table.

/// Every key; `*` stands for one name without a dot.
const KEYS: &[&str] = &[
    "zookeeper.hosts",
    "zookeeper.credentials",
    "zookeeper.timeout",
    "zookeeper.tls",
    "zookeeper.ca_cert",
    "zookeeper.cert",
    "zookeeper.key",
    "zookeeper.verify",
    "zookeeper.sasl_mechanism",
    "zookeeper.read_only",
    "secrets.path",
    "secrets.provider",
    "mount.xattr",
    "mount.status_dir",
    "mount.status_mode",
    "mount.links",
    "mount.dropin_dir",
    "heartbeat_interval",
    "cache.dir",
    "cache.max_bytes",
    "log.level",
    "log.file",
    "defaults.owner",
    "defaults.group",
    "defaults.mode",
    "defaults.on_delete",
    "defaults.on_disconnect",
    "defaults.max_stale",
    "nodes.*.source",
    "nodes.*.dest",
    "nodes.*.owner",
    "nodes.*.group",
    "nodes.*.mode",
    "nodes.*.on_delete",
    "nodes.*.required",
    "nodes.*.on_disconnect",
    "nodes.*.max_stale",
    "nodes.*.hooks",
    "trees.*.source",
    "trees.*.dest",
    "trees.*.depth",
    "trees.*.include",
    "trees.*.exclude",
    "trees.*.mode",
    "trees.*.dir_mode",
    "trees.*.owner",
    "trees.*.group",
    "trees.*.data_name",
    "trees.*.on_disconnect",
    "trees.*.max_stale",
    "trees.*.hooks",
    "hooks.max_parallel",
    "hooks.on_unmount",
    "hooks.*.command",
    "hooks.*.run_mode",
    "hooks.*.run_on_load",
    "hooks.*.pipe_stdin",
    "hooks.*.user",
    "hooks.*.group",
    "hooks.*.notify_signal",
    "hooks.*.timeout",
    "hooks.*.kill_timeout",
    "hooks.*.retries",
    "hooks.*.backoff",
    "hooks.*.ok_codes",
    "hooks.*.splay",
    "hooks.*.wait_min",
    "hooks.*.wait_max",
    "hooks.*.description",
];

/// Whether there is such a key.
pub(super) fn is_known(key: &str) -> bool {
    KEYS.iter().any(|pattern| matches(pattern, key))
}

/// The known key that `key` was perhaps meant to be.
pub(super) fn nearest(key: &str) -> Option<String> {
    // What a node may say is no hint for a tree.
    let kind = ["nodes.", "trees.", "hooks."]
        .into_iter()
        .find(|kind| key.starts_with(kind));
    KEYS.iter()
        .filter(|pattern| kind.is_none_or(|kind| pattern.starts_with(kind)))
        .filter_map(|pattern| {
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
            ("zookeeper.hosts", true),
            ("mount.links", true),
            ("nodes.a.source", true),
            ("nodes.a.hooks", true),
            ("nodes..source", false),
            ("nodes.a.b.source", false),
            ("nodes.source", false),
            ("nodes.a", false),
            ("hooks.max_parallel", true),
            ("hooks.a.max_parallel", false),
            ("hooks.command", false),
            ("", false),
        ] {
            assert_eq!(is_known(key), expected, "{key}");
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
