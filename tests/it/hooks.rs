//! Commands that run when a znode changes: the real program, a real server, real commands.

mod deaths;
mod harm;
mod modes;
mod sources;
mod told;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::files::config;
use crate::support::mount::Mount;
use crate::support::shown::SOON;
use crate::support::wait::wait_until;
use crate::support::zookeeper::Sandbox;

/// A mount with hooks, which write to files beside it. In its lines, `$DIR` is their directory.
struct Hooked {
    /// Before the mount ends, nothing of what its commands use goes.
    mount: Mount,
    sandbox: Sandbox,
    dir: TempDir,
}

/// A node `a` that names the hook `h`, with these lines of it.
fn hook(lines: &str) -> String {
    let lines: Vec<_> = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let lines: String = lines
        .iter()
        .map(|line| format!("hooks.h.{line}\n"))
        .collect();
    format!("nodes.a.source = /a\nnodes.a.hooks = h\n{lines}")
}

/// Has the command wait for this file in `$DIR`.
fn wait_for_gate(gate: &str) -> String {
    format!("while [ ! -e $DIR/{gate} ]; do sleep 0.01; done")
}

impl Hooked {
    /// The znode `/a` is "1" when it begins.
    fn start(name: &str, lines: &str) -> Self {
        Self::start_with(name, lines, &[], |sandbox| sandbox.admin.create("/a", "1"))
    }

    fn start_with(
        name: &str,
        lines: &str,
        arguments: &[&str],
        prepare: impl FnOnce(&Sandbox),
    ) -> Self {
        let sandbox = Sandbox::new(name);
        prepare(&sandbox);
        let dir = tempfile::tempdir().unwrap();
        // Commands of other users write to it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(dir.path(), open).unwrap();
        let lines = lines.replace("$DIR", dir.path().to_str().unwrap());
        let mount = Mount::start_with(&config(&sandbox.hosts(), &lines), arguments);
        let hooked = Self {
            mount,
            sandbox,
            dir,
        };
        hooked.wait_for_baseline();
        hooked
    }

    /// Waits until the runner knows what is there: what comes then is a change.
    #[track_caller]
    fn wait_for_baseline(&self) {
        self.mount.wait_for_log(1, "hooks know what is there");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn open(&self, gate: &str) {
        fs::write(self.path(gate), "").unwrap();
    }

    /// The lines of a file, those that are whole.
    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(file)).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn wait_for_lines<S: AsRef<str>>(&self, file: &str, expected: &[S]) {
        let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
        wait_until(
            SOON,
            &format!("{file} has {expected:?}, not {:?}", self.lines(file)),
            || self.lines(file) == expected,
        );
    }

    /// Sets `/a`, and waits until its file shows it.
    #[track_caller]
    fn set(&self, content: &str) {
        self.sandbox.admin.set("/a", content);
        self.mount.wait_for_content("a", content);
    }

    /// How a hook stands, from the status.
    fn standing(&self, hook: &str) -> Value {
        let details = self.mount.details();
        let hooks = details["hooks"].as_array().cloned().unwrap_or_default();
        let found = hooks.into_iter().find(|found| found["hook"] == hook);
        found.unwrap_or_default()
    }

    #[track_caller]
    fn wait_standing(&self, hook: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_until(SOON, what, || is(&self.standing(hook)));
        self.standing(hook)
    }
}
