//! Cutting chunks at positions, and a scripted log that is read up to positions, however its chunks were cut.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    engine::MessageAt,
    log::{PartitionView, spawn},
};

fn lines(text: &str, offset: i64) -> Chunk {
    let bytes = text.as_bytes().to_vec();
    Chunk { source: 1, partition: 2, next: offset + bytes.len() as i64, payload: Payload::Lines { bytes, offset }, source_time: Some(7) }
}

fn messages(offsets: &[i64], next: i64) -> Chunk {
    let bytes: Vec<u8> = offsets.iter().flat_map(|offset| [*offset as u8, b'v', b'w']).collect();
    let at = |(n, offset): (usize, &i64)| MessageAt { start: n as u32 * 3, key_len: Some(1), value_len: Some(2), offset: *offset, timestamp: None };
    let index = offsets.iter().enumerate().map(at).collect();
    Chunk { source: 1, partition: 2, payload: Payload::Messages { bytes, index }, source_time: Some(7), next }
}

fn shown(chunk: &Chunk) -> (i64, i64, Vec<(i64, Vec<u8>)>) {
    let of = match &chunk.payload {
        Payload::Lines { bytes, offset } => vec![(*offset, bytes.clone())],
        Payload::Messages { bytes, index } => index.iter().map(|m| (m.offset, bytes[m.start as usize..m.start as usize + 3].to_vec())).collect(),
        Payload::Heartbeat(_) => Vec::new(),
    };
    (first(chunk), chunk.next, of)
}

#[test]
fn lines_are_cut_at_the_byte() {
    let (head, rest) = cut(lines("ab\ncde\nf\n", 100), 103);
    assert_eq!(shown(&head), (100, 103, vec![(100, b"ab\n".to_vec())]));
    assert_eq!(shown(&rest.unwrap()), (103, 109, vec![(103, b"cde\nf\n".to_vec())]));
    assert!(cut(lines("ab\n", 100), 103).1.is_none());
    assert!(cut(lines("ab\n", 100), 200).1.is_none());
}

#[test]
fn messages_are_cut_at_the_offset_whatever_is_lacking_around_it() {
    for at in [5, 6] {
        let (head, rest) = cut(messages(&[2, 4, 7, 9], 10), at);
        assert_eq!(shown(&head), (2, at, vec![(2, vec![2, b'v', b'w']), (4, vec![4, b'v', b'w'])]));
        assert_eq!(shown(&rest.unwrap()), (7, 10, vec![(7, vec![7, b'v', b'w']), (9, vec![9, b'v', b'w'])]));
    }
    let (whole, rest) = cut(messages(&[2, 4], 9), 6);
    assert_eq!((shown(&whole).2.len(), rest.is_none()), (2, true));
}

/// Steps a lane through the positions of ticks: what each tick gets, by partition.
fn stepped(chunks: Vec<Chunk>, ends: &[i64], ticks: &[Vec<(i32, i64)>]) -> Vec<Vec<Vec<i64>>> {
    let ends: Vec<PartitionView> =
        (0..).zip(ends).map(|(partition, end)| PartitionView { partition, start: 0, next: *end, end: Some(*end), ..PartitionView::default() }).collect();
    let log = spawn(1, "scripted", 2, move |feed| {
        for chunk in chunks {
            if feed.send(chunk).is_err() {
                return Ok(());
            }
        }
        feed.update(|view| view.partitions = ends);
        while !feed.stopped() {
            std::thread::park_timeout(WAIT);
        }
        Ok(())
    });
    let mut lane = Lane::new(log);
    let one = |positions: &Vec<(i32, i64)>| {
        let mut got = vec![Vec::new(); 2];
        loop {
            match lane.step(positions) {
                Step::There => break,
                Step::Waits => std::thread::park_timeout(WAIT),
                Step::Chunk(chunk) => {
                    lane.set_position(chunk.partition, chunk.next);
                    got[chunk.partition as usize].extend(shown(&chunk).2.iter().map(|(offset, _)| *offset));
                }
            }
        }
        lane.positions.clone_from(positions);
        got
    };
    ticks.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Two partitions, of which offsets are lacking (markers, compaction); chunks cut anywhere, in any order of partitions.
    #[test]
    fn a_tick_gets_what_it_had_however_chunks_are_cut(
        lacking in vec(any::<[bool; 2]>(), 40),
        cuts in vec((0..2usize, 1..7usize), 40),
        steps in vec((0..6i64, 0..6i64), 1..10),
    ) {
        let offsets: Vec<Vec<i64>> = (0..2).map(|p| (0..40).filter(|at| !lacking[*at as usize][p]).collect()).collect();
        let mut rest: Vec<&[i64]> = offsets.iter().map(Vec::as_slice).collect();
        let mut chunks = Vec::new();
        for (partition, len) in cuts.into_iter().chain([(0, 40), (1, 40)]) {
            let (head, tail) = rest[partition].split_at(len.min(rest[partition].len()));
            rest[partition] = tail;
            if let Some(last) = head.last() {
                chunks.push(Chunk { partition: partition as i32, source_time: None, ..messages(head, last + 1) });
            }
        }
        let mut at = [0, 0];
        let ticks: Vec<Vec<(i32, i64)>> = steps.iter().map(|step| {
            at = [(at[0] + step.0).min(40), (at[1] + step.1).min(40)];
            vec![(0, at[0]), (1, at[1])]
        }).collect();
        let mut before = [0, 0];
        let truth: Vec<Vec<Vec<i64>>> = ticks.iter().map(|tick| {
            let of = |p: usize| offsets[p].iter().copied().filter(|offset| (before[p]..tick[p].1).contains(offset)).collect();
            let got = vec![of(0), of(1)];
            before = [tick[0].1, tick[1].1];
            got
        }).collect();
        prop_assert_eq!(stepped(chunks, &[40, 40], &ticks), truth);
    }
}

/// The end of a transaction and what was compacted are passed, once nothing that was read waits to be handed out.
#[test]
fn what_holds_no_message_is_passed_once_nothing_waits() {
    let log = spawn(1, "scripted", 2, move |feed| {
        let _ = feed.send(Chunk { partition: 0, ..messages(&[0, 1, 2], 3) });
        feed.update(|view| view.partitions = vec![PartitionView { partition: 0, start: 0, next: 5, end: Some(5), ..PartitionView::default() }]);
        while !feed.stopped() {
            std::thread::park_timeout(WAIT);
        }
        Ok(())
    });
    let mut lane = Lane::new(log);
    while lane.head.is_none() {
        lane.fill();
    }
    lane.pass_markers(0);
    assert_eq!(lane.position(0).unwrap_or(0), 0, "a chunk waits");
    let chunk = lane.head.take().expect("it is there");
    lane.set_position(0, chunk.next);
    while !lane.drained || lane.view.partitions.is_empty() {
        lane.fill();
    }
    lane.pass_markers(7);
    assert_eq!(lane.position(0), Some(3), "something is held");
    lane.pass_markers(0);
    assert_eq!(lane.position(0), Some(5));
}
