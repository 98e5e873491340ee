//! Transactions against librdkafka's mock cluster, as far as it goes: it knows no aborts, and fences nobody. What needs a real
//! broker is in `tests/real/transactions`.

use std::sync::Arc;

use rdkafka::mocking::MockCluster;

use super::*;
use crate::sink::{
    exact::{Outgoing, Transact},
    kafka::transactions::Transactions,
    progress::{Chain, Progress},
};

fn cluster<C: rdkafka::producer::ProducerContext>(mock: &MockCluster<'_, C>) -> Cluster {
    Cluster { connection: "bus".into(), brokers: mock.bootstrap_servers(), properties: Properties::default() }
}

fn outgoing(n: u8) -> Outgoing {
    let record = SinkRecord { key: vec![b'k', n], value: Some(vec![n]), id: [n; 16], mapping: Arc::from("1") };
    Outgoing { output: 0, tick: n.into(), record }
}

fn progress(run: &str, tick: u64, before: u64) -> Progress {
    Progress { tick, before, begins: before == 0, run: run.into(), plan: "p".into(), ..Progress::default() }
}

#[test]
fn what_is_committed_is_found_by_the_next_run() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("out", 2, 1).unwrap();
    mock.create_topic("tieout-progress-t", 1, 1).unwrap();
    let open = |run: &str| Transactions::open(cluster(&mock), "t", vec!["out".into()], run, 0, false).unwrap();
    let (mut first, scanned) = open("a");
    assert!(scanned.records.is_empty() && !scanned.cut);
    for tick in 1..4 {
        first.write(&[outgoing(tick as u8), outgoing(tick as u8 + 100)], &progress("a", tick, tick - 1), &mut |_| false).unwrap();
    }
    drop(first);
    let (_, scanned) = open("b");
    let chain = Chain::of(&scanned.records).unwrap().unwrap();
    assert_eq!((chain.base, chain.last, scanned.offsets.len()), (0, 3, 3));
}

#[test]
fn a_topic_of_progress_records_with_several_partitions_is_a_stop() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("out", 2, 1).unwrap();
    mock.create_topic("tieout-progress-t", 2, 1).unwrap();
    let error = Transactions::open(cluster(&mock), "t", vec!["out".into()], "a", 0, false).map(|_| ()).unwrap_err();
    assert_eq!((error.code, error.retry), ("PROGRESS_PARTITIONS", false));
}
