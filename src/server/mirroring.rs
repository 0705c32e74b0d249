//! The mirror's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;

use super::{Error, Event, Server, system};
use crate::mirror::{Command, Mirror, Update};
use crate::service;
use crate::source::zookeeper::ZooKeeper;

/// The mirror's thread, while it runs.
pub(super) struct Running {
    pub(super) commands: UnboundedSender<Command<ZooKeeper>>,
    pub(super) thread: JoinHandle<()>,
}

impl Server {
    pub(super) fn start_mirror(&mut self) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(system("cannot start the runtime"))?;
        let (commands, received) = tokio::sync::mpsc::unbounded_channel();
        let (desk, loading) = (Arc::clone(&self.desk), Arc::clone(&self.loading));
        let heard = Arc::clone(&self.heard);
        let (wanted, told) = {
            let desk = desk.lock();
            (desk.files.wanted(), desk.files.told())
        };
        commands
            .send(Command::Watch(wanted))
            .expect("the receiver is here");
        let (source, interval) = (
            service::zookeeper_to_read(&self.config),
            self.config.heartbeat_interval,
        );
        let tell = self.tell.clone();
        let thread = std::thread::Builder::new()
            .name("mirror".into())
            .spawn(move || {
                let ended = Ended(tell.clone());
                let mirror = Mirror::new(source, interval, |update| {
                    let ages = matches!(
                        update,
                        Update::Unreadable { .. } | Update::Disconnected { .. }
                    );
                    let complete = {
                        let mut desk = desk.lock();
                        desk.update(update);
                        loading.load(Ordering::Relaxed)
                            && (desk.files.is_complete() || desk.files.is_all_there_is(false))
                    };
                    if (complete || ages) && !heard.swap(true, Ordering::Relaxed) {
                        let _ = tell.send(Event::Heard);
                    }
                });
                runtime.block_on(mirror.going_on_from(told).run(received));
                // A name that is being resolved is not waited for.
                runtime.shutdown_background();
                drop(ended);
            })
            .map_err(system("cannot start a thread"))?;
        self.mirror = Some(Running { commands, thread });
        Ok(())
    }

    pub(super) fn stop_mirror(&mut self) {
        if let Some(Running { commands, thread }) = self.mirror.take() {
            drop(commands);
            if thread.join().is_err() {
                log::error!("the mirror's thread panicked");
            }
        }
    }
}

/// Tells when the mirror's thread ends, also by a panic.
struct Ended(Sender<Event>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(Event::MirrorEnded);
    }
}
