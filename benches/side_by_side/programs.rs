//! What is compared, and what it takes: servers, our mount, the incumbent, the floor, and the
//! processes that set znodes and read files. All of it ends with its guard.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Pid;
use tempfile::TempDir;

use crate::support::admin::Admin;
use crate::support::mount::Mount;
use crate::support::process;
use crate::support::zookeeper::Server;

/// A ZooKeeper server with room for 100 000 znodes and for many values of a megabyte.
pub fn server() -> Server {
    Server::start_with_options("", &["-Xmx2g".into()])
}

/// Creates PREFIX/n0 with the value 0, PREFIX/n1 with 1 and so on.
pub fn create(admin: &Admin, prefix: &str, n: usize, size: usize) {
    admin.create(prefix, "");
    create_more(admin, prefix, 0..n, size);
}

/// Creates some of them.
pub fn create_more(admin: &Admin, prefix: &str, which: Range<usize>, size: usize) {
    admin.create_new(which.map(|at| (format!("{prefix}/n{at}"), value(at as u64, size))));
}

/// What the znodes hold: a number in sixteen digits, filled up.
pub fn value(seq: u64, size: usize) -> Vec<u8> {
    let mut value = format!("{seq:016}").into_bytes();
    value.resize(size, b'x');
    value
}

/// A configuration with the nodes n0 and so on; every destination is below `directory`.
pub fn config(hosts: &str, prefix: &str, n: usize, directory: &str) -> String {
    let mut config = format!("[live-data]\nzookeeper.hosts = {hosts}\n");
    for at in 0..n {
        config += &format!("nodes.n{at}.source = {prefix}/n{at}\n");
        config += &format!("nodes.n{at}.dest = {directory}n{at}\n");
    }
    config
}

/// Some of the nodes: n0, the one a stride further, and so on.
#[derive(Clone, Copy)]
pub struct Few {
    pub n: usize,
    pub stride: usize,
    /// How many of those that are not right yet are looked at in turn.
    pub window: usize,
}

impl Few {
    /// All of `n` nodes, looked at one after the other.
    pub fn all(n: usize) -> Self {
        Self {
            n,
            stride: 1,
            window: 1,
        }
    }

    /// Each tenth, or whatever `stride` says, of `n` nodes; all of them are looked at all the time.
    pub fn each(stride: usize, n: usize) -> Self {
        let n = n.div_ceil(stride);
        Self {
            n,
            stride,
            window: n,
        }
    }
}

/// Something that shows znodes as files.
pub trait Program {
    fn name(&self) -> &'static str;
    /// Where the files are.
    fn directory(&self) -> PathBuf;
    fn processes(&self) -> Vec<Pid>;

    fn file(&self, at: usize) -> PathBuf {
        self.directory().join(format!("n{at}"))
    }
}

impl Program for Mount {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn directory(&self) -> PathBuf {
        self.root()
    }

    fn processes(&self) -> Vec<Pid> {
        Mount::processes(self)
    }
}

/// Our mount of PREFIX/n0 and so on.
pub fn ours(hosts: &str, prefix: &str, n: usize) -> Mount {
    Mount::start_with(&config(hosts, prefix, n, ""), &["--wait", "120s"])
}

/// How many requests the kernel has made of a mount.
pub fn requests(mount: &Mount) -> u64 {
    mount.details()["requests"].as_u64().unwrap()
}

/// Baseplate's watcher; its files lie on a disk.
pub struct Incumbent {
    child: Child,
    dir: TempDir,
}

impl Incumbent {
    /// Starts it on PREFIX/n0 and so on, and does not wait.
    pub fn spawn(hosts: &str, prefix: &str, n: usize) -> Self {
        let dir = tempfile::tempdir_in(scratch()).unwrap();
        let path = |name: &str| dir.path().join(name);
        // It wants a secrets file, needed or not.
        fs::write(path("secrets.json"), r#"{"secrets": {}, "vault": {}}"#).unwrap();
        fs::create_dir(path("files")).unwrap();
        let files = format!("{}/", path("files").display());
        let config = config(hosts, prefix, n, &files)
            + &format!("secrets.path = {}\n", path("secrets.json").display());
        fs::write(path("config.ini"), config).unwrap();
        let child = Self::spawn_in(dir.path());
        Self { child, dir }
    }

    /// Starts it and waits until all files are there.
    pub fn start(hosts: &str, prefix: &str, n: usize, reader: &mut Helper) -> Self {
        let incumbent = Self::spawn(hosts, prefix, n);
        reader.follow(&incumbent, Few::all(n), 0);
        incumbent
    }

    fn spawn_in(dir: &Path) -> Child {
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv/bin/python");
        assert!(Path::new(python).exists(), "run tests/setup.sh --bench");
        let mut command = process::bound_to_us(python, "KILL");
        command
            .args(["-m", "baseplate.sidecars.live_data_watcher"])
            .arg(dir.join("config.ini"))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("log")).unwrap());
        process::spawn(command)
    }
}

impl Program for Incumbent {
    fn name(&self) -> &'static str {
        "incumbent"
    }

    fn directory(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    fn processes(&self) -> Vec<Pid> {
        vec![process::pid(&self.child)]
    }
}

impl Drop for Incumbent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let from = log.len().saturating_sub(2000);
            let end = log.get(from..).unwrap_or_default();
            eprintln!("the end of the log of the incumbent:\n{end}");
        }
        end(&mut self.child);
    }
}

/// A process that answers lines with lines.
pub struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Helper {
    /// The one that reads files.
    pub fn reader() -> Self {
        let this = std::env::current_exe().unwrap();
        Self::start(
            process::bound_to_us(this.to_str().unwrap(), "KILL"),
            &["reader"],
        )
    }

    /// The one that sets znodes.
    pub fn setter(hosts: &str) -> Self {
        let mut setter = Self::floor(&["set", hosts]);
        assert_eq!(setter.hear(), "ready");
        setter
    }

    /// The C client that watches PREFIX/n0 and so on. It says `ready` once it has all of them.
    pub fn watcher(hosts: &str, prefix: &str, n: usize) -> Self {
        Self::floor(&["watch", hosts, prefix, &n.to_string()])
    }

    fn floor(arguments: &[&str]) -> Self {
        Self::start(
            process::bound_to_us(floor().to_str().unwrap(), "KILL"),
            arguments,
        )
    }

    fn start(mut command: Command, arguments: &[&str]) -> Self {
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = process::spawn(command);
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
        }
    }

    pub fn say(&mut self, line: impl AsRef<str>) {
        writeln!(self.input.as_ref().unwrap(), "{}", line.as_ref()).unwrap();
    }

    #[track_caller]
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(
            line.ends_with('\n'),
            "the helper ended; its last word: {line:?}"
        );
        line.trim_end().to_owned()
    }

    #[track_caller]
    pub fn ask(&mut self, line: impl AsRef<str>) -> String {
        self.say(line);
        self.hear()
    }

    /// Hears one number.
    #[track_caller]
    pub fn number(&mut self) -> u64 {
        self.numbers()[0]
    }

    /// Hears a line of numbers.
    #[track_caller]
    pub fn numbers(&mut self) -> Vec<u64> {
        let line = self.hear();
        let numbers = line.split(' ').map(str::parse);
        numbers
            .collect::<Result<_, _>>()
            .unwrap_or_else(|_| panic!("{line} is no number"))
    }

    /// Asks a reader when each of some files had its value, which are `first` and up.
    #[track_caller]
    pub fn follow(&mut self, program: &dyn Program, few: Few, first: u64) -> Vec<u64> {
        self.start_follow(program, few, first);
        self.numbers()
    }

    /// [`Helper::follow`], to be heard later.
    pub fn start_follow(&mut self, program: &dyn Program, few: Few, first: u64) {
        let Few { n, stride, window } = few;
        let directory = program.directory();
        self.say(format!(
            "follow {} {n} {stride} {window} {first}",
            directory.display()
        ));
    }

    /// Has a setter set one znode; gives when it was sent, and when it was acknowledged.
    #[track_caller]
    pub fn set(&mut self, path: &str, seq: u64, size: usize) -> [u64; 2] {
        self.say(format!("one {path} {seq} {size}"));
        let times = self.numbers();
        [times[0], times[1]]
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.input = None;
        if process::wait(&mut self.child, Duration::from_secs(2)).is_none() {
            end(&mut self.child);
        }
    }
}

/// What processes take at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Proportional set sizes, and what lies in memfds, mapped or not.
    pub mib: f64,
    pub n_threads: usize,
}

/// Adds up what some processes take. Those that end meanwhile count no more.
pub fn usage(processes: &[Pid]) -> Usage {
    let mut usage = Usage {
        mib: 0.0,
        n_threads: 0,
    };
    let mut memfds = std::collections::HashMap::new();
    for pid in processes {
        let of = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let tasks = fs::read_dir(of.join("task")).into_iter().flatten();
        usage.n_threads += tasks.count();
        let memory = fs::read_to_string(of.join("smaps_rollup")).unwrap_or_default();
        let kib = |what: &str| -> f64 {
            let line = memory.lines().find_map(|line| line.strip_prefix(what));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.map_or(0.0, |word| word.parse().unwrap())
        };
        // What is mapped of a memfd counts with the memfd.
        usage.mib += (kib("Pss:") - kib("Pss_Shmem:")) / 1024.0;
        for fd in fs::read_dir(of.join("fd")).into_iter().flatten().flatten() {
            use std::os::unix::fs::MetadataExt;
            let is_memfd = |to: PathBuf| to.as_os_str().as_encoded_bytes().starts_with(b"/memfd:");
            if fs::read_link(fd.path()).is_ok_and(is_memfd)
                && let Ok(meta) = fs::metadata(fd.path())
            {
                memfds.insert((meta.dev(), meta.ino()), meta.blocks() as f64 / 2048.0);
            }
        }
    }
    usage.mib += memfds.values().sum::<f64>();
    usage
}

/// The processor time that some processes have used, in seconds.
pub fn cpu(processes: &[Pid]) -> f64 {
    let used = |pid: &Pid| {
        let pid = nix::unistd::Pid::from_raw(pid.as_raw_nonzero().get());
        let clock = nix::time::ClockId::pid_cpu_clock_id(pid).ok()?;
        Some(Duration::from(clock.now().ok()?).as_secs_f64())
    };
    processes.iter().filter_map(used).sum()
}

/// The CPU seconds of some programs, each its own.
pub fn cpu_of(programs: [&dyn Program; 2]) -> [f64; 2] {
    programs.map(|program| cpu(&program.processes()))
}

/// Where the files of the benchmark go.
pub fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        fs::create_dir_all(&path).unwrap();
        path
    })
}

/// A directory in memory, which the readers' floor is.
pub fn tmpfs() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// The C program, compiled.
fn floor() -> &'static Path {
    static FLOOR: OnceLock<PathBuf> = OnceLock::new();
    FLOOR.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/side_by_side/floor.c");
        let path = scratch().join("floor");
        let compiled = Command::new("cc")
            .args(["-O2", "-Wall", "-DTHREADED", source, "-o"])
            .arg(&path)
            .args(["-lzookeeper_mt", "-lpthread"])
            .status()
            .unwrap();
        assert!(compiled.success(), "run tests/setup.sh --bench");
        path
    })
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
