//! Where a process listens for the others: everybody may knock, nobody comes in without a proof.
//!
//! One thread looks after all connections that have proved nothing yet. Each costs a socket and at most about a kilobyte; there
//! are never more than `strangers_max`, and the oldest makes room for the newest, so that a flood keeps nobody out: a process of
//! the cluster needs a millisecond, and tries again.

use std::{
    collections::{HashMap, VecDeque},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use super::hello::{self, Card, Key, Refused, Verdict};
use crate::{plan::cluster::Secret, telemetry};

/// Connections that are accepted in one turn, so that a flood does not take it all.
const ACCEPTS: usize = 256;
/// Log lines of a code in this time; more are only counted.
const LINES: (u32, Duration) = (5, Duration::from_secs(10));

/// The codes of strangers.
pub const MALFORMED: &str = "HELLO_MALFORMED";
pub const UNPROVEN: &str = "HELLO_UNPROVEN";
pub const SLOW: &str = "HELLO_SLOW";
pub const FLOOD: &str = "HELLO_FLOOD";

/// The open door.
pub struct Door {
    listener: TcpListener,
    secret: Secret,
    hello_max: Duration,
    strangers_max: usize,
    /// The oldest first.
    strangers: VecDeque<Stranger>,
    told: Vec<Told>,
}

/// Somebody who has proved nothing yet.
struct Stranger {
    stream: TcpStream,
    from: SocketAddr,
    since: Instant,
    nonce: [u8; hello::NONCE],
    /// What it has said so far, at most one frame.
    said: Vec<u8>,
}

/// Somebody who knows the secret.
pub struct Guest {
    pub stream: TcpStream,
    pub card: Card,
    nonce: [u8; hello::NONCE],
    hello: Vec<u8>,
}

impl Guest {
    /// Says what becomes of it; the key of the connection, if it goes on.
    ///
    /// # Errors
    /// It is gone.
    pub fn answer(&mut self, verdict: Verdict, card: &Card, secret: &Secret) -> std::io::Result<Key> {
        let answer = hello::answer(verdict, card, &self.nonce, &self.hello, secret);
        self.stream.write_all(&answer)?;
        Ok(hello::key(&self.nonce, &self.hello, &answer[2..], secret))
    }
}

/// What is said of a code, so that nobody can fill the log.
struct Told {
    code: &'static str,
    since: Instant,
    lines: u32,
    unsaid: u64,
}

enum Turn {
    Waits,
    Proved(Card),
    Refused(&'static str, String),
}

impl Door {
    /// Takes over a listener.
    ///
    /// # Errors
    /// The socket can't be used without blocking.
    pub fn new(listener: TcpListener, secret: Secret, hello_max: Duration, strangers_max: usize) -> std::io::Result<Door> {
        listener.set_nonblocking(true)?;
        Ok(Door { listener, secret, hello_max, strangers_max: strangers_max.max(1), strangers: VecDeque::new(), told: Vec::new() })
    }

    /// Looks once after everybody, and never waits; who has proved to know the secret.
    pub fn look(&mut self) -> Vec<Guest> {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok((stream, from)) => self.let_in(stream, from),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nobody knocks, or there is no room for another socket: what is open is looked after first.
                Err(_) => break,
            }
        }
        let mut guests = Vec::new();
        for _ in 0..self.strangers.len() {
            let Some(mut stranger) = self.strangers.pop_front() else { break };
            match stranger.turn(&self.secret, self.hello_max) {
                Turn::Waits => self.strangers.push_back(stranger),
                Turn::Proved(card) => {
                    let Stranger { stream, nonce, said, .. } = stranger;
                    guests.push(Guest { stream, card, nonce, hello: said[2..].to_vec() });
                }
                Turn::Refused(code, why) => self.tell(code, stranger.from, &why),
            }
        }
        guests
    }

    /// How many have proved nothing yet.
    #[cfg(test)]
    pub fn strangers(&self) -> usize {
        self.strangers.len()
    }

    /// The oldest of those from an address that takes more than a quarter of all places: a flood from one keeps nobody else out.
    fn crowded(&self) -> Option<usize> {
        let mut of = HashMap::new();
        self.strangers.iter().for_each(|stranger| *of.entry(stranger.from.ip()).or_insert(0) += 1);
        let (place, most) = of.into_iter().max_by_key(|(_, many)| *many)?;
        (most > self.strangers_max / 4).then(|| self.strangers.iter().position(|stranger| stranger.from.ip() == place)).flatten()
    }

    fn let_in(&mut self, stream: TcpStream, from: SocketAddr) {
        if self.strangers.len() >= self.strangers_max
            && let Some(oldest) = self.strangers.remove(self.crowded().unwrap_or(0))
        {
            let why = format!("{} connections have proved nothing yet; the oldest was cut", self.strangers_max);
            self.tell(FLOOD, oldest.from, &why);
        }
        let nonce = hello::random();
        let mut stranger = Stranger { stream, from, since: Instant::now(), nonce, said: Vec::new() };
        // A new socket has room for so little; one that has not is not worth waiting for.
        if stranger.stream.set_nonblocking(true).is_ok() && stranger.stream.write_all(&hello::greeting(&nonce)).is_ok() {
            self.strangers.push_back(stranger);
        }
    }

    /// Counts a stranger, and says so unless too much was said of its kind lately.
    fn tell(&mut self, code: &'static str, from: SocketAddr, why: &str) {
        let at = self.told.iter().position(|told| told.code == code).unwrap_or_else(|| {
            self.told.push(Told { code, since: Instant::now(), lines: 0, unsaid: 0 });
            self.told.len() - 1
        });
        let told = &mut self.told[at];
        if told.since.elapsed() >= LINES.1 {
            (told.since, told.lines) = (Instant::now(), 0);
        }
        let says = told.lines < LINES.0;
        let unsaid = if says { std::mem::take(&mut told.unsaid) } else { 0 };
        told.lines += 1;
        told.unsaid += u64::from(!says);
        telemetry::StrangerRefused { code, from, why, says, unsaid }.emit();
    }
}

impl Stranger {
    fn turn(&mut self, secret: &Secret, hello_max: Duration) -> Turn {
        loop {
            let wants = match self.said.first_chunk::<2>() {
                None => 2,
                Some(head) => match hello::frame_len(*head) {
                    Some(len) => 2 + len,
                    None => return Turn::Refused(MALFORMED, "what it says is no hello".into()),
                },
            };
            if wants > 2 && self.said.len() == wants {
                return match hello::read_hello(&self.said[2..], &self.nonce, secret) {
                    Ok(card) => Turn::Proved(card),
                    Err(Refused::Malformed) => Turn::Refused(MALFORMED, "what it says is no hello of this version".into()),
                    Err(Refused::Unproven) => Turn::Refused(UNPROVEN, "it does not know the cluster's secret; all processes need the same".into()),
                };
            }
            let mut piece = [0; 1100];
            match self.stream.read(&mut piece[..wants - self.said.len()]) {
                Ok(0) => return Turn::Refused(MALFORMED, "it left before it had said who it is".into()),
                Ok(n) => self.said.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let late = self.since.elapsed() > hello_max;
                    return if late { Turn::Refused(SLOW, format!("it has not said who it is within {hello_max:?}")) } else { Turn::Waits };
                }
                Err(error) => return Turn::Refused(MALFORMED, format!("it was cut off: {error}")),
            }
        }
    }
}
