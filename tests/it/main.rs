//! The integration tests, one binary.

mod config;
mod mirror;
mod source;
mod tree;
