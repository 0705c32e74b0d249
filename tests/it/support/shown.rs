//! What a mount shows, waited for; and what its log tells of the mirror.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use super::mount::Mount;
use super::wait::{wait_for, wait_until};

/// How long what must come may take to come, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

impl Mount {
    /// Waits until a file has this content.
    #[track_caller]
    pub fn wait_for_content(&self, file: &str, content: impl AsRef<[u8]>) {
        let content = content.as_ref();
        wait_until(SOON, &format!("{file} has the new content"), || {
            self.read(file).as_deref() == Some(content)
        });
    }

    /// Waits until there is no such file.
    #[track_caller]
    pub fn wait_until_gone(&self, file: &str) {
        wait_until(SOON, &format!("{file} goes"), || !self.has(file));
    }

    /// Whether there is such a file; any error but ENOENT fails the test.
    #[track_caller]
    pub fn has(&self, file: &str) -> bool {
        match fs::symlink_metadata(self.path(file)) {
            Ok(_) => true,
            Err(err) => {
                assert_eq!(err.raw_os_error(), Some(libc::ENOENT), "{file}: {err}");
                false
            }
        }
    }

    /// What stat(2) says.
    #[track_caller]
    pub fn meta(&self, file: &str) -> Metadata {
        fs::symlink_metadata(self.path(file)).unwrap_or_else(|err| panic!("{file}: {err}"))
    }

    /// The inode number of a file.
    #[track_caller]
    pub fn ino(&self, file: &str) -> u64 {
        self.meta(file).ino()
    }

    /// When a file was last known to be current.
    #[track_caller]
    pub fn mtime(&self, file: &str) -> SystemTime {
        self.meta(file).modified().unwrap()
    }

    /// How many lines of the log have this text in them.
    pub fn n_logged(&self, text: &str) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Waits until the log has `n` lines with this text.
    #[track_caller]
    pub fn wait_for_log(&self, n: usize, text: &str) {
        wait_until(SOON, &format!("the log says {text:?}"), || {
            self.n_logged(text) >= n
        });
    }

    /// The session it has, or had last.
    #[track_caller]
    pub fn session(&self) -> i64 {
        wait_for(SOON, "the log tells the session", || {
            let log = self.log();
            let (_, last) = log.rsplit_once("ZooKeeper: session 0x")?;
            let (number, _) = last.split_once('\n')?;
            Some(u64::from_str_radix(number, 16).unwrap().cast_signed())
        })
    }

    /// Waits until it has another session than this one, and gives it.
    #[track_caller]
    pub fn next_session(&self, session: i64) -> i64 {
        wait_for(SOON, "another session", || {
            Some(self.session()).filter(|new| *new != session)
        })
    }

    /// Replaces the configuration and sends SIGHUP. `{root}` in it is the mountpoint.
    pub fn reload(&self, config: &str) {
        let config = config.replace("{root}", self.root().to_str().unwrap());
        fs::write(self.config(), config).unwrap();
        self.signal(rustix::process::Signal::HUP);
    }
}
