//! The state machine of one comparison: its differences, and what their states follow from.
//!
//! ```text
//!              expected side closed up to reached?   actual side past base + grace?
//!  opens ────▶ no: undetermined ────────────▶ in_flight ────────────▶ confirmed
//!                     ▲                                                    │
//!                     └────────── either side changes the key again ◀──────┘
//! ```
//!
//! *base* is the source time from which the grace counts: of the newest change of the expected side, or of a newer one of the
//! actual side that opened the difference. *reached* is that of the newest change of either side. Between what the expected side is closed up
//! to and a newer change of the actual side there may be an expected change that is only late, and explains it.
//!
//! What would become confirmed while a reject stands that may have touched any key (see `doubt`) is *held*: undetermined
//! until the last such reject has gone. A key that an incomplete transaction touched is undetermined until the rest has come.
//!
//! Everything is a function of ticks: the same changes and source times at the same ticks give the same states. The
//! transitions that time alone makes come from two queues ordered by deadline, so a tick costs what changes in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use crate::{
    engine::{
        DifferenceChange, Incomplete, Reject, Side, Sides, Tick,
        render::rows::TIME_OF_TICK,
        table::{ACTUAL, EXPECTED},
    },
    ledger::{
        ahead::Ahead,
        difference::{self, Difference, Kind, Since, State, Unclear},
        doubt::Doubts,
        save::{Shown, Stands, Stood},
        side::{SideClock, SideStatus},
        source::SourceState,
    },
    plan::{Comparison, Plan, TableRef},
    row::source_time_text,
};

mod restored;
mod unsaved;

/// A moment after a source is read to its end all that tells of its time was asked, in milliseconds.
const ASKED_MS: i64 = 1_000;

/// Counts of differences by kind and state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([[u64; 3]; 4]);

impl Counts {
    pub fn of(&self, kind: Kind, state: State) -> u64 {
        self.0[kind as usize][state as usize]
    }

    pub fn of_state(&self, state: State) -> u64 {
        Kind::ALL.into_iter().map(|kind| self.of(kind, state)).sum()
    }

    pub fn of_kind(&self, kind: Kind) -> u64 {
        self.0[kind as usize].iter().sum()
    }

    pub fn total(&self) -> u64 {
        self.0.iter().flatten().sum()
    }

    fn add(&mut self, difference: &Difference) {
        self.0[difference.kind as usize][difference.state as usize] += 1;
    }

    fn remove(&mut self, difference: &Difference) {
        let count = &mut self.0[difference.kind as usize][difference.state as usize];
        *count = count.checked_sub(1).expect("a difference is counted before it goes");
    }
}

/// The state of a comparison as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComparisonState {
    /// The backlog that existed at the start is still being read; nothing is shown as true.
    Hydrating,
    /// No difference stands.
    TiedOut,
    /// Differences stand, none of them confirmed.
    InFlight,
    /// A confirmed difference stands.
    Open,
    /// An input can't be relied on now.
    Stale(Stale),
}

/// Why a comparison is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    pub cause: Cause,
    /// For people.
    pub reason: Arc<str>,
}

/// What makes a comparison stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The schema of a source changed, and that is not accepted.
    Schema,
    /// A source can't be read.
    Trouble,
    /// A side's source time stands still.
    Still,
}

impl Cause {
    pub const ALL: [Cause; 3] = [Cause::Schema, Cause::Trouble, Cause::Still];

    pub fn name(self) -> &'static str {
        match self {
            Cause::Schema => "schema",
            Cause::Trouble => "trouble",
            Cause::Still => "still",
        }
    }
}

impl ComparisonState {
    pub const NAMES: [&'static str; 5] = ["hydrating", "tied_out", "in_flight", "open", "stale"];

    pub fn name(&self) -> &'static str {
        match self {
            ComparisonState::Hydrating => "hydrating",
            ComparisonState::TiedOut => "tied_out",
            ComparisonState::InFlight => "in_flight",
            ComparisonState::Open => "open",
            ComparisonState::Stale(_) => "stale",
        }
    }

    /// Why it is stale.
    pub fn reason(&self) -> Option<&str> {
        match self {
            ComparisonState::Stale(stale) => Some(&stale.reason),
            _ => None,
        }
    }

    /// What makes it stale.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            ComparisonState::Stale(stale) => Some(stale.cause),
            _ => None,
        }
    }
}

/// A comparison as of a closed tick, without its differences.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparisonStatus {
    pub state: ComparisonState,
    /// All zero while hydrating.
    pub counts: Counts,
    pub expected: SideStatus,
    pub actual: SideStatus,
    /// The newest tick that changed a difference that is shown.
    pub changed: Tick,
    /// Rejects that stand and may have touched any key: while there are some, nothing becomes confirmed.
    pub doubts: u64,
    /// Incomplete transactions that may have touched any key: the same.
    pub incomplete: u64,
}

/// What happened to a difference in a tick; at least one of the two is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub before: Option<Arc<Difference>>,
    pub after: Option<Arc<Difference>>,
}

impl Change {
    pub fn key(&self) -> &Arc<[u8]> {
        &self.after.as_ref().or(self.before.as_ref()).expect("a change has a before or an after").key
    }
}

/// What a tick says to every comparison.
pub(super) struct Now<'a> {
    pub tick: Tick,
    pub wall_ms: i64,
    pub hydrated: bool,
    /// All logs have ended: nothing comes after this tick.
    pub ended: bool,
    /// A run began with it: since the tick before nobody has been there.
    pub first: bool,
    pub sources: &'a [SourceState],
    pub rows: &'a BTreeMap<TableRef, u64>,
    /// Rejects of keyed rows that came and went.
    pub rejects: &'a BTreeMap<Reject, i64>,
    /// The transactions that stand incomplete, and their names.
    pub incomplete: &'a [Incomplete],
    pub names: &'a BTreeSet<Arc<str>>,
}

/// How far a difference is on its way; `stale` hides it (everything is then undetermined) but does not stop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What the key holds can't be judged, whatever the time.
    Unclear,
    AwaitsExpected,
    AwaitsActual,
    /// It would be confirmed, but a reject may have touched its key.
    Held,
    Passed,
}

impl Phase {
    /// The state that it shows, unless the comparison is stale.
    fn state(self) -> State {
        match self {
            Phase::Unclear | Phase::AwaitsExpected | Phase::Held => State::Undetermined,
            Phase::AwaitsActual => State::InFlight,
            Phase::Passed => State::Confirmed,
        }
    }
}

#[derive(Debug)]
struct Entry {
    difference: Arc<Difference>,
    phase: Phase,
    /// The newest source time of a change of the key on either side; at least the difference's base.
    reached: i64,
}

/// A comparison's differences and their states.
#[derive(Debug)]
pub(super) struct LiveComparison {
    entries: BTreeMap<Arc<[u8]>, Entry>,
    /// Differences of keys that have changed at times that the expected side has not reached, by that time.
    await_expected: BTreeSet<(i64, Arc<[u8]>)>,
    /// And keys without a difference that a side has changed at times that the other one has not reached, by side.
    ahead: [Ahead; 2],
    /// Differences whose grace the actual side has not passed, by the end of the grace.
    await_actual: BTreeSet<(i64, Arc<[u8]>)>,
    /// Differences that are held.
    held: BTreeSet<Arc<[u8]>>,
    doubts: Doubts,
    /// Keys that incomplete transactions touched, with their names; the empty key stands for all.
    marks: BTreeMap<Arc<[u8]>, BTreeSet<Arc<str>>>,
    counts: Counts,
    expected: SideClock,
    actual: SideClock,
    stale: Option<Stale>,
    hydrated: bool,
    ended: bool,
    changed: Tick,
    grace_ms: i64,
    stale_after_ms: i64,
    /// What stood before this tick, of the keys that it touched; before all ticks since a restart, while hydrating after it.
    touched: BTreeMap<Arc<[u8]>, Option<Arc<Difference>>>,
    /// What stood when the checkpoint was taken, until the tables have given it back.
    stood: BTreeMap<Arc<[u8]>, Stood>,
    /// And what they have given back, with the states that were shown.
    came_back: Vec<(Arc<[u8]>, State)>,
    /// How it stood as a whole then.
    restored: Option<Stands>,
    /// What had been shown before a restart.
    resumed: Shown,
    /// A tick has been shown since the run began.
    watches: bool,
    /// The wall clock (ms) of that tick, until it is known whether the expected and the actual side stood still before it.
    since_ms: [i64; 2],
    /// The wall clock (ms) of the tick before this one.
    before_ms: i64,
    /// Checkpoints are taken.
    keeps: bool,
    /// Keys whose differences are not as the last checkpoint has them; nothing: there are no checkpoints, or the next one gets all.
    unsaved: Option<BTreeSet<Arc<[u8]>>>,
}

impl LiveComparison {
    pub fn new(plan: &Plan, comparison: &Comparison) -> LiveComparison {
        LiveComparison {
            entries: BTreeMap::new(),
            await_expected: BTreeSet::new(),
            ahead: Default::default(),
            await_actual: BTreeSet::new(),
            held: BTreeSet::new(),
            doubts: Doubts::new(plan, comparison),
            marks: BTreeMap::new(),
            counts: Counts::default(),
            expected: SideClock::new(plan, comparison.expected),
            actual: SideClock::new(plan, comparison.actual),
            stale: None,
            hydrated: false,
            ended: false,
            changed: 0,
            grace_ms: i64::try_from(comparison.grace.as_millis()).unwrap_or(i64::MAX),
            stale_after_ms: i64::try_from(comparison.stale_after.as_millis()).unwrap_or(i64::MAX),
            touched: BTreeMap::new(),
            stood: BTreeMap::new(),
            came_back: Vec::new(),
            restored: None,
            resumed: Shown::Never,
            watches: false,
            since_ms: [i64::MIN; 2],
            before_ms: i64::MIN,
            keeps: false,
            unsaved: None,
        }
    }

    /// And the keys without a difference that are ahead, with their times, by side.
    pub fn ahead(&self) -> &[Ahead; 2] {
        &self.ahead
    }

    pub fn status(&self) -> ComparisonStatus {
        let state = if !self.hydrated {
            ComparisonState::Hydrating
        } else if let Some(stale) = &self.stale {
            ComparisonState::Stale(stale.clone())
        } else if self.counts.of_state(State::Confirmed) > 0 {
            ComparisonState::Open
        } else if self.counts.total() > 0 {
            ComparisonState::InFlight
        } else {
            ComparisonState::TiedOut
        };
        ComparisonStatus {
            state,
            counts: if self.hydrated { self.counts } else { Counts::default() },
            expected: self.expected.status.clone(),
            actual: self.actual.status.clone(),
            changed: self.changed,
            doubts: self.doubts.rejects(),
            incomplete: self.incomplete(),
        }
    }

    /// The differences that stand, by key, after `after`; none while hydrating.
    pub fn differences(&self, after: Option<&[u8]>) -> impl Iterator<Item = &Arc<Difference>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range::<[u8], _>((from, Bound::Unbounded)).map(|(_, e)| &e.difference).take_while(|_| self.hydrated)
    }

    /// The difference of a key, if there is one to show.
    pub fn difference(&self, key: &[u8]) -> Option<&Arc<Difference>> {
        self.entries.get(key).map(|e| &e.difference).filter(|_| self.hydrated)
    }

    /// Applies a whole tick and returns what it changed of what is shown, in the order of keys.
    pub fn apply(&mut self, plan: &Plan, comparison: &Comparison, changes: Vec<DifferenceChange>, marks: Vec<(Box<[u8]>, Arc<str>)>, now: &Now) -> Vec<Change> {
        let Now { tick, wall_ms, hydrated, .. } = *now;
        let stood = [0, 1].map(|side| self.stands_still(side, self.before_ms));
        self.before_ms = wall_ms;
        self.expected.advance(now);
        self.actual.advance(now);
        if now.ended && !self.ended {
            self.end();
        }
        self.doubts.count(now.rejects);
        self.doubts.count_incomplete(now.incomplete);
        let turned = self.mark(marks, now.names);
        let first_shown = hydrated && !self.hydrated;
        self.watches &= !now.first;
        if hydrated && !self.watches {
            // While a first backlog is read, a side that waits for the other is not stale. What stood still does so until it moves.
            (self.watches, self.since_ms) = (true, stood.map(|stood| if stood { i64::MIN } else { wall_ms }));
            if self.resumed == Shown::Never && first_shown {
                (self.expected.status.moved_ms, self.actual.status.moved_ms) = (wall_ms, wall_ms);
            }
        }
        // Whether a side stood still while nobody was there is known when it is read to its end, and what else tells of its time was
        // asked. All of this is in what ticks say, so those that are made again say the same.
        for (since_ms, side) in self.since_ms.iter_mut().zip([&self.expected, &self.actual]) {
            if wall_ms.saturating_sub(*since_ms) >= ASKED_MS && side.sources.iter().all(|source| now.sources[*source].caught_up) {
                *since_ms = i64::MIN;
            }
        }
        for change in changes {
            self.change(comparison, change, tick);
        }
        self.place_again(comparison, turned);
        self.pass_deadlines();
        let stale = hydrated.then(|| self.why_stale(plan, now.sources, wall_ms)).flatten();
        self.set_stale(stale);
        self.hydrated = hydrated;
        let changes: Vec<Change> = if !hydrated {
            Vec::new()
        } else if first_shown && self.resumed != Shown::Before {
            self.all_there_is()
        } else {
            let touched = std::mem::take(&mut self.touched);
            let touched = touched.into_iter().map(|(key, before)| {
                let after = self.entries.get(&key).map(|e| e.difference.clone());
                Change { before, after }
            });
            touched.filter(|c| c.before != c.after).collect()
        };
        if !changes.is_empty() {
            self.changed = tick;
        }
        changes
    }

    /// All that stands, as news, and what stood and does not any more, in the order of keys.
    fn all_there_is(&mut self) -> Vec<Change> {
        let gone = |(key, stood): (Arc<[u8]>, Stood)| {
            // Only its key is known, which is all that its going needs.
            let sides = Sides { expected: Side::Absent, actual: Side::Absent };
            let was = Difference { key, kind: Kind::Mismatched, state: State::Undetermined, sides, since: stood.since, base: stood.base, unclear: None };
            Change { before: Some(Arc::new(was)), after: None }
        };
        let stood = std::mem::take(&mut self.stood).into_iter();
        let mut all: Vec<Change> = stood.filter(|(key, _)| !self.entries.contains_key(key)).map(gone).collect();
        all.extend(self.entries.values().map(|e| Change { before: None, after: Some(e.difference.clone()) }));
        all.sort_by(|a, b| a.key().cmp(b.key()));
        all
    }

    fn change(&mut self, comparison: &Comparison, change: DifferenceChange, tick: Tick) {
        let before = self.remove(&change.key);
        // A row of the actual side that came through a join or an aggregate is as new as any of its side at most.
        let moved = if change.actual_time == TIME_OF_TICK { self.actual.newest } else { change.actual_time };
        let (asked, was) = match &before {
            Some(before) => (before.difference.base, before.reached),
            None => (self.ahead[EXPECTED].take(&change.key), self.ahead[ACTUAL].take(&change.key)),
        };
        let of_tick = |time: i64, side: &SideClock| if time == TIME_OF_TICK { side.of_tick } else { time };
        let (expected_time, actual_time) = (of_tick(change.expected_time, &self.expected), of_tick(change.actual_time, &self.actual));
        let found = change.now.and_then(|sides| Some((difference::classify(comparison, &sides)?, sides)));
        let Some(((kind, unclear), sides)) = found else {
            let newest = [(asked.max(expected_time), self.actual.status.time), (was.max(moved), self.expected.status.time)];
            for (ahead, (time, other)) in self.ahead.iter_mut().zip(newest) {
                if time > other {
                    ahead.put(&change.key, time);
                }
            }
            return;
        };
        let unclear = unclear.or_else(|| self.marked(&change.key));
        // Where no source time is known, the expected side's own time stands for it, or else the tick.
        let or_else = |time: i64| match (time, self.expected.status.time) {
            (i64::MIN, i64::MIN) => tick as i64,
            (i64::MIN, side) => side,
            (time, _) => time,
        };
        let opened = or_else(expected_time.max(actual_time)).max(asked);
        let stood = match self.resumed {
            // It must be known until the end that the key had been shown.
            Shown::Otherwise => self.stood.get(&*change.key).copied(),
            Shown::Never | Shown::Before => self.stood.remove(&*change.key),
        };
        let passed = before.as_ref().is_some_and(|before| before.phase == Phase::Passed) || stood.is_some_and(|stood| stood.passed());
        let before = before.map(|entry| entry.difference);
        let (key, since, base, reached) = match (&before, stood) {
            // What the tables give back is not newer than it was.
            (None, Some(stood)) if change.actual_time == TIME_OF_TICK => (Arc::from(change.key), stood.since, stood.base, stood.reached),
            (None, Some(stood)) => (Arc::from(change.key), stood.since, stood.base, stood.reached.max(moved)),
            (None, None) => (Arc::from(change.key), Since { tick, source_time: opened }, opened, was.max(moved)),
            (Some(before), _) => {
                // A row that came again as it was asks nothing new of the actual side.
                let base = if before.sides.expected != sides.expected { or_else(expected_time) } else { before.base };
                (before.key.clone(), before.since, base, was.max(moved))
            }
        };
        // What was confirmed and has not changed stays so, whatever is rejected since.
        let passed = passed && before.is_none_or(|before| before.sides == sides && before.base == base);
        let was_saved = self.unsaved.as_ref().is_some_and(|unsaved| !unsaved.contains(&key));
        self.insert(Difference { key: Arc::clone(&key), kind, state: State::Undetermined, sides, since, base, unclear }, reached, passed);
        if let Some(state) = stood.filter(|_| self.resumed == Shown::Before).and_then(|stood| stood.state) {
            let stale = self.restored.is_some_and(|stands| stands.stale);
            self.came_back.push((Arc::clone(&key), if stale { State::Undetermined } else { state }));
        }
        // What comes back as the checkpoint has it is saved.
        if was_saved && stood.is_some() && stood == self.entries.get(&key).map(Entry::stood) {
            self.unsaved.as_mut().map(|unsaved| unsaved.remove(&key));
        }
    }

    /// Takes over which keys incomplete transactions touched, and which of them no longer lack anything. Gives the keys that
    /// turned.
    fn mark(&mut self, marks: Vec<(Box<[u8]>, Arc<str>)>, standing: &BTreeSet<Arc<str>>) -> Vec<Arc<[u8]>> {
        let mut turned = Vec::new();
        for (key, name) in marks.into_iter().filter(|(_, name)| standing.contains(name)) {
            let key: Arc<[u8]> = key.into();
            turned.push(Arc::clone(&key));
            self.marks.entry(key).or_default().insert(name);
        }
        self.marks.retain(|key, names| {
            names.retain(|name| standing.contains(name));
            if names.is_empty() {
                turned.push(Arc::clone(key));
            }
            !names.is_empty()
        });
        turned
    }

    fn marked(&self, key: &[u8]) -> Option<Unclear> {
        self.marks.get(key)?.first().map(|name| Unclear::IncompleteTransaction(Arc::clone(name)))
    }

    /// Incomplete transactions that may have touched any key.
    fn incomplete(&self) -> u64 {
        self.doubts.incomplete() + self.marks.get(&[][..]).map_or(0, |names| names.len() as u64)
    }

    /// May something have touched any key?
    fn is_doubtful(&self) -> bool {
        self.doubts.any() || self.incomplete() > 0
    }

    /// Puts the differences of keys where they belong that came to be marked, or no longer are.
    fn place_again(&mut self, comparison: &Comparison, keys: Vec<Arc<[u8]>>) {
        for key in keys {
            let Some(entry) = self.entries.get(&key) else { continue };
            let unclear = difference::classify(comparison, &entry.difference.sides).and_then(|(_, unclear)| unclear).or_else(|| self.marked(&key));
            if unclear == entry.difference.unclear {
                continue;
            }
            let Entry { difference, reached, .. } = self.remove(&key).expect("it stands");
            self.insert(Difference { unclear, ..Difference::clone(&difference) }, reached, false);
        }
    }

    /// The keys that incomplete transactions touched, for a checkpoint.
    pub fn marks(&self) -> impl Iterator<Item = (&[u8], &Arc<str>)> {
        self.marks.iter().flat_map(|(key, names)| names.iter().map(move |name| (&**key, name)))
    }

    /// Goes on with keys that were touched before a restart.
    pub fn resume_marks(&mut self, key: &[u8], name: &str) {
        self.marks.entry(key.into()).or_default().insert(name.into());
    }

    /// Must it be remembered what stood before? Not as long as nothing has ever been shown.
    fn tells(&self) -> bool {
        self.hydrated || self.resumed == Shown::Before
    }

    /// Takes a difference out of everything, and remembers what stood before the tick.
    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let Some((key, entry)) = self.entries.remove_entry(key) else {
            if self.tells() && !self.touched.contains_key(key) {
                self.touched.insert(Arc::from(key), None);
            }
            return None;
        };
        self.counts.remove(&entry.difference);
        self.unqueue(&key, &entry);
        self.differs_from_saved(&key);
        if self.tells() {
            self.touched.entry(key).or_insert_with(|| Some(entry.difference.clone()));
        }
        Some(entry)
    }

    /// Puts a difference where it belongs by the times of both sides; its state follows from that. `passed`: it was
    /// confirmed before, and is the same.
    fn insert(&mut self, mut difference: Difference, reached: i64, passed: bool) {
        let reached = reached.max(difference.base);
        let phase = if difference.unclear.is_some() {
            Phase::Unclear
        } else if self.expected_to() < self.awaited(difference.base, reached) {
            Phase::AwaitsExpected
        } else if self.actual.status.time < self.deadline(&difference) {
            Phase::AwaitsActual
        } else if self.is_doubtful() && !passed {
            Phase::Held
        } else {
            Phase::Passed
        };
        difference.state = self.state_of(phase);
        let entry = Entry { difference: Arc::new(difference), phase, reached };
        let (key, deadline) = (entry.difference.key.clone(), self.deadline(&entry.difference));
        match phase {
            Phase::AwaitsExpected => _ = self.await_expected.insert((self.awaited(entry.difference.base, reached), key.clone())),
            Phase::AwaitsActual => _ = self.await_actual.insert((deadline, key.clone())),
            Phase::Held => _ = self.held.insert(key.clone()),
            Phase::Unclear | Phase::Passed => {}
        }
        self.counts.add(&entry.difference);
        self.differs_from_saved(&key);
        let before = self.entries.insert(key, entry);
        debug_assert!(before.is_none(), "a difference is taken out before it is put back");
    }

    fn unqueue(&mut self, key: &Arc<[u8]>, entry: &Entry) {
        let waited = match entry.phase {
            Phase::AwaitsExpected => self.await_expected.remove(&(self.awaited(entry.difference.base, entry.reached), key.clone())),
            Phase::AwaitsActual => self.await_actual.remove(&(self.deadline(&entry.difference), key.clone())),
            Phase::Held => self.held.remove(key),
            Phase::Unclear | Phase::Passed => true,
        };
        debug_assert!(waited, "a difference that waits stands in its queue");
    }

    /// Moves on what waited for a source time that has come, or for a reject that has gone.
    fn pass_deadlines(&mut self) {
        let mut due = Vec::new();
        self.ahead[EXPECTED].pass(self.actual.status.time);
        self.ahead[ACTUAL].pass(self.expected.status.time);
        while self.await_expected.first().is_some_and(|(time, _)| *time <= self.expected_to()) {
            due.extend(self.await_expected.pop_first().map(|(_, key)| key));
        }
        while self.await_actual.first().is_some_and(|(deadline, _)| *deadline <= self.actual.status.time) {
            due.extend(self.await_actual.pop_first().map(|(_, key)| key));
        }
        if !self.is_doubtful() {
            due.extend(std::mem::take(&mut self.held));
        }
        for key in due {
            // It has left its queue already; out and in again finds its new place.
            self.entries.get_mut(&key).expect("what waits stands").phase = Phase::Passed;
            let Entry { difference, reached, .. } = self.remove(&key).expect("what waits stands");
            self.insert(Difference::clone(&difference), reached, false);
        }
    }

    fn set_stale(&mut self, stale: Option<Stale>) {
        let turned = self.stale.is_some() != stale.is_some();
        self.stale = stale;
        if !turned {
            return;
        }
        let (tells, mut counts) = (self.tells(), Counts::default());
        for (key, entry) in &mut self.entries {
            let state = if self.stale.is_some() { State::Undetermined } else { entry.phase.state() };
            if state != entry.difference.state {
                if tells {
                    self.touched.entry(key.clone()).or_insert_with(|| Some(entry.difference.clone()));
                }
                entry.difference = Arc::new(Difference { state, ..Difference::clone(&entry.difference) });
            }
            counts.add(&entry.difference);
        }
        self.counts = counts;
    }

    fn why_stale(&self, plan: &Plan, sources: &[SourceState], wall_ms: i64) -> Option<Stale> {
        // What needs somebody goes before what may pass by itself.
        for cause in [Cause::Schema, Cause::Trouble] {
            for (side, clock) in [("expected", &self.expected), ("actual", &self.actual)] {
                for source in &clock.sources {
                    let SourceState { trouble, refused, .. } = &sources[*source];
                    if let Some(trouble) = trouble.as_ref().filter(|_| cause == Cause::Trouble || *refused) {
                        return Some(Stale { cause, reason: format!("source {} of the {side} side: {trouble}", plan.sources[*source].name).into() });
                    }
                }
            }
        }
        for (n, (side, clock)) in [("expected", &self.expected), ("actual", &self.actual)].into_iter().enumerate() {
            if self.stands_still(n, wall_ms) {
                let name = clock.status.held_by.map_or("no source", |s| &plan.sources[s].name);
                let stands = if clock.status.time == i64::MIN {
                    "has sent nothing yet".to_string()
                } else {
                    format!("stands at source time {}", source_time_text(clock.status.time))
                };
                let seconds = self.stale_after_ms as f64 / 1000.0;
                let reason = format!("the {side} side has stood still for more than {seconds} s: source {name} {stands}").into();
                return Some(Stale { cause: Cause::Still, reason });
            }
        }
        None
    }

    /// Has the expected (0) or the actual (1) side stood still for too long, by this wall clock?
    fn stands_still(&self, side: usize, wall_ms: i64) -> bool {
        let moved_ms = [&self.expected, &self.actual][side].status.moved_ms;
        wall_ms.saturating_sub(moved_ms.max(self.since_ms[side])) > self.stale_after_ms
    }

    /// Up to where the expected side must be closed. At the end of all logs nothing is late any more.
    fn awaited(&self, base: i64, reached: i64) -> i64 {
        if self.ended { base } else { reached }
    }

    /// Up to where it is. At the end of all logs one of its sources that says nothing has nothing to say.
    fn expected_to(&self) -> i64 {
        if self.ended { self.expected.newest } else { self.expected.status.time }
    }

    /// Nothing comes any more: what waits for expected changes that may be late has them all.
    fn end(&mut self) {
        self.ended = true;
        let waiting = std::mem::take(&mut self.await_expected);
        self.await_expected = waiting.into_iter().map(|(_, key)| (self.entries[&key].difference.base, key)).collect();
    }

    fn deadline(&self, difference: &Difference) -> i64 {
        difference.base.saturating_add(self.grace_ms)
    }

    fn state_of(&self, phase: Phase) -> State {
        if self.stale.is_some() { State::Undetermined } else { phase.state() }
    }
}
