//! The mount table, as the keeper looks at it: by the id of a mount, and told when it changes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::mountpoint::FILE_SYSTEM;

const TABLE: &str = "/proc/self/mountinfo";

/// Becomes exceptional, for poll(2), whenever something is mounted or unmounted.
#[derive(Debug)]
pub(super) struct Changes(File);

impl Changes {
    pub(super) fn watch() -> io::Result<Self> {
        File::open(TABLE).map(Self)
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The id of the topmost mount at exactly `path`, if it is of our type.
pub(super) fn id_at(path: &Path) -> Option<u64> {
    top_at(&std::fs::read(TABLE).ok()?, path)
}

/// Whether the mount with this id is still in the table. When in doubt it is.
pub(super) fn is_there(id: u64) -> bool {
    std::fs::read(TABLE).map_or(true, |table| {
        lines(&table).any(|line| id_of(line) == Some(id))
    })
}

/// Aborts the connection of the mount with this id: whoever waits for an answer gets an error,
/// whoever may still hold the connection. Does nothing where fusectl is not mounted.
pub(super) fn abort(id: u64) -> io::Result<()> {
    let table = std::fs::read(TABLE)?;
    let Some(connection) = connection_of(&table, id) else {
        return Ok(());
    };
    match std::fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1") {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The number of a connection is the minor number of its device.
fn connection_of(table: &[u8], id: u64) -> Option<u64> {
    let line = lines(table).find(|line| id_of(line) == Some(id))?;
    let device = std::str::from_utf8(fields(line).nth(2)?).ok()?;
    device.split_once(':')?.1.parse().ok()
}

fn top_at(table: &[u8], path: &Path) -> Option<u64> {
    let path = escape(path.as_os_str().as_bytes());
    // A later line at the same path is mounted over the earlier one.
    let top = lines(table)
        .filter(|line| fields(line).nth(4) == Some(&path))
        .last()?;
    let of_type = fields(top).skip_while(|field| *field != b"-").nth(1);
    id_of(top).filter(|_| of_type == Some(FILE_SYSTEM.as_bytes()))
}

fn lines(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    table.split(|byte| *byte == b'\n')
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ')
}

fn id_of(line: &[u8]) -> Option<u64> {
    std::str::from_utf8(fields(line).next()?).ok()?.parse().ok()
}

/// As the table writes a path.
fn escape(path: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => {
                escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
            }
            plain => escaped.push(*plain),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_path_and_type() {
        let table = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / /mnt/live ro,nosuid,nodev - fuse.livedata /etc/live.ini ro,user_id=0
41 22 0:41 / /mnt/a\\040b ro - fuse.livedata x ro
42 22 0:42 / /mnt/over ro - fuse.livedata x ro
43 42 0:43 / /mnt/over rw - tmpfs tmpfs rw
";
        let at = |path: &str| top_at(table, Path::new(path));
        assert_eq!(at("/mnt/live"), Some(40));
        assert_eq!(at("/mnt/a b"), Some(41));
        assert_eq!(at("/mnt/over"), None, "something is mounted over it");
        assert_eq!(at("/mnt"), None);
        assert_eq!(connection_of(table, 41), Some(41));
        assert_eq!(connection_of(table, 44), None);
    }
}
