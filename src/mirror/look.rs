//! One look at one znode: what it is now, against what is known, with a watch armed; and what is
//! below it, where that is wanted.
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

/// What a look is to find out.
pub(super) struct Task {
    pub(super) path: ZnodePath,
    pub(super) known: Option<Told>,
    pub(super) occasion: Occasion,
    /// It was told to be unreadable. [`Finding::Same`] then holds for an instant after the look
    /// began; otherwise the server may lag.
    pub(super) is_doubted: bool,
    /// Whether its content is wanted, or only what is below it.
    pub(super) wants_content: bool,
    /// Whether the watch of a tree tells of it, so that it needs none of its own.
    pub(super) is_covered: bool,
    pub(super) children: WantsChildren,
}

/// Whether a look is to find the children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WantsChildren {
    No,
    /// Unless they are as they were then.
    Unless(Option<Generation>),
}

/// What changes with every child that is created or deleted: the czxid and the pzxid of the parent.
pub(super) type Generation = (i64, i64);

/// What a look found.
pub(super) struct Found<W> {
    pub(super) finding: Finding,
    /// Each resolves once there is something to look at again; none where the watch of a tree
    /// tells.
    pub(super) watches: Vec<W>,
    /// How many children it has, where it exists.
    pub(super) n_children: Option<usize>,
    pub(super) listing: Listing,
}

/// What a look found of the children.
pub(super) enum Listing {
    /// They were not asked for, or nothing can be said now; a watch will tell.
    None,
    /// They are as they were.
    Same,
    /// These are all.
    New {
        names: Vec<String>,
        generation: Generation,
    },
    /// They cannot be told, for this reason.
    Failed(String),
}

/// What a look found of the znode.
pub(super) enum Finding {
    /// The content is the one known.
    Same,
    /// The content is another (or nothing was known).
    New { value: Value },
    /// It exists, and its content was not asked for.
    There,
    /// There is no znode.
    Absent,
    /// The server says what would take knowledge away, and cannot prove it.
    Unproven { reason: String },
    /// The ACL forbids reading.
    Denied,
    /// The connection is gone.
    Lost,
    /// Something else went wrong, in words.
    Failed(String),
}

/// A znode with more children than this is shown without them: the reply to one request names all
/// of them, which for a million would be tens of MiB, in our memory and the server's.
pub(super) const MAX_CHILDREN: usize = 250_000;

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

pub(super) async fn look<S: Session>(session: &S, task: &Task) -> Found<S::Watch> {
    let finding = match try_look(session, task).await {
        Ok(found) => return found,
        Err(Error::NoAuth) => Finding::Denied,
        // Created and deleted while we looked, again and again; the next look will tell.
        Err(Error::NoNode) => Finding::Failed("created and deleted in quick succession".into()),
        Err(Error::ConnectionLost) => Finding::Lost,
        Err(err @ (Error::BadVersion | Error::Unsupported | Error::Other(_))) => {
            Finding::Failed(err.to_string())
        }
    };
    Found {
        finding,
        watches: Vec::new(),
        n_children: None,
        listing: Listing::None,
    }
}

async fn try_look<S: Session>(session: &S, task: &Task) -> Result<Found<S::Watch>, Error> {
    // A read-only server cannot sync.
    if task.is_doubted && !session.is_read_only() {
        session.sync(&task.path).await?;
    }
    let (finding, stat, watch) = match task.wants_content {
        true => content(session, task).await?,
        false => match check(session, task).await? {
            (Some(stat), watch) => (Finding::There, Some(stat), watch),
            (None, watch) => (Finding::Absent, None, watch),
        },
    };
    let mut found = Found {
        finding,
        watches: watch.into_iter().collect(),
        n_children: stat.map(|stat| usize::try_from(stat.num_children).unwrap_or(0)),
        listing: Listing::None,
    };
    if let (Some(stat), WantsChildren::Unless(before)) = (stat, task.children) {
        list(session, task, &stat, before, &mut found).await?;
    }
    Ok(found)
}

/// A check, with a watch where none covers the znode.
async fn check<S: Session>(
    session: &S,
    Task {
        path, is_covered, ..
    }: &Task,
) -> Result<(Option<Stat>, Option<S::Watch>), Error> {
    match is_covered {
        true => Ok((session.check(path).await?, None)),
        false => {
            let (found, watch) = session.check_and_watch(path).await?;
            Ok((found, Some(watch)))
        }
    }
}

/// Finds the children of a znode that has this [`Stat`].
async fn list<S: Session>(
    session: &S,
    task: &Task,
    stat: &Stat,
    before: Option<Generation>,
    found: &mut Found<S::Watch>,
) -> Result<(), Error> {
    let n_children = usize::try_from(stat.num_children).unwrap_or(0);
    if n_children > MAX_CHILDREN {
        found.listing = Listing::Failed(format!(
            "it has {n_children} children; more than {MAX_CHILDREN} are not shown"
        ));
        return Ok(());
    }
    if task.is_covered {
        if before == Some(generation(stat)) {
            found.listing = Listing::Same;
            return Ok(());
        }
        if n_children == 0 {
            found.listing = Listing::New {
                names: Vec::new(),
                generation: generation(stat),
            };
            return Ok(());
        }
    }
    let listed = match task.is_covered {
        true => session.children(&task.path).await.map(|list| (list, None)),
        false => {
            let listed = session.children_and_watch(&task.path).await;
            listed.map(|(list, watch)| (list, Some(watch)))
        }
    };
    let (children, watch) = match listed {
        Ok(listed) => listed,
        // It was deleted just now, which a watch tells.
        Err(Error::NoNode) => return Ok(()),
        Err(Error::ConnectionLost) => return Err(Error::ConnectionLost),
        Err(Error::NoAuth) if !task.wants_content => return Err(Error::NoAuth),
        Err(err) => {
            found.listing = Listing::Failed(format!("its children cannot be listed: {err}"));
            return Ok(());
        }
    };
    found.n_children = Some(children.names.len());
    found.listing = Listing::New {
        generation: generation(&children.stat),
        names: children.names,
    };
    found.watches.extend(watch);
    Ok(())
}

fn generation(stat: &Stat) -> Generation {
    (stat.czxid, stat.pzxid)
}

/// What is found of the content, with the [`Stat`] where the znode exists.
type OfContent<W> = (Finding, Option<Stat>, Option<W>);

async fn content<S: Session>(session: &S, task: &Task) -> Result<OfContent<S::Watch>, Error> {
    let (path, known) = (&task.path, task.known);
    let read = match (task.occasion, task.is_covered) {
        (Occasion::Unknown, true) => session.read(path).await.map(|value| (value, None)),
        (Occasion::Unknown, false) => {
            let read = session.read_and_watch(path).await;
            read.map(|(value, watch)| (value, Some(watch)))
        }
        (Occasion::Reconnected | Occasion::Audit, _) => Err(Error::NoNode),
    };
    match read {
        Ok((value, watch)) => {
            let (finding, stat) = judge(session, path, known, value).await?;
            return Ok((finding, stat, watch));
        }
        Err(Error::NoNode) => {}
        Err(err) => return Err(err),
    }
    // The watch is armed first; what changes after it, it tells.
    let (found, watch) = check(session, task).await?;
    let (finding, stat) = match (found, known) {
        (Some(stat), _) if age(known, &stat) == Age::Same => (Finding::Same, Some(stat)),
        (Some(_), _) => {
            let value = session.read(path).await?;
            judge(session, path, known, value).await?
        }
        (None, None | Some(Told::Absent(_))) => (Finding::Absent, None),
        (None, Some(Told::Content(stat) | Told::Lost(stat))) => {
            absence(session, path, known, stat.mzxid).await?
        }
    };
    Ok((finding, stat, watch))
}

/// Decides on content that was read.
async fn judge<S: Session>(
    session: &S,
    path: &ZnodePath,
    known: Option<Told>,
    value: Value,
) -> Result<(Finding, Option<Stat>), Error> {
    let stat = Some(value.stat);
    match age(known, &value.stat) {
        Age::Same => return Ok((Finding::Same, stat)),
        Age::Later => return Ok((Finding::New { value }, stat)),
        Age::Earlier => {}
    }
    if session.is_read_only() {
        let reason = "a read-only server has an older version".into();
        return Ok((Finding::Unproven { reason }, stat));
    }
    session.sync(path).await?;
    let value = match (session.read(path).await, known) {
        (Err(Error::NoNode), Some(Told::Absent(_))) => return Ok((Finding::Absent, None)),
        (read, _) => read?,
    };
    let stat = Some(value.stat);
    match age(known, &value.stat) {
        Age::Same => return Ok((Finding::Same, stat)),
        Age::Later => {}
        Age::Earlier => log::warn!(
            "{path}: history was rewound; taking the content of mzxid {:#x}",
            value.stat.mzxid,
        ),
    }
    Ok((Finding::New { value }, stat))
}

/// Decides on a znode whose content of `mzxid` was there, and is not.
async fn absence<S: Session>(
    session: &S,
    path: &ZnodePath,
    known: Option<Told>,
    mzxid: i64,
) -> Result<(Finding, Option<Stat>), Error> {
    let unproven = |reason: String| Ok((Finding::Unproven { reason }, None));
    if session.is_read_only() {
        return unproven("a read-only server does not have it".into());
    }
    session.sync(path).await?;
    if session.check(path).await?.is_some() {
        let value = session.read(path).await?;
        return judge(session, path, known, value).await;
    }
    let mut ancestor = path.parent();
    while let Some(path) = ancestor {
        match session.check(&path).await? {
            Some(stat) if stat.pzxid > mzxid => return Ok((Finding::Absent, None)),
            Some(_) => {
                // Without what moves: the reason is told again when it changes.
                return unproven(format!(
                    "the server does not have it, but its history of {path} ends before the \
                     version served (mzxid {mzxid:#x})"
                ));
            }
            None => ancestor = path.parent(),
        }
    }
    unproven("the chroot does not exist on the server".into())
}
