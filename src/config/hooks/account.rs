//! Users of this host, with all that a command which runs as one of them needs.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Uid, User};

use super::Account;
use crate::config::values;

/// The user with this name, else with this number, as a member of `group` instead of its primary
/// one. All its groups are those that a login would have.
pub(in crate::config) fn look_up(text: &str, group: Option<u32>) -> io::Result<Option<Account>> {
    let user = match User::from_name(text)? {
        Some(user) => Some(user),
        None => match values::id(text) {
            Some(id) => User::from_uid(Uid::from_raw(id))?,
            None => None,
        },
    };
    let Some(user) = user else {
        return Ok(None);
    };
    let gid = group.map_or(user.gid, Gid::from_raw);
    let groups = nix::unistd::getgrouplist(&CString::new(user.name.as_str())?, gid)?;
    let groups = groups.into_iter().map(Gid::as_raw).collect();
    Ok(Some(Account {
        uid: user.uid.as_raw(),
        gid: gid.as_raw(),
        groups,
        name: Some(user.name),
        home: Some(user.dir),
        shell: Some(user.shell),
    }))
}
