//! Ours, the incumbent and the floor, side by side in one run: Baseplate's watcher, and the C client
//! of ZooKeeper or plain files in memory. They take turns, so that the noise of the machine is
//! theirs in equal parts; a claim about speed is a ratio of two figures of one run.
//!
//! Run by `make bench`; ARGS=--quick does everything with small sizes in two minutes, and other
//! words choose the parts that have them in their names. Prints a table, and leaves results.json
//! and plots in target/bench.

// What fails ends its part of the benchmark.
#![allow(clippy::unwrap_used, unreachable_pub, dead_code, missing_docs)]

mod latency;
mod memory;
mod outages;
mod plots;
mod programs;
mod reader;
mod readers;
mod start;
mod table;
mod tree;

#[path = "../../tests/it/support"]
mod support {
    pub mod admin;
    pub mod mount;
    pub mod place;
    pub mod process;
    pub mod proxy;
    pub mod shown;
    pub mod wait;
    pub mod wire;
    pub mod zookeeper;
}

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use table::Report;

/// A name, and what is measured under it.
type Part = (&'static str, fn(&mut Report));

const KIB: (usize, &str) = (1 << 10, "1 KiB");
const KIB_100: (usize, &str) = (100 << 10, "100 KiB");
const MB: (usize, &str) = (1_000_000, "1 MB");

const FULL: &[Part] = &[
    ("warm reads", |report| readers::warm(report, 200)),
    ("listing", |report| readers::list(report, 10_000, 20)),
    ("first reads", |report| readers::first(report, 200)),
    ("latency, 1 node", |report| {
        latency::one(report, 1, KIB, 4000)
    }),
    ("latency, 1000 nodes", |report| {
        latency::one(report, 1000, KIB, 4000)
    }),
    ("latency, 100 KiB", |report| {
        latency::one(report, 1, KIB_100, 2000)
    }),
    // As many as fit on the disk of the server.
    ("latency, 1 MB", |report| latency::one(report, 1, MB, 500)),
    ("requests", |report| latency::requests(report, 500)),
    ("burst", |report| latency::burst(report, 1000, 2000, 10, 1)),
    ("pipelined", |report| latency::pipelined(report, 10_000, 2)),
    ("growth", |report| {
        start::growth(report, &[1, 100, 10_000, 100_000], 9, 15)
    }),
    ("one change", |report| {
        start::one_change(report, 100_000, 2000)
    }),
    ("outages", |report| outages::recovery(report, 10_000, 3)),
    ("refused", |report| outages::refused(report, 10, &[60, 150])),
    ("takeover", |report| outages::takeover(report, 10_000, 10)),
    ("tree", |report| tree::tree(report, 100, 1000, 3, 1000)),
];

const QUICK: &[Part] = &[
    ("warm reads", |report| readers::warm(report, 10)),
    ("listing", |report| readers::list(report, 1000, 5)),
    ("first reads", |report| readers::first(report, 10)),
    ("latency, 1 node", |report| {
        latency::one(report, 1, KIB, 200)
    }),
    ("latency, 1000 nodes", |report| {
        latency::one(report, 100, KIB, 200)
    }),
    ("latency, 100 KiB", |report| {
        latency::one(report, 1, KIB_100, 50)
    }),
    ("latency, 1 MB", |report| latency::one(report, 1, MB, 20)),
    ("requests", |report| latency::requests(report, 100)),
    ("burst", |report| latency::burst(report, 100, 1000, 2, 1)),
    ("pipelined", |report| latency::pipelined(report, 1000, 1)),
    ("growth", |report| {
        start::growth(report, &[1, 100, 1000], 2, 2)
    }),
    ("one change", |report| start::one_change(report, 1000, 50)),
    ("outages", |report| outages::recovery(report, 1000, 1)),
    ("refused", |report| outages::refused(report, 10, &[2, 5])),
    ("takeover", |report| outages::takeover(report, 1000, 2)),
    ("tree", |report| tree::tree(report, 10, 100, 1, 20)),
];

fn main() -> ExitCode {
    // cargo says --bench.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    if words.first().is_some_and(|word| word == "reader") {
        reader::run();
        return ExitCode::SUCCESS;
    }
    let is_quick = words.iter().any(|word| word == "--quick");
    let wanted: Vec<&String> = words.iter().filter(|word| *word != "--quick").collect();
    let start = Instant::now();
    let mut report = Report::default();
    for (name, part) in if is_quick { QUICK } else { FULL } {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(*word)) {
            continue;
        }
        let begin = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| part(&mut report))) {
            report.failed(name, words_of(&*panic));
        }
        eprintln!("{name}: {:.1} s", begin.elapsed().as_secs_f64());
    }
    let machine = machine(is_quick);
    println!("{machine}\n\n{}", report.table());
    println!("In {:.0} s.", start.elapsed().as_secs_f64());
    report.write_json(&machine);
    plots::draw(&report);
    if report.n_failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Where and when this was measured.
fn machine(is_quick: bool) -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let n_cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {n_cores} cores, Linux {}, {:.0}{}",
        model.unwrap_or("a processor"),
        kernel.trim(),
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
        if is_quick {
            ", a quick run: small sizes, few samples"
        } else {
            ""
        },
    )
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
}
