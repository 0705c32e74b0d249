//! Reads a znode, shows the difference, and sets it if its version is still the one read.
//!
//! The znode's version guards the write: whatever goes wrong, nothing that somebody else wrote
//! meanwhile is overwritten. A set whose reply is lost is never repeated blindly; the znode is
//! read again to say what became of it.

pub mod diff;
mod reach;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::path::ZnodePath;
use crate::source::{self, MAX_REQUEST, Session, Source, Stat, Value};
use crate::writer::reach::Unreached;

/// How long the whole connecting phase may take, all hosts and attempts together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the reply to a set may take. The client notices a silent server sooner; this is for
/// the case that it does not.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// What a setData request holds beside the path and the content: xid, type, two lengths, version.
const SET_OVERHEAD: usize = 20;

/// What to write, and where.
#[derive(Debug, Clone)]
pub struct Job {
    /// What to call the content: the name of the file it was read from.
    pub source_name: String,
    /// What the znode shall hold.
    pub content: Arc<[u8]>,
    /// The znode.
    pub dest: ZnodePath,
    /// What the client prefixes to the path; it takes room in the request.
    pub chroot: Option<ZnodePath>,
    /// Show the difference and stop.
    pub dry_run: bool,
    /// How long connecting may take; [`CONNECT_TIMEOUT`] as a rule.
    pub connect_timeout: Duration,
}

/// Where the writer shows what it does.
pub trait Output {
    /// The difference, for people and for `patch`.
    fn diff(&mut self, diff: &diff::Diff<'_>) -> io::Result<()>;

    /// One line for people. It gets lost rather than stop anything.
    fn say(&mut self, line: &str);
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The znode had that content already.
    Unchanged,
    /// There is a difference; it was to be shown only.
    Shown,
    /// The znode was set.
    Written(Stat),
}

/// Why it was not done. Nothing was written, except where [`Failure::Unknown`] says that this is
/// not known.
#[derive(Debug, Error)]
pub enum Failure {
    /// There is no such znode.
    #[error("Target node does not exist. Please create it with appropriate ACLs first.")]
    NoNode,
    /// Somebody else was faster.
    #[error("The data in ZooKeeper changed unexpectedly.")]
    Changed,
    /// The ACL of the znode is against it.
    #[error(
        "Not authorised to {verb} {dest}. Please name a user whom its ACL lets {verb} it in \
         zookeeper.credentials. Nothing was written."
    )]
    NoAuth {
        /// `read` or `write`.
        verb: &'static str,
        /// The znode.
        dest: ZnodePath,
    },
    /// A server with default limits would close the connection on it.
    #[error(
        "{source_name} is too large: {length} bytes, but at most {limit} fit into {dest}. \
         Nothing was written."
    )]
    TooLarge {
        /// The file.
        source_name: String,
        /// Its length.
        length: usize,
        /// What it could be.
        limit: usize,
        /// The znode.
        dest: ZnodePath,
    },
    /// No server served in time.
    #[error("ZooKeeper was not reached within {} s: {why}. Nothing was written.", .within.as_secs_f64())]
    Unreached {
        /// How long was tried.
        within: Duration,
        /// Each host and what was wrong with it.
        why: String,
    },
    /// ZooKeeper does not let us in, so that trying again would not help.
    #[error("{0}. Nothing was written.")]
    Refused(String),
    /// A request failed for another reason.
    #[error("ZooKeeper: {0}. Nothing was written.")]
    Request(String),
    /// The difference could not be shown, and what nobody saw is not written.
    #[error("cannot show the difference: {0}. Nothing was written.")]
    Output(#[source] io::Error),
    /// The connection broke, and the write did not happen.
    #[error(
        "The connection to ZooKeeper broke before the data was written; the node is unchanged. \
         Please run it again."
    )]
    Lost,
    /// The connection broke, and whether the write happened cannot be told.
    #[error(
        "The connection to ZooKeeper broke, and whether the data was written cannot be told: \
         {0}. Please look at the node before running it again."
    )]
    Unknown(String),
}

/// Does the job: the whole program but for files, arguments and exit codes.
pub async fn run<S: Source>(
    zookeeper: &S,
    job: &Job,
    output: &mut impl Output,
) -> Result<Done, Failure> {
    let limit = job.limit();
    if job.content.len() > limit {
        return Err(Failure::TooLarge {
            source_name: job.source_name.clone(),
            length: job.content.len(),
            limit,
            dest: job.dest.clone(),
        });
    }
    let reached = reach::read(zookeeper, &job.dest, job.connect_timeout).await;
    let (session, found) = reached.map_err(|unreached| unreached.before_writing(job))?;
    if found.content == job.content {
        output.say("No changes detected. Not writing.");
        return Ok(Done::Unchanged);
    }
    match diff::Diff::new(
        (job.dest.as_str(), &found.content),
        (&job.source_name, &job.content),
    ) {
        Some(diff) => output.diff(&diff).map_err(Failure::Output)?,
        None => output.say("Skipping diff, data appears to be binary."),
    }
    if job.dry_run {
        output.say("Dry run. Not writing.");
        return Ok(Done::Shown);
    }
    output.say(&format!(
        "Writing {} to ZooKeeper {}...",
        job.source_name, job.dest
    ));
    let stat = match set(&session, job, found.stat.version).await {
        Ok(stat) => stat,
        Err(source::Error::ConnectionLost) => {
            drop(session);
            output.say("The connection broke. Looking what became of the write...");
            after_loss(zookeeper, job, &found).await?
        }
        Err(err) => return Err(failure(err, "write", job)),
    };
    output.say("Wrote data to Zookeeper.");
    Ok(Done::Written(stat))
}

impl Job {
    /// The most content that fits into one request for this znode.
    fn limit(&self) -> usize {
        let chroot = match &self.chroot {
            Some(chroot) if *chroot != ZnodePath::root() => chroot.as_str().len(),
            _ => 0,
        };
        let path = match chroot {
            0 => self.dest.as_str().len(),
            // The root of a chroot is the chroot itself, without a slash at its end.
            _ if self.dest == ZnodePath::root() => chroot,
            _ => chroot + self.dest.as_str().len(),
        };
        MAX_REQUEST.saturating_sub(SET_OVERHEAD + path)
    }
}

async fn set<S: Session>(session: &S, job: &Job, version: i32) -> Result<Stat, source::Error> {
    let setting = session.set(&job.dest, Arc::clone(&job.content), version);
    tokio::select! {
        biased;
        result = setting => result,
        reason = session.lost() => {
            log::info!("{reason}");
            Err(source::Error::ConnectionLost)
        }
        () = tokio::time::sleep(REPLY_TIMEOUT) => Err(source::Error::ConnectionLost),
    }
}

/// Finds out what became of a set of the znode that had been `found`, whose reply never came.
///
/// A request may still be on its way when the znode is found unchanged, and be handled later.
/// Running the writer again is safe all the same: both ask for one version, so that one of the two
/// is refused.
async fn after_loss<S: Source>(zookeeper: &S, job: &Job, found: &Value) -> Result<Stat, Failure> {
    let unknown = |why: &str| Err(Failure::Unknown(why.into()));
    let now = match reach::read(zookeeper, &job.dest, job.connect_timeout).await {
        Ok((_, now)) => now,
        Err(Unreached::Request(source::Error::NoNode)) => {
            return unknown("the node has been deleted meanwhile");
        }
        Err(unreached) => return unknown(&unreached.to_string()),
    };
    let (was, is) = (found.stat, now.stat);
    if is.order() == was.order() && is.version == was.version {
        return Err(Failure::Lost);
    }
    let is_next = is.czxid == was.czxid && is.version == was.version.wrapping_add(1);
    match (is_next, now.content == job.content) {
        (true, true) if is.mzxid > was.mzxid => Ok(is),
        // The one set since then was not ours, and took the version that ours asks for.
        (true, false) => Err(Failure::Changed),
        (true, true) => unknown("ZooKeeper went back to an older state"),
        (false, true) => {
            unknown("the node holds this data, but it was written more than once meanwhile")
        }
        (false, false) => unknown("somebody else wrote to the node meanwhile"),
    }
}

fn failure(err: source::Error, verb: &'static str, job: &Job) -> Failure {
    match err {
        source::Error::NoNode => Failure::NoNode,
        source::Error::BadVersion => Failure::Changed,
        source::Error::NoAuth => Failure::NoAuth {
            verb,
            dest: job.dest.clone(),
        },
        source::Error::ConnectionLost => Failure::Request("the connection broke".into()),
        source::Error::Unsupported => Failure::Request(err.to_string()),
        source::Error::Other(why) => Failure::Request(why),
    }
}

impl Unreached {
    fn before_writing(self, job: &Job) -> Failure {
        match self {
            Self::Timeout { within, why } => Failure::Unreached { within, why },
            Self::Refused(why) => Failure::Refused(why),
            Self::Request(err) => failure(err, "read", job),
        }
    }
}

#[cfg(test)]
mod tests;
