//! The loop of a worker: commands in, steps of the dataflow, reports out.
//!
//! Decoding happens here, on the way into the dataflow: a chunk becomes changes for every worker that holds one of its
//! keys. The loop never blocks on anything but its command channel; the clock's credits bound what is under way.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Chunk, Command, Counts, Give, Payload, Reject, Renumbered, Reply, Report, RowAnswer, RowChange, SavePart, SideOf, SourceReport, StageTimes, TableReport,
    Tick, buffers,
    mapping::Fate,
    render::{
        self, Dataflow,
        layout::{self, TableOf},
        rows::Whole,
        table::Question,
    },
    table::{
        ACTUAL, EXPECTED, Value,
        change::{Op, Parcel, push_with, silence},
        save::{Keeps, SAVE_BYTES, restore},
    },
};
use crate::{
    format::{self, Batch, Decoder, Message},
    plan::{ComparisonId, OutputOf, Plan, TableRef, TargetId},
    row,
};
use crossbeam_channel::{Receiver, Sender, TryRecvError};

/// Where a worker stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Among the workers of all processes, and how many these are.
    pub index: usize,
    pub workers: usize,
    /// Among those of its process.
    pub local: usize,
    pub process: u32,
}

impl Place {
    /// The same for every worker.
    fn to_all(self, input: u32, seq: u64, run: Vec<u8>) -> Vec<Parcel> {
        (0..self.workers).map(|to| Parcel { to: to as u64, input, process: self.process, seq: Some(seq), run: run.clone() }).collect()
    }
}

struct SealedTick {
    tick: Tick,
    at: Instant,
    sources: Vec<SourceReport>,
    /// Rejects without a key to keep them under.
    loose: Vec<Reject>,
    incomplete: Vec<(ComparisonId, Box<[u8]>, String)>,
}

pub(super) struct Loop {
    plan: Arc<Plan>,
    flow: Dataflow,
    place: Place,
    reports: Sender<Report>,
    decoded: Arc<AtomicU64>,
    /// Told of closed ticks.
    closes: Arc<AtomicU64>,
    decoders: Vec<Option<Box<dyn Decoder>>>,
    batch: Batch,
    fates: Vec<Option<Fate>>,
    /// Counts since the last seal.
    sources: Vec<SourceReport>,
    loose: Vec<Reject>,
    /// Keys that incomplete transactions touched.
    incomplete: Vec<(ComparisonId, Box<[u8]>, String)>,
    sealed: VecDeque<SealedTick>,
    closed: Tick,
    difference_changes: u64,
    /// By table: the target whose net changes an output wants.
    watched: Vec<Option<TargetId>>,
    failure: Option<String>,
    /// Sides that are emptied once what is restored stands.
    emptied: Vec<Arc<[SideOf]>>,
    /// A checkpoint that is being taken.
    saving: Option<Saving>,
    /// The next tick is the first after what was restored.
    restored: bool,
    /// Where the time went; `flow` holds the tables' time, too, until it is reported.
    times: StageTimes,
}

/// A checkpoint that is being taken: where its parts go, and the table that is copied.
struct Saving {
    to: Sender<SavePart>,
    table: usize,
    entries: Vec<u8>,
}

impl Saving {
    fn send(&mut self, table: usize) {
        send(&self.to, table, &mut self.entries);
    }

    /// How long there is nothing to copy for: not at all, unless the writer is behind.
    fn pause(&self) -> Duration {
        if self.to.len() < SAVE_PARTS_MAX { Duration::ZERO } else { Duration::from_millis(1) }
    }
}

fn send(to: &Sender<SavePart>, table: usize, entries: &mut Vec<u8>) {
    if !entries.is_empty() {
        // A checkpoint that was given up has nobody who listens.
        let _ = to.send(SavePart::Entries { table, bytes: std::mem::take(entries) });
    }
}

/// Slots that are copied in one turn of the loop: about a tenth of a millisecond.
const SAVE_SLOTS: usize = 1024;
/// Parts that may wait for the writer.
const SAVE_PARTS_MAX: usize = 32;

const QUIET: SourceReport = SourceReport { counts: Vec::new(), source_time: i64::MIN, handled: None, beat: None };

impl Loop {
    pub(super) fn new(plan: Arc<Plan>, flow: Dataflow, place: Place, reports: Sender<Report>, (decoded, closes): (Arc<AtomicU64>, Arc<AtomicU64>)) -> Self {
        let wanted = layout::wanted(&plan, &layout::layout(&plan));
        let decoders =
            plan.sources.iter().enumerate().map(|(s, source)| flow.feeds.iter().any(|f| f.source == s).then(|| format::decoder(source, &wanted[s]))).collect();
        let is_watched = |t: &TargetId| plan.outputs.iter().any(|o| o.what == OutputOf::Table(*t));
        let home = |t: TargetId| &flow.homes[t].0;
        let watched =
            (0..flow.stages.len()).map(|at| (0..plan.targets.len()).filter(is_watched).find(|t| home(*t).table == at && home(*t).side == EXPECTED)).collect();
        Loop {
            sources: vec![QUIET; plan.sources.len()],
            plan,
            flow,
            place,
            reports,
            decoded,
            closes,
            decoders,
            batch: Batch::default(),
            fates: Vec::new(),
            loose: Vec::new(),
            incomplete: Vec::new(),
            sealed: VecDeque::new(),
            closed: 0,
            difference_changes: 0,
            watched,
            failure: None,
            emptied: Vec::new(),
            saving: None,
            restored: false,
            times: StageTimes::default(),
        }
    }

    pub(super) fn run(mut self, worker: &mut timely::worker::Worker, commands: &Receiver<Command>) {
        loop {
            match commands.try_recv() {
                Ok(Command::Chunk { chunk, seq, incomplete, only }) => {
                    self.ingest(&chunk, seq, incomplete.as_ref(), only.as_deref());
                    if let Some(Chunk { payload: Payload::Lines { bytes, .. }, .. }) = Arc::into_inner(chunk) {
                        buffers::CHUNKS.give(bytes);
                    }
                    self.decoded.fetch_sub(1, Ordering::AcqRel);
                    self.step(worker);
                }
                Ok(Command::Seal { tick, hold, .. }) => {
                    if hold {
                        self.hold(Some(tick));
                    }
                    for feed in &mut self.flow.feeds {
                        feed.handle.advance_to(tick + 1);
                        feed.handle.flush();
                    }
                    let sources = std::mem::replace(&mut self.sources, vec![QUIET; self.plan.sources.len()]);
                    self.sealed.push_back(SealedTick {
                        tick,
                        at: Instant::now(),
                        sources,
                        loose: std::mem::take(&mut self.loose),
                        incomplete: std::mem::take(&mut self.incomplete),
                    });
                    self.step(worker);
                }
                Ok(Command::Row { table, key, reply }) => self.ask(table, key, reply),
                Ok(Command::Keep) => {
                    for (stage, _) in self.flow.stages.iter().zip(&self.watched).filter(|(_, target)| target.is_some()) {
                        stage.borrow_mut().table.keep(EXPECTED, Keeps::Keys);
                    }
                    for feed in &self.flow.feeds {
                        self.flow.stages[feed.table].borrow_mut().table.keep(feed.input as usize, Keeps::Values);
                    }
                }
                Ok(Command::Save { all, to }) => {
                    self.flow.stages.iter().for_each(|stage| stage.borrow_mut().table.begin_save(all));
                    self.saving = Some(Saving { to, table: 0, entries: Vec::new() });
                }
                Ok(Command::Cut) => {
                    self.close_all(worker);
                    self.cut();
                    self.hold(None);
                }
                Ok(Command::Empty { sides }) => self.emptied.push(sides),
                Ok(Command::Blind { tables }) => tables.iter().for_each(|table| self.flow.stages[*table].borrow_mut().table.blind(true)),
                Ok(Command::Restore { entries, give, numbers }) => {
                    self.restore(&entries, &give, numbers.as_deref());
                    self.decoded.fetch_sub(1, Ordering::AcqRel);
                    self.step(worker);
                }
                Ok(Command::Restored) => {
                    self.close_all(worker);
                    self.flow.stages.iter().for_each(|stage| {
                        let table = &mut stage.borrow_mut().table;
                        table.is_saved();
                        table.blind(false);
                        table.whole_at(self.closed + 1);
                    });
                    self.restored = true;
                    std::mem::take(&mut self.emptied).iter().for_each(|sides| self.empty(sides));
                    self.hold(None);
                }
                Ok(Command::Export { to }) => {
                    self.close_all(worker);
                    render::export::export(&self.plan, &self.flow, &to[self.place.index]);
                }
                // For clocks.
                Ok(Command::Quiet) => {}
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    self.close_all(worker);
                    for feed in std::mem::take(&mut self.flow.feeds) {
                        feed.handle.close();
                    }
                    while worker.has_dataflows() {
                        worker.step_or_park(None);
                    }
                    return;
                }
                Err(TryRecvError::Empty) => {
                    // While a tick is under way this works, or waits for other workers; otherwise it sleeps.
                    let began = Instant::now();
                    let under_way = !self.sealed.is_empty();
                    // A checkpoint that is being taken is work, too, unless its writer is behind.
                    worker.step_or_park(self.saving.as_ref().filter(|saving| saving.table < self.flow.stages.len()).map(Saving::pause));
                    if under_way {
                        self.times.flow += began.elapsed().as_nanos() as u64;
                    }
                }
            }
            self.report();
            self.save_some();
        }
    }

    /// Steps until all sealed ticks are closed.
    fn close_all(&mut self, worker: &mut timely::worker::Worker) {
        while !self.sealed.is_empty() {
            worker.step_or_park(None);
            self.report();
        }
    }

    /// Keeps every table at this tick, or lets them go on.
    fn hold(&self, tick: Option<Tick>) {
        self.flow.stages.iter().for_each(|stage| stage.borrow_mut().hold = tick);
    }

    /// Copies a little of what a checkpoint needs.
    fn save_some(&mut self) {
        let Some(saving) = self.saving.as_mut().filter(|saving| saving.to.len() < SAVE_PARTS_MAX) else { return };
        let Some(stage) = self.flow.stages.get(saving.table) else { return };
        let more = stage.borrow_mut().table.save_some(SAVE_SLOTS, &mut saving.entries);
        if !more || saving.entries.len() >= SAVE_BYTES {
            saving.send(saving.table);
        }
        if !more {
            saving.table += 1;
            if saving.table == self.flow.stages.len() {
                let _ = saving.to.send(SavePart::Copied);
            }
        }
    }

    /// Copies the rest, as of the tick that has just closed.
    fn cut(&mut self) {
        let Some(mut saving) = self.saving.take() else { return };
        saving.send(saving.table);
        for (table, stage) in self.flow.stages.iter().enumerate() {
            let Saving { entries, to, .. } = &mut saving;
            stage.borrow_mut().table.save_rest(entries, |part| send(to, table, part));
            saving.send(table);
        }
        let _ = saving.to.send(SavePart::Cut(self.closed));
    }

    /// Takes the entries of this worker's keys into the tick that is open.
    fn restore(&mut self, entries: &[u8], give: &[Give], numbers: Option<&Renumbered>) {
        let Place { index, workers, process, .. } = self.place;
        let mine = |key: &[u8]| row::worker_of(row::hash_key(key), workers) == index;
        let runs = restore(entries, mine, give, numbers).expect("checksums are verified before");
        for (give, run) in give.iter().zip(runs) {
            if give.keys {
                self.flow.stages[give.to.table].borrow_mut().table.was_written(&run);
                continue;
            }
            let Some(feed) = self.flow.feeds.iter_mut().find(|feed| feed.side() == give.to) else { continue };
            feed.handle.send(Parcel { to: index as u64, input: feed.input, process, seq: None, run });
            feed.handle.flush();
        }
    }

    /// Empties sides. Each worker does so with its own keys, so that it comes before what any process reads again.
    fn empty(&mut self, sides: &[SideOf]) {
        let mut run = Vec::new();
        push_with(&mut run, Op::Truncate, i64::MIN, &[], &[]);
        for side in sides {
            let stage = &mut *self.flow.stages[side.table].borrow_mut();
            stage.answer_before(self.closed + 1);
            stage.table.apply_all(side.side, &run);
            // The tick in which it shows is looked at also if nothing else is in it.
            if let Some(feed) = self.flow.feeds.iter_mut().find(|feed| feed.table == side.table) {
                let Place { index, process, .. } = self.place;
                feed.handle.send(Parcel { to: index as u64, input: feed.input, process, seq: None, run: Vec::new() });
                feed.handle.flush();
            }
        }
    }

    fn step(&mut self, worker: &mut timely::worker::Worker) {
        let began = Instant::now();
        worker.step();
        self.times.flow += began.elapsed().as_nanos() as u64;
    }

    /// Decodes a chunk and sends what it changes to the workers that hold the keys. What is read again, `only` for some sides,
    /// was counted when it was read first.
    fn ingest(&mut self, chunk: &Chunk, seq: u64, incomplete: Option<&Arc<str>>, only: Option<&[SideOf]>) {
        let source = &mut self.sources[chunk.source];
        let Some(decoder) = &mut self.decoders[chunk.source] else { return };
        let began = Instant::now();
        let batch = &mut self.batch;
        batch.clear(self.plan.sources[chunk.source].columns.len());
        let mut counts = Counts::default();
        // A message that leaves no record is of no meaning for a table.
        let mut decode = |message: Message, batch: &mut Batch| {
            let before = batch.records.len();
            decoder.decode(message, batch);
            counts.read += 1;
            counts.filtered += u64::from(batch.records.len() == before);
        };
        match &chunk.payload {
            Payload::Lines { bytes, offset } => {
                let mut start = 0;
                while start < bytes.len() {
                    let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |n| start + n);
                    let line = bytes[start..end].strip_suffix(b"\r").unwrap_or(&bytes[start..end]);
                    if !line.iter().all(u8::is_ascii_whitespace) {
                        decode(Message { value: Some(line), offset: offset + start as i64, ..Message::default() }, batch);
                    }
                    start = end + 1;
                }
            }
            Payload::Messages { bytes, index } => {
                for at in index {
                    let start = at.start as usize;
                    let value = start + at.key_len.unwrap_or(0) as usize;
                    let message = Message {
                        key: at.key_len.map(|_| &bytes[start..value]),
                        value: at.value_len.map(|len| &bytes[value..value + len as usize]),
                        offset: at.offset,
                        timestamp: at.timestamp,
                    };
                    decode(message, batch);
                }
            }
            // Goes with the seal.
            Payload::Heartbeat(_) => {}
        }
        for record in batch.records.iter().filter(|_| only.is_none()) {
            source.source_time = source.source_time.max(record.source_time);
        }
        if only.is_none() {
            (source.handled, source.beat) = (source.handled.max(batch.handled), source.beat.max(batch.beat));
        }
        self.times.decode += began.elapsed().as_nanos() as u64;
        let began = Instant::now();
        self.fates.clear();
        self.fates.resize(batch.records.len(), None);
        for feed in self.flow.feeds.iter_mut().filter(|f| f.source == chunk.source) {
            if only.is_some_and(|sides| !sides.contains(&feed.side())) {
                // Their turn passes.
                let input = feed.input;
                let mut parcels = self.place.to_all(input, seq, Vec::new());
                feed.handle.send_batch(&mut parcels);
                feed.handle.flush();
                continue;
            }
            let mut runs: Vec<Vec<u8>> = (0..self.place.workers).map(|_| buffers::RUNS.take(batch.bytes.len() / self.place.workers + 64)).collect();
            let (fates, loose, reports, Place { workers, process, .. }) = (&mut self.fates, &mut self.loose, feed.reports, self.place);
            let (doubtful, of) = (&mut self.incomplete, &self.flow.specs[feed.table]);
            let result = feed.program.run(batch, chunk.partition, |mapped| {
                fates[mapped.record] = fates[mapped.record].max(Some(mapped.fate));
                let reported = mapped.reject.as_ref().is_some_and(|r| if r.target.is_some() { reports.mapping } else { reports.decode });
                let time = batch.records[mapped.record].source_time;
                if let (Some(name), TableOf::Comparison(id), Some((_, key, _))) = (incomplete, of, &mapped.change) {
                    doubtful.push((*id, (*key).into(), name.to_string()));
                }
                match mapped.change {
                    Some((Op::Truncate, ..)) => runs.iter_mut().for_each(|run| push_with(run, Op::Truncate, time, &[], &[])),
                    Some((op, key, value)) => {
                        let to = if workers == 1 { 0 } else { row::worker_of(row::hash_key(key), workers) };
                        if op == Op::Reject && !reported {
                            let mut silent = value.to_vec();
                            silence(&mut silent);
                            push_with(&mut runs[to], op, time, key, &silent);
                        } else {
                            push_with(&mut runs[to], op, time, key, value);
                        }
                    }
                    None if reported => loose.extend(mapped.reject),
                    None => {}
                }
            });
            if let Err(why) = result {
                self.failure.get_or_insert(why);
            }
            let input = feed.input;
            let mut parcels: Vec<Parcel> =
                runs.into_iter().enumerate().map(|(to, run)| Parcel { to: to as u64, input, process, seq: Some(seq), run }).collect();
            feed.handle.send_batch(&mut parcels);
            feed.handle.flush();
        }
        if only.is_some() {
            return;
        }
        // A message may have left several records (a key change); it counts once, as the worst of them.
        let mut last = None;
        for (record, fate) in batch.records.iter().zip(&self.fates) {
            let (offset, mut fate) = (record.offset, *fate);
            if let Some((previous, before)) = last
                && previous == offset
            {
                fate = fate.max(before);
                *fate_of(&mut counts, before) -= 1;
            }
            *fate_of(&mut counts, fate) += 1;
            last = Some((offset, fate));
        }
        match source.counts.iter_mut().find(|(partition, _)| *partition == chunk.partition) {
            Some((_, all)) => *all += counts,
            None => source.counts.push((chunk.partition, counts)),
        }
        self.times.map += began.elapsed().as_nanos() as u64;
    }

    /// Takes a look-up down to the table that can answer it, if this worker holds the key.
    fn ask(&mut self, table: TableRef, key: Vec<u8>, reply: Reply) {
        let TableRef::Target(target) = table else { return };
        if row::worker_of(row::hash_key(&key), self.place.workers) != self.place.index {
            return;
        }
        let (home, whole) = &self.flow.homes[target];
        let tick = self.sealed.back().map_or(self.closed, |s| s.tick);
        let (whole, asked) = (whole.clone(), key.clone());
        let answer = Box::new(move |value: Value| reply(RowAnswer { as_of: tick, state: value.state(|row| whole.row(&asked, row).into()) }));
        self.flow.stages[home.table].borrow_mut().questions.push(Question { tick, side: home.side, key, answer });
    }

    /// Reports the ticks that have closed.
    fn report(&mut self) {
        while self.sealed.front().is_some_and(|s| !self.flow.probe.less_equal(&s.tick)) {
            let SealedTick { tick, at: since, sources, loose, incomplete } = self.sealed.pop_front().expect("there is a front");
            let first = std::mem::take(&mut self.restored);
            let mut report =
                Report { worker: self.place.index, tick, failure: self.failure.take().or_else(|| self.flow.failure.borrow_mut().take()), ..Report::default() };
            for (at, (stage, of)) in self.flow.stages.iter().zip(&self.flow.specs).enumerate() {
                let stage = &mut *stage.borrow_mut();
                stage.answer_before(tick + 1);
                // Changes of a tick carry the time at which it was opened, the moment after the seal before.
                while let Some(closed) = stage.closed.first_entry().filter(|c| *c.key() <= tick).map(|c| c.remove()) {
                    report.rejects.extend(closed.rejects);
                    if let TableOf::Comparison(id) = of {
                        self.difference_changes += closed.differences.len() as u64;
                        report.differences.extend(closed.differences.into_iter().map(|d| (*id, d)));
                    }
                    if let Some(target) = self.watched[at] {
                        report.rows.extend(changes(target, &self.flow.homes[target].1, closed.rows));
                    }
                }
                if let Some(target) = self.watched[at].filter(|_| first) {
                    report.rows.extend(changes(target, &self.flow.homes[target].1, stage.table.gone()));
                }
                report.state_bytes += stage.table.bytes() + stage.waiting_bytes();
            }
            report.loose = loose;
            report.incomplete = incomplete;
            let mut kept = self.flow.rejects.borrow_mut();
            while let Some(rejects) = kept.first_entry().filter(|r| *r.key() <= tick) {
                report.rejects.extend(rejects.remove());
            }
            drop(kept);
            report.sources = sources;
            report.tables = self.sizes();
            report.seconds = since.elapsed().as_secs_f64();
            report.difference_changes = self.difference_changes;
            let table = self.flow.stages.iter().map(|stage| stage.borrow().nanos).sum();
            report.times = StageTimes { table, flow: self.times.flow.saturating_sub(table), ..self.times };
            self.closed = tick;
            self.closes.fetch_max(tick, Ordering::AcqRel);
            let _ = self.reports.send(report);
        }
        if self.sealed.is_empty() {
            for stage in &self.flow.stages {
                stage.borrow_mut().answer_before(self.closed + 1);
            }
        }
    }

    /// The rows of each table that is kept somewhere, each once.
    fn sizes(&self) -> Vec<TableReport> {
        let mut sizes: BTreeMap<TableRef, u64> = BTreeMap::new();
        for (target, (home, _)) in self.flow.homes.iter().enumerate() {
            sizes.insert(TableRef::Target(target), self.flow.stages[home.table].borrow().table.rows(home.side));
        }
        for (stage, of) in self.flow.stages.iter().zip(&self.flow.specs) {
            let table = &stage.borrow().table;
            match of {
                TableOf::Comparison(id) => {
                    let comparison = &self.plan.comparisons[*id];
                    sizes.entry(comparison.expected).or_insert_with(|| table.rows(EXPECTED));
                    sizes.entry(comparison.actual).or_insert_with(|| table.rows(ACTUAL));
                }
                TableOf::Source(source) => {
                    sizes.insert(TableRef::Source(*source), table.rows(EXPECTED));
                }
                TableOf::Target(_) => {}
            }
        }
        sizes.into_iter().map(|(table, rows)| TableReport { table, rows }).collect()
    }
}

/// Net changes of a target's rows, whole.
fn changes<'a>(
    target: TargetId,
    whole: &'a Whole,
    rows: impl IntoIterator<Item = (Box<[u8]>, Value, Value)> + 'a,
) -> impl Iterator<Item = (TargetId, RowChange)> + 'a {
    rows.into_iter().map(move |(key, before, after)| {
        let state = |value: Value| value.state(|row| whole.row(&key, row).into());
        let (before, after) = (state(before), state(after));
        (target, RowChange { key, before, after })
    })
}

fn fate_of(counts: &mut Counts, fate: Option<Fate>) -> &mut u64 {
    match fate {
        Some(Fate::Applied) => &mut counts.applied,
        Some(Fate::Rejected) => &mut counts.rejected,
        Some(Fate::Filtered) | None => &mut counts.filtered,
    }
}
