//! How a process calls another one of its cluster: two connections, each proved from both ends.

use std::{
    io::{Error, ErrorKind, Read, Result, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use super::{
    hello::{self, Card, Refused, Use, Verdict},
    wire::{Side, Wire},
};
use crate::plan::cluster::Cluster;

/// Both connections to a process, and what it said of itself.
pub struct Called {
    pub card: Card,
    pub control: Wire,
    pub data: Wire,
}

/// Why a process was not reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReached {
    pub why: String,
    /// It answers, and does not fit: trying again changes nothing by itself.
    pub differs: bool,
    /// Nobody answers at all, which tells less than anything that was heard before.
    pub silent: bool,
}

impl NotReached {
    /// It was there, or is; `why` it is of no use.
    pub fn heard(why: impl Into<String>) -> NotReached {
        NotReached { why: why.into(), differs: false, silent: false }
    }

    /// It was heard, and does not fit.
    pub fn differs(why: String) -> NotReached {
        NotReached { why, differs: true, silent: false }
    }
}

impl From<Error> for NotReached {
    fn from(error: Error) -> NotReached {
        let why = match error.kind() {
            ErrorKind::ConnectionRefused => "nobody listens there yet".into(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                "it ended the connection without an answer; do all processes have the same secret?".into()
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "it does not answer in time".into(),
            _ => error.to_string(),
        };
        NotReached { why, differs: false, silent: error.kind() == ErrorKind::ConnectionRefused }
    }
}

/// Calls process `to`; `card` says who calls.
///
/// # Errors
/// It is not there, does not know the secret, or does not fit.
pub fn call(cluster: &Cluster, card: &Card, to: usize) -> std::result::Result<Called, NotReached> {
    let (control, said) = connect(cluster, card, to, Use::Control)?;
    let (data, again) = connect(cluster, card, to, Use::Data)?;
    if said.boot != again.boot {
        return Err(NotReached::heard("it was started again between two connections"));
    }
    Ok(Called { card: said, control, data })
}

fn connect(cluster: &Cluster, card: &Card, to: usize, wants: Use) -> std::result::Result<(Wire, Card), NotReached> {
    let until = Instant::now() + cluster.hello_max;
    let mut stream = open(&cluster.processes[to], until)?;
    let card = Card { wants, to: u16::try_from(to).expect("processes are few"), ..card.clone() };
    let greeting: [u8; hello::GREETING] = read(&mut stream, hello::GREETING, until)?.try_into().expect("as many as were asked for");
    let stranger = || NotReached::heard("what answers there is no tieout of this version");
    let nonce = hello::read_greeting(&greeting).ok_or_else(stranger)?;
    let hello = hello::hello(&card, &nonce, &cluster.secret);
    stream.write_all(&hello)?;
    let head = read(&mut stream, 2, until)?;
    let len = hello::frame_len([head[0], head[1]]).ok_or_else(stranger)?;
    let answer = read(&mut stream, len, until)?;
    let (verdict, other) = hello::read_answer(&answer, &nonce, &hello[2..], &cluster.secret).map_err(|refused| match refused {
        Refused::Malformed => stranger(),
        Refused::Unproven => NotReached::heard("it does not know the cluster's secret; all processes need the same"),
    })?;
    if let Some(why) = card.differs(&other) {
        return Err(NotReached::differs(why));
    }
    match verdict {
        Verdict::Welcome => {
            let key = hello::key(&nonce, &hello[2..], &answer, &cluster.secret);
            let mut wire = Wire::new(stream, card.encrypts.then_some(key), Side::Dials)?;
            wire.set_read_timeout(Some(left(until)?))?;
            wire.shake()?;
            Ok((wire, other))
        }
        Verdict::Differs => Err(NotReached::differs("it says that this process does not fit; its log says why".into())),
        Verdict::UnderWay => Err(NotReached::heard("it runs with others, and will stop once it notices that they are gone")),
    }
}

fn open(address: &str, until: Instant) -> Result<TcpStream> {
    let mut last = Error::new(ErrorKind::NotFound, "the name leads nowhere");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(until)?) {
            Ok(stream) => {
                stream.set_write_timeout(Some(left(until)?))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The time that is left, if there is some.
fn left(until: Instant) -> Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads so many bytes, however slowly they come, but not for longer than there is time.
fn read(stream: &mut TcpStream, bytes: usize, until: Instant) -> Result<Vec<u8>> {
    let mut out = vec![0; bytes];
    let mut at = 0;
    while at < bytes {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut out[at..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => at += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(out)
}
