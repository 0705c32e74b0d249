//! How soon a change is readable.

use std::fs;

use crate::plots::distribution;
use crate::programs::{self, Few, Helper, Incumbent, Program};
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::wire;
use crate::support::zookeeper::Server;
use crate::table::{Plot, Report, Row, median, quantile};

/// What changes are sent to, each with znodes of its own on one server.
struct World {
    server: Server,
    setter: Helper,
    reader: Helper,
    ours: Mount,
    incumbent: Incumbent,
    floor: Helper,
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
        let mut reader = Helper::reader();
        let hosts = server.hosts();
        let mut floor = Helper::watcher(&hosts, "/floor", n);
        assert_eq!(floor.hear(), "ready");
        Self {
            setter: Helper::setter(&hosts),
            ours: programs::ours(&hosts, "/ours", n),
            incumbent: Incumbent::start(&hosts, "/incumbent", n, &mut reader),
            reader,
            floor,
            server,
            n,
            seq: n as u64,
        }
    }

    fn programs(&self) -> [&dyn Program; 2] {
        [&self.ours, &self.incumbent]
    }

    /// From the set of one znode to its file, in ms.
    fn set_to_readable(&mut self, which: usize, size: usize) -> f64 {
        self.seq += 1;
        let at = fastrand::usize(..self.n);
        let program = [&self.ours as &dyn Program, &self.incumbent][which];
        let (file, name) = (program.file(at), program.name());
        self.reader
            .say(format!("see {} {}", file.display(), self.seq));
        let [sent, _] = self.setter.set(&format!("/{name}/n{at}"), self.seq, size);
        (self.reader.number() - sent) as f64 / 1e6
    }

    /// From the set of one znode to its value in the C client, in ms. A reader looks at a file
    /// meanwhile, `beside` the matter, as one does for the others.
    fn set_to_value(&mut self, size: usize, beside: &std::path::Path) -> f64 {
        self.seq += 1;
        let at = fastrand::usize(..self.n);
        self.reader
            .say(format!("see {} {}", beside.display(), self.seq));
        let [sent, _] = self.setter.set(&format!("/floor/n{at}"), self.seq, size);
        let [node, seq, arrived] = self.floor.numbers()[..] else {
            panic!("three numbers")
        };
        assert_eq!((node, seq), (at as u64, self.seq));
        fs::write(beside, programs::value(self.seq, 16)).unwrap();
        self.reader.number();
        (arrived - sent) as f64 / 1e6
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
        self.setter.say(order);
        let right = match program {
            Some(program) => {
                assert_eq!(self.setter.hear(), "last-round");
                let times = self.reader.follow(program, Few::all(self.n), last);
                *times.iter().max().unwrap()
            }
            // It tells all the time, and must be heard.
            None => {
                let right = self.last_of_floor(last);
                assert_eq!(self.setter.hear(), "last-round");
                right
            }
        };
        let heard = self.setter.hear();
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
            let [node, seq, arrived] = self.floor.numbers()[..] else {
                panic!("three numbers")
            };
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
    let memory = programs::tmpfs();
    let beside = memory.path().join("beside");
    let mut samples = [const { Vec::new() }; 3];
    let mut before = [0.0; 2];
    let warm_up = 20;
    for round in 0..n_samples + warm_up {
        if round == warm_up {
            before = programs::cpu_of(world.programs());
            samples = [const { Vec::new() }; 3];
        }
        samples[0].push(world.set_to_readable(0, size));
        samples[1].push(world.set_to_readable(1, size));
        samples[2].push(world.set_to_value(size, &beside));
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
    let memory = programs::tmpfs();
    let beside = memory.path().join("beside");
    let figures = [0, 1, 2].map(|which| {
        let before = received();
        for _ in 0..n_changes {
            match which {
                2 => world.set_to_value(1 << 10, &beside),
                _ => world.set_to_readable(which, 1 << 10),
            };
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
