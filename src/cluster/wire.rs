//! A connection between two processes that have proved who they are: a stream of bytes, encrypted or as they are.
//!
//! What proves who they are (`hello`) goes in the clear, since there is nothing secret in it. It leaves both ends with a key that
//! follows from the cluster's secret and from every byte of the hello; with that key TLS 1.3 begins on the same connection. So a
//! stranger never reaches OpenSSL's protocol, and whether a connection is encrypted is part of what was proved: nobody on the way
//! can talk the ends out of it. Each connection also agrees on keys that were never sent (ECDHE): who learns the secret later
//! can't read what was recorded before.
//!
//! The engine reads and writes from two threads, and OpenSSL's session is one thing that can't be cloned. So the session works on
//! memory, under a lock that is held while it encrypts or decrypts a piece; all waiting is done on the socket, outside of it.
//! The end of a connection is not said by TLS: those who use one say it themselves, and take any other end for a loss.

use std::{
    io::{Error, ErrorKind, Read, Result, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use openssl::{
    error::ErrorStack,
    ssl::{self, ErrorCode, Ssl, SslContext, SslMethod, SslStream, SslVersion},
};

use super::hello::Key;

/// Both have hashes of 256 bits, as the key is made for. The first is the faster one where the processor knows it.
const CIPHERS: &str = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
/// The name of the key. There is only one.
const IDENTITY: &[u8] = b"tieout\0";
/// Bytes that are encrypted in one go.
const PIECE: usize = 64 << 10;
/// Bytes that are read from the socket in one go.
const CAME: usize = 128 << 10;

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Dials,
    Answers,
}

/// One end of a connection. Clones are the same end, for another thread: one reads, one writes.
#[derive(Debug)]
pub struct Wire {
    tcp: TcpStream,
    sealed: Option<Arc<Sealed>>,
    /// The other end has shown that it has the key, too.
    ready: bool,
    /// What was read from the socket last.
    came: Vec<u8>,
}

/// What encryption needs beside the socket.
#[derive(Debug)]
struct Sealed {
    session: Mutex<SslStream<Memory>>,
    /// What is encrypted and not sent yet. Who holds this writes: records must leave in the order in which they were encrypted.
    /// It is taken before `session`, and never by who reads.
    unsent: Mutex<Unsent>,
    nonblocking: AtomicBool,
}

/// What the session reads from and writes to.
#[derive(Debug, Default)]
struct Memory {
    came: Vec<u8>,
    at: usize,
    goes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Unsent {
    bytes: Vec<u8>,
    at: usize,
}

impl Wire {
    /// The connection from now on: encrypted with a key, or as it is.
    ///
    /// # Errors
    /// OpenSSL can't do it.
    pub fn new(tcp: TcpStream, key: Option<Key>, side: Side) -> Result<Wire> {
        let sealed = key.map(|key| session(key, side)).transpose().map_err(Error::other)?.map(|session| {
            let (session, unsent) = (Mutex::new(session), Mutex::default());
            Arc::new(Sealed { session, unsent, nonblocking: AtomicBool::new(false) })
        });
        Ok(Wire { tcp, ready: sealed.is_none(), sealed, came: Vec::new() })
    }

    /// The socket, for its settings.
    pub fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// Can it be read and written?
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Goes on with what both ends must say before the first byte can be read or written; whether that is done. On a socket that
    /// waits, it waits for the end of it.
    ///
    /// # Errors
    /// The other end does not have the key, or is gone.
    pub fn shake(&mut self) -> Result<bool> {
        while !self.ready {
            let Some(sealed) = self.sealed.as_deref() else { break };
            let shaken = {
                let (mut unsent, mut session) = (lock(&sealed.unsent), lock(&sealed.session));
                let shaken = session.do_handshake();
                unsent.take(session.get_mut());
                drop(session);
                sealed.patiently(unsent.send(&self.tcp))?;
                shaken
            };
            match shaken {
                Ok(()) => self.ready = true,
                Err(error) if error.code() == ErrorCode::WANT_READ => match receive(&self.tcp, &mut self.came, sealed) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock && sealed.nonblocking.load(Ordering::Relaxed) => return Ok(false),
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(broken("the connection could not be encrypted", &error)),
            }
        }
        Ok(true)
    }

    pub fn try_clone(&self) -> Result<Wire> {
        Ok(Wire { tcp: self.tcp.try_clone()?, sealed: self.sealed.clone(), ready: self.ready, came: Vec::new() })
    }

    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<()> {
        if let Some(sealed) = &self.sealed {
            sealed.nonblocking.store(nonblocking, Ordering::Relaxed);
        }
        self.tcp.set_nonblocking(nonblocking)
    }

    pub fn set_read_timeout(&self, patience: Option<Duration>) -> Result<()> {
        self.tcp.set_read_timeout(patience)
    }

    pub fn set_write_timeout(&self, patience: Option<Duration>) -> Result<()> {
        self.tcp.set_write_timeout(patience)
    }

    pub fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.tcp.shutdown(how)
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let Some(sealed) = self.sealed.as_deref() else { return self.tcp.read(buf) };
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let mut at = 0;
            let mut session = lock(&sealed.session);
            while at < buf.len() {
                match session.ssl_read(&mut buf[at..]) {
                    Ok(n) => at += n,
                    Err(error) if error.code() == ErrorCode::WANT_READ => break,
                    // It comes again with the next read.
                    Err(_) if at > 0 => break,
                    Err(error) if error.code() == ErrorCode::ZERO_RETURN => return Ok(0),
                    Err(error) => return Err(broken("what came can't be decrypted", &error)),
                }
            }
            drop(session);
            if at > 0 {
                return Ok(at);
            }
            if receive(&self.tcp, &mut self.came, sealed)? == 0 {
                return Ok(0);
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> Result<usize> {
        let Some(sealed) = self.sealed.as_deref() else { return self.tcp.write(buf) };
        let piece = &buf[..buf.len().min(PIECE)];
        let mut unsent = lock(&sealed.unsent);
        unsent.send(&self.tcp)?;
        {
            let mut session = lock(&sealed.session);
            let mut at = 0;
            while at < piece.len() {
                at += session.ssl_write(&piece[at..]).map_err(|error| broken("it can't be encrypted", &error))?;
            }
            unsent.take(session.get_mut());
        }
        sealed.patiently(unsent.send(&self.tcp))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> Result<()> {
        match self.sealed.as_deref() {
            Some(sealed) => lock(&sealed.unsent).send(&self.tcp),
            None => self.tcp.flush(),
        }
    }
}

impl Sealed {
    /// On a socket that does not wait, what could not be sent now is sent with the next bytes.
    fn patiently(&self, sent: Result<()>) -> Result<()> {
        match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.nonblocking.load(Ordering::Relaxed) => Ok(()),
            sent => sent,
        }
    }
}

impl Unsent {
    /// Takes what was encrypted.
    fn take(&mut self, memory: &mut Memory) {
        if self.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, &mut memory.goes);
        } else {
            self.bytes.append(&mut memory.goes);
        }
    }

    fn send(&mut self, mut tcp: &TcpStream) -> Result<()> {
        while self.at < self.bytes.len() {
            match tcp.write(&self.bytes[self.at..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.at += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.at = 0;
        Ok(())
    }
}

impl Read for Memory {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let rest = &self.came[self.at..];
        if rest.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }
}

impl Write for Memory {
    fn write(&mut self, buf: &[u8]) -> Result<usize> {
        self.goes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Reads from the socket, with no lock held, and gives it to the session.
fn receive(mut tcp: &TcpStream, came: &mut Vec<u8>, sealed: &Sealed) -> Result<usize> {
    came.resize(CAME, 0);
    let n = tcp.read(came)?;
    let mut session = lock(&sealed.session);
    let memory = session.get_mut();
    memory.came.drain(..memory.at);
    memory.at = 0;
    memory.came.extend_from_slice(&came[..n]);
    Ok(n)
}

/// Who panicked while holding it has ended its thread, and with it the run.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn broken(what: &str, error: &ssl::Error) -> Error {
    let why = error.ssl_error().and_then(|stack| stack.errors().first().and_then(|error| error.reason())).unwrap_or("an error of OpenSSL");
    Error::new(ErrorKind::InvalidData, format!("{what}: {why}"))
}

/// A session of TLS 1.3 for one connection: nothing but the key lets anybody in, and nothing is kept for another one.
fn session(key: Key, side: Side) -> std::result::Result<SslStream<Memory>, ErrorStack> {
    let method = if side == Side::Dials { SslMethod::tls_client() } else { SslMethod::tls_server() };
    let mut context = SslContext::builder(method)?;
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_ciphersuites(CIPHERS)?;
    context.set_num_tickets(0)?;
    match side {
        Side::Dials => context.set_psk_client_callback(move |_, _, identity, psk| {
            identity[..IDENTITY.len()].copy_from_slice(IDENTITY);
            psk[..key.len()].copy_from_slice(&key);
            Ok(key.len())
        }),
        Side::Answers => context.set_psk_server_callback(move |_, identity, psk| {
            let known = identity == IDENTITY.strip_suffix(b"\0");
            psk[..key.len()].copy_from_slice(&key);
            Ok(if known { key.len() } else { 0 })
        }),
    }
    let mut ssl = Ssl::new(&context.build())?;
    match side {
        Side::Dials => ssl.set_connect_state(),
        Side::Answers => ssl.set_accept_state(),
    }
    SslStream::new(ssl, Memory::default())
}

#[cfg(test)]
mod tests;
