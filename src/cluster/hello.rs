//! How two processes of a cluster prove to each other that they know its secret: what goes over the wire, byte by byte.
//!
//! ```text
//!  who accepts                                who dials
//!  greeting: magic, nonce a          ───────▶
//!                                    ◀───────  hello: card, nonce d, proof over (a, hello)
//!  answer: verdict, card, proof over (a, hello, answer)  ─▶
//! ```
//!
//! A proof is an HMAC-SHA256 under the cluster's secret, with another label for each direction, so that none can be played
//! back or reflected. Who accepts says nothing but a random number to somebody who has proved nothing. Both cards are under
//! the proofs: name of the cluster, both indexes, what the connection is for and whether it will be encrypted, how many processes
//! and threads there are, which start of the process this is, tieout's version and build, and the plan's fingerprint. What
//! follows from all of it under the secret is the key of the connection (`wire`).
//!
//! All sizes are bounded before anything is kept; no bytes lead to a panic.

use openssl::{hash::MessageDigest, memcmp, pkey::PKey, rand::rand_bytes, sha::sha256, sign::Signer};

use crate::plan::cluster::Secret;

pub const MAGIC: &[u8; 5] = b"TIEO\x02";
pub const NONCE: usize = 32;
const PROOF: usize = 32;
pub const GREETING: usize = MAGIC.len() + NONCE;
/// Bytes of a frame after its length, the proof included.
const FRAME_MAX: usize = 1024;
/// Bytes of a name, version or fingerprint.
const TEXT_MAX: usize = 200;

/// What encrypts one connection.
pub type Key = [u8; PROOF];

/// One start of a process: another one for each, by chance.
pub type Boot = [u8; 16];

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Signs of life, and what processes tell each other.
    Control = 0,
    /// What the engine exchanges.
    Data = 1,
}

/// What one side says of itself, and whom it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub wants: Use,
    /// What follows the hello is encrypted.
    pub encrypts: bool,
    pub from: u16,
    pub to: u16,
    pub processes: u16,
    /// Workers of each process.
    pub threads: u16,
    pub boot: Boot,
    pub cluster: String,
    pub version: String,
    pub plan: String,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Welcome = 0,
    /// The cards do not fit together: both have the reason.
    Differs = 1,
    /// The process runs already, with others.
    UnderWay = 2,
}

/// Why bytes are no hello, or prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not what tieout says.
    Malformed,
    /// Well-formed, and the proof is of another secret.
    Unproven,
}

/// Random bytes that nobody can guess.
///
/// # Panics
/// When the operating system has none.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand_bytes(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// What who accepts says first.
pub fn greeting(nonce: &[u8; NONCE]) -> [u8; GREETING] {
    let mut out = [0; GREETING];
    out[..MAGIC.len()].copy_from_slice(MAGIC);
    out[MAGIC.len()..].copy_from_slice(nonce);
    out
}

/// The nonce of a greeting.
pub fn read_greeting(bytes: &[u8]) -> Option<[u8; NONCE]> {
    bytes.strip_prefix(MAGIC)?.try_into().ok()
}

/// How many bytes follow the two of a frame's length, if it can be one.
pub fn frame_len(head: [u8; 2]) -> Option<usize> {
    let len = usize::from(u16::from_be_bytes(head));
    (MAGIC.len() + PROOF..=FRAME_MAX).contains(&len).then_some(len)
}

/// The hello of who dials, ready to be sent.
pub fn hello(card: &Card, greeted: &[u8; NONCE], secret: &Secret) -> Vec<u8> {
    let mut body = MAGIC.to_vec();
    body.extend(random::<NONCE>());
    card.write(&mut body);
    frame(&body, &prove(secret, b"tieout hello", &[greeted, &body]))
}

/// Reads a hello, without the two bytes of its length.
///
/// # Errors
/// It is none, or proves nothing.
pub fn read_hello(bytes: &[u8], greeted: &[u8; NONCE], secret: &Secret) -> Result<Card, Refused> {
    let (body, proof) = bytes.split_at_checked(bytes.len().wrapping_sub(PROOF)).ok_or(Refused::Malformed)?;
    let card = body.strip_prefix(MAGIC).and_then(|rest| rest.get(NONCE..)).and_then(Card::read).ok_or(Refused::Malformed)?;
    if !memcmp::eq(proof, &prove(secret, b"tieout hello", &[greeted, body])) {
        return Err(Refused::Unproven);
    }
    Ok(card)
}

/// The answer to a hello (as it was read), ready to be sent.
pub fn answer(verdict: Verdict, card: &Card, greeted: &[u8; NONCE], hello: &[u8], secret: &Secret) -> Vec<u8> {
    let mut body = MAGIC.to_vec();
    body.push(verdict as u8);
    card.write(&mut body);
    frame(&body, &prove(secret, b"tieout answer", &[greeted, hello, &body]))
}

/// Reads an answer, without the two bytes of its length; `hello` likewise.
///
/// # Errors
/// It is none, or proves nothing.
pub fn read_answer(bytes: &[u8], greeted: &[u8; NONCE], hello: &[u8], secret: &Secret) -> Result<(Verdict, Card), Refused> {
    let (body, proof) = bytes.split_at_checked(bytes.len().wrapping_sub(PROOF)).ok_or(Refused::Malformed)?;
    let (verdict, card) = body.strip_prefix(MAGIC).and_then(<[u8]>::split_first).ok_or(Refused::Malformed)?;
    let verdict = match verdict {
        0 => Verdict::Welcome,
        1 => Verdict::Differs,
        2 => Verdict::UnderWay,
        _ => return Err(Refused::Malformed),
    };
    let card = Card::read(card).ok_or(Refused::Malformed)?;
    if !memcmp::eq(proof, &prove(secret, b"tieout answer", &[greeted, hello, body])) {
        return Err(Refused::Unproven);
    }
    Ok((verdict, card))
}

/// The key of the connection on which this was said: nobody else can know it, and any other word gives another one. `hello` and
/// `answer` are without the two bytes of their lengths.
pub fn key(greeted: &[u8; NONCE], hello: &[u8], answer: &[u8], secret: &Secret) -> Key {
    prove(secret, b"tieout key", &[greeted, hello, answer])
}

/// What all processes of one run have in common: which starts of which processes they are.
pub fn run_of(cluster: &str, boots: &[Boot]) -> [u8; 32] {
    let mut bytes = cluster.as_bytes().to_vec();
    boots.iter().for_each(|boot| bytes.extend(boot));
    sha256(&bytes)
}

fn frame(body: &[u8], proof: &[u8; PROOF]) -> Vec<u8> {
    let len = u16::try_from(body.len() + PROOF).expect("texts of a card are bounded");
    [&len.to_be_bytes(), body, proof].concat()
}

/// The parts are told apart by their lengths, which are under the proof, too.
fn prove(secret: &Secret, label: &[u8], parts: &[&[u8]]) -> [u8; PROOF] {
    let prove = || {
        let key = PKey::hmac(secret.bytes())?;
        let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
        signer.update(label)?;
        for part in parts {
            signer.update(&(part.len() as u64).to_be_bytes())?;
            signer.update(part)?;
        }
        let mut proof = [0; PROOF];
        signer.sign(&mut proof).map(|_| proof)
    };
    prove().expect("OpenSSL knows HMAC-SHA256")
}

impl Card {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend([self.wants as u8, u8::from(self.encrypts)]);
        for number in [self.from, self.to, self.processes, self.threads] {
            out.extend(number.to_be_bytes());
        }
        out.extend(self.boot);
        for text in [&self.cluster, &self.version, &self.plan] {
            let text = &text.as_bytes()[..text.len().min(TEXT_MAX)];
            out.push(text.len() as u8);
            out.extend(text);
        }
    }

    fn read(bytes: &[u8]) -> Option<Card> {
        let mut rest = bytes;
        let mut take = |n: usize| {
            let (taken, left) = rest.split_at_checked(n)?;
            rest = left;
            Some(taken)
        };
        let wants = match take(1)? {
            [0] => Use::Control,
            [1] => Use::Data,
            _ => return None,
        };
        let encrypts = match take(1)? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let mut number = || Some(u16::from_be_bytes(take(2)?.try_into().ok()?));
        let (from, to, processes, threads) = (number()?, number()?, number()?, number()?);
        let boot = take(16)?.try_into().ok()?;
        let mut text = || {
            let len = usize::from(*take(1)?.first()?);
            let text = std::str::from_utf8(take(len)?).ok()?;
            // Nothing that a log line could not bear.
            (len <= TEXT_MAX && !text.contains(char::is_control)).then(|| text.to_string())
        };
        let (cluster, version, plan) = (text()?, text()?, text()?);
        rest.is_empty().then_some(Card { wants, encrypts, from, to, processes, threads, boot, cluster, version, plan })
    }

    /// Why the process of `other` can't be one of this one's cluster, if it can't; `self` is the card of who asks.
    pub fn differs(&self, other: &Card) -> Option<String> {
        let said = [
            (self.cluster != other.cluster)
                .then(|| format!("it is of cluster `{}`, and this one of `{}`; give the clusters addresses of their own", other.cluster, self.cluster)),
            ((self.from, self.to) != (other.to, other.from)).then(|| {
                format!(
                    "it is process {} and asked for process {}, and this is process {}; all processes need the same list of addresses, each its own index",
                    other.from, other.to, self.from
                )
            }),
            (self.processes != other.processes)
                .then(|| format!("it knows of {} processes, and this one of {}; all need the same cluster file", other.processes, self.processes)),
            (self.encrypts != other.encrypts).then(|| {
                let word = |card: &Card| if card.encrypts { "tls" } else { "none" };
                format!("it has `encryption: {}`, and this one `{}`; all processes need the same cluster file", word(other), word(self))
            }),
            (self.version != other.version).then(|| {
                format!("it is tieout {}, and this is {}; stop all processes, put the same build on all machines, and start them", other.version, self.version)
            }),
            (self.plan != other.plan)
                .then(|| format!("its dataflow is {}, and this one's {}; all processes need the same dataflow files and configuration", other.plan, self.plan)),
            (self.threads != other.threads)
                .then(|| format!("it has {} workers, and this one {}; all processes need the same `workers`", other.threads, self.threads)),
        ];
        said.into_iter().flatten().next()
    }
}
