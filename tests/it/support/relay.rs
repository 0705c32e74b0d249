//! A relay between clients and a ZooKeeper server that reads the frames: it counts what goes to
//! and fro, and garbles replies.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::zookeeper::free_address;

/// The opcode of a get.
pub const OP_GET: i32 = 4;
/// The opcode of an exists, which answers with a Stat.
pub const OP_EXISTS: i32 = 3;

/// The opcode of an addWatch.
pub const OP_ADD_WATCH: i32 = 106;
/// The opcode of nothing.
const OP_UNKNOWN: i32 = 9_999;

/// The xid of a watch event.
const NOTIFICATION: i32 = -1;

/// Forwards connections to a server. Four letter words do not pass.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What becomes of a reply. A frame is its length, then xid, zxid, error code and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbling {
    /// No body, and no error.
    NoBody,
    /// The answer to a request that nobody made.
    WrongXid,
    /// The second half never comes: the stream is out of step from here on.
    LostBytes,
    /// The second half is missing, and the frame ends there.
    Cut,
    /// The frame has a length of -1.
    NegativeFrame,
    /// The body begins with a length of -5.
    NegativeLength,
    /// An error code that does not exist.
    UnknownError,
    /// The body ends four bytes late.
    LongStat,
    /// The body ends four bytes early.
    ShortStat,
    /// A body of random bytes.
    RandomBody,
    /// Random bytes, header and all.
    RandomFrame,
    /// The frame claims to be 64 MiB long.
    HugeFrame,
    /// It comes after the one that follows it.
    Late,
    /// It never comes.
    Missing,
    /// It comes twice.
    Twice,
    /// A watch event of a znode that nobody watches comes before it.
    StrayEvent,
    /// A watch event of a kind that does not exist comes before it.
    UnknownEvent,
}

/// Which replies are garbled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those to a request for a session.
    Connects,
    /// All others, pings and events among them.
    Replies,
    /// Those to gets.
    Gets,
}

/// What went to and fro.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// Requests by opcode, those for a session aside.
    pub requests: BTreeMap<i32, usize>,
    /// Bytes of replies and events.
    pub to_client: usize,
    /// Replies that were garbled.
    pub n_garbled: usize,
}

/// The numbers of the gets of a connection that were not answered yet.
type Gets = Mutex<BTreeSet<i32>>;

struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ended: bool,
    /// The server is to look like one from before 3.6.
    is_old: bool,
    /// One in so many.
    garbling: Option<(Which, usize, Garbling)>,
    n_seen: usize,
    traffic: Traffic,
    streams: Vec<TcpStream>,
}

impl Relay {
    /// Listens on a port of its own and forwards to `server`.
    pub fn start(server: SocketAddr) -> Self {
        let address = free_address();
        let listener = TcpListener::bind(address).unwrap();
        let shared = Arc::new(Shared {
            server,
            state: Mutex::default(),
        });
        let its = Arc::clone(&shared);
        spawn("relay", move || its.accept(&listener));
        Self { address, shared }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Garbles one in `every` of these from now on.
    pub fn garble(&self, which: Which, every: usize, how: Garbling) {
        self.shared.lock().garbling = Some((which, every, how));
    }

    /// Garbles nothing any more.
    pub fn heal(&self) {
        self.shared.lock().garbling = None;
    }

    /// Has the server not know addWatch from now on, as before 3.6: it is asked for what no server
    /// knows instead.
    pub fn make_old(&self) {
        self.shared.lock().is_old = true;
    }

    /// Closes every connection.
    pub fn cut(&self) {
        self.shared.lock().cut();
    }

    /// What went to and fro since the start, or since [`Relay::take_traffic`].
    pub fn traffic(&self) -> Traffic {
        self.shared.lock().traffic.clone()
    }

    /// [`Relay::traffic`], and counts anew.
    pub fn take_traffic(&self) -> Traffic {
        std::mem::take(&mut self.shared.lock().traffic)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        state.cut();
    }
}

impl Traffic {
    /// How many requests had this opcode.
    pub fn n(&self, opcode: i32) -> usize {
        self.requests.get(&opcode).copied().unwrap_or(0)
    }
}

impl State {
    fn cut(&mut self) {
        for stream in self.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// What is to become of a reply.
    fn garbling(&mut self, which: Which) -> Option<Garbling> {
        let (chosen, every, how) = self.garbling?;
        let is_chosen = match chosen {
            Which::Connects | Which::Gets => which == chosen,
            Which::Replies => which != Which::Connects,
        };
        if !is_chosen {
            return None;
        }
        self.n_seen += 1;
        if !self.n_seen.is_multiple_of(every) {
            return None;
        }
        self.traffic.n_garbled += 1;
        Some(how)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        listener.set_nonblocking(true).unwrap();
        while !self.lock().ended {
            match listener.accept() {
                Ok((client, _)) => self.join(client),
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn join(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect_timeout(&self.server, Duration::from_secs(2)) else {
            return;
        };
        client.set_nonblocking(false).unwrap();
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
            let stream = stream.try_clone().unwrap();
            self.lock().streams.push(stream);
        }
        let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (its, gets) = (Arc::clone(self), Arc::<Gets>::default());
        let of_replies = Arc::clone(&gets);
        spawn("relay-requests", move || {
            let _ = its.requests(&gets, &from, &to);
            close(&from, &to);
        });
        let its = Arc::clone(self);
        spawn("relay-replies", move || {
            let _ = its.replies(&of_replies, &server, &client);
            close(&server, &client);
        });
    }

    fn requests(&self, gets: &Gets, from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        to.write_all(&frame(from)?)?;
        loop {
            let mut request = frame(from)?;
            if let (Some(xid), Some(opcode)) = (number(&request, 4), number(&request, 8)) {
                *self.lock().traffic.requests.entry(opcode).or_default() += 1;
                if opcode == OP_GET {
                    gets.lock().unwrap().insert(xid);
                }
                if opcode == OP_ADD_WATCH && self.lock().is_old {
                    request[8..12].copy_from_slice(&OP_UNKNOWN.to_be_bytes());
                }
            }
            to.write_all(&request)?;
        }
    }

    fn replies(&self, gets: &Gets, from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut is_first = true;
        let mut late = Vec::new();
        loop {
            let reply = frame(from)?;
            let is_get = number(&reply, 4).is_some_and(|xid| gets.lock().unwrap().remove(&xid));
            let which = match (is_first, is_get) {
                (true, _) => Which::Connects,
                (false, true) => Which::Gets,
                (false, false) => Which::Replies,
            };
            is_first = false;
            let how = {
                let mut state = self.lock();
                state.traffic.to_client += reply.len();
                state.garbling(which)
            };
            match how {
                Some(Garbling::Late) if late.is_empty() => {
                    late = reply;
                    continue;
                }
                Some(how) => to.write_all(&garbled(reply, how))?,
                None => to.write_all(&reply)?,
            }
            to.write_all(&std::mem::take(&mut late))?;
        }
    }
}

/// What comes instead of a frame, its length included.
fn garbled(mut frame: Vec<u8>, how: Garbling) -> Vec<u8> {
    const HEADER: usize = 4 + 16;
    let body = HEADER.min(frame.len());
    let half = body + (frame.len() - body) / 2;
    match how {
        Garbling::NoBody => framed(&frame[4..body]),
        Garbling::WrongXid => {
            frame[4..8].copy_from_slice(&0x7654_3210_i32.to_be_bytes());
            frame
        }
        Garbling::LostBytes => frame[..half.max(8)].to_vec(),
        Garbling::Cut => framed(&frame[4..half]),
        Garbling::NegativeFrame => {
            frame[..4].copy_from_slice(&(-1_i32).to_be_bytes());
            frame
        }
        Garbling::NegativeLength => {
            if let Some(length) = frame.get_mut(body..body + 4) {
                length.copy_from_slice(&(-5_i32).to_be_bytes());
            }
            frame
        }
        Garbling::UnknownError => {
            if let Some(code) = frame.get_mut(16..20) {
                code.copy_from_slice(&(-12_345_i32).to_be_bytes());
            }
            frame
        }
        Garbling::LongStat => {
            frame.extend([7; 4]);
            framed(&frame[4..])
        }
        Garbling::ShortStat => framed(&frame[4..body.max(frame.len() - 4)]),
        Garbling::RandomBody => {
            fastrand::fill(&mut frame[body..]);
            frame
        }
        Garbling::RandomFrame => {
            fastrand::fill(&mut frame[4..]);
            frame
        }
        Garbling::HugeFrame => {
            frame[..4].copy_from_slice(&(64_i32 << 20).to_be_bytes());
            frame
        }
        Garbling::Late => frame,
        Garbling::Missing => Vec::new(),
        Garbling::Twice => [frame.clone(), frame].concat(),
        Garbling::StrayEvent => [event(3), frame].concat(),
        Garbling::UnknownEvent => [event(99), frame].concat(),
    }
}

/// A watch event of this kind, of a znode that nobody watches.
fn event(kind: i32) -> Vec<u8> {
    const PATH: &[u8] = b"/nobody/watches/this";
    const CONNECTED: i32 = 3;
    let mut event = NOTIFICATION.to_be_bytes().to_vec();
    event.extend((-1_i64).to_be_bytes());
    event.extend(0_i32.to_be_bytes());
    event.extend(kind.to_be_bytes());
    event.extend(CONNECTED.to_be_bytes());
    event.extend(framed(PATH));
    framed(&event)
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = i32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

/// The number at an offset of a frame, its length included.
fn number(frame: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?))
}

/// Reads one frame, length included.
fn frame(mut from: &TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    if length > 64 << 20 {
        return Err(io::Error::other("no ZooKeeper frame"));
    }
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

fn close(one: &TcpStream, other: &TcpStream) {
    for stream in [one, other] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.into()).spawn(run).unwrap();
}
