//! One side of a comparison: its sources, and how far it is known.

use crate::{
    ledger::comparison::Now,
    plan::{Plan, SourceId, TableRef},
};

/// How far one side of a comparison is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideStatus {
    /// The side is closed up to this source time, in milliseconds; `i64::MIN`: an input was not read at all yet.
    pub time: i64,
    /// The input that is furthest behind.
    pub held_by: Option<SourceId>,
    /// Rows of the side's table.
    pub rows: u64,
    /// The wall clock (ms) when `time` last moved.
    pub moved_ms: i64,
}

/// One side's sources and time.
#[derive(Debug)]
pub(super) struct SideClock {
    table: TableRef,
    pub sources: Vec<SourceId>,
    pub status: SideStatus,
    /// The newest time of its sources: no change of the side is newer.
    pub newest: i64,
    /// How new a change is that came through a join or an aggregate, which has no source time of its own: as new as the side, or
    /// as what was read of its sources in this tick, where that is newer. The side's other sources are known as far a moment later.
    pub of_tick: i64,
}

impl SideClock {
    pub fn new(plan: &Plan, table: TableRef) -> SideClock {
        let status = SideStatus { time: i64::MIN, held_by: None, rows: 0, moved_ms: i64::MIN };
        SideClock { table, sources: plan.sources_of(table), status, newest: i64::MIN, of_tick: i64::MIN }
    }

    pub fn advance(&mut self, now: &Now) {
        let slowest = self.sources.iter().map(|s| (now.sources[*s].closed_to(now.tick), *s)).min();
        self.newest = self.sources.iter().map(|s| now.sources[*s].closed_to(now.tick)).max().unwrap_or(i64::MIN);
        // A mapping that reads no source (a constant) is closed always.
        let (time, held_by) = slowest.map_or((now.tick as i64, None), |(time, source)| (time, Some(source)));
        if time != self.status.time || self.status.moved_ms == i64::MIN {
            self.status.moved_ms = now.wall_ms;
        }
        self.of_tick = self.sources.iter().filter_map(|s| now.sources[*s].of_tick).fold(time, i64::max);
        self.status = SideStatus { time, held_by, rows: now.rows.get(&self.table).copied().unwrap_or(0), ..self.status };
    }
}
