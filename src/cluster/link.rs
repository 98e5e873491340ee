//! The sockets between processes: how soon they notice that nobody is there, and how timely is handed one.
//!
//! timely panics when a connection breaks. So it is never told: a link whose other end is gone says so to whoever decides
//! ([`Fate`]), which ends the process, and keeps timely waiting until then.

use std::{
    io::{ErrorKind, Read, Result, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use timely::communication::allocator::zero_copy::stream::Stream;

use super::{pulse::Fate, wire::Wire};

/// So long after another process has left in order this one should have ended, too.
const AFTER_FAREWELL: Duration = Duration::from_secs(60);
/// The end of what timely sends is a header of zeros.
const END: usize = 48;

/// Sets a socket up: nothing waits for more to send, and one that is cut off is noticed within about `silence`.
///
/// # Errors
/// The operating system refuses.
pub fn set_up(stream: &TcpStream, silence: Duration) -> Result<()> {
    let socket = SockRef::from(stream);
    stream.set_nodelay(true)?;
    let probe = (silence / 3).max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(probe).with_interval(probe).with_retries(3))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(silence))?;
    Ok(())
}

/// The connection to one other process on which the engine exchanges.
#[derive(Debug)]
pub struct Link {
    stream: Wire,
    peer: usize,
    fate: Arc<Fate>,
    /// How many of the last bytes that were read are zero, up to [`END`].
    zeros: usize,
}

impl Link {
    pub fn new(stream: Wire, peer: usize, fate: Arc<Fate>) -> Link {
        Link { stream, peer, fate, zeros: 0 }
    }

    /// Says that the other process is lost, and never comes back: the process ends.
    fn lost(&self, why: &str) -> ! {
        // Who gives up says why over the control connection, which may be heard a moment later than this connection ends.
        std::thread::sleep(Duration::from_millis(300));
        // Who has said farewell is not missed at once: the run is over, which this process is about to hear, too.
        if self.fate.has_left(self.peer) {
            std::thread::sleep(AFTER_FAREWELL);
        }
        self.fate.lost(self.peer, super::LOST, why);
        loop {
            std::thread::park();
        }
    }
}

impl Read for Link {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match self.stream.read(buf) {
                Ok(0) if self.zeros < END => self.lost("its connection ended in the middle"),
                Ok(n) => {
                    let zeros = buf[..n].iter().rev().take(END).take_while(|byte| **byte == 0).count();
                    self.zeros = if zeros == n { (self.zeros + n).min(END) } else { zeros };
                    return Ok(n);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.lost(&format!("its connection broke: {error}")),
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, buf: &[u8]) -> Result<usize> {
        loop {
            match self.stream.write(buf) {
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.lost(&format!("its connection broke: {error}")),
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.flush()
    }
}

impl Stream for Link {
    fn try_clone(&self) -> Result<Self> {
        Ok(Link { stream: self.stream.try_clone()?, peer: self.peer, fate: Arc::clone(&self.fate), zeros: self.zeros })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        // Of one that has left already nothing is left to shut.
        match self.stream.shutdown(how) {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            done => done,
        }
    }
}
