//! What one value means: times, numbers, booleans, modes, hosts. An error is the text that follows
//! the key in a message: what is wrong, and what would be right.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::lines::is_space;
use super::{OnDelete, OnDisconnect};
use crate::path::{Name, ZnodePath};
use crate::subtree;

/// The port of a host that names none.
const DEFAULT_PORT: u16 = 2181;

/// `<integer> <unit>`, from milliseconds to days; plural or not.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{text:?} is not a time; write 5 seconds, for example \
             (units: milliseconds, seconds, minutes, hours, days)"
        )
    };
    let mut words = text.split(is_space).filter(|word| !word.is_empty());
    let (Some(count), Some(unit), None) = (words.next(), words.next(), words.next()) else {
        return Err(wrong());
    };
    let count = integer(count, 10).ok_or_else(wrong)?;
    let milliseconds = match unit.strip_suffix('s').unwrap_or(unit) {
        "millisecond" => 1,
        "second" => 1000,
        "minute" => 60_000,
        "hour" => 3_600_000,
        "day" => 86_400_000,
        _ => return Err(wrong()),
    };
    count
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is longer than any clock runs; write 1 days, for example"))
}

/// A [`time`] that is not zero.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err(format!(
            "{text:?} is no time at all; write more than 0, such as 5 seconds"
        )),
        some => Ok(some),
    }
}

/// A number of bytes: `268435456`, `256 MiB`, `64 MB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{text:?} is not a number of bytes; write 256 MiB, for example \
             (units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)"
        )
    };
    let trimmed = text.trim_matches(is_space);
    let end = trimmed.find(char::is_alphabetic).unwrap_or(trimmed.len());
    let (count, unit) = trimmed.split_at(end);
    let count = integer(count, 10).ok_or_else(wrong)?;
    let (thousand, kibi) = (1000_u64, 1024_u64);
    let factor = match &*unit.to_lowercase() {
        "" | "b" => 1,
        "kb" => thousand,
        "mb" => thousand.pow(2),
        "gb" => thousand.pow(3),
        "tb" => thousand.pow(4),
        "kib" => kibi,
        "mib" => kibi.pow(2),
        "gib" => kibi.pow(3),
        "tib" => kibi.pow(4),
        _ => return Err(wrong()),
    };
    count
        .checked_mul(factor)
        .ok_or_else(|| format!("{text:?} is more than any memory; write 256 MiB, for example"))
}

/// The booleans of Python's configparser.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match &*text.to_lowercase() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(format!("{text:?} is not a boolean; write true or false")),
    }
}

/// Octal permission bits.
pub(super) fn mode(text: &str) -> Result<u16, String> {
    integer(text, 8)
        .and_then(|mode| u16::try_from(mode).ok())
        .filter(|&mode| mode <= 0o7777)
        .ok_or_else(|| format!("{text:?} is not an octal mode; write 0440, for example"))
}

/// A numeric user or group id. The largest number means "no change" to the kernel, and is none.
pub(super) fn id(text: &str) -> Option<u32> {
    let id = u32::try_from(integer(text, 10)?).ok()?;
    (id != u32::MAX).then_some(id)
}

/// What to do with the file of a deleted znode.
pub(super) fn on_delete(text: &str) -> Result<OnDelete, String> {
    match text {
        "remove" => Ok(OnDelete::Remove),
        "keep" => Ok(OnDelete::Keep),
        _ => Err(format!(
            "{text:?} is nothing to do on deletion; write remove or keep"
        )),
    }
}

/// What to do with a file of which nobody knows whether it is current.
pub(super) fn on_disconnect(text: &str) -> Result<OnDisconnect, String> {
    match text {
        "stale" => Ok(OnDisconnect::Stale),
        "error" => Ok(OnDisconnect::Error),
        _ => Err(format!(
            "{text:?} is nothing to do while ZooKeeper is away; write stale or error"
        )),
    }
}

/// The least that is logged.
pub(super) fn level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not a level; write error, warn, info, debug, trace or off")
    })
}

/// Parts between commas, without the blanks around them and without empty ones.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(|item| item.trim_matches(is_space))
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Parts between commas or blanks.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| c == ',' || is_space(c))
        .filter(|word| !word.is_empty())
}

/// A whole number that is not too large.
pub(super) fn count<T: TryFrom<u64>>(text: &str) -> Option<T> {
    T::try_from(integer(text, 10)?).ok()
}

/// Globs between commas or line breaks, without the blanks around them and without empty ones. A
/// comma in braces is the glob's own, as is whatever follows a backslash.
pub(super) fn patterns(text: &str) -> Result<Vec<String>, String> {
    let mut patterns = vec![String::new()];
    let mut depth = 0_usize;
    let mut is_escaped = false;
    for c in text.chars() {
        if c == '\n' || (c == ',' && depth == 0 && !is_escaped) {
            patterns.push(String::new());
            (depth, is_escaped) = (0, false);
            continue;
        }
        match c {
            _ if is_escaped => {}
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
        if let Some(last) = patterns.last_mut() {
            last.push(c);
        }
    }
    let trimmed = patterns
        .iter()
        .map(|pattern| pattern.trim_matches(is_space));
    let patterns: Vec<_> = trimmed.filter(|pattern| !pattern.is_empty()).collect();
    for pattern in &patterns {
        subtree::check_pattern(pattern)?;
    }
    Ok(patterns.into_iter().map(str::to_owned).collect())
}

/// How many levels below its root a tree has.
pub(super) fn depth(text: &str) -> Result<u32, String> {
    integer(text, 10)
        .and_then(|depth| u32::try_from(depth).ok())
        .ok_or_else(|| {
            format!(
                "{text:?} is no depth; write 0 for the root alone, 1 for its children too, and so \
                 on, or leave it out for all"
            )
        })
}

/// The name of a file in a directory.
pub(super) fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|_| {
        format!("{text:?} is no name of a file; write one of at most 255 bytes, without slashes")
    })
}

/// A znode, with what kazoo takes away: doubled slashes, and those at the end.
pub(super) fn znode(text: &str) -> Result<ZnodePath, String> {
    let components: Vec<_> = text.split('/').filter(|part| !part.is_empty()).collect();
    ZnodePath::parse(&format!("/{}", components.join("/"))).map_err(|error| error.to_string())
}

/// `zk01:2181,zk02:2181/chroot`: the servers, each with its port, and the chroot.
pub(super) fn hosts(text: &str) -> Result<(Vec<String>, Option<ZnodePath>), String> {
    let (servers, chroot) = match text.split_once('/') {
        Some((servers, chroot)) => (servers, Some(chroot)),
        None => (text, None),
    };
    let servers = servers.split(',').map(host).collect::<Result<_, _>>()?;
    let chroot = match chroot {
        Some(chroot) => Some(znode(chroot).map_err(|error| format!("the chroot: {error}"))?),
        None => None,
    };
    Ok((servers, chroot.filter(|path| *path != ZnodePath::root())))
}

/// One server, completed to `name:port`.
fn host(text: &str) -> Result<String, String> {
    // A line break is no blank: the list may be continued on the next line.
    let text = text
        .trim_start_matches(is_space)
        .trim_end_matches(['\n', '\t']);
    if text.is_empty() {
        return Err("a host is missing beside a comma; write zk01:2181,zk02:2181".into());
    }
    if text.ends_with(is_space) {
        return Err(format!(
            "there is a blank after {:?}; write zk01:2181,zk02:2181",
            text.trim_end_matches(is_space)
        ));
    }
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest
            .split_once(']')
            .ok_or_else(|| format!("{text:?} has no closing bracket; write [::1]:2181"))?;
        let plain = address.split_once('%').map_or(address, |(plain, _)| plain);
        if plain.parse::<Ipv6Addr>().is_err() || address.contains(is_space) {
            return Err(format!("{text:?} is no IPv6 address; write [::1]:2181"));
        }
        let port = match port.strip_prefix(':') {
            Some(port) => port,
            None if port.is_empty() => port,
            None => return Err(format!("{text:?} is no host; write [::1]:2181")),
        };
        (format!("[{address}]"), port)
    } else {
        let (name, port) = text.split_once(':').unwrap_or((text, ""));
        if port.contains(':') {
            return Err(format!(
                "{text:?} has too many colons; write zk01:2181, or an IPv6 address as [::1]:2181"
            ));
        }
        let bad = name
            .chars()
            .find(|&c| !c.is_alphanumeric() && !matches!(c, '-' | '.' | '_'));
        if name.is_empty() || bad.is_some() {
            return Err(format!("{text:?} is no host; write zk01:2181, for example"));
        }
        (name.to_owned(), port)
    };
    let port = match port {
        "" => DEFAULT_PORT,
        _ if port.bytes().all(|digit| digit.is_ascii_digit()) => port.parse().unwrap_or(0),
        _ => 0,
    };
    if port == 0 {
        return Err(format!(
            "{text:?} has no port from 1 to 65535; write zk01:2181, for example"
        ));
    }
    Ok(format!("{name}:{port}"))
}

/// A whole number as Python's `int(text, base)` takes it, if it is not negative: a prefix `0o` in
/// base 8, single underscores between digits, a plus sign.
fn integer(text: &str, base: u32) -> Option<u64> {
    let text = text.trim_matches(is_space);
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = match text.get(..2) {
        Some("0o" | "0O") if base == 8 => text[2..].strip_prefix('_').unwrap_or(&text[2..]),
        _ => text,
    };
    // An underscore at either end, or two of them, would leave an empty part. So does a sign.
    if digits
        .split('_')
        .any(|part| part.is_empty() || part.contains(['+', '-']))
    {
        return None;
    }
    u64::from_str_radix(&digits.replace('_', ""), base).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_patterns() {
        for (text, expected) in [
            ("", &[][..]),
            (" , \n,", &[]),
            ("a, b/*\n *.x ,,", &["a", "b/*", "*.x"]),
            ("{a,b}/c,d", &["{a,b}/c", "d"]),
            ("{a,{b,c},d},e", &["{a,{b,c},d}", "e"]),
            ("a\\,b,c", &["a\\,b", "c"]),
            ("\\{a,b", &["\\{a", "b"]),
            ("\\\\,b", &["\\\\", "b"]),
        ] {
            let found = patterns(text);
            let expected: Vec<_> = expected.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(found, Ok(expected), "{text:?}");
        }
        // A line break ends a pattern, come what may.
        assert!(patterns("{a,\nb}").is_err());
        assert!(patterns("a}").is_err());
    }

    #[test]
    fn times() {
        for (text, milliseconds) in [
            ("5 seconds", 5000),
            ("1 second", 1000),
            ("250 milliseconds", 250),
            ("1  millisecond", 1),
            ("2 minutes", 120_000),
            ("1 hours", 3_600_000),
            ("1 day", 86_400_000),
            ("1_000 seconds", 1_000_000),
            ("5\nseconds", 5000),
            ("0 seconds", 0),
        ] {
            assert_eq!(
                time(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text:?}"
            );
        }
        for text in [
            "",
            "5",
            "5s",
            "5 sec",
            "seconds 5",
            "5 seconds now",
            "-5 seconds",
            "1.5 seconds",
            "5 Seconds",
            "5 secondss",
            "99999999999999999999 days",
            "9999999999999999999 days",
        ] {
            assert!(time(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_of_bytes() {
        for (text, n_bytes) in [
            ("0", 0),
            ("268435456", 268_435_456),
            ("256 MiB", 256 << 20),
            ("256MiB", 256 << 20),
            ("64 MB", 64_000_000),
            ("64 mb", 64_000_000),
            (" 1_000  kib ", 1_024_000),
            ("2 GiB", 2 << 30),
            ("1 TB", 1_000_000_000_000),
            ("7 B", 7),
            ("1\nKiB", 1024),
        ] {
            assert_eq!(bytes(text), Ok(n_bytes), "{text:?}");
        }
        for text in [
            "",
            "MiB",
            "256 M",
            "256 MiBs",
            "256 Mi B",
            "-1",
            "1.5 GiB",
            "0x10",
            "1 2 MiB",
            "256 seconds",
            "99999999999999999999",
            "99999999999 TiB",
        ] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn modes() {
        for (text, mode_bits) in [
            ("0440", 0o440),
            ("440", 0o440),
            ("0o640", 0o640),
            ("0O640", 0o640),
            ("0o_640", 0o640),
            ("6_40", 0o640),
            ("+640", 0o640),
            (" 640 ", 0o640),
            ("0", 0),
            ("4755", 0o4755),
        ] {
            assert_eq!(mode(text), Ok(mode_bits), "{text:?}");
        }
        for text in [
            "999",
            "",
            "0x1f",
            "-440",
            "rw-r--r--",
            "6__40",
            "_640",
            "640_",
            "0o",
            "10000",
            "+-1",
            "1777777777777777777777777",
        ] {
            assert!(mode(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn ids() {
        for (text, number) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("4294967294", Some(4_294_967_294)),
            ("4294967295", None),
            ("-1", None),
            ("0x10", None),
            ("www-data", None),
        ] {
            assert_eq!(id(text), number, "{text:?}");
        }
    }

    #[test]
    fn servers() {
        let parsed = |text: &str| {
            let (hosts, chroot) = hosts(text).unwrap();
            (hosts.join(" "), chroot.map(|path| path.to_string()))
        };
        for (text, names, chroot) in [
            ("zk01", "zk01:2181", None),
            ("zk01:2182,zk02", "zk01:2182 zk02:2181", None),
            ("zk01, zk02", "zk01:2181 zk02:2181", None),
            ("zk01,\nzk02\n,zk03", "zk01:2181 zk02:2181 zk03:2181", None),
            ("zk01:/a", "zk01:2181", Some("/a")),
            ("zk01/", "zk01:2181", None),
            ("zk01/a//b/", "zk01:2181", Some("/a/b")),
            ("[::1]", "[::1]:2181", None),
            ("[::1]:1,10.0.0.1", "[::1]:1 10.0.0.1:2181", None),
            ("[fe80::1%eth0]:2181", "[fe80::1%eth0]:2181", None),
        ] {
            assert_eq!(
                parsed(text),
                (names.to_owned(), chroot.map(str::to_owned)),
                "{text:?}"
            );
        }
        for text in [
            "", ",", "a,", ",a", "a,,b", "a:1 ,b", "a ,b", "a b", "a:b", "a:0", "a:65536", "a:-1",
            "a:+1", "::1", "[::1", "[::1]x", "[a]", "a/..", "a/b/../c", "/a", "a@b", "a:1 /x",
        ] {
            assert!(hosts(text).is_err(), "{text:?}");
        }
    }
}
