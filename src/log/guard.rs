//! Changes of a source's schema: what its reader does about them before anybody decodes the messages that have them.
//!
//! ```text
//! reader ─ Chunk ─▶ Guard ─┬─ as known, or accepted ─▶ channel to the clock
//!                          └─ refused: what lies before it goes on, and the reader stops there
//! ```
//!
//! The reader does it, and not the workers that decode, because only here nothing of a later message has been taken in: the
//! source stands exactly before the first message that is not accepted, and a restart goes on with that message. What was
//! accepted once is no change when it comes again (a connector that was killed sends old messages after new ones, and
//! partitions lag behind), unless it lacks a declared column that there was when it was committed: the times tell.
//!
//! Messages whose schema is told cost a comparison each. Where there is none, the names of a row must be looked for: that is
//! done of the last row of each chunk, and of every row only under `exception`, or to find the first one that differs. A row in
//! between that lacks a declared column is then the decoders' to reject; where they can't tell, since some rows may lack it,
//! every row is looked at.

use std::sync::Arc;

use super::{LogError, wall_ms};
use crate::{
    engine::{
        Chunk,
        chunk::{cut, first},
    },
    format::{
        Batch, Decoder, Message, Op, Times,
        evolution::{Evolution, SchemaChange},
        fields::{Fields, Seen, Viewer},
    },
    plan::{Required, SchemaPolicy, Source},
    row::{Column, source_time_text},
};

/// Watches the schema of one source.
pub struct Guard {
    name: String,
    policy: SchemaPolicy,
    columns: Vec<Column>,
    /// The names of its key.
    key: Vec<String>,
    viewer: Viewer,
    /// Tells the source time of messages, and whether they have a row.
    times: Box<dyn Decoder>,
    decoded: Batch,
    evolution: Arc<Evolution>,
    /// What was accepted last and has the newest declared columns, so that it need not be looked for.
    last: Option<Arc<Seen>>,
    /// What was known last and has others, so that only its times need be looked at.
    aside: Option<Arc<Seen>>,
    /// What lies before these positions was taken in before a restart, and is not refused any more.
    settled: Vec<(i32, i64)>,
    /// For the decoders: what no row may lack.
    required: Arc<Required>,
    /// Versions of a schema may stand side by side, as they do in a registry: one that was accepted is accepted whenever it comes.
    side_by_side: bool,
}

/// What a guard lets through of a chunk.
#[derive(Debug)]
pub struct Let {
    /// What may go on: all of the chunk, what lies before the refused message, or nothing.
    pub chunk: Option<Chunk>,
    /// What may not: the refused message and those after it.
    pub rest: Option<Chunk>,
    /// What has been accepted.
    pub accepted: Vec<SchemaChange>,
    /// What has not.
    pub refused: Option<SchemaChange>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("policy", &self.policy).field("evolution", &self.evolution).finish_non_exhaustive()
    }
}

impl Guard {
    /// A guard that goes on from what was known; `None`: the source's policy is not to look.
    pub fn new(source: &Source, policy: SchemaPolicy, evolution: Option<Arc<Evolution>>, settled: Vec<(i32, i64)>) -> Option<Guard> {
        if policy == SchemaPolicy::Ignore {
            return None;
        }
        let mut evolution = evolution.unwrap_or_default();
        Arc::make_mut(&mut evolution).refused = false;
        let times = crate::format::decoder(source, &vec![false; source.columns.len()]);
        let key = source.key.iter().map(|column| source.columns[*column].name.clone()).collect();
        let (name, columns, required) = (source.name.clone(), source.columns.clone(), Arc::clone(&source.required));
        let side_by_side = source.format.is_avro();
        let mut guard = Guard {
            name,
            policy,
            columns,
            key,
            viewer: Viewer::new(source),
            times,
            decoded: Batch::default(),
            evolution,
            last: None,
            aside: None,
            settled,
            required,
            side_by_side,
        };
        guard.require();
        Some(guard)
    }

    /// What lies before these positions was taken in before a restart.
    pub fn settled(&self) -> &[(i32, i64)] {
        &self.settled
    }

    /// The name of the source.
    pub fn source(&self) -> &str {
        &self.name
    }

    /// What is known of the source's schema.
    pub fn evolution(&self) -> &Arc<Evolution> {
        &self.evolution
    }

    /// Looks at a chunk. Once something was refused, nothing more may be given.
    pub fn examine(&mut self, chunk: Chunk) -> Let {
        let mut given = Let { chunk: None, rest: None, accepted: Vec::new(), refused: None };
        let newest = chunk.find_last(|message| self.viewer.look(message));
        let is_last = |guard: &Guard, seen: &Arc<Seen>| guard.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, seen));
        let each = newest.as_ref().is_some_and(|seen| seen.told) || self.policy == SchemaPolicy::Exception || self.must_look();
        if newest.as_ref().is_none_or(|seen| is_last(self, seen) && !each) {
            given.chunk = Some(chunk);
            return given;
        }
        let partition = chunk.partition;
        given.refused = chunk.find(|message| {
            let seen = self.viewer.look(message)?;
            if is_last(self, &seen) || !(seen.told || self.evolution.knows(&seen.fields) || self.has_row(message, &seen)) {
                return None;
            }
            let change = self.judge(partition, &message, &seen);
            if change.as_ref().is_none_or(|change| change.accepted) {
                if !self.is_aside(&seen) {
                    self.last = Some(seen);
                }
                given.accepted.extend(change);
                return None;
            }
            change
        });
        (given.chunk, given.rest) = match &given.refused {
            None => (Some(chunk), None),
            Some(refused) if first(&chunk) >= refused.offset => (None, Some(chunk)),
            Some(refused) => {
                let (before, rest) = cut(chunk, refused.offset);
                (Some(before), rest)
            }
        };
        given
    }

    /// Has a message a row? Names may also be found in one that can't be read to its end, which is no change but a reject.
    fn has_row(&mut self, message: Message, seen: &Seen) -> bool {
        self.decoded.clear(self.columns.len());
        self.times.decode(message, &mut self.decoded);
        let Batch { records, rejects, .. } = &self.decoded;
        let has_key = || self.key.iter().all(|name| seen.fields.get(name).is_some());
        let is_bad = |code: &str| code == "DECODE_FAILED" || (code == "KEY_MISSING" && has_key());
        records.iter().any(|record| !matches!(record.op, Op::Skip | Op::Truncate)) && !rejects.iter().any(|reject| is_bad(reject.code))
    }

    fn is_aside(&self, seen: &Arc<Seen>) -> bool {
        self.aside.as_ref().is_some_and(|aside| Arc::ptr_eq(aside, seen))
    }

    /// From a message with this schema on it is the newest.
    fn know(&mut self, fields: &Fields, since: Option<Times>) {
        let evolution = Arc::make_mut(&mut self.evolution);
        evolution.know(fields);
        evolution.since = since;
        self.aside = None;
    }

    /// The change that a message makes, if its row's fields are not known yet, or lack a declared column that there is now.
    fn judge(&mut self, partition: i32, message: &Message, seen: &Arc<Seen>) -> Option<SchemaChange> {
        let Some(before) = self.evolution.known.first() else {
            // The first schema is what the others are compared with.
            self.know(&seen.fields, Some(self.times.times(*message)));
            self.require();
            return None;
        };
        let times = || self.times.times(*message);
        let is_after = |times: Times| self.evolution.begun().is_some_and(|begun| times.is_after(begun));
        let is_aside = self.is_aside(seen);
        // What was taken in before a restart was judged then.
        let settled = self.settled.iter().any(|(of, next)| *of == partition && message.offset < *next);
        if is_aside && !is_after(times()) {
            return None;
        }
        let stood = self.evolution.changes.last().is_some_and(|last| !last.accepted && (last.partition, last.offset) == (partition, message.offset));
        let known = !stood && (is_aside || self.evolution.knows(&seen.fields));
        if known && self.side_by_side {
            return None;
        }
        let has = |fields: &Fields, column: &Column| fields.get(&column.name).is_some();
        let gone = self.columns.iter().any(|column| has(before, column) && !has(&seen.fields, column));
        let come = self.columns.iter().any(|column| !has(before, column) && has(&seen.fields, column));
        let since = if gone || come { Some(times()) } else { self.evolution.begun() };
        if known {
            match since {
                _ if !gone && !come => return None,
                Some(times) if is_after(times) && !(gone && settled) => {}
                _ => {
                    // It is from before.
                    self.aside = Some(Arc::clone(seen));
                    return None;
                }
            }
            if !gone || self.policy == SchemaPolicy::Lenient {
                self.know(&seen.fields, since);
                return None;
            }
        }
        let difference = before.changed(&seen.fields);
        let declared = |name: &String| self.columns.iter().position(|column| column.name == *name);
        let lost = difference.removed.iter().find_map(|name| Some((name, declared(name)?)));
        let other = difference.retyped.iter().find_map(|one| Some((one, declared(&one.name).filter(|at| seen.unreadable.contains(at))?)));
        let why = match (self.policy, lost, other) {
            _ if settled => None,
            (SchemaPolicy::Exception, ..) => Some("`schema_change: exception` accepts no change".to_string()),
            (SchemaPolicy::Evolve, Some((name, at)), _) => {
                let new = difference.added.join("`, `");
                let renamed = if new.is_empty() { String::new() } else { format!(" (new: `{new}`; was it renamed?)") };
                Some(format!("the declared column `{name}` ({}) is gone{renamed}", self.columns[at].ty))
            }
            (SchemaPolicy::Evolve, None, Some((one, at))) => {
                Some(format!("the column `{}` is declared {}, and {} can't be read as that", one.name, self.columns[at].ty, one.to))
            }
            _ => None,
        };
        let change = SchemaChange {
            partition,
            offset: message.offset,
            source_time: self.times.source_time(*message),
            seen_ms: wall_ms(),
            difference,
            accepted: why.is_none(),
            why,
        };
        Arc::make_mut(&mut self.evolution).note(change.clone());
        if change.accepted {
            self.know(&seen.fields, since);
        }
        Some(change)
    }

    /// Tells the decoders what no row may lack: the declared columns that every accepted schema has. A row that does, between
    /// others that don't, is rejected; so what is not looked at here is not taken for NULL there. Where something is taken in
    /// again, it is what was told then, or ticks that are made again would not be what they were.
    fn require(&mut self) {
        let evolution = Arc::make_mut(&mut self.evolution);
        let told = match (self.policy, &evolution.required) {
            (SchemaPolicy::Evolve, _) if evolution.known.is_empty() => return,
            (SchemaPolicy::Evolve, Some(told)) if !self.settled.is_empty() => told.clone(),
            (SchemaPolicy::Evolve, _) => {
                let has = |column: &&Column| evolution.known.iter().all(|known| known.get(&column.name).is_some());
                self.columns.iter().filter(has).map(|column| column.name.clone()).collect()
            }
            _ => Vec::new(),
        };
        // It was told before only if this is the same source again.
        let told = self.required.get_or_init(|| self.columns.iter().map(|column| told.contains(&column.name)).collect());
        evolution.required = Some(self.columns.iter().zip(told).filter(|(_, told)| **told).map(|(column, _)| column.name.clone()).collect());
    }

    /// Is there a declared column now that decoders don't know they should not do without?
    fn must_look(&self) -> bool {
        let (Some(newest), Some(told)) = (self.evolution.known.first(), self.required.get()) else { return false };
        let is_told = |(column, told): (&Column, &bool)| *told || newest.get(&column.name).is_none();
        self.policy == SchemaPolicy::Evolve && !self.columns.iter().zip(told).all(is_told)
    }

    /// Why the source stops at a change.
    pub fn stop(&self, change: &SchemaChange) -> LogError {
        let at = match change.source_time {
            Some(time) => format!("partition {}, position {}, of {}", change.partition, change.offset, source_time_text(time)),
            None => format!("partition {}, position {}", change.partition, change.offset),
        };
        let remedy = match self.policy {
            SchemaPolicy::Exception => "look at the change, then start again with `schema_change: evolve`, which goes on from there",
            _ => "declare the columns that there are now and start again, or take what is gone as NULL with `schema_change: lenient`",
        };
        LogError {
            code: "SCHEMA_CHANGED",
            message: format!("the schema changed at {at}: {}: {}", change.difference, change.why.as_deref().unwrap_or("not accepted")),
            remedy: format!("nothing of that message or later ones is taken in; {remedy}"),
            retry: false,
        }
    }
}

#[cfg(test)]
mod tests;
