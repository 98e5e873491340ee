//! The gate between the readers and the clock: messages of one upstream transaction go on together, in one tick.
//!
//! It takes the chunks of a connector's sources and of its log of transactions, each partition in order, and gives out what
//! may be sealed. What is held stands in a queue a partition, first in, first out, so a restart from the positions of what
//! was given out reads everything again that was held.
//!
//! ```text
//! source a  ──▶ [T7 T7 · T8]─┐
//! source b  ──▶ [T7 T9]      ├─ T7 is whole: all up to its last message, in every queue ─▶ Batch ─▶ one tick
//! log       ──▶ [END T7]─────┘
//! ```
//!
//! - What is of no transaction (snapshots, heartbeats) goes on when it is at the head of its queue.
//! - A transaction is *whole* when its end is known and of each source as many events are there as the end counts; or when a
//!   partition has gone on to a later transaction, since a connector sends one after the other: then nothing more of it will
//!   come (a topic that was compacted).
//! - Begins are not used: of some transactions (DDL in MariaDB) no end is ever sent, and no rows either.
//! - What is not whole within the bound, or when too much is held, goes on *incomplete*: its messages are marked, those too
//!   that come later, until it is whole.
//! - Of many that stand incomplete only the newest are kept each, the others as one: see `rest`.
//! - A transaction that is much older than the log of transactions reaches back goes on like what is of none.
//! - A transaction that was given out is known for a while: ranges that are sent again pass.
//!
//! No thread, no clock, no I/O: whoever calls says what time it is. `queue` holds a partition's messages, `ends` what the
//! log of transactions said.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use crate::{
    engine::{Chunk, Incomplete, Payload, Rest},
    format::debezium_json::transaction::{Boundary, Part, Parts, boundary},
    plan::{Plan, SourceId},
};

mod ends;
mod places;
pub(super) mod queue;
mod rest;
mod standing;

use ends::Ends;
use places::Places;
use queue::Queue;

/// A source is not read on while so many bytes of it are held, unless a transaction that others wait for needs more of it.
const SOURCE_BYTES: u64 = 8 << 20;
/// With so many bytes held the oldest transaction goes on, whole or not.
const HELD_BYTES: u64 = 256 << 20;
/// A batch is not made larger than this by further transactions.
const BATCH_BYTES: u64 = 4 << 20;
/// And so many pieces: those of transactions that are not whole are named one by one.
const BATCH_PIECES: usize = 500;
/// Transactions that are known to have been given out.
const RECENT: usize = 100_000;

/// Messages that go on together; all of them belong in one tick.
#[derive(Debug, Default)]
pub struct Batch {
    pub pieces: Vec<Piece>,
    /// The oldest source time of a piece, where one has some.
    pub time: Option<i64>,
    /// The next position of each partition of the log of transactions.
    pub positions: Vec<(i32, i64)>,
    /// The transactions that stand incomplete once this is applied.
    pub incomplete: Vec<Incomplete>,
}

/// A part of a chunk; `incomplete` names the transaction whose lack it shows.
#[derive(Debug)]
pub struct Piece {
    pub chunk: Chunk,
    pub incomplete: Option<Arc<str>>,
}

/// What the gate has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A transaction goes on without all of its rows: by source, how many of its events are there, and how many there should
    /// be as far as that is known.
    Incomplete { name: Arc<str>, why: Why, seen: Vec<(String, u64, Option<u64>)> },
    /// The rest of it has come, or nothing more of it will.
    Settled { name: Arc<str> },
    /// More stand incomplete than are kept each: what they touched is not known any more. And: nothing more of them is awaited.
    Many { name: Arc<str>, stands: bool },
}

/// Why a transaction goes on incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Bound,
    /// Too much is held.
    Volume,
    /// The logs have ended.
    Ended,
}

impl Why {
    /// As a sentence tells it.
    pub fn text(self) -> &'static str {
        match self {
            Why::Bound => "the rest did not come within the bound",
            Why::Volume => "too much is held to wait for the rest",
            Why::Ended => "the logs have ended",
        }
    }
}

/// A transaction that has not been given out whole.
#[derive(Debug, Default)]
struct Open {
    /// The oldest and the newest source time of an event, in milliseconds.
    time: Option<i64>,
    newest: Option<i64>,
    /// When its first message came; before that, its end.
    since: i64,
    end: Option<End>,
    /// By member: the places of the events that have come.
    seen: Vec<Places>,
    /// Those of them that were given out.
    given: Vec<Places>,
    /// By queue: its newest run.
    last: BTreeMap<usize, u64>,
    /// Runs that are held.
    held: u64,
    incomplete: bool,
}

/// What the end of a transaction says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    /// The position after it in the log, which tells the order of commits.
    number: u64,
    /// By member, the events it has.
    counts: Vec<(usize, u64)>,
    /// In milliseconds.
    time: Option<i64>,
}

/// A source of the group.
#[derive(Debug)]
struct Member {
    source: SourceId,
    name: String,
    collection: String,
    /// How many partitions its log has, as far as is known, and which of them are read to their end.
    partitions: usize,
    read: Vec<i32>,
    bytes: u64,
    /// When it last sent something of a backlog: until then it is not late.
    busy: i64,
    /// Heartbeats, each with what had arrived before it.
    beats: VecDeque<(u64, Chunk)>,
}

/// See the module.
pub struct Gate {
    /// Its place in the plan's list.
    group: usize,
    log: SourceId,
    log_busy: i64,
    /// The newest time of an end, in milliseconds.
    log_time: Option<i64>,
    name: String,
    bound_ms: i64,
    members: Vec<Member>,
    queues: Vec<Queue>,
    open: HashMap<Arc<str>, Open>,
    ends: Ends,
    recent: HashSet<Arc<str>>,
    recent_order: VecDeque<Arc<str>>,
    parts: Parts,
    /// Chunks that have come.
    arrivals: u64,
    /// The transactions that are given out incomplete.
    standing: BTreeSet<Arc<str>>,
    /// Those of which nothing else is kept.
    rest: Option<Rest>,
    /// By source, how many events the ends have that were dropped before one of them came, and are not known any more.
    forgotten: Vec<(SourceId, i64)>,
    /// How many stand that are kept each.
    standing_max: usize,
    news: Vec<News>,
    /// What the newest batch said, so that the next is made only when something moves.
    told: (Vec<(i32, i64)>, Vec<Incomplete>),
}

impl Gate {
    /// The gate of a group of the plan.
    pub fn new(plan: &Plan, group: usize) -> Gate {
        let declared = &plan.transactions[group];
        let member = |m: &crate::plan::Member| Member {
            source: m.source,
            name: plan.sources[m.source].name.clone(),
            collection: m.collection.clone(),
            partitions: 0,
            read: Vec::new(),
            bytes: 0,
            busy: i64::MIN,
            beats: VecDeque::new(),
        };
        Gate {
            group,
            log: declared.log,
            name: plan.sources[declared.log].name.clone(),
            bound_ms: i64::try_from(declared.bound.as_millis()).unwrap_or(i64::MAX),
            members: declared.members.iter().map(member).collect(),
            queues: Vec::new(),
            open: HashMap::new(),
            ends: Ends::default(),
            recent: HashSet::new(),
            recent_order: VecDeque::new(),
            parts: Parts::default(),
            arrivals: 0,
            standing: BTreeSet::new(),
            rest: None,
            forgotten: Vec::new(),
            standing_max: rest::STANDING,
            log_busy: i64::MIN,
            log_time: None,
            news: Vec::new(),
            told: Default::default(),
        }
    }

    /// The sources whose chunks it takes, the log of transactions among them.
    pub fn sources(&self) -> impl Iterator<Item = SourceId> {
        self.members.iter().map(|m| m.source).chain([self.log])
    }

    /// The name of its log of transactions.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// May the source be read on? Not while much of it waits, unless what others wait for needs more of it.
    pub fn takes(&self, source: SourceId) -> bool {
        let heads = || self.queues.iter().filter_map(|q| q.head()?.id.as_ref());
        if source == self.log {
            return self.ends.has_room() || heads().any(|id| self.open.get(id).is_some_and(|open| open.end.is_none() && !open.incomplete));
        }
        let Some(member) = self.members.iter().position(|m| m.source == source) else { return true };
        self.members[member].bytes < SOURCE_BYTES
            || (self.held_bytes() < HELD_BYTES
                && self.queues.iter().filter(|q| q.member == member).filter_map(|q| q.newest.as_ref()).any(|id| heads().any(|head| head == id)))
    }

    /// Tells how many partitions a source's log has, and which of them are read to their end.
    pub fn partitions(&mut self, source: SourceId, partitions: usize, read: impl Iterator<Item = i32>) {
        if let Some(member) = self.members.iter_mut().find(|m| m.source == source) {
            member.partitions = partitions;
            member.read.clear();
            member.read.extend(read);
        }
    }

    /// Is it known how far each partition of a member has come? Of one that sent nothing since the start it is when it is read to
    /// its end; that is enough for a transaction that is waited for no more.
    fn knows_all(&self, member: usize, waits: bool) -> bool {
        let queues = || self.queues.iter().filter(|queue| queue.member == member);
        let of = &self.members[member];
        let silent = || of.read.iter().filter(|partition| queues().all(|queue| queue.partition != **partition)).count();
        queues().count() + if waits { 0 } else { silent() } >= of.partitions
    }

    /// Bytes that are held.
    pub fn held_bytes(&self) -> u64 {
        self.members.iter().map(|m| m.bytes).sum()
    }

    /// Bytes of a source that are held; 0: nothing is.
    pub fn held_of(&self, source: SourceId) -> u64 {
        let Some(member) = self.members.iter().position(|m| m.source == source) else { return 0 };
        let holds = !self.members[member].beats.is_empty() || self.queues.iter().any(|q| q.member == member && q.head().is_some());
        if holds { self.members[member].bytes.max(1) } else { 0 }
    }

    /// Transactions that wait for the rest of their rows.
    pub fn held_transactions(&self) -> usize {
        self.open.values().filter(|open| open.held > 0 && !open.incomplete).count()
    }

    /// How many chunks have come, and whether everything up to the `n`th has been given out.
    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    pub fn has_passed(&self, n: u64) -> bool {
        self.queues.iter().filter_map(Queue::head).all(|run| run.arrival > n)
    }

    /// What happened since this was asked last.
    pub fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Nobody was late until now: what was given out waited for others.
    pub fn pardon(&mut self, now: i64) {
        self.log_busy = now;
        self.members.iter_mut().for_each(|m| m.busy = now);
    }

    /// Takes a chunk. `now` in milliseconds on any clock that does not go back; `behind`: its log is not read to its end.
    pub fn feed(&mut self, chunk: Chunk, now: i64, behind: bool) {
        self.feed_again(chunk, now, behind, &[]);
    }

    /// Takes a chunk of which some messages are known to be sent again: these stand for themselves. `copies` has stretches
    /// of positions, in order.
    pub fn feed_again(&mut self, chunk: Chunk, now: i64, behind: bool, copies: &[(i64, i64)]) {
        self.arrivals += 1;
        if chunk.source == self.log {
            if behind {
                self.log_busy = now;
            }
            self.boundaries(&chunk, now);
            return;
        }
        let Some(member) = self.members.iter().position(|m| m.source == chunk.source) else { return };
        if behind {
            self.members[member].busy = now;
        }
        if matches!(chunk.payload, Payload::Heartbeat(_)) {
            self.members[member].beats.push_back((self.arrivals, chunk));
            return;
        }
        let at = self.queue(member, chunk.partition);
        let mut parts = std::mem::take(&mut self.parts);
        let lines = matches!(chunk.payload, Payload::Lines { .. });
        queue::each(&chunk.payload, |value, bytes, next| {
            let position = next - if lines { bytes as i64 } else { 1 };
            let is_copy = copies.get(copies.partition_point(|(_, to)| *to < position)).is_some_and(|(from, _)| *from <= position);
            let mut covered = false;
            let id = match value.filter(|_| !is_copy).and_then(|value| Some((parts.of(value)?, value))) {
                Some((part, _)) => {
                    covered = self.is_covered(at, &part);
                    if covered { None } else { self.part(member, at, part, now) }
                }
                // A tombstone goes with what stands before it.
                None if value.is_none() => self.queues[at].before.clone().filter(|id| self.open.contains_key(id)).map(|id| (id, 0)),
                None => None,
            };
            let (id, place) = id.unzip();
            self.queues[at].before.clone_from(&id);
            let run = self.queues[at].push(id.clone(), place, bytes, next, self.arrivals);
            self.queues[at].cover(covered);
            if let Some(id) = id
                && let Some(open) = self.open.get_mut(&id)
                && open.last.insert(at, run) != Some(run)
            {
                open.held += 1;
            }
        });
        self.parts = parts;
        self.members[member].bytes += queue::volume(&chunk);
        self.queues[at].chunks.push_back(chunk);
    }

    fn queue(&mut self, member: usize, partition: i32) -> usize {
        self.queues.iter().position(|q| q.member == member && q.partition == partition).unwrap_or_else(|| {
            self.queues.push(Queue::new(member, partition));
            self.queues.len() - 1
        })
    }

    /// Counts an event of a transaction, and says its place in it; `None`: it is sent again, and stands for itself.
    fn part(&mut self, member: usize, queue: usize, part: Part, now: i64) -> Option<(Arc<str>, u64)> {
        let id = part.id;
        if self.recent.contains(id) {
            return None;
        }
        let id: Arc<str> = match self.queues[queue].newest.as_ref().filter(|newest| &***newest == id) {
            Some(newest) => Arc::clone(newest),
            None => self.open.get_key_value(id).map_or_else(|| id.into(), |(id, _)| Arc::clone(id)),
        };
        let (members, ends) = (self.members.len(), &mut self.ends);
        let open = self.open.entry(Arc::clone(&id)).or_insert_with(|| Open {
            since: now,
            seen: vec![Places::default(); members],
            given: vec![Places::default(); members],
            end: ends.remembered(&id),
            ..Open::default()
        });
        if open.last.is_empty() {
            open.since = now;
        }
        open.time = [open.time, part.time].into_iter().flatten().min();
        open.newest = open.newest.max(part.time);
        let place = part.order.unwrap_or_else(|| open.seen[member].next());
        if !open.seen[member].add(place) {
            return None;
        }
        self.queues[queue].newest = Some(Arc::clone(&id));
        Some((id, place))
    }

    /// Takes what the log of transactions says.
    fn boundaries(&mut self, chunk: &Chunk, now: i64) {
        let mut before = super::replay::first(chunk);
        queue::each(&chunk.payload, |value, _, next| {
            let at = std::mem::replace(&mut before, next);
            let Some(Boundary::End { id, counts, time }) = value.and_then(boundary) else { return };
            self.ends.begins(time);
            self.log_time = self.log_time.max(time);
            if self.recent.contains(id.as_str()) {
                return;
            }
            let of = |(name, n): &(String, u64)| {
                let n = *n;
                self.members.iter().enumerate().filter(move |(_, m)| m.collection == *name).map(move |(member, _)| (member, n)).collect::<Vec<_>>()
            };
            let counts: Vec<(usize, u64)> = counts.iter().flat_map(of).filter(|(_, n)| *n > 0).collect();
            let known = self.open.get_key_value(id.as_str()).map(|(id, _)| Arc::clone(id));
            // One of which nobody follows any row is of no meaning here, nor is a copy.
            if known.is_none() && (counts.is_empty() || self.ends.is_remembered(&id)) {
                return;
            }
            if known.is_none() && self.covers_end(time, &counts) {
                return;
            }
            let id: Arc<str> = known.unwrap_or_else(|| id.into());
            let members = self.members.len();
            let end = Some(End { number: at as u64 + 1, counts, time });
            let open = self.open.entry(Arc::clone(&id)).or_insert_with(|| Open {
                since: now,
                seen: vec![Places::default(); members],
                given: vec![Places::default(); members],
                ..Open::default()
            });
            if open.end.is_none() {
                open.end = end;
                self.ends.hold(chunk.partition, at, id);
            }
        });
        self.ends.read(chunk.partition, chunk.next);
    }

    /// The greatest number of an end to whose transaction a partition has come.
    fn reached(&self, queue: &Queue) -> u64 {
        if !self.ends.is_ordered() {
            return 0;
        }
        let newest = queue.newest.as_ref().and_then(|newest| self.open.get(newest)?.end.as_ref());
        queue.passed.max(newest.map_or(0, |end| end.number))
    }

    /// Has the partition gone on to a transaction that committed after this one?
    fn passed(&self, queue: &Queue, id: &str, number: u64) -> bool {
        queue.newest.as_deref() != Some(id) && self.reached(queue) > number
    }

    /// Will nothing more of it come?
    fn is_whole(&self, id: &str, open: &Open) -> bool {
        let Some(end) = &open.end else { return open.incomplete && self.is_past(id, open) };
        (0..self.members.len()).all(|member| {
            let count = end.counts.iter().find(|(m, _)| *m == member).map(|(_, n)| *n);
            let seen = open.seen[member].len();
            match count {
                None if seen == 0 => return true,
                Some(n) if seen >= n => return true,
                _ => {}
            }
            let mut of = self.queues.iter().filter(|q| q.member == member).peekable();
            of.peek().is_some() && self.knows_all(member, !open.incomplete) && of.all(|queue| self.passed(queue, id, end.number))
        })
    }

    /// Gives out what may go on. `last`: the logs have ended, nothing more will come.
    pub fn release(&mut self, now: i64, last: bool) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        loop {
            let moved = self.pass_heads(&mut batch, &mut bytes) | self.pass_whole(&mut bytes);
            if bytes >= BATCH_BYTES || batch.pieces.len() >= BATCH_PIECES {
                break;
            }
            if !moved && !self.give_up(now, last) {
                break;
            }
        }
        for at in 0..self.queues.len() {
            self.cut(at, None, &mut batch);
        }
        self.pass_beats(&mut batch);
        self.settle(now, last);
        batch.positions = self.ends.positions(|id| self.open.get(id).is_some_and(|open| !open.incomplete));
        batch.incomplete = self.incomplete();
        batch.time = batch.pieces.iter().filter_map(|piece| piece.chunk.source_time).min();
        if batch.pieces.is_empty() && (&batch.positions, &batch.incomplete) == (&self.told.0, &self.told.1) {
            return None;
        }
        self.told = (batch.positions.clone(), batch.incomplete.clone());
        Some(batch)
    }

    /// Passes what is at the head of a queue and waits for nothing.
    fn pass_heads(&mut self, batch: &mut Batch, bytes: &mut u64) -> bool {
        let mut moved = false;
        for at in 0..self.queues.len() {
            while let Some(run) = self.queues[at].head() {
                let id = run.id.clone();
                let open = id.as_ref().and_then(|id| self.open.get(id));
                if open.is_some_and(|open| self.is_before_log(open)) {
                    self.open.remove(id.as_ref().expect("what is open has an id"));
                    continue;
                }
                if open.is_some_and(|open| !open.incomplete) || *bytes >= BATCH_BYTES || batch.pieces.len() >= BATCH_PIECES {
                    break;
                }
                moved = true;
                let marked = open.is_some();
                if marked {
                    self.cut(at, None, batch);
                }
                *bytes += self.pop(at);
                if marked {
                    let name = self.named(&id.expect("what is open has an id"));
                    self.cut(at, Some(name), batch);
                }
            }
        }
        moved
    }

    /// Is it older than the log of transactions reaches back? Then its end is not there, and nobody waits for it. One that
    /// began shortly before the first end may have its own behind that.
    fn is_before_log(&self, open: &Open) -> bool {
        let before = |(time, begin): (i64, i64)| time < begin.saturating_sub(rest::BEYOND_MS);
        open.end.is_none() && !open.incomplete && open.time.zip(self.ends.begin()).is_some_and(before)
    }

    /// Passes transactions that are whole, each with whatever stands before its messages.
    fn pass_whole(&mut self, bytes: &mut u64) -> bool {
        let mut moved = false;
        for at in 0..self.queues.len() {
            if *bytes >= BATCH_BYTES {
                break;
            }
            let Some(id) = self.queues[at].head().and_then(|run| run.id.clone()) else { continue };
            let Some((ids, upto)) = self.closure(&id) else { continue };
            for (queue, run) in upto {
                while self.queues[queue].first() <= run {
                    *bytes += self.pop(queue);
                }
            }
            ids.into_iter().for_each(|id| self.finish(&id));
            moved = true;
        }
        moved
    }

    /// The transactions that must go on together with this one, and up to which run of which queue, if all of them are whole.
    fn closure(&self, id: &Arc<str>) -> Option<(Vec<Arc<str>>, BTreeMap<usize, u64>)> {
        let (mut ids, mut upto, mut at) = (vec![Arc::clone(id)], BTreeMap::<usize, u64>::new(), 0);
        while let Some(id) = ids.get(at).cloned() {
            at += 1;
            let open = self.open.get(&id)?;
            if open.incomplete || !self.is_whole(&id, open) {
                return None;
            }
            for (queue, run) in &open.last {
                let from = upto.get(queue).map_or(self.queues[*queue].first(), |upto| upto + 1);
                for other in self.queues[*queue].runs(from, *run).filter_map(|run| run.id.as_ref()) {
                    let waits = self.open.get(other).is_some_and(|open| !open.incomplete);
                    if waits && !ids.contains(other) {
                        ids.push(Arc::clone(other));
                    } else if !waits && self.open.contains_key(other) {
                        // An incomplete one between them goes on at its own turn, marked.
                        return None;
                    }
                }
                let upto = upto.entry(*queue).or_insert(*run);
                *upto = (*upto).max(*run);
            }
        }
        Some((ids, upto))
    }

    /// Takes the first run off a queue; it is cut out of its chunks later.
    fn pop(&mut self, at: usize) -> u64 {
        let run = self.queues[at].pop();
        self.came(self.queues[at].member, run.covered);
        if let Some(open) = run.id.as_ref().and_then(|id| self.open.get_mut(id)) {
            open.held -= 1;
            open.given[self.queues[at].member].merge(&run.places);
        }
        run.bytes
    }

    /// Cuts what has been taken off a queue out of its chunks.
    fn cut(&mut self, at: usize, incomplete: Option<Arc<str>>, batch: &mut Batch) {
        let queue = &mut self.queues[at];
        let member = &mut self.members[queue.member];
        queue.cut(|chunk| {
            member.bytes -= queue::volume(&chunk);
            batch.pieces.push(Piece { chunk, incomplete: incomplete.clone() });
        });
    }

    /// A heartbeat says how far its source is, so it goes on when everything has that came before it.
    fn pass_beats(&mut self, batch: &mut Batch) {
        for (at, member) in self.members.iter_mut().enumerate() {
            let queues = || self.queues.iter().filter(move |q| q.member == at);
            let reached = queues().filter_map(|q| q.head()).map(|run| run.arrival).min().unwrap_or(u64::MAX);
            while member.beats.front().is_some_and(|(arrival, _)| *arrival < reached) {
                let (_, mut chunk) = member.beats.pop_front().expect("there is a front");
                // It stands where its partition does now.
                chunk.next = queues().find(|q| q.partition == chunk.partition).and_then(|q| q.given).unwrap_or(chunk.next);
                batch.pieces.push(Piece { chunk, incomplete: None });
            }
        }
    }

    /// Forgets a transaction that is whole and given out.
    fn finish(&mut self, id: &Arc<str>) {
        self.standing.remove(id);
        let Some(open) = self.open.remove(id) else { return };
        if let Some(end) = open.end {
            for queue in open.last.keys() {
                let queue = &mut self.queues[*queue];
                queue.passed = queue.passed.max(end.number);
            }
        }
        if self.recent.insert(Arc::clone(id)) {
            self.recent_order.push_back(Arc::clone(id));
            if self.recent_order.len() > RECENT
                && let Some(oldest) = self.recent_order.pop_front()
            {
                self.recent.remove(&oldest);
            }
        }
    }

    fn named(&self, id: &str) -> Arc<str> {
        Incomplete::name(&self.name, id)
    }
}

#[cfg(test)]
mod tests;
