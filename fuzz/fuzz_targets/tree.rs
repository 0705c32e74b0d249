//! Whatever happens to a tree.
#![no_main]

#[path = "../entries/tree.rs"]
mod entry;
#[path = "../../tests/it/tree/twin.rs"]
mod twin;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::tree(bytes));
