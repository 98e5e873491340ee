//! Hanging transactions: over for their coordinator, and not in all of their partitions.
//!
//! A coordinator that ends a transaction while a partition has no leader takes that partition for deleted, and leaves its
//! marker out: Kafka 4.3.1 does (KAFKA-20734) when a broker is killed while a transaction is open, and comes back after
//! `transaction.timeout.ms`, or while one is being committed. There readers of what is committed wait without end; and the end
//! of the producer's next transaction ends this one with it, so that records that were aborted are committed after all, or
//! those of a commit are lost.
//!
//! So whoever begins to write, or lost a connection, looks before anything is written. What is found decides on one step,
//! then it is looked again; all that a step needs stands in the topics, so that it may be killed anywhere:
//!
//! | what hangs | is known from | and |
//! | --- | --- | --- |
//! | records that were committed | a committed progress record tells of their tick | a progress record names the piece (`mends`), it is aborted, and written again |
//! | other records | none does | they are aborted; their ticks are made again as after any kill |
//! | a progress record that was committed | another partition shows a record of its ticks, a checkpoint or this run knows of it | the next one commits it, too |
//! | another one | nobody does | it is aborted |
//! | one behind a progress record that was committed | nobody does | it is a stop: one end would be that of both |
//!
//! Aborting takes a record in the partition, in a transaction that is aborted: readers of what is committed see neither.
//!
//! This file decides; `transactions` carries out.

use rdkafka::message::{Headers as _, Message};

use crate::{
    engine::Tick,
    sink::progress::{Piece, Progress},
};

/// The header of a record that is only there to be aborted.
pub const ABORT: &str = "tieout-abort";
/// The header with the tick that a record is of.
pub const TICK: &str = "tieout-tick";

/// A record that tieout wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub tick: Tick,
    /// When it was sent, in milliseconds.
    pub ms: i64,
}

impl Record {
    /// Of a message, if tieout wrote it.
    pub fn of(message: &impl Message) -> Option<Record> {
        let tick = message.headers()?.iter().find(|header| header.key == TICK)?.value?;
        Some(Record { tick: std::str::from_utf8(tick).ok()?.parse().ok()?, ms: message.timestamp().to_millis().unwrap_or(0) })
    }
}

/// Was this record only there to be aborted?
pub fn is_abort(message: &impl Message) -> bool {
    message.headers().is_some_and(|headers| headers.iter().any(|header| header.key == ABORT))
}

/// A progress record, where it stands, and when it was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub progress: Progress,
    pub offset: i64,
    pub ms: i64,
}

impl Sent {
    /// Is the record of this one's transaction, or of one for an earlier part of the tick? All records of a transaction are sent before its progress record, and those of
    /// the next one after it: that tells parts of one tick from each other.
    pub fn has(&self, record: Record) -> bool {
        let of = &self.progress;
        let part = of.part > 0 || of.more;
        (of.ticks.iter().any(|at| at.tick == record.tick) || (part && of.tick == record.tick)) && (!of.more || record.ms <= self.ms)
    }

    /// Does it tell of records? One that only says who writes now has nothing, or repeats the one before it.
    fn carries(&self, before: Option<&Sent>) -> bool {
        let part = |of: &Progress| (of.tick, of.part, of.more, of.done);
        let of = &self.progress;
        !of.ticks.is_empty() || (of.part > 0 && before.is_none_or(|before| part(&before.progress) != part(of)))
    }
}

/// A partition of an output in which something hangs.
#[derive(Clone, Debug, PartialEq)]
pub struct Hanging {
    pub piece: Piece,
    /// The records in it that tieout wrote, but for those that were only there to be aborted.
    pub records: Vec<Record>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing hangs.
    Done,
    /// Abort what is in these partitions.
    Abort(Vec<(String, i32)>),
    /// Write a progress record that names these pieces: what is committed in them is written again.
    Name(Vec<Piece>),
    /// Write again what is committed in these pieces, with a progress record that names none.
    Again(Vec<Piece>),
    /// Write a progress record, so that those that wait are committed with it.
    Say,
    /// Nothing can be done: behind what was committed, up to this tick, another transaction hangs of which nobody knows whether it
    /// was, and one end would be that of both.
    Torn(Tick),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Outputs' partitions.
    pub held: Vec<Hanging>,
    /// The progress topic is held back, too, and these stand there; it may be held back without one.
    pub waiting: Option<Vec<Sent>>,
    /// Records that readers see, of the ticks that progress records that wait tell of.
    pub visible: Vec<Record>,
    /// The progress records that readers see.
    pub past: Vec<Sent>,
    /// Where the newest one stands that this run knows to be committed.
    pub told: Option<i64>,
    /// A checkpoint knows that those up to this tick are.
    pub known: Tick,
}

/// The next step, and all progress records that are committed.
pub fn next(found: Found, progress: &str) -> (Step, Vec<Sent>) {
    let Found { held, waiting, visible, past, told, known } = found;
    let (waits, seen) = (waiting.is_some(), past.len());
    let all: Vec<Sent> = past.into_iter().chain(waiting.unwrap_or_default()).collect();
    let shown = |n: usize| carries(&all, n) && (all[n].progress.tick <= known || visible.iter().any(|record| owner(&all, *record) == Some(n)));
    // What comes after it in its partition is committed, so it is, too.
    let sure = (seen..all.len()).rev().find(|n| told == Some(all[*n].offset) || shown(*n));
    let torn = sure.filter(|sure| (sure + 1..all.len()).any(|n| carries(&all, n))).map(|sure| all[sure].progress.tick);
    let past: Vec<Sent> = all.into_iter().take(sure.map_or(seen, |n| n + 1)).collect();
    let named = past.last().map(|last| last.progress.mends.clone()).unwrap_or_default();
    let (mut lost, mut abort) = (Vec::new(), Vec::new());
    for of in held {
        let again = named.iter().any(|piece| piece.same_partition(&of.piece));
        match committed(&of.records, &past) {
            Some(records) if !again => lost.push(Piece { records: records.count() as u64, ..of.piece }),
            _ => abort.push((of.piece.topic, of.piece.partition)),
        }
    }
    let step = if let Some(tick) = torn {
        Step::Torn(tick)
    } else if waits && sure.is_none() {
        abort.push((progress.into(), 0));
        Step::Abort(abort)
    } else if !lost.is_empty() || (waits && !named.is_empty()) {
        // One that names pieces must be seen before anything of them is aborted.
        Step::Name(named.into_iter().chain(lost).collect())
    } else if !abort.is_empty() {
        Step::Abort(abort)
    } else if !named.is_empty() {
        Step::Again(named)
    } else if waits {
        Step::Say
    } else {
        Step::Done
    };
    (step, past)
}

fn carries(all: &[Sent], n: usize) -> bool {
    all[n].carries(n.checked_sub(1).map(|before| &all[before]))
}

/// The progress record of a record's transaction: the first that has it, since one of a later part of its tick seems to.
fn owner(all: &[Sent], record: Record) -> Option<usize> {
    (0..all.len()).find(|n| all[*n].has(record) && carries(all, *n))
}

/// Of what hangs in a partition, what was committed; `None`: nothing. It is of one transaction, that of the first record: any end
/// of a later one of the same producer would have been its end, too.
pub fn committed<'a>(records: &'a [Record], past: &'a [Sent]) -> Option<impl Iterator<Item = &'a Record>> {
    let first = *records.first()?;
    let of = owner(past, first).map(|n| &past[n]);
    // Its progress record may have been removed, since checkpoints are newer: then it was committed.
    let base = past.first().map_or(0, |oldest| if oldest.progress.begins { 0 } else { oldest.progress.before });
    (of.is_some() || first.tick <= base).then(|| records.iter().filter(move |record| of.map_or(record.tick <= base, |of| of.has(**record))))
}

#[cfg(test)]
mod tests;
