//! What commands write, line by line to the log; not more than a log can bear.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The longest line, in bytes; the rest of it is left out.
const MAX_LINE: usize = 2 << 10;

/// How many lines are logged of one command in a [`PERIOD`].
const MAX_LINES: u32 = 200;
const PERIOD: Duration = Duration::from_secs(10);

/// How much is read at once, and how long the next has to wait while lines are left out: a command
/// that writes without end waits, and so costs little.
const AT_ONCE: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(100);

/// The output of one command and whatever it leaves running.
pub(super) struct Output {
    name: String,
    /// The command.
    pub(super) pid: u32,
    pipe: OwnedFd,
    line: Vec<u8>,
    is_cut: bool,
    since: Instant,
    n_lines: u32,
    n_left_out: u64,
    paused_until: Option<Instant>,
}

impl Output {
    pub(super) fn new(name: String, pid: u32, pipe: OwnedFd) -> Self {
        Self {
            name,
            pid,
            pipe,
            line: Vec::new(),
            is_cut: false,
            since: Instant::now(),
            n_lines: 0,
            n_left_out: 0,
            paused_until: None,
        }
    }

    /// Until when it is not to be read, if it is not.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }

    /// Logs what there is. False at its end.
    pub(super) fn read(&mut self, now: Instant) -> bool {
        if self.paused_until(now).is_some() {
            return true;
        }
        self.paused_until = None;
        if now - self.since >= PERIOD {
            self.say_what_is_left_out();
            (self.since, self.n_lines) = (now, 0);
        }
        let mut buffer = [0; 16 << 10];
        let mut n_bytes = 0;
        while n_bytes < AT_ONCE {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => {
                    self.end_line();
                    self.say_what_is_left_out();
                    return false;
                }
                Ok(n) => {
                    n_bytes += n;
                    self.take(&buffer[..n]);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(err) => {
                    log::debug!(
                        "{}: its output cannot be read: {}",
                        self.name,
                        io::Error::from(err)
                    );
                    return false;
                }
            }
        }
        if self.n_left_out > 0 {
            self.paused_until = Some(now + PAUSE);
        }
        true
    }

    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = MAX_LINE - self.line.len();
            self.is_cut |= text.len() > room;
            self.line.extend(&text[..text.len().min(room)]);
            if ends {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let is_cut = std::mem::take(&mut self.is_cut);
        if line.is_empty() {
            return;
        }
        if self.n_lines >= MAX_LINES {
            self.n_left_out += 1;
            return;
        }
        self.n_lines += 1;
        let text: String = String::from_utf8_lossy(&line)
            .trim_end_matches('\r')
            .chars()
            .map(|c| {
                if c.is_control() && c != '\t' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect();
        log::info!("{}: {text}{}", self.name, if is_cut { " ..." } else { "" });
    }

    fn say_what_is_left_out(&mut self) {
        let n = std::mem::take(&mut self.n_left_out);
        if n > 0 {
            log::warn!("{}: {n} lines of its output are left out", self.name);
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
