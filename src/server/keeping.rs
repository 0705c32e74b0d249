//! The cache of a mount: opened as the configuration says; without one, memory has to do.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::cache::{self, Cache, Entry, Health};
use crate::config::Config;
use crate::processes::ToKeeper;
use crate::service;
use crate::spilling::{self, Spilling};
use crate::status;
use crate::store::Reader;
use crate::wire::Socket;

/// How many damaged entries are named one by one.
const MAX_NAMED: usize = 20;

/// What an earlier mount left.
pub(super) struct Left {
    pub(super) entries: Vec<Entry>,
    /// No file may show an earlier time anew.
    pub(super) latest: SystemTime,
}

impl Left {
    /// By no mount.
    pub(super) fn nothing() -> Self {
        Self {
            entries: Vec::new(),
            latest: SystemTime::UNIX_EPOCH,
        }
    }
}

/// The cache for a first server, and what is in it.
pub(super) fn open(config: &Config, mountpoint: &Path) -> (Option<Arc<Cache>>, Left) {
    let Some(dir) = &config.cache_dir else {
        return (None, Left::nothing());
    };
    match Cache::open(dir, mountpoint, &service::identity(config)) {
        Ok((cache, loaded)) => {
            for dropped in loaded.dropped.iter().take(MAX_NAMED) {
                log::warn!("cache.dir: {dropped}");
            }
            if loaded.dropped.len() > MAX_NAMED {
                log::warn!("cache.dir: {} entries were dropped", loaded.dropped.len());
            }
            let left = Left {
                entries: loaded.entries,
                latest: loaded.latest,
            };
            (Some(Arc::new(cache)), left)
        }
        Err(err) => {
            log::error!("cache.dir: {err}; what is known is kept in memory only");
            (None, Left::nothing())
        }
    }
}

/// The cache for a server that knows what is in it.
pub(super) fn take_over(config: &Config, mountpoint: &Path) -> Option<Arc<Cache>> {
    let dir = config.cache_dir.as_ref()?;
    match Cache::take_over(dir, mountpoint, &service::identity(config)) {
        Ok(cache) => Some(Arc::new(cache)),
        Err(err) => {
            log::error!("cache.dir: {err}; what is known is kept in memory only");
            None
        }
    }
}

/// Has content of trees go to the disk for which memory has no room. Without a cache nothing is
/// dropped.
pub(super) fn spill(
    config: &Config,
    mountpoint: &Path,
    tree: &Reader,
    keeper: &Arc<Socket>,
) -> Option<Spilling> {
    let dir = config.cache_dir.clone()?;
    let (mountpoint, keeper) = (mountpoint.to_owned(), Arc::clone(keeper));
    let place = spilling::Place {
        create: Box::new(move || cache::nameless(&dir, &mountpoint).map_err(io::Error::other)),
        keep: Box::new(move |file| keeper.send(&ToKeeper::Spill, &[file])),
    };
    match Spilling::start(tree, place, config.cache_max_bytes) {
        Ok(spilling) => Some(spilling),
        Err(err) => {
            log::error!("cannot start a thread, so all content stays in memory: {err}");
            None
        }
    }
}

fn words(health: &Health) -> String {
    match health {
        Health::Starting => "starting".into(),
        Health::Healthy => "healthy".into(),
        Health::Locked { holder, .. } => match holder {
            Some(holder) => format!("in use by process {holder}, so nothing is written"),
            None => "in use by another process, so nothing is written".into(),
        },
        Health::Failing { reason, .. } => format!("failing: {reason}"),
    }
}

/// How it is, for the status; none without one.
pub(super) fn status(cache: Option<&Cache>) -> Option<status::Cache> {
    let state = cache?.state();
    let health = words(&state.health);
    Some(status::Cache {
        error: match state.health {
            Health::Starting | Health::Healthy => None,
            Health::Locked { .. } | Health::Failing { .. } => Some(health.clone()),
        },
        health,
        entries: state.n_entries as u64,
        bytes: state.n_bytes,
        waiting: state.n_waiting as u64,
        dropped: state.n_dropped,
    })
}
