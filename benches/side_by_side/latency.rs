//! How soon a change is readable.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::plots::distribution;
use crate::programs::{self, Few, Helper, Incumbent, Program};
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::wire;
use crate::support::zookeeper::Server;
use crate::table::{Plot, Report, Row, median, quantile};

/// Sets one znode at a time and says how long that took to arrive, in ms. The value is a number and
/// a size.
pub struct Changes {
    pub setter: Helper,
    pub reader: Helper,
}

/// The C client, and a file that a reader looks at meanwhile: it loads the machine as it does for
/// the others.
pub struct Floor {
    watcher: Helper,
    beside: TempDir,
}

impl Changes {
    pub fn start(hosts: &str) -> Self {
        Self {
            setter: Helper::setter(hosts),
            reader: Helper::reader(),
        }
    }

    /// From the set to the file.
    pub fn until_file(&mut self, znode: &str, file: &Path, (seq, size): (u64, usize)) -> f64 {
        self.reader.say(format!("see {} {seq}", file.display()));
        let [sent, _] = self.setter.set(znode, seq, size);
        (self.reader.number() - sent) as f64 / 1e6
    }

    /// From the set to the value in the C client.
    pub fn until_floor(
        &mut self,
        znode: &str,
        floor: &mut Floor,
        (seq, size): (u64, usize),
    ) -> f64 {
        let beside = floor.beside.path().join("beside");
        self.reader.say(format!("see {} {seq}", beside.display()));
        let [sent, _] = self.setter.set(znode, seq, size);
        let [_, arrived_seq, arrived] = floor.hear();
        assert_eq!(arrived_seq, seq);
        fs::write(beside, programs::value(seq, 16)).unwrap();
        self.reader.number();
        (arrived - sent) as f64 / 1e6
    }
}

impl Floor {
    pub fn start(hosts: &str, prefix: &str, n: usize) -> Self {
        let mut watcher = Helper::watcher(hosts, prefix, n);
        assert_eq!(watcher.hear(), "ready");
        let beside = programs::tmpfs();
        Self { watcher, beside }
    }

    /// Which node has which value, and since when.
    fn hear(&mut self) -> [u64; 3] {
        self.watcher.numbers().try_into().expect("three numbers")
    }
}

/// What changes are sent to, each with znodes of its own on one server.
struct World {
    changes: Changes,
    ours: Mount,
    incumbent: Incumbent,
    floor: Floor,
    server: Server,
    n: usize,
    /// The value that was set last.
    seq: u64,
}

impl World {
    fn start(n: usize, size: usize) -> Self {
        let server = programs::server();
        let admin = Admin::connect(server.hosts());
        for prefix in ["/ours", "/incumbent", "/floor"] {
            programs::create(&admin, prefix, n, size);
        }
        let hosts = server.hosts();
        let mut changes = Changes::start(&hosts);
        Self {
            ours: programs::ours(&hosts, "/ours", n),
            incumbent: Incumbent::start(&hosts, "/incumbent", n, &mut changes.reader),
            floor: Floor::start(&hosts, "/floor", n),
            changes,
            server,
            n,
            seq: n as u64,
        }
    }

    fn programs(&self) -> [&dyn Program; 2] {
        [&self.ours, &self.incumbent]
    }

    /// One change for ours, the incumbent or the floor.
    fn one(&mut self, which: usize, size: usize) -> f64 {
        self.seq += 1;
        let (at, value) = (fastrand::usize(..self.n), (self.seq, size));
        let programs: [&dyn Program; 2] = [&self.ours, &self.incumbent];
        match programs.get(which) {
            Some(program) => {
                let znode = format!("/{}/n{at}", program.name());
                self.changes.until_file(&znode, &program.file(at), value)
            }
            None => self
                .changes
                .until_floor(&format!("/floor/n{at}"), &mut self.floor, value),
        }
    }

    /// Sets all znodes in turn, `total` in all, `rate` a second or all in flight; gives how long
    /// after the last acknowledgement, in ms, each showed its last value, and the CPU seconds.
    fn set_all(&mut self, which: usize, total: usize, rate: usize, size: usize) -> (f64, f64) {
        let first = self.seq + 1;
        self.seq += total as u64;
        let last = self.seq + 1 - self.n as u64;
        let programs: [&dyn Program; 2] = [&self.ours, &self.incumbent];
        let program = programs.get(which).copied();
        let processes = program.map(Program::processes).unwrap_or_default();
        let before = programs::cpu(&processes);
        let prefix = program.map_or("floor", Program::name);
        let order = format!("many /{prefix} {} {first} {total} {rate} {size}", self.n);
        self.changes.setter.say(order);
        let right = match program {
            Some(program) => {
                assert_eq!(self.changes.setter.hear(), "last-round");
                let times = self.changes.reader.follow(program, Few::all(self.n), last);
                *times.iter().max().unwrap()
            }
            // It tells all the time, and must be heard.
            None => {
                let right = self.last_of_floor(last);
                assert_eq!(self.changes.setter.hear(), "last-round");
                right
            }
        };
        let heard = self.changes.setter.hear();
        let acknowledged = heard.strip_prefix("acknowledged ").unwrap();
        let acknowledged: u64 = acknowledged.parse().unwrap();
        let cpu = programs::cpu(&processes) - before;
        (right.saturating_sub(acknowledged) as f64 / 1e6, cpu)
    }

    /// When the C client had every last value.
    fn last_of_floor(&mut self, last: u64) -> u64 {
        let mut missing = vec![true; self.n];
        let mut n_missing = self.n;
        loop {
            let [node, seq, arrived] = self.floor.hear();
            let node = node as usize;
            if seq == last + node as u64 && std::mem::take(&mut missing[node]) {
                n_missing -= 1;
            }
            if n_missing == 0 {
                return arrived;
            }
        }
    }
}

/// One change at a time.
pub fn one(report: &mut Report, n: usize, size: (usize, &str), n_samples: usize) {
    let (size, name) = size;
    let mut world = World::start(n, size);
    let mut samples = [const { Vec::new() }; 3];
    let mut before = [0.0; 2];
    let warm_up = 20;
    for round in 0..n_samples + warm_up {
        if round == warm_up {
            before = programs::cpu_of(world.programs());
            samples = [const { Vec::new() }; 3];
        }
        for (which, samples) in samples.iter_mut().enumerate() {
            samples.push(world.one(which, size));
        }
    }
    let after = programs::cpu_of(world.programs());
    let what = format!("set to readable, {name}, {}", nodes(n));
    let [ours, incumbent, floor] = &samples;
    for (part_name, part, mark) in [("p50", 0.5, 1.0), ("p99", 0.99, 1.1)] {
        let figures = [ours, incumbent, floor].map(|samples| quantile(samples, part));
        let mut row = Row::new(format!("{what}, {part_name}"), "ms", figures[0])
            .incumbent(figures[1])
            .floor(figures[2])
            .at_most_floor(mark);
        if part == 0.5 {
            row = row
                .samples("ours", ours)
                .samples("incumbent", incumbent)
                .samples("floor", floor);
        }
        report.row(row);
    }
    let [ours, incumbent] = [0, 1].map(|at| (after[at] - before[at]) * 1000.0 / n_samples as f64);
    let row = Row::new(format!("CPU for one set, {name}, {}", nodes(n)), "ms", ours);
    report.row(row.incumbent(incumbent));
    if size == 1 << 10 {
        for (name, samples) in ["ours", "incumbent", "floor"].iter().zip(&samples) {
            let name = format!("{name}, {}", nodes(n));
            report.curve(Plot::Latency, name, distribution(samples));
        }
    }
}

/// How many requests a change costs the server.
pub fn requests(report: &mut Report, n_changes: u64) {
    let mut world = World::start(1, 1 << 10);
    let address = world.server.address();
    let received = || {
        let answer = wire::four_letters(address, "mntr").unwrap();
        let line = answer
            .lines()
            .find_map(|line| line.strip_prefix("zk_packets_received\t"));
        line.unwrap().trim().parse::<f64>().unwrap()
    };
    let figures = [0, 1, 2].map(|which| {
        let before = received();
        for _ in 0..n_changes {
            world.one(which, 1 << 10);
        }
        // Without the sets themselves.
        (received() - before) / n_changes as f64 - 1.0
    });
    report.row(
        Row::new("requests for one change, at the server", "", figures[0])
            .incumbent(figures[1])
            .floor(figures[2])
            .note("with the pings of all sessions, so a bit more than a whole number"),
    );
}

/// Many changes a second for some seconds.
pub fn burst(report: &mut Report, n: usize, rate: usize, seconds: usize, rounds: usize) {
    let mut world = World::start(n, 1 << 10);
    let mut late = [const { Vec::new() }; 3];
    let mut cpu = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for which in 0..3 {
            let (after, used) = world.set_all(which, rate * seconds, rate, 1 << 10);
            late[which].push(after);
            cpu[which].push(used);
        }
    }
    let what = format!("{rate} sets/s for {seconds} s over {n} nodes");
    let row = Row::new(
        format!("{what}: right after the last acknowledgement"),
        "ms",
        median(&late[0]),
    );
    report.row(
        row.incumbent(median(&late[1]))
            .floor(median(&late[2]))
            .at_most(20.0),
    );
    let row = Row::new(format!("{what}: CPU"), "s", median(&cpu[0])).incumbent(median(&cpu[1]));
    // The mark is for ten seconds.
    report.row(row.at_most(4.0 * seconds as f64 / 10.0));
}

/// Every node once, all at the same time.
pub fn pipelined(report: &mut Report, n: usize, rounds: usize) {
    let mut world = World::start(n, 1 << 10);
    let mut late = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for (which, late) in late.iter_mut().enumerate() {
            late.push(world.set_all(which, n, 0, 1 << 10).0 / 1000.0);
        }
    }
    let what = format!("{n} nodes each set once, pipelined: right after the last acknowledgement");
    let row = Row::new(what, "s", median(&late[0]));
    report.row(
        row.incumbent(median(&late[1]))
            .floor(median(&late[2]))
            .at_most(0.3),
    );
}

fn nodes(n: usize) -> String {
    format!("{n} node{}", if n == 1 { "" } else { "s" })
}
