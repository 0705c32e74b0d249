//! The integration tests, one binary.

// A helper of a test fails it by panicking, as the test itself does.
#![allow(clippy::unwrap_used)]
// One binary has no outside.
#![allow(unreachable_pub)]

mod config;
mod harness;
mod keeper;
mod kernel;
mod live;
mod source;
mod support;
mod tree;
mod writer;
