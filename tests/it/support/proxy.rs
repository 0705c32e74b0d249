//! A faulty network: a TCP proxy on loopback between a client and a ZooKeeper server.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::zookeeper::free_address;

/// The opcode of a set request.
const OP_SET: i32 = 5;

/// Forwards connections to a server, as well or as badly as it is told. Four letter words do not
/// pass: it reads the client's side as frames.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What happens to the bytes of one direction, from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are forwarded.
    Pass,
    /// They wait until the mode changes, as behind a paused peer or a link that is down.
    Stall,
    /// They are swallowed. A connection that lost some is cut when the mode changes.
    Hole,
    /// They are forwarded in order, each read after a pause.
    Delay(Duration),
    /// They are forwarded a few at a time, with a pause of 1 ms after each such piece.
    Trickle(usize),
}

struct Shared {
    server: SocketAddr,
    /// Whether it reads what clients send as frames, and so can hold back some.
    frames: bool,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    accepts: bool,
    ended: bool,
    /// By direction: to the server, to the client.
    modes: [Mode; 2],
    holds_sets: bool,
    n_held: usize,
    n_accepted: usize,
    streams: Vec<TcpStream>,
}

#[derive(Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// Listens on a port of its own and forwards to `server`.
    pub fn start(server: SocketAddr) -> Self {
        Self::start_at(free_address(), server, true)
    }

    /// [`Proxy::start`] for another protocol, such as that between servers.
    pub fn start_raw(server: SocketAddr) -> Self {
        Self::start_at(free_address(), server, false)
    }

    /// [`Proxy::start`] at an address.
    pub fn start_at(address: SocketAddr, server: SocketAddr, frames: bool) -> Self {
        let shared = Arc::new(Shared {
            server,
            frames,
            state: Mutex::new(State {
                accepts: true,
                ended: false,
                modes: [Mode::Pass; 2],
                holds_sets: false,
                n_held: 0,
                n_accepted: 0,
                streams: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let listener = TcpListener::bind(address).unwrap();
        let its = Arc::clone(&shared);
        spawn("proxy", move || its.accept(address, listener));
        Self { address, shared }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `zookeeper.hosts` must say.
    pub fn hosts(&self) -> String {
        self.address.to_string()
    }

    /// Sets the mode of both directions.
    pub fn set(&self, mode: Mode) {
        self.change(|state| state.modes = [mode; 2]);
    }

    /// Sets the mode of what clients send.
    pub fn set_to_server(&self, mode: Mode) {
        self.change(|state| state.modes[Direction::ToServer as usize] = mode);
    }

    /// Sets the mode of what the server sends.
    pub fn set_to_client(&self, mode: Mode) {
        self.change(|state| state.modes[Direction::ToClient as usize] = mode);
    }

    /// Closes every connection; new ones are welcome.
    pub fn cut(&self) {
        self.change(State::cut);
    }

    /// Closes every connection and refuses new ones until [`Proxy::accept`].
    pub fn refuse(&self) {
        self.change(|state| {
            state.accepts = false;
            state.cut();
        });
        super::wait::wait_until(Duration::from_secs(5), "the proxy refuses", || {
            TcpStream::connect(self.address).is_err()
        });
    }

    /// Takes connections again after [`Proxy::refuse`].
    pub fn accept(&self) {
        self.change(|state| state.accepts = true);
    }

    /// Holds set requests back, and on the same connection whatever the client sends after one.
    pub fn hold_sets(&self) {
        self.change(|state| state.holds_sets = true);
    }

    /// How many set requests are held back at the moment.
    pub fn n_held(&self) -> usize {
        self.shared.lock().n_held
    }

    /// Forwards what is held back, and holds nothing any more.
    pub fn release(&self) {
        self.change(|state| state.holds_sets = false);
    }

    /// How many connections were accepted so far.
    pub fn n_accepted(&self) -> usize {
        self.shared.lock().n_accepted
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|state| {
            state.ended = true;
            state.accepts = false;
            state.cut();
        });
    }
}

impl State {
    fn cut(&mut self) {
        for stream in self.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn accept(self: Arc<Self>, address: SocketAddr, first: TcpListener) {
        first.set_nonblocking(true).unwrap();
        let mut listener = Some(first);
        loop {
            let (accepts, ended) = {
                let state = self.lock();
                (state.accepts, state.ended)
            };
            if ended {
                return;
            }
            if !accepts {
                listener = None;
            } else if listener.is_none() {
                listener = TcpListener::bind(address)
                    .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                    .ok();
            }
            match listener.as_ref().map(TcpListener::accept) {
                Some(Ok((client, _))) => self.join(client),
                _ => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Connects a client with the server.
    fn join(self: &Arc<Self>, client: TcpStream) {
        // Without a server the client sees its connection close, as behind a balancer.
        let Ok(server) = TcpStream::connect_timeout(&self.server, Duration::from_secs(2)) else {
            return;
        };
        client.set_nonblocking(false).unwrap();
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        {
            let mut state = self.lock();
            state.n_accepted += 1;
            for stream in [&client, &server] {
                state.streams.push(stream.try_clone().unwrap());
            }
        }
        let pairs = [
            (Direction::ToServer, &client, &server),
            (Direction::ToClient, &server, &client),
        ];
        for (direction, from, to) in pairs {
            let its = Arc::clone(self);
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            spawn("proxy-pump", move || {
                let _ = its.pump(direction, &from, &to);
                for stream in [from, to] {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            });
        }
    }

    fn pump(&self, direction: Direction, mut from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        let mut n_frames = 0;
        let mut swallowed = false;
        loop {
            let piece = match direction {
                Direction::ToServer if self.frames => frame(from)?,
                Direction::ToServer | Direction::ToClient => {
                    let mut piece = vec![0; 64 * 1024];
                    let n = from.read(&mut piece)?;
                    piece.truncate(n);
                    piece
                }
            };
            if piece.is_empty() {
                return Ok(());
            }
            n_frames += 1;
            // The first frame of a client asks for a session and has no opcode.
            if let (true, Direction::ToServer, 2..) = (self.frames, direction, n_frames)
                && piece.get(8..12) == Some(&OP_SET.to_be_bytes())
            {
                self.hold(from);
            }
            if !self.deliver(direction, &piece, to, &mut swallowed)? {
                return Ok(());
            }
        }
    }

    /// Waits while set requests are held back.
    fn hold(&self, from: &TcpStream) {
        let mut state = self.lock();
        if !state.holds_sets {
            return;
        }
        state.n_held += 1;
        while state.holds_sets && !state.ended && is_open(from) {
            state = self.wait(state);
        }
        state.n_held -= 1;
    }

    /// Treats a piece as the mode of its direction says; false where the connection must end.
    fn deliver(
        &self,
        direction: Direction,
        piece: &[u8],
        mut to: &TcpStream,
        swallowed: &mut bool,
    ) -> io::Result<bool> {
        let mut state = self.lock();
        while state.modes[direction as usize] == Mode::Stall && !state.ended && is_open(to) {
            state = self.wait(state);
        }
        let mode = state.modes[direction as usize];
        drop(state);
        if *swallowed && mode != Mode::Hole {
            return Ok(false);
        }
        match mode {
            Mode::Pass | Mode::Stall => to.write_all(piece)?,
            Mode::Hole => *swallowed = true,
            Mode::Delay(pause) => {
                thread::sleep(pause);
                to.write_all(piece)?;
            }
            Mode::Trickle(n) => {
                for bytes in piece.chunks(n.max(1)) {
                    to.write_all(bytes)?;
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        Ok(true)
    }

    /// Waits for a change, and not for ever: a peer that goes away changes nothing here.
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let patience = Duration::from_millis(50);
        self.changed.wait_timeout(state, patience).unwrap().0
    }
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

/// Whether the peer still holds its end, as far as can be seen without reading what it sent.
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
    let peeked = stream.peek(&mut byte);
    let _ = stream.set_read_timeout(None);
    !matches!(peeked, Ok(0)) && stream.peer_addr().is_ok()
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.into()).spawn(run).unwrap();
}
