//! The integration tests, one binary.

mod config;
mod source;
mod tree;
