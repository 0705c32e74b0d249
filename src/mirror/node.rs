//! What the mirror knows of one znode, and how it stands in the session at hand.

use std::collections::{HashMap, HashSet};

use futures_util::future::AbortHandle;
use tokio::time::Instant;

use super::Reason;
use super::backoff::Backoff;
use super::look::{Generation, Occasion};
use crate::path::ZnodePath;
use crate::source::Told;

/// Names a znode while it is watched; not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(pub(super) u64);

pub(super) struct Node {
    pub(super) path: ZnodePath,
    pub(super) known: Option<Told>,
    /// Whether this mirror has told it; otherwise another has.
    pub(super) told: bool,
    /// The reason last told, so that it is told once.
    pub(super) unreadable: Option<Reason>,
    /// Since when this session does not know the znode to be as told, or that it does.
    pub(super) state: State,
    /// The latest watches of this session; an event of any other is of no interest.
    pub(super) watches: Vec<Armed>,
    pub(super) backoff: Backoff,
    /// How many looks were begun: what an earlier one found of children may be old.
    pub(super) n_looks: u32,
    /// Whether it is wanted by name, and so stays where there is no znode.
    pub(super) is_named: bool,
    /// Whether its content is wanted, or only what is below it.
    pub(super) is_wanted: bool,
    /// Whether it was told to have children, if that was told.
    pub(super) is_parent: Option<bool>,
    /// Its children, where they are wanted.
    pub(super) children: Option<Box<Children>>,
}

/// The children of a znode.
#[derive(Default)]
pub(super) struct Children {
    pub(super) names: HashSet<Box<str>>,
    /// As of when these are all; none where a child came or went since they were listed.
    pub(super) generation: Option<Generation>,
    /// Whether, in this session, these are all.
    pub(super) is_complete: bool,
    /// While a look is under way, what happened to children: whether they are there now. The list
    /// that it brings may be of before or after.
    meanwhile: Option<HashMap<Box<str>, bool>>,
}

/// How a znode stands in the session at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// In the queue, with what is expected there.
    Queued(Occasion),
    /// Being looked at; true once an event said to look again afterwards.
    Looking(bool),
    /// To be looked at again at this time.
    Retry(Instant),
    /// As told, and its watch is armed.
    Clean,
}

/// Leaves a watch when dropped.
pub(super) struct Armed(pub(super) AbortHandle);

impl Drop for Armed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Node {
    pub(super) fn new(path: ZnodePath, known: Option<Told>) -> Self {
        Self {
            path,
            known,
            unreadable: None,
            told: false,
            state: State::Queued(expected(known)),
            watches: Vec::new(),
            backoff: Backoff::looking(),
            n_looks: 0,
            is_named: false,
            is_wanted: false,
            is_parent: None,
            children: None,
        }
    }

    pub(super) fn has_content(&self) -> bool {
        matches!(self.known, Some(Told::Content(_)))
    }

    /// Whether its children are wanted, too.
    pub(super) fn wants_children(&mut self, wants: bool) {
        match wants {
            true => _ = self.children.get_or_insert_default(),
            false => self.children = None,
        }
    }

    /// Another session begins, in which nothing of the one before counts: its watches are gone, and
    /// so are its events.
    pub(super) fn begin_session(&mut self) {
        self.state = State::Queued(match &self.unreadable {
            // A Stat does not say whether the content may be read.
            Some(Reason::Denied) => Occasion::Unknown,
            Some(_) | None => expected(self.known),
        });
        self.watches.clear();
        if let Some(children) = &mut self.children {
            children.is_complete = false;
        }
    }

    /// A look begins. Gives its number.
    pub(super) fn begin_look(&mut self) -> u32 {
        self.n_looks = self.n_looks.wrapping_add(1);
        if let Some(children) = &mut self.children {
            children.meanwhile = Some(HashMap::new());
        }
        self.n_looks
    }

    /// The last look that began has ended.
    pub(super) fn end_look(&mut self) {
        if let Some(children) = &mut self.children {
            children.meanwhile = None;
        }
    }

    /// Whether it has children, given how many a look found; none where nothing says so, as after a
    /// look that failed.
    pub(super) fn has_children(&self, n_found: Option<usize>) -> Option<bool> {
        match &self.children {
            Some(children) if children.is_complete => Some(!children.names.is_empty()),
            Some(_) | None => n_found.map(|n| n > 0),
        }
    }
}

impl Children {
    /// An event told that a child is there now, or is not.
    pub(super) fn note(&mut self, name: &str, is_there: bool) {
        self.generation = None;
        self.set(name, is_there);
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.insert(name.into(), is_there);
        }
    }

    /// A look brought the list of all. Gives the names that are gone.
    pub(super) fn list(&mut self, names: Vec<String>, generation: Generation) -> Vec<Box<str>> {
        let names = names.into_iter().map(String::into_boxed_str).collect();
        let before = std::mem::replace(&mut self.names, names);
        self.generation = Some(generation);
        for (name, is_there) in self.meanwhile.take().unwrap_or_default() {
            self.generation = None;
            self.set(&name, is_there);
        }
        self.is_complete = true;
        before.difference(&self.names).cloned().collect()
    }

    fn set(&mut self, name: &str, is_there: bool) {
        match is_there {
            true => drop(self.names.insert(name.into())),
            false => drop(self.names.remove(name)),
        }
    }
}

/// What a new session expects of a znode of which this is known.
fn expected(known: Option<Told>) -> Occasion {
    match known {
        None | Some(Told::Lost(_)) => Occasion::Unknown,
        Some(Told::Content(_) | Told::Absent(_)) => Occasion::Reconnected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(children: &Children) -> Vec<&str> {
        let mut names: Vec<&str> = children.names.iter().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_list_is_brought_up_to_date_by_what_happened_meanwhile() {
        let mut node = Node::new(ZnodePath::root(), None);
        node.children = Some(Box::default());
        node.begin_look();
        let children = node.children.as_mut().unwrap();
        // Whether the list is of before or after each of these, nobody knows.
        children.note("came", true);
        children.note("went", false);
        children.note("again", false);
        children.note("again", true);
        let list = ["old", "went", "again"].map(String::from).to_vec();
        assert!(children.list(list, (1, 2)).is_empty());
        assert_eq!(names(children), ["again", "came", "old"]);
        assert_eq!(children.generation, None, "nobody knows as of when");
        node.begin_look();
        let children = node.children.as_mut().unwrap();
        let gone = children.list(vec!["came".into(), "old".into()], (1, 3));
        assert_eq!(gone, [Box::from("again")]);
        assert_eq!(children.generation, Some((1, 3)));
    }
}
