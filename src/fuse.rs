//! Answers the kernel from the tree: a thin [`fuser::Filesystem`].
//!
//! What makes warm reads free of requests: an inode is one version for ever, so entries and
//! attributes never expire; open, opendir and flush are answered ENOSYS once, after which the
//! kernel does not ask again on this mount; listings carry the attributes (READDIRPLUS). Nothing
//! here waits for anything but the lock over the tree.
//!
//! Nobody writes but the publisher, known by its process id: it leads names to what was staged for
//! them. Staged files it finds in a directory that is in no listing, and nobody else finds there
//! anything.

mod ahead;
mod attributes;
mod disk;
mod pollers;
mod status_dir;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags,
    PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use parking_lot::{Mutex, RwLock};
use rustix::event::{PollFd, Timespec};

use crate::path::MAX_NAME;
use crate::processes::{Init, STAGING};
use crate::store::Reader;
use crate::tree::{Attr, Ino, Kind, Ownership, Room};
pub use ahead::Ahead;
use attributes::Attributes;
use disk::Disk;
pub use pollers::Pollers;
use status_dir::STATUS_DIR_INO;
pub use status_dir::{Shown, StatusDir, StatusFile};

/// For ever, as far as the kernel's clock goes: what changes is announced.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Numbers are never used again, so one generation does.
const GENERATION: Generation = Generation(0);

/// The block size that stat(2) and statfs(2) tell.
const BLOCK: u32 = 4096;

/// How many requests may wait in the kernel before it slows their senders down.
const MAX_BACKGROUND: u16 = 64;

/// The staging directory; below [`Ino::FIRST`], so no file of the tree has this number.
const STAGING_INO: Ino = Ino(2);

/// The file system of one mount.
#[derive(Clone)]
pub struct LiveData {
    tree: Reader,
    requests: Requests,
    publishers: Publishers,
    pollers: Pollers,
    init: Arc<Mutex<Option<Init>>>,
    status_dir: StatusDir,
    disk: Disk,
    ahead: Ahead,
}

/// The publishers: the one there is, and those that were killed and cannot end before their last
/// request is answered.
///
/// Each is known by its process id, and trusted until it has ended, which a descriptor of the process
/// tells: while it has not, nobody else has its id, and once it has, no request of it is left. So
/// whoever gets the id next is a stranger from the start.
#[derive(Debug, Clone, Default)]
pub struct Publishers(Arc<RwLock<HashMap<u32, OwnedFd>>>);

/// Counts the requests that the kernel made, but for FORGET, on which nobody waits.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<AtomicU64>);

impl LiveData {
    /// Serves `tree`, counting into `requests`.
    pub fn new(tree: Reader, requests: Requests) -> Self {
        Self {
            tree,
            requests,
            publishers: Publishers::default(),
            pollers: Pollers::default(),
            init: Arc::default(),
            status_dir: StatusDir::default(),
            disk: Disk::default(),
            ahead: Ahead::default(),
        }
    }

    /// Whose requests change the tree.
    pub fn publishers(&self) -> Publishers {
        self.publishers.clone()
    }

    /// Who waits for files to change.
    pub fn pollers(&self) -> Pollers {
        self.pollers.clone()
    }

    /// The directory in which the mount tells of itself.
    pub fn status_dir(&self) -> StatusDir {
        self.status_dir.clone()
    }

    /// The way into the page cache.
    pub fn ahead(&self) -> Ahead {
        self.ahead.clone()
    }

    /// What the kernel said in INIT, once it has.
    pub fn init_seen(&self) -> Arc<Mutex<Option<Init>>> {
        Arc::clone(&self.init)
    }

    /// Whether the publisher asks. It has one thread, so its thread id is its process id.
    fn is_publisher(&self, request: &Request) -> bool {
        self.publishers.trust(request.pid())
    }

    /// What a name leads to; the staging directory and what is in it lead there for the publisher
    /// alone.
    fn look_up(&self, request: &Request, parent: Ino, name: &str) -> Option<Attr> {
        match (parent, name) {
            (Ino::ROOT, STAGING) if self.is_publisher(request) => Some(staging()),
            (STAGING_INO, _) if self.is_publisher(request) => {
                self.tree.lookup_staged(Ino(name.parse().ok()?))
            }
            (STAGING_INO, _) => None,
            _ => self.tree.lookup(parent, name),
        }
    }
}

impl Publishers {
    /// This process is a publisher until it ends; `process` is a descriptor of it (pidfd_open(2)).
    pub fn add(&self, pid: u32, process: OwnedFd) {
        let mut publishers = self.0.write();
        publishers.retain(|_, process| !has_ended(process));
        publishers.insert(pid, process);
    }

    /// Whether the process that has this id now is a publisher.
    pub fn trust(&self, pid: u32) -> bool {
        let publishers = self.0.read();
        publishers
            .get(&pid)
            .is_some_and(|process| !has_ended(process))
    }
}

/// Whether a process has ended, by a descriptor of it. When in doubt it has.
fn has_ended(process: &OwnedFd) -> bool {
    let mut poll = [PollFd::new(process, rustix::event::PollFlags::IN)];
    let now = Timespec::default();
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, Some(&now))) != Ok(0)
}

/// The attributes of the staging directory.
fn staging() -> Attr {
    Attr {
        ino: STAGING_INO,
        kind: Kind::Directory,
        size: 0,
        ownership: Ownership {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode: 0o700,
        },
        n_links: 2,
        mtime: SystemTime::UNIX_EPOCH,
    }
}

impl Requests {
    /// The number up to now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a request is not answered with what it asked for.
enum Refusal {
    /// No such name, or an inode that was forgotten.
    NotFound,
    /// No name is that long here; the kernel would pass on up to 1024 bytes.
    NameTooLong,
    /// Not a directory.
    NotADirectory,
    /// Not a file.
    IsADirectory,
    /// What is known of the file is older than the configuration allows.
    TooOld,
    /// The content lies on disk, and cannot be read from there.
    Unreadable,
    /// Nobody writes here.
    ReadOnly,
    /// No such extended attribute.
    NoAttribute,
    /// What was asked for is longer than the caller has room for.
    NoRoom,
    /// The kernel is to do without, from now on.
    Unneeded,
}

/// The one place where a refusal becomes a number.
fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::NotFound => Errno::ENOENT,
        Refusal::NameTooLong => Errno::ENAMETOOLONG,
        Refusal::NotADirectory => Errno::ENOTDIR,
        Refusal::IsADirectory => Errno::EISDIR,
        Refusal::TooOld | Refusal::Unreadable => Errno::EIO,
        Refusal::ReadOnly => Errno::EROFS,
        Refusal::NoAttribute => Errno::ENODATA,
        Refusal::NoRoom => Errno::ERANGE,
        Refusal::Unneeded => Errno::ENOSYS,
    }
}

/// What of the bytes is asked for.
fn part(bytes: &[u8], offset: u64, size: u32) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let start = start.min(bytes.len());
    let end = start.saturating_add(size as usize).min(bytes.len());
    &bytes[start..end]
}

fn file_attr(attr: &Attr) -> fuser::FileAttr {
    let (kind, size) = match attr.kind {
        Kind::File => (fuser::FileType::RegularFile, attr.size),
        Kind::Directory => (fuser::FileType::Directory, u64::from(BLOCK)),
    };
    fuser::FileAttr {
        ino: INodeNo(attr.ino.0),
        size,
        blocks: size.div_ceil(512),
        atime: attr.mtime,
        mtime: attr.mtime,
        ctime: attr.mtime,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: attr.ownership.mode,
        nlink: attr.n_links,
        uid: attr.ownership.uid,
        gid: attr.ownership.gid,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

impl Filesystem for LiveData {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Each is worth having and none is needed; a kernel that lacks one says so by refusing.
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
        ] {
            if config.add_capabilities(wanted).is_err() {
                log::info!("this kernel has no {wanted:?}; listings ask more often");
            }
        }
        if let Err(most) = config.set_max_background(MAX_BACKGROUND) {
            log::debug!("at most {most} requests in the background");
        }
        // Asking for no more than there is changes nothing, and tells how much that is.
        let max_readahead = match config.set_max_readahead(u32::MAX) {
            Ok(before) => before,
            Err(most) => most,
        };
        *self.init.lock() = Some(Init {
            minor: config.kernel_abi().1,
            max_readahead,
            flags: config.capabilities().bits(),
            xattr: self.tree.keeps_attributes(),
        });
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.requests.count();
        if name.len() > MAX_NAME {
            return reply.error(errno(Refusal::NameTooLong));
        }
        let found = name
            .to_str()
            .and_then(|name| self.look_up(request, Ino(parent.0), name));
        match found {
            Some(attr) => reply.entry(&FOR_EVER, &file_attr(&attr), GENERATION),
            None => self.status_dir.look_up(Ino(parent.0), name, reply),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, n_lookups: u64) {
        self.tree.forget(Ino(ino.0), n_lookups);
        if self.tree.attr(Ino(ino.0)).is_none() {
            self.pollers.forget(Ino(ino.0));
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.requests.count();
        let attr = match Ino(ino.0) {
            STAGING_INO => Some(staging()),
            STATUS_DIR_INO => Some(self.status_dir.attr()),
            ino => self.tree.attr(ino),
        };
        match attr {
            Some(attr) => reply.attr(&FOR_EVER, &file_attr(&attr)),
            None => reply.error(errno(Refusal::NotFound)),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.requests.count();
        match self.tree.used(Ino(ino.0)) {
            Some(content) => match content.in_memory() {
                Some(bytes) => reply.data(part(&bytes, offset, size)),
                None => self.disk.read(Ino(ino.0), content, offset, size, reply),
            },
            None => reply.error(errno(
                match self.tree.attr(Ino(ino.0)).map(|attr| attr.kind) {
                    Some(Kind::File) => Refusal::TooOld,
                    Some(Kind::Directory) => Refusal::IsADirectory,
                    None => Refusal::NotFound,
                },
            )),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.requests.count();
        if Ino(ino.0) == STATUS_DIR_INO {
            self.status_dir.list(offset, &mut reply);
            return reply.ok();
        }
        let found = self.tree.list(Ino(ino.0), offset, |entry| {
            let attr = file_attr(&entry.attr);
            room(reply.add(attr.ino, entry.cookie, attr.kind, entry.name))
        });
        if found {
            reply.ok()
        } else {
            reply.error(errno(Refusal::NotADirectory))
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.requests.count();
        if Ino(ino.0) == STATUS_DIR_INO {
            self.status_dir.list_plus(offset, &mut reply);
            return reply.ok();
        }
        let found = self.tree.list_and_look_up(Ino(ino.0), offset, |entry| {
            let attr = file_attr(&entry.attr);
            room(reply.add(
                attr.ino,
                entry.cookie,
                entry.name,
                &FOR_EVER,
                &attr,
                GENERATION,
            ))
        });
        if found {
            reply.ok()
        } else {
            reply.error(errno(Refusal::NotADirectory))
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.requests.count();
        // No blocks: df(1) shows such a file system only when asked to.
        reply.statfs(
            0,
            0,
            0,
            self.tree.n_inodes() as u64,
            0,
            BLOCK,
            MAX_NAME as u32,
            BLOCK,
        );
    }

    // The kernel caches no extended attribute, so `ls -l` would ask twice for each file; where they
    // are not wanted, it is to do without them, once and for all.

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.requests.count();
        if !self.tree.keeps_attributes() {
            return reply.error(errno(Refusal::Unneeded));
        }
        let found = attributes::is_ours(name)
            .then(|| self.attributes(ino))
            .flatten();
        match found.as_ref().and_then(|found| found.get(name)) {
            Some(value) => give(value, size, reply),
            None => reply.error(errno(Refusal::NoAttribute)),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.requests.count();
        if !self.tree.keeps_attributes() {
            return reply.error(errno(Refusal::Unneeded));
        }
        let found = self.attributes(ino);
        give(
            &found.map_or_else(Vec::new, |found| found.list()),
            size,
            reply,
        );
    }

    // What the kernel is to do without, once and for all.

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
    }

    fn poll(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        waiting: PollNotifier,
        _: PollEvents,
        flags: PollFlags,
        reply: ReplyPoll,
    ) {
        self.requests.count();
        let ino = Ino(ino.0);
        if flags.contains(PollFlags::FUSE_POLL_SCHEDULE_NOTIFY) {
            self.tree.note_waiting(ino, waiting.handle().0);
            self.pollers.add(ino, waiting);
        }
        // Noted first, so that a change in between is told of one way or the other. There is
        // always something to read; a descriptor whose version is superseded says so as sysfs
        // does.
        let superseded = self.tree.attr(ino).is_none_or(|attr| attr.n_links == 0);
        reply.poll(if superseded {
            PollEvents::POLLIN | PollEvents::POLLPRI | PollEvents::POLLERR
        } else {
            PollEvents::POLLIN
        });
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
    }

    // Nobody writes but the publisher. The mount that people see is read-only, so the kernel refuses
    // all of this by itself; a mount made writable behind our back is refused here.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        self.requests.count();
        let made = name
            .to_str()
            .filter(|_| self.is_publisher(request))
            .and_then(|name| {
                self.tree
                    .make_directory(Ino(parent.0), name, SystemTime::now())
            });
        match made {
            Some(attr) => reply.entry(&FOR_EVER, &file_attr(&attr), GENERATION),
            None => reply.error(errno(Refusal::ReadOnly)),
        }
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.requests.count();
        self.remove(request, parent, name, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.requests.count();
        self.remove(request, parent, name, reply);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.requests.count();
        let staged = name
            .to_str()
            .filter(|_| Ino(parent.0) == STAGING_INO && self.is_publisher(request))
            .and_then(|number| number.parse().ok());
        let renamed = match (staged, newname.to_str()) {
            (Some(staged), Some(name)) => {
                self.ahead.store(&self.tree, Ino(staged));
                self.tree
                    .rename(Ino(staged), Ino(newparent.0), name, SystemTime::now())
            }
            (None, _) | (_, None) => false,
        };
        if renamed {
            reply.ok()
        } else {
            reply.error(errno(Refusal::ReadOnly))
        }
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }
}

impl LiveData {
    fn attributes(&self, ino: INodeNo) -> Option<Attributes> {
        let (origin, stale) = self.tree.attributes(Ino(ino.0))?;
        Some(Attributes::of(&origin, stale.as_ref()))
    }

    fn remove(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if Ino(parent.0) == STAGING_INO && self.is_publisher(request) {
            // What a dead server had staged: the kernel is to let go of the name.
            return reply.ok();
        }
        let removed = name
            .to_str()
            .filter(|_| self.is_publisher(request))
            .is_some_and(|name| self.tree.remove(Ino(parent.0), name, SystemTime::now()));
        if removed {
            reply.ok()
        } else {
            reply.error(errno(Refusal::ReadOnly))
        }
    }
}

/// Gives extended attributes to a caller that has room for so many bytes; one that has none asks
/// how many there are.
fn give(bytes: &[u8], size: u32, reply: ReplyXattr) {
    match (u32::try_from(bytes.len()), size) {
        (Ok(n_bytes), 0) => reply.size(n_bytes),
        (Ok(n_bytes), size) if n_bytes <= size => reply.data(bytes),
        _ => reply.error(errno(Refusal::NoRoom)),
    }
}

/// fuser's `add` says true when there was no room.
fn room(full: bool) -> Room {
    if full { Room::Full } else { Room::Taken }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn a_publisher_is_trusted_until_it_ends() {
        let publishers = Publishers::default();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        publishers.add(child.id(), process);
        assert!(publishers.trust(child.id()));
        assert!(!publishers.trust(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        // From here on another process may get the id.
        assert!(!publishers.trust(child.id()));
        let us = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
        publishers.add(std::process::id(), us);
        assert_eq!(publishers.0.read().len(), 1);
    }
}
