//! The end of the links into the mount: whoever took the mount away takes them away, too.

use std::time::{Duration, Instant};

use super::{Keeper, address, mounts};
use crate::links::{self, Lists};

/// How long that may hold up the end of the keeper; it goes on without.
const PATIENCE: Duration = Duration::from_secs(3);

impl Keeper<'_> {
    /// Starts a process that removes them, if there are any. Not where there is another mount by
    /// now, whose links they are.
    pub(super) fn remove_links(&mut self) {
        let mountpoint = &self.job.mountpoint;
        let Ok(list) = address::list_of_links(mountpoint) else {
            return;
        };
        let nothing_to_do = self.unlinking.is_some() || !list.exists();
        if nothing_to_do || mounts::id_at(mountpoint).is_some() {
            return;
        }
        let program = self.confirmed.executable();
        match links::command(&program, mountpoint, (&list, Lists::GoesOn)).spawn() {
            Ok(process) => self.unlinking = Some(process),
            Err(err) => log::warn!("the links into the mount stay: {err}"),
        }
    }

    /// Waits until they are gone.
    pub(super) fn wait_for_links(&mut self) {
        let Some(mut process) = self.unlinking.take() else {
            return;
        };
        let deadline = Instant::now() + PATIENCE;
        while matches!(process.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                log::warn!("the links into the mount are not removed yet: a file system hangs");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
