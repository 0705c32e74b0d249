//! The line on a terminal that says how far the first load has come.

use std::io::{self, IsTerminal};

/// The line on a terminal that says how far the first load has come. The cursor stays at its
/// beginning, for the other process may write there too.
#[derive(Default)]
pub(crate) struct ProgressLine {
    shown: bool,
}

impl ProgressLine {
    pub(crate) fn show(&mut self, so_far: &str) {
        if io::stderr().is_terminal() {
            eprint!("\x1b[K{so_far}\r");
            self.shown = true;
        }
    }

    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\x1b[K");
        }
    }
}
