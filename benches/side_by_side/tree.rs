//! A tree of many znodes.

use rustix::process::Signal;

use crate::latency::{Changes, Floor};
use crate::programs::{self, Few, Program};
use crate::reader::now;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::table::{Report, Row, median};

/// How long a value is: as that of a service that registers itself.
const SIZE: usize = 128;

/// Directories of as many leaves: start, memory, one change, and a subtree that is created.
pub fn tree(report: &mut Report, directories: usize, leaves: usize, runs: usize, n_samples: usize) {
    let server = programs::server();
    let admin = Admin::connect(server.hosts());
    admin.create("/tree", "");
    programs::create(&admin, "/floor", 1, SIZE);
    for directory in 0..directories {
        programs::create(&admin, &format!("/tree/d{directory}"), leaves, SIZE);
    }
    let config = format!(
        "[live-data]\nzookeeper.hosts = {}\ntrees.t.source = /tree\ntrees.t.dest = t\n",
        server.hosts()
    );
    let wait = ["--wait", "120s"];
    let mut changes = Changes::start(&server.hosts());
    let mut mount = Mount::start_with(&config, &wait);
    let below = |mount: &Mount, directory: &str| Below(mount.path("t").join(directory));
    let mut starts = Vec::new();
    for _ in 0..runs {
        mount.signal(Signal::TERM);
        assert_eq!(mount.wait(), Some(0));
        let start = now();
        mount.start_again(&wait);
        let last = below(&mount, &format!("d{}", directories - 1)).file(leaves - 1);
        changes.reader.ask(format!("see {} 0", last.display()));
        starts.push((now() - start) as f64 / 1e9);
    }
    for directory in 0..directories {
        changes.reader.follow(
            &below(&mount, &format!("d{directory}")),
            Few::all(leaves),
            0,
        );
    }
    let n = directories * leaves;
    let of = |what: &str| format!("tree of {n} znodes: {what}");
    let row = Row::new(of("start"), "s", median(&starts)).samples("ours", &starts);
    report.row(row.note("incumbent: has no trees"));
    let mib = programs::usage(&Program::processes(&mount)).mib;
    report.row(Row::new(of("memory"), "MiB", mib).floor((n * SIZE) as f64 / f64::from(1 << 20)));

    let mut floor = Floor::start(&server.hosts(), "/floor", 1);
    let mut samples = [const { Vec::new() }; 2];
    for seq in (leaves as u64..).take(n_samples) {
        let (directory, at) = (fastrand::usize(..directories), fastrand::usize(..leaves));
        let directory = format!("d{directory}");
        let file = below(&mount, &directory).file(at);
        let znode = format!("/tree/{directory}/n{at}");
        samples[0].push(changes.until_file(&znode, &file, (seq, SIZE)));
        samples[1].push(changes.until_floor("/floor/n0", &mut floor, (seq, SIZE)));
    }
    let [ours, at_floor] = &samples;
    report.row(
        Row::new(of("set to readable, p50"), "ms", median(ours))
            .floor(median(at_floor))
            .samples("ours", ours)
            .samples("floor", at_floor),
    );

    let n_new = leaves.min(1000);
    let mut late = Vec::new();
    for run in 0..runs {
        let directory = format!("new{run}");
        let parent = format!("/tree/{directory}");
        admin.create(&parent, "");
        changes
            .reader
            .start_follow(&below(&mount, &directory), Few::all(n_new), 0);
        programs::create_more(&admin, &parent, 0..n_new, SIZE);
        let acknowledged = now();
        let right = changes.reader.numbers().into_iter().max().unwrap();
        late.push(right.saturating_sub(acknowledged) as f64 / 1e6);
    }
    let what = of(&format!(
        "{n_new} created, right after the last acknowledgement"
    ));
    report.row(Row::new(what, "ms", median(&late)).samples("ours", &late));
}

/// A directory in the mount.
struct Below(std::path::PathBuf);

impl Program for Below {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn directory(&self) -> std::path::PathBuf {
        self.0.clone()
    }

    fn processes(&self) -> Vec<rustix::process::Pid> {
        Vec::new()
    }
}
