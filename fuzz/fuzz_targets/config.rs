//! Whatever is written in a configuration or a drop-in.
#![no_main]

#[path = "../entries/config.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::config(bytes));
