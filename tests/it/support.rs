//! What the integration tests stand on: servers, a client that changes znodes, a faulty network,
//! mounts and other users.
//!
//! Everything started here ends with its guard, and with the test binary however that ends.

// Which helpers are in use changes with the tests.
#![allow(dead_code, unreachable_pub)]

pub mod admin;
pub mod as_user;
pub mod certificates;
pub mod mount;
pub mod place;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod shown;
pub mod versions;
pub mod wait;
pub mod wire;
pub mod zookeeper;
