//! What the settings mean that concern everything: a wrong one is the error of the whole file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::parts::{self, Accounts};
use super::places::Places;
use super::raw::{Kind, RawConfig, wrong};
use super::{
    Config, Defaults, Error, Hooks, Log, Mount, OnDelete, OnDisconnect, Problem, Provider, Sasl,
    Secrets, Severity, Surroundings, Tls, ZooKeeper, hooks, values,
};
use crate::path::{Name, OWN_NAMES};

/// As in Baseplate.
const DEFAULT_SECRETS: &str = "/var/local/secrets.json";
/// Long enough for any maintenance, short enough to be noticed.
const DEFAULT_MAX_STALE: Duration = Duration::from_secs(3600);
/// What is told has nothing in it that is in the files.
const DEFAULT_STATUS_MODE: u16 = 0o444;
/// What a host spares without being asked.
const DEFAULT_MAX_BYTES: u64 = 256 << 20;
/// The protocol has 31 bits for the session timeout.
const MAX_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// What `text`, the content of `file`, means.
pub(super) fn config(
    file: &Path,
    text: &[u8],
    surroundings: &Surroundings<'_>,
) -> Result<Config, Error> {
    let mut raw = RawConfig::read(file, text, Kind::Main, surroundings)?;
    let mut accounts = Accounts::default();
    let mut problems = std::mem::take(&mut raw.problems);
    let zookeeper = zookeeper(&raw, &mut problems)?;
    let defaults = defaults(&raw, surroundings, &mut accounts)?;
    let own = Name::parse(OWN_NAMES).expect("our own name is a name");
    let status_dir = raw.value("mount.status_dir", own, status_dir)?;
    let places = Places::beside(status_dir.clone());
    let parts = parts::read(
        (&raw, places),
        &defaults,
        surroundings,
        &mut accounts,
        &mut problems,
    );
    problems.sort_by_key(|problem| problem.line);
    Ok(Config {
        file: file.into(),
        zookeeper,
        secrets: Secrets {
            path: raw
                .setting("secrets.path")
                .map_or(DEFAULT_SECRETS, |setting| &setting.value)
                .into(),
            provider: raw.value("secrets.provider", Provider::Vault, |text| match text {
                "vault" => Ok(Provider::Vault),
                "vault_csi" => Ok(Provider::VaultCsi),
                _ => Err(format!("{text:?} is no provider; write vault or vault_csi")),
            })?,
        },
        heartbeat_interval: raw.value(
            "heartbeat_interval",
            Duration::from_secs(300),
            values::some_time,
        )?,
        log: Log {
            level: raw.value("log.level", None, |text| values::level(text).map(Some))?,
            file: raw.value("log.file", None, |text| Ok(Some(beside(file, text))))?,
        },
        mount: Mount {
            xattr: raw.value("mount.xattr", false, values::boolean)?,
            links: raw.value("mount.links", false, values::boolean)?,
            status_mode: raw.value("mount.status_mode", DEFAULT_STATUS_MODE, |text| {
                match values::mode(text)? {
                    mode if mode & !0o444 == 0 => Ok(mode),
                    _ => Err(format!(
                        "{text:?} is more than reading; write 0440, for example"
                    )),
                }
            })?,
            status_dir,
            dropin_dir: raw.value("mount.dropin_dir", None, |text| {
                Ok(Some(beside(file, text)))
            })?,
        },
        cache_dir: cache_dir(&raw, surroundings),
        cache_max_bytes: raw.value("cache.max_bytes", DEFAULT_MAX_BYTES, values::bytes)?,
        defaults,
        nodes: parts.nodes,
        trees: parts.trees,
        hooks: Hooks {
            all: parts.hooks,
            ..hooks::reading::settings(&raw)?
        },
        naming: parts.naming,
        dropins: Vec::new(),
        problems,
    })
}

/// What nodes get that say nothing else; drop-ins take those of the main file.
pub(super) fn defaults(
    raw: &RawConfig<'_>,
    surroundings: &Surroundings<'_>,
    accounts: &mut Accounts,
) -> Result<Defaults, Error> {
    Ok(Defaults {
        uid: raw.value("defaults.owner", surroundings.uid, |text| {
            accounts.user(text, surroundings)
        })?,
        gid: raw.value("defaults.group", surroundings.gid, |text| {
            accounts.group(text, surroundings)
        })?,
        mode: raw.value("defaults.mode", 0o400, values::mode)?,
        on_delete: raw.value("defaults.on_delete", OnDelete::Remove, values::on_delete)?,
        on_disconnect: raw.value(
            "defaults.on_disconnect",
            OnDisconnect::Stale,
            values::on_disconnect,
        )?,
        max_stale: raw.value("defaults.max_stale", DEFAULT_MAX_STALE, values::time)?,
    })
}

/// An empty value asks for none.
fn cache_dir(raw: &RawConfig<'_>, surroundings: &Surroundings<'_>) -> Option<PathBuf> {
    match raw.setting("cache.dir") {
        Some(setting) if setting.value.is_empty() => None,
        Some(setting) => Some(beside(raw.file, &setting.value)),
        None => surroundings.cache_dir.map(Path::to_owned),
    }
}

/// The name of the status directory.
fn status_dir(text: &str) -> Result<Name, String> {
    if text.starts_with(OWN_NAMES) && text != OWN_NAMES {
        return Err(format!(
            "{text:?} begins with {OWN_NAMES:?}, which the mount keeps for itself; write another name"
        ));
    }
    Name::parse(text).map_err(|error| format!("{error}; write one name, as .livedata"))
}

/// A relative path is taken from the directory of the configuration file.
pub(super) fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

fn zookeeper(raw: &RawConfig<'_>, problems: &mut Vec<Problem>) -> Result<ZooKeeper, Error> {
    let Some(setting) = raw.setting("zookeeper.hosts") else {
        let mut message = "missing; write zookeeper.hosts = zk01:2181, for example".to_owned();
        if !raw.ignored.is_empty() {
            message += &format!(
                " (only [live-data] counts; ignored here: {})",
                raw.ignored.join(" ")
            );
        }
        return Err(wrong(
            raw.file,
            None,
            Some("zookeeper.hosts".into()),
            message,
        ));
    };
    let (hosts, chroot) =
        values::hosts(&setting.value).map_err(|message| raw.fatal(setting, message))?;
    if let Some(chroot) = chroot.as_ref().filter(|path| path.as_str().contains(',')) {
        problems.push(Problem {
            severity: Severity::Warning,
            file: raw.file.into(),
            line: Some(setting.line),
            key: Some(setting.key.clone()),
            message: format!(
                "the chroot is all of \"{chroot}\"; write it once, after the last host"
            ),
        });
    }
    let credentials = raw
        .setting("zookeeper.credentials")
        .map(|setting| values::list(&setting.value))
        .unwrap_or_default();
    Ok(ZooKeeper {
        hosts,
        chroot,
        tls: tls(raw, problems)?,
        sasl: sasl(raw, credentials.len())?,
        read_only: raw.value("zookeeper.read_only", false, values::boolean)?,
        timeout: raw.value("zookeeper.timeout", Duration::from_secs(5), |text| {
            let timeout = values::some_time(text)?;
            if timeout > MAX_TIMEOUT {
                return Err(format!(
                    "{text:?} is longer than ZooKeeper takes; write at most 24 days"
                ));
            }
            Ok(timeout)
        })?,
        credentials,
    })
}

fn tls(raw: &RawConfig<'_>, problems: &mut Vec<Problem>) -> Result<Option<Tls>, Error> {
    let is_on = raw.value("zookeeper.tls", false, values::boolean)?;
    if !is_on {
        for key in ["ca_cert", "cert", "key", "verify"] {
            let Some(setting) = raw.setting(&format!("zookeeper.{key}")) else {
                continue;
            };
            problems.push(Problem {
                severity: Severity::Warning,
                file: raw.file.into(),
                line: Some(setting.line),
                key: Some(setting.key.clone()),
                message: "has no effect without zookeeper.tls = true".into(),
            });
        }
        return Ok(None);
    }
    raw.value("zookeeper.verify", true, |text| {
        match values::boolean(text)? {
            true => Ok(true),
            // The client always verifies: to go on would be stricter than the file asks for.
            false => Err(
                "servers are always verified, by certificate and by host name; name the CA \
                      of their certificates in zookeeper.ca_cert, and remove this"
                    .into(),
            ),
        }
    })?;
    let path = |key| {
        raw.setting(key)
            .map(|setting| beside(raw.file, &setting.value))
    };
    let identity = match (raw.setting("zookeeper.cert"), raw.setting("zookeeper.key")) {
        (Some(cert), Some(key)) => {
            Some((beside(raw.file, &cert.value), beside(raw.file, &key.value)))
        }
        (None, None) => None,
        (Some(lone), None) => {
            let message = "zookeeper.key is missing; write both of them, or neither";
            return Err(raw.fatal(lone, message.into()));
        }
        (None, Some(lone)) => {
            let message = "zookeeper.cert is missing; write both of them, or neither";
            return Err(raw.fatal(lone, message.into()));
        }
    };
    Ok(Some(Tls {
        ca_cert: path("zookeeper.ca_cert"),
        identity,
    }))
}

fn sasl(raw: &RawConfig<'_>, n_credentials: usize) -> Result<Option<Sasl>, Error> {
    let Some(setting) = raw.setting("zookeeper.sasl_mechanism") else {
        return Ok(None);
    };
    if !setting.value.eq_ignore_ascii_case("digest-md5") {
        let message = format!(
            "{:?} is no mechanism of this version; write digest-md5",
            setting.value
        );
        return Err(raw.fatal(setting, message));
    }
    if n_credentials != 1 {
        let message = format!(
            "needs one secret with user:password, and zookeeper.credentials names {}; write \
             zookeeper.credentials = NAME",
            if n_credentials == 0 {
                "none".into()
            } else {
                n_credentials.to_string()
            }
        );
        return Err(raw.fatal(setting, message));
    }
    Ok(Some(Sasl::DigestMd5))
}
