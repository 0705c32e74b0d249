//! Connections that are encrypted, verified and authenticated, with real servers.

mod sasl;
mod tls;

use std::net::SocketAddr;

use crate::support::certificates::Authority;
use crate::support::zookeeper::{Server, free_address};

/// A server that listens in plain text and with TLS.
struct Secure {
    server: Server,
    /// Where it speaks TLS.
    address: SocketAddr,
}

impl Secure {
    /// Its certificate is `server.both` of `authority`, which must also have signed those of the
    /// clients, where `client_auth` is `need`.
    fn start(authority: &Authority, client_auth: &str, more: &str, options: &[String]) -> Self {
        let address = free_address();
        let lines = format!(
            "secureClientPort={}\nsecureClientPortAddress=127.0.0.1\n\
             serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
             ssl.keyStore.type=PEM\nssl.keyStore.location={}\n\
             ssl.trustStore.type=PEM\nssl.trustStore.location={}\n\
             ssl.clientAuth={client_auth}\nssl.hostnameVerification=false\n{more}",
            address.port(),
            authority.name("server.both"),
            authority.name("ca.pem"),
        );
        Self {
            server: Server::start_with_options(&lines, options),
            address,
        }
    }
}
