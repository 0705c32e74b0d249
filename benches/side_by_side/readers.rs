//! What reading costs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::programs::{self, Helper, Incumbent, Program};
use crate::support::admin::Admin;
use crate::table::{Plot, Report, Row, median};

/// The sizes, what the table calls them, and the mark for a warm read in times of tmpfs.
const SIZES: [(usize, &str, f64); 3] = [
    (1 << 10, "1 KiB", 1.45),
    (100 << 10, "100 KiB", 1.05),
    // The largest value that a server takes is a bit less than 1 MiB.
    ((1 << 20) - 1024, "1 MiB", 1.0),
];

/// How many nanoseconds a batch is about as long as.
const BATCH: u64 = 4_000_000;

/// Warm open, read and close, and warm stat; and how many requests they made.
pub fn warm(report: &mut Report, rounds: usize) {
    let server = programs::server();
    let admin = Admin::connect(server.hosts());
    admin.create("/warm", "");
    let memory = programs::tmpfs();
    for (at, (size, ..)) in SIZES.into_iter().enumerate() {
        let value = programs::value(at as u64, size);
        fs::write(memory.path().join(format!("n{at}")), &value).unwrap();
        admin.create(&format!("/warm/n{at}"), &value);
    }
    let mut reader = Helper::reader();
    let mount = programs::ours(&server.hosts(), "/warm", SIZES.len());
    let incumbent = Incumbent::start(&server.hosts(), "/warm", SIZES.len(), &mut reader);
    let directories = [
        mount.directory(),
        incumbent.directory(),
        memory.path().to_owned(),
    ];
    let mut take = |what: &str, at: usize, n: u64| {
        let mut samples = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            for (samples, directory) in samples.iter_mut().zip(&directories) {
                let path = directory.join(format!("n{at}"));
                let took: f64 = reader
                    .ask(format!("{what} {} {n}", path.display()))
                    .parse()
                    .unwrap();
                samples.push(took / 1000.0);
            }
        }
        samples
    };
    // Nothing is cold any more after the first rounds, and nothing is asked again.
    for at in 0..SIZES.len() {
        take("warm", at, 3);
        take("stat", at, 3);
    }
    let before = programs::requests(&mount);
    let mut n_reads = 0;
    let mut points = [const { Vec::new() }; 3];
    for (at, (size, name, mark)) in SIZES.into_iter().enumerate() {
        // About 3 microseconds, and 60 picoseconds for each byte.
        let n = BATCH / (3000 + size as u64 * 6 / 100);
        let samples = take("warm", at, n);
        n_reads += n * rounds as u64;
        for (points, samples) in points.iter_mut().zip(&samples) {
            points.push((size as f64, median(samples)));
        }
        report.row(
            compared(format!("warm open+read+close, {name}"), "us", &samples).at_most_floor(mark),
        );
    }
    let n = BATCH / 1200;
    let samples = take("stat", 0, n);
    n_reads += n * rounds as u64;
    let asked = programs::requests(&mount) - before;
    report.row(compared("warm stat".into(), "us", &samples).at_most_floor(1.2));
    let what = format!("requests of {n_reads} warm reads and stats");
    report.row(Row::new(what, "", asked as f64).at_most(0.0));
    for (name, points) in ["ours", "incumbent (a file on a disk)", "tmpfs"]
        .iter()
        .zip(points)
    {
        report.curve(Plot::Readers, *name, points);
    }
}

/// `ls -l` of many files.
pub fn list(report: &mut Report, n: usize, rounds: usize) {
    let server = programs::server();
    programs::create(&Admin::connect(server.hosts()), "/list", n, 1 << 10);
    let mount = programs::ours(&server.hosts(), "/list", n);
    let memory = programs::tmpfs();
    let disk = tempfile::tempdir_in(programs::scratch()).unwrap();
    for directory in [memory.path(), disk.path()] {
        for at in 0..n {
            fs::write(
                directory.join(format!("n{at}")),
                programs::value(0, 1 << 10),
            )
            .unwrap();
        }
    }
    let mut samples = [const { Vec::new() }; 3];
    let directories = [&mount.root(), disk.path(), memory.path()];
    for round in 0..rounds + 2 {
        for (samples, directory) in samples.iter_mut().zip(directories) {
            let took = list_once(directory);
            if round >= 2 {
                samples.push(took);
            }
        }
    }
    let row = compared(format!("ls -l of {n} files, warm"), "ms", &samples).at_most_floor(1.0);
    report.row(row.note("incumbent: as many plain files on a disk, which is what it leaves there"));
}

fn list_once(directory: &Path) -> f64 {
    let start = Instant::now();
    let mut ls = Command::new("ls");
    ls.arg("-l").arg(directory).env("LC_ALL", "C");
    // Not to /dev/null, where some would do less.
    let listed = ls.stdout(Stdio::piped()).output().unwrap();
    assert!(listed.status.success());
    start.elapsed().as_secs_f64() * 1000.0
}

/// The first open, read and close after a change.
pub fn first(report: &mut Report, rounds: u64) {
    let server = programs::server();
    let admin = Admin::connect(server.hosts());
    for prefix in ["/ours", "/incumbent"] {
        programs::create(&admin, prefix, SIZES.len(), 1 << 10);
    }
    let mut reader = Helper::reader();
    let mut setter = Helper::setter(&server.hosts());
    let mount = programs::ours(&server.hosts(), "/ours", SIZES.len());
    let incumbent = Incumbent::start(&server.hosts(), "/incumbent", SIZES.len(), &mut reader);
    let memory = programs::tmpfs();
    for (at, (size, name, _)) in SIZES.into_iter().enumerate() {
        let mut samples = [const { Vec::new() }; 3];
        for round in 1..=rounds {
            let programs: [&dyn Program; 2] = [&mount, &incumbent];
            for (samples, program) in samples.iter_mut().zip(programs) {
                let heard = reader.ask(format!("first {}", program.file(at).display()));
                assert_eq!(heard, "watching");
                setter.set(&format!("/{}/n{at}", program.name()), round, size);
                samples.push(reader.number() as f64 / 1000.0);
            }
            let (file, staged) = (memory.path().join("n"), memory.path().join("staged"));
            assert_eq!(reader.ask(format!("first {}", file.display())), "watching");
            fs::write(&staged, programs::value(round, size)).unwrap();
            fs::rename(&staged, &file).unwrap();
            samples[2].push(reader.number() as f64 / 1000.0);
        }
        report.row(compared(
            format!("first read after a change, {name}"),
            "us",
            &samples,
        ));
    }
}

/// A row of medians: ours, the incumbent, the floor.
fn compared(what: String, unit: &'static str, samples: &[Vec<f64>; 3]) -> Row {
    let [ours, incumbent, floor] = samples;
    Row::new(what, unit, median(ours))
        .incumbent(median(incumbent))
        .floor(median(floor))
        .samples("ours", ours)
        .samples("incumbent", incumbent)
        .samples("floor", floor)
}
