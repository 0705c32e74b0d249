//! What a script may wait for: a version of a node, or that every node is current.

use super::{Node, Status};

/// How many nodes are named that are waited for.
const MAX_NAMED: usize = 5;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Every node is live, and its file shows the newest version that is known.
    Fresh,
    /// The file of the node shows this version of its znode or a later one; it is live and current
    /// where no version is given.
    Node {
        /// The node's name in the configuration.
        name: String,
        /// The version.
        version: Option<i32>,
    },
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is so.
    Reached,
    /// Not yet; what is missing, in words.
    Missing(String),
    /// There is no node of this name.
    NoNode(String),
}

impl Goal {
    /// `NODE@VERSION` or `NODE`. A name may have an `@` in it, so the last one counts, and only
    /// before a number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, version) = match text.rsplit_once('@') {
            Some((name, version)) if is_number(version) => {
                let version = version.parse().map_err(|_| {
                    format!(
                        "{version} is no version of a znode; write at most {}",
                        i32::MAX
                    )
                })?;
                (name, Some(version))
            }
            Some(_) | None => (text, None),
        };
        if name.is_empty() {
            return Err("write the name of a node, as NODE or NODE@VERSION".into());
        }
        Ok(Self::Node {
            name: name.into(),
            version,
        })
    }

    /// Whether it is reached.
    pub fn progress(&self, status: &Status) -> Progress {
        match self {
            Self::Fresh => {
                let missing: Vec<_> = status
                    .nodes
                    .iter()
                    .filter(|node| !node.is_current())
                    .map(words)
                    .collect();
                match missing.len() {
                    0 => Progress::Reached,
                    n if n > MAX_NAMED => Progress::Missing(format!(
                        "{n} of {} nodes are not current: {}, ...",
                        status.nodes.len(),
                        missing[..MAX_NAMED].join(", ")
                    )),
                    _ => Progress::Missing(missing.join(", ")),
                }
            }
            Self::Node { name, version } => {
                let mut nodes = status.nodes.iter();
                let Some(node) = nodes.find(|node| node.name == *name) else {
                    return Progress::NoNode(name.clone());
                };
                let reached = match version {
                    None => node.is_current(),
                    Some(version) => !node.too_old && node.version >= Some(*version),
                };
                match reached {
                    true => Progress::Reached,
                    false => Progress::Missing(words(node)),
                }
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn words(node: &Node) -> String {
    let mut words = format!("{} is {}", node.name, node.state.as_str());
    if let Some(version) = node.version {
        words += &format!(" at version {version}");
    }
    if let Some(error) = &node.error {
        words += &format!(" ({error})");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::State;

    fn goal(text: &str) -> Goal {
        Goal::parse(text).unwrap()
    }

    fn node(name: &str, version: Option<i32>) -> Goal {
        let name = name.into();
        Goal::Node { name, version }
    }

    #[test]
    fn a_node_and_a_version() {
        assert_eq!(goal("a"), node("a", None));
        assert_eq!(goal("a@7"), node("a", Some(7)));
        assert_eq!(goal("a@b@7"), node("a@b", Some(7)));
        assert_eq!(goal("a@b"), node("a@b", None));
        assert_eq!(goal("a@"), node("a@", None));
        assert!(Goal::parse("").is_err());
        assert!(Goal::parse("@7").is_err());
        assert!(Goal::parse("a@99999999999").is_err());
    }

    #[test]
    fn how_far_it_is() {
        let mut status = Status {
            nodes: vec![Node {
                name: "a".into(),
                state: State::Live,
                version: Some(3),
                ..Node::default()
            }],
            ..Status::default()
        };
        for reached in ["a", "a@3", "a@0"] {
            assert_eq!(goal(reached).progress(&status), Progress::Reached);
        }
        assert_eq!(Goal::Fresh.progress(&status), Progress::Reached);
        let missing = Progress::Missing("a is live at version 3".into());
        assert_eq!(goal("a@4").progress(&status), missing);
        assert_eq!(goal("b").progress(&status), Progress::NoNode("b".into()));
        // What is about to be shown is not shown.
        status.nodes[0].pending = true;
        assert_eq!(goal("a").progress(&status), missing);
        assert_eq!(Goal::Fresh.progress(&status), missing);
        assert_eq!(goal("a@3").progress(&status), Progress::Reached);
        // A version that is shown is shown, however old.
        (status.nodes[0].pending, status.nodes[0].state) = (false, State::Stale);
        assert_eq!(goal("a@3").progress(&status), Progress::Reached);
        assert_ne!(goal("a").progress(&status), Progress::Reached);
        status.nodes[0].too_old = true;
        assert_ne!(goal("a@3").progress(&status), Progress::Reached);
        status.nodes[0].version = None;
        assert_ne!(goal("a@0").progress(&status), Progress::Reached);
    }

    #[test]
    fn of_many_nodes_some_are_named() {
        let nodes = (0..100).map(|n| Node {
            name: format!("n{n}"),
            ..Node::default()
        });
        let status = Status {
            nodes: nodes.collect(),
            ..Status::default()
        };
        let Progress::Missing(words) = Goal::Fresh.progress(&status) else {
            panic!("it is reached");
        };
        assert!(words.starts_with("100 of 100 nodes are not current: n0 is unknown, "));
        assert!(words.ends_with("n4 is unknown, ..."), "{words}");
    }
}
