//! The ZooKeeper service that a configuration names.

use crate::config::{self, Config, Sasl};
use crate::source::zookeeper::{Tls, ZooKeeper};

/// Names the service and the part of it, so that what was learnt of another is not taken for it. That
/// an ensemble of other hosts is the same one nobody can tell.
pub fn identity(config: &Config) -> String {
    let mut hosts = config.zookeeper.hosts.clone();
    hosts.sort();
    let chroot = config.zookeeper.chroot.as_ref();
    let chroot = chroot.map_or("/", |chroot| chroot.as_str());
    format!("{}{chroot}", hosts.join(","))
}

/// [`zookeeper`] for who only reads: a read-only server will do, where that is configured.
pub fn zookeeper_to_read(config: &Config) -> ZooKeeper {
    zookeeper(config).with_read_only(config.zookeeper.read_only)
}

/// A source that reads the configured secrets anew at each attempt to connect, and none where no
/// credentials are configured; certificates likewise.
pub fn zookeeper(config: &Config) -> ZooKeeper {
    let (secrets, names) = (config.secrets.clone(), config.zookeeper.credentials.clone());
    let warned = config::secrets::Warned::default();
    let tls = config.zookeeper.tls.as_ref().map(|tls| Tls {
        ca_cert: tls.ca_cert.clone(),
        identity: tls.identity.clone(),
    });
    ZooKeeper::new(
        config.zookeeper.hosts.iter().cloned(),
        config.zookeeper.chroot.as_ref(),
        config.zookeeper.timeout,
        Box::new(move || match names.is_empty() {
            true => Ok(Vec::new()),
            false => config::secrets::read(&secrets, &names, &warned)
                .map_err(|err| format!("{:#}", anyhow::Error::new(err))),
        }),
    )
    .with_tls(tls)
    .with_sasl_digest_md5(config.zookeeper.sasl == Some(Sasl::DigestMd5))
}
