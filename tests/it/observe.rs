//! What a mount tells of itself: `.livedata/`, `livedata-fuse status`, alerts.

mod alerts;
mod commands;
mod directory;
mod states;
mod takeover;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use livedata::status::{Node, State, Status};

use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::wait_for;

impl Mount {
    /// A file of the status directory.
    fn told_by(&self, file: &str) -> PathBuf {
        self.path(".livedata").join(file)
    }

    /// What `status.json` says, opened now.
    #[track_caller]
    fn status_json(&self) -> Status {
        let text = fs::read(self.told_by("status.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[track_caller]
    fn wait_for_status(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        wait_for(SOON, what, || Some(self.status_json()).filter(&is))
    }

    /// What `metrics.prom` says: the samples by metric and labels, without the mountpoint.
    #[track_caller]
    fn metrics(&self) -> BTreeMap<String, f64> {
        let text = fs::read_to_string(self.told_by("metrics.prom")).unwrap();
        let mountpoint = format!("mountpoint=\"{}\"", self.root().display());
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.contains(&mountpoint), "{line}");
                let name = name.replace(&mountpoint, "").replace("{,", "{");
                (name.replace("{}", ""), value.parse().unwrap())
            })
            .collect()
    }
}

/// All of a file through its descriptor: as much as fstat(2) says, and no more.
#[track_caller]
fn text(file: &File) -> Vec<u8> {
    let size = file.metadata().unwrap().len() as usize;
    let mut text = vec![0; size + 1];
    let mut n = 0;
    while n < text.len() {
        match file.read_at(&mut text[n..], n as u64).unwrap() {
            0 => break,
            n_read => n += n_read,
        }
    }
    assert_eq!(n, size, "the size is not exact");
    text.truncate(n);
    text
}

#[track_caller]
fn node<'a>(status: &'a Status, name: &str) -> &'a Node {
    let mut nodes = status.nodes.iter();
    nodes.find(|node| node.name == name).unwrap()
}

fn state(status: &Status, name: &str) -> State {
    node(status, name).state
}
