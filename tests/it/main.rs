//! The integration tests, one binary.

// A helper of a test fails it by panicking, as the test itself does.
#![allow(clippy::unwrap_used)]
// One binary has no outside.
#![allow(unreachable_pub)]

mod attributes;
mod bad_input;
mod cache;
mod commands;
mod config;
mod dist;
mod files;
mod flips;
mod fuzzed;
mod harness;
mod hooks;
mod keeper;
mod kernel;
mod links;
mod live;
mod mirror;
mod observe;
mod outages;
mod record;
mod secure;
mod security;
mod source;
mod spilling;
mod support;
mod survival;
mod tree;
mod trees;
mod watching;
mod writer;
