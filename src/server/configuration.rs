//! The configuration of a mount: read at the start, read again, and kept for a successor.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::SystemTime;

use rustix::fs::MemfdFlags;

use super::dropins::{Following, Kept};
use super::{Error, Event, Server, keeping, system};
use crate::config::{self, Config, Problem};
use crate::logging::Logging;
use crate::mirror::Command;
use crate::processes::{Start, ToKeeper};
use crate::service;

/// The main file, without the drop-ins.
pub(super) struct Main {
    pub(super) config: Config,
    pub(super) text: Vec<u8>,
}

/// The configuration to go by, and what it is made of. A successor for which the main file is wrong
/// goes by the text that was `kept`, and likewise for drop-ins; what is wrong for a first server may
/// be its end.
pub(super) fn read_at_start(
    start: &Start,
    kept: Option<OwnedFd>,
    logging: &Logging,
    tell: &Sender<Event>,
) -> Result<(Config, Main, Following), Error> {
    let mut wrong = None;
    let kept = kept.map(recall).transpose();
    let kept = kept.map_err(system("the configuration of before is lost"))?;
    let kept = kept.as_deref().map(Kept::read);
    let main = match (load(start), &kept) {
        (Ok(found), _) => found,
        (Err(err), None) => return Err(err.into()),
        (Err(err), Some(kept)) => {
            wrong = Some(anyhow::Error::new(err));
            parse(start, kept.main.clone().into_bytes())?
        }
    };
    let tell = tell.clone();
    let dropins = Following::start(&main.config, kept.as_ref(), &start.mountpoint, move || {
        let _ = tell.send(Event::Dropins);
    });
    let dropins = dropins.map_err(system("cannot start a thread"))?;
    let config = dropins.join(&main.config);
    if has_predecessor(start) {
        // Nobody reads what it says in the background on stderr.
        leave_stderr(start, &config, logging);
        if let Some(wrong) = wrong {
            log::error!("the configuration of before stays: {wrong:#}");
        }
    } else {
        for problem in config.problems.iter().filter(|_| !start.background) {
            log::warn!("{problem}");
        }
        if let (true, Some(problem)) = (start.strict, config.problems.first()) {
            return Err(Error::Problem(problem.to_string()));
        }
    }
    Ok((config, main, dropins))
}

/// Whether there was a server of this mount before, so that a terminal is left.
pub(super) fn has_predecessor(start: &Start) -> bool {
    start.takes_over || start.anew
}

/// The main file.
pub(super) fn load(start: &Start) -> Result<Main, config::Error> {
    let mut main = parse(start, Config::read(&start.config)?)?;
    main.config.look_at_writers();
    Ok(main)
}

/// The main file, with paths as they were where the mount was started.
pub(super) fn parse(start: &Start, text: Vec<u8>) -> Result<Main, config::Error> {
    let mut config = Config::parse_here(&start.config, &text, Some(&start.mountpoint))?;
    config.secrets.path = start.started_in.join(config.secrets.path);
    Ok(Main { config, text })
}

/// Each problem in words.
pub(super) fn words(problems: &[Problem]) -> impl Iterator<Item = String> {
    problems.iter().map(ToString::to_string)
}

/// What [`memory`] was made of.
pub(super) fn recall(memory: OwnedFd) -> io::Result<Vec<u8>> {
    let memory = File::from(memory);
    let length = usize::try_from(memory.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    // Its position is shared with whoever else holds it.
    memory.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// How much is configured, in words.
fn count(config: &Config) -> String {
    let mut text = format!("{} nodes", config.nodes.len());
    let others = [
        (config.trees.len(), "trees"),
        (config.hooks.all.len(), "hooks"),
    ];
    for (n, what) in others.into_iter().filter(|(n, _)| *n > 0) {
        text += &format!(", {n} {what}");
    }
    text
}

/// A descriptor for what may be long.
pub(super) fn memory(name: &str, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// In the background, logs as the configuration says, and lets go of the terminal.
pub(super) fn leave_stderr(start: &Start, config: &Config, logging: &Logging) {
    if !start.background {
        return;
    }
    if let Err(err) = logging.leave_stderr(config.log.file.as_deref()) {
        log::debug!("nothing is logged: {err}");
    }
    let null = File::options().write(true).open("/dev/null");
    if let Err(err) = null.and_then(|null| Ok(rustix::stdio::dup2_stderr(null)?)) {
        log::warn!("the terminal stays open: {err}");
    }
}

impl Server {
    /// Reads the configuration again. One that is wrong changes nothing.
    pub(super) fn reload(&mut self) {
        let main = match load(&self.start) {
            Ok(main) => main,
            Err(err) => {
                let err = anyhow::Error::new(err);
                log::error!("not reloaded, the configuration of before stays: {err:#}");
                return;
            }
        };
        self.dropins.reload(&main.config);
        let mut new = self.dropins.join(&main.config);
        for problem in &new.problems {
            log::warn!("{problem}");
        }
        if new.mount != self.config.mount {
            log::warn!("mount.* changed; that takes effect with the next mount");
        }
        let wanted = {
            let mut desk = self.desk.lock();
            let changes = desk.files.plan(new.nodes.clone(), new.trees.clone());
            desk.carry_out_noted(changes, SystemTime::now());
            desk.files.wanted()
        };
        let mut told = vec![
            Command::Watch(wanted),
            Command::Heartbeat(new.heartbeat_interval),
        ];
        if new.zookeeper != self.config.zookeeper || new.secrets != self.config.secrets {
            log::info!("the connection settings changed; opening a new session");
            told.insert(0, Command::Connect(service::zookeeper_to_read(&new)));
        }
        let commands = self.mirror.as_ref().map(|mirror| &mirror.commands);
        for command in told {
            if commands.is_some_and(|commands| commands.send(command).is_err()) {
                log::error!("the mirror is gone");
            }
        }
        log::info!("reloaded: {}", count(&new));
        if new.cache_dir != self.config.cache_dir {
            log::warn!("cache.dir changed; that takes effect with the next mount");
            new.cache_dir.clone_from(&self.config.cache_dir);
        }
        if let Some(spilling) = &self.spilling {
            spilling.limit(new.cache_max_bytes);
        }
        let elsewhere = service::identity(&new) != service::identity(&self.config);
        if elsewhere {
            self.cache = keeping::take_over(&new, &self.start.mountpoint);
        }
        self.config = new;
        self.plan_hooks();
        self.reopen_log_of_hooks();
        self.keep_links();
        if let Some(cache) = &self.cache {
            let desk = self.desk.lock();
            desk.publishing.use_cache(Some(Arc::clone(cache)));
            desk.keep_configured(cache);
            desk.keep_known(cache, |_| elsewhere);
        }
        self.main = main;
        self.tell_of_configuration();
        self.keep_configuration();
        self.logging.set_level(self.level());
        self.logging.reopen(self.config.log.file.as_deref());
    }

    /// Takes what has changed of the drop-ins. In a freeze that has time.
    pub(super) fn take_dropins(&mut self) {
        if self.mirror.is_none() || !self.dropins.take() {
            return;
        }
        self.keep_configuration();
        let Config {
            nodes,
            trees,
            hooks,
            dropins,
            problems,
            ..
        } = self.dropins.join(&self.main.config);
        let before: HashSet<String> = words(&self.config.problems).collect();
        for problem in words(&problems).filter(|problem| !before.contains(problem)) {
            log::warn!("{problem}");
        }
        (self.config.dropins, self.config.problems) = (dropins, problems);
        self.tell_of_configuration();
        let have_other_hooks = hooks != self.config.hooks;
        self.config.hooks = hooks;
        if nodes == self.config.nodes && trees == self.config.trees {
            if have_other_hooks {
                log::info!("drop-ins changed: {}", count(&self.config));
                self.plan_hooks();
            }
            return;
        }
        (self.config.nodes, self.config.trees) = (nodes, trees);
        log::info!("drop-ins changed: {}", count(&self.config));
        self.keep_links();
        let wanted = {
            let mut desk = self.desk.lock();
            let changes = desk
                .files
                .plan(self.config.nodes.clone(), self.config.trees.clone());
            desk.carry_out_noted(changes, SystemTime::now());
            if let Some(cache) = &self.cache {
                desk.keep_configured(cache);
            }
            desk.files.wanted()
        };
        self.plan_hooks();
        if let Some(mirror) = &self.mirror
            && mirror.commands.send(Command::Watch(wanted)).is_err()
        {
            log::error!("the mirror is gone");
        }
    }

    /// Has the keeper keep the configuration for a successor.
    pub(super) fn keep_configuration(&self) {
        let kept = Kept::new(&self.main.text, &self.dropins);
        let kept = serde_json::to_vec(&kept).map_err(io::Error::other);
        let kept = kept
            .and_then(|kept| memory("configuration", &kept))
            .and_then(|memory| {
                self.keeper
                    .send(&ToKeeper::Configuration, &[memory.as_fd()])
            });
        if let Err(err) = kept {
            log::warn!("the keeper does not keep the configuration: {err}");
        }
    }
}
