//! Signs of life between processes that know each other, and what they tell each other beside the engine.
//!
//! Frames: `[kind: 1 byte][length: 4 bytes][payload]`. Every process sends a pulse to every other one; who is silent for longer
//! than `silence_max`, or goes without a farewell, is lost, and with it the run: [`Fate`] is told once, tells the others why, and
//! calls whoever ends the process.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{SendTimeoutError, Sender};

use super::{AGAIN, LOST, Lost, SILENT, wire::Wire};

/// The longest payload of a piece of a note, and of everything else.
const PIECE_MAX: usize = 1 << 20;
const SHORT_MAX: usize = 1024;
/// How long it takes at most that the others hear something, where nothing holds them up.
const HEARD: Duration = Duration::from_millis(100);
/// Notes that wait until somebody takes them; more wait where they come from.
pub const NOTES_MAX: usize = 256;

/// One thing that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Which starts of which processes the sender is connected with.
    Roll([u8; 32]),
    Pulse,
    /// The sender leaves as it should.
    Bye,
    /// The sender gives up: the code that it exits with, and why.
    GivesUp(u8, String),
    /// Whatever those above have to say, up to its end,
    Note(Vec<u8>),
    /// and what comes before that where it is long.
    Begun(Vec<u8>),
}

impl Frame {
    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let gives_up;
        let (kind, payload): (u8, &[u8]) = match self {
            Frame::Roll(run) => (1, run),
            Frame::Pulse => (2, &[]),
            Frame::Bye => (3, &[]),
            Frame::GivesUp(exit, why) => {
                gives_up = [&[*exit], &why.as_bytes()[..why.len().min(SHORT_MAX - 1)]].concat();
                (4, &gives_up)
            }
            Frame::Note(bytes) => (5, bytes),
            Frame::Begun(bytes) => (6, bytes),
        };
        let len = u32::try_from(payload.len()).expect("a note is bounded");
        [&[kind][..], &len.to_be_bytes(), payload].concat()
    }
}

/// Takes frames out of what was read.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    at: usize,
}

impl Frames {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if all of it is there. With `rolls_only` anything else stays for later.
    ///
    /// # Errors
    /// What was said is no frame.
    pub fn next(&mut self, rolls_only: bool) -> Result<Option<Frame>, String> {
        let rest = &self.bytes[self.at..];
        let Some((head, payload)) = rest.split_first_chunk::<5>() else { return Ok(None) };
        let [kind, len @ ..] = *head;
        let len = u32::from_be_bytes(len) as usize;
        if len > if kind >= 5 { PIECE_MAX } else { SHORT_MAX } {
            return Err(format!("it says something of {len} bytes"));
        }
        if payload.len() < len || (rolls_only && kind != 1) {
            return Ok(None);
        }
        let payload = &payload[..len];
        let frame = match kind {
            1 => Frame::Roll(payload.try_into().map_err(|_| "its roll is none".to_string())?),
            2 => Frame::Pulse,
            3 => Frame::Bye,
            4 => {
                let (exit, why) = payload.split_first().ok_or("it gives up without a code")?;
                Frame::GivesUp(*exit, String::from_utf8_lossy(why).replace(char::is_control, " "))
            }
            5 => Frame::Note(payload.to_vec()),
            6 => Frame::Begun(payload.to_vec()),
            _ => return Err(format!("it says something of kind {kind}")),
        };
        self.at += 5 + len;
        Ok(Some(frame))
    }
}

type OnLost = Box<dyn FnOnce(Lost) + Send>;

/// What has become of the cluster, for everybody who could notice.
pub struct Fate {
    addresses: Vec<String>,
    on_lost: Mutex<Option<OnLost>>,
    /// To each process, once all are there; none to this one, and to one that could not be written to.
    writers: OnceLock<Vec<Mutex<Option<Wire>>>>,
    /// Held while a note is said, so that the pieces of two do not mix; signs of life come between them.
    notes: Vec<Mutex<()>>,
    leaving: AtomicBool,
    /// Who has said farewell.
    left: Vec<AtomicBool>,
}

impl std::fmt::Debug for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fate").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Fate {
    pub fn new(addresses: Vec<String>, on_lost: OnLost) -> Fate {
        let (notes, left) = addresses.iter().map(|_| (Mutex::default(), AtomicBool::default())).unzip();
        Fate { addresses, on_lost: Mutex::new(Some(on_lost)), writers: OnceLock::new(), notes, leaving: AtomicBool::new(false), left }
    }

    /// A process is lost: the first who says so is believed, unless this process leaves by itself.
    pub fn lost(&self, peer: usize, code: &'static str, why: &str) {
        self.ended(peer, code, why, AGAIN);
    }

    /// The same, with the code that this process exits with.
    fn ended(&self, peer: usize, code: &'static str, why: &str, exit: u8) {
        let said = self.on_lost.lock().map_or(None, |mut said| said.take());
        let Some(on_lost) = said.filter(|_| !self.leaving.load(Ordering::Acquire)) else { return };
        let lost = Lost { peer, address: self.addresses.get(peer).cloned().unwrap_or_default(), code, why: why.into(), exit };
        let gives_up = Frame::GivesUp(exit, format!("it lost process {peer}: {why}")).bytes();
        for (_, writer) in self.writers().enumerate().filter(|(to, _)| *to != peer) {
            // Nobody is waited for: this process ends now.
            if let Some(stream) = writer.try_lock().ok().as_deref_mut().and_then(Option::as_mut) {
                let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
                let _ = stream.write_all(&gives_up);
            }
        }
        on_lost(lost);
    }

    fn writers(&self) -> impl Iterator<Item = &Mutex<Option<Wire>>> {
        self.writers.get().into_iter().flatten()
    }

    /// From now on these are who is told things.
    pub fn begin(&self, writers: Vec<Option<Wire>>) {
        let _ = self.writers.set(writers.into_iter().map(Mutex::new).collect());
    }

    /// Says something to a process. One that can't be told is told nothing more, since it may have heard half of it; whoever
    /// listens to it notices why.
    pub fn say(&self, to: usize, frame: &Frame) {
        let Some(mut writer) = self.writers().nth(to).and_then(|writer| writer.lock().ok()) else { return };
        if writer.as_mut().is_some_and(|stream| stream.write_all(&frame.bytes()).is_err()) {
            *writer = None;
        }
    }

    /// Says a note of any length to a process.
    pub fn note(&self, to: usize, note: &[u8]) {
        let Some(Ok(_whole)) = self.notes.get(to).map(Mutex::lock) else { return };
        let mut rest = note;
        while rest.len() > PIECE_MAX {
            let (piece, tail) = rest.split_at(PIECE_MAX);
            self.say(to, &Frame::Begun(piece.to_vec()));
            rest = tail;
        }
        self.say(to, &Frame::Note(rest.to_vec()));
    }

    /// Says something to everybody.
    pub fn say_all(&self, frame: &Frame) {
        (0..self.addresses.len()).for_each(|to| self.say(to, frame));
    }

    /// Says that this process gives up; that the others end for it is not news to it any more.
    pub fn give_up(&self, exit: u8, why: &str) {
        self.leaving.store(true, Ordering::Release);
        self.say_all(&Frame::GivesUp(exit, why.into()));
        // What is not read when a connection ends takes with it what was said before, so that is heard first.
        std::thread::sleep(HEARD);
    }

    /// Says farewell; from now on nobody is missed.
    pub fn leave(&self) {
        self.say_all(&Frame::Bye);
        self.leaving.store(true, Ordering::Release);
        for writer in self.writers() {
            let _ = writer.lock().map(|writer| writer.as_ref().map(|stream| stream.shutdown(Shutdown::Both)));
        }
    }

    /// Has a process said farewell? Then this one hears from the one that leads that the run is over, or that this one is lost.
    pub fn has_left(&self, peer: usize) -> bool {
        self.left.get(peer).is_some_and(|left| left.load(Ordering::Acquire))
    }

    /// Has somebody been called lost?
    #[cfg(test)]
    pub fn has_lost(&self) -> bool {
        self.on_lost.lock().is_ok_and(|on_lost| on_lost.is_none())
    }

    /// Does this process leave?
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }
}

/// Shows one process that this one lives, until it leaves; each has its own thread, so that one that hangs keeps nobody waiting.
pub fn beat(peer: usize, silence: Duration, fate: &Fate) {
    let mut said = Instant::now();
    while !fate.is_leaving() {
        if said.elapsed() >= silence / 4 {
            said = Instant::now();
            fate.say(peer, &Frame::Pulse);
        }
        std::thread::sleep((silence / 8).min(Duration::from_millis(50)));
    }
}

/// Listens to one process until it, or this one, leaves; `frames` has what it said before.
pub fn hear(peer: usize, mut stream: Wire, mut frames: Frames, silence: Duration, fate: &Arc<Fate>, notes: &Sender<(usize, Vec<u8>)>) {
    let turn = (silence / 8).max(Duration::from_millis(10));
    if let Err(error) = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(turn))) {
        return fate.lost(peer, LOST, &format!("its connection broke: {error}"));
    }
    let (mut heard, mut awake) = (Instant::now(), Instant::now());
    let (mut piece, mut begun) = (vec![0; 64 << 10], Vec::new());
    loop {
        loop {
            match frames.next(false) {
                Ok(None) => break,
                Ok(Some(Frame::Bye)) => return fate.left[peer].store(true, Ordering::Release),
                Ok(Some(Frame::GivesUp(exit, why))) => return fate.ended(peer, LOST, &format!("it gave up: {why}"), exit),
                Ok(Some(Frame::Begun(bytes))) => begun.extend_from_slice(&bytes),
                Ok(Some(Frame::Note(bytes))) => {
                    let whole = if begun.is_empty() { bytes } else { [std::mem::take(&mut begun), bytes].concat() };
                    let mut note = (peer, whole);
                    // Nobody may take it any more, and then this process leaves.
                    while let Err(SendTimeoutError::Timeout(again)) = notes.send_timeout(note, turn) {
                        if fate.is_leaving() {
                            return;
                        }
                        note = again;
                    }
                }
                Ok(Some(Frame::Pulse | Frame::Roll(_))) => {}
                Err(why) => return fate.lost(peer, LOST, &why),
            }
        }
        let read = stream.read(&mut piece);
        if fate.is_leaving() {
            return;
        }
        // Who has slept (a stopped process, a suspended machine) can't say that others were silent.
        if awake.elapsed() > silence / 2 {
            heard = Instant::now();
        }
        awake = Instant::now();
        match read {
            Ok(0) => return fate.lost(peer, LOST, "it left without a farewell: it was killed, or failed"),
            Ok(n) => {
                frames.feed(&piece[..n]);
                heard = Instant::now();
            }
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&error.kind()) => {
                if heard.elapsed() > silence {
                    let why = format!("it has been silent for {silence:?}: it hangs, or the network is cut");
                    return fate.lost(peer, SILENT, &why);
                }
            }
            Err(error) => return fate.lost(peer, LOST, &format!("its connection broke: {error}")),
        }
    }
}
