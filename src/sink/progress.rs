//! Progress records: what a transaction of outputs says of itself, so that the next start knows what is written, and can
//! make the same ticks again.
//!
//! Each is the last record of its transaction, in a topic of its own with one partition. It names the record before it: a
//! chain without a gap. `ticks` lists how every tick since then was cut: with that, the logs, and a checkpoint at or after the
//! chain's base, the same outputs follow again.
//!
//! This file owns the record's form and what a chain must be; `kafka::topic` reads it, `kafka::transactions` writes it.

use serde::{Deserialize, Serialize};

use crate::{
    engine::{Incomplete, Marked, Sealed, SealedSource, Tick},
    ledger::TickOutput,
};

/// What one transaction says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The newest tick of which the transaction has records.
    pub tick: Tick,
    /// A tick that is too large is written in parts, from 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub part: u64,
    /// More parts of this tick follow.
    #[serde(default)]
    pub more: bool,
    /// So many of this tick's records are written, with those of the parts before; said where more follow.
    #[serde(default, skip_serializing_if = "is_default")]
    pub done: u64,
    /// The tick of the record before this one; of the first: that of the checkpoint which the run went on from.
    pub before: Tick,
    /// Nothing before this record counts: the run started anew.
    #[serde(default, skip_serializing_if = "is_default")]
    pub begins: bool,
    /// The version of tieout.
    pub written_by: String,
    /// What tells one run of tieout from another.
    pub run: String,
    /// What everything that is written follows from: tables, mappings, logs, comparisons.
    pub plan: String,
    /// Pieces of outputs whose committed records readers never saw, and that are written again by the record after this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mends: Vec<Piece>,
    /// All ticks after `before`, up to `tick`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ticks: Vec<TickAt>,
}

/// A piece of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub topic: String,
    pub partition: i32,
    /// The first offset, and the one after the last.
    pub from: i64,
    pub end: i64,
    /// So many records in it are meant.
    #[serde(default)]
    pub records: u64,
}

impl Piece {
    pub fn same_partition(&self, other: &Piece) -> bool {
        (&self.topic, self.partition) == (&other.topic, other.partition)
    }
}

/// How a tick was cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TickAt {
    pub tick: Tick,
    pub wall_ms: i64,
    /// Whether differences were shown.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hydrated: bool,
    /// A run began with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub first: bool,
    /// In the plan's order.
    pub sources: Vec<SourceAt>,
    /// The transactions that were shown without all of their rows, and which messages were theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<Incomplete>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marked: Vec<Marked>,
}

/// How far a source was read at a tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceAt {
    /// The next position by partition; lacking: as at the tick before in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<Vec<(i32, i64)>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub caught_up: bool,
    /// When its log was asked, in milliseconds since the epoch; only where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The trouble is a change of its schema.
    #[serde(default, skip_serializing_if = "is_default")]
    pub refused: bool,
    /// In milliseconds of source time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<i64>,
    /// Where reading began, of partitions that are new at this tick.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<(i32, i64)>,
    /// What tells the log from another one of its name; lacking: not known, or as before in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Progress {
    /// The value of its record.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a progress record is plain data")
    }

    /// Reads the value of a record.
    ///
    /// # Errors
    /// Why it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Progress, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

/// Ticks that are to be told of in the next progress record.
#[derive(Debug, Default)]
pub struct Notes {
    ticks: Vec<TickAt>,
    /// By source, its positions at the newest of them, and its log's identity.
    positions: Vec<Vec<(i32, i64)>>,
    logs: Vec<Option<String>>,
    bytes: usize,
}

impl Notes {
    /// Bytes of the list, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a closed tick.
    pub fn add(&mut self, output: &TickOutput) {
        let first = self.ticks.is_empty();
        self.positions.resize(output.sealed.len(), Vec::new());
        self.logs.resize(output.sealed.len(), None);
        let note = |((known, log), of): ((&mut Vec<(i32, i64)>, &mut Option<String>), &SealedSource)| {
            let changed = first || *known != of.positions;
            known.clone_from(&of.positions);
            let other = first || *log != of.identity;
            log.clone_from(&of.identity);
            SourceAt {
                positions: changed.then(|| of.positions.clone()),
                caught_up: of.caught_up,
                asked_ms: of.asked_ms.filter(|_| of.caught_up),
                trouble: of.trouble.clone(),
                refused: of.refused,
                heartbeat: of.heartbeat,
                start: of.start.clone(),
                log: of.identity.clone().filter(|_| other),
            }
        };
        let sources = self.positions.iter_mut().zip(&mut self.logs).zip(&output.sealed).map(note).collect();
        let (incomplete, marked) = (output.incomplete.clone(), output.marked.clone());
        let TickOutput { tick, wall_ms, hydrated, first, .. } = *output;
        let at = TickAt { tick, wall_ms, hydrated, first, sources, incomplete, marked };
        self.bytes += serde_json::to_vec(&at).map_or(0, |json| json.len() + 1);
        self.ticks.push(at);
    }

    pub fn is_empty(&self) -> bool {
        self.ticks.is_empty()
    }

    pub fn len(&self) -> usize {
        self.ticks.len()
    }

    /// The newest tick.
    pub fn last(&self) -> Option<Tick> {
        self.ticks.last().map(|at| at.tick)
    }

    /// All of them; what follows begins a new list.
    pub fn take(&mut self) -> Vec<TickAt> {
        self.bytes = 0;
        std::mem::take(&mut self.ticks)
    }
}

/// How much is written of a tick of which more is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partly {
    pub parts: u64,
    pub records: u64,
}

/// What versions that did not say how many records are written put into a part.
const PART_ONCE: u64 = 10_000;

/// Where reading of a source began, and what tells its log from another one of its name.
pub type Began = (Vec<(i32, i64)>, Option<String>);

/// The records of one deployment that count: from the newest beginning, or from the oldest that is still there.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// The list has all ticks after this one.
    pub base: Tick,
    /// The newest tick that is written, and how much of it if more is to come.
    pub last: Tick,
    pub partly: Option<Partly>,
    pub plan: String,
    ticks: Vec<Sealed>,
    first: Option<Tick>,
    /// The newest record of each run of records that follow from one plan.
    plans: Vec<(Tick, String)>,
}

impl Chain {
    /// The chain of all records that are there, in the order of the topic; none: nothing was ever written.
    ///
    /// # Errors
    /// A record is lacking: the tick after which it should stand.
    pub fn of(records: &[Progress]) -> Result<Option<Chain>, Tick> {
        let from = records.iter().rposition(|record| record.begins).unwrap_or(0);
        let Some(oldest) = records.get(from) else { return Ok(None) };
        let mut chain =
            Chain { base: oldest.before, last: oldest.before, partly: None, plan: oldest.plan.clone(), ticks: Vec::new(), first: None, plans: Vec::new() };
        for record in &records[from..] {
            if record.before != chain.last {
                return Err(chain.last);
            }
            chain.last = record.tick;
            let parts = record.part + 1;
            let records = if record.done > 0 { record.done } else { parts * PART_ONCE };
            chain.partly = record.more.then_some(Partly { parts, records });
            chain.plan.clone_from(&record.plan);
            match chain.plans.last_mut() {
                Some((tick, plan)) if *plan == record.plan => *tick = record.tick,
                _ => chain.plans.push((record.tick, record.plan.clone())),
            }
            chain.first = chain.first.or(record.ticks.first().map(|at| at.tick));
            chain.list(&record.ticks);
        }
        Ok(Some(chain))
    }

    fn list(&mut self, ticks: &[TickAt]) {
        let mut positions: Vec<Vec<(i32, i64)>> = Vec::new();
        for at in ticks {
            positions.resize(at.sources.len(), Vec::new());
            for (known, of) in positions.iter_mut().zip(&at.sources) {
                if let Some(now) = &of.positions {
                    known.clone_from(now);
                }
            }
            let source = |(positions, of): (&Vec<(i32, i64)>, &SourceAt)| SealedSource {
                positions: positions.clone(),
                caught_up: of.caught_up,
                asked_ms: of.asked_ms,
                trouble: of.trouble.clone(),
                refused: of.refused,
                heartbeat: of.heartbeat,
                start: of.start.clone(),
                identity: of.log.clone(),
                ..SealedSource::default()
            };
            let sources = positions.iter().zip(&at.sources).map(source).collect();
            let (incomplete, marked) = (at.incomplete.clone(), at.marked.clone());
            self.ticks.push(Sealed {
                tick: at.tick,
                wall_ms: at.wall_ms,
                sources,
                hydrated: at.hydrated,
                first: at.first,
                replay: true,
                incomplete,
                marked,
                ..Sealed::default()
            });
        }
    }

    /// Can a run that knows all up to this tick (0: nothing) make the rest again? One that was there before the chain began
    /// knows another past.
    pub fn goes_on_from(&self, tick: Tick) -> bool {
        tick == self.base || (tick <= self.last && self.first.is_some_and(|first| tick >= first))
    }

    /// Does all that was written after this tick follow from this plan?
    pub fn follows_from(&self, plan: &str, after: Tick) -> bool {
        self.plans.iter().all(|(tick, of)| *tick <= after || of == plan)
    }

    /// The ticks after this one, to be made again.
    pub fn after(&self, tick: Tick) -> Vec<Sealed> {
        self.ticks.iter().filter(|sealed| sealed.tick > tick).cloned().collect()
    }

    /// By source: where reading began, and the log's identity if it is known.
    pub fn starts(&self, sources: usize) -> Vec<Began> {
        let of = |source: usize| self.ticks.iter().filter_map(move |sealed| sealed.sources.get(source));
        (0..sources).map(|source| (of(source).flat_map(|of| of.start.iter().copied()).collect(), of(source).find_map(|of| of.identity.clone()))).collect()
    }
}

#[cfg(test)]
mod tests;
