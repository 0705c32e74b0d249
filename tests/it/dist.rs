//! What is shipped beside the programs: the unit, the manual pages, the completions, the package.

mod generated;
mod package;
mod unit;

use std::path::{Path, PathBuf};

/// A file of the project.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
