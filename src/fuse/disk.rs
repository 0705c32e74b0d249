//! Answers from the disk, by threads of their own: one that does not answer must not hold up those
//! who ask for something else.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use fuser::ReplyData;
use parking_lot::Mutex;

use super::{Refusal, errno, part};
use crate::content::Content;
use crate::tree::Ino;

/// How many threads read. They are started when the first content lies on disk.
const THREADS: usize = 4;

/// The way to the threads.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Option<Sender<Wanted>>>>);

/// A read to be answered.
struct Wanted {
    ino: Ino,
    content: Content,
    offset: u64,
    size: u32,
    reply: ReplyData,
}

impl Disk {
    /// Has the read answered.
    pub(super) fn read(
        &self,
        ino: Ino,
        content: Content,
        offset: u64,
        size: u32,
        reply: ReplyData,
    ) {
        let wanted = Wanted {
            ino,
            content,
            offset,
            size,
            reply,
        };
        let mut threads = self.0.lock();
        let sender = threads.get_or_insert_with(start);
        // Without any thread the answer is an error: fuser sends one for a reply that is dropped.
        let _ = sender.send(wanted);
    }
}

fn start() -> Sender<Wanted> {
    let (sender, receiver) = mpsc::channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..THREADS {
        let receiver = Arc::clone(&receiver);
        let started = std::thread::Builder::new()
            .name("disk".into())
            .spawn(move || serve(&receiver));
        if let Err(err) = started {
            log::error!("cannot start a thread that reads from the disk: {err}");
        }
    }
    sender
}

fn serve(receiver: &Mutex<Receiver<Wanted>>) {
    loop {
        // Whoever waits for the next one holds the lock meanwhile; the others wait for that.
        let next = receiver.lock().recv();
        let Ok(wanted) = next else {
            return;
        };
        answer(wanted);
    }
}

fn answer(wanted: Wanted) {
    let Wanted {
        ino,
        content,
        offset,
        size,
        reply,
    } = wanted;
    let was_lost = content.is_lost();
    match content.bytes() {
        Ok(bytes) => reply.data(part(&bytes, offset, size)),
        Err(err) => {
            if !was_lost {
                log::error!(
                    "the content of inode {} cannot be read from the disk: {err}",
                    ino.0
                );
            }
            reply.error(errno(Refusal::Unreadable));
        }
    }
}
