//! A directory with a configuration and a mountpoint, for commands as a user types them.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use livedata::processes::SERVER_COMMAND;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::wait;

/// How long a command may take, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Marks all that a place starts, however it goes to the background.
const PLACE: &str = "LIVEDATA_TEST_PLACE";

/// The process of the tests, in the environment of all that they start here.
const TESTS: &str = "LIVEDATA_TEST_PID";

/// Ends what the tests left behind: it acts when they are gone, however they went.
const SWEEP: &str = r#"
import os, signal, subprocess, sys
sys.stdin.read()
marks = ["%s=%s" % (sys.argv[1], sys.argv[2]), sys.argv[3] + "="]
places = set()
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        environ = open("/proc/%s/environ" % pid).read().split("\0")
        if marks[0] in environ:
            places.update(e[len(marks[1]):] for e in environ if e.startswith(marks[1]))
            os.kill(int(pid), signal.SIGKILL)
    except OSError:
        pass
for place in places:
    for line in reversed(open("/proc/self/mountinfo").readlines()):
        mountpoint = line.split(" ")[4].encode().decode("unicode_escape")
        if mountpoint.startswith(place + "/"):
            subprocess.call(["umount", "-l", mountpoint])
    subprocess.call(["rm", "-rf", "--one-file-system", place])
"#;

/// A directory with `config.ini` and `mnt`. What was started here ends with it, and what was
/// mounted here goes.
pub struct Place {
    dir: TempDir,
    guest: Option<Guest>,
}

/// Another user in a mount namespace of his own, where /dev/fuse is for everybody, as udev makes it.
struct Guest {
    user: u32,
    /// Keeps the namespace.
    keeper: Child,
}

/// What became of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    /// A place with this configuration.
    pub fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Other users must get through.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("mnt")).unwrap();
        let place = Self { dir, guest: None };
        place.configure(config);
        place
    }

    /// A place that belongs to another user, who runs all commands there. Needs root.
    pub fn of_user(user: u32, config: &str) -> Self {
        let mut place = Self::new(config);
        // The program may be in a directory that is not for others.
        // It is copied by another process: ours, while it starts others, must not have it open.
        let copied = Command::new("cp")
            .args([program(), "livedata-fuse"])
            .current_dir(place.dir())
            .status();
        assert!(copied.unwrap().success());
        for path in ["", "mnt", "config.ini"] {
            std::os::unix::fs::chown(place.path(path), Some(user), Some(user)).unwrap();
        }
        let script = "mount -t tmpfs -o mode=755 none dev; mknod -m 666 dev/fuse c 10 229
            mount --bind dev/fuse /dev/fuse; umount dev; touch entered; exec sleep infinity";
        fs::create_dir(place.path("dev")).unwrap();
        let mut command = place.command("unshare");
        let keeper = command
            .args(["--mount", "--", "sh", "-euc", script])
            .spawn()
            .unwrap();
        place.guest = Some(Guest { user, keeper });
        wait::wait_until(SOON, "the namespace", || place.path("entered").exists());
        place
    }

    /// Writes the configuration.
    pub fn configure(&self, config: &str) {
        fs::write(self.path("config.ini"), config).unwrap();
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.path("mnt")
    }

    /// The content of a file in the mount; none where it cannot be read.
    pub fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.root().join(file)).ok()
    }

    /// `log`, which the configuration names as `log.file`.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The program under test, as the user of this place runs it.
    pub fn program(&self) -> PathBuf {
        match self.guest {
            Some(_) => self.path("livedata-fuse"),
            None => program().into(),
        }
    }

    /// A command that runs here, as the user of the place and in his namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.guest {
            Some(Guest { user, .. }) => {
                let user = user.to_string();
                let mut command = self.command_as_root("setpriv");
                command
                    .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"])
                    .arg(program);
                command
            }
            None => self.command_as_root(program),
        }
    }

    /// A command that runs here as the user of the tests.
    pub fn command_as_root(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.guest {
            Some(Guest { keeper, .. }) => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--mount=/proc/{}/ns/mnt", keeper.id()))
                    .arg(format!("--wdns={}", self.dir().display()))
                    .arg("--")
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        mark(&mut command, self.dir())
            .current_dir(self.dir())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .env_remove("JOURNAL_STREAM")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `livedata-fuse` with these arguments.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(self.program()).args(arguments))
    }

    /// Runs `livedata-fuse mount ARGUMENTS config.ini mnt`.
    #[track_caller]
    pub fn mount(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["mount"], arguments, &["config.ini", "mnt"]].concat())
    }

    /// [`Place::mount`] that must succeed without a word on stderr.
    #[track_caller]
    pub fn mounted(&self) -> Pid {
        let ran = self.mount(&[]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        self.daemon()
    }

    /// Starts `livedata-fuse` with these arguments; its output goes to the files `stdout` and
    /// `stderr`.
    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(self.program());
        self.start_command(command.args(arguments))
    }

    /// Starts a command; its output goes to the files `stdout` and `stderr`.
    pub fn start_command(&self, command: &mut Command) -> Child {
        let file = |name| fs::File::create(self.path(name)).unwrap();
        let command = command.stdout(file("stdout")).stderr(file("stderr"));
        command.spawn().unwrap()
    }

    /// Runs a script of sh as root in a mount namespace of its own. In it, $LIVEDATA is the
    /// program.
    #[track_caller]
    pub fn in_namespace(&self, script: &str) -> Ran {
        let mut command = self.command_as_root("unshare");
        command
            .args(["--mount", "--", "sh", "-euc", script])
            .env("LIVEDATA", self.program());
        run(&mut command)
    }

    /// The one process in the background.
    #[track_caller]
    pub fn daemon(&self) -> Pid {
        let daemons = self.daemons();
        assert_eq!(daemons.len(), 1, "{daemons:?}");
        daemons[0]
    }

    /// The processes in the background: the keepers of mounts.
    pub fn daemons(&self) -> Vec<Pid> {
        self.started_with("--in-background")
    }

    /// The processes that serve mounts.
    pub fn servers(&self) -> Vec<Pid> {
        self.started_with(SERVER_COMMAND)
    }

    /// Waits until a mount loads for the first time; it is shown only when it is ready.
    #[track_caller]
    pub fn wait_until_loading(&self) {
        wait::wait_until(SOON, "a server loads", || !self.servers().is_empty());
        assert!(!self.is_mounted());
    }

    fn started_with(&self, argument: &str) -> Vec<Pid> {
        let has = |pid: &Pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            let line = line.unwrap_or_default();
            line.split(|byte| *byte == 0)
                .any(|word| word == argument.as_bytes())
        };
        self.processes().into_iter().filter(has).collect()
    }

    /// All processes that were started here and run. A zombie does not: its environment is gone.
    pub fn processes(&self) -> Vec<Pid> {
        let guest = self.guest.as_ref();
        let namespace = guest.map(|guest| super::process::pid(&guest.keeper));
        let mut processes = processes_of(self.dir());
        processes.retain(|pid| Some(*pid) != namespace);
        processes
    }

    /// Whether something is mounted at `mnt`.
    pub fn is_mounted(&self) -> bool {
        self.mountpoints().contains(&self.root())
    }

    /// Waits until nothing is mounted and nothing runs any more.
    #[track_caller]
    pub fn wait_until_gone(&self) {
        wait::wait_until(SOON, "nothing runs and nothing is mounted", || {
            self.processes().is_empty() && self.mountpoints().is_empty()
        });
    }

    /// Nothing is mounted and nothing runs, now.
    #[track_caller]
    pub fn assert_gone(&self) {
        assert_eq!(self.mountpoints(), Vec::<PathBuf>::new());
        assert_eq!(self.processes(), []);
    }

    /// Everything mounted below the place, the topmost first.
    pub fn mountpoints(&self) -> Vec<PathBuf> {
        let process = self
            .guest
            .as_ref()
            .map_or("self".into(), |guest| guest.keeper.id().to_string());
        let table = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
        let mountpoints = table.lines().filter_map(|line| line.split(' ').nth(4));
        let unescaped = mountpoints.map(|path| {
            let path = path.replace("\\040", " ").replace("\\134", "\\");
            PathBuf::from(path)
        });
        let mut below: Vec<_> = unescaped
            .filter(|path| path.starts_with(self.dir()))
            .collect();
        below.reverse();
        below
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.dir().display(), self.log());
        }
        for pid in self.processes() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        if let Some(Guest { keeper, .. }) = &mut self.guest {
            // His mounts go with the namespace.
            let _ = keeper.kill();
            let _ = keeper.wait();
            return;
        }
        for path in self.mountpoints() {
            // Whoever hangs in it is freed first.
            let _ = rustix::mount::unmount(&path, UnmountFlags::FORCE);
            let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
        }
    }
}

/// Runs a command to its end; panics when that does not come.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    let child = command.spawn().unwrap();
    let pid = super::process::pid(&child);
    let (tell, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output().unwrap()));
    match ended.recv_timeout(SOON) {
        Ok(output) => output.into(),
        Err(_) => {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            panic!("{command:?} did not end within {SOON:?}")
        }
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ran {
    /// It failed with `code`, nothing on stdout and one line on stderr, which says `what`.
    #[track_caller]
    pub fn failed(&self, code: i32, what: &str) {
        assert_eq!(
            (self.code, self.stdout.as_str()),
            (Some(code), ""),
            "{self:?}"
        );
        self.says(what);
    }

    /// stderr is one line in our words, which says `what`.
    #[track_caller]
    pub fn says(&self, what: &str) {
        assert!(self.stderr.contains(what), "not {what:?}: {self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("livedata-fuse: "), "{self:?}");
        assert!(self.stderr.ends_with('\n'), "{self:?}");
    }
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_livedata-fuse")
}

/// Marks what a command starts, down to the last of its children, as belonging to a directory.
pub fn mark<'a>(command: &'a mut Command, directory: &Path) -> &'a mut Command {
    start_sweeper();
    command
        .env(PLACE, directory)
        .env(TESTS, std::process::id().to_string())
}

/// All processes with this [`mark`] that run. A zombie does not: its environment is gone.
pub fn processes_of(directory: &Path) -> Vec<Pid> {
    let mark = format!("{PLACE}={}", directory.display());
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        variables
            .any(|variable| variable == mark.as_bytes())
            .then_some(pid)
    })
    .collect()
}

/// The sweeper reads from a pipe that ends with this process.
fn start_sweeper() {
    static SWEEPER: OnceLock<Child> = OnceLock::new();
    SWEEPER.get_or_init(|| {
        Command::new("/usr/bin/python3")
            .args(["-I", "-S", "-c", SWEEP, TESTS])
            .arg(std::process::id().to_string())
            .arg(PLACE)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap()
    });
}
