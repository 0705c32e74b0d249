//! What is built on inotify.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::inotify::WatchFlags;

use super::events::Watcher;
use crate::files::config;
use crate::support::mount::Mount;
use crate::support::process;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;

/// Prints what happens in a directory.
const WATCHDOG: &str = "
import sys
from watchdog.events import FileSystemEventHandler
from watchdog.observers.inotify import InotifyObserver
class Prints(FileSystemEventHandler):
    def on_any_event(self, event):
        if event.event_type in ('created', 'modified', 'moved', 'deleted') and not event.is_directory:
            path = event.dest_path or event.src_path
            print(event.event_type, path, flush=True)
observer = InotifyObserver()
observer.schedule(Prints(), sys.argv[1], recursive=True)
observer.start()
print('started', flush=True)
sys.stdin.read()
observer.stop()
observer.join()
";

#[test]
fn python_watchdog_sees_changes() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    assert!(python.exists(), "run tests/setup.sh");
    let sandbox = Sandbox::new("watchdog");
    sandbox.admin.create("/a", "0");
    let nodes = "nodes.a.source = /a\nnodes.a.dest = dir/a";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let mut command = process::bound_to_us(python.to_str().unwrap(), "KILL");
    command
        .args(["-c", WATCHDOG])
        .arg(mount.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = process::spawn(command);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            drop(tell.send(line));
        }
    });
    let next = || told.recv_timeout(SOON).expect("watchdog tells something");
    assert_eq!(next(), "started");
    let path = mount.path("dir/a").display().to_string();
    for n in 1..=3 {
        let content = n.to_string();
        sandbox.admin.set("/a", &content);
        // It calls a file moved to from where it does not look created.
        assert_eq!(next(), format!("created {path}"));
        assert_eq!(mount.read("dir/a").unwrap(), content.as_bytes());
    }
    sandbox.admin.delete("/a");
    assert_eq!(next(), format!("deleted {path}"));
    drop(child.stdin.take());
    assert!(process::wait(&mut child, Duration::from_secs(10)).is_some());
}

/// What `PathChanged=` of systemd does (`path_spec_watch`): watches the file, and each directory
/// above it for its name, anew after each change.
struct PathUnit {
    path: PathBuf,
    watcher: Watcher,
}

impl PathUnit {
    fn new(path: PathBuf) -> Self {
        let watcher = Self::arm(&path);
        Self { path, watcher }
    }

    fn arm(path: &Path) -> Watcher {
        let changed = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ATTRIB;
        let parent = WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::DELETE_SELF;
        let mut watcher = Watcher::new(None::<&Path>);
        watcher.add(path.parent().unwrap(), parent | WatchFlags::MOVE_SELF);
        if path.exists() {
            watcher.add(path, changed | WatchFlags::CLOSE_WRITE);
        }
        watcher
    }

    /// Waits until it fires.
    #[track_caller]
    fn fires(&mut self) {
        let name = self.path.file_name().unwrap().to_str().unwrap();
        self.watcher.until(|events| {
            let of_file = events.iter().any(|event| event.watch == 1);
            of_file || events.iter().any(|event| event.name == name)
        });
        self.watcher = Self::arm(&self.path);
    }
}

#[test]
fn a_systemd_path_unit_fires_at_each_change() {
    let sandbox = Sandbox::new("path-unit");
    sandbox.admin.create("/a", "0");
    sandbox.admin.create("/marker", "0");
    let nodes = "nodes.a.source = /a\nnodes.marker.source = /marker";
    let mount = Mount::start(&config(&sandbox.hosts(), nodes));
    let mut unit = PathUnit::new(mount.path("a"));
    for n in 1..=50 {
        let content = n.to_string();
        sandbox.admin.set("/a", &content);
        unit.fires();
        assert_eq!(mount.read("a").unwrap(), content.as_bytes());
        // Once, and not for another file.
        sandbox.admin.set("/marker", &content);
        let names: Vec<_> = unit.watcher.until_name("marker");
        assert_eq!(names.len(), 1, "{names:?}");
    }
    sandbox.admin.delete("/a");
    unit.fires();
    wait_until(SOON, "it is gone", || !mount.has("a"));
    sandbox.admin.create("/a", "again");
    unit.fires();
    assert_eq!(mount.read("a").unwrap(), b"again");
}
