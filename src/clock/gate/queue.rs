//! The messages of one partition that are held, in order: chunks as they came, and over them runs of messages that are of
//! one transaction, or of none.

use std::{collections::VecDeque, sync::Arc};

use super::places::Places;
use crate::{
    clock::replay,
    engine::{Chunk, Payload},
};

/// Messages one after the other that are of the same transaction, or of none.
#[derive(Clone, Debug)]
pub struct Run {
    pub id: Option<Arc<str>>,
    /// The places of its messages in the transaction.
    pub places: Places,
    /// Of its messages, about.
    pub bytes: u64,
    /// The position after its last message.
    until: i64,
    /// The number of the chunk with its first message.
    pub arrival: u64,
    /// Of its messages, those of transactions of which nothing else is kept.
    pub covered: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    pub member: usize,
    pub partition: i32,
    pub chunks: VecDeque<Chunk>,
    runs: VecDeque<Run>,
    /// The number of the first run that is held, from 0.
    first: u64,
    /// Up to where runs were taken off.
    taken: Option<i64>,
    /// Up to where messages were given out.
    pub given: Option<i64>,
    /// The transaction of the newest message of one.
    pub newest: Option<Arc<str>>,
    /// The transaction of the message before.
    pub before: Option<Arc<str>>,
    /// The greatest number of an end whose transaction has gone on.
    pub passed: u64,
    /// The newest source time of an event, in milliseconds.
    pub time: Option<i64>,
}

impl Queue {
    pub fn new(member: usize, partition: i32) -> Queue {
        Queue {
            member,
            partition,
            chunks: VecDeque::new(),
            runs: VecDeque::new(),
            first: 0,
            taken: None,
            given: None,
            newest: None,
            before: None,
            passed: 0,
            time: None,
        }
    }

    /// Adds a message; the number of its run.
    pub fn push(&mut self, id: Option<Arc<str>>, place: Option<u64>, bytes: u64, until: i64, arrival: u64) -> u64 {
        if self.runs.back().is_none_or(|run| run.id != id) {
            self.runs.push_back(Run { id, places: Places::default(), bytes: 0, until, arrival, covered: 0 });
        }
        let run = self.runs.back_mut().expect("there is one now");
        run.until = until;
        run.bytes += bytes;
        // A tombstone has no place of its own.
        if let Some(place) = place.filter(|place| *place > 0) {
            run.places.add(place);
        }
        self.first + self.runs.len() as u64 - 1
    }

    /// The message that was added last may be of a transaction of which nothing else is kept.
    pub fn cover(&mut self, is: bool) {
        if let Some(run) = self.runs.back_mut() {
            run.covered += u64::from(is);
        }
    }

    pub fn head(&self) -> Option<&Run> {
        self.runs.front()
    }

    /// The number of the run at the head (or that the next one will have).
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The runs from one number up to another, of those that are held.
    pub fn runs(&self, from: u64, upto: u64) -> impl Iterator<Item = &Run> {
        let place = |n: u64| (n.saturating_sub(self.first) as usize).min(self.runs.len());
        self.runs.range(place(from)..place(upto + 1).max(place(from)))
    }

    /// Takes the first run off.
    pub fn pop(&mut self) -> Run {
        let run = self.runs.pop_front().expect("there is a run at the head");
        self.first += 1;
        self.taken = Some(run.until);
        run
    }

    /// Gives out the messages of the runs that were taken off.
    pub fn cut(&mut self, mut give: impl FnMut(Chunk)) {
        let Some(until) = self.taken.take() else { return };
        self.given = Some(until);
        while let Some(chunk) = self.chunks.pop_front() {
            if replay::first(&chunk) >= until {
                self.chunks.push_front(chunk);
                return;
            }
            let (head, rest) = replay::cut(chunk, until);
            give(head);
            if let Some(rest) = rest {
                self.chunks.push_front(rest);
                return;
            }
        }
    }
}

/// Bytes of a chunk.
pub fn volume(chunk: &Chunk) -> u64 {
    match &chunk.payload {
        Payload::Lines { bytes, .. } | Payload::Messages { bytes, .. } => bytes.len() as u64,
        Payload::Heartbeat(_) => 0,
    }
}

/// Goes through the messages of a chunk: value, bytes, and the position after it.
pub fn each(payload: &Payload, mut take: impl FnMut(Option<&[u8]>, u64, i64)) {
    match payload {
        Payload::Lines { bytes, offset } => {
            let mut start = 0;
            while start < bytes.len() {
                let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |n| start + n + 1);
                let line = bytes[start..end].trim_ascii();
                take((!line.is_empty()).then_some(line), (end - start) as u64, offset + end as i64);
                start = end;
            }
        }
        Payload::Messages { bytes, index } => {
            for at in index {
                let value = at.start as usize + at.key_len.unwrap_or(0) as usize;
                let len = at.value_len.unwrap_or(0);
                take(at.value_len.map(|len| &bytes[value..value + len as usize]), u64::from(at.key_len.unwrap_or(0) + len), at.offset + 1);
            }
        }
        Payload::Heartbeat(_) => {}
    }
}
