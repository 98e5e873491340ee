//! Runs a random case and compares engine and truth after every closed tick.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Map, Value as Json};
use tieout::{
    config::{self, Need},
    ledger::{Difference, TickOutput, show},
    plan::Plan,
    scenario::{START_MS, Scenario},
};

use super::{
    draw::Draw,
    events::{self, Message},
    linear,
    model::{Comparison, Fmt, Model, Table},
    truth::{Held, Row, Side, World, alike, sorted},
    value::{Cell, same},
};

/// A difference as the truth has it; its base is the engine's once that is among the possible ones.
#[derive(Clone, Debug)]
struct Standing {
    base: i64,
    since: i64,
    confirmed: bool,
}

struct Run {
    model: Model,
    scenario: Scenario,
    messages: Vec<Message>,
    tick_start: usize,
    /// By source, the newest time of the messages of the tick that has closed.
    of_tick: Vec<i64>,
    /// By source: messages that are not handed over yet.
    pending: Vec<Vec<usize>>,
    now: i64,
    /// Of this life; `sealed`: of all.
    tick: u64,
    sealed: u64,
    /// By connection: the greatest source time of its sources.
    times: [Option<i64>; 2],
    /// What each comparison's sides held after the last tick, and its differences.
    before: Vec<(Held, Held)>,
    standing: Vec<BTreeMap<String, Standing>>,
    /// By comparison and key: the newest source time that is known of the actual side's changes, or those that it may be.
    reached: Vec<BTreeMap<String, BTreeSet<i64>>>,
    /// The same of the expected side's changes of keys that agree, as long as the actual side has not come so far.
    asked: Vec<BTreeMap<String, BTreeSet<i64>>>,
    /// For the linear checker: every change of a side as rows that go and come, and what the engine left by tick.
    flow: Vec<linear::Update>,
    left: Vec<linear::Left>,
    /// The dataflow is another one than at the tick before; `changed`: once.
    turns: bool,
    changed: bool,
    log: String,
}

macro_rules! ensure {
    ($run:expr, $condition:expr, $($format:tt)*) => {
        if !$condition {
            return Err(format!("tick {}: {}\n\nevents:\n{}\ndataflow:\n{}", $run.tick, format!($($format)*), $run.log, $run.model.yaml()));
        }
    };
}

/// How many processes a run is spread over, by some number: mostly one.
fn processes(by: usize) -> usize {
    [1, 2, 1, 3][by % 4]
}

/// Runs a case; `Err` is what differs.
pub fn run(setup: &[u16], steps: &[Vec<u16>]) -> Result<u64, String> {
    let model = Model::draw(&mut Draw::new(setup));
    let yaml = model.yaml();
    let plan = config::load_texts(("config.yaml", &model.config()), &[("dataflows/random.yaml", &yaml)], &|_| None, Need::Connections)
        .map_err(|problems| format!("the dataflow is refused:\n{problems}\n{yaml}"))?;
    let (sources, comparisons) = (model.sources.len(), model.comparisons.len());
    let mut run = Run {
        scenario: Scenario::spread(plan, processes(setup.iter().map(|n| *n as usize).sum())),
        messages: Vec::new(),
        tick_start: 0,
        of_tick: Vec::new(),
        pending: vec![Vec::new(); sources],
        now: START_MS,
        tick: 0,
        sealed: 0,
        times: [None; 2],
        before: vec![Default::default(); comparisons],
        standing: vec![BTreeMap::new(); comparisons],
        reached: vec![BTreeMap::new(); comparisons],
        asked: vec![BTreeMap::new(); comparisons],
        flow: Vec::new(),
        left: Vec::new(),
        turns: false,
        changed: false,
        log: String::new(),
        model,
    };
    let mut offsets = vec![0i64; sources];
    let result = (|| {
        for step in steps {
            let mut d = Draw::new(step);
            match d.below(24) {
                0..=15 => {
                    let source = d.below(sources);
                    let world = World::replay(&run.model, &run.messages);
                    let message = events::draw(&mut d, &run.model, &world, source, offsets[source], run.now);
                    run.push(message, &mut offsets);
                }
                // A range of the log once more, up to all of it, as a connector sends it that was killed.
                16 => {
                    let source = d.below(sources);
                    let seen: Vec<Message> = run.messages.iter().filter(|m| m.source == source).cloned().collect();
                    let most = if d.one_in(4) { seen.len().max(1) } else { 4 };
                    let from = seen.len().saturating_sub(1 + d.below(most));
                    for mut message in seen[from..].to_vec() {
                        message.offset = offsets[source];
                        if !message.timed {
                            message.time = run.now;
                        }
                        run.push(message, &mut offsets);
                    }
                }
                17 => run.hand_over(d.below(sources)),
                18 => {
                    let ms = *d.of(&[100, 1_500, 40_000]);
                    for source in 0..sources {
                        run.hand_over(source);
                    }
                    run.log += &format!("  advance {ms} ms\n");
                    run.now += ms;
                    run.scenario.advance(Duration::from_millis(ms as u64));
                    for time in &mut run.times {
                        *time = (*time).max(Some(run.now));
                    }
                }
                19 if d.one_in(3) => run.restart(&mut d)?,
                19 if d.one_in(2) => run.resume(&mut d)?,
                20 if d.one_in(3) => run.begin_checkpoint(&mut d),
                21 if d.one_in(3) => run.change(&mut d)?,
                _ => run.seal(&mut d)?,
            }
        }
        run.seal(&mut Draw::new(&[]))
    })();
    // Both speak: where only one of the two finds something, it may be wrong itself.
    let result = match (result, run.linear()) {
        (Ok(()), linear) => linear,
        (Err(truth), Ok(())) => Err(truth),
        (Err(truth), Err(linear)) => Err(format!("{linear}\nand {truth}")),
    };
    let sealed = run.sealed;
    run.scenario.stop();
    result.map(|()| sealed)
}

impl Run {
    fn push(&mut self, message: Message, offsets: &mut [i64]) {
        let source = message.source;
        offsets[source] += 1;
        self.log += &format!(
            "  {} @{} key {} value {}\n",
            self.model.sources[source].name,
            message.time.saturating_sub(START_MS),
            message.key.as_deref().unwrap_or("-"),
            message.value.as_deref().unwrap_or("-")
        );
        self.read(message);
    }

    /// The message waits to be handed over.
    fn read(&mut self, message: Message) {
        let source = message.source;
        self.pending[source].push(self.messages.len());
        let connection = self.model.sources[source].connection;
        self.times[connection] = self.times[connection].max(Some(message.time).filter(|time| *time > i64::MIN));
        self.messages.push(message);
    }

    /// The engine is killed, keeps nothing, and reads all logs again from their beginning, cut into other chunks and ticks.
    /// The sources' time is known already; so the records are late.
    fn restart(&mut self, d: &mut Draw) -> Result<(), String> {
        self.linear()?;
        let plan = Plan::clone(self.scenario.ledger().plan());
        std::mem::replace(&mut self.scenario, Scenario::new(plan)).stop();
        let (sources, comparisons) = (self.model.sources.len(), self.model.comparisons.len());
        (self.pending, self.tick, self.tick_start) = (vec![Vec::new(); sources], 0, 0);
        (self.before, self.standing) = (vec![Default::default(); comparisons], vec![BTreeMap::new(); comparisons]);
        (self.reached, self.asked) = (vec![BTreeMap::new(); comparisons], vec![BTreeMap::new(); comparisons]);
        (self.flow, self.left, self.times) = (Vec::new(), Vec::new(), [None; 2]);
        if self.now > START_MS {
            self.scenario.advance(Duration::from_millis((self.now - START_MS) as u64));
            self.times = [Some(self.now); 2];
        }
        let messages = std::mem::take(&mut self.messages);
        let cut = d.below(messages.len() + 1);
        self.log += &format!("  == killed; of {} messages {cut} are read again in the first tick\n", messages.len());
        for (at, mut message) in messages.into_iter().enumerate() {
            if at == cut {
                self.seal(d)?;
            }
            if !message.timed {
                message.time = self.now;
            }
            self.read(message);
        }
        Ok(())
    }

    /// A checkpoint is taken from now on, beside everything else.
    fn begin_checkpoint(&mut self, d: &mut Draw) {
        let all = d.one_in(3);
        self.log += &format!("  == a checkpoint of {} begins\n", if all { "everything" } else { "what changed" });
        self.scenario.begin_checkpoint(all);
    }

    /// The checkpoint is cut, everything ends, and goes on from it with another number of workers.
    fn resume(&mut self, d: &mut Draw) -> Result<(), String> {
        self.seal(d)?;
        let workers = 1 + d.below(4);
        self.log += &format!("  == goes on from a checkpoint with {workers} workers\n");
        self.scenario.set_processes(processes(self.messages.len() + workers));
        let output = self.scenario.restart(workers);
        self.closed(&output)
    }

    /// The dataflow changes: what still holds of a checkpoint goes on, the rest is made again.
    fn change(&mut self, d: &mut Draw) -> Result<(), String> {
        self.seal(d)?;
        let Some(model) = self.model.changed(d) else { return Ok(()) };
        let yaml = model.yaml();
        // What can't be told by a type is refused, and no change.
        let Ok(plan) = config::load_texts(("config.yaml", &model.config()), &[("dataflows/random.yaml", &yaml)], &|_| None, Need::Connections) else {
            return Ok(());
        };
        self.linear()?;
        self.log += &format!("  == was\n{}\n  == goes on as another dataflow\n", self.model.yaml());
        (self.model, self.turns, self.changed) = (model, true, true);
        let messages = &self.messages;
        let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
        let log = |source: usize| messages.iter().filter(|m| m.source == source).map(|m| (bytes(&m.key), bytes(&m.value))).collect();
        let output = self.scenario.restart_as(Plan { workers: 1 + d.below(4), ..plan }, log)?;
        let closed = self.closed(&output);
        self.turns = false;
        closed
    }

    /// Hands over what waits of a source, as one chunk.
    fn hand_over(&mut self, source: usize) {
        let waiting = std::mem::take(&mut self.pending[source]);
        if waiting.is_empty() {
            return;
        }
        self.log += &format!("  -- chunk of {}\n", self.model.sources[source].name);
        let parts: Vec<(Option<&[u8]>, Option<&[u8]>)> =
            waiting.iter().map(|m| (self.messages[*m].key.as_deref().map(str::as_bytes), self.messages[*m].value.as_deref().map(str::as_bytes))).collect();
        self.scenario.feed(source, &parts);
    }

    fn seal(&mut self, d: &mut Draw) -> Result<(), String> {
        let mut order: Vec<usize> = (0..self.pending.len()).collect();
        let by = d.below(order.len());
        order.rotate_left(by);
        for source in order {
            self.hand_over(source);
        }
        self.log += "  -- seal\n";
        let output = self.scenario.seal();
        self.closed(&output)
    }

    /// A tick has closed: is it as it should be?
    fn closed(&mut self, output: &TickOutput) -> Result<(), String> {
        self.tick += 1;
        self.sealed += 1;
        let changed = self.changes();
        let world = World::replay(&self.model, &self.messages);
        let of = |source: usize, messages: &[Message]| messages.iter().filter(|m| m.source == source).map(|m| m.time).max().unwrap_or(i64::MIN);
        self.of_tick = (0..self.model.sources.len()).map(|source| of(source, &self.messages[self.tick_start..])).collect();
        self.tick_start = self.messages.len();
        ensure!(self, output.failure.is_none(), "asked to stop: {:?}", output.failure);
        ensure!(self, self.scenario.ledger().as_of() == self.tick, "as_of is {}", self.scenario.ledger().as_of());
        self.leave()?;
        self.targets(&world)?;
        self.rejects(&world)?;
        self.counts()?;
        for c in 0..self.model.comparisons.len() {
            self.comparison(c, &world, &changed[c])?;
        }
        Ok(())
    }

    /// By comparison and side: the source times of the records of this tick that changed a key of it, one by one.
    fn changes(&mut self) -> Vec<[BTreeMap<String, Vec<i64>>; 2]> {
        let (found, flow) = self.changes_since(self.tick_start);
        self.flow.extend(flow);
        found
    }

    /// The same of all records from one on, and what the linear checker needs of them.
    fn changes_since(&self, start: usize) -> (Vec<[BTreeMap<String, Vec<i64>>; 2]>, Vec<linear::Update>) {
        let mut found = vec![<[BTreeMap<String, Vec<i64>>; 2]>::default(); self.model.comparisons.len()];
        let sides = |world: &World, c: &Comparison| {
            [
                project(&self.model, c, true, world.side(&self.model, c.expected)),
                project(&self.model, c, false, world.side(&self.model, Table::Source(c.actual))),
            ]
        };
        let mut flow = Vec::new();
        let mut before = World::replay(&self.model, &self.messages[..start]);
        for at in start..self.messages.len() {
            let after = World::replay(&self.model, &self.messages[..=at]);
            for (c, comparison) in self.model.comparisons.iter().enumerate() {
                for (side, (old, new)) in sides(&before, comparison).iter().zip(&sides(&after, comparison)).enumerate() {
                    for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                        if old.get(key) != new.get(key) {
                            found[c][side].entry(key.clone()).or_default().push(self.messages[at].time);
                            for (held, weight) in [(old.get(key), -1), (new.get(key), 1)] {
                                let Some(Side::Rows(rows)) = held else { continue };
                                let weight = if side == 0 { weight } else { -weight };
                                flow.extend(rows.iter().map(|row| ((c, key.clone()), linear::text(row), self.tick, weight)));
                            }
                        }
                    }
                }
            }
            before = after;
        }
        (found, flow)
    }

    /// Takes down what the engine says is left of this tick, for the linear checker.
    fn leave(&mut self) -> Result<(), String> {
        let mut left = linear::Left::new();
        for c in 0..self.model.comparisons.len() {
            left.extend(self.differences(c)?.iter().filter_map(|(key, d)| Some(((c, key.clone()), linear::left_of(&d.sides)?))));
        }
        self.left.push(left);
        Ok(())
    }

    /// Another algorithm on the same changes: see `linear`. What is unknown equals everything, which cancelling can't say.
    fn linear(&mut self) -> Result<(), String> {
        if self.model.toast || self.changed {
            return Ok(());
        }
        let left = linear::differences(std::mem::take(&mut self.flow), self.left.len() as u64);
        for (tick, (linear, engine)) in left.iter().zip(&self.left).enumerate() {
            ensure!(self, linear == engine, "the linear checker leaves {linear:?} at tick {}, and the engine {engine:?}", tick + 1);
        }
        Ok(())
    }

    fn targets(&self, world: &World) -> Result<(), String> {
        let actual = self.scenario.targets();
        for (t, target) in self.model.targets.iter().enumerate() {
            let cols = target.cols();
            let text = |row: Vec<(&str, Json)>| row.into_iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ");
            let mut expected: Vec<String> = Vec::new();
            for side in world.targets[t].values() {
                if let Side::Rows(rows) = side {
                    expected.extend(rows.iter().map(|row| text(cols.iter().zip(row).map(|(c, v)| (c.name.as_str(), c.ty.json(v))).collect())));
                }
            }
            let null = Json::Null;
            let mut found: Vec<String> =
                actual[t].iter().map(|row| text(cols.iter().map(|c| (c.name.as_str(), row.get(&c.name).unwrap_or(&null).clone())).collect())).collect();
            expected.sort();
            found.sort();
            ensure!(self, expected == found, "rows of target {}\n  should be {expected:#?}\n  but are {found:#?}", target.name);
        }
        Ok(())
    }

    fn rejects(&self, world: &World) -> Result<(), String> {
        let mut found = Vec::new();
        for (reject, weight) in self.scenario.ledger().rejects() {
            ensure!(self, weight > 0, "weight {weight} of {reject:?}");
            // Rejects of rows that came through a collection have no offset.
            let offset = Some(reject.offset).filter(|o| *o >= 0);
            for _ in 0..weight {
                found.push(super::truth::Reject { source: reject.source, target: reject.target, code: reject.code, key: reject.key.clone(), offset });
            }
        }
        found.sort();
        ensure!(self, found == world.rejects, "rejects\n  should be {:#?}\n  but are {found:#?}", world.rejects);
        Ok(())
    }

    fn counts(&self) -> Result<(), String> {
        for (s, state) in self.scenario.ledger().sources().iter().enumerate() {
            let read = self.messages.iter().filter(|m| m.source == s).count() as u64;
            let counts = state.counts();
            ensure!(self, counts.read == read, "{} messages of source {s} are read, not {read}", counts.read);
            ensure!(self, state.counts.values().all(|counts| counts.add_up()), "source {s} does not add up: {state:?}");
            let undecoded = self.messages.iter().filter(|m| m.source == s && m.does.iter().any(|d| matches!(d, events::Does::Reject(..)))).count() as u64;
            ensure!(self, counts.rejected >= undecoded, "source {s}: {} rejected, of which {undecoded} cannot be decoded", counts.rejected);
        }
        Ok(())
    }

    fn time_of(&self, table: Table) -> i64 {
        let times = self.model.sources_of(table).into_iter().map(|s| self.times[self.model.sources[s].connection].unwrap_or(self.tick as i64));
        times.min().unwrap()
    }

    /// How new a row is that was computed of others: as its side, or as what this tick read of that.
    fn time_of_computed(&self, table: Table) -> i64 {
        self.model.sources_of(table).into_iter().map(|s| self.of_tick[s]).max().unwrap_or(i64::MIN).max(self.time_of(table))
    }

    /// The plan, and a comparison's place in it.
    fn declared(&self, c: usize) -> (Arc<Plan>, usize) {
        let (plan, name) = (self.scenario.ledger().plan().clone(), &self.model.comparisons[c].name);
        let declared = plan.comparisons.iter().position(|p| p.name == *name).expect("the comparison is in the plan");
        (plan, declared)
    }

    /// What the engine says now, by key.
    fn differences(&self, c: usize) -> Result<BTreeMap<String, Arc<Difference>>, String> {
        let (plan, declared) = self.declared(c);
        let mut found = BTreeMap::new();
        for difference in self.scenario.ledger().differences(declared, None) {
            let key = show::key_object(&plan, &plan.comparisons[declared], &difference.key);
            let key = Json::Array(key.into_iter().map(|(_, v)| v).collect()).to_string();
            ensure!(self, found.insert(key.clone(), difference.clone()).is_none(), "key {key} differs twice in {}", plan.comparisons[declared].name);
        }
        Ok(found)
    }

    fn comparison(&mut self, c: usize, world: &World, times: &[BTreeMap<String, Vec<i64>>; 2]) -> Result<(), String> {
        let comparison = self.model.comparisons[c].clone();
        let model = &self.model;
        let actual_table = Table::Source(comparison.actual);
        let (expected, actual) =
            (project(model, &comparison, true, world.side(model, comparison.expected)), project(model, &comparison, false, world.side(model, actual_table)));
        let (expected_time, actual_time) = (self.time_of(comparison.expected), self.time_of(actual_table));
        let (plan, declared) = self.declared(c);
        let found = self.differences(c)?;
        let mut keys: BTreeSet<String> = expected
            .keys()
            .chain(actual.keys())
            .chain(found.keys())
            .chain(self.standing[c].keys())
            .chain(times[0].keys())
            .chain(times[1].keys())
            .cloned()
            .collect();
        // Read again by another dataflow, a side may know of older changes than those that made a difference.
        let again = self.turns.then(|| self.changes_since(0).0.swap_remove(c));
        keys.extend(again.iter().flatten().flat_map(|side| side.keys().cloned()));
        let mut standing = BTreeMap::new();
        for key in &keys {
            let (e, a) = (expected.get(key), actual.get(key));
            let name = format!("key {key} of {}", comparison.name);
            let found = found.get(key);
            let judged = self.classify(&comparison, e, a);
            // When each side changed, as far as its table tells: of a key that agrees before and after only what came and went,
            // unless the other side was as far.
            let (stood, none) = (self.standing[c].get(key), Vec::new());
            let touched = |side: usize| times[side].get(key).unwrap_or(&none);
            let late = |side: usize, other: i64| touched(side).iter().skip(1).any(|time| *time > other);
            let expected_times = match model.by_record(comparison.expected) {
                true => touched(0).clone(),
                false => Vec::from_iter((!alike(self.before[c].0.get(key), e)).then_some(self.time_of_computed(comparison.expected))),
            };
            let twice = touched(1).len() > 1 || model.by_record(comparison.expected) && touched(0).len() > 1;
            let sure = judged.is_some() || stood.is_some() || late(1, expected_time) || model.by_record(comparison.expected) && late(0, actual_time);
            let told = |known: &mut BTreeSet<i64>, times: &[i64], again: Option<i64>| {
                let newest: BTreeSet<i64> = known.iter().map(|before| times.iter().fold(*before, |a, b| a.max(*b))).collect();
                match (sure, twice) {
                    (true, _) => *known = newest,
                    (false, true) => known.extend(newest),
                    (false, false) => {}
                }
                if self.turns {
                    // What stood and is not given back is forgotten.
                    known.insert(i64::MIN);
                }
                known.extend(again);
            };
            let newest = |side: usize| again.as_ref().and_then(|all| all[side].get(key)?.iter().max().copied());
            let mut reached = self.reached[c].get(key).cloned().unwrap_or_else(|| [i64::MIN].into());
            told(&mut reached, touched(1), newest(1));
            self.reached[c].insert(key.clone(), reached.clone());
            let mut asked = self.asked[c].remove(key).unwrap_or_else(|| [i64::MIN].into());
            let asked_before = asked.clone();
            if judged.is_none() {
                if let Some(before) = stood {
                    asked = [before.base].into();
                }
                told(&mut asked, &expected_times, newest(0));
                let as_far = |time: i64| if time > actual_time { time } else { i64::MIN };
                self.asked[c].insert(key.clone(), asked.into_iter().map(as_far).collect());
            }
            let Some((kind, fields, unclear)) = judged else {
                ensure!(self, found.is_none(), "{name}: the sides agree, but there is {found:?}");
                continue;
            };
            let Some(found) = found else {
                ensure!(self, false, "{name}: it is {kind}, but there is no difference\n  expected {e:?}\n  actual {a:?}");
                unreachable!()
            };
            let object = show::difference_object(&plan, &plan.comparisons[declared], found);
            ensure!(self, object["kind"] == kind, "{name}: it is {kind}, not {}\n  expected {e:?}\n  actual {a:?}", object["kind"]);
            ensure!(self, object["fields"] == Json::Object(fields.clone()), "{name}: fields should be {fields:?}, not {}", object["fields"]);
            // Its base: when the expected side last changed, as far as that is known. What records brought that came and went within
            // the tick may or may not count for one that has just opened; through a collection nobody sees it.
            let changed = |side: usize, table: Table, now: Option<&Side>, of_side: i64| {
                let before = if side == 0 { &self.before[c].0 } else { &self.before[c].1 };
                let net = !alike(before.get(key), now);
                let mut found: Vec<Option<i64>> = match (model.by_record(table), net) {
                    (true, _) => times[side].get(key).map(|times| times.iter().max().copied()).into_iter().collect(),
                    (false, true) => vec![Some(of_side)],
                    (false, false) => Vec::new(),
                };
                if !net {
                    found.push(None);
                }
                (net, found)
            };
            let (expected_net, es) = changed(0, comparison.expected, e, self.time_of_computed(comparison.expected));
            let (_, as_) = changed(1, actual_table, a, self.time_of_computed(actual_table));
            // Where nothing says when it was, it is as new as the expected side.
            let told = |time: i64| if time == i64::MIN { expected_time } else { time };
            let possible: Vec<Standing> = match self.standing[c].get(key) {
                None => es
                    .iter()
                    .flat_map(|e| as_.iter().filter_map(|a| (*e).max(*a)))
                    .map(told)
                    .flat_map(|t| asked_before.iter().map(move |asked| t.max(*asked)))
                    .map(|t| Standing { base: t, since: t, confirmed: false })
                    .collect(),
                Some(before) if !expected_net => vec![before.clone()],
                Some(before) => es.iter().flatten().map(|e| Standing { base: told(*e), since: before.since, confirmed: false }).collect(),
            };
            ensure!(
                self,
                self.turns || possible.iter().any(|p| p.base == found.base && p.since == found.since.source_time),
                "{name}: base {} and since {} are none of {:?} (relative to the start)",
                found.base - START_MS,
                found.since.source_time - START_MS,
                possible.iter().map(|p| (p.base - START_MS, p.since - START_MS)).collect::<Vec<_>>()
            );
            // What was confirmed and is the same stays so; nothing else is while a reject may have touched any key.
            let same = |before: &Held, now: Option<&Side>| before.get(key) == now;
            // Nobody remembers what the rows were before the dataflow changed.
            let stays = match self.standing[c].get(key) {
                Some(before) if before.confirmed && self.turns => true,
                Some(before) => before.confirmed && before.base == found.base && same(&self.before[c].0, e) && same(&self.before[c].1, a),
                None => false,
            };
            let doubtful = matches!(comparison.expected, Table::Target(t) if world.doubtful[t]);
            // An expected change that explains what the actual side did may still come until the expected side is as far.
            let state_at = |reached: i64| {
                if unclear || expected_time < found.base.max(reached) {
                    "undetermined"
                } else if actual_time < found.base + comparison.grace_ms {
                    "in_flight"
                } else if doubtful && !stays {
                    "undetermined"
                } else {
                    "confirmed"
                }
            };
            let (right, wrong): (BTreeSet<i64>, BTreeSet<i64>) = reached.into_iter().partition(|time| object["state"] == state_at(*time));
            ensure!(
                self,
                !right.is_empty(),
                "{name}: it is {:?}, not {}: base {}, newest actual change {:?}, sides at {} and {}",
                wrong.iter().map(|time| state_at(*time)).collect::<Vec<_>>(),
                object["state"],
                found.base - START_MS,
                wrong.iter().map(|time| time.saturating_sub(START_MS)).collect::<Vec<_>>(),
                expected_time - START_MS,
                actual_time - START_MS
            );
            let state = state_at(*right.first().expect("one is right"));
            self.reached[c].insert(key.clone(), right);
            standing.insert(key.clone(), Standing { base: found.base, since: found.since.source_time, confirmed: state == "confirmed" });
        }
        for asked in self.asked[c].values_mut() {
            *asked = asked.iter().map(|time| if *time > actual_time { *time } else { i64::MIN }).collect();
        }
        self.standing[c] = standing;
        self.before[c] = (expected, actual);
        Ok(())
    }

    /// Kind, differing fields, and whether nobody can judge it.
    fn classify(&self, comparison: &Comparison, expected: Option<&Side>, actual: Option<&Side>) -> Option<(&'static str, Map<String, Json>, bool)> {
        let rejected = [expected, actual].iter().any(|s| matches!(s, Some(Side::Rejected(_))));
        let none = Map::new();
        let many = |side: Option<&Side>| matches!(side, Some(Side::Rows(rows)) if rows.len() > 1);
        match (expected, actual) {
            (None | Some(Side::Rejected(_)), None | Some(Side::Rejected(_))) => None,
            _ if many(expected) || many(actual) => Some(("duplicate", none, rejected)),
            (_, None) => Some(("missing", none, false)),
            (None, _) => Some(("unexpected", none, false)),
            (Some(Side::Rows(e)), Some(Side::Rows(a))) => {
                let (e, a) = (&e[0], &a[0]);
                let (e_cols, a_cols) = (self.model.cols(comparison.expected), &self.model.sources[comparison.actual].cols);
                let mut fields = Map::new();
                let mut unknown = false;
                for (i, (x, z)) in comparison.fields.iter().enumerate() {
                    if e[i] == Cell::Unknown || a[i] == Cell::Unknown {
                        unknown = true;
                    } else if !same(&e[i], &a[i]) {
                        let mut both = Map::new();
                        both.insert("expected".into(), e_cols[*x].ty.json(&e[i]));
                        both.insert("actual".into(), a_cols[*z].ty.json(&a[i]));
                        fields.insert(e_cols[*x].name.clone(), Json::Object(both));
                    }
                }
                (!fields.is_empty()).then_some(("mismatched", fields, unknown))
            }
            _ => Some(("mismatched", none, true)),
        }
    }
}

/// A side as its comparison sees it: the compared fields only, what is missing is NULL, and rows have no order (two rows of a
/// key change places when a field changes that is not compared).
fn project(_model: &Model, comparison: &Comparison, first: bool, held: &Held) -> Held {
    let pick = |row: &Row| -> Row { comparison.fields.iter().map(|(e, a)| row[if first { *e } else { *a }].clone().settled()).collect() };
    let side = |side: &Side| match side {
        Side::Rows(rows) => Side::Rows(sorted(rows.iter().map(pick).collect())),
        Side::Rejected(offset) => Side::Rejected(*offset),
    };
    held.iter().map(|(key, held)| (key.clone(), side(held))).collect()
}

/// `TIEOUT_ORACLE_CASES` says how many, `TIEOUT_ORACLE_SEED` which.
fn cases() -> (u32, [u8; 32]) {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    // The same cases every time, so that what lands is not a matter of luck; other seeds are for exploring.
    let seed = number("TIEOUT_ORACLE_SEED").unwrap_or(20_261_121);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    println!("TIEOUT_ORACLE_SEED={seed}");
    (number("TIEOUT_ORACLE_CASES").unwrap_or(400) as u32, bytes)
}

#[test]
fn random_dataflows_agree_with_the_truth() {
    let (cases, seed) = cases();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4000, max_shrink_time: 60_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed));
    let steps = proptest::collection::vec(proptest::collection::vec(any::<u16>(), 24), 0..40);
    let case = (proptest::collection::vec(any::<u16>(), 140), steps);
    let ticks = std::cell::Cell::new(0);
    let result = runner.run(&case, |(setup, steps)| {
        let done = run(&setup, &steps).map_err(TestCaseError::fail)?;
        ticks.set(ticks.get() + done);
        Ok(())
    });
    println!("{cases} cases, {} ticks", ticks.get());
    if let Err(error) = result {
        match error {
            proptest::test_runner::TestError::Fail(reason, (setup, steps)) => panic!("{}\nsetup: {setup:?}\nsteps: {steps:?}", reason.message()),
            other => panic!("{other}"),
        }
    }
}

const _: Fmt = Fmt::Debezium;
