//! What is found, and what follows: every row of the table in `hanging`, and what tells its cases apart. With a broker that really
//! leaves ends out: `tests/real/transactions.d/hanging.py`, and `broker-dies` of `tests/real/scenarios`.

use super::*;
use crate::sink::progress::TickAt;

const PROGRESS: &str = "progress";

/// A progress record of these ticks, sent when their number says.
fn sent(ticks: &[Tick], before: Tick) -> Sent {
    let tick = *ticks.last().unwrap_or(&before);
    let ticks = ticks.iter().map(|tick| TickAt { tick: *tick, ..TickAt::default() }).collect();
    Sent { progress: Progress { tick, before, ticks, ..Progress::default() }, offset: tick as i64 * 100, ms: tick as i64 * 10 }
}

/// One that only says who writes now, and names these pieces.
fn claim(tick: Tick, mends: &[i32]) -> Sent {
    let mut sent = sent(&[], tick);
    sent.progress.mends = mends.iter().map(|partition| piece(*partition, 1)).collect();
    (sent.offset, sent.ms) = (sent.offset + 1, sent.ms + 5);
    sent
}

fn piece(partition: i32, records: u64) -> Piece {
    Piece { topic: "out".into(), partition, from: 4, end: 9, records }
}

fn record(tick: Tick) -> Record {
    Record { tick, ms: tick as i64 * 10 }
}

/// A partition in which records of these ticks hang.
fn held(partition: i32, ticks: &[Tick]) -> Hanging {
    Hanging { piece: piece(partition, 0), records: ticks.iter().copied().map(record).collect() }
}

fn aborts(partitions: &[i32], progress: bool) -> Step {
    let outputs = partitions.iter().map(|partition| ("out".to_string(), *partition));
    Step::Abort(outputs.chain(progress.then(|| (PROGRESS.to_string(), 0))).collect())
}

/// Ticks 5 and 7 are written, with progress records.
fn past() -> Vec<Sent> {
    vec![sent(&[4, 5], 3), sent(&[6, 7], 5)]
}

fn found(held: Vec<Hanging>) -> Found {
    Found { held, past: past(), ..Found::default() }
}

fn step(found: Found) -> Step {
    next(found, PROGRESS).0
}

#[test]
fn nothing_is_done_where_nothing_hangs() {
    assert_eq!(step(Found::default()), Step::Done);
    assert_eq!(step(Found { told: Some(700), known: 7, ..found(Vec::new()) }), Step::Done);
}

#[test]
fn what_no_progress_record_tells_of_is_aborted() {
    let of = found(vec![held(0, &[8]), held(1, &[8, 9])]);
    assert_eq!(step(of.clone()), aborts(&[0, 1], false));
    // Its own progress record says nothing while it hangs, too, and nobody saw a record of it.
    assert_eq!(step(Found { waiting: Some(vec![sent(&[8, 9], 7)]), ..of }), aborts(&[0, 1], true));
    assert_eq!(step(Found { held: vec![held(0, &[1])], ..Found::default() }), aborts(&[0], false), "before any progress record");
    // Records that were only there to be aborted hang where that was aborted in its turn.
    assert_eq!(step(found(vec![held(0, &[])])), aborts(&[0], false));
    assert_eq!(step(Found { waiting: Some(Vec::new()), ..Found::default() }), aborts(&[], true));
    // A tick that the progress record does not list is another one's, whatever its number.
    let mut gap = past();
    gap[1] = sent(&[7], 5);
    assert_eq!(step(Found { past: gap, ..found(vec![held(0, &[6])]) }), aborts(&[0], false));
}

#[test]
fn what_was_committed_is_named_then_aborted_and_written_again() {
    let of = |last: Sent, held: Vec<Hanging>| Found { held, past: past().into_iter().chain([last]).collect(), ..Found::default() };
    // What comes behind the records of one transaction is of no other one that was committed.
    assert_eq!(step(found(vec![held(0, &[6, 7, 8]), held(1, &[8])])), Step::Name(vec![piece(0, 2)]));
    let named = claim(7, &[0]);
    assert_eq!(step(of(named.clone(), vec![held(0, &[6]), held(1, &[8])])), aborts(&[0, 1], false));
    // A run that is killed here, or while it writes them again, goes on with the same pieces: what it left hanging is aborted.
    assert_eq!(step(of(named.clone(), Vec::new())), Step::Again(vec![piece(0, 1)]));
    let again = Hanging { piece: Piece { from: 11, end: 13, ..piece(0, 0) }, ..held(0, &[6]) };
    assert_eq!(step(of(named.clone(), vec![again])), aborts(&[0], false));
    // Another piece comes to those that are named.
    assert_eq!(step(of(named.clone(), vec![held(2, &[7])])), Step::Name(vec![piece(0, 1), piece(2, 1)]));
    // One that names pieces, and hangs itself, is made to be seen before anything is aborted; if nobody was told, nothing was.
    let waits = |told| Found { waiting: Some(vec![named.clone()]), told, ..found(vec![held(0, &[6])]) };
    assert_eq!(step(waits(Some(701))), Step::Name(vec![piece(0, 1)]));
    assert_eq!(step(waits(Some(700))), aborts(&[], true));
    let after = |past: Vec<Sent>| Found { waiting: None, past, ..waits(None) };
    assert_eq!(step(after(past())), Step::Name(vec![piece(0, 1)]));
}

#[test]
fn what_was_removed_from_the_progress_topic_was_committed() {
    assert_eq!(step(found(vec![held(0, &[2, 3, 6])])), Step::Name(vec![piece(0, 2)]));
    let mut begun = past();
    (begun[0].progress.begins, begun[0].progress.before) = (true, 0);
    assert_eq!(step(Found { past: begun, ..found(vec![held(0, &[2, 3])]) }), aborts(&[0], false));
}

#[test]
fn a_progress_record_of_which_something_is_seen_was_committed() {
    let waits = |waiting: Vec<Sent>, held: Vec<Hanging>| Found { waiting: Some(waiting), visible: vec![record(9)], ..found(held) };
    let first = sent(&[8, 9], 7);
    let (step, last) = next(waits(vec![first.clone()], vec![held(0, &[8])]), PROGRESS);
    assert_eq!((step, last.last()), (Step::Name(vec![piece(0, 1)]), Some(&first)));
    assert_eq!(next(waits(vec![first.clone()], Vec::new()), PROGRESS).0, Step::Say);
    // And so was one before it.
    let both = vec![sent(&[8], 7), sent(&[9], 8)];
    let (step, last) = next(waits(both.clone(), vec![held(0, &[8])]), PROGRESS);
    assert_eq!((step, last.len()), (Step::Name(vec![piece(0, 1)]), 4));
    // Of a later one nobody knows, and it would be committed, too; not so one that only says who writes.
    let later = |last: Sent| next(waits([both.clone(), vec![last]].concat(), vec![held(0, &[8]), held(1, &[10])]), PROGRESS).0;
    assert_eq!(later(sent(&[10, 11], 9)), Step::Torn(9));
    assert_eq!(later(claim(9, &[])), Step::Name(vec![piece(0, 1)]));
    // A chain that begins anew lists its own ticks only.
    let mut begins = first;
    begins.progress.before = 0;
    assert_eq!(next(Found { visible: vec![record(3)], ..waits(vec![begins], vec![held(0, &[8])]) }, PROGRESS).0, aborts(&[0], true));
}

#[test]
fn what_this_run_was_told_or_a_checkpoint_knows_was_committed() {
    let waits = |told, known| Found { waiting: Some(vec![sent(&[8, 9], 7)]), told, known, ..found(vec![held(0, &[8])]) };
    assert_eq!(step(waits(Some(900), 0)), Step::Name(vec![piece(0, 1)]));
    assert_eq!(step(waits(None, 9)), Step::Name(vec![piece(0, 1)]));
    assert_eq!(step(waits(Some(899), 8)), aborts(&[0], true));
    // What says only who writes may be newer than the checkpoint.
    assert_eq!(step(Found { waiting: Some(vec![claim(7, &[])]), known: 7, ..found(Vec::new()) }), aborts(&[], true));
}

#[test]
fn parts_of_a_tick_are_told_apart_by_when_they_were_sent() {
    let part = |part: u64, more: bool, ms: i64, ticks: &[Tick]| {
        let mut of = sent(ticks, 7);
        (of.progress.tick, of.progress.part, of.progress.more, of.progress.done, of.ms) = (8, part, more, part + 1, ms);
        of
    };
    let parts = vec![part(0, true, 80, &[8]), part(1, true, 90, &[])];
    let at = |ms| Hanging { records: vec![Record { tick: 8, ms }], ..held(0, &[]) };
    let of = |past: &[Sent], ms| step(Found { past: past.to_vec(), ..found(vec![at(ms)]) });
    assert_eq!((of(&parts, 80), of(&parts, 90)), (Step::Name(vec![piece(0, 1)]), Step::Name(vec![piece(0, 1)])));
    assert_eq!(of(&parts, 91), aborts(&[0], false));
    // A later run that says where it goes on has none of the next part's records.
    let mut goes_on = parts[1].clone();
    goes_on.ms = 200;
    let parts = [parts, vec![goes_on]].concat();
    assert_eq!(of(&parts, 91), aborts(&[0], false));
    let parts = [parts, vec![part(2, false, 300, &[])]].concat();
    assert_eq!(of(&parts, 250), Step::Name(vec![piece(0, 1)]));
}

#[test]
fn a_part_that_is_seen_says_nothing_of_the_next_one() {
    let part = |part: u64, ms: i64, ticks: &[Tick]| {
        let mut of = sent(ticks, 7);
        (of.progress.tick, of.progress.part, of.progress.more, of.progress.done, of.ms, of.offset) = (8, part, true, part + 1, ms, 800 + part as i64);
        of
    };
    let seen = |visible: Vec<Record>| {
        let past = past().into_iter().chain([part(0, 80, &[8])]).collect();
        step(Found { past, waiting: Some(vec![part(1, 90, &[])]), visible, ..Found::default() })
    };
    assert_eq!(seen(vec![Record { tick: 8, ms: 80 }]), aborts(&[], true));
    assert_eq!(seen(vec![Record { tick: 8, ms: 80 }, Record { tick: 8, ms: 85 }]), Step::Say);
    // Nor does what another run said of the part that is seen.
    let goes_on = Sent { offset: 900, ms: 200, ..part(0, 0, &[]) };
    let past: Vec<Sent> = past().into_iter().chain([part(0, 80, &[8])]).collect();
    let of = Found { past, waiting: Some(vec![goes_on]), visible: vec![Record { tick: 8, ms: 80 }, Record { tick: 8, ms: 150 }], ..Found::default() };
    assert_eq!(step(of), aborts(&[], true));
}
