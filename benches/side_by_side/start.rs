//! Starting, and how all costs grow with the number of nodes.

use std::fs;

use rustix::process::Signal;

use crate::latency::Changes;
use crate::memory;
use crate::outages;
use crate::programs::{self, Few, Helper, Incumbent, Program, config};
use crate::reader::now;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::table::{Plot, Report, Row, median};

/// The first load of 100 000 nodes on a busy machine takes longer than one usually waits.
const WAIT: [&str; 2] = ["--wait", "120s"];

/// The most nodes that the incumbent is started with: it takes a millisecond for each.
const MOST_OF_INCUMBENT: usize = 10_000;

const TOO_MANY: &str = "incumbent: not measured, it takes minutes to start with so many";

/// A figure of ours for each number of nodes.
type Growth = Vec<(usize, f64)>;

/// Start, memory, reload and re-sync for each of these numbers of nodes.
pub fn growth(report: &mut Report, sizes: &[usize], runs: usize, idle_seconds: u64) {
    let server = programs::server();
    let admin = Admin::connect(server.hosts());
    admin.create("/grow", "");
    let (mut start, mut reload, mut again) = (Growth::new(), Growth::new(), Growth::new());
    let mut memory = Growth::new();
    let mut points = [const { Vec::new() }; 3];
    let mut n_there = 0;
    for &n in sizes {
        // One more, which a reload adds.
        programs::create_more(&admin, "/grow", n_there..n + 1, 1 << 10);
        n_there = n + 1;
        let mut world = World::start(&server.hosts(), n);
        let runs = match n {
            ..=1000 => runs,
            1001..=MOST_OF_INCUMBENT => runs.min(3),
            _ => runs.min(2),
        };
        let samples = world.starts(runs);
        for (points, samples) in points.iter_mut().zip(&samples) {
            if !samples.is_empty() {
                points.push((n as f64, median(samples)));
            }
        }
        let of = |what: &str| format!("{what}, {}", nodes(n));
        let row = compared(of("start"), "s", &samples);
        let mark = match n {
            1 => Some(0.05),
            10_000 => Some(0.8),
            _ => None,
        };
        report.row(grown(row, mark, &mut start, n, median(&samples[0])));

        let mib = world.each(|program| programs::usage(&program.processes()).mib);
        let mut row = Row::new(of("memory"), "MiB", mib[0]).floor(n as f64 / 1024.0);
        if let Some(incumbent) = mib.get(1) {
            row = row.incumbent(*incumbent);
        }
        let mark = match n {
            1 => Some(12.0),
            10_000 => Some(35.0),
            _ => None,
        };
        report.row(grown(row, mark, &mut memory, n, mib[0]));
        if n == sizes[sizes.len() - 1].min(10_000) {
            memory::idle(report, n, &world.programs(), idle_seconds);
        }

        let took = world.reloads(runs);
        let row = Row::new(of("reload that adds one node"), "s", median(&took));
        let row = row.samples("ours", &took);
        report.row(grown(row, None, &mut reload, n, median(&took)));
        drop(world);

        let took = outages::resync(&server, &admin, "/grow", n, runs);
        let row = Row::new(
            of("re-sync after a cut, each hundredth changed"),
            "s",
            median(&took),
        );
        let row = row.samples("ours", &took);
        report.row(grown(row, None, &mut again, n, median(&took)));
    }
    for (name, points) in ["ours", "incumbent", "floor"].iter().zip(points) {
        report.curve(Plot::Start, *name, points);
    }
}

/// One change where there is one node, and where there are many.
pub fn one_change(report: &mut Report, n: usize, n_samples: usize) {
    let server = programs::server();
    let admin = Admin::connect(server.hosts());
    programs::create(&admin, "/many", n, 1 << 10);
    programs::create(&admin, "/one", 1, 1 << 10);
    let mut changes = Changes::start(&server.hosts());
    let mounts = [("/one", 1), ("/many", n)]
        .map(|(prefix, n)| (prefix, n, programs::ours(&server.hosts(), prefix, n)));
    let mut samples = [const { Vec::new() }; 2];
    for seq in ((n + 1) as u64..).take(n_samples) {
        for (samples, (prefix, n, mount)) in samples.iter_mut().zip(&mounts) {
            let at = fastrand::usize(..*n);
            let znode = format!("{prefix}/n{at}");
            samples.push(changes.until_file(&znode, &mount.file(at), (seq, 1 << 10)));
        }
    }
    let [one, many] = &samples;
    report.row(
        Row::new(
            format!("set to readable with {n} nodes, p50"),
            "ms",
            median(many),
        )
        .at_most_times(1.1, median(one), "ours at 1 node")
        .samples("1 node", one)
        .samples("many", many),
    );
}

/// Ours, and the incumbent once it is started; not where there are too many nodes.
struct World {
    hosts: String,
    n: usize,
    reader: Helper,
    ours: Mount,
    incumbent: Option<Incumbent>,
}

impl World {
    fn start(hosts: &str, n: usize) -> Self {
        Self {
            hosts: hosts.into(),
            n,
            reader: Helper::reader(),
            ours: programs::ours(hosts, "/grow", n),
            incumbent: None,
        }
    }

    fn programs(&self) -> Vec<&dyn Program> {
        let incumbent = self
            .incumbent
            .as_ref()
            .map(|incumbent| incumbent as &dyn Program);
        [&self.ours as &dyn Program]
            .into_iter()
            .chain(incumbent)
            .collect()
    }

    fn each<T>(&self, what: impl Fn(&dyn Program) -> T) -> Vec<T> {
        self.programs().into_iter().map(what).collect()
    }

    /// Starts each of them some times, in turn, and gives the seconds until all is readable.
    fn starts(&mut self, runs: usize) -> [Vec<f64>; 3] {
        let mut samples = [const { Vec::new() }; 3];
        let since = |start: u64, end: u64| (end - start) as f64 / 1e9;
        for _ in 0..runs {
            self.ours.signal(Signal::TERM);
            assert_eq!(self.ours.wait(), Some(0));
            let start = now();
            // It is mounted when all is there, and then it says so.
            self.ours.start_again(&WAIT);
            self.reader
                .ask(format!("see {} 0", self.ours.file(self.n - 1).display()));
            samples[0].push(since(start, now()));
            self.reader.follow(&self.ours, Few::all(self.n), 0);

            if self.n <= MOST_OF_INCUMBENT {
                self.incumbent = None;
                let start = now();
                let incumbent = Incumbent::spawn(&self.hosts, "/grow", self.n);
                let right = self.reader.follow(&incumbent, Few::all(self.n), 0);
                samples[1].push(since(start, *right.iter().max().unwrap()));
                self.incumbent = Some(incumbent);
            }

            let start = now();
            let mut floor = Helper::watcher(&self.hosts, "/grow", self.n);
            assert_eq!(floor.hear(), "ready");
            samples[2].push(since(start, now()));
        }
        samples
    }

    /// Adds a node to the configuration, and takes it away again; gives the seconds until the file
    /// is there.
    fn reloads(&mut self, runs: usize) -> Vec<f64> {
        let [without, with] = [0, 1].map(|more| config(&self.hosts, "/grow", self.n + more, ""));
        let added = self.ours.file(self.n);
        let took = (0..runs).map(|_| {
            fs::write(self.ours.config(), &with).unwrap();
            let start = now();
            self.ours.signal(Signal::HUP);
            self.reader.say(format!("see {} 0", added.display()));
            let took = (self.reader.number() - start) as f64 / 1e9;
            fs::write(self.ours.config(), &without).unwrap();
            self.ours.signal(Signal::HUP);
            self.ours.wait_until_gone(&format!("n{}", self.n));
            took
        });
        took.collect()
    }
}

/// Sets the mark: that of the design, or that the costs grow with the nodes and no faster.
fn grown(row: Row, mark: Option<f64>, growth: &mut Growth, n: usize, figure: f64) -> Row {
    let before = growth.last().copied();
    growth.push((n, figure));
    match (mark, before) {
        (Some(mark), _) => row.at_most(mark),
        (None, Some((fewer, had))) if n > 10_000 => {
            let times = 1.2 * (n / fewer) as f64;
            row.at_most_times(times, had, &format!("ours at {fewer}"))
                .note(TOO_MANY)
        }
        _ => row,
    }
}

/// A row of medians: ours, the incumbent where it was measured, the floor.
fn compared(what: String, unit: &'static str, samples: &[Vec<f64>; 3]) -> Row {
    let mut row = Row::new(what, unit, median(&samples[0])).samples("ours", &samples[0]);
    if !samples[1].is_empty() {
        row = row
            .incumbent(median(&samples[1]))
            .samples("incumbent", &samples[1]);
    }
    row.floor(median(&samples[2])).samples("floor", &samples[2])
}

fn nodes(n: usize) -> String {
    format!("{n} node{}", if n == 1 { "" } else { "s" })
}
