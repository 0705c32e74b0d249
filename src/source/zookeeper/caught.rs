//! Panics of the client crate, caught where we poll it, and counted beside other garbled replies.
//!
//! A reply that no server sends may panic the client: in the task that asked, in its own task, or
//! while it connects. Each becomes one reason in words, and nothing of it reaches stderr, where
//! ten thousand watchers of one dead client would leave as many dumps.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What servers sent that no server sends, since the process began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Garbled {
    /// How many replies were garbled, as far as it shows.
    pub n: u64,
    /// The last one, in words for a log line.
    pub last: Option<String>,
}

/// A server that garbles everything must not fill the disk.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Of the process, as the panic hook is; and when one was logged.
static GARBLED: Mutex<(Garbled, Option<Instant>)> =
    Mutex::new((Garbled { n: 0, last: None }, None));

thread_local! {
    /// Whether a panic of this thread is caught here.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static LAST_WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What was counted so far.
pub(super) fn garbled() -> Garbled {
    GARBLED.lock().0.clone()
}

/// Counts a garbled reply and logs it, unless one was logged just now.
pub(super) fn count(reason: &str) {
    let n = {
        let (garbled, logged) = &mut *GARBLED.lock();
        garbled.n += 1;
        garbled.last = Some(reason.into());
        if logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return;
        }
        *logged = Some(Instant::now());
        garbled.n
    };
    log::warn!("ZooKeeper: a garbled reply, the {n}. so far: {reason}");
}

/// Polls a future to its end, or to its panic, of which it gives the words.
pub(super) async fn catching<F: Future>(future: F) -> Result<F::Output, String> {
    listen();
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let before = CATCHING.replace(true);
        let polled = panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        CATCHING.set(before);
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(LAST_WORDS.take())),
        }
    })
    .await
}

/// Has panics that are caught say their words here, and all others what they said before.
fn listen() {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| match CATCHING.get() {
            true => drop(LAST_WORDS.replace(words(panic))),
            false => others(panic),
        }));
    });
}

/// One line: what, and where in the source.
fn words(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let what = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words");
    let what = what.lines().next().unwrap_or_default();
    match panic.location() {
        Some(at) => {
            let file = at.file().rsplit('/').take(2).collect::<Vec<_>>();
            let file = file.into_iter().rev().collect::<Vec<_>>().join("/");
            format!("{what} ({file}:{})", at.line())
        }
        None => what.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_its_words() {
        let panics = async { panic!("no {}\nor more", "good") };
        let words = catching::<_>(async {
            tokio::task::yield_now().await;
            panics.await
        });
        let words: Result<(), String> = words.await;
        let words = words.unwrap_err();
        assert!(
            words.starts_with("no good (zookeeper/caught.rs:"),
            "{words}"
        );
        assert_eq!(catching(async { 1 }).await, Ok(1));
        assert!(!CATCHING.get());
    }
}
