//! The integration tests: real servers, real mounts.

// A test fails by panicking; clippy knows that of `#[test]` functions only.
#![allow(clippy::unwrap_used)]

mod harness;
mod support;
