//! The whole engine as a script: feed, advance, expect; logs and results in memory, time by hand.
//!
//! The same workers, tables and ledger as in a run; only the readers and the clock are replaced. Tests in dataflow files
//! run on it, and so do tieout's own property tests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, unbounded};
use serde_json::{Map, Value as Json};

use crate::{
    checkpoint::{Changes, Manifest},
    clock::gate::Gate,
    engine::{Chunk, Command, Cut, ExportBlock, Incomplete, Payload, Report, SavePart, Sealed, SealedSource},
    format::evolution::Evolution,
    ledger::{DIFFERENCE_COLUMNS, Ledger, LedgerSave, Packed, TickOutput, difference_lines, show},
    log::guard::Guard,
    plan::{Action, Expectation, Format, LogSpec, Plan, Source, SourceId, TestCase},
    row::{self, Column},
};

mod processes;

use processes::Processes;

/// The source time at which a scenario starts: 2026-01-01T00:00:00Z.
pub const START_MS: i64 = 1_767_225_600_000;

/// A running script.
pub struct Scenario {
    plan: Arc<Plan>,
    workers: Processes,
    /// From the next start on.
    processes: usize,
    reports: Receiver<Report>,
    ledger: Ledger,
    seqs: Vec<u64>,
    /// By source, the newest heartbeat since the last seal.
    beats: Vec<Option<i64>>,
    offsets: Vec<i64>,
    /// Source time and wall clock in one, in milliseconds.
    now_ms: i64,
    tick: u64,
    /// Where transactions go on whole, and those that stand incomplete.
    gates: Vec<Gate>,
    incomplete: Vec<Vec<Incomplete>>,
    /// Who watches the schemas of sources, where the file says that somebody should; where and why a source stands.
    guards: Vec<Option<Guard>>,
    stands: Vec<Option<(i64, String)>>,
    /// By source, what is read when it goes on.
    unread: Vec<Vec<Chunk>>,
    kept: Kept,
}

/// A chain of checkpoints in memory.
#[derive(Default)]
struct Kept {
    entries: Vec<(usize, Vec<u8>)>,
    differences: Vec<Vec<Packed>>,
    /// A checkpoint is being taken: its parts.
    parts: Option<Receiver<SavePart>>,
}

impl Scenario {
    /// Starts the plan's workers.
    pub fn new(plan: Plan) -> Scenario {
        Scenario::spread(plan, 1)
    }

    /// The same with the plan's workers in each of so many processes, which are all in this one.
    pub fn spread(mut plan: Plan, processes: usize) -> Scenario {
        // Nobody writes Avro by hand.
        plan.sources.iter_mut().for_each(|source| {
            source.format = source.format.in_text();
            // What one run has learnt is nothing to another.
            source.required = Arc::default();
        });
        let plan = Arc::new(plan);
        let (to_reports, reports) = unbounded();
        let workers = Processes::start(&plan, processes, &to_reports);
        workers.all(&Command::Keep);
        let sources = plan.sources.len();
        let guards = guards(&plan, |_| None);
        let gates: Vec<Gate> = (0..plan.transactions.len()).map(|group| Gate::new(&plan, group)).collect();
        let incomplete = vec![Vec::new(); gates.len()];
        Scenario {
            ledger: Ledger::new(Arc::clone(&plan)),
            plan,
            workers,
            processes,
            reports,
            seqs: vec![0; sources],
            beats: vec![None; sources],
            offsets: vec![0; sources],
            now_ms: START_MS,
            tick: 0,
            gates,
            incomplete,
            guards,
            stands: vec![None; sources],
            unread: (0..sources).map(|_| Vec::new()).collect(),
            kept: Kept::default(),
        }
    }

    /// What stands.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Appends messages (key, value) to a source's log, in one chunk. Messages without a source time of their own are of
    /// now.
    pub fn feed(&mut self, source: SourceId, messages: &[(Option<&[u8]>, Option<&[u8]>)]) {
        let payload = Payload::messages(messages, self.offsets[source], Some(self.now_ms));
        self.offsets[source] += messages.len() as i64;
        self.send(source, payload);
    }

    /// Moves the time of all sources forward.
    pub fn advance(&mut self, by: Duration) {
        self.now_ms += by.as_millis() as i64;
        for source in 0..self.plan.sources.len() {
            self.send(source, Payload::Heartbeat(self.now_ms));
        }
    }

    fn send(&mut self, source: SourceId, payload: Payload) {
        self.read(Chunk { source, partition: 0, payload, source_time: None, next: self.offsets[source] });
    }

    /// What a reader does with it.
    fn read(&mut self, mut chunk: Chunk) {
        let source = chunk.source;
        if self.stands[source].is_some() {
            return self.unread[source].push(chunk);
        }
        if let Some(guard) = &mut self.guards[source] {
            let given = guard.examine(chunk);
            if let Some(change) = given.refused {
                self.stands[source] = Some((change.offset, guard.stop(&change).to_string()));
                self.unread[source].extend(given.rest);
            }
            match given.chunk {
                Some(before) => chunk = before,
                None => return,
            }
        }
        match self.gates.iter_mut().find(|gate| gate.sources().any(|of| of == source)) {
            Some(gate) => gate.feed(chunk, self.now_ms, false),
            None => self.hand_out(chunk, None),
        }
    }

    fn hand_out(&mut self, chunk: Chunk, incomplete: Option<Arc<str>>) {
        let source = chunk.source;
        if let Payload::Heartbeat(time) = chunk.payload {
            self.beats[source] = self.beats[source].max(Some(time));
            return;
        }
        self.workers.chunk(chunk, self.seqs[source], incomplete);
        self.seqs[source] += 1;
    }

    /// Hands out what the gates let go on.
    fn release(&mut self) {
        for at in 0..self.gates.len() {
            while let Some(batch) = self.gates[at].release(self.now_ms, false) {
                self.incomplete[at] = batch.incomplete;
                batch.pieces.into_iter().for_each(|piece| self.hand_out(piece.chunk, piece.incomplete));
            }
        }
    }

    /// Seals a tick, waits until it is closed, and applies it.
    ///
    /// # Panics
    /// When a worker has ended.
    pub fn seal(&mut self) -> TickOutput {
        self.tick += 1;
        self.release();
        let incomplete = self.incomplete.concat();
        let beats = std::mem::replace(&mut self.beats, vec![None; self.plan.sources.len()]);
        let held = |source: usize| self.gates.iter().any(|gate| gate.held_of(source) > 0);
        let sources = (0..self.plan.sources.len())
            .map(|s| SealedSource {
                positions: vec![(0, self.stands[s].as_ref().map_or(self.offsets[s], |(at, _)| *at))],
                caught_up: !held(s) && self.stands[s].is_none(),
                trouble: self.stands[s].as_ref().map(|(_, why)| why.clone()),
                refused: self.stands[s].is_some(),
                schema: self.guards[s].as_ref().map(|guard| Arc::clone(guard.evolution())),
                heartbeat: beats[s],
                ..SealedSource::default()
            })
            .collect();
        self.workers.all(&Command::Seal { tick: self.tick, hold: false, shown: false });
        let reports = (0..self.workers.count()).map(|_| self.reports.recv().expect("a worker reports each tick")).collect();
        self.ledger.apply(Sealed { tick: self.tick, wall_ms: self.now_ms, sources, hydrated: true, incomplete, ..Sealed::default() }, reports)
    }

    /// Begins to take a checkpoint: everything, or what changed since the last one; nothing while one is being taken.
    pub fn begin_checkpoint(&mut self, all: bool) {
        if self.kept.parts.is_some() {
            return;
        }
        let (to, parts) = unbounded();
        let all = all || self.kept.entries.is_empty();
        if all {
            self.kept.entries.clear();
        }
        self.kept.parts = Some(parts);
        self.workers.all(&Command::Save { all, to });
    }

    /// From the next restart on there are so many processes.
    pub fn set_processes(&mut self, processes: usize) {
        self.processes = processes;
    }

    /// Ends everything as of the newest tick, and goes on with so many workers from a checkpoint of it.
    ///
    /// # Panics
    /// When a worker has ended, or the checkpoint can't be read.
    pub fn restart(&mut self, workers: usize) -> TickOutput {
        let plan = Plan { workers, ..Plan::clone(&self.plan) };
        self.restart_as(plan, |_| Vec::new()).unwrap_or_else(|why| panic!("the plan is the same: {why}"))
    }

    /// The same, with another plan of the same sources; `log` has all that was fed to a source, for what is read again.
    ///
    /// # Errors
    /// Nothing of the checkpoint is of use for this plan: why.
    ///
    /// # Panics
    /// When a worker has ended, or the checkpoint can't be read.
    pub fn restart_as(&mut self, plan: Plan, log: impl Fn(SourceId) -> Vec<(Option<Vec<u8>>, Option<Vec<u8>>)>) -> Result<TickOutput, String> {
        if self.kept.parts.is_none() {
            self.begin_checkpoint(false);
        }
        let parts = self.kept.parts.take().expect("one has just begun");
        self.workers.all(&Command::Cut);
        let mut cuts = 0;
        while cuts < self.workers.count() {
            match parts.recv().expect("a worker says when it is done") {
                SavePart::Entries { table, bytes } => self.kept.entries.push((table, bytes)),
                SavePart::Copied => {}
                SavePart::Cut(tick) => {
                    assert_eq!(tick, self.tick, "the cut is the newest tick");
                    cuts += 1;
                }
            }
        }
        let cut = if self.kept.differences.is_empty() { Cut::Whole } else { Cut::Changes };
        let mut save = self.ledger.cut(cut);
        self.kept.differences.resize(save.differences.len(), Vec::new());
        self.kept.differences.iter_mut().zip(&mut save.differences).for_each(|(all, own)| all.append(own));
        save.differences.clone_from(&self.kept.differences);
        for (parts, whole) in save.differences.iter().zip(self.ledger.save(Cut::Whole).differences) {
            assert_eq!(Packed::whole(parts).as_ref(), whole.first(), "what changed since the checkpoints before is all that changed");
        }
        let saved = serde_json::to_string(&save).expect("plain data");
        let save = LedgerSave { differences: save.differences, ..serde_json::from_str(&saved).expect("what was written is read") };
        let manifest = Manifest::of(&self.plan, save, Vec::new());
        let changes = Changes::between(&manifest, &plan)?;
        let plan = Arc::new(plan);
        let (to_reports, reports) = unbounded();
        self.workers = Processes::start(&plan, self.processes, &to_reports);
        (self.plan, self.reports) = (Arc::clone(&plan), reports);
        let save = changes.adapt(&manifest.ledger, &plan);
        self.guards = guards(&plan, |source| save.sources[source].schema.clone());
        self.stands.fill(None);
        self.ledger = Ledger::resume(plan, &save, changes.anew()).expect("it was saved");
        self.ledger.keep();
        self.seqs.fill(0);
        self.workers.all(&Command::Keep);
        self.workers.make_blind(&changes);
        for (table, entries) in &self.kept.entries {
            self.workers.restore(entries, &changes.give(*table), changes.renumbered().as_ref());
        }
        self.workers.restored(save.tick, &changes.again(&save));
        let reports = (0..self.workers.count()).map(|_| self.reports.recv().expect("a worker reports each tick")).collect();
        self.ledger.apply(save.sealed(), reports);
        if !changes.is_none() {
            self.kept.entries.clear();
            self.kept.differences.clear();
        }
        for again in changes.again(&save) {
            let seq = &mut self.seqs[again.source];
            let log = log(again.source);
            let messages: Vec<(Option<&[u8]>, Option<&[u8]>)> = log.iter().map(|(key, value)| (key.as_deref(), value.as_deref())).collect();
            let payload = Payload::messages(&messages, 0, Some(self.now_ms));
            let chunk = Chunk { source: again.source, partition: 0, payload, source_time: None, next: self.offsets[again.source] };
            self.workers.chunk_again(chunk, *seq, &again.sides);
            *seq += 1;
        }
        let unread = self.unread.iter_mut().flat_map(std::mem::take).collect::<Vec<_>>();
        unread.into_iter().for_each(|chunk| self.read(chunk));
        Ok(self.seal())
    }

    /// The rows of every target, as JSON objects in the order of keys.
    ///
    /// # Panics
    /// When a worker has ended.
    pub fn targets(&self) -> Vec<Vec<Map<String, Json>>> {
        let (to, blocks): (Vec<_>, Vec<_>) = (0..self.workers.count()).map(|_| unbounded()).unzip();
        self.workers.all(&Command::Export { to: to.into() });
        let mut targets: Vec<BTreeMap<(Vec<u8>, usize), Map<String, Json>>> = vec![BTreeMap::new(); self.plan.targets.len()];
        for block in blocks.iter().flat_map(|blocks| blocks.iter()) {
            let ExportBlock::Rows { target, bytes, rows, .. } = block else { continue };
            let mut start = 0;
            for (key_end, end) in rows {
                let key = bytes[start as usize..key_end as usize].to_vec();
                let row = serde_json::from_slice(&bytes[key_end as usize..end as usize]).expect("an exported line is JSON");
                let twins = targets[target].len();
                targets[target].insert((key, twins), row);
                start = end;
            }
        }
        targets.into_iter().map(|rows| rows.into_values().collect()).collect()
    }

    /// What stands for an expectation, as JSON objects.
    pub fn actual(&self, of: Expectation) -> Vec<Map<String, Json>> {
        match of {
            Expectation::Target(target) => self.targets().swap_remove(target),
            Expectation::Comparison(id) => {
                let comparison = &self.plan.comparisons[id];
                let object = |d| {
                    let mut object = show::difference_object(&self.plan, comparison, d);
                    object.shift_insert(0, "key".into(), show::key_text(&self.plan, comparison, &d.key).into());
                    object
                };
                self.ledger.differences(id, None).map(|d| object(d)).collect()
            }
            Expectation::Rejects => self
                .ledger
                .rejects()
                .flat_map(|(reject, weight)| std::iter::repeat_n(show::reject_object(&self.plan, reject), weight.max(0) as usize))
                .collect(),
        }
    }

    /// As [`Scenario::actual`], with an object for each differing field, as the exports have it.
    fn by_field(&self, of: Expectation) -> Vec<Map<String, Json>> {
        let Expectation::Comparison(id) = of else { return self.actual(of) };
        let lines = self.ledger.differences(id, None).flat_map(|d| difference_lines(&self.plan, id, d));
        let object = |line: [Option<String>; 7]| DIFFERENCE_COLUMNS.iter().map(|c| (*c).to_string()).zip(line.map(Json::from)).collect();
        lines.map(object).collect()
    }

    /// Ends the workers.
    pub fn stop(self) {}
}

/// Who watches the schemas of sources. Events are mostly written by hand, without what does not matter; only where the file
/// says so are they watched.
fn guards(plan: &Plan, known: impl Fn(SourceId) -> Option<Arc<Evolution>>) -> Vec<Option<Guard>> {
    let guard = |(id, source): (SourceId, &Source)| Guard::new(source, source.schema_change?, known(id), Vec::new());
    plan.sources.iter().enumerate().map(guard).collect()
}

/// A step of a test that did not hold.
#[derive(Clone, Debug)]
pub struct Unmet {
    pub line: usize,
    pub of: Expectation,
    pub expected: Vec<Map<String, Json>>,
    pub actual: Vec<Map<String, Json>>,
    /// For each expected row the place of the one in `actual` that matches it.
    pub pairs: Vec<Option<usize>>,
}

/// Runs a test of a dataflow file; all expectations that do not hold.
pub fn run_test(plan: &Plan, test: &TestCase) -> Vec<Unmet> {
    run_test_over(plan, test, 1)
}

/// The same with the plan's workers in each of so many processes, which are all in this one.
pub fn run_test_over(plan: &Plan, test: &TestCase, processes: usize) -> Vec<Unmet> {
    let mut scenario = Scenario::spread(plan.clone(), processes);
    let mut unmet = Vec::new();
    for step in &test.steps {
        match &step.action {
            Action::Feed(events) => {
                for (source, messages) in events {
                    let parts: Vec<(Option<String>, Option<String>)> = messages.iter().map(|m| split(&plan.sources[*source], m)).collect();
                    let parts: Vec<(Option<&[u8]>, Option<&[u8]>)> =
                        parts.iter().map(|(k, v)| (k.as_deref().map(str::as_bytes), v.as_deref().map(str::as_bytes))).collect();
                    scenario.feed(*source, &parts);
                }
                scenario.seal();
            }
            Action::Advance(by) => {
                scenario.advance(*by);
                scenario.seal();
            }
            Action::Restart(workers) => _ = scenario.restart(workers.unwrap_or(plan.workers)),
            Action::Expect(all) => {
                for (of, expected) in all {
                    let by_field = expected.iter().any(|row| row.contains_key("field"));
                    let actual = if by_field { scenario.by_field(*of) } else { scenario.actual(*of) };
                    let pairs = pair(plan, *of, expected, &actual);
                    if expected.len() != actual.len() || pairs.iter().any(Option::is_none) {
                        unmet.push(Unmet { line: step.line, of: *of, expected: expected.clone(), actual, pairs });
                    }
                }
            }
        }
    }
    scenario.stop();
    unmet
}

/// The message of an event: in a topic, `upsert-json` has its key beside the value, in files within the line.
fn split(source: &Source, event: &str) -> (Option<String>, Option<String>) {
    if source.format.in_text() == Format::UpsertJson
        && matches!(source.log, LogSpec::Topic { .. })
        && let Ok(Json::Object(event)) = serde_json::from_str(event)
    {
        let part = |name: &str| event.get(name).filter(|v| !v.is_null()).map(Json::to_string);
        return (part("key"), part("value"));
    }
    (None, Some(event.to_string()))
}

/// For each expected object another one of what stands that matches it, as many as can be; only the fields that are named
/// count.
fn pair(plan: &Plan, of: Expectation, expected: &[Map<String, Json>], actual: &[Map<String, Json>]) -> Vec<Option<usize>> {
    let holds = |e: usize, a: usize| expected[e].iter().all(|(name, value)| same(plan, of, name, value, actual[a].get(name).unwrap_or(&Json::Null)));
    // A row that says little must not take the one that another row needs: takers make room where they can.
    let mut taken: Vec<Option<usize>> = vec![None; actual.len()];
    for e in 0..expected.len() {
        place(e, &holds, &mut taken, &mut vec![false; actual.len()]);
    }
    (0..expected.len()).map(|e| taken.iter().position(|t| *t == Some(e))).collect()
}

/// Finds a row for `e`, if need be by moving others.
fn place(e: usize, holds: &impl Fn(usize, usize) -> bool, taken: &mut [Option<usize>], tried: &mut [bool]) -> bool {
    for a in 0..taken.len() {
        if tried[a] || !holds(e, a) {
            continue;
        }
        tried[a] = true;
        if taken[a].is_none_or(|other| place(other, holds, taken, tried)) {
            taken[a] = Some(e);
            return true;
        }
    }
    false
}

/// Is a value of an expected row met by that of a row that stands?
pub fn same(plan: &Plan, of: Expectation, name: &str, wanted: &Json, actual: &Json) -> bool {
    let columns: &[Column] = match of {
        Expectation::Target(target) => &plan.targets[target].columns,
        _ => &[],
    };
    same_value(columns, name, wanted, actual)
}

/// Are the two the same value? Values of a column are compared as its type has them, others as JSON; an object matches one
/// with more in it.
fn same_value(columns: &[Column], name: &str, wanted: &Json, actual: &Json) -> bool {
    if wanted == actual {
        return true;
    }
    if let (Json::Object(wanted), Json::Object(actual)) = (wanted, actual) {
        return wanted.iter().all(|(name, value)| same_value(columns, name, value, actual.get(name).unwrap_or(&Json::Null)));
    }
    let text = |value: &Json| match value {
        Json::String(text) => Some(text.clone()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
        other => Some(other.to_string()),
    };
    let (Some(wanted), Some(actual)) = (text(wanted), text(actual)) else { return false };
    match columns.iter().find(|c| c.name == name) {
        Some(column) => matches!((row::parse_text(column.ty, &wanted), row::parse_text(column.ty, &actual)), (Ok(a), Ok(b)) if a == b),
        None => wanted == actual,
    }
}
