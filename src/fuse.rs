//! Answers the kernel from the tree: a thin [`fuser::Filesystem`].
//!
//! What makes warm reads free of requests: an inode is one version for ever, so entries and
//! attributes never expire; open, opendir and flush are answered ENOSYS once, after which the
//! kernel does not ask again on this mount; listings carry the attributes (READDIRPLUS). Nothing
//! here waits for anything but the lock over the tree.

use std::ffi::OsStr;
use std::io;
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

use crate::path::MAX_NAME;
use crate::store::Reader;
use crate::tree::{Attr, Ino, Kind, Room};

/// For ever, as far as the kernel's clock goes: what changes is announced.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Numbers are never used again, so one generation does.
const GENERATION: Generation = Generation(0);

/// The block size that stat(2) and statfs(2) tell.
const BLOCK: u32 = 4096;

/// How many requests may wait in the kernel before it slows their senders down.
const MAX_BACKGROUND: u16 = 64;

/// The file system of one mount.
pub struct LiveData {
    tree: Reader,
    requests: Requests,
}

/// Counts the requests that the kernel made, but for FORGET, on which nobody waits.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<AtomicU64>);

impl LiveData {
    /// Serves `tree`, counting into `requests`.
    pub fn new(tree: Reader, requests: Requests) -> Self {
        Self { tree, requests }
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
    /// Nobody writes here.
    ReadOnly,
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
        Refusal::ReadOnly => Errno::EROFS,
        Refusal::Unneeded => Errno::ENOSYS,
    }
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
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.requests.count();
        if name.len() > MAX_NAME {
            return reply.error(errno(Refusal::NameTooLong));
        }
        let found = name
            .to_str()
            .and_then(|name| self.tree.lookup(Ino(parent.0), name));
        match found {
            Some(attr) => reply.entry(&FOR_EVER, &file_attr(&attr), GENERATION),
            // Not cached: stale negative entries after inval_entry were reported of Linux 6.19.
            None => reply.error(errno(Refusal::NotFound)),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, n_lookups: u64) {
        self.tree.forget(Ino(ino.0), n_lookups);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.requests.count();
        match self.tree.attr(Ino(ino.0)) {
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
        match self.tree.read(Ino(ino.0)) {
            Some(content) => {
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(content.len());
                let end = start.saturating_add(size as usize).min(content.len());
                reply.data(&content[start..end]);
            }
            None => reply.error(errno(match self.tree.attr(Ino(ino.0)) {
                Some(_) => Refusal::IsADirectory,
                None => Refusal::NotFound,
            })),
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

    // What the kernel is to do without, once and for all.

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
    }

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
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        self.requests.count();
        reply.error(errno(Refusal::Unneeded));
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

    // Nobody writes. The mount is read-only, so the kernel refuses all of this by itself; a mount
    // made writable behind our back is refused here.

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

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.requests.count();
        reply.error(errno(Refusal::ReadOnly));
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

/// fuser's `add` says true when there was no room.
fn room(full: bool) -> Room {
    if full { Room::Full } else { Room::Taken }
}
