//! One look at one znode: what it is now, against what is known, with a watch armed.
//!
//! "Later" is (czxid, mzxid) order, also across a deletion: what comes after it was created after
//! all that was known before it. Something earlier, or another writing under the same order, is
//! believed only after a `sync` and a second read (history was rewound: a restore from backup).
//! "Gone" is believed only on proof. A new
//! session may have landed on a server that lags behind, on a wiped ensemble, under a chroot that
//! is wrong or missing; it says NoNode in good faith. But a server whose history has the deletion
//! shows it: deleting a child raises the parent's pzxid to the transaction of the deletion, which
//! is above every mzxid the child had. So after a `sync`, the nearest ancestor that exists must
//! have a pzxid above the last mzxid known. (Measured with ZooKeeper 3.8.0; an ancestor deleted
//! with the znode raised the pzxid one level up.)

use crate::path::ZnodePath;
use crate::source::{Error, Session, Stat, Told, Value};

/// How content stands to what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Same,
    Later,
    Earlier,
}

/// Why a look is taken: where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Nothing is known, or it changed: fetch the content.
    Unknown,
    /// It may well be as before: a stat-sized request tells.
    Reconnected,
    /// It ought to be as before: likewise.
    Audit,
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

/// How content with this [`Stat`] stands to what was told.
fn age(known: Option<Told>, stat: &Stat) -> Age {
    match known {
        None | Some(Told::Absent(None)) => Age::Later,
        Some(Told::Content(told) | Told::Lost(told)) if stat.order() > told.order() => Age::Later,
        Some(Told::Content(told)) if same_writing(stat, &told) => Age::Same,
        Some(Told::Lost(told)) if same_writing(stat, &told) => Age::Later,
        Some(Told::Absent(Some(before))) if stat.czxid > before => Age::Later,
        Some(Told::Content(_) | Told::Lost(_) | Told::Absent(Some(_))) => Age::Earlier,
    }
}

/// Whether two Stats are of one content. After a restore from backup zxids may be used again, so
/// the order alone does not tell.
fn same_writing(one: &Stat, other: &Stat) -> bool {
    let writing = |stat: &Stat| (stat.order(), stat.version, stat.mtime, stat.data_length);
    writing(one) == writing(other)
}

/// `doubted` says that the znode was told to be unreadable. [`Finding::Same`] then holds for an
/// instant after the look began; otherwise the server may lag.
pub(super) async fn look<S: Session>(
    session: &S,
    path: &ZnodePath,
    known: Option<Told>,
    occasion: Occasion,
    doubted: bool,
) -> Finding<S::Watch> {
    match try_look(session, path, known, occasion, doubted).await {
        Ok(finding) => finding,
        Err(Error::NoAuth) => Finding::Denied,
        // Created and deleted while we looked, again and again; the next look will tell.
        Err(Error::NoNode) => Finding::Failed("created and deleted in quick succession".into()),
        Err(Error::ConnectionLost) => Finding::Lost,
        Err(err @ (Error::BadVersion | Error::Unsupported | Error::Other(_))) => Finding::Failed(err.to_string()),
    }
}

async fn try_look<S: Session>(
    session: &S,
    path: &ZnodePath,
    known: Option<Told>,
    occasion: Occasion,
    doubted: bool,
) -> Result<Finding<S::Watch>, Error> {
    // A read-only server cannot sync.
    if doubted && !session.is_read_only() {
        session.sync(path).await?;
    }
    let read = match occasion {
        Occasion::Unknown => session.read_and_watch(path).await,
        Occasion::Reconnected | Occasion::Audit => Err(Error::NoNode),
    };
    match read {
        Ok((value, watch)) => return judge(session, path, known, value, watch).await,
        Err(Error::NoNode) => {}
        Err(err) => return Err(err),
    }
    // The watch is armed first; what changes after it, it tells.
    let (found, watch) = session.check_and_watch(path).await?;
    match (found, known) {
        (Some(stat), _) if age(known, &stat) == Age::Same => Ok(Finding::Same { watch }),
        (Some(_), _) => {
            let value = session.read(path).await?;
            judge(session, path, known, value, watch).await
        }
        (None, None | Some(Told::Absent(_))) => Ok(Finding::Absent { watch }),
        (None, Some(Told::Content(stat) | Told::Lost(stat))) => {
            absence(session, path, known, stat.mzxid, watch).await
        }
    }
}

/// Decides on content that was read.
async fn judge<S: Session>(
    session: &S,
    path: &ZnodePath,
    known: Option<Told>,
    value: Value,
    watch: S::Watch,
) -> Result<Finding<S::Watch>, Error> {
    match age(known, &value.stat) {
        Age::Same => return Ok(Finding::Same { watch }),
        Age::Later => return Ok(Finding::New { value, watch }),
        Age::Earlier => {}
    }
    if session.is_read_only() {
        let reason = "a read-only server has an older version".into();
        return Ok(Finding::Unproven { watch, reason });
    }
    session.sync(path).await?;
    let value = match (session.read(path).await, known) {
        (Err(Error::NoNode), Some(Told::Absent(_))) => return Ok(Finding::Absent { watch }),
        (read, _) => read?,
    };
    match age(known, &value.stat) {
        Age::Same => return Ok(Finding::Same { watch }),
        Age::Later => {}
        Age::Earlier => log::warn!(
            "{path}: history was rewound; taking the content of mzxid {:#x}",
            value.stat.mzxid,
        ),
    }
    Ok(Finding::New { value, watch })
}

/// Decides on a znode whose content of `mzxid` was there, and is not.
async fn absence<S: Session>(
    session: &S,
    path: &ZnodePath,
    known: Option<Told>,
    mzxid: i64,
    watch: S::Watch,
) -> Result<Finding<S::Watch>, Error> {
    if session.is_read_only() {
        let reason = "a read-only server does not have it".into();
        return Ok(Finding::Unproven { watch, reason });
    }
    session.sync(path).await?;
    if session.check(path).await?.is_some() {
        let value = session.read(path).await?;
        return judge(session, path, known, value, watch).await;
    }
    let mut ancestor = path.parent();
    while let Some(path) = ancestor {
        match session.check(&path).await? {
            Some(stat) if stat.pzxid > mzxid => return Ok(Finding::Absent { watch }),
            Some(_) => {
                // Without what moves: the reason is told again when it changes.
                let reason = format!(
                    "the server does not have it, but its history of {path} ends before the \
                     version served (mzxid {mzxid:#x})"
                );
                return Ok(Finding::Unproven { watch, reason });
            }
            None => ancestor = path.parent(),
        }
    }
    let reason = "the chroot does not exist on the server".into();
    Ok(Finding::Unproven { watch, reason })
}
