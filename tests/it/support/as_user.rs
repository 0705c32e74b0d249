//! What other users see. Needs root.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use super::process;

/// The user `nobody` and its group.
pub const NOBODY: u32 = 65534;

/// Reads a path again and again as another user.
const SNOOP: &str = "
import os, select, sys
n_tries = n_reads = 0
print('started', flush=True)
while n_tries % 64 or not select.select([sys.stdin], [], [], 0)[0]:
    n_tries += 1
    try:
        fd = os.open(sys.argv[1], os.O_RDONLY)
        n_reads += len(os.read(fd, 1)) > 0
        os.close(fd)
    except OSError:
        pass
print(n_tries, n_reads)
";

/// Another user that tries to read a path in a tight loop.
pub struct Snoop {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<std::process::ChildStdout>,
}

/// What a [`Snoop`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snooped {
    /// How often it tried to open the path.
    pub n_tries: u64,
    /// How often it got content of it.
    pub n_reads: u64,
}

/// Runs a program as another user, without any other group, and waits for it.
pub fn run(user: u32, program: &str, arguments: &[&str]) -> Output {
    as_user(user, Command::new(program).args(arguments))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The content of a file as another user reads it; none where that fails.
pub fn read(user: u32, path: &Path) -> Option<Vec<u8>> {
    let output = run(user, "/bin/cat", &[path.to_str().unwrap()]);
    output.status.success().then_some(output.stdout)
}

impl Snoop {
    /// Starts it, and waits until it is at work.
    pub fn start(user: u32, path: &Path) -> Self {
        // The system's interpreter: one in a home directory is not for other users.
        let mut command = process::bound_to_us("/usr/bin/python3", "KILL");
        command
            .args(["-I", "-S", "-c", SNOOP])
            .arg(path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        as_user(user, &mut command);
        let mut child = process::spawn(command);
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "started\n", "the snoop");
        Self {
            child,
            stdin,
            stdout,
        }
    }

    /// Stops it and tells what it got.
    pub fn stop(mut self) -> Snooped {
        drop(self.stdin.take());
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let mut numbers = line.split_whitespace().map(|n| n.parse().unwrap());
        Snooped {
            n_tries: numbers.next().expect("the snoop tells its tries"),
            n_reads: numbers.next().expect("the snoop tells its reads"),
        }
    }
}

impl Drop for Snoop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a command run as another user; std drops the other groups along with root.
fn as_user(user: u32, command: &mut Command) -> &mut Command {
    command.gid(user).uid(user)
}
