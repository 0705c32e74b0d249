//! What a process that is started by root keeps of its privileges.
//!
//! The server and the publisher read and write files of whomever, and that is all they need root
//! for. So what makes and moves mounts, traces processes or loads modules is not theirs, nor what
//! they start.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities,
};

/// Files whatever their permissions: secrets and keys, the cache, the log, links, and directories
/// of the mount.
const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER);

/// Gives up all capabilities but those for files, in this process and in what it starts. To be
/// called before there is another thread.
pub(crate) fn keep_those_for_files() -> io::Result<()> {
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        match remove_capability_from_bounding_set(capability) {
            // Not known to this kernel; or not ours to take away, as for who is not root.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let now = capabilities(None)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: now.effective & KEPT,
            permitted: now.permitted & KEPT,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}
