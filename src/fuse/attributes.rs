//! The extended attributes of a file: what ZooKeeper keeps beside the bytes that are in it.
//!
//! Transactions and sessions are hexadecimal, as in ZooKeeper's own log and command line; versions
//! are decimal; times are RFC 3339 in UTC with milliseconds, which is as exact as ZooKeeper is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::shown::{Origin, Stale};

/// What all names begin with.
const PREFIX: &str = "user.zookeeper.";

/// Why the file of an inode without bytes cannot be read.
const TOO_OLD: &str = "older than max_stale allows, so reading it fails";

/// The attributes of one inode, by their names without the prefix.
pub(super) struct Attributes(Vec<(&'static str, String)>);

impl Attributes {
    /// Those of an inode that shows this; `stale` where that is not known to be current.
    pub(super) fn of(origin: &Origin, stale: Option<&Stale>) -> Self {
        let mut all = vec![("path", origin.path.as_str().to_owned())];
        if let Some(stat) = &origin.stat {
            all.extend([
                ("version", stat.version.to_string()),
                ("czxid", hexadecimal(stat.czxid)),
                ("mzxid", hexadecimal(stat.mzxid)),
                ("pzxid", hexadecimal(stat.pzxid)),
                ("ctime", time(Timestamp::from_millisecond(stat.ctime))),
                ("mtime", time(Timestamp::from_millisecond(stat.mtime))),
                ("ephemeral_owner", hexadecimal(stat.ephemeral_owner)),
            ]);
        }
        if let Some(Stale { since, .. }) = stale {
            all.push(("stale_since", time(since_epoch(*since))));
        }
        match (stale.and_then(|stale| stale.why.as_deref()), origin.stat) {
            (Some(why), _) => all.push(("unreadable", why.to_owned())),
            (None, None) => all.push(("unreadable", TOO_OLD.to_owned())),
            (None, Some(_)) => {}
        }
        Self(all)
    }

    /// The value of the attribute with this full name.
    pub(super) fn get(&self, name: &OsStr) -> Option<&[u8]> {
        let name = name.to_str()?.strip_prefix(PREFIX)?;
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_bytes())
    }

    /// The full names, as listxattr(2) gives them: each with a NUL behind it.
    pub(super) fn list(&self) -> Vec<u8> {
        let names = self.0.iter().map(|(name, _)| format!("{PREFIX}{name}\0"));
        names.collect::<String>().into_bytes()
    }
}

/// Whether the caller asks for a name that we could have; whatever else it asks for, as an access
/// control list or a capability of the file, is not there.
pub(super) fn is_ours(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX.as_bytes())
}

fn hexadecimal(number: i64) -> String {
    // As ZooKeeper prints them: sessions of servers with high ids have the highest bit set.
    format!("{number:#x}")
}

fn since_epoch(time: SystemTime) -> Result<Timestamp, jiff::Error> {
    Timestamp::try_from(time)
}

/// What no calendar has is left empty: whoever sets up an ensemble may set its clock.
fn time(time: Result<Timestamp, jiff::Error>) -> String {
    time.map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::path::ZnodePath;
    use crate::source::Stat;

    fn origin(stat: Option<Stat>) -> Origin {
        let path = ZnodePath::parse("/a/node").unwrap();
        Origin { path, stat }
    }

    #[test]
    fn what_is_told() {
        let stat = Stat {
            czxid: 0x10,
            mzxid: 0x1_0000_002a,
            version: 7,
            ctime: 1_763_736_602_000,
            mtime: 1_763_736_602_120,
            ephemeral_owner: -0x7000_0000_0000_0000,
            ..Stat::default()
        };
        let attributes = Attributes::of(&origin(Some(stat)), None);
        let get = |name: &str| {
            let value = attributes.get(OsStr::new(name))?;
            Some(String::from_utf8(value.to_vec()).unwrap())
        };
        for (name, value) in [
            ("path", "/a/node"),
            ("version", "7"),
            ("czxid", "0x10"),
            ("mzxid", "0x10000002a"),
            ("pzxid", "0x0"),
            ("ctime", "2025-11-21T14:50:02.000Z"),
            ("mtime", "2025-11-21T14:50:02.120Z"),
            ("ephemeral_owner", "0x9000000000000000"),
        ] {
            assert_eq!(get(&format!("{PREFIX}{name}")).as_deref(), Some(value));
        }
        for name in ["user.zookeeper.stale_since", "user.path", "path"] {
            assert_eq!(get(name), None, "{name}");
        }
        let list = attributes.list();
        assert_eq!(list.iter().filter(|byte| **byte == 0).count(), 8);
        assert!(list.starts_with(b"user.zookeeper.path\0user.zookeeper.version\0"));
    }

    #[test]
    fn what_is_not_there_is_not_told() {
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        let why = Some("denied".into());
        let stale = Stale { since, why };
        let list = Attributes::of(&origin(None), Some(&stale)).list();
        let list = String::from_utf8(list).unwrap().replace(PREFIX, "");
        assert_eq!(list, "path\0stale_since\0unreadable\0");
        let attributes = Attributes::of(&origin(None), Some(&Stale { why: None, ..stale }));
        let get = |name| attributes.get(OsStr::new(name)).unwrap();
        let since = get("user.zookeeper.stale_since");
        assert_eq!(since, b"1970-01-01T00:00:01.500Z");
        assert_eq!(get("user.zookeeper.unreadable"), TOO_OLD.as_bytes());
        let never = Stat {
            ctime: i64::MAX,
            ..Stat::default()
        };
        let attributes = Attributes::of(&origin(Some(never)), None);
        assert_eq!(
            attributes.get(OsStr::new("user.zookeeper.ctime")),
            Some(&b""[..])
        );
    }
}
