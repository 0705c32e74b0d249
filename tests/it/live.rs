//! A real mount whose tree the test changes itself, without a ZooKeeper: what the kernel shows of
//! changes that come as fast as the test likes.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use livedata::fuse::{LiveData, Requests, Shown};
use livedata::mountpoint::{self, Mounting, Options};
use livedata::path::{FilePath, Name};
use livedata::processes::{PUBLISHER_COMMAND, ToPublisher};
use livedata::publish::{Publishing, Tell};
use livedata::record::Record;
use livedata::store::{self, Reader, Writer};
use livedata::tree::{Change, Ownership};
use livedata::wire::Socket;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::support::process;

pub struct Live {
    directory: tempfile::TempDir,
    pub tree: Reader,
    pub requests: Requests,
    publishing: Option<Publishing>,
    fuse: Option<JoinHandle<()>>,
    publisher: Option<Child>,
}

impl Live {
    /// Without a publisher: the kernel is notified.
    pub fn mount() -> Self {
        Self::start(false)
    }

    /// With a real publisher process.
    pub fn with_publisher() -> Self {
        Self::start(true)
    }

    fn start(with_publisher: bool) -> Self {
        let root = Ownership {
            uid: 0,
            gid: 0,
            mode: 0o555,
        };
        let record = Record::create().unwrap();
        let (writer, tree) = store::recorded(root, record, SystemTime::now()).unwrap();
        Self::mount_with((writer, tree), with_publisher)
    }

    /// Mounts a tree that is there, without a publisher.
    pub fn mount_tree(tree: (Writer, Reader)) -> Self {
        Self::mount_with(tree, false)
    }

    fn mount_with((writer, tree): (Writer, Reader), with_publisher: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = mountpoint::prepare(directory.path()).unwrap();
        let (mut mounting, device) = Mounting::create(&path, "test", &Options::default()).unwrap();
        mounting.attach().unwrap();
        let requests = Requests::default();
        let mut config = fuser::Config::default();
        config.n_threads = Some(2);
        let files = LiveData::new(tree.clone(), requests.clone());
        let files_of = files.clone();
        // Names that are nobody's are asked for there.
        let shown = Shown {
            name: Name::parse(".livedata").unwrap(),
            files: Ownership {
                uid: 0,
                gid: 0,
                mode: 0o444,
            },
        };
        let status_dir = files.status_dir();
        status_dir
            .serve(tree.clone(), shown, |_| Vec::new())
            .unwrap();
        let acl = fuser::SessionACL::All;
        let session = fuser::Session::from_fd(files, device, acl, config).unwrap();
        files_of.ahead().use_notifier(session.notifier());
        let pollers = files_of.pollers();
        let publishers = files_of.publishers();
        let ends = (writer, tree.clone());
        let publishing = Publishing::spawn(
            ends,
            session.notifier(),
            pollers,
            Tell {
                published: Box::new(|_, _| ()),
                record: Box::new(|_| Ok(())),
                hangs: Box::new(|_| ()),
            },
            false,
        )
        .unwrap();
        let fuse = Some(std::thread::spawn(move || session.run().unwrap()));
        let publisher = with_publisher.then(|| {
            let (socket, theirs) = Socket::pair().unwrap();
            let private = mounting.private().unwrap();
            let root = ToPublisher::Root { path: None };
            socket.send(&root, &[private.as_fd()]).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_livedata-fuse"));
            let theirs = std::os::fd::OwnedFd::from(theirs);
            command.arg(PUBLISHER_COMMAND).stdin(Stdio::from(theirs));
            let child = process::spawn(command);
            let process = pidfd_open(process::pid(&child), PidfdFlags::empty()).unwrap();
            publishers.add(child.id(), process);
            publishing.use_publisher(Some((child.id(), socket)));
            child
        });
        let publishing = Some(publishing);
        Self {
            directory,
            tree,
            requests,
            publishing,
            fuse,
            publisher,
        }
    }

    /// Where a file of the mount is for everybody.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a change and comes back when it is published.
    pub fn apply(&mut self, change: Change) {
        self.apply_at(change, SystemTime::now());
    }

    pub fn apply_at(&mut self, change: Change, now: SystemTime) {
        let publishing = self.publishing.as_ref().unwrap();
        publishing.publish(change, now, None);
        publishing.flush();
    }

    /// Makes a change and does not wait.
    pub fn push(&self, change: Change) {
        let publishing = self.publishing.as_ref().unwrap();
        publishing.publish(change, SystemTime::now(), None);
    }

    /// Waits until all that was pushed is published.
    pub fn flush(&self) {
        self.publishing.as_ref().unwrap().flush();
    }

    pub fn put(&mut self, path: &str, content: impl Into<Arc<[u8]>>) {
        self.apply(put(path, 0o444, content));
    }

    pub fn remove(&mut self, path: &str) {
        self.apply(Change::Remove { path: file(path) });
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It holds the private mount.
        if let Some(mut publisher) = self.publisher.take() {
            let _ = publisher.kill();
            let _ = publisher.wait();
        }
        let released = mountpoint::release(self.directory.path());
        if let (true, Some(fuse)) = (released, self.fuse.take()) {
            fuse.join().unwrap();
        }
        if let Some(publishing) = self.publishing.take() {
            publishing.join();
        }
    }
}

pub fn put(path: &str, mode: u16, content: impl Into<Arc<[u8]>>) -> Change {
    let ownership = Ownership {
        uid: 0,
        gid: 0,
        mode,
    };
    Change::Put {
        path: file(path),
        ownership,
        content: content.into().into(),
    }
}

pub fn file(path: &str) -> FilePath {
    FilePath::parse(path).unwrap()
}

/// Waits until it is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "not so after 30 s: {what}");
        std::thread::yield_now();
    }
}
