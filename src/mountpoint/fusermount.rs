//! Mounting without privileges: the set-user-id helper fusermount3 does it and passes the
//! connection back through a socket.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::io::FdFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use crate::mountpoint::{Error, Options};

const FUSERMOUNT: &str = "fusermount3";

pub(super) fn mount(
    path: &Path,
    source: &str,
    options: &Options,
    allow_other: bool,
) -> Result<OwnedFd, Error> {
    let failed = |reason: String| Error::Refused {
        path: path.into(),
        what: "fusermount3 cannot mount it",
        reason,
    };
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|err| failed(err.to_string()))?;
    // The helper inherits this end and nothing else; no other child is started meanwhile.
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).map_err(|err| failed(err.to_string()))?;
    let mut list = format!(
        "ro,nosuid,nodev,default_permissions,subtype=livedata,fsname={}",
        source.replace('\\', "\\\\").replace(',', "\\,"),
    );
    if allow_other {
        list.push_str(",allow_other");
    }
    if options.noexec {
        list.push_str(",noexec");
    }
    let helper = Command::new(FUSERMOUNT)
        .args(["-o", &list, "--"])
        .arg(path)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| failed(not_there(&err)))?;
    drop(theirs);
    // Either the descriptor comes, or the end of the file: the helper failed and says why.
    let received = receive_descriptor(&ours);
    let output = helper
        .wait_with_output()
        .map_err(|err| failed(err.to_string()))?;
    match received {
        Some(device) if output.status.success() => Ok(device),
        Some(_) | None => Err(failed(complaint(&output))),
    }
}

pub(super) fn unmount(path: &Path, lazy: bool) -> Result<(), Error> {
    let failed = |reason: String| Error::Refused {
        path: path.into(),
        what: "fusermount3 cannot unmount it",
        reason,
    };
    let output = Command::new(FUSERMOUNT)
        .args(if lazy {
            &["-u", "-z", "--"][..]
        } else {
            &["-u", "--"][..]
        })
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|err| failed(not_there(&err)))?;
    let complaint = complaint(&output);
    match output.status.success() {
        true => Ok(()),
        false if complaint.contains("busy") => Err(Error::Busy(path.into())),
        false => Err(failed(complaint)),
    }
}

fn receive_descriptor(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        let mut into = [IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })
    .ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

fn not_there(err: &std::io::Error) -> String {
    format!("{err}; without root it is needed: apt-get install fuse3")
}

/// What the helper said, on one line, without its own name.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<_> = said
        .lines()
        .map(|line| line.trim().trim_start_matches("fusermount3: "))
        .filter(|line| !line.is_empty())
        .collect();
    if said.is_empty() {
        output.status.to_string()
    } else {
        said.join("; ")
    }
}
