//! The contract of handles: order of views, back-pressure, ends.

use super::*;
use crate::{engine::Payload, plan::SchemaPolicy};

fn chunk(next: i64) -> Chunk {
    Chunk { source: 0, partition: 0, payload: Payload::Heartbeat(next), source_time: None, next }
}

/// A reader of numbered chunks, each of which moves its position.
fn numbers(count: i64, queue_chunks: usize) -> LogHandle {
    spawn(0, "numbers", queue_chunks, move |feed| {
        for n in 1..=count {
            if feed.send(chunk(n)).is_err() {
                return Ok(());
            }
            feed.update(|view| {
                view.partitions = vec![PartitionView { partition: 0, start: 0, next: n, end: Some(count), ..PartitionView::default() }];
                view.caught_up = n == count;
            });
        }
        Ok(())
    })
}

#[test]
fn a_view_never_runs_ahead_of_what_was_received() {
    let log = numbers(2_000, 4);
    let mut received = 0;
    loop {
        let taken = log.take(3, |chunk| received = chunk.next);
        let said = taken.view.partitions.first().map_or(0, |p| p.next);
        if taken.drained {
            assert!(said <= received, "said {said}, received {received}");
        } else {
            assert!(!taken.view.caught_up);
        }
        if taken.ended {
            break;
        }
    }
    assert_eq!(received, 2_000);
    assert!(log.status.view().caught_up);
    assert_eq!(log.finish(), Ok(()));
}

#[test]
fn a_blocked_reader_stops() {
    let log = numbers(i64::MAX, 2);
    let begun = Instant::now();
    while log.chunks.len() < 2 && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(log.chunks.len(), 2);
    log.stop();
    assert_eq!(log.finish(), Ok(()));
}

#[test]
fn a_failure_ends_the_log_and_stands_in_the_view() {
    let error = LogError { code: "X", message: "m".into(), remedy: "r".into(), retry: true };
    let failure = error.clone();
    let log = spawn(0, "fails", 1, move |_| Err(failure));
    assert!(log.chunks.recv().is_err());
    while log.status.view().failed.is_none() {
        std::thread::yield_now();
    }
    assert_eq!(log.status.view().failed, Some(error.clone()));
    assert_eq!(log.finish(), Err(error));
}

/// A reader of three rows, of which the last but one has other columns.
fn guarded(until: Until) -> LogHandle {
    let source = crate::format::testing::source("debezium-json", "id int, v int", "id");
    let guard = Guard::new(&source, SchemaPolicy::Evolve, None, Vec::new());
    spawn(0, "guarded", 8, move |feed| {
        feed.watch(guard, until);
        feed.update(|view| view.partitions = vec![PartitionView { partition: 0, start: 0, next: 0, end: Some(100), ..PartitionView::default() }]);
        for (offset, row) in [(0, r#"{"id":1,"v":1}"#), (50, r#"{"id":2,"w":1}"#), (80, r#"{"id":3,"v":1}"#)] {
            let bytes = format!("{{\"op\":\"c\",\"after\":{row}}}\n").into_bytes();
            let chunk = Chunk { source: 0, partition: 0, payload: Payload::Lines { bytes, offset }, source_time: None, next: offset + 1 };
            if feed.send(chunk).is_err() {
                return Ok(());
            }
        }
        panic!("nothing may be sent after what is refused");
    })
}

#[test]
fn a_reader_stands_before_what_its_guard_refuses_and_others_need_not_wait_for_it() {
    let log = guarded(Until::Forever);
    let begun = Instant::now();
    while log.status.view().trouble.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut received = Vec::new();
    let taken = log.take(9, |chunk| received.push(chunk.next));
    assert_eq!((received, taken.ended), (vec![1], false));
    let view = taken.view;
    assert_eq!((view.partitions[0].next, view.backlog_done, view.caught_up, view.failed.is_none()), (50, true, false, true));
    assert!(view.schema.as_ref().is_some_and(|schema| schema.refused && schema.changes[0].offset == 50));
    assert!(view.trouble.is_some_and(|why| why.starts_with("SCHEMA_CHANGED: ")));
    log.stop();
    assert_eq!(log.finish(), Ok(()));
}

#[test]
fn a_log_that_ends_fails_there() {
    let log = guarded(Until::End);
    while !log.take(9, |_| ()).ended {}
    assert_eq!(log.finish().map_err(|error| error.code), Err("SCHEMA_CHANGED"));
}

/// Of a log that stands in one partition, what a restart had taken in of the other comes all the same, and nothing else.
#[test]
fn what_was_taken_in_before_comes_although_another_partition_stands() {
    let source = crate::format::testing::source("debezium-json", "id int, v int", "id");
    let guard = Guard::new(&source, SchemaPolicy::Evolve, None, vec![(0, 1), (1, 7)]);
    let log = spawn(0, "stands", 8, move |feed| {
        feed.watch(guard, Until::Forever);
        let place = |partition| PartitionView { partition, start: 0, next: 0, end: Some(100), ..PartitionView::default() };
        feed.update(|view| view.partitions = vec![place(0), place(1)]);
        let messages = |partition: i32, rows: &[(i64, &str)]| {
            let (mut bytes, mut index) = (Vec::new(), Vec::new());
            for (offset, row) in rows {
                let value = format!("{{\"op\":\"c\",\"after\":{row}}}");
                index.push(crate::engine::MessageAt {
                    start: bytes.len() as u32,
                    key_len: None,
                    value_len: Some(value.len() as u32),
                    offset: *offset,
                    timestamp: None,
                });
                bytes.extend_from_slice(value.as_bytes());
            }
            let next = rows.last().map_or(0, |(offset, _)| offset + 1);
            Chunk { source: 0, partition, payload: Payload::Messages { bytes, index }, source_time: None, next }
        };
        let (fine, other) = (r#"{"id":1,"v":1}"#, r#"{"id":2,"w":1}"#);
        let chunks = [
            messages(0, &[(0, fine), (1, other), (2, fine)]),
            messages(1, &[(0, fine), (3, fine)]),
            messages(0, &[(3, fine)]),
            messages(1, &[(4, fine), (6, other), (7, fine), (8, fine)]),
        ];
        for chunk in chunks {
            let (partition, next) = (chunk.partition, chunk.next);
            if feed.send(chunk).is_err() {
                return Ok(());
            }
            feed.update(|view| (view.partitions[partition as usize].next, view.caught_up) = (next, true));
        }
        assert!(feed.send(messages(1, &[(9, fine)])).is_err(), "it stands until it is stopped");
        Ok(())
    });
    let (begun, mut received) = (Instant::now(), Vec::new());
    while received.last() != Some(&(1, 7)) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{received:?}");
        log.take(9, |chunk| received.push((chunk.partition, chunk.next)));
        std::thread::sleep(Duration::from_millis(1));
    }
    while log.status.view().trouble.is_none() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(STOP_CHECK);
    }
    let view = log.status.view();
    assert_eq!(received, [(0, 1), (1, 4), (1, 7)]);
    assert_eq!((view.partitions[0].next, view.partitions[1].next, view.caught_up, view.backlog_done), (1, 7, false, true));
    assert!(view.trouble.is_some_and(|why| why.starts_with("SCHEMA_CHANGED: ")) && log.chunks.is_empty());
    log.stop();
    assert_eq!(log.finish(), Ok(()));
}
