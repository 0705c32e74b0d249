//! Child processes that end with the test binary.

use std::fs;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::wait::wait_until;

/// How long a process may take to stop.
const STOPS: Duration = Duration::from_secs(10);

/// A command that `program` receives `signal` (a name such as `TERM`) when the test binary ends
/// without having stopped it, even by SIGKILL. To be started by [`spawn`].
pub fn bound_to_us(program: &str, signal: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal, "--", program]);
    command
}

/// Starts a command on a thread that lives as long as the test binary. The kernel sends the
/// signal of [`bound_to_us`] when the parent *thread* ends, and the thread of a test ends early.
pub fn spawn(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, reply) in orders {
                    let _ = reply.send(command.spawn());
                }
            })
            .unwrap();
        Mutex::new(sender)
    });
    let name = format!("{command:?}");
    let (reply, child) = mpsc::channel();
    spawner.lock().unwrap().send((command, reply)).unwrap();
    child
        .recv()
        .unwrap()
        .unwrap_or_else(|err| panic!("cannot start {name}: {err}"))
}

/// Sends a signal to a child that was not waited for yet.
pub fn signal(child: &Child, signal: Signal) {
    rustix::process::kill_process(pid(child), signal).unwrap();
}

/// Stops a process, and waits until all its threads have: SIGSTOP is carried out by one of them, and
/// on a busy machine the others go on until that one runs.
#[track_caller]
pub fn stop(pid: Pid) {
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    wait_until(STOPS, "all its threads are stopped", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
        let mut stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")));
        stats.all(|stat| stat.is_ok_and(|stat| stat.contains(") T ")))
    });
}

/// The number of a child, in the type that system calls take.
pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).unwrap()
}

/// Waits for a child to end; none where it still runs after `deadline`.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if start.elapsed() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(3));
    }
}
