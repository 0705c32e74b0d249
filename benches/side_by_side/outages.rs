//! How soon all is right again after an outage, and what that takes.

use std::fs;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use livedata::keeper;
use rustix::process::{Pid, Signal};

use crate::memory;
use crate::programs::{self, Few, Helper, Incumbent, Program, Usage};
use crate::reader::now;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::proxy::Proxy;
use crate::support::zookeeper::Server;
use crate::table::{Plot, Report, Row, median};

/// How long an outage lasts, the restart of the server included.
const OUTAGE: Duration = Duration::from_secs(5);

/// One of ten nodes is changed in an outage.
const CHANGED: usize = 10;

/// A program behind a link of its own to a server of its own.
struct Side {
    server: Server,
    admin: Admin,
    proxy: Proxy,
    program: Box<dyn Program + Sync>,
    is_ours: bool,
}

/// What came after an outage.
struct Recovery {
    /// When each changed file was right, in seconds after the server was back.
    right: Vec<f64>,
    /// When the program was connected, likewise.
    accepted: f64,
    before: Usage,
    peak: Usage,
}

/// The server restarts, and the session expires; the programs take turns.
pub fn recovery(report: &mut Report, n: usize, rounds: usize) {
    let mut reader = Helper::reader();
    let mut sides = [true, false].map(|is_ours| Side::start(is_ours, n, &mut reader));
    for (restarts, what) in [(true, "server restart"), (false, "session expiry")] {
        let mut recoveries = [const { Vec::new() }; 2];
        for round in 0..rounds {
            for (side, recoveries) in sides.iter_mut().zip(&mut recoveries) {
                // The incumbent once: its threads keep the machine busy for a long time.
                if round == 0 || side.is_ours {
                    recoveries.push(side.outage(restarts, n, &mut reader));
                }
            }
        }
        let back = Recovery::after_back as fn(&Recovery) -> f64;
        for (since, figure, mark) in [
            ("the server is back", back, 2.0),
            (
                "the first accepted connection",
                Recovery::after_accepted,
                1.0,
            ),
        ] {
            let of = |at: usize| recoveries[at].iter().map(figure).collect::<Vec<_>>();
            let (ours, incumbent) = (of(0), of(1));
            report.row(
                Row::new(
                    format!("{what}, {n} nodes: right after {since}"),
                    "s",
                    median(&ours),
                )
                .incumbent(median(&incumbent))
                .at_most(mark)
                .samples("ours", &ours)
                .samples("incumbent", &incumbent),
            );
        }
        let most = |at: usize, of: fn(&Usage) -> f64| {
            let peaks = recoveries[at].iter().map(|recovery| of(&recovery.peak));
            peaks.fold(0.0, f64::max)
        };
        let n_threads = |usage: &Usage| usage.n_threads as f64;
        let before = n_threads(&recoveries[0][0].before);
        report.row(
            Row::new(
                format!("{what}, {n} nodes: threads, at most"),
                "",
                most(0, n_threads),
            )
            .incumbent(most(1, n_threads))
            .at_most(before + 1.0)
            .note(format!(
                "the mark: {before} before, and one that resolves names for a moment"
            )),
        );
        report.row(
            Row::new(
                format!("{what}, {n} nodes: memory, at most"),
                "MiB",
                most(0, |it| it.mib),
            )
            .incumbent(most(1, |it| it.mib))
            .at_most(45.0),
        );
        for (side, recoveries) in sides.iter().zip(recoveries) {
            let mut right = recoveries.into_iter().next().unwrap().right;
            right.sort_by(f64::total_cmp);
            let n = right.len() as f64;
            let parts = (1..).map(|at| f64::from(at) * 100.0 / n);
            let name = format!("{}, {what}", side.program.name());
            report.curve(Plot::Recovery, name, right.into_iter().zip(parts).collect());
        }
    }
}

/// The link is refused for so long, and for so long. All at the same time: there is nothing to do
/// but wait.
pub fn refused(report: &mut Report, n: usize, seconds: &[u64]) {
    let server = programs::server();
    let admin = Admin::connect(server.hosts());
    let refused = |seconds: u64| {
        let prefix = format!("/refused-{seconds}");
        programs::create(&admin, &prefix, n, 1 << 10);
        let proxy = Proxy::start(server.address());
        let mut readers = [Helper::reader(), Helper::reader()];
        let mount = programs::ours(&proxy.hosts(), &prefix, n);
        let incumbent = Incumbent::start(&proxy.hosts(), &prefix, n, &mut readers[1]);
        proxy.refuse();
        thread::sleep(Duration::from_secs(seconds));
        let first = change(&admin, &prefix, Few::all(n));
        let back = now();
        proxy.accept();
        let programs: [&dyn Program; 2] = [&mount, &incumbent];
        for (reader, program) in readers.iter_mut().zip(programs) {
            reader.start_follow(program, Few::all(n), first);
        }
        readers.map(|mut reader| {
            let last = reader.numbers().into_iter().max().unwrap();
            (last - back) as f64 / 1e9
        })
    };
    let all = thread::scope(|scope| {
        let started: Vec<_> = seconds
            .iter()
            .map(|seconds| scope.spawn(|| refused(*seconds)))
            .collect();
        started
            .into_iter()
            .map(|it| it.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    for (seconds, [ours, incumbent]) in seconds.iter().zip(all) {
        let what = format!("link refused for {seconds} s, {n} nodes: right after");
        report.row(Row::new(what, "s", ours).incumbent(incumbent).at_most(2.0));
    }
}

/// The link is cut, and each hundredth node has changed meanwhile; gives the seconds until all is
/// right.
pub fn resync(server: &Server, admin: &Admin, prefix: &str, n: usize, runs: usize) -> Vec<f64> {
    let mut reader = Helper::reader();
    let proxy = Proxy::start(server.address());
    let mount = programs::ours(&proxy.hosts(), prefix, n);
    let took = (0..runs).map(|_| {
        proxy.refuse();
        let few = Few::each(100, n);
        let first = change(admin, prefix, few);
        let back = now();
        proxy.accept();
        let right = reader.follow(&mount, few, first);
        (right.into_iter().max().unwrap() - back) as f64 / 1e9
    });
    took.collect()
}

/// The server is killed; opens of files that the kernel does not hold wait for its successor.
pub fn takeover(report: &mut Report, n: usize, kills: usize) {
    let server = programs::server();
    programs::create(&Admin::connect(server.hosts()), "/kept", n, 1 << 10);
    let config = programs::config(&server.hosts(), "/kept", n, "");
    let mount = Mount::start_with(&config, &["--restart-at-once"]);
    let (over, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut samples = Vec::new();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for at in (0..n).cycle() {
                if at == 0 {
                    drop_caches();
                }
                let start = now();
                let content = fs::read(mount.file(at)).unwrap();
                longest.fetch_max(now() - start, Ordering::Relaxed);
                assert_eq!(content, programs::value(at as u64, 1 << 10));
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..kills {
            let Some(pid) = serving(&mount, None) else {
                break;
            };
            // It settles, or the next one would find little to take over.
            thread::sleep(Duration::from_millis(1500));
            drop_caches();
            longest.store(0, Ordering::Relaxed);
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
            if serving(&mount, Some(pid)).is_none() {
                break;
            }
            thread::sleep(Duration::from_millis(200));
            samples.push(longest.load(Ordering::Relaxed) as f64 / 1e6);
        }
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(samples.len(), kills, "the server does not come back");
    report.row(
        Row::new(
            format!("server killed, {n} nodes: longest open and read, p50"),
            "ms",
            median(&samples),
        )
        .at_most(50.0)
        .note("incumbent: has no server, its files stay; but nobody keeps them up to date")
        .samples("ours", &samples),
    );
    let longest = samples.iter().copied().fold(0.0, f64::max);
    report.row(Row::new(
        format!("server killed, {n} nodes: longest of {kills}"),
        "ms",
        longest,
    ));
}

impl Recovery {
    /// How long after the server was back all was right.
    fn after_back(&self) -> f64 {
        self.right.iter().copied().fold(0.0, f64::max)
    }

    fn after_accepted(&self) -> f64 {
        self.after_back() - self.accepted
    }
}

impl Side {
    fn start(is_ours: bool, n: usize, reader: &mut Helper) -> Self {
        let server = programs::server();
        let admin = Admin::connect(server.hosts());
        programs::create(&admin, "/side", n, 1 << 10);
        let proxy = Proxy::start(server.address());
        let program: Box<dyn Program + Sync> = if is_ours {
            Box::new(programs::ours(&proxy.hosts(), "/side", n))
        } else {
            Box::new(Incumbent::start(&proxy.hosts(), "/side", n, reader))
        };
        Self {
            server,
            admin,
            proxy,
            program,
            is_ours,
        }
    }

    fn outage(&mut self, restarts: bool, n: usize, reader: &mut Helper) -> Recovery {
        let before = programs::usage(&self.program.processes());
        let admin = self.admin.session();
        let connections = self.server.connections().into_iter();
        let sessions = connections.map(|it| it.session).filter(|it| *it != admin);
        let sessions: Vec<i64> = sessions.collect();
        let start = Instant::now();
        self.proxy.refuse();
        if restarts {
            self.server.restart();
        } else {
            assert!(sessions.iter().all(|session| self.server.expire(*session)));
        }
        let few = Few::each(CHANGED, n);
        let first = change(&self.admin, "/side", few);
        thread::sleep(OUTAGE.saturating_sub(start.elapsed()));
        let n_accepted = self.proxy.n_accepted();
        let ((back, accepted, right), peak) = memory::peak(&*self.program, || {
            let back = now();
            self.proxy.accept();
            reader.start_follow(&*self.program, few, first);
            while self.proxy.n_accepted() == n_accepted {
                thread::sleep(Duration::from_millis(1));
            }
            (back, now(), reader.numbers())
        });
        let since = |time: u64| time.saturating_sub(back) as f64 / 1e9;
        Recovery {
            right: right.into_iter().map(since).collect(),
            accepted: since(accepted),
            before,
            peak,
        }
    }
}

/// Gives some nodes values that none had before, and says which is the first of them.
fn change(admin: &Admin, prefix: &str, few: Few) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1_000_000);
    let first = NEXT.fetch_add(1_000_000, Ordering::Relaxed);
    let path = |at: usize| format!("{prefix}/n{}", at * few.stride);
    admin.set_many((0..few.n).map(|at| (path(at), programs::value(first + at as u64, 1 << 10))));
    first
}

/// Has the kernel forget what no process uses.
fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "2").expect("only root can drop the caches");
}

/// Waits for a server that works and is not `but`.
fn serving(mount: &Mount, but: Option<Pid>) -> Option<Pid> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        let answer = keeper::ask(&mount.root(), Duration::from_secs(5)).unwrap_or_default();
        let status: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let pid = status["server"]["pid"].as_i64();
        let pid = pid.and_then(|pid| Pid::from_raw(pid as i32));
        if pid.is_some() && pid != but && status["server"]["state"] == "serving" {
            return pid;
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}
