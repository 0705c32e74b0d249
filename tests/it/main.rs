//! The integration tests, one binary.

mod tree;
