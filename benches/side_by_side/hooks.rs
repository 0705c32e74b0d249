//! What commands that run cost whoever changes and reads files.

use std::time::{Duration, Instant};

use crate::latency::Changes;
use crate::programs;
use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::zookeeper::Server;
use crate::table::{Report, Row, median, quantile};

const SIZE: usize = 1 << 10;

/// A mount of `n` nodes, and of one that is measured; with a hook for each of the `n`, perhaps.
fn mount(server: &Server, n: usize, has_hooks: bool) -> Mount {
    let mut config = programs::config(&server.hosts(), "/fires", n, "fires/");
    config += "nodes.measured.source = /measured/n0\n";
    if has_hooks {
        for at in 0..n {
            config += &format!("nodes.n{at}.hooks = h{at}\nhooks.h{at}.command = exec true\n");
        }
    }
    Mount::start_with(&config, &["--wait", "120s"])
}

/// How soon a change is readable just when `n` hooks fire at once, and without any.
pub fn firing(report: &mut Report, n: usize, n_samples: usize) {
    let server = programs::server();
    let admin = Admin::connect(server.hosts());
    programs::create(&admin, "/fires", n, SIZE);
    programs::create(&admin, "/measured", 1, SIZE);
    let mut changes = Changes::start(&server.hosts());
    let mut samples = [const { Vec::new() }; 2];
    let mut seq = n as u64;
    for which in [0, 1, 0, 1] {
        let has_hooks = which == 1;
        let samples = &mut samples[which];
        // One at a time: both watch the same znodes.
        let mount = mount(&server, n, has_hooks);
        for _ in 0..n_samples {
            seq += 1;
            let sets = (0..n).map(|at| (format!("/fires/n{at}"), programs::value(seq, SIZE)));
            admin.set_many(sets);
            let file = mount.path("measured");
            let measured = changes.until_file("/measured/n0", &file, (seq, SIZE));
            samples.push(measured);
            wait_until_idle(&mount);
        }
    }
    let [without, with] = &samples;
    for (name, of) in [
        ("p50", median as fn(&[f64]) -> f64),
        ("p99", |it: &[f64]| quantile(it, 0.99)),
    ] {
        report.row(
            Row::new(
                format!("set to readable while {n} hooks fire, {name}"),
                "ms",
                of(with),
            )
            .compared_with(of(without), "ours without hooks")
            .samples("without", without)
            .samples("with", with),
        );
    }
}

/// Waits until no hook runs or is to run.
fn wait_until_idle(mount: &Mount) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let details = mount.details();
        let hooks = details["hooks"].as_array().cloned().unwrap_or_default();
        let is_idle = |hook: &serde_json::Value| {
            hook["waits"] == false && hook["running"].as_array().is_some_and(Vec::is_empty)
        };
        if hooks.iter().all(is_idle) {
            return;
        }
    }
    panic!("hooks do not end");
}
