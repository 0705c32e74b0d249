//! The server's part of the status.

use std::os::fd::AsFd;

use super::configuration::memory;
use super::files::Progress;
use super::{Error, Server, first, keeping};
use crate::config::dropins::Listed;
use crate::processes::ToKeeper;
use crate::source::zookeeper;

impl Server {
    /// The server's part of the status.
    pub(super) fn tell_status(&self) -> Result<(), Error> {
        let Progress {
            n_answered,
            n_files,
            n_stale,
            n_nodes,
            ..
        } = self.desk.lock().files.progress();
        let unreadable = self.desk.lock().files.unreadable();
        let left_out = self.desk.lock().files.left_out();
        let garbled = zookeeper::garbled();
        let status = serde_json::json!({
            "complaints": self.complaints(n_stale, &unreadable),
            "nodes": n_nodes,
            "dropins": self.config.dropins.iter().map(Listed::json).collect::<Vec<_>>(),
            "answered": n_answered,
            "files": n_files,
            "stale": n_stale,
            "unreadable": first(&unreadable).collect::<Vec<_>>(),
            "left_out": first(&left_out).collect::<Vec<_>>(),
            "cache": keeping::status(self.cache.as_deref()),
            "links": self.linking.status(),
            "zookeeper": self.desk.lock().files.disconnected().unwrap_or("connected"),
            "repaired_by_audit": self.desk.lock().files.n_repaired(),
            "garbled_replies": garbled.n,
            "last_garbled_reply": garbled.last,
            "inodes": self.reader.n_inodes(),
            "inherited_inodes": self.reader.inherited().len(),
            "requests": self.requests.get(),
        });
        match memory("status", status.to_string().as_bytes()) {
            Ok(memory) => self
                .keeper
                .send(&ToKeeper::Status, &[memory.as_fd()])
                .map_err(|_| Error::KeeperGone),
            Err(err) => {
                log::warn!("no memory for the status: {err}");
                Ok(())
            }
        }
    }

    /// What is not as it should be, in words.
    pub(super) fn complaints(&self, n_stale: usize, unreadable: &[String]) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Some(reason) = self.desk.lock().files.disconnected() {
            complaints.push(format!("ZooKeeper is not reached: {reason}"));
        }
        if n_stale > 0 {
            complaints.push(format!("{n_stale} files may be old"));
        }
        if !unreadable.is_empty() {
            complaints.push(format!("{} nodes cannot be read", unreadable.len()));
        }
        let wrong = self
            .config
            .dropins
            .iter()
            .filter(|dropin| dropin.error.is_some());
        match wrong.count() {
            0 => {}
            1 => complaints.push("1 drop-in is wrong".into()),
            n => complaints.push(format!("{n} drop-ins are wrong")),
        }
        complaints.extend(keeping::complaint(self.cache.as_deref()));
        complaints.extend(self.linking.complaint());
        complaints
    }
}
