//! The integration tests.
mod source;
