//! Any bytes as a configuration, and as a drop-in.

use std::path::Path;

use livedata::config::dropin::parse_dropin;
use livedata::config::dropins::Dropins;
use livedata::config::{Config, Surroundings, check};

/// Reads the bytes as both. There is an answer, it is the same each time, and what is wrong is said
/// in single lines.
pub fn config(bytes: &[u8]) {
    let surroundings = Surroundings {
        mountpoint: Some(Path::new("/mnt/live")),
        variable: &|name| (name.len() < 4).then(|| "${A}$B,:/[x]\n= 1".into()),
        uid: 1234,
        gid: 5678,
        cache_dir: None,
        user: &|name| match name {
            "unknown" => Err(std::io::ErrorKind::TimedOut.into()),
            name => Ok((name == "root").then_some(0)),
        },
        group: &|name| Ok((name == "root").then_some(0)),
        account: &|_, _| Ok(None),
    };
    let parse = |bytes: &[u8]| Config::parse(Path::new("live.ini"), bytes, &surroundings);
    if let Err(error) = parse(bytes) {
        is_one_line(&error.to_string());
    }
    // With the one line that must be there more of it counts.
    let whole = [b"zookeeper.hosts = zk01\n", bytes].concat();
    let config = match parse(&whole) {
        Ok(config) => config,
        Err(error) => return is_one_line(&error.to_string()),
    };
    for problem in &config.problems {
        is_one_line(&problem.to_string());
    }
    assert!(parse(&whole).is_ok_and(|again| again == config));
    let mut dropins = Dropins::new("mount.d".into());
    let _ = parse_dropin(Path::new("a.ini"), bytes, &config.defaults, &surroundings);
    let _ = dropins.take("a.ini", bytes, &config.defaults, &surroundings);
    let joined = dropins.join(&config);
    check::table(&joined);
    check::json(&joined);
}

fn is_one_line(message: &str) {
    assert!(!message.contains(char::is_control), "{message:?}");
}
