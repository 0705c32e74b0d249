//! What `-o` may say, as mount(8), fstab and fusermount3 spell it.

use thiserror::Error;

/// How to mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether other users may look. Unsaid, root lets them (owner, group and mode of each file
    /// decide then) and others do not (fusermount3 refuses it unless /etc/fuse.conf allows it).
    pub allow_other: Option<bool>,
    /// No file there may be executed.
    pub noexec: bool,
    /// What the mount table shows as the source, in place of the configuration file.
    pub fsname: Option<String>,
}

/// An option that means nothing here.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("-o {0}: unknown mount option; allow_other, noexec and fsname=NAME are known")]
pub struct OptionsError(String);

/// What mount(8) and fstab carry along and what holds anyway: the mount is read-only, without
/// devices and set-user-id, and the kernel checks permissions.
const WITHOUT_EFFECT: [&str; 25] = [
    "defaults",
    "ro",
    "rw",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "sync",
    "async",
    "auto",
    "noauto",
    "user",
    "users",
    "nouser",
    "nofail",
    "_netdev",
    "default_permissions",
    "subtype=livedata",
];

impl Options {
    /// Takes the comma list of one `-o` into account.
    pub fn add(&mut self, list: &str) -> Result<(), OptionsError> {
        for option in list.split(',').filter(|option| !option.is_empty()) {
            match option {
                "allow_other" => self.allow_other = Some(true),
                "noexec" => self.noexec = true,
                _ if WITHOUT_EFFECT.contains(&option) => {}
                _ if option.starts_with("x-") || option.starts_with("comment=") => {}
                _ => match option.strip_prefix("fsname=") {
                    Some(name) => self.fsname = Some(name.into()),
                    None => return Err(OptionsError(option.into())),
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fstab_and_mount_pass() {
        let mut options = Options::default();
        options
            .add("rw,dev,suid,_netdev,x-systemd.automount")
            .unwrap();
        assert_eq!(options, Options::default());
        options.add("allow_other,noexec,fsname=live").unwrap();
        assert_eq!(
            options,
            Options {
                allow_other: Some(true),
                noexec: true,
                fsname: Some("live".into())
            }
        );
        assert_eq!(
            options.add("ro,alow_other"),
            Err(OptionsError("alow_other".into()))
        );
    }
}
