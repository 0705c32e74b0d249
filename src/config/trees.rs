//! What one tree means by itself.

use super::parts::{Accounts, Manner, Reading};
use super::{Defaults, Tree, values};
use crate::path::Name;
use crate::subtree::Subtree;

/// The file with the data of a znode that is a directory.
const DEFAULT_DATA_NAME: &str = "_data_";
/// Whoever may read a file should find it.
const DEFAULT_DIR_MODE: u16 = 0o555;

/// The tree, if all that it says is right.
pub(super) fn tree(
    reading: &mut Reading<'_>,
    defaults: &Defaults,
    accounts: &mut Accounts,
) -> Option<Tree> {
    let source = reading.source();
    let dest = reading.dest();
    let depth = reading.value("depth", None, |text| values::depth(text).map(Some));
    let include = reading.value("include", Vec::new(), values::patterns);
    let exclude = reading.value("exclude", Vec::new(), values::patterns);
    let Manner {
        uid,
        gid,
        mode,
        on_disconnect,
        max_stale,
    } = reading.manner(defaults, accounts);
    let dir_mode = reading.value("dir_mode", DEFAULT_DIR_MODE, values::mode);
    let data_name = match reading.raw.option("data_name") {
        Some(_) => reading.value("data_name", None, |text| values::name(text).map(Some)),
        None => Name::parse(DEFAULT_DATA_NAME).ok(),
    };
    reading.all_right()?;
    let subtree = match Subtree::new(source?, depth, &include, &exclude) {
        Ok(subtree) => subtree,
        // Each pattern is right, so this is about all of them.
        Err(message) => {
            reading.problem("include", message);
            return None;
        }
    };
    reading.check_max_stale(on_disconnect);
    let (dest, is_outside) = dest?;
    Some(Tree {
        name: reading.raw.name.clone(),
        line: reading.raw.line,
        subtree,
        dest,
        is_outside,
        uid,
        gid,
        mode,
        dir_mode,
        data_name: data_name?,
        on_disconnect,
        max_stale,
        hooks: reading.hooks(),
    })
}
