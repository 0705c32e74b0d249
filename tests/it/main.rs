//! The integration tests, one binary.

mod config;
mod kernel;
mod live;
mod source;
mod tree;
