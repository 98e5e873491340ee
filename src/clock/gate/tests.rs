//! Scripts by hand, and connectors at random: transactions over several tables and partitions, read in any order, with ranges
//! that are sent again, ends that are lost, and restarts from what was given out.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    clock::resent::{Look, Resent},
    engine::{MessageAt, Upstream},
    ledger::fixture,
    plan::{Member as PlanMember, Transactions},
};

const BOUND: i64 = 1000;

/// A plan with so many sources, and the log of transactions after them.
fn plan(sources: usize) -> Plan {
    let mut plan = fixture::plan();
    let source = plan.sources[0].clone();
    plan.sources = (0..=sources).map(|n| crate::plan::Source { name: format!("s{n}"), ..source.clone() }).collect();
    plan.sources[sources].name = "log".into();
    let members = (0..sources).map(|source| PlanMember { source, collection: format!("public.s{source}") }).collect();
    plan.transactions = vec![Transactions { log: sources, bound: Duration::from_millis(BOUND as u64), members }];
    plan
}

/// A message: of which transaction with which place, or of none; an end; a tombstone.
#[derive(Clone, Debug, PartialEq)]
enum Sent {
    Row,
    Part(u32, u64),
    Tombstone,
    Begin(u32),
    End(u32, Vec<u64>),
    /// With its time, a second later for each transaction.
    EndAt(u32, Vec<u64>),
}

impl Sent {
    fn value(&self) -> Option<String> {
        Some(match self {
            Sent::Row => r#"{"op":"r","transaction":null}"#.to_string(),
            // As PostgreSQL has it, each record with its own LSN.
            Sent::Part(id, order) => {
                let at = 1000 * u64::from(*id) + order;
                let source = format!(
                    r#"{{"connector":"postgresql","name":"db","ts_ms":{0},"snapshot":"false","sequence":"[\"{0}\",\"{at}\"]","table":"t","txId":{id}}}"#,
                    1000 * id
                );
                format!(r#"{{"op":"c","source":{source},"transaction":{{"id":"{id}:{at}","total_order":{order}}}}}"#)
            }
            Sent::Tombstone => return None,
            Sent::Begin(id) => format!(r#"{{"status":"BEGIN","id":"{id}:1","event_count":null,"data_collections":null}}"#),
            Sent::End(id, counts) => end(*id, counts, ""),
            Sent::EndAt(id, counts) => end(*id, counts, &format!(r#""ts_ms":{},"#, 1000 * id)),
        })
    }
}

fn end(id: u32, counts: &[u64], time: &str) -> String {
    let of = |(n, count): (usize, &u64)| format!(r#"{{"data_collection":"public.s{n}","event_count":{count}}}"#);
    let counts: Vec<String> = counts.iter().enumerate().filter(|(_, n)| **n > 0).map(of).collect();
    format!(r#"{{"status":"END","id":"{id}:999",{time}"event_count":1,"data_collections":[{}]}}"#, counts.join(","))
}

/// Messages of one partition from a position on, as a chunk.
fn chunk(source: SourceId, partition: i32, from: usize, sent: &[Sent]) -> Chunk {
    let (mut bytes, mut index) = (Vec::new(), Vec::new());
    for (n, one) in sent.iter().enumerate() {
        let (start, value) = (bytes.len() as u32, one.value());
        bytes.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
        let value_len = value.map(|value| value.len() as u32);
        index.push(MessageAt { start, key_len: None, value_len, offset: (from + n) as i64, timestamp: None });
    }
    Chunk { source, partition, payload: Payload::Messages { bytes, index }, source_time: None, next: (from + sent.len()) as i64 }
}

/// A gate with logs of one partition each, fed by hand.
struct Hand {
    gate: Gate,
    sent: Vec<Vec<Sent>>,
    now: i64,
    /// Source, position, and whether it was marked.
    given: Vec<(SourceId, i64, bool)>,
    last: Batch,
}

impl Hand {
    fn new(sources: usize) -> Hand {
        let mut gate = Gate::new(&plan(sources), 0);
        (0..=sources).for_each(|source| gate.partitions(source, 1, std::iter::empty()));
        Hand { gate, sent: vec![Vec::new(); sources + 1], now: 0, given: Vec::new(), last: Batch::default() }
    }

    fn feed(&mut self, source: SourceId, sent: &[Sent]) -> &mut Hand {
        let from = self.sent[source].len();
        self.gate.feed(chunk(source, 0, from, sent), self.now, false);
        self.sent[source].extend_from_slice(sent);
        self.release()
    }

    fn wait(&mut self, ms: i64) -> &mut Hand {
        self.now += ms;
        self.release()
    }

    fn release(&mut self) -> &mut Hand {
        while let Some(batch) = self.gate.release(self.now, false) {
            for piece in &batch.pieces {
                queue::each(&piece.chunk.payload, |_, _, next| self.given.push((piece.chunk.source, next - 1, piece.incomplete.is_some())));
            }
            self.last = batch;
        }
        self
    }

    /// What was given out since this was asked last.
    fn gives(&mut self, expected: &[(SourceId, i64, bool)]) -> &mut Hand {
        let mut given = std::mem::take(&mut self.given);
        given.sort_unstable();
        assert_eq!(given, expected);
        self
    }
}

use Sent::{Begin, End, EndAt, Part, Row, Tombstone};

#[test]
fn a_transaction_goes_on_when_all_of_it_is_there() {
    let mut hand = Hand::new(2);
    hand.feed(0, &[Row, Part(7, 1), Tombstone, Row]).gives(&[(0, 0, false)]);
    hand.feed(2, &[Begin(7), End(7, vec![1, 1])]).gives(&[]);
    assert_eq!(hand.last.positions, [(0, 1)], "its end is read again after a restart");
    assert_eq!((hand.gate.held_transactions(), hand.gate.held_of(0) > 0, hand.gate.held_of(1)), (1, true, 0));
    hand.feed(1, &[Part(7, 2)]).gives(&[(0, 1, false), (0, 2, false), (0, 3, false), (1, 0, false)]);
    assert_eq!(hand.last.positions, [(0, 2)]);
    assert_eq!((hand.gate.held_transactions(), hand.gate.held_bytes()), (0, 0));
}

#[test]
fn what_is_given_out_together_is_one_batch_only() {
    let mut hand = Hand::new(2);
    hand.gate.feed(chunk(0, 0, 0, &[Part(1, 1), Part(2, 1)]), 0, false);
    hand.gate.feed(chunk(1, 0, 0, &[Part(1, 2), Part(2, 2)]), 0, false);
    hand.gate.feed(chunk(2, 0, 0, &[End(1, vec![1, 1])]), 0, false);
    let batch = hand.gate.release(0, false).unwrap();
    assert_eq!(batch.pieces.len(), 2);
    assert!(batch.pieces.iter().all(|piece| piece.chunk.next == 1));
    assert!(hand.gate.release(0, false).is_none());
}

#[test]
fn an_end_without_rows_that_anybody_follows_holds_nothing() {
    let mut hand = Hand::new(1);
    hand.feed(1, &[Begin(1), End(1, vec![0]), Begin(2), Begin(3), End(3, vec![0, 5])]).gives(&[]);
    assert_eq!(hand.last.positions, [(0, 5)]);
}

#[test]
fn a_transaction_whose_rows_are_lost_goes_on_when_its_partition_does() {
    let mut hand = Hand::new(1);
    // Its second row was compacted away.
    hand.feed(0, &[Part(1, 1)]).feed(1, &[End(1, vec![2]), End(2, vec![1])]).gives(&[]);
    hand.feed(0, &[Part(2, 1)]).gives(&[(0, 0, false), (0, 1, false)]);
    assert!(hand.gate.news().is_empty());
}

#[test]
fn what_is_late_goes_on_marked_until_the_rest_has_come() {
    let mut hand = Hand::new(2);
    hand.feed(0, &[Part(1, 1), Row]).feed(2, &[End(1, vec![1, 2])]).wait(BOUND - 1).gives(&[]);
    hand.wait(1).gives(&[(0, 0, true), (0, 1, false)]);
    let name: Arc<str> = "log/1".into();
    let seen = vec![("s0".to_string(), 1, Some(1)), ("s1".to_string(), 0, Some(2))];
    assert_eq!(hand.gate.news(), [News::Incomplete { name: name.clone(), why: Why::Bound, seen }]);
    let stands = Incomplete {
        group: 0,
        id: "1".into(),
        seen: vec![(0, vec![(1, 1)])],
        partitions: vec![(0, 0)],
        end: Some((1, vec![(0, 1), (1, 2)])),
        time: Some(1000),
        ..Incomplete::default()
    };
    assert_eq!(hand.last.incomplete, [stands]);
    hand.feed(1, &[Part(1, 2)]).gives(&[(1, 0, true)]);
    assert_eq!(hand.last.incomplete[0].seen, [(0, vec![(1, 1)]), (1, vec![(2, 2)])]);
    // After a restart it is known still.
    let standing = hand.last.incomplete.clone();
    let mut after = Hand::new(2);
    after.gate.resume(&standing);
    for hand in [&mut hand, &mut after] {
        hand.feed(1, &[Part(1, 3)]);
        assert!(hand.given.last().is_some_and(|given| given.2), "the last row is marked, and nothing stands any more");
        assert!(hand.last.incomplete.is_empty());
        assert_eq!(hand.gate.news(), [News::Settled { name: name.clone() }]);
    }
}

#[test]
fn a_lost_end_is_a_doubt_until_later_ones_have_come() {
    let mut hand = Hand::new(1);
    hand.feed(0, &[Part(1, 1)]).wait(BOUND).gives(&[(0, 0, true)]);
    assert_eq!(hand.last.incomplete.len(), 1);
    hand.feed(0, &[Part(2, 1)]).gives(&[]);
    hand.feed(1, &[End(2, vec![1])]).gives(&[(0, 1, false)]);
    assert!(hand.last.incomplete.is_empty());
}

#[test]
fn what_is_older_than_the_log_reaches_back_is_not_waited_for() {
    let mut hand = Hand::new(1);
    let value = |ms: i64| format!(r#"{{"op":"c","source":{{"ts_ms":{ms}}},"transaction":{{"id":"{ms}:1","total_order":1}}}}"#);
    let lines = [9, 10_000].map(|ms| value(ms) + "\n").concat().into_bytes();
    let (first, next) = (value(9).len() as i64 + 1, lines.len() as i64);
    hand.gate.feed(Chunk { source: 0, partition: 0, payload: Payload::Lines { bytes: lines, offset: 0 }, source_time: None, next }, 0, false);
    assert!(hand.gate.release(0, false).is_none());
    // The later one is not a minute older: of MariaDB that may be a statement of a transaction that ended behind this end.
    let end = br#"{"status":"END","id":"3:1","data_collections":[],"ts_ms":60010}"#.to_vec();
    hand.gate.feed(Chunk { source: 1, partition: 0, payload: Payload::Lines { bytes: end, offset: 0 }, source_time: None, next: 1 }, 0, false);
    let batch = hand.gate.release(0, false).unwrap();
    assert_eq!(batch.pieces.iter().map(|piece| piece.chunk.next).collect::<Vec<_>>(), [first]);
}

#[test]
fn a_partition_without_any_message_keeps_no_doubt() {
    let mut hand = Hand::new(1);
    // A transform has dropped the second row, and the second partition is empty.
    hand.gate.partitions(0, 2, std::iter::empty());
    hand.feed(0, &[Part(1, 1)]).feed(1, &[End(1, vec![2]), End(2, vec![1])]).wait(BOUND);
    hand.feed(0, &[Part(2, 1)]);
    assert_eq!(hand.last.incomplete.len(), 1, "the second partition may not have been read");
    hand.gate.partitions(0, 2, [1].into_iter());
    hand.feed(0, &[Row]);
    assert!(hand.last.incomplete.is_empty());
}

#[test]
fn who_reads_a_backlog_is_not_late() {
    let mut hand = Hand::new(2);
    hand.feed(0, &[Part(1, 1)]).feed(2, &[End(1, vec![1, 1])]);
    for n in 0..5 {
        hand.now += BOUND - 1;
        hand.gate.feed(chunk(1, 0, n, &[Row]), hand.now, true);
        hand.release();
    }
    hand.given.clear();
    hand.gate.feed(chunk(1, 0, 5, &[Part(1, 2)]), hand.now, true);
    hand.release().gives(&[(0, 0, false), (1, 5, false)]);
}

/// Messages of a log, as lines.
fn lines(source: SourceId, from: i64, values: &[String]) -> Chunk {
    let bytes: Vec<u8> = values.iter().flat_map(|value| format!("{value}\n").into_bytes()).collect();
    let next = from + bytes.len() as i64;
    Chunk { source, partition: 0, payload: Payload::Lines { bytes, offset: from }, source_time: None, next }
}

/// An event of a transaction, and its end, at the second of its number.
fn timed(id: i64, order: u64) -> String {
    format!(r#"{{"op":"c","source":{{"ts_ms":{}}},"transaction":{{"id":"{id}:1","total_order":{order}}}}}"#, id * 1000)
}

fn timed_end(id: i64, counts: &[u64]) -> String {
    let of = |(n, count): (usize, &u64)| format!(r#"{{"data_collection":"public.s{n}","event_count":{count}}}"#);
    let counts: Vec<String> = counts.iter().enumerate().map(of).collect();
    format!(r#"{{"status":"END","id":"{id}:9","ts_ms":{},"data_collections":[{}]}}"#, id * 1000, counts.join(","))
}

impl Hand {
    fn feed_lines(&mut self, source: SourceId, values: &[String]) -> &mut Hand {
        let from = self.sent[source].len() as i64;
        let chunk = lines(source, from, values);
        self.sent[source].resize(chunk.next as usize, Row);
        self.gate.feed(chunk, self.now, false);
        self.release()
    }

    /// What stands for many, as of the newest batch.
    fn rest(&self) -> Option<&Rest> {
        self.last.incomplete.iter().find_map(|one| one.rest.as_ref())
    }
}

const OLDER: &str = "log/older";

/// Of 300 transactions one source has its row, the other stands.
fn one_stands() -> Hand {
    let mut hand = Hand::new(2);
    for id in 1..=300 {
        hand.feed_lines(0, &[timed(id, 1)]).feed_lines(2, &[timed_end(id, &[1, 1])]).wait(BOUND);
    }
    assert!(hand.gate.open.len() <= 101 && hand.last.incomplete.len() == 101, "{} {}", hand.gate.open.len(), hand.last.incomplete.len());
    assert_eq!(hand.rest(), Some(&Rest { count: 200, since: 1000, upto: 200_000, lacking: vec![(0, 0), (1, 200)], endless: false }));
    let told: Vec<News> = hand.gate.news().into_iter().filter(|news| matches!(news, News::Many { .. })).collect();
    assert_eq!(told, [News::Many { name: OLDER.into(), stands: true }]);
    hand.given.clear();
    hand
}

#[test]
fn of_many_that_stand_the_oldest_are_kept_as_one() {
    let mut hand = one_stands();
    let mut after = Hand::new(2);
    after.gate.resume(&hand.last.incomplete);
    assert_eq!(after.gate.incomplete(), hand.last.incomplete, "after a restart it is known still");
    for hand in [&mut hand, &mut after] {
        let rows: Vec<String> = (1..=300).map(|id| timed(id, 2)).collect();
        hand.feed_lines(1, &rows[..199]);
        assert_eq!(hand.rest().unwrap().lacking, [(0, 0), (1, 1)]);
        hand.feed_lines(1, &rows[199..]);
        assert_eq!((hand.given.len(), hand.given.iter().filter(|given| given.2).count()), (300, 100), "these are marked, the others are not");
        assert!(hand.last.incomplete.is_empty(), "{:?}", hand.last.incomplete);
        assert!(hand.gate.news().contains(&News::Many { name: OLDER.into(), stands: false }));
    }
}

#[test]
fn the_rest_of_many_is_not_waited_for_in_what_has_gone_on() {
    let mut hand = one_stands();
    // A minute and more beyond.
    hand.feed_lines(1, &[timed(259, 2)]);
    assert!(hand.rest().is_some());
    hand.feed_lines(1, &[timed(261, 2)]);
    assert!(hand.rest().is_none());
    assert_eq!(hand.last.incomplete.len(), 300 - 261, "behind which it has not come");
}

#[test]
fn many_without_ends_stand_until_the_log_has_gone_on() {
    let mut hand = Hand::new(2);
    for id in 1..=300 {
        hand.feed_lines(0, &[timed(id, 1)]).wait(BOUND);
    }
    assert_eq!(hand.rest(), Some(&Rest { count: 200, since: i64::MIN, upto: 200_000, lacking: vec![(0, -200)], endless: true }));
    // The other source has rows of two of them.
    hand.feed_lines(1, &[timed(5, 2), timed(7, 2)]).wait(BOUND);
    assert_eq!(hand.rest().unwrap().lacking, [(0, -200), (1, -2)], "they are the oldest that stand");
    for id in 1..=260 {
        hand.feed_lines(2, &[timed_end(id, &[1, u64::from(id == 5 || id == 7)])]);
        assert!(hand.rest().is_some(), "{id}");
    }
    hand.feed_lines(2, &[timed_end(261, &[1])]);
    assert!(hand.rest().is_none());
}

#[test]
fn heartbeats_wait_for_what_came_before_them() {
    let mut hand = Hand::new(1);
    let beat = |next| Chunk { source: 0, partition: 0, payload: Payload::Heartbeat(9), source_time: Some(9), next };
    hand.feed(0, &[Part(1, 1)]);
    hand.gate.feed(beat(1), 0, false);
    assert!(hand.gate.release(0, false).is_none());
    hand.gate.feed(chunk(1, 0, 0, &[End(1, vec![1])]), 0, false);
    let batch = hand.gate.release(0, false).unwrap();
    assert!(matches!(batch.pieces.last(), Some(Piece { chunk: Chunk { payload: Payload::Heartbeat(9), next: 1, .. }, .. })));
}

#[test]
fn a_source_is_read_on_only_for_what_others_wait_for() {
    let mut hand = Hand::new(2);
    let many: Vec<Sent> = (0..100_000).map(|n| Part(1, n + 1)).collect();
    for n in 0..2 {
        hand.gate.feed(chunk(0, 0, n * many.len(), &many), 0, false);
    }
    assert!(hand.gate.held_bytes() > SOURCE_BYTES);
    assert!(hand.gate.takes(0) && hand.gate.takes(1) && hand.gate.takes(2), "more of the transaction at the head");
    hand.gate.feed(chunk(0, 0, 2 * many.len(), &[Part(2, 1)]), 0, false);
    assert!(!hand.gate.takes(0) && hand.gate.takes(1) && hand.gate.takes(2), "the partition has gone on");
}

/// What a connector wrote: by source and partition, and the log of transactions.
#[derive(Debug)]
struct World {
    sources: usize,
    logs: BTreeMap<(SourceId, i32), Vec<Sent>>,
    /// By transaction: its events.
    truth: BTreeMap<u32, u64>,
    /// Ends that were never written.
    lost: Vec<u32>,
}

/// A transaction: its events (source, partition), rows of none beside it, whether its end is lost, and how many transactions
/// are sent again after so many of its events.
type Drawn = (Vec<(usize, i32)>, Vec<(usize, i32)>, bool, Option<(usize, usize)>);

fn world(sources: usize, drawn: &[Drawn], may_lose: bool) -> World {
    let mut world = World { sources, logs: BTreeMap::new(), truth: BTreeMap::new(), lost: Vec::new() };
    // What is older than the first end passes; so no end has a time where some are lost.
    if !may_lose {
        world.logs.insert((sources, 0), vec![EndAt(0, Vec::new())]);
    }
    let mut written: Vec<(u32, &Drawn)> = Vec::new();
    let send = |world: &mut World, id: u32, one: &Drawn, upto: usize| {
        let (events, rows, lost, _) = one;
        world.logs.entry((sources, 0)).or_default().push(Begin(id));
        let mut counts = vec![0; sources];
        for (n, (source, partition)) in events.iter().enumerate() {
            if n == upto {
                return;
            }
            counts[*source] += 1;
            world.logs.entry((*source, *partition)).or_default().push(Part(id, n as u64 + 1));
            if n % 3 == 2 {
                world.logs.entry((*source, *partition)).or_default().push(Tombstone);
            }
        }
        for (source, partition) in rows {
            world.logs.entry((*source, *partition)).or_default().push(Row);
        }
        if !(*lost && may_lose) {
            world.logs.entry((sources, 0)).or_default().push(if may_lose { End(id, counts) } else { EndAt(id, counts) });
        }
    };
    for (n, one) in drawn.iter().enumerate() {
        let id = n as u32 + 1;
        world.truth.insert(id, one.0.len() as u64);
        if one.2 && may_lose {
            world.lost.push(id);
        }
        written.push((id, one));
        if let Some((after, again)) = one.3 {
            // The connector dies within it, and comes back some transactions before.
            send(&mut world, id, one, after.min(one.0.len()));
            for (id, one) in &written[written.len().saturating_sub(again + 1)..written.len() - 1] {
                send(&mut world, *id, one, usize::MAX);
            }
        }
        send(&mut world, id, one, usize::MAX);
    }
    world
}

/// Reads a world in the order of `steps`, through what holds ranges that are sent again and a gate; checks after each batch
/// that whatever is shown is whole or marked, and that no partition shows anything older than it had shown. So many incomplete
/// transactions are kept each. Gives the transactions that were ever marked.
fn read(world: &World, steps: &[(usize, usize, u8)], ms_a_step: i64, standing_max: usize) -> Result<BTreeSet<u32>, TestCaseError> {
    let plan = plan(world.sources);
    let new = || Gate { standing_max, ..Gate::new(&plan, 0) };
    let keys: Vec<(SourceId, i32)> = world.logs.keys().copied().collect();
    let partitions = |gate: &mut Gate| {
        for source in 0..=world.sources {
            gate.partitions(source, keys.iter().filter(|key| key.0 == source).count(), std::iter::empty());
        }
    };
    let holds = |saved: &dyn Fn(usize) -> Vec<Upstream>| -> Vec<Resent> {
        (0..world.sources).map(|source| Resent::new(&plan.sources[source], true, &saved(source)).expect("its messages have positions")).collect()
    };
    let (mut gate, mut held) = (new(), holds(&|_| Vec::new()));
    partitions(&mut gate);
    let mut newest: BTreeMap<(SourceId, i32), (u32, u64)> = BTreeMap::new();
    let (mut now, mut marked) = (0, BTreeSet::new());
    // Read, and given out.
    let mut read: BTreeMap<(SourceId, i32), usize> = keys.iter().map(|key| (*key, 0)).collect();
    let mut given = read.clone();
    let mut standing: Vec<Incomplete> = Vec::new();
    let mut shown: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    let tail: Vec<(usize, usize, u8)> = (0..keys.len()).map(|at| (at, usize::MAX, 1)).chain([(0, 0, 4)]).chain((0..4).map(|_| (0, 0, 2))).collect();
    for (at, len, what) in steps.iter().chain(&tail) {
        now += ms_a_step;
        let key = keys[at % keys.len()];
        let from = read[&key];
        let upto = from.saturating_add(*len).min(world.logs[&key].len());
        if from < upto {
            let chunk = chunk(key.0, key.1, from, &world.logs[&key][from..upto]);
            match held.get_mut(key.0) {
                Some(held) => held.offer(chunk, Look { now, whole: true, hold: true }, |one| gate.feed_again(one.chunk, now, false, &one.copies)),
                None => gate.feed(chunk, now, false),
            }
            read.insert(key, upto);
        }
        if *what == 4 {
            // Copies of the very last change may still be waited for.
            held.iter_mut().for_each(|held| held.settle(now + 1000, true, true, |one| gate.feed_again(one.chunk, now, false, &one.copies)));
            prop_assert!(held.iter().all(Resent::is_empty));
        }
        if *what == 2 {
            now += BOUND;
        }
        while let Some(batch) = if *what > 0 { gate.release(now, false) } else { None } {
            for piece in &batch.pieces {
                let key = (piece.chunk.source, piece.chunk.partition);
                prop_assert_eq!(given[&key] as i64, super::super::replay::first(&piece.chunk), "each message once, in order");
                given.insert(key, piece.chunk.next as usize);
                held[key.0].hand_out(&piece.chunk);
                queue::each(&piece.chunk.payload, |_, _, next| {
                    if let Part(id, order) = world.logs[&key][next as usize - 1] {
                        shown.entry(id).or_default().insert(order);
                    }
                });
            }
            for key in batch.pieces.iter().map(|piece| (piece.chunk.source, piece.chunk.partition)) {
                let parts = || world.logs[&key][..given[&key]].iter().filter_map(|sent| if let Part(id, order) = sent { Some((*id, *order)) } else { None });
                let greatest = *newest
                    .entry(key)
                    .and_modify(|newest| *newest = (*newest).max(parts().max().unwrap_or_default()))
                    .or_insert_with(|| parts().max().unwrap_or_default());
                prop_assert_eq!(parts().next_back().unwrap_or_default(), greatest, "{:?} shows something older", key);
            }
            for (partition, next) in &batch.positions {
                given.insert((world.sources, *partition), *next as usize);
            }
            standing = batch.incomplete;
            let idle = gate.standing.iter().filter(|id| gate.open[*id].held == 0).count();
            prop_assert!(gate.standing.len() <= standing_max || idle == 0, "{} of {} are kept", idle, gate.standing.len());
            marked.extend(standing.iter().filter_map(|one| one.id.parse::<u32>().ok()));
            let rest = standing.iter().find_map(|one| one.rest.as_ref());
            for (id, orders) in &shown {
                let whole = orders.len() as u64 == world.truth[id] || rest.is_some_and(|rest| 1000 * i64::from(*id) <= rest.upto);
                prop_assert!(whole || standing.iter().any(|one| one.id == id.to_string()), "transaction {} is shown in part", id);
            }
        }
        if *what == 3 {
            // A restart from what was given out.
            gate = new();
            gate.resume(&standing);
            partitions(&mut gate);
            held = holds(&|source| held[source].saved());
            read.clone_from(&given);
        }
    }
    for (key, sent) in &world.logs {
        prop_assert_eq!(given[key], sent.len(), "all of {:?} is given out", key);
    }
    Ok(marked)
}

fn place() -> impl Strategy<Value = (usize, i32)> {
    (0..3usize, 0..2i32)
}

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let lost = prop::bool::weighted(0.1);
    vec((vec(place(), 1..6), vec(place(), 0..2), lost, prop::option::weighted(0.15, (0..5usize, 0..4usize))), 1..25)
}

fn steps(restarts: bool) -> impl Strategy<Value = Vec<(usize, usize, u8)>> {
    let what = prop_oneof![3 => Just(0u8), 6 => Just(1u8), 1 => Just(if restarts { 3 } else { 1 })];
    vec((0..7usize, 0..12usize, what), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Nothing is lost and nobody is late: every transaction is shown whole, in one batch, whatever is read when.
    #[test]
    fn a_transaction_is_shown_whole(drawn in drawn(), steps in steps(false)) {
        let marked = read(&world(3, &drawn, false), &steps, 0, rest::STANDING)?;
        prop_assert!(marked.is_empty(), "{:?}", marked);
    }

    /// Ends are lost, the gate is killed, time passes: what is shown in part is marked, and everything goes on.
    #[test]
    fn what_is_shown_in_part_is_marked(drawn in drawn(), steps in steps(true), ms in 0..200i64, kept in 1..4usize) {
        // A restart forgets what was whole; together with ranges that are sent again, and time that passes, that can mislead:
        // see decision 0010.
        let once: Vec<Drawn> = drawn.iter().map(|(events, rows, lost, _)| (events.clone(), rows.clone(), *lost, None)).collect();
        read(&world(3, &once, true), &steps, ms, rest::STANDING)?;
        let running: Vec<_> = steps.iter().map(|(at, len, what)| (*at, *len, if *what == 3 { 1 } else { *what })).collect();
        read(&world(3, &drawn, true), &running, ms, rest::STANDING)?;
        // Where ends are lost, too, a row of one of them may be taken for a lacking one.
        read(&world(3, &once, false), &running, ms, kept)?;
        read(&world(3, &drawn, false), &steps, 0, rest::STANDING)?;
    }
}
