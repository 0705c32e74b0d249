//! Getting to a server that is up to date, and reading a znode from it, within a time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::path::ZnodePath;
use crate::source::{ConnectError, Error, Session, Source, Value};

/// The pause after all hosts have failed once; the first is random up to this.
const PAUSE: Duration = Duration::from_millis(500);

/// Why there is no content.
#[derive(Debug)]
pub(super) enum Unreached {
    /// No server served it in time.
    Timeout {
        /// How long was tried.
        within: Duration,
        /// Each host and what was wrong with it.
        why: String,
    },
    /// Trying again is no cure.
    Refused(String),
    /// A server answered that.
    Request(Error),
}

/// What went wrong, by host, the newest reason of each.
#[derive(Default)]
struct Reasons(BTreeMap<String, String>);

/// Connects and reads. A connection that breaks meanwhile is one more failed attempt: reading
/// changes nothing.
pub(super) async fn read<S: Source>(
    zookeeper: &S,
    path: &ZnodePath,
    within: Duration,
) -> Result<(S::Session, Value), Unreached> {
    let deadline = Instant::now() + within;
    let mut reasons = Reasons::default();
    for attempt in 1.. {
        let tried = timeout_at(deadline, attempt_once(zookeeper, path, &mut reasons));
        match tried.await {
            Ok(Ok(Some(reached))) => return Ok(reached),
            Ok(Ok(None)) => {}
            Ok(Err(unreached)) => return Err(unreached),
            Err(_) => break,
        }
        if attempt % zookeeper.n_hosts().max(1) == 0 {
            let pause = PAUSE.mul_f64(0.5 + fastrand::f64() / 2.0);
            if timeout_at(deadline, tokio::time::sleep(pause))
                .await
                .is_err()
            {
                break;
            }
        }
    }
    Err(Unreached::Timeout {
        within,
        why: reasons.to_string(),
    })
}

/// One attempt at one host; none where another one may do better.
async fn attempt_once<S: Source>(
    zookeeper: &S,
    path: &ZnodePath,
    reasons: &mut Reasons,
) -> Result<Option<(S::Session, Value)>, Unreached> {
    let session = match zookeeper.connect().await {
        Ok(session) => session,
        Err(ConnectError::Unreachable { host, reason }) => {
            log::debug!("{host}: {reason}");
            reasons.0.insert(host, reason);
            return Ok(None);
        }
        Err(
            err @ (ConnectError::AuthFailed { .. }
            | ConnectError::Credentials(_)
            | ConnectError::Certificates(_)),
        ) => {
            return Err(Unreached::Refused(err.to_string()));
        }
    };
    if session.is_read_only() {
        reasons.broken("the server is read-only, cut off from the others");
        return Ok(None);
    }
    // Until it answers.
    reasons.broken("connected, but no answer");
    // A follower that lags would show what is no longer there.
    let reading = async {
        session.sync(path).await?;
        session.read(path).await
    };
    let result = tokio::select! {
        biased;
        result = reading => result,
        reason = session.lost() => {
            reasons.broken(&reason);
            return Ok(None);
        }
    };
    match result {
        Ok(value) => Ok(Some((session, value))),
        Err(Error::ConnectionLost) => {
            reasons.broken("the connection broke");
            Ok(None)
        }
        Err(err) => Err(Unreached::Request(err)),
    }
}

impl Reasons {
    /// A session does not say which host it is with.
    fn broken(&mut self, reason: &str) {
        log::debug!("{reason}");
        self.0.insert(String::new(), reason.into());
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no answer");
        }
        for (i, (host, reason)) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let colon = if host.is_empty() { "" } else { ": " };
            write!(f, "{comma}{host}{colon}{reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { within, why } => {
                let within = within.as_secs_f64();
                write!(
                    f,
                    "ZooKeeper was not reached again within {within} s: {why}"
                )
            }
            Self::Refused(why) => f.write_str(why),
            Self::Request(err) => write!(f, "reading it again failed: {err}"),
        }
    }
}
