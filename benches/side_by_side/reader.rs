//! The reader: a process of its own that looks at files as applications do, on the word of the
//! driver. One line asks, one line answers; times are nanoseconds of CLOCK_MONOTONIC.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::time::{ClockId, clock_gettime};

/// How often a file is looked at that has yet to change.
const PAUSE: Duration = Duration::from_micros(20);

/// How long anything may take that must come.
const PATIENCE: Duration = Duration::from_secs(200);

/// The time on the clock that all processes share.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Obeys until its input ends.
pub fn run() {
    // The kernel would round the pauses up by 50 microseconds.
    let _ = fs::write("/proc/self/timerslack_ns", "1");
    let mut buffer = vec![0; (1 << 20) + 4096];
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let answer = match words[0] {
            "see" => see(Path::new(words[1]), number(2), &mut buffer).to_string(),
            "follow" => follow(Path::new(words[1]), &words[2..], &mut buffer),
            "warm" => each(number(2), || {
                read(Path::new(words[1]), &mut buffer).unwrap();
            })
            .to_string(),
            "stat" => each(number(2), || {
                fs::metadata(words[1]).unwrap();
            })
            .to_string(),
            "first" => first(Path::new(words[1]), &mut buffer).to_string(),
            _ => panic!("the reader does not know {line}"),
        };
        println!("{answer}");
        io::stdout().flush().unwrap();
    }
}

/// Waits until a file has this value or a later one, and gives the time.
fn see(path: &Path, seq: u64, buffer: &mut [u8]) -> u64 {
    let start = Instant::now();
    while value(path, buffer).is_none_or(|has| has < seq) {
        assert!(start.elapsed() < PATIENCE, "{} is old", path.display());
        thread::sleep(PAUSE);
    }
    now()
}

/// `follow DIR N STRIDE WINDOW FIRST`: waits until n0 has FIRST, the file a stride further FIRST + 1
/// and so on, looking at the first WINDOW of those that have it not, and gives the time of each.
fn follow(directory: &Path, words: &[&str], buffer: &mut [u8]) -> String {
    let [n, stride, window, first] = [0, 1, 2, 3].map(|at| words[at].parse::<u64>().unwrap());
    let mut times = vec![0; n as usize];
    let mut pending: VecDeque<u64> = (0..n).collect();
    let start = Instant::now();
    while !pending.is_empty() {
        let mut late = Vec::new();
        for _ in 0..(window as usize).min(pending.len()) {
            let at = pending.pop_front().expect("there are as many");
            let path = directory.join(format!("n{}", at * stride));
            if value(&path, buffer).is_some_and(|has| has >= first + at) {
                times[at as usize] = now();
            } else {
                late.push(at);
            }
        }
        if late.is_empty() {
            continue;
        }
        let of = directory.display();
        assert!(
            start.elapsed() < PATIENCE,
            "n{} in {of} is old",
            late[0] * stride
        );
        late.into_iter().rev().for_each(|at| pending.push_front(at));
        thread::sleep(PAUSE);
    }
    times.iter().fold(String::new(), |mut line, time| {
        let _ = write!(line, "{time} ");
        line
    })
}

/// How long one of many takes.
fn each(n: u64, mut what: impl FnMut()) -> u64 {
    let start = now();
    (0..n).for_each(|_| what());
    (now() - start) / n
}

/// Waits for a file to be replaced, and gives how long the first open, read and close took. Says
/// first that it watches.
fn first(path: &Path, buffer: &mut [u8]) -> u64 {
    let watch = inotify::init(CreateFlags::CLOEXEC).unwrap();
    let directory = path.parent().unwrap();
    inotify::add_watch(&watch, directory, WatchFlags::MOVED_TO).unwrap();
    println!("watching");
    let mut events = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut events);
    let name = path.file_name().unwrap().as_encoded_bytes();
    while events
        .next()
        .unwrap()
        .file_name()
        .map(|name| name.to_bytes())
        != Some(name)
    {}
    let start = now();
    read(path, buffer).unwrap();
    now() - start
}

/// The number that a file begins with, once all of the file is read; none without such a file.
fn value(path: &Path, buffer: &mut [u8]) -> Option<u64> {
    let n = read(path, buffer).ok()?;
    str::from_utf8(buffer[..n].get(..16)?).ok()?.parse().ok()
}

/// Opens, reads and closes a file.
fn read(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let mut n = 0;
    loop {
        match file.read(&mut buffer[n..])? {
            0 => return Ok(n),
            more => n += more,
        }
        if n == buffer.len() {
            return Ok(n);
        }
    }
}
