//! Scripts by hand, and connectors at random: overlapping transactions in several partitions, crashes after which ranges are
//! sent again, chunks cut anywhere, restarts from what was handed out.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    engine::MessageAt,
    format::{testing::source, upstream::Position},
};

const NONE: [i64; 0] = [];

/// A change: where it stands in the database's log and in the stream, and of which key.
#[derive(Clone, Copy, Debug)]
struct Sent {
    position: Position,
    time: i64,
    /// Its place among all changes, each counted once.
    number: usize,
    key: u8,
}

fn value(sent: &Sent) -> String {
    let Position { order, at, transaction, .. } = sent.position;
    let order = if order == 0 { "null".into() } else { format!(r#"\"{order}\""#) };
    format!(
        r#"{{"op":"u","after":{{"id":{}}},"source":{{"connector":"postgresql","name":"db","ts_ms":{},"snapshot":"false","sequence":"[{order},\"{at}\"]","table":"t","txId":{transaction}}}}}"#,
        sent.key, sent.time
    )
}

/// Messages of a partition from an offset on; nothing is a tombstone.
fn chunk(partition: i32, from: usize, sent: &[Option<Sent>]) -> Chunk {
    let (mut bytes, mut index) = (Vec::new(), Vec::new());
    for (n, one) in sent.iter().enumerate() {
        let (start, value) = (bytes.len() as u32, one.as_ref().map(value));
        bytes.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
        index.push(MessageAt { start, key_len: None, value_len: value.map(|v| v.len() as u32), offset: (from + n) as i64, timestamp: None });
    }
    Chunk { source: 0, partition, payload: Payload::Messages { bytes, index }, source_time: None, next: (from + sent.len()) as i64 }
}

fn resent(gated: bool, saved: &[Upstream]) -> Resent {
    Resent::new(&source("debezium-json", "id bigint", "id"), gated, saved).expect("a format with positions")
}

/// A change alone in its transaction, at a position, with a time.
fn at(place: u64, time: i64) -> Option<Sent> {
    Some(Sent { position: Position { order: place, at: place, transaction: place, ..Position::default() }, time, number: 0, key: place as u8 })
}

/// One partition, fed by hand.
struct Hand {
    resent: Resent,
    next: usize,
    now: i64,
    look: Look,
}

impl Hand {
    fn new() -> Hand {
        Hand { resent: resent(false, &[]), next: 0, now: 0, look: Look { now: 0, whole: true, hold: true } }
    }

    /// Feeds changes at these positions, and tells at which offsets something goes on.
    fn feed(&mut self, places: &[u64]) -> Vec<i64> {
        let sent: Vec<Option<Sent>> = places.iter().map(|place| at(*place, *place as i64)).collect();
        self.feed_all(&sent)
    }

    fn feed_all(&mut self, sent: &[Option<Sent>]) -> Vec<i64> {
        let chunk = chunk(0, self.next, sent);
        self.next += sent.len();
        let mut given = Vec::new();
        self.resent.offer(chunk, Look { now: self.now, ..self.look }, |one| given.extend(offsets(&one.chunk)));
        given
    }
}

fn offsets(chunk: &Chunk) -> Vec<i64> {
    let mut all = Vec::new();
    queue::each(&chunk.payload, |_, _, next| all.push(next - 1));
    all
}

#[test]
fn a_range_goes_on_when_its_end_has_come() {
    let mut hand = Hand::new();
    assert_eq!(hand.feed(&[10, 20, 30, 40]), [0, 1, 2, 3]);
    // It begins in the middle of a chunk.
    assert_eq!(hand.feed(&[50, 20]), [4]);
    hand.now = 300;
    assert_eq!(hand.feed(&[30]), NONE);
    assert_eq!((hand.resent.since(), hand.resent.held().0), (Some(0), 2));
    assert_eq!(hand.feed(&[40]), NONE);
    // The newest alone would do; what follows in its chunk goes with it.
    assert_eq!(hand.feed(&[50, 60]), [5, 6, 7, 8, 9]);
    assert_eq!(hand.resent.news(), [News::Began, News::Ended { copies: 4, ms: 300 }]);
    assert_eq!((hand.resent.since(), hand.resent.held()), (None, (0, 0)));
    assert_eq!(hand.feed(&[70]), [10]);
}

#[test]
fn a_range_within_a_chunk_is_not_held() {
    let mut hand = Hand::new();
    assert_eq!(hand.feed(&[10, 20, 30, 20, 30, 40]), [0, 1, 2, 3, 4, 5]);
    assert_eq!(hand.resent.news(), [News::Ended { copies: 2, ms: 0 }]);
}

#[test]
fn a_connector_that_dies_again_within_a_range_opens_no_other() {
    let mut hand = Hand::new();
    hand.feed(&[10, 20, 30, 40]);
    for places in [&[20, 30][..], &[10, 20, 30], &[30]] {
        assert_eq!(hand.feed(places), NONE);
    }
    assert_eq!(hand.feed(&[40]).len(), 7);
}

#[test]
fn what_is_equal_does_not_go_back() {
    let mut hand = Hand::new();
    // Rows of one COPY stand at one place.
    assert_eq!(hand.feed(&[10, 20, 20, 20]), [0, 1, 2, 3]);
    assert_eq!(hand.feed(&[20]), [4]);
    assert_eq!(hand.feed(&[10, 20]), NONE);
    // As many must come again.
    assert_eq!(hand.feed(&[20, 20]), NONE);
    assert_eq!(hand.feed(&[20]), [5, 6, 7, 8, 9]);
}

#[test]
fn a_copy_of_the_newest_alone_is_not_waited_for_twice() {
    let mut hand = Hand::new();
    hand.feed(&[10, 20]);
    // It may as well be another row of a COPY.
    assert_eq!(hand.feed(&[20]), [2]);
    assert_eq!(hand.feed(&[10, 20]), NONE);
    let mut given = Vec::new();
    hand.resent.settle(499, true, true, |one| given.push(one.copies));
    assert!(given.is_empty());
    hand.resent.settle(500, true, true, |one| given.push(one.copies));
    assert_eq!(given, [[(3, 4)]]);
    assert_eq!(hand.feed(&[30]), [5]);
}

/// The same messages, sent at these times of the broker.
fn stamped(mut chunk: Chunk, stamps: &[i64]) -> Chunk {
    let Payload::Messages { index, .. } = &mut chunk.payload else { panic!("it has messages") };
    index.iter_mut().zip(stamps).for_each(|(at, stamp)| at.timestamp = Some(*stamp));
    chunk
}

#[test]
fn a_few_that_were_sent_twice_are_not_waited_for_long() {
    let mut hand = Hand::new();
    hand.feed(&[10, 20, 30, 40]);
    hand.now = 100;
    assert_eq!(hand.feed(&[20]), NONE);
    let mut given = Vec::new();
    let mut settle = |hand: &mut Hand, now, idle| {
        hand.resent.settle(now, idle, true, |one| given.push(one.copies));
        std::mem::take(&mut given)
    };
    assert!(settle(&mut hand, 5099, true).is_empty() && settle(&mut hand, 9000, false).is_empty());
    assert_eq!(settle(&mut hand, 5100, true), [[(4, 4)]]);
    assert_eq!(hand.resent.news(), [News::Began, News::Released { why: Why::Few, held: 1, ms: 5000 }]);
    // Were it a connector after all, the rest of its range is one again.
    assert_eq!(hand.feed(&[30]), NONE);
    assert_eq!(hand.feed(&[40, 50]), [5, 6, 7]);
    // Many are a range.
    hand.feed(&(51..200).collect::<Vec<u64>>());
    assert_eq!(hand.feed(&(60..161).collect::<Vec<u64>>()), NONE);
    assert!(settle(&mut hand, 100_000, true).is_empty());
}

#[test]
fn what_has_another_time_of_the_broker_was_sent_again() {
    for (stamp, ends) in [(2, true), (4, true), (5, false)] {
        let mut hand = Hand::new();
        let offer = |resent: &mut Resent, chunk: Chunk| {
            let mut given = Vec::new();
            resent.offer(chunk, hand.look, |one| given.extend(offsets(&one.chunk)));
            given
        };
        let sent = [at(10, 10), at(20, 20), at(30, 30), at(40, 40)];
        assert_eq!(offer(&mut hand.resent, stamped(chunk(0, 0, &sent), &[1, 2, 3, 4])).len(), 4);
        // Another partition is later.
        assert_eq!(offer(&mut hand.resent, stamped(chunk(1, 0, &[at(35, 35)]), &[9])).len(), 1);
        assert_eq!(offer(&mut hand.resent, stamped(chunk(0, 4, &[at(20, 20)]), &[stamp])), NONE);
        hand.resent.settle(50_000, true, true, |_| {});
        assert_eq!(hand.resent.since().is_none(), ends, "{stamp}");
    }
}

#[test]
fn after_the_bound_it_goes_on_as_it_comes() {
    let mut hand = Hand::new();
    hand.feed(&[10, 20, 30]);
    hand.now = 5;
    assert_eq!(hand.feed(&[10]), NONE);
    let mut given = Vec::new();
    hand.resent.give_up(Why::Bound, 1005, true, |one| {
        assert!(one.copies.is_empty(), "nobody knows what it is");
        given.extend(offsets(&one.chunk));
    });
    assert_eq!(given, [3]);
    assert_eq!(hand.resent.news(), [News::Began, News::Released { why: Why::Bound, held: 1, ms: 1000 }]);
    assert_eq!(hand.feed(&[20]), [4]);
    assert_eq!(hand.feed(&[10]), NONE, "from where it was let go");
}

#[test]
fn positions_of_another_database_begin_anew() {
    let mut hand = Hand::new();
    assert_eq!(hand.feed_all(&[at(100, 7), at(110, 9)]), [0, 1]);
    // As old as what came: it may be a copy. Later than all that came: it is none.
    assert_eq!(hand.feed_all(&[at(10, 9)]), NONE);
    assert_eq!(hand.feed_all(&[at(11, 10), at(12, 10)]), [2, 3, 4]);
    assert_eq!(hand.resent.news(), [News::Began, News::Ended { copies: 1, ms: 0 }, News::Restarted]);
    assert_eq!(hand.feed_all(&[at(11, 10)]), NONE);
}

#[test]
fn heartbeats_and_other_partitions_wait_too() {
    let mut hand = Hand::new();
    hand.feed(&[10, 20]);
    assert_eq!(hand.feed(&[10]), NONE);
    let mut given = Vec::new();
    let look = hand.look;
    let beat = Chunk { source: 0, partition: 0, payload: Payload::Heartbeat(9), source_time: Some(9), next: 3 };
    hand.resent.offer(beat, look, |_| panic!("it tells how far the source is"));
    hand.resent.offer(chunk(1, 0, &[at(15, 15)]), look, |_| panic!("it would move the source's time"));
    hand.resent.offer(chunk(0, 3, &[at(20, 20)]), look, |one| given.push((one.chunk.partition, one.chunk.next, one.copies)));
    assert_eq!(given, [(0, 3, vec![(2, 2)]), (0, 3, vec![]), (1, 1, vec![]), (0, 4, vec![(3, 3)])]);
}

#[test]
fn several_databases_in_one_topic_are_told_apart() {
    let mut hand = Hand::new();
    let of = |name: &str, place: u64| {
        let value = value(&at(place, 1).unwrap()).replace("\"db\"", &format!("{name:?}"));
        let index = vec![MessageAt { start: 0, key_len: None, value_len: Some(value.len() as u32), offset: 0, timestamp: None }];
        Chunk { source: 0, partition: 0, payload: Payload::Messages { bytes: value.into_bytes(), index }, source_time: None, next: 1 }
    };
    let mut passes = |name, place| {
        let mut passed = 0;
        let look = hand.look;
        hand.resent.offer(of(name, place), look, |_| passed += 1);
        passed
    };
    assert_eq!([passes("a", 50), passes("b", 10), passes("a", 60), passes("b", 20)], [1; 4]);
    assert_eq!([passes("b", 10), passes("a", 70), passes("b", 20)], [0, 0, 3]);
}

#[test]
fn in_a_backlog_the_ends_of_chunks_are_enough() {
    let mut hand = Hand::new();
    hand.look = Look { now: 0, whole: false, hold: false };
    assert_eq!(hand.feed(&[10, 20]).len(), 2);
    assert_eq!(hand.feed(&[30, 40]).len(), 2);
    // The newest is in the middle of the chunk in which the range begins.
    assert_eq!(hand.feed(&[50, 60, 20, 30]).len(), 4);
    assert!(hand.resent.since().is_some() && hand.resent.news().is_empty());
    assert_eq!(hand.feed(&[40, 50]).len(), 2);
    assert!(hand.resent.since().is_some(), "60 has not come again");
    assert_eq!(hand.feed(&[60, 60]).len(), 2);
    assert!(hand.resent.since().is_none());
    // What stands at the end several times is counted.
    assert_eq!(hand.feed(&[70, 70]).len(), 2);
    hand.look = Look { now: 0, whole: true, hold: true };
    assert_eq!(hand.feed(&[60, 70]), NONE);
    assert_eq!(hand.feed(&[70]).len(), 3);
}

/// What a connector sent, by partition, and every change once.
#[derive(Debug)]
struct World {
    logs: Vec<Vec<Option<Sent>>>,
    once: Vec<Sent>,
}

const PARTITIONS: usize = 3;

/// A transaction: the keys of its changes, how long before its commit it began, how its time is off, and whether its
/// changes stand at one place. A crash: after so many changes, so many back.
type Transaction = (Vec<u8>, u64, i64, bool);
type Crash = (usize, usize);

fn world(transactions: &[Transaction], crashes: &[Crash]) -> World {
    let mut once: Vec<Sent> = Vec::new();
    for (n, (keys, before, off, together)) in transactions.iter().enumerate() {
        let commit = 1000 * (n as u64 + 1);
        let order = commit - 1000;
        let mut seen = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            // A COPY has a row once.
            if *together && seen.contains(key) {
                continue;
            }
            seen.push(*key);
            // Its changes stand before its commit.
            let at = 4000 + commit - before - if *together { 0 } else { (keys.len() - place) as u64 };
            let position = Position { order: if order == 0 { 0 } else { 4000 + order }, at, transaction: n as u64 + 1, ..Position::default() };
            once.push(Sent { position, time: 10 * n as i64 + off, number: once.len(), key: *key });
        }
    }
    let mut crashes = crashes.to_vec();
    let (mut logs, mut next, mut sent) = (vec![Vec::new(); PARTITIONS], 0, 0);
    while let Some(one) = once.get(next).copied() {
        let log = &mut logs[usize::from(one.key) % PARTITIONS];
        log.push(Some(one));
        if one.number % 5 == 4 {
            log.push(None);
        }
        (next, sent) = (next + 1, sent + 1);
        // Who dies among changes at one position, and again when it sends them again, is not told from one who sends them once.
        let among = once.get(next).is_some_and(|following| following.position == one.position);
        if let Some(at) = crashes.iter().position(|(after, _)| *after <= sent && !among) {
            next = next.saturating_sub(crashes.remove(at).1);
        }
    }
    World { logs, once }
}

/// What the changes up to a number leave, of one partition.
fn state(world: &World, partition: usize, upto: usize) -> BTreeMap<u8, usize> {
    world.once[..=upto].iter().filter(|sent| usize::from(sent.key) % PARTITIONS == partition).map(|sent| (sent.key, sent.number)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// At every moment at which a tick may be closed, a partition shows what some beginning of the stream without copies
    /// leaves, and it never goes back.
    #[test]
    fn no_older_state_is_ever_shown(
        transactions in vec((vec(0..9u8, 1..7), 1..3000u64, -15..15i64, prop::bool::weighted(0.2)), 1..25),
        crashes in vec((1..120usize, 0..40usize), 0..6),
        steps in vec((0..PARTITIONS, 0..12usize, prop::bool::weighted(0.07)), 0..150),
        gated: bool,
    ) {
        let world = world(&transactions, &crashes);
        let mut hold = resent(gated, &[]);
        let (mut read, mut given, mut newest) = ([0usize; PARTITIONS], [0usize; PARTITIONS], [None::<usize>; PARTITIONS]);
        let mut shown: Vec<BTreeMap<u8, usize>> = vec![BTreeMap::new(); PARTITIONS];
        let tail = (0..PARTITIONS).map(|partition| (partition, usize::MAX, false));
        for (partition, len, restart) in steps.into_iter().chain(tail) {
            if restart {
                let saved = serde_json::to_string(&hold.saved()).unwrap();
                hold = resent(gated, &serde_json::from_str::<Vec<Upstream>>(&saved).unwrap());
                read = given;
            }
            let (from, log) = (read[partition], &world.logs[partition]);
            let upto = from.saturating_add(len).min(log.len());
            read[partition] = upto;
            let mut passed = Vec::new();
            if from < upto {
                hold.offer(chunk(partition as i32, from, &log[from..upto]), Look { now: 0, whole: true, hold: true }, |one| passed.push(one));
            }
            for one in passed {
                let partition = one.chunk.partition as usize;
                prop_assert_eq!(given[partition] as i64, replay::first(&one.chunk), "each message once, in order");
                given[partition] = one.chunk.next as usize;
                hold.hand_out(&one.chunk);
                for offset in offsets(&one.chunk) {
                    let copy = one.copies.iter().any(|(from, to)| (*from..=*to).contains(&offset));
                    let Some(sent) = world.logs[partition][offset as usize] else { continue };
                    shown[partition].insert(sent.key, sent.number);
                    // Without a gate nobody asks, and after a restart what was held with a range counts as known. Of changes at
                    // one position it may not be known which of them came.
                    let came = newest[partition].is_some_and(|newest| sent.number <= newest || world.once[newest].position == sent.position);
                    prop_assert!(!gated || !copy || came, "{} is new", sent.number);
                    newest[partition] = newest[partition].max(Some(sent.number));
                }
            }
            for partition in 0..PARTITIONS {
                if let Some(newest) = newest[partition] {
                    prop_assert_eq!(&shown[partition], &state(&world, partition, newest), "partition {}", partition);
                }
            }
        }
        // Only copies of the very last change may still be waited for.
        hold.settle(1000, true, true, |one| {
            let partition = one.chunk.partition as usize;
            given[partition] = one.chunk.next as usize;
            let sent = offsets(&one.chunk).into_iter().filter_map(|offset| world.logs[partition][offset as usize]);
            sent.for_each(|sent| _ = shown[partition].insert(sent.key, sent.number));
        });
        prop_assert!(hold.is_empty() && hold.since().is_none());
        for partition in 0..PARTITIONS {
            prop_assert_eq!(given[partition], world.logs[partition].len());
            prop_assert_eq!(&shown[partition], &state(&world, partition, world.once.len() - 1));
        }
    }
}
