//! What only a real broker does: offsets by time, growth, deletion, retention, transactions, topics created by us.
//!
//! Run by `tests/real/run` (`KAFKA_BOOTSTRAP=… cargo test --lib real -- --ignored`). Topics get names of their own, so runs
//! on one broker do not meet.

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
};

use super::*;
use crate::sink::kafka::KafkaSink;

struct Broker {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(WAIT))
}

impl Broker {
    fn new() -> Broker {
        let brokers = std::env::var("KAFKA_BOOTSTRAP").expect("KAFKA_BOOTSTRAP names a broker");
        let admin = client::config(&brokers, &Properties::default()).create().unwrap();
        Broker { brokers, admin, runtime: tokio::runtime::Builder::new_current_thread().build().unwrap() }
    }

    fn create(&self, topic: &str, partitions: i32) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        self.runtime.block_on(self.admin.create_topics([&new], &options())).unwrap()[0].as_ref().unwrap();
    }

    /// A new topic of a name of its own.
    fn topic(&self, name: &str, partitions: i32) -> String {
        let topic = format!("{name}.{}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos());
        self.create(&topic, partitions);
        topic
    }

    fn config(&self) -> client::Config {
        client::config(&self.brokers, &Properties::default())
    }

    fn put(&self, topic: &str, partition: i32, values: impl IntoIterator<Item = (i64, String)>) {
        let producer: BaseProducer = self.config().create().unwrap();
        for (ms, value) in values {
            producer.send(BaseRecord::<str, str>::to(topic).partition(partition).timestamp(ms).payload(&value)).unwrap();
        }
        producer.flush(WAIT).unwrap();
    }

    fn spec(&self, topic: &str, start: Start) -> TopicSpec {
        TopicSpec {
            connection: "bus".into(),
            brokers: self.brokers.clone(),
            properties: Properties::default(),
            topic: topic.into(),
            start,
            share: Share::All,
            identity: None,
            goes_on: false,
            again: BTreeMap::new(),
            heartbeat: Heartbeat::None,
            registry: None,
        }
    }
}

fn numbers(from: i64, to: i64) -> impl Iterator<Item = (i64, String)> {
    (from..to).map(|n| (1_700_000_000_000 + 1_000 * n, n.to_string()))
}

/// As `start`, with what the mock can't answer.
fn begin(spec: TopicSpec, until: Until) -> LogHandle {
    open(7, spec, until, Box::new(|_| None), None, Pace { identify: true, ..pace() }).unwrap()
}

fn offsets(log: LogHandle) -> Vec<i64> {
    read_all(log).0.iter().map(|m| m.1).collect()
}

/// Waits until the log has ended; it must.
fn ended(log: &LogHandle) {
    let begun = Instant::now();
    while !matches!(log.chunks.recv_timeout(WAIT), Err(crossbeam_channel::RecvTimeoutError::Disconnected)) {
        assert!(begun.elapsed() < WAIT, "still {:?}", log.status.view());
    }
}

fn ends_with(log: LogHandle, code: &str) -> LogError {
    ended(&log);
    let error = log.finish().unwrap_err();
    assert_eq!((error.code, error.retry), (code, false), "{error}");
    error
}

#[test]
#[ignore = "needs a real broker"]
fn real_start_at_a_time() {
    let broker = Broker::new();
    let topic = broker.topic("time", 1);
    broker.put(&topic, 0, numbers(0, 10));
    assert_eq!(offsets(begin(broker.spec(&topic, Start::Time(1_700_000_006_500)), Until::End)), [7, 8, 9]);
    assert_eq!(offsets(begin(broker.spec(&topic, Start::Time(1_700_000_099_000)), Until::End)), Vec::<i64>::new());
}

#[test]
#[ignore = "needs a real broker"]
fn real_new_partitions_are_read_from_their_beginning() {
    let broker = Broker::new();
    let topic = broker.topic("grown", 1);
    broker.put(&topic, 0, numbers(0, 3));
    let log = begin(broker.spec(&topic, Start::End), Until::Forever);
    until(&log, |view| view.caught_up);
    broker.runtime.block_on(broker.admin.create_partitions([&NewPartitions::new(&topic, 2)], &options())).unwrap()[0].as_ref().unwrap();
    broker.put(&topic, 1, numbers(0, 2));
    let (mut got, begun) = (Vec::new(), Instant::now());
    while got.len() < 2 {
        assert!(begun.elapsed() < WAIT);
        if let Ok(chunk) = log.chunks.recv_timeout(WAIT) {
            got.extend(messages(&chunk).into_iter().map(|m| (m.0, m.1)));
        }
    }
    assert_eq!(got, [(1, 0), (1, 1)]);
    until(&log, |view| view.caught_up && view.positions() == [(0, 3), (1, 2)]);
}

#[test]
#[ignore = "needs a real broker"]
fn real_a_topic_that_was_created_again_is_a_named_stop() {
    let broker = Broker::new();
    let topic = broker.topic("again", 1);
    broker.put(&topic, 0, numbers(0, 3));
    let log = begin(broker.spec(&topic, Start::Beginning), Until::Forever);
    until(&log, |view| view.caught_up);
    // The id is known once it has been asked for.
    std::thread::sleep(pace().refresh_every * 4);
    broker.runtime.block_on(broker.admin.delete_topics(&[&topic], &options())).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    broker.create(&topic, 1);
    broker.put(&topic, 0, numbers(0, 50));
    ended(&log);
    let error = log.finish().unwrap_err();
    assert!(["TOPIC_REPLACED", "LOG_SHRUNK"].contains(&error.code), "{error}");
}

#[test]
#[ignore = "needs a real broker"]
fn real_a_topic_that_was_deleted_is_a_named_stop() {
    let broker = Broker::new();
    let topic = broker.topic("gone", 1);
    broker.put(&topic, 0, numbers(0, 3));
    // No question about it is answered then, and a client made anew would not know more: as it is at the usual pace.
    let pace = Pace { refresh_every: Duration::from_millis(500), renew_after: Duration::from_secs(1), identify: true, ..pace() };
    let log = open(7, broker.spec(&topic, Start::Beginning), Until::Forever, Box::new(|_| None), None, pace).unwrap();
    until(&log, |view| view.caught_up);
    broker.runtime.block_on(broker.admin.delete_topics(&[&topic], &options())).unwrap();
    ends_with(log, "TOPIC_GONE");
}

#[test]
#[ignore = "needs a real broker"]
fn real_a_heartbeat_topic_that_is_emptied_or_created_again_is_followed_anew() {
    let broker = Broker::new();
    let (topic, beats) = (broker.topic("beaten", 1), broker.topic("beats", 1));
    broker.put(&topic, 0, numbers(0, 3));
    let beat = |ms: i64| broker.put(&beats, 0, [(ms, format!(r#"{{"ts_ms":{ms}}}"#))]);
    let empty = |upto: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&beats, 0, Offset::Offset(upto)).unwrap();
        broker.runtime.block_on(broker.admin.delete_records(&list, &options())).unwrap();
    };
    (1..=5).for_each(beat);
    // At the start there is nothing left of it.
    empty(5);
    let log = begin(TopicSpec { heartbeat: Heartbeat::Topic(beats.clone()), ..broker.spec(&topic, Start::Beginning) }, Until::Forever);
    until(&log, |view| view.caught_up);
    let next = |least: i64| {
        let begun = Instant::now();
        loop {
            let chunk = log.chunks.recv_timeout(Duration::from_millis(500));
            if let Ok(Chunk { payload: Payload::Heartbeat(ms), .. }) = chunk
                && ms >= least
            {
                return;
            }
            assert!(begun.elapsed() < WAIT, "{:?}", log.status.view());
        }
    };
    beat(6);
    next(6);
    broker.runtime.block_on(broker.admin.delete_topics(&[&beats], &options())).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    broker.create(&beats, 1);
    beat(7);
    let begun = Instant::now();
    // Where it is read on from is found out when the client asks for a place that is not there.
    while begun.elapsed() < WAIT {
        beat(8);
        if matches!(log.chunks.recv_timeout(Duration::from_millis(500)), Ok(Chunk { payload: Payload::Heartbeat(7 | 8), .. })) {
            return;
        }
    }
    panic!("{:?}", log.status.view());
}

#[test]
#[ignore = "needs a real broker"]
fn real_messages_gone_from_retention_are_a_named_stop() {
    let broker = Broker::new();
    let topic = broker.topic("retention", 1);
    broker.put(&topic, 0, numbers(0, 10));
    let mut upto = TopicPartitionList::new();
    upto.add_partition_offset(&topic, 0, Offset::Offset(6)).unwrap();
    broker.runtime.block_on(broker.admin.delete_records(&upto, &options())).unwrap();
    let from = Start::Offsets(BTreeMap::from([(0, 2)]));
    let error = ends_with(begin(broker.spec(&topic, from), Until::Forever), "OFFSET_GONE");
    assert!(error.message.contains("partition 0 begins at 6"), "{error}");
    assert_eq!(offsets(begin(broker.spec(&topic, Start::Beginning), Until::End)), [6, 7, 8, 9]);
    // Read again for a changed dataflow: what had been read may be gone, what had not may not.
    let again = |until: i64| {
        let spec = broker.spec(&topic, Start::Offsets(BTreeMap::from([(0, 2)])));
        begin(TopicSpec { goes_on: true, again: BTreeMap::from([(0, until)]), ..spec }, Until::End)
    };
    assert_eq!(offsets(again(8)), [6, 7, 8, 9]);
    let error = ends_with(again(5), "OFFSET_GONE");
    assert!(error.message.contains("messages from 5 on"), "{error}");
}

#[test]
#[ignore = "needs a real broker"]
fn real_retention_that_passes_a_reader_which_is_held_up_is_a_named_stop() {
    let broker = Broker::new();
    let topic = broker.topic("passed", 1);
    broker.put(&topic, 0, (0..60_000).map(|n| (1_700_000_000_000, format!("{n} {}", "x".repeat(1_000)))));
    let log = begin(broker.spec(&topic, Start::Beginning), Until::Forever);
    // Nobody receives: its queues fill, and it stands still in the middle of the topic.
    let begun = Instant::now();
    while log.chunks.len() < QUEUE_CHUNKS {
        assert!(begun.elapsed() < WAIT);
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut upto = TopicPartitionList::new();
    upto.add_partition_offset(&topic, 0, Offset::Offset(59_000)).unwrap();
    broker.runtime.block_on(broker.admin.delete_records(&upto, &options())).unwrap();
    let (mut next, mut gap) = (0, false);
    while let Ok(chunk) = log.chunks.recv_timeout(WAIT) {
        for message in messages(&chunk) {
            gap |= message.1 != next;
            next = message.1 + 1;
        }
    }
    let error = log.finish().unwrap_err();
    assert_eq!((error.code, gap), ("OFFSET_GONE", false), "{error}");
    assert!(next < 59_000 && error.message.contains("begins at 59000"), "{next}: {error}");
}

#[test]
#[ignore = "needs a real broker"]
fn real_what_changed_between_two_runs_is_named() {
    let broker = Broker::new();
    let topic = broker.topic("between", 2);
    broker.put(&topic, 0, numbers(0, 3));
    let log = begin(broker.spec(&topic, Start::End), Until::Forever);
    until(&log, |view| view.caught_up && view.identity.is_some());
    let view = log.status.view();
    // Also of a partition that has nothing: a restart would not know where to begin.
    assert_eq!(view.partitions.iter().map(|p| (p.start, p.next)).collect::<Vec<_>>(), [(3, 3), (0, 0)]);
    let again = |positions: &[(i32, i64)]| TopicSpec {
        goes_on: true,
        identity: view.identity.clone(),
        ..broker.spec(&topic, Start::Offsets(positions.iter().copied().collect()))
    };
    drop(log);
    ends_with(begin(again(&[(0, 3), (1, 0), (2, 0)]), Until::Forever), "PARTITIONS_FEWER");
    let mut elsewhere = again(&[(0, 3), (1, 0)]);
    elsewhere.identity = elsewhere.identity.map(|is| format!("{}-of-old", is));
    let error = ends_with(begin(elsewhere, Until::Forever), "CLUSTER_CHANGED");
    assert!(error.message.contains("-of-old"), "{error}");
    // A new partition is read from its beginning, if it still has that.
    broker.runtime.block_on(broker.admin.create_partitions([&NewPartitions::new(&topic, 3)], &options())).unwrap()[0].as_ref().unwrap();
    broker.put(&topic, 2, numbers(0, 4));
    assert_eq!(read_all(begin(again(&[(0, 3), (1, 0)]), Until::End)).0.iter().map(|m| (m.0, m.1)).collect::<Vec<_>>(), [(2, 0), (2, 1), (2, 2), (2, 3)]);
    let mut upto = TopicPartitionList::new();
    upto.add_partition_offset(&topic, 2, Offset::Offset(2)).unwrap();
    broker.runtime.block_on(broker.admin.delete_records(&upto, &options())).unwrap();
    ends_with(begin(again(&[(0, 3), (1, 0)]), Until::Forever), "OFFSET_GONE");
    // Another topic of its name.
    broker.runtime.block_on(broker.admin.delete_topics(&[&topic], &options())).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let waits = begin(again(&[(0, 3), (1, 0)]), Until::Forever);
    until(&waits, |view| view.trouble.is_some());
    broker.create(&topic, 2);
    ends_with(waits, "TOPIC_REPLACED");
}

#[test]
#[ignore = "needs a real broker"]
fn real_transactions_are_read_when_committed_and_their_markers_passed() {
    let broker = Broker::new();
    let topic = broker.topic("transactions", 1);
    let mut config = broker.config();
    let producer: BaseProducer = config.set("transactional.id", &topic).create().unwrap();
    producer.init_transactions(WAIT).unwrap();
    let log = begin(broker.spec(&topic, Start::Beginning), Until::Forever);
    for (n, commit) in [(0, true), (1, false), (2, true), (3, false)] {
        producer.begin_transaction().unwrap();
        put(&producer, &topic, 0, None, Some(&n.to_string()));
        producer.flush(WAIT).unwrap();
        if commit { producer.commit_transaction(WAIT).unwrap() } else { producer.abort_transaction(WAIT).unwrap() }
    }
    // Four messages and four markers; the last visible message is the fifth offset.
    until(&log, |view| view.caught_up && view.positions() == [(0, 8)]);
    let place = log.status.view().partitions[0];
    // Who has taken in the last message has come as far as the reader; who has taken in the first has not.
    assert_eq!((place.blank, place.reached(5), place.reached(1)), (3, 8, 1));
    let mut values = Vec::new();
    log.take(100, |chunk| values.extend(messages(&chunk).into_iter().map(|m| m.3.unwrap())));
    assert_eq!(values, ["0", "2"]);
    assert_eq!(offsets(begin(broker.spec(&topic, Start::Beginning), Until::End)), [0, 4]);
    // An open transaction holds the end back, and what is read once does not wait for it.
    producer.begin_transaction().unwrap();
    put(&producer, &topic, 0, None, Some("open"));
    producer.flush(WAIT).unwrap();
    assert_eq!(offsets(begin(broker.spec(&topic, Start::Beginning), Until::End)), [0, 4]);
    producer.abort_transaction(WAIT).unwrap();
}

#[test]
#[ignore = "needs a real broker"]
fn real_an_output_topic_is_created_compacted() {
    let broker = Broker::new();
    let topic = format!("out.{}", wall_ms());
    KafkaSink::open("bus", &broker.brokers, &Properties::default(), &topic).unwrap();
    let of = [ResourceSpecifier::Topic(&topic)];
    let found = broker.runtime.block_on(broker.admin.describe_configs(&of, &options())).unwrap();
    assert_eq!(found[0].as_ref().unwrap().get("cleanup.policy").unwrap().value.as_deref(), Some("compact"));
}

#[test]
#[ignore = "needs a real broker"]
fn real_speed_and_latency() {
    let broker = Broker::new();
    let topic = broker.topic("speed", 4);
    let value = "x".repeat(500);
    let producer: BaseProducer = broker.config().set("linger.ms", "20").set("compression.type", "lz4").create().unwrap();
    for n in 0..1_000_000 {
        while producer.send(BaseRecord::<str, str>::to(&topic).partition(n % 4).payload(&value)).is_err() {
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(WAIT * 3).unwrap();
    let log = begin(broker.spec(&topic, Start::Beginning), Until::End);
    let (mut first, mut count, begun) = (None, 0, Instant::now());
    while let Ok(chunk) = log.chunks.recv() {
        first.get_or_insert_with(Instant::now);
        count += match &chunk.payload {
            Payload::Messages { index, .. } => index.len(),
            _ => 0,
        };
    }
    let seconds = first.unwrap().elapsed().as_secs_f64();
    println!("{count} messages of 500 B in {seconds:.2} s ({:.2} M/s), {:.2} s with the start", count as f64 / seconds / 1e6, begun.elapsed().as_secs_f64());

    let log = begin(broker.spec(&topic, Start::End), Until::Forever);
    until(&log, |view| view.caught_up);
    let producer: BaseProducer = broker.config().set("linger.ms", "0").create().unwrap();
    let mut micros: Vec<u128> = (0..200)
        .map(|n| {
            std::thread::sleep(Duration::from_millis(5));
            let sent = Instant::now();
            producer.send(BaseRecord::<str, str>::to(&topic).partition(n % 4).payload(&value)).unwrap();
            producer.poll(Duration::ZERO);
            log.chunks.recv_timeout(WAIT).unwrap();
            sent.elapsed().as_micros()
        })
        .collect();
    micros.sort_unstable();
    println!("produce to chunk: median {} µs, p99 {} µs", micros[100], micros[198]);
}
