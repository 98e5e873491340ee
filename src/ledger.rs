//! The ledger: what is true as of the newest closed tick. Sinks, HTTP, exports and metrics read it; nothing else says what
//! the differences are.
//!
//! ```text
//!  clock ── Sealed ──┐
//!                    ├─▶ run: one tick whole ─▶ Ledger::apply ─▶ TickOutput ─▶ sinks
//!  worker ─ Report ──┘                              └─▶ SharedLedger ◀─ HTTP, metrics, exports (reads, one as_of)
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `difference` | a difference: kind, state, since, the fields that differ |
//! | `comparison` | the state machine of one comparison |
//! | `side` | one side of it: how far it is known |
//! | `ahead` | keys that a side changed at times that the other has not reached |
//! | `doubt` | rejects that may have touched any key of a comparison |
//! | `source` | how far each source is read and known |
//! | `connector` | what one table of a connector says of the others, and what heartbeats count for |
//! | `show` | values, keys and differences as text and JSON, in the types that each side declared |
//! | `export` | `differences/*.csv`, `rejects.csv`, the ledger's part of `summary.json` |
//! | `save` | what a checkpoint keeps of it |
//! | `whole` | one tick out of what several processes say of it |
//! | `run` | the loop that makes ticks whole, and the handle that readers hold |
//!
//! [`Ledger::apply`] is a pure state machine: no clock, no threads. It holds only what differs, never a table.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    engine::{DifferenceChange, Incomplete, Marked, Reject, Report, RowChange, Sealed, SealedSource, StageTimes, TableReport, Tick},
    plan::{ComparisonId, Plan, TableRef, TargetId},
};

mod ahead;
mod comparison;
mod connector;
mod difference;
mod doubt;
mod export;
mod run;
mod save;
pub mod show;
mod side;
mod source;
mod whole;

pub use comparison::{Cause, Change, ComparisonState, ComparisonStatus, Counts, Stale};
pub use difference::{Difference, DifferingField, Kind, Since, State, Unclear, classify, differing};
pub use export::{DIFFERENCE_COLUMNS, REJECT_COLUMNS, difference_lines, write_csv};
pub use run::{SharedLedger, run};
pub use save::{LedgerSave, Packed, Stands};
pub use side::SideStatus;
pub use source::SourceState;
pub use whole::Torn;

/// How many changes of differences, and ticks that have some, are kept for subscribers who come back or are slow.
const RECENT_CHANGES_MAX: usize = 100_000;
const RECENT_TICKS_MAX: usize = 10_000;

/// What a closed tick changed, for sinks. `changes` is shared with subscribers.
#[derive(Debug, Default)]
pub struct TickOutput {
    pub tick: Tick,
    /// The wall clock when the tick was sealed, in milliseconds since the epoch.
    pub wall_ms: i64,
    /// Whether differences are shown as of this tick. Before that `changes` is empty; the first hydrated tick has every
    /// difference that stands. Of a tick that is made again: whether they were shown then, whatever is shown now.
    pub hydrated: bool,
    pub changes: Arc<TickChanges>,
    /// Net changes of targets. They come while hydrating, too: whether to write those is the sink's business.
    pub rows: Vec<(TargetId, RowChange)>,
    /// Rejects that came (+1) and went (-1), net over all workers.
    pub rejects: Vec<(Reject, i64)>,
    /// By source: how far it is read as of this tick.
    pub sources: Vec<SourceState>,
    /// Why tieout must stop, if a mapping asked for it (`on_null: fail`).
    pub failure: Option<String>,
    /// Seconds from seal to close, of the slowest worker.
    pub seconds: f64,
    /// All of this was there before a restart: nothing is news.
    pub restored: bool,
    /// A run began with it.
    pub first: bool,
    /// What the checkpoint that is taken as of this tick must keep.
    pub save: Option<LedgerSave>,
    /// By source, what the clock said of it: with this the tick can be made again.
    pub sealed: Vec<SealedSource>,
    /// And of transactions of which parts are lacking.
    pub incomplete: Vec<Incomplete>,
    pub marked: Vec<Marked>,
}

/// The changes of differences in one tick.
#[derive(Debug, Default)]
pub struct TickChanges {
    pub tick: Tick,
    pub wall_ms: i64,
    /// Comparisons with changes, each in the order of keys.
    pub comparisons: Vec<(ComparisonId, Vec<Change>)>,
}

impl TickChanges {
    /// The changes of one comparison.
    pub fn of(&self, comparison: ComparisonId) -> &[Change] {
        self.comparisons.iter().find(|(id, _)| *id == comparison).map_or(&[], |(_, changes)| changes)
    }

    fn len(&self) -> usize {
        self.comparisons.iter().map(|(_, changes)| changes.len()).sum()
    }
}

/// What stands as of one closed tick.
#[derive(Debug)]
pub struct Ledger {
    plan: Arc<Plan>,
    as_of: Tick,
    wall_ms: i64,
    hydrated: bool,
    /// The backlog of this run's start has been read.
    caught_up: bool,
    sources: Vec<SourceState>,
    connectors: connector::Connectors,
    comparisons: Vec<comparison::LiveComparison>,
    rejects: BTreeMap<Reject, i64>,
    /// The transactions that stand though parts of them are lacking.
    incomplete: Vec<Incomplete>,
    /// By worker, what it holds.
    workers: Vec<WorkerState>,
    rows: BTreeMap<TableRef, u64>,
    failure: Option<String>,
    /// Goes on from a checkpoint of a time at which differences were shown.
    resumed: bool,
    /// Targets whose outputs get all that stands after that.
    anew: Vec<TargetId>,
    /// After a checkpoint's tick, sources are read again for what is not as it was: their names.
    rebuilding: Vec<String>,
    /// The newest ticks that changed something, none of them at or before `recent_after`.
    recent: VecDeque<Arc<TickChanges>>,
    recent_after: Tick,
    recent_changes: usize,
}

#[derive(Clone, Debug, Default)]
struct WorkerState {
    tables: Vec<TableReport>,
    state_bytes: u64,
    difference_changes: u64,
    times: StageTimes,
}

impl Ledger {
    pub fn new(plan: Arc<Plan>) -> Ledger {
        let comparisons = plan.comparisons.iter().map(|c| comparison::LiveComparison::new(&plan, c)).collect();
        Ledger {
            as_of: 0,
            wall_ms: 0,
            hydrated: false,
            caught_up: false,
            sources: vec![SourceState::default(); plan.sources.len()],
            connectors: connector::Connectors::new(&plan),
            comparisons,
            rejects: BTreeMap::new(),
            incomplete: Vec::new(),
            workers: vec![WorkerState::default(); plan.all_workers()],
            rows: BTreeMap::new(),
            failure: None,
            resumed: false,
            anew: Vec::new(),
            rebuilding: Vec::new(),
            recent: VecDeque::new(),
            recent_after: 0,
            recent_changes: 0,
            plan,
        }
    }

    /// Applies a tick whole: what the clock said of it, and what every worker reported.
    ///
    /// # Panics
    /// When a tick comes twice or out of order, or a reject goes that never came: the engine broke an invariant, and
    /// nothing that follows could be believed.
    pub fn apply(&mut self, sealed: Sealed, reports: Vec<Report>) -> TickOutput {
        let (tick, wall_ms) = (sealed.tick, sealed.wall_ms);
        assert!(tick > self.as_of || self.wall_ms == 0, "tick {tick} came after tick {}: as_of never goes back", self.as_of);
        let plan = self.plan.clone();
        let mut differences: Vec<Vec<DifferenceChange>> = vec![Vec::new(); plan.comparisons.len()];
        let mut marks: Vec<Vec<(Box<[u8]>, Arc<str>)>> = vec![Vec::new(); plan.comparisons.len()];
        let mut seen = vec![(None, None); plan.sources.len()];
        self.sources.iter_mut().for_each(|source| source.of_tick = None);
        let (mut rows, mut rejects, mut loose, mut seconds) = (Vec::new(), BTreeMap::<Reject, i64>::new(), Vec::new(), 0f64);
        for report in reports {
            assert_eq!(report.tick, tick, "worker {} reported tick {} for tick {tick}", report.worker, report.tick);
            for ((source, seen), report) in self.sources.iter_mut().zip(&mut seen).zip(&report.sources) {
                source.count(report);
                *seen = (seen.0.max(report.handled), seen.1.max(report.beat));
            }
            for (comparison, change) in report.differences {
                differences[comparison].push(change);
            }
            for (comparison, key, name) in report.incomplete {
                marks[comparison].push((key, name.into()));
            }
            rows.extend(report.rows);
            for (reject, weight) in report.rejects {
                *rejects.entry(reject).or_default() += weight;
            }
            loose.extend(report.loose);
            if self.workers.len() <= report.worker {
                self.workers.resize_with(report.worker + 1, WorkerState::default);
            }
            self.workers[report.worker] =
                WorkerState { tables: report.tables, state_bytes: report.state_bytes, difference_changes: report.difference_changes, times: report.times };
            seconds = seconds.max(report.seconds);
            self.failure = self.failure.take().or(report.failure);
        }
        self.rows.clear();
        for table in self.workers.iter().flat_map(|w| &w.tables) {
            *self.rows.entry(table.table).or_default() += table.rows;
        }
        for ((source, seen), sealed) in self.sources.iter_mut().zip(&mut seen).zip(&sealed.sources) {
            source.seal(sealed, wall_ms);
            seen.1 = seen.1.max(sealed.heartbeat);
        }
        if sealed.restored {
            // Nothing is heard in it: what is known of connectors is what was.
            self.connectors.set_beside(&mut self.sources);
        } else {
            self.connectors.beat(&mut self.sources, &seen, wall_ms, wall_ms - self.wall_ms);
            self.connectors.advance(&mut self.sources, &sealed.sources, wall_ms);
        }
        for (source, declared) in self.sources.iter().zip(&plan.sources).filter(|_| sealed.cut.is_some()) {
            if let Some((partition, counts)) = source.counts.iter().find(|(_, counts)| !counts.add_up()) {
                panic!("not everything that was read of partition {partition} of {} became something: {counts:?}", declared.name);
            }
        }
        rejects.retain(|_, weight| *weight != 0);
        let first_shown = sealed.hydrated && !self.hydrated;
        self.hydrated |= sealed.hydrated;
        self.caught_up |= sealed.hydrated && !sealed.replay;
        let mut changes = TickChanges { tick, wall_ms, comparisons: Vec::new() };
        self.incomplete.clone_from(&sealed.incomplete);
        let names = self.incomplete.iter().map(|one| Incomplete::name(&plan.sources[plan.transactions[one.group].log].name, &one.id)).collect();
        for (id, (live, (of_tick, marks))) in self.comparisons.iter_mut().zip(differences.into_iter().zip(marks)).enumerate() {
            let (sources, incomplete) = (&self.sources, &self.incomplete[..]);
            let (hydrated, ended, first) = (self.hydrated, sealed.ended, sealed.first);
            let now = comparison::Now { tick, wall_ms, hydrated, ended, first, sources, rows: &self.rows, rejects: &rejects, incomplete, names: &names };
            let changed = live.apply(&plan, &plan.comparisons[id], of_tick, marks, &now);
            if !changed.is_empty() {
                changes.comparisons.push((id, changed));
            }
        }
        for reject in loose {
            *rejects.entry(reject).or_default() += 1;
        }
        for (reject, weight) in &rejects {
            let stands = self.rejects.entry(reject.clone()).or_default();
            *stands += weight;
            assert!(*stands >= 0, "a reject went that never came: {reject:?}");
        }
        self.rejects.retain(|_, weight| *weight != 0);
        (self.as_of, self.wall_ms) = (tick, wall_ms);
        if !sealed.restored {
            self.rebuilding.clear();
        } else {
            if self.resumed {
                // What was shown before is no news; what was never shown waits for the first tick that is.
                rows.retain(|(target, _): &(TargetId, RowChange)| self.anew.contains(target));
            }
            for (id, lost) in self.not_given_back() {
                tracing::warn!(comparison = plan.comparisons[id].name, lost, "differences stood when the checkpoint was taken, and do not after it was read");
            }
        }
        let changes = Arc::new(changes);
        self.remember(&changes, first_shown);
        TickOutput {
            tick,
            wall_ms,
            hydrated: if sealed.replay { sealed.hydrated } else { self.hydrated },
            changes,
            rows,
            rejects: rejects.into_iter().collect(),
            sources: self.sources.clone(),
            failure: self.failure.clone(),
            seconds,
            restored: sealed.restored,
            first: sealed.first,
            save: sealed.cut.map(|cut| self.cut(cut)),
            sealed: sealed.sources,
            incomplete: sealed.incomplete,
            marked: sealed.marked,
        }
    }

    /// Keeps a tick's changes for subscribers. What stands when hydration ends is for snapshots, not for them.
    fn remember(&mut self, changes: &Arc<TickChanges>, first_shown: bool) {
        if first_shown || !self.hydrated {
            self.recent_after = changes.tick;
            return;
        }
        if changes.comparisons.is_empty() {
            return;
        }
        self.recent_changes += changes.len();
        self.recent.push_back(changes.clone());
        while self.recent_changes > RECENT_CHANGES_MAX || self.recent.len() > RECENT_TICKS_MAX {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_changes -= oldest.len();
            self.recent_after = oldest.tick;
        }
    }

    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The newest closed tick; 0 before the first.
    pub fn as_of(&self) -> Tick {
        self.as_of
    }

    /// The wall clock when that tick was sealed, in milliseconds since the epoch.
    pub fn wall_ms(&self) -> i64 {
        self.wall_ms
    }

    /// Whether differences are shown.
    pub fn hydrated(&self) -> bool {
        self.hydrated
    }

    /// Whether the backlog of this run's start has been read; ticks that are made again are shown before that.
    pub fn has_caught_up(&self) -> bool {
        self.caught_up
    }

    /// The sources that are read again for what is not as it was when the checkpoint was taken; no tick is closed before that.
    pub fn rebuilding(&self) -> &[String] {
        &self.rebuilding
    }

    /// By source: how far it is read.
    pub fn sources(&self) -> &[SourceState] {
        &self.sources
    }

    pub fn status(&self, comparison: ComparisonId) -> ComparisonStatus {
        self.comparisons[comparison].status()
    }

    /// The differences that stand, in the order of keys, behind the key `after`. None while hydrating.
    pub fn differences(&self, comparison: ComparisonId, after: Option<&[u8]>) -> impl Iterator<Item = &Arc<Difference>> {
        self.comparisons[comparison].differences(after)
    }

    /// The difference of one key.
    pub fn difference(&self, comparison: ComparisonId, key: &[u8]) -> Option<&Arc<Difference>> {
        self.comparisons[comparison].difference(key)
    }

    /// The transactions that stand though parts of them are lacking.
    pub fn incomplete(&self) -> &[Incomplete] {
        &self.incomplete
    }

    /// Rejects that stand, sorted, with how often each does.
    pub fn rejects(&self) -> impl Iterator<Item = (&Reject, i64)> {
        self.rejects.iter().map(|(reject, weight)| (reject, *weight))
    }

    /// Rows of a table, over all workers.
    pub fn rows(&self, table: TableRef) -> u64 {
        self.rows.get(&table).copied().unwrap_or(0)
    }

    /// Bytes that all workers hold.
    pub fn state_bytes(&self) -> u64 {
        self.workers.iter().map(|w| w.state_bytes).sum()
    }

    /// Bytes that the workers of one process hold.
    pub fn state_bytes_of(&self, process: usize) -> u64 {
        self.workers.iter().skip(process * self.plan.workers.max(1)).take(self.plan.workers.max(1)).map(|w| w.state_bytes).sum()
    }

    /// Changes of differences that the workers made since the start, shown or not.
    pub fn difference_changes(&self) -> u64 {
        self.workers.iter().map(|w| w.difference_changes).sum()
    }

    /// Where the time of all workers went.
    pub fn stages(&self) -> StageTimes {
        self.workers.iter().fold(StageTimes::default(), |mut all, worker| {
            all += worker.times;
            all
        })
    }

    /// Why tieout must stop, if a mapping asked for it.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The ticks after `tick` that changed differences; `None` when some of them are no longer known, or `tick` is not one
    /// of this process's: only a fresh snapshot helps then.
    pub fn changes_after(&self, tick: Tick) -> Option<impl Iterator<Item = &Arc<TickChanges>>> {
        if tick < self.recent_after || tick > self.as_of || !self.hydrated {
            return None;
        }
        let from = self.recent.partition_point(|changes| changes.tick <= tick);
        Some(self.recent.range(from..))
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
