//! TLS: what the files of certificates hold, and why a server and we do not agree.
//!
//! The client tells nobody why a handshake failed, so the words for it are found by making one more,
//! with the same certificates, by the library that the client uses.

use std::io::{self, ErrorKind, Read as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore};
use zookeeper_client as zk;

/// Where systems keep the CAs they trust: Debian, Red Hat, SUSE, Alpine.
const SYSTEM_CAS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How long a server may take to answer one message of a handshake that is made to find an error.
const PATIENCE: Duration = Duration::from_secs(1);

/// The PEM files of a service that speaks TLS; read anew at each attempt to connect. Servers are
/// always verified, by certificate and by host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The CAs that sign the servers' certificates; none for those that the system trusts.
    pub ca_cert: Option<PathBuf>,
    /// Our certificate and its key, where servers ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What the files hold, which was found to be right.
pub(super) struct Read {
    ca_file: PathBuf,
    ca: String,
    identity: Option<Identity>,
    config: Arc<ClientConfig>,
}

struct Identity {
    cert_file: PathBuf,
    cert: String,
    key: String,
}

impl Tls {
    /// Reads the files, or says which one is wrong, and how.
    pub(super) fn read(&self) -> Result<Read, String> {
        let ca_file = match &self.ca_cert {
            Some(file) => file.clone(),
            None => system_cas()?,
        };
        let ca = pem(&ca_file, "zookeeper.ca_cert")?;
        let mut roots = RootCertStore::empty();
        let certificates = certificates(&ca, &ca_file, "zookeeper.ca_cert")?;
        // The client passes over those that it cannot use, too.
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(format!(
                "{} holds no certificate of a CA; zookeeper.ca_cert names a PEM file with some",
                ca_file.display()
            ));
        }
        let crls: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(ca.as_bytes()).collect();
        let crls = crls.map_err(|err| wrong(&ca_file, "zookeeper.ca_cert", &err))?;
        let verifier = WebPkiServerVerifier::builder(Arc::new(roots))
            .with_crls(crls)
            .build()
            .map_err(|err| wrong(&ca_file, "zookeeper.ca_cert", &err))?;
        let builder = ClientConfig::builder().with_webpki_verifier(verifier);
        let (config, identity) = match &self.identity {
            None => (builder.with_no_client_auth(), None),
            Some((cert_file, key_file)) => {
                let cert = pem(cert_file, "zookeeper.cert")?;
                let key = pem(key_file, "zookeeper.key")?;
                let chain = self::certificates(&cert, cert_file, "zookeeper.cert")?;
                if chain.is_empty() {
                    return Err(format!(
                        "{} holds no certificate; zookeeper.cert names a PEM file with one",
                        cert_file.display()
                    ));
                }
                let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| {
                    format!(
                        "{} holds no private key that can be read; zookeeper.key names a PEM file \
                         with one, not encrypted",
                        key_file.display()
                    )
                })?;
                let config = builder.with_client_auth_cert(chain, der).map_err(|err| {
                    let (cert, key) = (cert_file.display(), key_file.display());
                    match err {
                        rustls::Error::InconsistentKeys(_) => format!(
                            "{key} is not the key of the certificate {cert}; zookeeper.key and \
                             zookeeper.cert belong together"
                        ),
                        err => format!("{cert} and {key} cannot be used: {err}"),
                    }
                })?;
                let cert_file = cert_file.clone();
                (
                    config,
                    Some(Identity {
                        cert_file,
                        cert,
                        key,
                    }),
                )
            }
        };
        Ok(Read {
            ca_file,
            ca,
            identity,
            config: Arc::new(config),
        })
    }
}

impl Read {
    /// What the client takes.
    pub(super) fn options(&self) -> Result<zk::TlsOptions, String> {
        let options = zk::TlsOptions::new().with_pem_ca(&self.ca);
        let options = options.and_then(|options| match &self.identity {
            Some(identity) => options.with_pem_identity(&identity.cert, &identity.key),
            None => Ok(options),
        });
        options.map_err(|err| err.to_string())
    }

    /// Why the server at the other end of `stream` and we do not agree; none where the handshake
    /// succeeds. Blocks for some seconds at most.
    pub(super) fn why_refused(&self, host: &str, stream: TcpStream) -> Option<String> {
        let name = match server_name(host) {
            Ok(name) => name,
            Err(reason) => return Some(reason),
        };
        let err = match shake_hands(&self.config, name, stream) {
            Ok(()) => return None,
            Err(err) => err,
        };
        let Failed::Tls(err) = err else {
            return Some(match err {
                Failed::NoTls => "does not speak TLS on this port; zookeeper.hosts must name its \
                                  secureClientPort"
                    .into(),
                _ => "does not finish the TLS handshake".into(),
            });
        };
        Some(match err {
            rustls::Error::InvalidCertificate(wrong) => self.why_untrusted(host, wrong),
            rustls::Error::AlertReceived(
                alert @ (AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate),
            ) => match &self.identity {
                Some(identity) => format!(
                    "refuses our certificate {} ({alert:?})",
                    identity.cert_file.display()
                ),
                None => format!(
                    "wants a certificate of ours ({alert:?}); name one in zookeeper.cert and \
                     zookeeper.key"
                ),
            },
            rustls::Error::AlertReceived(alert) => format!("refuses the TLS handshake ({alert:?})"),
            err => format!("the TLS handshake fails: {err}"),
        })
    }

    fn why_untrusted(&self, host: &str, wrong: CertificateError) -> String {
        match wrong {
            // Another CA of the same name signs otherwise.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "its certificate is not signed by a CA in {}",
                self.ca_file.display()
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".into()
            }
            CertificateError::Revoked => "its certificate was revoked".into(),
            CertificateError::NotValidForName => {
                format!("its certificate is not for {}", bare(host))
            }
            CertificateError::NotValidForNameContext { presented, .. } => match &presented[..] {
                [] => format!("its certificate is not for {}, but for no name", bare(host)),
                names => {
                    // They come as `DnsName("zk01")` and `IpAddress(10.0.0.1)`.
                    let names: Vec<_> = names.iter().map(|name| plain(name)).collect();
                    let names = names.join(", ");
                    format!("its certificate is not for {}, but for {names}", bare(host))
                }
            },
            other => format!("its certificate is wrong: {other}"),
        }
    }
}

/// The name in `host:port` as certificates have it.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(bare(host).to_owned())
        .map_err(|_| "this is no name that a certificate can hold".into())
}

/// Whether the server at the other end speaks TLS. Blocks for a second or two at most.
pub(super) fn is_spoken(stream: TcpStream) -> bool {
    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::from(std::net::Ipv4Addr::LOCALHOST);
    // It cannot succeed, for nobody is trusted.
    matches!(
        shake_hands(&Arc::new(config), name, stream),
        Err(Failed::Tls(_))
    )
}

/// How a handshake ended.
enum Failed {
    /// What came is no TLS, or nothing came.
    NoTls,
    /// It began, and the connection broke.
    Broke,
    Tls(rustls::Error),
}

/// Makes a handshake, and listens for a moment for what a server says of our certificate: with TLS
/// 1.3 that comes after it.
fn shake_hands(
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    mut stream: TcpStream,
) -> Result<(), Failed> {
    for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        set(&stream, Some(PATIENCE)).map_err(|_| Failed::Broke)?;
    }
    let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(Failed::Tls)?;
    let mut step = |connection: &mut ClientConnection| {
        let result = connection.complete_io(&mut stream);
        result.map_err(|err| match tls_error(err) {
            Some(rustls::Error::InvalidMessage(_)) if !has_begun(connection) => Failed::NoTls,
            Some(err) => Failed::Tls(err),
            None if has_begun(connection) => Failed::Broke,
            None => Failed::NoTls,
        })
    };
    while connection.is_handshaking() {
        step(&mut connection)?;
    }
    let mut session = rustls::Stream::new(&mut connection, &mut stream);
    match session.read_exact(&mut [0]) {
        Ok(()) => Ok(()),
        Err(err) => tls_error(err).map_or(Ok(()), |err| Err(Failed::Tls(err))),
    }
}

/// Whether anything of the server's was understood.
fn has_begun(connection: &ClientConnection) -> bool {
    connection.protocol_version().is_some()
}

/// The error of TLS in one of I/O; none where the connection itself broke.
fn tls_error(err: io::Error) -> Option<rustls::Error> {
    match err.kind() {
        ErrorKind::InvalidData => err.into_inner()?.downcast().ok().map(|err| *err),
        _ => None,
    }
}

/// The name without the port and the brackets.
fn bare(host: &str) -> &str {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.trim_start_matches('[').trim_end_matches(']')
}

/// What is in the brackets and the quotes.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

fn system_cas() -> Result<PathBuf, String> {
    let mut files = SYSTEM_CAS.iter().map(PathBuf::from);
    files.find(|file| file.exists()).ok_or_else(|| {
        "the system has no file of CAs where we look; name one in zookeeper.ca_cert".into()
    })
}

fn pem(file: &Path, key: &str) -> Result<String, String> {
    std::fs::read_to_string(file)
        .map_err(|err| format!("cannot read {}: {err}; {key} names it", file.display()))
}

fn certificates(pem: &str, file: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.map_err(|err| wrong(file, key, &err))
}

fn wrong(file: &Path, key: &str, err: &dyn std::fmt::Display) -> String {
    format!("{} is no PEM file: {err}; {key} names it", file.display())
}
