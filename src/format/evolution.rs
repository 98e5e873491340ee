//! How the schema of a source has changed: what a run remembers of it, and a checkpoint keeps.

use serde::{Deserialize, Serialize};

use super::{
    Times,
    fields::{Difference, Fields},
};

/// A change of a source's schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaChange {
    /// The first message that has it.
    pub partition: i32,
    pub offset: i64,
    /// When the source committed that message, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_time: Option<i64>,
    /// The wall clock when it was seen, in milliseconds since the epoch.
    pub seen_ms: i64,
    pub difference: Difference,
    pub accepted: bool,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The schemas of a source, and their changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evolution {
    /// Schemas that are accepted, the newest first.
    pub known: Vec<Fields>,
    /// The times of the first message that had the declared columns of the newest schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Times>,
    /// The columns without which decoders take no row, where they were told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<Vec<String>>,
    /// The newest changes, the last one last.
    pub changes: Vec<SchemaChange>,
    /// All changes since the beginning that were accepted, and those that were not.
    pub accepted: u64,
    pub refused_ever: u64,
    /// The last one is not accepted, and the source stands before it.
    #[serde(skip)]
    pub refused: bool,
}

/// Accepted schemas, and changes, that are remembered.
const KNOWN_MAX: usize = 16;
const CHANGES_MAX: usize = 20;

impl Evolution {
    /// Is this a schema that was accepted before?
    pub fn knows(&self, fields: &Fields) -> bool {
        self.place(fields).is_some()
    }

    fn place(&self, fields: &Fields) -> Option<usize> {
        self.known.iter().position(|known| known == fields || known.changed(fields).is_none())
    }

    /// Takes a schema for accepted, and for the newest.
    pub fn know(&mut self, fields: &Fields) {
        match self.place(fields) {
            Some(at) => self.known[..=at].rotate_right(1),
            None => {
                self.known.insert(0, fields.clone());
                self.known.truncate(KNOWN_MAX);
            }
        }
    }

    /// Since when there are the newest columns, as far as that is known (checkpoints of before did not keep it).
    pub fn begun(&self) -> Option<Times> {
        let change = || self.changes.iter().rev().find(|change| change.accepted)?.source_time;
        self.since.or_else(|| change().map(|time| Times { committed: Some(time), handled: None }))
    }

    /// Remembers a change. One that was refused before a restart, and comes again, is the same one.
    pub fn note(&mut self, change: SchemaChange) {
        let is_same = |last: &SchemaChange| (last.partition, last.offset, &last.difference) == (change.partition, change.offset, &change.difference);
        let again = self.changes.last().is_some_and(|last| !last.accepted && is_same(last));
        if again {
            self.changes.pop();
        }
        match change.accepted {
            true => self.accepted += 1,
            false => self.refused_ever += u64::from(!again),
        }
        self.refused = !change.accepted;
        self.changes.push(change);
        if self.changes.len() > CHANGES_MAX {
            self.changes.remove(0);
        }
    }
}
