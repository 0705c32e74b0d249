//! One look at one znode: what it is now, against what is known, with a watch armed.
//!
//! "Later" is (czxid, mzxid) order. Something earlier is believed only after a `sync` and a second
//! read (history was rewound: a restore from backup). "Gone" is believed only on proof. A new
//! session may have landed on a server that lags behind, on a wiped ensemble, under a chroot that
//! is wrong or missing; it says NoNode in good faith. But a server whose history has the deletion
//! shows it: deleting a child raises the parent's pzxid to the transaction of the deletion, which
//! is above every mzxid the child had. So after a `sync`, the nearest ancestor that exists must
//! have a pzxid above the last mzxid known. (Measured with ZooKeeper 3.8.0; an ancestor deleted
//! with the znode raised the pzxid one level up.)

use crate::path::ZnodePath;
use crate::source::{Error, Session, Stat, Value};

/// Why a look is taken: where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Nothing is known, or it changed: fetch the content.
    Unknown,
    /// It may well be as before: a stat-sized request tells.
    Reconnected,
}

/// What a look found.
pub(super) enum Finding<W> {
    /// The content is the one known.
    Same { watch: W },
    /// The content is another (or nothing was known).
    New { value: Value, watch: W },
    /// There is no znode.
    Absent { watch: W },
    /// The server says what would take knowledge away, and cannot prove it.
    Unproven { watch: W, reason: String },
    /// The ACL forbids reading.
    Denied,
    /// The connection is gone.
    Lost,
    /// Something else went wrong, in words.
    Failed(String),
}

pub(super) async fn look<S: Session>(
    session: &S,
    path: &ZnodePath,
    known: Option<Stat>,
    occasion: Occasion,
) -> Finding<S::Watch> {
    match try_look(session, path, known, occasion).await {
        Ok(finding) => finding,
        Err(Error::NoAuth) => Finding::Denied,
        // Created and deleted while we looked, again and again; the next look will tell.
        Err(Error::NoNode) => Finding::Failed("created and deleted in quick succession".into()),
        Err(Error::ConnectionLost) => Finding::Lost,
        Err(err @ (Error::BadVersion | Error::Other(_))) => Finding::Failed(err.to_string()),
    }
}

async fn try_look<S: Session>(
    session: &S,
    path: &ZnodePath,
    known: Option<Stat>,
    occasion: Occasion,
) -> Result<Finding<S::Watch>, Error> {
    let read = match occasion {
        Occasion::Unknown => session.read_and_watch(path).await,
        Occasion::Reconnected => Err(Error::NoNode),
    };
    match read {
        Ok((value, watch)) => return judge(session, path, known, value, watch).await,
        Err(Error::NoNode) => {}
        Err(err) => return Err(err),
    }
    // The watch is armed first; what changes after it, it tells.
    let (found, watch) = session.check_and_watch(path).await?;
    match (found, known) {
        (Some(stat), Some(known)) if stat.order() == known.order() => Ok(Finding::Same { watch }),
        (Some(_), _) => {
            let value = session.read(path).await?;
            judge(session, path, known, value, watch).await
        }
        (None, None) => Ok(Finding::Absent { watch }),
        (None, Some(known)) => absence(session, path, known, watch).await,
    }
}

/// Decides on content that was read.
async fn judge<S: Session>(
    session: &S,
    path: &ZnodePath,
    known: Option<Stat>,
    value: Value,
    watch: S::Watch,
) -> Result<Finding<S::Watch>, Error> {
    let Some(known) = known else {
        return Ok(Finding::New { value, watch });
    };
    if value.stat.order() == known.order() {
        return Ok(Finding::Same { watch });
    }
    if value.stat.order() > known.order() {
        return Ok(Finding::New { value, watch });
    }
    if session.is_read_only() {
        let reason = "a read-only server has an older version".into();
        return Ok(Finding::Unproven { watch, reason });
    }
    session.sync(path).await?;
    let value = session.read(path).await?;
    if value.stat.order() < known.order() {
        log::warn!(
            "{path}: history was rewound, from mzxid {:#x} to {:#x}; taking the older content",
            known.mzxid,
            value.stat.mzxid,
        );
    }
    Ok(Finding::New { value, watch })
}

/// Decides on a znode that was there and is not.
async fn absence<S: Session>(
    session: &S,
    path: &ZnodePath,
    known: Stat,
    watch: S::Watch,
) -> Result<Finding<S::Watch>, Error> {
    if session.is_read_only() {
        let reason = "a read-only server does not have it".into();
        return Ok(Finding::Unproven { watch, reason });
    }
    session.sync(path).await?;
    if session.check(path).await?.is_some() {
        let value = session.read(path).await?;
        return judge(session, path, Some(known), value, watch).await;
    }
    let mut ancestor = path.parent();
    while let Some(path) = ancestor {
        match session.check(&path).await? {
            Some(stat) if stat.pzxid > known.mzxid => return Ok(Finding::Absent { watch }),
            Some(stat) => {
                let reason = format!(
                    "the server does not have it, but its history of {path} ends at {:#x}, before \
                     the version served ({:#x})",
                    stat.pzxid, known.mzxid,
                );
                return Ok(Finding::Unproven { watch, reason });
            }
            None => ancestor = path.parent(),
        }
    }
    let reason = "the chroot does not exist on the server".into();
    Ok(Finding::Unproven { watch, reason })
}
