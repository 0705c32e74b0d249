//! The integration tests.

// A helper of a test fails it by panicking, as the test itself does.
#![allow(clippy::unwrap_used)]

mod source;
mod writer;
