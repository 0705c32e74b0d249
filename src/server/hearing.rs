//! What is heard of the keeper and said to it, beside what the main thread does.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use parking_lot::Mutex;

use super::hooks::Hooking;
use super::{Error, Event, noted, system};
use crate::fuse::Publishers;
use crate::processes::{ToKeeper, ToServer};
use crate::publish::{Publishing, Tell};
use crate::wire::Socket;

/// Publishers are passed on by the thread that hears of them: the main thread may be waiting for
/// one, in a freeze.
pub(super) fn hear_keeper(
    keeper: Arc<Socket>,
    tell: Sender<Event>,
    (publishers, noted, publishing): (Publishers, Arc<Mutex<noted::Publishers>>, Arc<Publishing>),
    hooking: Arc<Hooking>,
) -> Result<(), Error> {
    std::thread::Builder::new()
        .name("keeper".into())
        .spawn(move || {
            loop {
                let event = match keeper.receive() {
                    Ok(Some((ToServer::Publisher { pid }, with))) => {
                        let mut with = with.into_iter();
                        let socket = with.next().map(Socket::from);
                        if let Some(process) = with.next() {
                            publishers.add(pid, process);
                        }
                        noted.lock().note(Some(pid));
                        publishing.use_publisher(socket.map(|socket| (pid, socket)));
                        continue;
                    }
                    Ok(Some((ToServer::NoPublisher, _))) => {
                        noted.lock().note(None);
                        publishing.use_publisher(None);
                        continue;
                    }
                    Ok(Some((ToServer::Runner, with))) => {
                        if let Some(socket) = with.into_iter().next() {
                            hooking.meet(Socket::from(socket));
                        }
                        continue;
                    }
                    Ok(Some((message, _))) => Event::Keeper(message),
                    Ok(None) => Event::KeeperGone,
                    Err(err) => {
                        log::error!("the keeper is not understood: {err}");
                        continue;
                    }
                };
                let over = matches!(event, Event::KeeperGone);
                if tell.send(event).is_err() || over {
                    return;
                }
            }
        })
        .map_err(system("cannot start a thread"))?;
    Ok(())
}

/// What the publishing thread says goes to the keeper, and to whoever speaks with the runner.
pub(super) fn told_of_publishing(keeper: &Arc<Socket>, hooking: &Arc<Hooking>) -> Tell {
    let (of_records, of_publishers) = (Arc::clone(keeper), Arc::clone(keeper));
    let hooking = Arc::clone(hooking);
    Tell {
        published: Box::new(move |file, hint| hooking.hint(file, hint)),
        record: Box::new(move |memory| of_records.send(&ToKeeper::Record, &[memory])),
        hangs: Box::new(move |pid| {
            // A keeper that is gone takes us along.
            let _ = of_publishers.send(&ToKeeper::PublisherHangs { pid }, &[]);
        }),
    }
}
