//! Ranges that a connector sends again, held back so that nobody sees them.
//!
//! After a crash a connector goes on from the position that it noted last, and sends again what came after that. Applied as
//! it comes, it would take rows back to older states and forward again, over as many ticks as it takes to read.
//!
//! ```text
//! topic      … 7 8 9 10 │ 6 7 8 9 10 │ 11 12 …          positions in the database's log
//! shown      … 7 8 9 10   (held)      10 11 12 …
//! ```
//!
//! - Of each partition the newest position is known. What stands before it opens a range; from there on everything of the
//!   source waits, first in, first out, until the newest position has come again in every partition. Then all of it goes on
//!   in one tick: of several changes of a key the last one counts, so what is shown is what was shown, and nothing is left
//!   out by guessing what a copy is.
//! - Meanwhile the source does not move: its time does not, so nothing becomes confirmed that it might heal.
//! - A change that stands before the newest, but was committed later than everything that came, is no copy: the database was
//!   restored or replaced, and its positions begin anew.
//! - What is not over after a bound, or grows too large, goes on as it is.
//! - A few copies that have the broker's times of their originals (or none) were sent twice by a producer that had no answer;
//!   no connector reads its log again, so nobody waits for more of them once the log is quiet.
//! - While nothing is shown nothing needs to be held, and only the ends of chunks are looked at.
//!
//! No thread, no clock, no I/O: whoever calls says what time it is. `newest` knows what came.

use std::collections::{BTreeMap, VecDeque};

use super::{gate::queue, replay};
use crate::{
    engine::{Chunk, Payload, Upstream},
    format::upstream::{Positions, Stands},
    plan::Source,
};

pub mod newest;

/// When nothing has come for so many milliseconds, what has come of the newest position is all of it.
const QUIET_MS: i64 = 500;
/// A range of at most so many copies that no connector need have sent again
const FEW: u64 = 100;
/// ends when the log is read to its end, and nothing has come for so many milliseconds.
const FEW_QUIET_MS: i64 = 5_000;
/// Of a partition in which nothing had a position yet, so many messages at the end of a chunk are looked at.
const LOOKS: usize = 8;

use newest::{Newest, Seen};

/// A chunk that goes on.
#[derive(Debug)]
pub struct Passed {
    pub chunk: Chunk,
    /// Which of its messages came before, in stretches of positions from one to another, both of them in it.
    pub copies: Vec<(i64, i64)>,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Began,
    /// So many messages were copies; it took so many milliseconds.
    Ended {
        copies: u64,
        ms: i64,
    },
    /// What was held goes on before its end came.
    Released {
        why: Why,
        held: u64,
        ms: i64,
    },
    /// The positions of a database began anew.
    Restarted,
}

/// Why a range is not held any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Bound,
    Volume,
    Memory,
    /// They were a few, and nothing followed them.
    Few,
    /// The log has ended.
    Ended,
}

impl Why {
    /// As a sentence tells it.
    pub fn text(self) -> &'static str {
        match self {
            Why::Bound => "its end did not come within `replay_bound`",
            Why::Volume => "too much is held",
            Why::Memory => "memory is short",
            Why::Few => "a producer sent a few records twice, and nothing came after them",
            Why::Ended => "the log has ended",
        }
    }
}

/// How a chunk is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// In milliseconds on any clock that does not go back.
    pub now: i64,
    /// Every message, and not only the last.
    pub whole: bool,
    /// What goes on is shown, so ranges are held.
    pub hold: bool,
}

/// The ranges of one source.
#[derive(Debug)]
pub struct Resent {
    positions: Positions,
    newest: Newest,
    /// The same of what was handed out, where something behind this holds messages too.
    given: Option<Newest>,
    held: VecDeque<Passed>,
    bytes: u64,
    messages: u64,
    copies: u64,
    since: Option<i64>,
    /// When something came last.
    last: i64,
    /// By partition, the greatest broker's time of what came first, in milliseconds.
    sent: BTreeMap<i32, i64>,
    /// Copies of the range were sent later than that.
    sent_anew: bool,
    news: Vec<News>,
}

impl Resent {
    /// `None`: the source's messages have no positions. `gated`: what goes on is held elsewhere before it is handed out.
    pub fn new(source: &Source, gated: bool, saved: &[Upstream]) -> Option<Resent> {
        let mut newest = Newest::default();
        newest.resume(saved);
        Some(Resent {
            positions: Positions::of(source)?,
            given: gated.then(|| newest.clone()),
            newest,
            held: VecDeque::new(),
            bytes: 0,
            messages: 0,
            copies: 0,
            since: None,
            last: 0,
            sent: BTreeMap::new(),
            sent_anew: false,
            news: Vec::new(),
        })
    }

    /// Takes a chunk; gives what may go on, which belongs in one tick.
    pub fn offer(&mut self, chunk: Chunk, look: Look, mut give: impl FnMut(Passed)) {
        if matches!(chunk.payload, Payload::Heartbeat(_)) {
            // It tells how far the source is, so it waits for what came before it.
            let passed = Passed { chunk, copies: Vec::new() };
            if self.held.is_empty() {
                give(passed)
            } else {
                self.held.push_back(passed)
            }
            return;
        }
        if !look.whole && self.look_at_end(&chunk) {
            give(Passed { chunk, copies: Vec::new() });
            return;
        }
        let found = self.look_at_all(&chunk);
        self.last = look.now;
        let began = self.since.is_none() && (!found.copies.is_empty() || self.newest.is_behind());
        if began {
            (self.since, self.copies, self.sent_anew) = (Some(look.now), 0, false);
        }
        self.sent_anew |= found.sent_anew;
        self.copies += found.copies.iter().map(|(from, to)| (to - from) as u64 + 1).sum::<u64>();
        let over = !self.newest.is_behind();
        if over && let Some(since) = self.since.take() {
            self.tell(look.hold, News::Ended { copies: self.copies, ms: look.now - since });
        } else if began {
            self.tell(look.hold, News::Began);
        }
        if found.restarted {
            self.tell(look.hold, News::Restarted);
        }
        let from = found.copies.first().map_or(i64::MIN, |(from, _)| *from);
        let mut passed = Passed { chunk, copies: if found.restarted { Vec::new() } else { found.copies } };
        if self.held.is_empty() && (over || !look.hold) {
            give(passed);
            return;
        }
        if self.held.is_empty() && from > replay::first(&passed.chunk) {
            let (head, rest) = replay::cut(passed.chunk, from);
            give(Passed { chunk: head, copies: Vec::new() });
            let Some(rest) = rest else { return };
            passed.chunk = rest;
        }
        self.bytes += queue::volume(&passed.chunk);
        queue::each(&passed.chunk.payload, |_, _, _| self.messages += 1);
        self.held.push_back(passed);
        if over {
            self.let_go(found.restarted, give);
        }
    }

    /// Ends a range of which the newest position has come again, and then nothing more; and one of a few copies that a producer
    /// sent twice. `idle`: the log is read to its end. Gives what was held, which belongs in one tick.
    pub fn settle(&mut self, now: i64, idle: bool, shown: bool, give: impl FnMut(Passed)) {
        let (Some(since), quiet) = (self.since, now - self.last) else { return };
        if quiet >= QUIET_MS && self.newest.settle() {
            self.tell(shown, News::Ended { copies: self.copies, ms: now - since });
        } else if idle && quiet >= FEW_QUIET_MS && self.copies <= FEW && !self.sent_anew {
            // Should it be a connector after all, what it sends next is a range again.
            self.newest.close();
            self.tell(shown, News::Released { why: Why::Few, held: self.messages, ms: now - since });
        } else {
            return;
        }
        self.since = None;
        self.let_go(false, give);
    }

    /// Stops to hold. Gives what is held, which belongs in one tick.
    pub fn give_up(&mut self, why: Why, now: i64, shown: bool, give: impl FnMut(Passed)) {
        self.newest.adopt();
        let Some(since) = self.since.take() else { return };
        self.tell(shown, News::Released { why, held: self.messages, ms: now - since });
        self.let_go(true, give);
    }

    /// `forget`: it is not known what of it came before.
    fn let_go(&mut self, forget: bool, mut give: impl FnMut(Passed)) {
        (self.bytes, self.messages) = (0, 0);
        for mut passed in self.held.drain(..) {
            if forget {
                passed.copies.clear();
            }
            give(passed);
        }
    }

    fn tell(&mut self, shown: bool, news: News) {
        if shown {
            self.news.push(news);
        }
    }

    /// Takes what passes as it had passed before a restart.
    pub fn pass(&mut self, chunk: &Chunk) {
        if !self.look_at_end(chunk) {
            self.look_at_all(chunk);
        }
        if let Some(given) = &mut self.given {
            given.clone_from(&self.newest);
        }
    }

    /// Takes what is handed out behind a gate.
    pub fn hand_out(&mut self, chunk: &Chunk) {
        let Some(given) = &mut self.given else { return };
        let (positions, partition) = (&mut self.positions, chunk.partition);
        queue::each(&chunk.payload, |value, _, _| {
            if let Some(stands) = value.and_then(|value| positions.read(value)) {
                given.see(partition, &stands);
            }
        });
    }

    /// Takes a chunk by its last messages, if these go forward.
    fn look_at_end(&mut self, chunk: &Chunk) -> bool {
        let mut last: Option<(Stands, u32)> = None;
        let mut looks = if self.newest.knows(chunk.partition) { usize::MAX } else { LOOKS };
        back(&chunk.payload, |value| {
            looks = looks.saturating_sub(1);
            let Some(stands) = self.positions.read(value) else { return looks > 0 };
            match &mut last {
                None => last = Some((stands, 1)),
                Some((newest, count)) if (newest.origin, newest.position) == (stands.origin, stands.position) => *count += 1,
                Some(_) => return false,
            }
            true
        });
        let goes_on = last.is_none_or(|(stands, count)| self.newest.see_last(chunk.partition, &stands, count));
        if goes_on && let Payload::Messages { index, .. } = &chunk.payload {
            let sent = self.sent.entry(chunk.partition).or_insert(i64::MIN);
            *sent = (*sent).max(index.last().and_then(|last| last.timestamp).unwrap_or(i64::MIN));
        }
        goes_on
    }

    /// Takes every message of a chunk.
    fn look_at_all(&mut self, chunk: &Chunk) -> Found {
        let mut found = Found::default();
        let (lines, mut stamps) = match &chunk.payload {
            Payload::Messages { index, .. } => (false, index.iter()),
            Payload::Lines { .. } | Payload::Heartbeat(_) => (true, [].iter()),
        };
        let newest = self.sent.entry(chunk.partition).or_insert(i64::MIN);
        queue::each(&chunk.payload, |value, bytes, next| {
            let sent = stamps.next().and_then(|at| at.timestamp).unwrap_or(i64::MIN);
            let Some(stands) = value.and_then(|value| self.positions.read(value)) else { return };
            let at = next - if lines { bytes as i64 } else { 1 };
            match self.newest.see(chunk.partition, &stands) {
                Seen::New => *newest = sent.max(*newest),
                Seen::Restarted => found.restarted = true,
                Seen::Copy => {
                    found.sent_anew |= sent > *newest;
                    match found.copies.last_mut() {
                        Some((_, to)) if *to + 1 == at => *to = at,
                        _ => found.copies.push((at, at)),
                    }
                }
            }
        });
        found
    }

    /// Since when, in milliseconds, a range's end is waited for.
    pub fn since(&self) -> Option<i64> {
        self.since
    }

    /// Messages and bytes that are held.
    pub fn held(&self) -> (u64, u64) {
        (self.messages, self.bytes)
    }

    /// Is nothing held?
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The newest positions of what was handed out.
    pub fn saved(&self) -> Vec<Upstream> {
        self.given.as_ref().unwrap_or(&self.newest).saved()
    }

    /// What happened since this was asked last.
    pub fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}

/// What a look at a chunk found.
#[derive(Debug, Default)]
struct Found {
    copies: Vec<(i64, i64)>,
    restarted: bool,
    /// A copy has a later broker's time than what came first: it was sent again, and not twice.
    sent_anew: bool,
}

/// Goes through the values of a chunk from its end, as long as `more` says.
fn back<'a>(payload: &'a Payload, mut more: impl FnMut(&'a [u8]) -> bool) {
    match payload {
        Payload::Lines { bytes, .. } => {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let start = memchr::memrchr(b'\n', &rest[..rest.len() - 1]).map_or(0, |n| n + 1);
                let line = rest[start..].trim_ascii();
                if !line.is_empty() && !more(line) {
                    return;
                }
                rest = &rest[..start];
            }
        }
        Payload::Messages { bytes, index } => {
            for at in index.iter().rev() {
                let value = at.start as usize + at.key_len.unwrap_or(0) as usize;
                if let Some(len) = at.value_len
                    && !more(&bytes[value..value + len as usize])
                {
                    return;
                }
            }
        }
        Payload::Heartbeat(_) => {}
    }
}

#[cfg(test)]
mod tests;
