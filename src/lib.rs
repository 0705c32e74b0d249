//! Live configuration as files: configured ZooKeeper znodes on a read-only FUSE mount.
pub mod config;
pub mod daemon;
pub mod fuse;
pub mod logging;
pub mod mirror;
pub mod mountpoint;
pub mod path;
pub mod publish;
pub mod service;
pub mod source;
pub mod store;
pub mod tree;
pub mod writer;
