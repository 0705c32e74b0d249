//! The mount table of this process (`/proc/self/mountinfo`).

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::mountpoint::FILE_SYSTEM;

/// Whether the topmost mount at exactly `path` is of our type.
pub(super) fn is_ours(path: &Path) -> bool {
    // Without /proc nobody can tell, and then nothing is taken away.
    std::fs::read("/proc/self/mountinfo").is_ok_and(|table| top_is_ours(&table, path))
}

/// The ids of all mounts of our type.
pub(super) fn ids_of_ours() -> std::io::Result<HashSet<u64>> {
    Ok(ids(&std::fs::read("/proc/self/mountinfo")?).collect())
}

fn ids(table: &[u8]) -> impl Iterator<Item = u64> {
    let ours = table
        .split(|byte| *byte == b'\n')
        .filter(|line| is_of_our_type(line));
    ours.filter_map(|line| {
        let id = line.split(|byte| *byte == b' ').next()?;
        std::str::from_utf8(id).ok()?.parse().ok()
    })
}

fn is_of_our_type(line: &[u8]) -> bool {
    let mut fields = line
        .split(|byte| *byte == b' ')
        .skip_while(|field| *field != b"-");
    fields.nth(1) == Some(FILE_SYSTEM.as_bytes())
}

fn top_is_ours(table: &[u8], path: &Path) -> bool {
    // A later line at the same path is mounted over the earlier one.
    let top = table.split(|byte| *byte == b'\n').rfind(|line| {
        line.split(|byte| *byte == b' ')
            .nth(4)
            .is_some_and(|field| unescape(field).as_os_str() == path.as_os_str())
    });
    top.is_some_and(is_of_our_type)
}

/// Blank, tab, newline and backslash stand as `\040` and so on.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    let unescaped = OsString::from_vec(bytes);
    debug_assert!(unescaped.as_bytes().len() <= field.len());
    unescaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / /mnt/live ro,nosuid,nodev - fuse.livedata /etc/live.ini ro,user_id=0
41 22 0:41 / /mnt/a\\040b ro - fuse.livedata x ro
42 22 0:42 / /mnt/over ro - fuse.livedata x ro
43 42 0:43 / /mnt/over rw - tmpfs tmpfs rw
44 22 0:44 / /mnt/other rw - fuse.sshfs host: rw
";

    #[test]
    fn the_topmost_mount_counts() {
        let ours = |path: &str| top_is_ours(TABLE.as_bytes(), Path::new(path));
        assert!(ours("/mnt/live"));
        assert!(ours("/mnt/a b"));
        assert!(!ours("/mnt/over"), "something is mounted over it");
        assert!(!ours("/mnt/other"));
        assert!(!ours("/mnt"));
        assert!(!ours("/mnt/live/below"));
        assert_eq!(ids(TABLE.as_bytes()).collect::<Vec<_>>(), [40, 41, 42]);
    }
}
