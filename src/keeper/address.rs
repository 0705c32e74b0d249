//! Where the control socket of a mount is: a name made of the mountpoint, in a directory that only
//! the mounting user can enter.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longer names are cut; the path of a socket has at most 107 bytes.
const LONGEST_NAME: usize = 56;

/// The control socket of a mount at `mountpoint`, which has no symbolic links. Fails where there is
/// no directory for such things: without root it is XDG_RUNTIME_DIR.
pub(super) fn of(mountpoint: &Path) -> io::Result<PathBuf> {
    let runtime = if rustix::process::geteuid().is_root() {
        PathBuf::from("/run")
    } else {
        std::env::var_os("XDG_RUNTIME_DIR")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "XDG_RUNTIME_DIR is not set"))?
    };
    Ok(runtime.join("livedata-fuse").join(name(mountpoint)))
}

/// The list of the links into a mount at `mountpoint`, beside its control socket.
pub fn list_of_links(mountpoint: &Path) -> io::Result<PathBuf> {
    let mut path = of(mountpoint)?.into_os_string();
    path.push(".links");
    Ok(path.into())
}

/// As systemd escapes a path: `/` becomes `-`, and what is special `\xNN`. What is too long keeps
/// its end, behind a hash of the whole.
fn name(mountpoint: &Path) -> String {
    let bytes = mountpoint.as_os_str().as_bytes();
    let mut escaped = String::new();
    for byte in bytes.strip_prefix(b"/").unwrap_or(bytes) {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if escaped.is_empty() => escaped.push_str("\\x2e"),
            b'.' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                escaped.push(char::from(*byte))
            }
            special => escaped.push_str(&format!("\\x{special:02x}")),
        }
    }
    if escaped.is_empty() {
        escaped.push('-');
    }
    if escaped.len() > LONGEST_NAME {
        let end = &escaped[escaped.len() - LONGEST_NAME + 17..];
        escaped = format!("{:016x}-{end}", hash(bytes));
    }
    escaped
}

/// FNV-1a: the same in every version of the program.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = |path: &str| name(Path::new(path));
        assert_eq!(name("/mnt/live"), "mnt-live");
        assert_eq!(name("/mnt/live-data"), "mnt-live\\x2ddata");
        assert_eq!(name("/.a b"), "\\x2ea\\x20b");
        assert_eq!(name("/"), "-");
        let long = |last: &str| name(&format!("/{}/{last}", "long/".repeat(100)));
        assert_eq!(long("a").len(), LONGEST_NAME);
        assert!(long("a").ends_with("-a"));
        assert_ne!(long("a"), long("b"));
    }
}
