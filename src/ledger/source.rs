//! What is known of a source as of a closed tick: counts, positions, and the source time up to which it is closed.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    engine::{Counts, Replaying, SealedSource, SourceReport, Tick, Upstream},
    format::evolution::Evolution,
};

/// A source as of a closed tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceState {
    /// What became of its messages, by partition.
    pub counts: BTreeMap<i32, Counts>,
    /// The greatest source time that any of its messages had or that a heartbeat counts for, in milliseconds; `None`: none
    /// came yet.
    pub time: Option<i64>,
    /// The greatest source time that its messages of this tick had; `None`: none came in it.
    #[serde(skip)]
    pub of_tick: Option<i64>,
    /// Others of its connector show times, and it has shown none: the tick does not stand in for them.
    #[serde(skip)]
    pub beside: bool,
    /// The source time up to which it is known. A source that is read to its end is known as far as its connector is, so
    /// that a quiet table holds nobody back. Never goes back.
    pub known_to: Option<i64>,
    pub positions: Vec<(i32, i64)>,
    /// By partition, the first message that was read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub began: BTreeMap<i32, i64>,
    /// What tells the log of these positions from another one of its name.
    #[serde(default)]
    pub identity: Option<String>,
    /// Everything that the log held when it was last asked is read.
    pub caught_up: bool,
    pub trouble: Option<String>,
    /// The trouble is a change of its schema that is not accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// What is known of its schema, where that is watched.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::engine::shared::maybe")]
    pub schema: Option<Arc<Evolution>>,
    pub behind_bytes: u64,
    /// The wall clock (ms) of the newest closed tick at which it was caught up, or of the first tick.
    pub caught_up_ms: i64,
    /// The newest positions in the database's own log, so that a range that is sent again is known after a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstream: Vec<Upstream>,
    /// A connector sends a range again, and its end is waited for.
    #[serde(skip)]
    pub replaying: Option<Replaying>,
}

impl SourceState {
    /// The source time up to which it is closed at `tick`. The tick stands in for it while a source that is being read
    /// shows no source times, nor others of its connector. `i64::MIN`: nothing was read yet; a log that is empty tells nothing of
    /// its system's time.
    pub fn closed_to(&self, tick: Tick) -> i64 {
        match self.known_to {
            Some(time) => time,
            None if self.counts().read > 0 && !self.beside => tick as i64,
            None => i64::MIN,
        }
    }

    /// What became of its messages, over all partitions.
    pub fn counts(&self) -> Counts {
        self.counts.values().copied().sum()
    }

    /// Adds what one worker decoded.
    pub(super) fn count(&mut self, report: &SourceReport) {
        for (partition, counts) in &report.counts {
            *self.counts.entry(*partition).or_default() += *counts;
        }
        if report.source_time != i64::MIN {
            self.time = self.time.max(Some(report.source_time));
            self.of_tick = self.of_tick.max(Some(report.source_time));
        }
    }

    /// Takes over how far it was read.
    pub(super) fn seal(&mut self, sealed: &SealedSource, wall_ms: i64) {
        self.positions.clone_from(&sealed.positions);
        for (partition, start) in &sealed.start {
            self.began.entry(*partition).or_insert(*start);
        }
        self.caught_up = sealed.caught_up;
        self.trouble.clone_from(&sealed.trouble);
        self.refused = sealed.refused;
        if sealed.schema.is_some() {
            self.schema.clone_from(&sealed.schema);
        }
        self.behind_bytes = sealed.behind_bytes;
        self.replaying = sealed.replaying;
        if !sealed.upstream.is_empty() {
            self.upstream.clone_from(&sealed.upstream);
        }
        if sealed.identity.is_some() {
            self.identity.clone_from(&sealed.identity);
        }
        if sealed.caught_up || self.caught_up_ms == 0 {
            self.caught_up_ms = wall_ms;
        }
    }
}
