//! The cache of a mount: opened as the configuration says; without one, memory has to do.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::cache::{self, Cache, Entry, Health};
use crate::config::Config;
use crate::processes::ToKeeper;
use crate::service;
use crate::spilling::{self, Spilling};
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

/// What is not as it should be with what memory holds, in words.
pub(super) fn spilling_complaint(spilling: Option<&Spilling>) -> Option<String> {
    let trouble = spilling?.trouble()?;
    Some(format!(
        "memory holds more than cache.max_bytes: {}",
        trouble.reason
    ))
}

/// What memory and disk hold of the content of trees, for the status; null where it all stays in
/// memory.
pub(super) fn spilling_status(spilling: Option<&Spilling>) -> Value {
    let Some(spilling) = spilling else {
        return Value::Null;
    };
    json!({
        "bytes_in_memory": spilling.n_bytes_in_memory(),
        "bytes_on_disk": spilling.n_bytes_on_disk(),
        "trouble": spilling.trouble().map(|trouble| trouble.reason),
    })
}

/// What is not as it should be with it, in words.
pub(super) fn complaint(cache: Option<&Cache>) -> Option<String> {
    let health = cache?.state().health;
    match health {
        Health::Starting | Health::Healthy => None,
        Health::Locked { .. } | Health::Failing { .. } => {
            Some(format!("cache.dir: {}", words(&health)))
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

/// How it is, for the status; null without one.
pub(super) fn status(cache: Option<&Cache>) -> Value {
    let Some(state) = cache.map(Cache::state) else {
        return Value::Null;
    };
    json!({
        "health": words(&state.health),
        "entries": state.n_entries,
        "bytes": state.n_bytes,
        "waiting": state.n_waiting,
        "dropped": state.n_dropped,
    })
}
