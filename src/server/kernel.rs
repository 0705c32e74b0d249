//! The connection to the kernel: answering INIT, or going on where another server left off.
//!
//! A successor speaks no INIT with the kernel, which has had one; fuser insists on it, so it gets
//! one from us, through a socket that is replaced by `/dev/fuse` afterwards. What the dead server
//! had taken and not answered is asked for again (RESEND, Linux 6.9).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use fuser::{Notifier, Session, SessionACL};
use parking_lot::Mutex;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use crate::fuse::LiveData;
use crate::processes::Init;
use crate::sys;
use crate::tree::Ino;

/// How many threads answer the kernel: one more than may be busy with a large read.
const THREADS: usize = 2;

/// FUSE_INIT among the operations of the protocol.
const INIT: u32 = 26;
/// FUSE_NOTIFY_INVAL_INODE among its notifications.
const NOTIFY_INVAL_INODE: i32 = 2;
/// FUSE_NOTIFY_RESEND.
const NOTIFY_RESEND: i32 = 7;

/// A connection on which nothing is answered yet.
pub(super) struct Connection {
    session: Session<LiveData>,
    device: Arc<OwnedFd>,
}

/// What may be said to the kernel besides answers and fuser's notifications.
#[derive(Clone)]
pub(super) struct Line(Arc<OwnedFd>);

impl Connection {
    /// Answers the INIT that waits on the connection, and says what was in it.
    pub(super) fn open(
        filesystem: LiveData,
        init: &Mutex<Option<Init>>,
        device: OwnedFd,
    ) -> io::Result<(Self, Init)> {
        let for_session = device.try_clone()?;
        let session = Session::from_fd(filesystem, for_session, SessionACL::All, settings())?;
        let init = init
            .lock()
            .ok_or_else(|| io::Error::other("no INIT came"))?;
        Ok((
            Self {
                session,
                device: Arc::new(device),
            },
            init,
        ))
    }

    /// Goes on with a connection on which INIT was answered before.
    pub(super) fn take_over(filesystem: LiveData, init: Init, device: OwnedFd) -> io::Result<Self> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::send(&ours, &init_request(init), SendFlags::NOSIGNAL)?;
        let session = Session::from_fd(filesystem, theirs, SessionACL::All, settings())?;
        sys::replace_descriptor(&device, session.as_fd().as_raw_fd())?;
        Ok(Self {
            session,
            device: Arc::new(device),
        })
    }

    pub(super) fn notifier(&self) -> Notifier {
        self.session.notifier()
    }

    pub(super) fn line(&self) -> Line {
        Line(Arc::clone(&self.device))
    }

    /// Answers from here on. `ended` is told when the connection is gone.
    pub(super) fn serve(
        self,
        ended: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("fuse".into())
            .spawn(move || ended(self.session.run()))
    }
}

impl Line {
    /// Asks for all requests again that somebody took and nobody answered. Without it, whoever
    /// made them waits for ever.
    pub(super) fn resend(&self) -> io::Result<()> {
        self.say(NOTIFY_RESEND, &[])
    }

    /// Whether the kernel holds the inode. It forgets its attributes, which costs a question.
    pub(super) fn holds(&self, ino: Ino) -> io::Result<bool> {
        let (offset, length): (i64, i64) = (-1, 0);
        let body = [
            ino.0.to_ne_bytes(),
            offset.to_ne_bytes(),
            length.to_ne_bytes(),
        ]
        .concat();
        match self.say(NOTIFY_INVAL_INODE, &body) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// A notification: the header of an answer to no request, with the code for an error.
    fn say(&self, code: i32, body: &[u8]) -> io::Result<()> {
        let length = 16 + body.len() as u32;
        let mut message = Vec::with_capacity(length as usize);
        message.extend(length.to_ne_bytes());
        message.extend(code.to_ne_bytes());
        message.extend(0_u64.to_ne_bytes());
        message.extend(body);
        rustix::io::write(&*self.0, &message)?;
        Ok(())
    }
}

fn settings() -> fuser::Config {
    let mut settings = fuser::Config::default();
    settings.n_threads = Some(THREADS);
    settings
}

/// `fuse_in_header` and `fuse_init_in` of the protocol.
fn init_request(init: Init) -> Vec<u8> {
    let (flags, flags2) = (init.flags as u32, (init.flags >> 32) as u32);
    let words = [7, init.minor, init.max_readahead, flags, flags2];
    let body: Vec<u8> = words
        .into_iter()
        .chain([0; 11])
        .flat_map(u32::to_ne_bytes)
        .collect();
    let mut request = Vec::new();
    request.extend((40 + body.len() as u32).to_ne_bytes());
    request.extend(INIT.to_ne_bytes());
    // unique, nodeid
    request.extend([1_u64, 0].map(u64::to_ne_bytes).concat());
    // uid, gid, pid, and the length of extensions
    request.extend([0_u32; 4].map(u32::to_ne_bytes).concat());
    request.extend(body);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_has_the_size_that_the_kernel_sends() {
        let init = Init {
            minor: 45,
            max_readahead: 1 << 17,
            flags: (1 << 40) | 3,
            xattr: false,
        };
        let request = init_request(init);
        assert_eq!(request.len(), 104);
        assert_eq!(request[..8], [104, 0, 0, 0, 26, 0, 0, 0]);
    }
}
