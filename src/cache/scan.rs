//! One pass over a log, past whatever is damaged in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{Head, N_HEAD};

/// How much is read at once, in bytes.
const N_READ: usize = 1 << 18;

/// The frames of a file, in order.
pub(super) struct Scan<'a> {
    file: &'a File,
    salt: u64,
    /// Where the file ended when the pass began.
    end: u64,
    buffer: Vec<u8>,
    /// Where the buffer starts in the file.
    start: u64,
    /// Where the next frame starts in the buffer.
    at: usize,
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A whole frame.
    Frame {
        offset: u64,
        /// Of the whole frame.
        n_bytes: u64,
        payload: &'a [u8],
    },
    /// Bytes that are no frame.
    Damage {
        offset: u64,
        n_bytes: u64,
        /// Nothing comes after them: a write may have been cut short.
        is_last: bool,
    },
    End,
}

impl<'a> Scan<'a> {
    pub(super) fn new(file: &'a File, salt: u64) -> io::Result<Self> {
        Ok(Self {
            file,
            salt,
            end: file.metadata()?.len(),
            buffer: Vec::new(),
            start: 0,
            at: 0,
        })
    }

    /// How far it came, in bytes.
    pub(super) fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Where the file ended when the pass began.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn next(&mut self) -> io::Result<Found<'_>> {
        let offset = self.offset();
        if !self.fill(1)? {
            return Ok(Found::End);
        }
        if self.fill(N_HEAD)?
            && let Some(head) = Head::parse(&self.buffer[self.at..], self.salt)
            && self.fill(N_HEAD + head.n_bytes)?
        {
            let first = self.at + N_HEAD;
            let payload = first..first + head.n_bytes;
            if head.fits(&self.buffer[payload.clone()]) {
                self.at = payload.end;
                return Ok(Found::Frame {
                    offset,
                    n_bytes: (N_HEAD + head.n_bytes) as u64,
                    payload: &self.buffer[payload],
                });
            }
        }
        self.at += 1;
        let is_last = !self.find_head()?;
        Ok(Found::Damage {
            offset,
            n_bytes: self.offset() - offset,
            is_last,
        })
    }

    /// Goes to the next head of a frame, or to the end. Whether there is one.
    fn find_head(&mut self) -> io::Result<bool> {
        let salt = self.salt.to_le_bytes();
        while self.fill(N_HEAD)? {
            let rest = &self.buffer[self.at..];
            // The last position at which a whole head is in the buffer.
            let last = rest.len() - N_HEAD;
            let found = (0..=last).find(|at| {
                rest[*at] == salt[0]
                    && rest[*at..].starts_with(&salt)
                    && Head::parse(&rest[*at..], self.salt).is_some()
            });
            match found {
                Some(at) => {
                    self.at += at;
                    return Ok(true);
                }
                None => self.at += last + 1,
            }
        }
        self.at = (self.end - self.start) as usize;
        Ok(false)
    }

    /// Makes sure that `n` bytes from here on are in the buffer. False where the file ends before.
    fn fill(&mut self, n: usize) -> io::Result<bool> {
        if self.buffer.len() >= self.at + n {
            return Ok(true);
        }
        if self.offset() + n as u64 > self.end {
            return Ok(false);
        }
        self.buffer.drain(..self.at);
        self.start += self.at as u64;
        self.at = 0;
        let had = self.buffer.len();
        let left = (self.end - self.start) as usize;
        self.buffer.resize(n.max(N_READ).min(left), 0);
        let at = self.start + had as u64;
        if let Err(err) = self.file.read_exact_at(&mut self.buffer[had..], at) {
            self.buffer.truncate(had);
            // Somebody cut the file meanwhile.
            if err.kind() == io::ErrorKind::UnexpectedEof {
                self.end = self.start + had as u64;
                return Ok(false);
            }
            return Err(err);
        }
        Ok(true)
    }
}
