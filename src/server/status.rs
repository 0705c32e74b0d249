//! What the server tells of itself: to the keeper that asks, and in the status directory.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::configuration::memory;
use super::desk::Desk;
use super::files::listing::Listed;
use super::hooks::Hooking;
use super::links::Linking;
use super::noted::{Publishers, Sessions};
use super::{Error, Server, keeping, mounter};
use crate::cache::Cache;
use crate::config::{Config, dropins};
use crate::fuse::{Requests, Shown, StatusDir, StatusFile};
use crate::processes::{Start, ToKeeper};
use crate::publish::Publishing;
use crate::source::{Told, zookeeper};
use crate::spilling::Spilling;
use crate::status::{
    ContentOfTrees, Dropin, Node, Process, Processes, SCHEMA, State, Status, ZooKeeper, prometheus,
};
use crate::store::Reader;
use crate::sys;
use crate::tree::Ownership;

/// From how many nodes on the memory that a status took is given back to the system at once.
const MANY: usize = 1000;

/// Gathers the status, for whatever thread asks.
pub(super) struct Telling {
    pub(super) desk: Arc<Mutex<Desk>>,
    pub(super) publishing: Arc<Publishing>,
    pub(super) publishers: Arc<Mutex<Publishers>>,
    pub(super) requests: Requests,
    pub(super) reader: Reader,
    /// When the process started.
    pub(super) since: SystemTime,
    pub(super) start: Start,
    pub(super) linking: Arc<Linking>,
    pub(super) spilling: Option<Arc<Spilling>>,
    pub(super) hooking: Arc<Hooking>,
    /// Taken with no other lock, and for a moment.
    pub(super) configured: Mutex<Configured>,
}

/// What of the configuration is in the status.
#[derive(Default)]
pub(super) struct Configured {
    pub(super) dropins: Vec<dropins::Listed>,
    pub(super) cache: Option<Arc<Cache>>,
    pub(super) heartbeat_interval: Duration,
    /// What is wrong with the directory of drop-ins.
    pub(super) dropin_dir: Option<String>,
}

impl Configured {
    pub(super) fn new(
        config: &Config,
        cache: Option<&Arc<Cache>>,
        dropin_dir: Option<String>,
    ) -> Self {
        Self {
            dropins: config.dropins.clone(),
            cache: cache.cloned(),
            heartbeat_interval: config.heartbeat_interval,
            dropin_dir,
        }
    }
}

impl Server {
    /// The server's part of the status.
    pub(super) fn tell_status(&self) -> Result<(), Error> {
        match memory("status", &self.telling.status().json()) {
            Ok(memory) => self
                .keeper
                .send(&ToKeeper::Status, &[memory.as_fd()])
                .map_err(|_| Error::KeeperGone),
            Err(err) => {
                log::warn!("no memory for the status: {err}");
                Ok(())
            }
        }
    }

    /// The configuration is another one.
    pub(super) fn tell_of_configuration(&self) {
        *self.telling.configured.lock() =
            Configured::new(&self.config, self.cache.as_ref(), self.dropins.complaint());
    }
}

impl Telling {
    /// Has the status directory tell it, as the configuration wants it shown.
    pub(super) fn show(
        self: &Arc<Self>,
        directory: &StatusDir,
        config: &Config,
    ) -> Result<(), Error> {
        let shown = Shown {
            name: config.mount.status_dir.clone(),
            files: Ownership {
                mode: config.mount.status_mode,
                ..mounter()
            },
        };
        let telling = Arc::clone(self);
        let write = move |file| {
            let status = telling.status();
            let bytes = match file {
                StatusFile::Json => status.json(),
                StatusFile::Metrics => prometheus::text(&status).into_bytes(),
            };
            if status.nodes.len() >= MANY {
                drop(status);
                sys::trim_memory();
            }
            // Snapshots are on record, and perhaps nothing else changes for long.
            telling.publishing.tidy();
            bytes
        };
        directory
            .serve(self.reader.clone(), shown, write)
            .map_err(super::system("cannot start a thread"))
    }

    /// Everything, as of now. The desk is held for as long as it takes to clone what it knows.
    pub(super) fn status(&self) -> Status {
        let (listing, n_unreadable, error, n_repaired, sessions, (trees, read_only)) = {
            let desk = self.desk.lock();
            let since = Instant::now();
            let known = (
                desk.files.listing(),
                desk.files.n_unreadable(),
                desk.files.disconnected().map(str::to_owned),
                desk.files.n_repaired(),
                desk.sessions.clone(),
                (desk.files.listing_of_trees(), desk.files.is_read_only()),
            );
            drop(desk);
            log::debug!("the status held the desk for {:?}", since.elapsed());
            known
        };
        let count = |is: fn(&Listed) -> bool| listing.iter().filter(|node| is(node)).count() as u64;
        let (dropins, dropin_dir, cache, heartbeat_interval) = {
            let configured = self.configured.lock();
            (
                configured.dropins.iter().map(dropin).collect(),
                configured.dropin_dir.clone(),
                configured.cache.clone(),
                configured.heartbeat_interval,
            )
        };
        let now = SystemTime::now();
        let garbled = zookeeper::garbled();
        let mut status = Status {
            schema: SCHEMA,
            at: seconds(now),
            version: env!("CARGO_PKG_VERSION").into(),
            mountpoint: self.start.mountpoint.display().to_string(),
            complaints: Vec::new(),
            zookeeper: ZooKeeper {
                read_only,
                ..session(sessions, error)
            },
            heartbeat_interval: heartbeat_interval.as_secs_f64(),
            answered: count(|node| node.is_heard_of),
            files: count(|node| node.has_file) + trees.iter().map(|tree| tree.files).sum::<u64>(),
            stale: count(|node| node.is_stale) + trees.iter().map(|tree| tree.stale).sum::<u64>(),
            unreadable: n_unreadable as u64,
            nodes: self.nodes(listing, now),
            trees,
            dropins,
            dropin_dir,
            hooks: self.hooking.status(),
            links: self.linking.status(),
            content_of_trees: self.spilling.as_deref().map(content_of_trees),
            cache: keeping::status(cache.as_deref()),
            changes: self.publishing.n_published(),
            requests: self.requests.get(),
            repaired_by_audit: n_repaired,
            garbled_replies: garbled.n,
            last_garbled_reply: garbled.last,
            inodes: self.reader.n_inodes() as u64,
            inherited_inodes: self.reader.inherited().len() as u64,
            processes: self.processes(),
        };
        status.complaints = status.complain();
        status
    }

    /// The nodes, with what their files show.
    fn nodes(&self, listing: Vec<Listed>, now: SystemTime) -> Vec<Node> {
        // What is about to be shown is rare, and only then it is asked for what was shown before.
        let mut known = None;
        let nodes = listing.into_iter().map(|listed| {
            let ino = self.reader.find(&listed.dest);
            let shown = ino.and_then(|ino| self.reader.attr(ino));
            let content = shown.and_then(|attr| self.reader.content(attr.ino));
            let pending = match (&shown, listed.state) {
                (None, State::Absent) => false,
                (None, _) => listed.has_file,
                (Some(_), State::Absent) => !listed.has_file,
                (Some(_), _) => !listed.too_old && content != listed.content,
            };
            let stat = match (&shown, pending) {
                (None, _) => None,
                (Some(_), false) => listed.stat,
                (Some(_), true) => known
                    .get_or_insert_with(|| self.reader.known())
                    .get(&listed.source)
                    .and_then(|told| match told {
                        Told::Content(stat) | Told::Lost(stat) => Some(*stat),
                        Told::Absent(_) => None,
                    }),
            };
            let age = |time| now.duration_since(time).unwrap_or_default();
            Node {
                name: listed.name,
                znode: listed.source.as_str().into(),
                file: listed.dest.to_string(),
                state: listed.state,
                version: stat.map(|stat| stat.version),
                mzxid: stat.map(|stat| stat.mzxid),
                size: shown.filter(|_| !listed.too_old).map(|attr| attr.size),
                age: shown.map(|attr| rounded(age(attr.mtime).as_secs_f64())),
                pending,
                too_old: listed.too_old,
                error: listed.error,
            }
        });
        nodes.collect()
    }

    fn processes(&self) -> Processes {
        let publishers = self.publishers.lock().clone();
        let restarts = self.start.restarts;
        Processes {
            server: Process {
                pid: Some(std::process::id()),
                since: Some(seconds(self.since)),
                restarts: restarts.server,
            },
            publisher: Process {
                pid: publishers.current.map(|(pid, _)| pid),
                since: publishers.current.map(|(_, since)| seconds(since)),
                // The first one came with us.
                restarts: restarts.publisher + publishers.n.saturating_sub(1),
            },
        }
    }
}

fn session(sessions: Sessions, error: Option<String>) -> ZooKeeper {
    ZooKeeper {
        connected: sessions.id.is_some(),
        session: sessions.id.map(|id| format!("{id:#x}")),
        since: sessions.since.map(seconds),
        error,
        sessions: sessions.n,
        read_only: false,
    }
}

fn content_of_trees(spilling: &Spilling) -> ContentOfTrees {
    ContentOfTrees {
        bytes_in_memory: spilling.n_bytes_in_memory(),
        bytes_on_disk: spilling.n_bytes_on_disk(),
        error: spilling.trouble().map(|trouble| trouble.reason),
    }
}

fn dropin(listed: &dropins::Listed) -> Dropin {
    Dropin {
        file: listed.file.display().to_string(),
        nodes: listed.n_nodes as u64,
        hooks: listed.n_hooks as u64,
        error: listed.error.clone(),
    }
}

/// Since 1970.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    rounded(since.as_secs_f64())
}

/// To milliseconds: the rest is noise.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
