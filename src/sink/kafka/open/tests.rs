//! Open transactions on a real broker. Run by `tests/real/run` (`KAFKA_BOOTSTRAP=… cargo test --lib real -- --ignored`).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;
use crate::{plan::Properties, sink::kafka::COMPACTED};

const WAIT: Duration = Duration::from_secs(20);

fn outputs(name: &str) -> Outputs {
    let brokers = std::env::var("KAFKA_BOOTSTRAP").expect("KAFKA_BOOTSTRAP names a broker");
    let cluster = Cluster { connection: "bus".into(), brokers, properties: Properties::default() };
    let unique = format!("{name}-{}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos());
    let topics = vec![format!("out.{unique}"), topic::name(&unique)];
    let plain = cluster.producer(&cluster.producing(), "").unwrap();
    topics.iter().for_each(|topic| _ = cluster.need_topic(&plain, topic, 1, COMPACTED).unwrap());
    let (everything, committed) = (topic::consumer(&cluster, "read_uncommitted").unwrap(), topic::consumer(&cluster, "read_committed").unwrap());
    Outputs { cluster, deployment: unique, topics, everything, committed }
}

fn producer(of: &Outputs, id: &str) -> BaseProducer {
    let producer: BaseProducer = client::config(&of.cluster.brokers, &Properties::default()).set("transactional.id", id).create().unwrap();
    producer.init_transactions(WAIT).unwrap();
    producer
}

fn put(producer: &BaseProducer, topic: &str) {
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<str, str>::to(topic).key("k").payload("v")).unwrap();
    producer.flush(WAIT).unwrap();
}

#[test]
#[ignore = "needs a real broker"]
fn real_what_a_dead_one_left_open_is_found_and_ended() {
    let of = outputs("dead");
    assert_eq!((of.known().unwrap(), of.held().unwrap()), (None, Vec::new()));
    let dead = producer(&of, &of.id());
    put(&dead, &of.topics[0]);
    dead.commit_transaction(WAIT).unwrap();
    put(&dead, &of.topics[0]);
    let known = of.known().unwrap().expect("the coordinator knows it");
    assert_eq!((known.state, known.partitions.as_slice()), (State::Ongoing, &[(of.topics[0].clone(), vec![0])][..]));
    let held = of.held().unwrap();
    // A record and its marker came before.
    assert_eq!(held.iter().map(|h| (h.topic.as_str(), h.partition, h.from, h.end)).collect::<Vec<_>>(), [(of.topics[0].as_str(), 0, 2, 3)]);
    assert!(held[0].since_ms.is_some());
    of.unused().unwrap();
    of.abort().unwrap();
    assert_eq!(of.held().unwrap(), []);
    assert!(!of.known().unwrap().unwrap().state.open());
    assert!(dead.commit_transaction(WAIT).is_err(), "it was fenced");
}

#[test]
#[ignore = "needs a real broker"]
fn real_another_ones_transaction_is_not_ended_and_one_that_writes_is_seen() {
    let of = outputs("live");
    let other = producer(&of, &format!("other-{}", of.deployment));
    put(&other, &of.topics[0]);
    assert_eq!(of.held().unwrap().len(), 1);
    assert_eq!(of.known().unwrap(), None);
    let (live, stop) = (producer(&of, &of.id()), Arc::new(AtomicBool::new(false)));
    let (stopped, progress) = (stop.clone(), of.topics[1].clone());
    let writes = std::thread::Builder::new().name("live".into()).spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            put(&live, &progress);
            live.commit_transaction(WAIT).unwrap();
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    assert_eq!(of.unused().unwrap_err().code, "TRANSACTION_IN_USE");
    stop.store(true, Ordering::Relaxed);
    writes.unwrap().join().unwrap();
    of.unused().unwrap();
    let error = of.end_within(Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.code, "TRANSACTION_OPEN", "{error}");
    other.abort_transaction(WAIT).unwrap();
    assert_eq!(of.held().unwrap(), []);
}
