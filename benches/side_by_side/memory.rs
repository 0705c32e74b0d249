//! What it takes to be there: memory at its peak, threads, and processor time at rest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::programs::{self, Program, Usage};
use crate::table::{Report, Row};

/// How often a peak is looked for.
const PAUSE: Duration = Duration::from_millis(100);

/// The most that a program takes while something happens.
pub fn peak<T>(program: &(dyn Program + Sync), what: impl FnOnce() -> T) -> (T, Usage) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let peak = scope.spawn(|| {
            let mut peak = programs::usage(&program.processes());
            while !over.load(Ordering::Relaxed) {
                thread::park_timeout(PAUSE);
                let now = programs::usage(&program.processes());
                peak.mib = peak.mib.max(now.mib);
                peak.n_threads = peak.n_threads.max(now.n_threads);
            }
            peak
        });
        // Said also where it panics, or the scope would wait for ever.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let result = {
            let _over = Over(&over);
            what()
        };
        peak.thread().unpark();
        (result, peak.join().unwrap())
    })
}

/// What is used while nothing happens.
pub fn idle(report: &mut Report, n: usize, programs: &[&dyn Program], seconds: u64) {
    let used = || {
        programs
            .iter()
            .map(|program| programs::cpu(&program.processes()))
    };
    let before: Vec<f64> = used().collect();
    thread::sleep(Duration::from_secs(seconds));
    let parts = used()
        .zip(before)
        .map(|(after, before)| (after - before) * 100.0 / seconds as f64);
    let parts: Vec<f64> = parts.collect();
    let mut row = Row::new(format!("idle CPU, {n} nodes"), "%", parts[0]);
    if let Some(incumbent) = parts.get(1) {
        row = row.incumbent(*incumbent);
    }
    report.row(row);
}
