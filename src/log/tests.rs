//! The contract of handles: order of views, back-pressure, ends.

use super::*;
use crate::engine::Payload;

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
                view.partitions = vec![PartitionView { partition: 0, start: 0, next: n, end: Some(count) }];
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
