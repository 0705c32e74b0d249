//! A few requests of the ZooKeeper protocol by hand: what no client library would send.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const OP_CREATE: i32 = 1;
const OP_GET: i32 = 4;
const OP_SET: i32 = 5;
const OP_CLOSE: i32 = -11;

/// A session without pings: good for a few requests at once.
pub struct Wire {
    stream: TcpStream,
    xid: i32,
}

impl Wire {
    /// Opens a session of its own.
    pub fn connect(server: SocketAddr) -> Self {
        Self::handshake(server, 0, &[0; 16], &[])
            .unwrap()
            .expect("the server opens a session")
    }

    /// Creates a znode with null data (not empty data: none at all), open to anyone.
    pub fn create_null(&mut self, path: &str) {
        let mut body = Vec::new();
        put_bytes(&mut body, path.as_bytes());
        put_i32(&mut body, -1); // the length of the data
        put_i32(&mut body, 1); // one ACL entry
        put_i32(&mut body, 31); // all permissions
        put_bytes(&mut body, b"world");
        put_bytes(&mut body, b"anyone");
        put_i32(&mut body, 0); // persistent
        let (code, _) = self.request(OP_CREATE, &body).unwrap();
        assert_eq!(code, 0, "create {path} with null data");
    }

    /// The length of the data of a znode, -1 for null, as it stands in the reply to a get; or the
    /// error code of the reply, which is below -1.
    pub fn data_length(&mut self, path: &str) -> i32 {
        let mut body = Vec::new();
        put_bytes(&mut body, path.as_bytes());
        body.push(0); // no watch
        match self.request(OP_GET, &body).unwrap() {
            (0, body) => i32::from_be_bytes(body[..4].try_into().unwrap()),
            (code, _) => code,
        }
    }

    /// Sets the content of a znode, whatever its version, and gives the error code of the reply.
    /// Fails where the server closes the connection, as it does on too long a request.
    pub fn set(&mut self, path: &str, content: &[u8]) -> io::Result<i32> {
        let mut body = Vec::new();
        put_bytes(&mut body, path.as_bytes());
        put_bytes(&mut body, content);
        put_i32(&mut body, -1); // any version
        Ok(self.request(OP_SET, &body)?.0)
    }

    /// Closes the session, which ends it at once wherever it came from.
    pub fn close(mut self) {
        let _ = self.request(OP_CLOSE, &[]);
    }

    /// Asks for a session, new where `session` is 0, and sends `more` in the same breath. None
    /// where the server knows no such session (any more).
    fn handshake(
        server: SocketAddr,
        session: i64,
        password: &[u8; 16],
        more: &[u8],
    ) -> io::Result<Option<Self>> {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut request = Vec::new();
        put_i32(&mut request, 0); // protocol version
        put_i64(&mut request, 0); // last zxid seen
        put_i32(&mut request, 10_000); // session timeout
        put_i64(&mut request, session);
        put_bytes(&mut request, password);
        request.push(0); // not read-only
        let mut frames = Vec::new();
        put_bytes(&mut frames, &request);
        frames.extend_from_slice(more);
        stream.write_all(&frames)?;
        let reply = receive(&mut stream)?;
        let granted = i64::from_be_bytes(reply[8..16].try_into().unwrap());
        Ok((granted != 0).then_some(Self { stream, xid: 0 }))
    }

    /// Sends one request and gives the error code and the body of its reply.
    fn request(&mut self, opcode: i32, body: &[u8]) -> io::Result<(i32, Vec<u8>)> {
        self.xid += 1;
        let mut request = Vec::new();
        put_i32(&mut request, self.xid);
        put_i32(&mut request, opcode);
        request.extend_from_slice(body);
        send(&mut self.stream, &request)?;
        loop {
            let reply = receive(&mut self.stream)?;
            if reply[..4] == self.xid.to_be_bytes() {
                let code = i32::from_be_bytes(reply[12..16].try_into().unwrap());
                return Ok((code, reply[16..].to_vec()));
            }
        }
    }
}

/// Takes a session over by its id and password, as its client would that comes back. None where
/// there is no such session; fails where the client took it back at once.
pub fn take_over(server: SocketAddr, session: i64) -> io::Result<Option<Wire>> {
    Wire::handshake(server, session, &password(session), &[])
}

/// Ends a session as the server does when it expires: takes it over and closes it. Its client is
/// cut off, and told so when it comes back. False where there is no such session.
pub fn expire(server: SocketAddr, session: i64) -> bool {
    let mut close = Vec::new();
    put_i32(&mut close, 8);
    put_i32(&mut close, 1); // the number of the request
    put_i32(&mut close, OP_CLOSE);
    // The client may come back and take its session from us before we have closed it, so both
    // requests go at once, and again until the session is gone.
    for n_before in 0..100 {
        if let Ok(None) = Wire::handshake(server, session, &password(session), &close) {
            return n_before > 0;
        }
    }
    panic!("session {session:#x} does not end");
}

/// Asks a server by a four letter word; none where it does not answer. Bounded: a server that
/// has just begun to listen may answer and leave the connection open.
pub fn four_letters(server: SocketAddr, word: &str) -> Option<String> {
    let patience = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&server, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(word.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The password of a session: a server derives it from the id by java.util.Random.
fn password(session: i64) -> [u8; 16] {
    const SECRET: i64 = 0xB341_5C00;
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut seed = ((session ^ SECRET).cast_unsigned() ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for word in password.chunks_mut(4) {
        seed = seed.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        // nextBytes takes each 32-bit word from its low end.
        word.copy_from_slice(&((seed >> 16) as u32).to_le_bytes());
    }
    password
}

fn send(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(frame.len() + 4);
    put_bytes(&mut bytes, frame);
    stream.write_all(&bytes)
}

fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn put_i32(to: &mut Vec<u8>, number: i32) {
    to.extend_from_slice(&number.to_be_bytes());
}

fn put_i64(to: &mut Vec<u8>, number: i64) {
    to.extend_from_slice(&number.to_be_bytes());
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_i32(to, i32::try_from(bytes.len()).unwrap());
    to.extend_from_slice(bytes);
}
