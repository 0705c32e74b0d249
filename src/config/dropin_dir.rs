//! Drop-ins on disk: which files of the directory are meant, and which of them are trusted.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use super::dropins::Dropins;
use super::{Config, Surroundings};

/// A drop-in of ten thousand nodes has about a tenth of this.
const MAX_LENGTH: u64 = 16 << 20;

/// What tells whether a file was touched since, at the price of a stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// What tells whether its content may be another.
    pub content: Content,
    /// The time of its last change of any kind, in seconds and nanoseconds since 1970.
    pub ctime: (i64, i64),
    mode: u32,
    uid: u32,
}

/// The part of a [`Stamp`] that a chmod or a chown leaves as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    device: u64,
    ino: u64,
    length: u64,
    mtime: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            content: Content {
                device: found.dev(),
                ino: found.ino(),
                length: found.len(),
                mtime: (found.mtime(), found.mtime_nsec()),
            },
            ctime: (found.ctime(), found.ctime_nsec()),
            mode: found.mode(),
            uid: found.uid(),
        }
    }
}

/// Whether a file of this name is a drop-in. Not one are the hidden and temporary files of editors:
/// `.a.ini.swp`, `.#a.ini`, `#a.ini#`, `a.ini~`, `4913`.
pub fn is_dropin(name: &str) -> bool {
    name.ends_with(".ini") && !name.starts_with(['.', '#'])
}

/// The drop-ins in the directory, by name. A stamp is missing where the file cannot be looked at, as
/// with a symbolic link to nothing. Fails where there is no such directory, or it cannot be read.
pub fn list(dir: &Path) -> io::Result<BTreeMap<String, Option<Stamp>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        // A name that is not UTF-8 still shows up, and cannot be opened.
        let name = name.to_string_lossy().into_owned();
        if is_dropin(&name) {
            let stamp = fs::metadata(dir.join(&name)).ok();
            found.insert(name, stamp.as_ref().map(Stamp::of));
        }
    }
    Ok(found)
}

/// The content of a drop-in, or why it is not taken: whoever can write it could run commands as the
/// mounting user. What a symbolic link points to is judged, not the link. The stamp is that of after
/// the content was read.
pub fn read(path: &Path) -> Result<(Stamp, Vec<u8>), String> {
    let cannot = |err: io::Error| format!("cannot be read: {err}");
    let mut file = File::options()
        .read(true)
        // A pipe is not waited for.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(cannot)?;
    let found = file.metadata().map_err(cannot)?;
    if !found.is_file() {
        return Err("refused: it is no regular file".into());
    }
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != 0 && found.uid() != us {
        return Err(format!(
            "refused: it belongs to the user {}; a drop-in must belong to root or to the user who \
             mounts",
            found.uid()
        ));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!(
            "refused: others than its owner can write it (mode {:04o}); chmod go-w",
            found.mode() & 0o7777
        ));
    }
    let mut text = Vec::new();
    let mut start = (&mut file).take(MAX_LENGTH + 1);
    start.read_to_end(&mut text).map_err(cannot)?;
    if text.len() as u64 > MAX_LENGTH {
        return Err(format!(
            "refused: it is longer than {} MiB",
            MAX_LENGTH >> 20
        ));
    }
    // Written meanwhile, it has another stamp.
    let found = file.metadata().map_err(cannot)?;
    Ok((Stamp::of(&found), text))
}

/// Takes all drop-ins as they are now.
pub fn read_all(dropins: &mut Dropins, main: &Config, surroundings: &Surroundings<'_>) {
    let dir = dropins.dir().to_owned();
    if let Some(why) = hidden(&dir, surroundings.mountpoint) {
        dropins.refuse_dir(Some(why));
        return;
    }
    let listed = list(&dir);
    dropins.refuse_dir(why_not(main, &listed));
    for name in listed.unwrap_or_default().keys() {
        match read(&dir.join(name)) {
            Ok((_, text)) => dropins.take(name, &text, &main.defaults, surroundings),
            Err(why) => dropins.refuse(name, why),
        }
    }
}

/// Why the directory could not be listed. Only one that is configured must be there.
pub fn why_not<T>(main: &Config, listed: &io::Result<T>) -> Option<String> {
    match listed {
        Ok(_) => None,
        Err(err) if err.kind() == io::ErrorKind::NotFound => main
            .mount
            .dropin_dir
            .as_ref()
            .map(|_| "there is no such directory yet".into()),
        Err(err) => Some(format!("cannot be read: {err}")),
    }
}

/// Why the directory is not even looked at: to look into the mount would be to wait for ourselves.
pub fn hidden(dir: &Path, mountpoint: Option<&Path>) -> Option<String> {
    without_dots(dir)
        .starts_with(mountpoint?)
        .then(|| "is in the mount itself; keep it elsewhere".into())
}

/// The path with `..` taken out, nobody asked.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}
