//! Going on with what was known before: by another process of this mount, or by an earlier mount.

use std::time::{Instant, SystemTime};

use super::znode::{Stale, Znode};
use super::{Files, Noted, known_of, with_last};
use crate::cache;
use crate::config::{Node, Tree};
use crate::content::Content;
use crate::path::{FilePath, ZnodePath};
use crate::publish::News;
use crate::source::{Stat, Told};
use crate::store::Reader;
use crate::tree::{Change, Kind};

impl Files {
    /// Goes on with what another process showed, as it is on record. Gives the changes that take
    /// away what is not configured any more.
    pub(in crate::server) fn recall(
        &mut self,
        nodes: &[Node],
        trees: &[Tree],
        shown: &Reader,
    ) -> Vec<Change> {
        let mut known = shown.known();
        self.plant(trees.to_vec());
        // What is published is noted a moment later, and who died between the two noted nothing.
        for (file, kind) in shown.paths() {
            if kind == Kind::File
                && let Some(path) = self.znode_at(&file)
            {
                known.entry(path).or_insert(Told::Lost(Stat::default()));
            }
        }
        for (path, told) in &known {
            let (Told::Content(stat) | Told::Lost(stat)) = told else {
                continue;
            };
            for at in self.trees_that_show(path) {
                let dest = self.trees[at].dest(path);
                let attr = shown.find(&dest).and_then(|ino| shown.attr(ino));
                let has_children = match attr {
                    Some(attr) => attr.kind == Kind::Directory,
                    None => stat.num_children > 0,
                };
                self.trees[at].set(path, true, has_children);
                let znode = self.znodes.entry(path.clone()).or_default();
                znode.has_children = has_children;
            }
        }
        let of_nodes = nodes
            .iter()
            .map(|node| (node.source.clone(), node.dest.clone()));
        let of_trees = self.trees.iter().flat_map(|planted| planted.files());
        let of_trees = of_trees.map(|(path, file)| (path.clone(), file));
        let files: Vec<_> = of_nodes.chain(of_trees).collect();
        for (source, file) in files {
            if let Some(told) = known.get(&source) {
                self.recall_file(&source, &file, *told, shown);
            }
        }
        self.nodes = nodes.to_vec();
        let wanted = self.layout();
        self.nodes.clear();
        // What is in a directory comes behind it.
        shown
            .paths()
            .into_iter()
            .rev()
            .filter_map(|(path, kind)| match kind {
                Kind::File if !wanted.files.contains(&path) => Some(Change::Remove { path }),
                Kind::Directory if !wanted.directories.contains_key(&path) => {
                    Some(Change::RemoveDirectory { path })
                }
                Kind::File | Kind::Directory => None,
            })
            .collect()
    }

    /// The znode that a tree shows at this path.
    fn znode_at(&self, file: &FilePath) -> Option<ZnodePath> {
        self.trees.iter().find_map(|planted| {
            let path = planted.znode(file)?;
            planted.tree.subtree.wants(&path).then_some(path)
        })
    }

    /// What one of the files of a znode showed.
    fn recall_file(&mut self, source: &ZnodePath, file: &FilePath, told: Told, shown: &Reader) {
        let attr = shown.find(file).and_then(|ino| shown.attr(ino));
        let content = attr.and_then(|attr| shown.content(attr.ino));
        // What lay on disk may not be there any more.
        let content = content.filter(|content| !content.is_lost());
        let znode = self.znodes.entry(source.clone()).or_default();
        // A takeover makes nothing too old, and nothing younger.
        let as_of = attr.map_or(SystemTime::UNIX_EPOCH, |attr| attr.mtime);
        let before = znode.stale.map_or(as_of, |stale| stale.as_of);
        znode.stale = Some(Stale::from_now(as_of.max(before)));
        (znode.told, znode.content) = match (told, znode.told) {
            // Some nodes keep what they showed.
            (Told::Absent(_), _) => (Some(told), znode.content.take().or(content)),
            (Told::Content(_), None) if content.is_some() => (Some(told), content),
            (_, Some(Told::Content(_))) if content == znode.content => (Some(told), content),
            // What is not shown everywhere, or not alike, or broken, is to be told again.
            (Told::Content(stat) | Told::Lost(stat), _) => (Some(Told::Lost(stat)), None),
        };
    }

    /// Goes on with what an earlier mount knew of the planned nodes and trees, as the cache has it.
    /// Gives the changes that show it.
    pub(in crate::server) fn recall_cached(
        &mut self,
        entries: Vec<cache::Entry>,
        now: SystemTime,
    ) -> Vec<Noted> {
        let mut recalled = Vec::new();
        for cache::Entry { path, known } in entries {
            if !self.znodes.contains_key(&path) {
                if self.trees_that_show(&path).is_empty() {
                    continue;
                }
                self.znodes.insert(path.clone(), Znode::default());
                self.n_unheard += 1;
            }
            let Some(znode) = self.znodes.get_mut(&path) else {
                continue;
            };
            match known {
                cache::Known::Content {
                    stat,
                    content,
                    confirmed,
                } => {
                    let bytes = content.in_memory().filter(|_| znode.nodes.is_empty());
                    let content = bytes.map_or(content, |bytes| Content::droppable(&*bytes));
                    znode.content = Some(content);
                    znode.told = Some(Told::Content(stat));
                    znode.has_children = stat.num_children > 0;
                    znode.stale = Some(Stale {
                        since: Instant::now(),
                        age: now.duration_since(confirmed).unwrap_or_default(),
                        as_of: confirmed,
                    });
                    recalled.push((path, stat));
                }
                cache::Known::Absent { zxid } => znode.told = Some(Told::Absent(Some(zxid))),
            }
        }
        // Only when all are there it shows what is a file and what a directory.
        self.settle_trees();
        let layout = self.layout();
        let makes = layout.makes_directories();
        let mut noted: Vec<Noted> = makes.map(|change| (change, None)).collect();
        for (path, stat) in recalled {
            let znode = &self.znodes[&path];
            let showings = self.showings(&path).into_iter();
            let changes = showings.filter_map(|showing| super::show(&showing, znode));
            let known = known_of(&path, News::Told(Told::Content(stat)));
            noted.extend(with_last(changes.collect(), Some(known)));
        }
        noted
    }
}
