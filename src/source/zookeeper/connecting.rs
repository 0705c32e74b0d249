//! What the client does not do for us while it connects: hand over its task, and say why it failed.

use std::future::Future;
use std::net::ToSocketAddrs;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;

use super::tls::{self, Read};

/// Polls `connecting` with a spawner of our own, and gives back what it wanted spawned.
pub(super) async fn holding_tasks<T>(
    connecting: impl Future<Output = T>,
) -> (T, Vec<spawns_core::Task>) {
    #[derive(Default)]
    struct Held(Mutex<Vec<spawns_core::Task>>);
    impl spawns_core::Spawn for Held {
        fn spawn(&self, task: spawns_core::Task) {
            self.0.lock().push(task);
        }
    }
    let held = Held::default();
    let mut connecting = pin!(connecting);
    let result = std::future::poll_fn(|context| {
        let _scope = spawns_core::enter(&held);
        match connecting.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    (result, held.0.into_inner())
}

/// Somebody is there, and is none of ours.
const SERVES_NOT: &str = "accepts connections, but does not serve ZooKeeper";

/// Finds the words for a failed connection by doing its first steps again.
pub(super) async fn why_unreachable(host: &str, tls: Option<Read>, patience: Duration) -> String {
    let host = host.to_owned();
    // What to say where it takes too long.
    let so_far = Arc::new(Mutex::new("the name server does not answer"));
    let phase = Arc::clone(&so_far);
    let asked = tokio::task::spawn_blocking(move || {
        let addresses = match host.to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(err) => return format!("cannot resolve the name: {err}"),
        };
        *phase.lock() = "no connection comes about";
        let mut reason = "the name has no address".to_string();
        for address in addresses {
            match std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
                Ok(stream) => {
                    *phase.lock() = SERVES_NOT;
                    let reason = match &tls {
                        Some(tls) => tls.why_refused(&host, stream),
                        None => tls::is_spoken(stream)
                            .then(|| "speaks TLS on this port; write zookeeper.tls = true".into()),
                    };
                    return reason.unwrap_or_else(|| SERVES_NOT.into());
                }
                Err(err) => reason = err.to_string(),
            }
        }
        reason
    });
    // A name server may be silent for longer, and a server too.
    match tokio::time::timeout(patience, asked).await {
        Ok(reason) => reason.unwrap_or_else(|_| "unreachable".into()),
        Err(_) => (*so_far.lock()).into(),
    }
}
