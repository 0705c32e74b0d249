//! The other end of the control socket: asking a keeper how it goes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::address;

/// Asks the keeper of a mount for its status, as JSON; see [`Status`](super::status::Status). The
/// mountpoint is absolute, without symbolic links.
pub fn ask(mountpoint: &Path, limit: Duration) -> io::Result<String> {
    let deadline = Instant::now() + limit;
    let mut stream = UnixStream::connect(address::of(mountpoint)?)?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(b"status\n")?;
    let mut answer = Vec::new();
    let mut more = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut more)? {
            0 => break,
            n_read => answer.extend_from_slice(&more[..n_read]),
        }
    }
    String::from_utf8(answer).map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))
}
