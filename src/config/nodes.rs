//! What one node means by itself.

use super::parts::{Accounts, Manner, Reading};
use super::{Defaults, Node, values};

/// The node, if all that it says is right.
pub(super) fn node(
    reading: &mut Reading<'_>,
    defaults: &Defaults,
    accounts: &mut Accounts,
) -> Option<Node> {
    let source = reading.source();
    let dest = reading.dest();
    let Manner {
        uid,
        gid,
        mode,
        on_disconnect,
        max_stale,
    } = reading.manner(defaults, accounts);
    let on_delete = reading.value("on_delete", defaults.on_delete, values::on_delete);
    let required = reading.value("required", false, values::boolean);
    reading.all_right()?;
    reading.check_max_stale(on_disconnect);
    let (dest, is_outside) = dest?;
    Some(Node {
        name: reading.raw.name.clone(),
        line: reading.raw.line,
        source: source?,
        dest,
        is_outside,
        uid,
        gid,
        mode,
        on_delete,
        on_disconnect,
        max_stale,
        required,
        hooks: reading.hooks(),
    })
}
