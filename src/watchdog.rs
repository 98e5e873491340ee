//! What stands still though it should move: judged by positions and ticks, never by whether a thread lives.
//!
//! ```text
//! views of logs, closed ticks, written ticks ─▶ Watch::look ─▶ Stuck: /readyz, the page, metrics, a log line with a code
//! ```
//!
//! | code | what stands still |
//! | --- | --- |
//! | `TICK_STUCK` | no tick is closed |
//! | `READER_STUCK` | a source's reader neither reads nor hears from its log |
//! | `PARTITION_STUCK` | the log has more of a partition than is in closed ticks, and nothing of it comes |
//! | `SINK_STUCK` | closed ticks are not written |
//!
//! What has nothing to do is idle, not stuck; a reader that waits for the engine, as one does whose side is ahead while a backlog is
//! read, waits rightly. A thing is stuck once it has stood still for the plan's `stuck_after`, and is seen to be within a quarter
//! of that.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    checkpoint::CheckpointError,
    engine::Tick,
    ledger::SharedLedger,
    log::LogStatus,
    plan::{LogSpec, Plan},
    sink::Written,
    telemetry,
};

/// Something that stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub code: &'static str,
    /// The source (with its partition), or the output or connection.
    pub name: String,
    pub text: String,
}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

/// What stands still now, and what else somebody should know. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    stuck: Arc<Mutex<Vec<Stuck>>>,
    checkpoints: Arc<Mutex<Option<String>>>,
}

impl Watched {
    pub fn list(&self) -> Vec<Stuck> {
        self.stuck.lock().expect("nobody panics while holding it").clone()
    }

    /// What makes no answer false, and wants somebody all the same.
    pub fn warnings(&self) -> Vec<String> {
        self.checkpoints.lock().expect("nobody panics while holding it").iter().cloned().collect()
    }

    /// Why the last try to take a checkpoint failed, if it did.
    pub(crate) fn checkpoint(&self, failed: Option<&CheckpointError>) {
        *self.checkpoints.lock().expect("nobody panics while holding it") = failed.map(|error| format!("no checkpoint can be taken: {error}"));
    }

    /// Takes over what was found, and says what is new of it.
    pub(crate) fn turn(&self, found: Vec<Stuck>) {
        let mut list = self.stuck.lock().expect("nobody panics while holding it");
        let same = |a: &Stuck, b: &Stuck| (a.code, &a.name) == (b.code, &b.name);
        for old in list.iter().filter(|old| !found.iter().any(|new| same(old, new))) {
            telemetry::StuckTurned { stuck: old, now: false }.emit();
        }
        for new in found.iter().filter(|new| !list.iter().any(|old| same(old, new))) {
            telemetry::StuckTurned { stuck: new, now: true }.emit();
        }
        *list = found;
    }
}

/// One look at everything.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The newest closed tick; 0 before the first.
    closed: Tick,
    sources: Vec<SeenSource>,
    writers: Vec<SeenWriter>,
}

#[derive(Clone, Debug, Default)]
struct SeenSource {
    name: String,
    /// When the reader last heard from its log.
    asked_ms: Option<i64>,
    /// Has ended, waits for the engine, or stands before a change of its schema, which is said elsewhere.
    excused: bool,
    /// What it has read is held on purpose, for a bounded time.
    held: bool,
    /// For so long it may wait for other sources beside the bound, until a transaction is whole.
    gate: Duration,
    trouble: Option<String>,
    /// By partition: the next position that counts, which is that of closed ticks once all are shown, and the reader's before; the
    /// reader's; and the log's end.
    partitions: Vec<(i32, i64, i64, Option<i64>)>,
    /// The partitions behind whose ends messages are held back by a transaction that a producer has not ended.
    held_back: Vec<i32>,
    /// The next partition is read when the one before is done.
    one_by_one: bool,
}

#[derive(Clone, Debug, Default)]
struct SeenWriter {
    name: String,
    /// The newest tick that is written.
    tick: Tick,
    /// All records that were: those of a large tick go out bit by bit.
    records: u64,
    trouble: Option<String>,
}

/// Since when something has been as it is.
#[derive(Debug)]
struct Still<T> {
    is: T,
    since: Instant,
}

impl<T: PartialEq> Still<T> {
    fn new(is: T, since: Instant) -> Still<T> {
        Still { is, since }
    }

    /// For how long it has stood still; not at all if it may.
    fn look(&mut self, is: T, may: bool, now: Instant) -> Duration {
        if may || is != self.is {
            *self = Still::new(is, now);
        }
        now - self.since
    }
}

/// A clock that stands while this process does: a stopped process, or a suspended machine, can't say of others that they stand still.
#[derive(Debug)]
struct Awake {
    last: Instant,
    counted: Instant,
    /// What counts at most of the time between two looks.
    most: Duration,
}

impl Awake {
    fn new(now: Instant, most: Duration) -> Awake {
        Awake { last: now, counted: now, most }
    }

    fn at(&mut self, now: Instant) -> Instant {
        self.counted += (now - self.last).min(self.most);
        self.last = now;
        self.counted
    }
}

/// Compares one look with the one before.
#[derive(Debug)]
struct Watch {
    bound: Duration,
    tick: Still<(Tick, u64)>,
    readers: BTreeMap<String, Still<(Option<i64>, Vec<i64>)>>,
    partitions: BTreeMap<(String, i32), Still<i64>>,
    /// The same of what their readers have read.
    reads: BTreeMap<(String, i32), Still<i64>>,
    writers: BTreeMap<String, Still<(Tick, u64)>>,
}

impl Watch {
    fn new(bound: Duration, now: Instant) -> Watch {
        Watch { bound, tick: Still::new((0, 0), now), readers: BTreeMap::new(), partitions: BTreeMap::new(), reads: BTreeMap::new(), writers: BTreeMap::new() }
    }

    fn look(&mut self, seen: &Seen, now: Instant) -> Vec<Stuck> {
        let mut found = Vec::new();
        let why = |trouble: &Option<String>| trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        // While an output goes through a large tick, the next ones wait for it.
        let writing: u64 = seen.writers.iter().filter(|writer| writer.tick < seen.closed).map(|writer| writer.records).sum();
        // Before the first tick a checkpoint is read; that is hydrating.
        let still = self.tick.look((seen.closed, writing), seen.closed == 0, now);
        let engine = still > self.bound;
        if engine {
            found.push(Stuck { code: "TICK_STUCK", name: "engine".into(), text: format!("no tick was closed for {} s", still.as_secs()) });
        }
        for source in &seen.sources {
            let read: Vec<i64> = source.partitions.iter().map(|(_, _, read, _)| *read).collect();
            let reader = self.readers.entry(source.name.clone()).or_insert_with(|| Still::new((None, Vec::new()), now));
            let still = reader.look((source.asked_ms, read), source.excused, now);
            if still > self.bound {
                let text = format!("source {} has neither read nor heard from its log for {} s{}", source.name, still.as_secs(), why(&source.trouble));
                found.push(Stuck { code: "READER_STUCK", name: source.name.clone(), text });
                continue;
            }
            let mut turn = true;
            for (partition, done, read, end) in &source.partitions {
                let place = self.partitions.entry((source.name.clone(), *partition)).or_insert_with(|| Still::new(*done, now));
                let at_end = end.is_none_or(|end| *done >= end);
                let held_back = at_end && source.held_back.contains(partition);
                let idle = at_end && !held_back;
                let still = place.look(*done, idle || source.excused || source.held || !turn, now);
                turn &= idle || !source.one_by_one;
                let reads = self.reads.entry((source.name.clone(), *partition)).or_insert_with(|| Still::new(*read, now));
                let unread = reads.look(*read, source.excused || end.is_none_or(|end| *read >= end), now);
                // A reader that reads nothing though there is more waits for no transaction.
                let gate = if unread > self.bound { Duration::ZERO } else { source.gate };
                // As of ticks that are not closed nothing moves.
                if still > self.bound + gate && !engine {
                    let rest = match end.unwrap_or(*done) - done {
                        _ if held_back => "what is behind it is held back by a transaction that its producer has not ended".into(),
                        more => format!("{more} before its end"),
                    };
                    let name = format!("{}/{partition}", source.name);
                    let (seconds, why) = (still.as_secs(), why(&source.trouble));
                    let text = format!("partition {partition} of source {} is at {done}, {rest}, and has not moved for {seconds} s{why}", source.name);
                    found.push(Stuck { code: "PARTITION_STUCK", name, text });
                }
            }
        }
        for writer in &seen.writers {
            let place = self.writers.entry(writer.name.clone()).or_insert_with(|| Still::new((writer.tick, writer.records), now));
            let still = place.look((writer.tick, writer.records), writer.tick >= seen.closed, now);
            if still > self.bound {
                let text = format!("what is closed was not written to {} for {} s{}", writer.name, still.as_secs(), why(&writer.trouble));
                found.push(Stuck { code: "SINK_STUCK", name: writer.name.clone(), text });
            }
        }
        found
    }
}

/// The thread that looks.
#[derive(Debug)]
pub struct Watchdog {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    /// `logs`: by process and source.
    pub fn start(plan: &Arc<Plan>, ledger: SharedLedger, logs: Vec<Vec<Arc<LogStatus>>>, written: Written, watched: Watched) -> Watchdog {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, plan) = (Arc::clone(&stop), Arc::clone(plan));
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
            let every = (plan.stuck_after / 8).min(Duration::from_secs(1));
            let mut awake = Awake::new(Instant::now(), 2 * every);
            let mut watch = Watch::new(plan.stuck_after, awake.counted);
            while !stopped.load(Ordering::Relaxed) {
                watched.turn(watch.look(&see(&plan, &ledger, &logs, &written), awake.at(Instant::now())));
                std::thread::park_timeout(every);
            }
        });
        Watchdog { stop, thread: thread.expect("the operating system starts a thread") }
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

fn see(plan: &Plan, ledger: &SharedLedger, logs: &[Vec<Arc<LogStatus>>], written: &Written) -> Seen {
    // While sources are read again for a changed dataflow no tick is closed, rightly.
    let (closed, rebuilding, hydrated, positions) = {
        let ledger = ledger.read();
        let rebuilding = !ledger.rebuilding().is_empty();
        (
            if rebuilding { 0 } else { ledger.as_of() },
            rebuilding,
            ledger.has_caught_up(),
            ledger.sources().iter().map(|source| (source.positions.clone(), source.replaying.is_some())).collect::<Vec<_>>(),
        )
    };
    let by_process = logs.iter().enumerate().flat_map(|(process, logs)| logs.iter().enumerate().map(move |(source, log)| (process, source, log)));
    let sources = by_process.map(|(process, source, log)| {
        let (declared, (closed, held)) = (&plan.sources[source], &positions[source]);
        let view = log.view();
        // While a backlog is read, what is ahead of other sources waits for them, however long that takes.
        let done = |partition: i32| closed.iter().find(|(p, _)| hydrated && *p == partition).map(|(_, next)| *next);
        let gates = plan.transactions.iter().filter(|group| group.log == source || group.members.iter().any(|m| m.source == source));
        SeenSource {
            name: if process == 0 { declared.name.clone() } else { format!("{} at process {process}", declared.name) },
            asked_ms: view.asked_ms,
            excused: log.ended() || log.waits_for_the_engine() || view.schema.as_ref().is_some_and(|schema| schema.refused),
            held: *held || rebuilding,
            gate: gates.map(|group| group.bound).max().unwrap_or_default(),
            trouble: view.trouble,
            // Of a partition of which no tick knows nothing was handed out, and what was read of it is what there was.
            // What goes through a gate is done up to its last message; an end of a transaction behind that is nobody's.
            partitions: view.partitions.iter().map(|p| (p.partition, done(p.partition).map_or(p.next, |at| p.reached(at)), p.next, p.end)).collect(),
            held_back: view.partitions.iter().filter(|p| p.is_held()).map(|p| p.partition).collect(),
            one_by_one: matches!(declared.log, LogSpec::Files(_)),
        }
    });
    let writers =
        written.all().map(|(name, status)| SeenWriter { name: name.to_string(), tick: status.tick(), records: status.records(), trouble: status.trouble() });
    Seen { closed, sources: sources.collect(), writers: writers.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    #[test]
    fn what_a_process_slept_itself_counts_for_nobody() {
        let (begin, s) = (Instant::now(), Duration::from_secs);
        let mut awake = Awake::new(begin, s(2));
        let counted: Vec<_> = [1, 2, 4, 60, 61].map(|at| (awake.at(begin + s(at)) - begin).as_secs()).into();
        assert_eq!(counted, [1, 2, 4, 6, 7]);
    }

    /// Looks once a second; what is stuck at the end, and at which second that was first so.
    fn stuck_after(seconds: u64, seen: impl Fn(u64) -> Seen) -> Vec<(u64, &'static str, String)> {
        let begin = Instant::now();
        let (mut watch, mut since, mut found) = (Watch::new(BOUND, begin), BTreeMap::new(), Vec::new());
        for second in 0..=seconds {
            found = watch.look(&seen(second), begin + Duration::from_secs(second));
            for stuck in &found {
                since.entry((stuck.code, stuck.name.clone())).or_insert(second);
            }
        }
        found.into_iter().map(|s| (since[&(s.code, s.name.clone())], s.code, s.name)).collect()
    }

    /// All moves: a source with two partitions of which the second is read to its end, and a writer.
    fn moving(second: u64) -> Seen {
        let at = second as i64 * 100;
        let source = SeenSource {
            name: "orders".into(),
            asked_ms: Some(at),
            partitions: vec![(0, at, at + 10, Some(at + 50)), (1, 7, 7, Some(7))],
            ..SeenSource::default()
        };
        Seen { closed: 1 + second, sources: vec![source], writers: vec![SeenWriter { name: "bus".into(), tick: second, ..SeenWriter::default() }] }
    }

    #[test]
    fn what_moves_or_is_idle_is_not_stuck() {
        assert_eq!(stuck_after(100, moving), []);
        let idle = |second| {
            let mut seen = moving(second);
            seen.sources[0].partitions = vec![(0, 3, 3, Some(3)), (1, 7, 7, None)];
            seen.writers[0].tick = seen.closed;
            seen
        };
        assert_eq!(stuck_after(100, idle), []);
    }

    /// A tick of millions of records is written in parts; those behind it wait, and the engine with them.
    #[test]
    fn who_writes_a_large_tick_is_not_stuck_nor_is_who_waits_for_it() {
        let large = |moves: u64| {
            move |second: u64| Seen {
                closed: 20,
                writers: vec![SeenWriter { name: "bus".into(), tick: 3, records: 10_000 * second.min(moves), trouble: None }],
                ..moving(second)
            }
        };
        assert_eq!(stuck_after(100, large(100)), []);
        assert_eq!(stuck_after(100, large(20)), [(31, "TICK_STUCK", "engine".into()), (31, "SINK_STUCK", "bus".into())]);
    }

    #[test]
    fn before_the_first_tick_nothing_is_stuck_but_what_reads() {
        let hydrating = |second| Seen { closed: 0, ..moving(second) };
        assert_eq!(stuck_after(100, hydrating), []);
    }

    #[test]
    fn each_thing_that_stands_still_is_named_after_the_bound() {
        let from = |second: u64| second.min(20);
        let engine = |second| Seen { closed: moving(from(second)).closed, ..moving(second) };
        assert_eq!(stuck_after(60, engine), [(31, "TICK_STUCK", "engine".into())]);
        let reader = |second| {
            let mut seen = moving(second);
            seen.sources = moving(from(second)).sources;
            seen
        };
        assert_eq!(stuck_after(60, reader), [(31, "READER_STUCK", "orders".into())]);
        let partition = |second| {
            let mut seen = moving(second);
            seen.sources[0].partitions[0] = (0, 2000, 2000, Some(2001));
            seen
        };
        assert_eq!(stuck_after(60, partition), [(11, "PARTITION_STUCK", "orders/0".into())]);
        let sink = |second| {
            let mut seen = moving(second);
            seen.writers[0].tick = from(second);
            seen
        };
        assert_eq!(stuck_after(60, sink), [(31, "SINK_STUCK", "bus".into())]);
    }

    #[test]
    fn what_is_held_on_purpose_is_not_stuck() {
        let held = |second: u64| {
            let mut seen = moving(second);
            seen.sources[0].partitions[0] = (0, 2000, 2000 + second as i64, Some(9000));
            seen.sources[0].held = second < 50;
            seen
        };
        assert_eq!(stuck_after(59, held), []);
        assert_eq!(stuck_after(70, held), [(60, "PARTITION_STUCK", "orders/0".into())]);
    }

    #[test]
    fn what_waits_for_the_rest_of_a_transaction_has_that_bound_too() {
        let waits = |second: u64| {
            let mut seen = moving(second);
            seen.sources[0].partitions[0] = (0, 2000, 9000, Some(9000));
            seen.sources[0].gate = Duration::from_secs(30);
            seen
        };
        assert_eq!(stuck_after(40, waits), []);
        assert_eq!(stuck_after(60, waits), [(41, "PARTITION_STUCK", "orders/0".into())]);
        // Who has not read it waits for nothing.
        let unread = |second: u64| {
            let mut seen = waits(second);
            seen.sources[0].partitions[0] = (0, 2000, 2000, Some(9000));
            seen
        };
        assert_eq!(stuck_after(40, unread), [(11, "PARTITION_STUCK", "orders/0".into())]);
    }

    #[test]
    fn what_a_producer_holds_back_is_no_end() {
        let held = |second: u64| {
            let mut seen = moving(second);
            seen.sources[0].held_back = if second < 40 { vec![1] } else { Vec::new() };
            seen
        };
        assert_eq!(stuck_after(39, held), [(11, "PARTITION_STUCK", "orders/1".into())]);
        assert_eq!(stuck_after(60, held), []);
    }

    #[test]
    fn of_files_only_the_one_whose_turn_it_is_can_be_stuck() {
        let files = |second: u64, until: u64| {
            let mut seen = moving(second);
            let at = second.min(until) as i64;
            seen.sources[0].partitions = vec![(0, at, at, Some(1000)), (1, 0, 0, Some(9))];
            seen.sources[0].one_by_one = true;
            seen
        };
        assert_eq!(stuck_after(60, |second| files(second, 1000)), []);
        assert_eq!(stuck_after(60, |second| files(second, 20)), [(31, "PARTITION_STUCK", "orders/0".into())]);
    }

    #[test]
    fn a_reader_that_waits_for_the_engine_is_not_stuck_and_gets_the_whole_bound_afterwards() {
        let aligned = |second| {
            let mut seen = moving(second);
            seen.sources = moving(0).sources;
            seen.sources[0].excused = second < 50;
            seen
        };
        assert_eq!(stuck_after(58, aligned), []);
        assert_eq!(stuck_after(70, aligned), [(60, "READER_STUCK", "orders".into())]);
    }

    #[test]
    fn what_moves_again_is_forgotten() {
        let held = |second: u64| {
            let mut seen = moving(second);
            seen.writers[0].tick = if second < 40 { 5 } else { second };
            seen
        };
        assert_eq!(stuck_after(39, held).len(), 1);
        assert_eq!(stuck_after(40, held), []);
    }
}
