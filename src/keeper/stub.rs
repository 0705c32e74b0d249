//! The mains of the server and of the publisher, until they are there.

use std::process::ExitCode;

/// Says so, and fails.
pub fn main(name: &str) -> ExitCode {
    eprintln!("livedata-fuse: there is no {name} yet");
    ExitCode::FAILURE
}
