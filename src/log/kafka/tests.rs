//! Reading from librdkafka's mock cluster.
//!
//! It cannot grow topics, find offsets by time, delete topics or hold transactions apart: `tests/real` does those.

use rdkafka::{
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer},
};

use super::*;

mod real;

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Seen = (i32, i64, Option<String>, Option<String>);

const WAIT: Duration = Duration::from_secs(20);

fn cluster(topics: &[(&str, i32)]) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    for (topic, partitions) in topics {
        cluster.create_topic(topic, *partitions, 1).unwrap();
    }
    cluster
}

fn producer(cluster: &Cluster) -> BaseProducer {
    let mut config = client::config(&cluster.bootstrap_servers(), &Properties::default());
    config.set("linger.ms", "0").create().unwrap()
}

fn put(producer: &BaseProducer, topic: &str, partition: i32, key: Option<&str>, value: Option<&str>) {
    let mut record = BaseRecord::<str, str>::to(topic).partition(partition);
    record.key = key;
    record.payload = value;
    producer.send(record).unwrap();
}

fn spec(cluster: &Cluster, topic: &str) -> TopicSpec {
    TopicSpec {
        connection: "bus".into(),
        brokers: cluster.bootstrap_servers(),
        properties: Properties::default(),
        topic: topic.into(),
        start: Start::Beginning,
        share: Share::All,
        identity: None,
        goes_on: false,
        again: BTreeMap::new(),
        heartbeat: Heartbeat::Auto,
        registry: None,
    }
}

fn pace() -> Pace {
    Pace {
        ask_every: Duration::from_millis(50),
        refresh_every: Duration::from_millis(200),
        give_up_after: Duration::from_millis(1500),
        renew_after: Duration::from_secs(10),
        identify: false,
    }
}

fn start(spec: TopicSpec, until: Until) -> LogHandle {
    open(7, spec, until, Box::new(|_| None), None, pace()).unwrap()
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|b| String::from_utf8(b.to_vec()).unwrap())
}

fn messages(chunk: &Chunk) -> Vec<Seen> {
    match &chunk.payload {
        Payload::Messages { bytes, index } => index
            .iter()
            .map(|at| {
                let message = chunk::message(bytes, *at);
                (chunk.partition, message.offset, text(message.key), text(message.value))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Everything until the log ends, sorted by partition and offset, with each partition's last `next`.
fn read_all(log: LogHandle) -> (Vec<Seen>, BTreeMap<i32, i64>) {
    let (mut all, mut next) = (Vec::new(), BTreeMap::new());
    while let Ok(chunk) = log.chunks.recv_timeout(WAIT) {
        assert_eq!(chunk.source, 7);
        next.insert(chunk.partition, chunk.next);
        all.extend(messages(&chunk));
    }
    log.finish().unwrap();
    all.sort();
    (all, next)
}

/// Waits until `so` holds for the view.
fn until(log: &LogHandle, so: impl Fn(&super::super::View) -> bool) {
    let begun = Instant::now();
    while !so(&log.status.view()) {
        assert!(begun.elapsed() < WAIT, "still {:?}", log.status.view());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn numbered(cluster: &Cluster, topic: &str, partitions: i32, each: i64) {
    let producer = producer(cluster);
    for n in 0..each {
        for p in 0..partitions {
            put(&producer, topic, p, Some(&format!("k{n}")), Some(&format!("v{p}.{n}")));
        }
    }
    producer.flush(WAIT).unwrap();
}

#[test]
fn reads_all_partitions_once_with_keys_nulls_and_tombstones() {
    let cluster = cluster(&[("crm.t", 3)]);
    let producer = producer(&cluster);
    put(&producer, "crm.t", 0, Some("a"), Some("1"));
    put(&producer, "crm.t", 0, Some("a"), None);
    put(&producer, "crm.t", 0, None, Some("2"));
    put(&producer, "crm.t", 2, Some(""), Some(""));
    producer.flush(WAIT).unwrap();
    let (all, next) = read_all(start(spec(&cluster, "crm.t"), Until::End));
    let s = |t: &str| Some(t.to_string());
    assert_eq!(all, [(0, 0, s("a"), s("1")), (0, 1, s("a"), None), (0, 2, None, s("2")), (2, 0, s(""), s(""))]);
    assert_eq!(next, BTreeMap::from([(0, 3), (2, 1)]));
}

#[test]
fn starts_at_the_end_or_at_offsets() {
    let cluster = cluster(&[("t", 2)]);
    numbered(&cluster, "t", 2, 5);
    let offsets = TopicSpec { start: Start::Offsets(BTreeMap::from([(1, 3)])), ..spec(&cluster, "t") };
    let (all, _) = read_all(start(offsets, Until::End));
    assert_eq!(all.iter().map(|m| (m.0, m.1)).collect::<Vec<_>>(), [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 3), (1, 4)]);

    let log = start(TopicSpec { start: Start::End, ..spec(&cluster, "t") }, Until::Forever);
    until(&log, |view| view.caught_up && view.backlog_done);
    numbered(&cluster, "t", 1, 1);
    let chunk = log.chunks.recv_timeout(WAIT).unwrap();
    assert_eq!((messages(&chunk)[0].1, chunk.next), (5, 6));
}

#[test]
fn a_position_outside_the_topic_is_a_named_stop() {
    let cluster = cluster(&[("t", 1)]);
    numbered(&cluster, "t", 1, 5);
    for (offsets, code) in [((0, 6), "POSITION_BEYOND_END"), ((3, 0), "PARTITION_UNKNOWN")] {
        let beyond = TopicSpec { start: Start::Offsets(BTreeMap::from([offsets])), ..spec(&cluster, "t") };
        let log = start(beyond, Until::Forever);
        assert!(log.chunks.recv_timeout(WAIT).is_err());
        let error = log.finish().unwrap_err();
        assert_eq!((error.code, error.retry), (code, false));
    }
}

#[test]
fn follows_growth_and_says_when_it_is_caught_up() {
    let cluster = cluster(&[("t", 2)]);
    numbered(&cluster, "t", 2, 10);
    let log = start(spec(&cluster, "t"), Until::Forever);
    let mut count = 0;
    let mut drain = |wanted: usize| {
        let begun = Instant::now();
        loop {
            let taken = log.take(100, |chunk| count += messages(&chunk).len());
            // A view may be older than the chunks that are taken with it.
            let known = taken.view.positions().iter().map(|(_, next)| *next).sum::<i64>() >= wanted as i64;
            if taken.drained && taken.view.caught_up && known && count >= wanted {
                assert_eq!(count, wanted);
                return taken.view;
            }
            assert!(begun.elapsed() < WAIT);
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let view = drain(20);
    assert!(view.backlog_done && view.trouble.is_none());
    assert_eq!(view.positions(), [(0, 10), (1, 10)]);
    numbered(&cluster, "t", 1, 3);
    assert_eq!(drain(23).positions(), [(0, 13), (1, 10)]);
    let before = log.status.view().asked_ms;
    until(&log, |view| view.asked_ms > before && view.caught_up);
}

#[test]
fn ends_at_the_end_as_of_the_start() {
    let cluster = cluster(&[("t", 1), ("empty", 1)]);
    numbered(&cluster, "t", 1, 2500);
    let log = start(spec(&cluster, "t"), Until::End);
    let first = log.chunks.recv_timeout(WAIT).unwrap();
    numbered(&cluster, "t", 1, 10);
    let (rest, next) = read_all(log);
    assert_eq!(messages(&first).len() + rest.len(), 2500);
    assert_eq!(next[&0], 2500);
    assert_eq!(read_all(start(spec(&cluster, "empty"), Until::End)).0, []);
}

#[test]
fn an_unknown_topic_is_named_with_its_neighbours_or_waited_for() {
    let cluster = cluster(&[("crm.public.sales_order", 1)]);
    let log = start(spec(&cluster, "crm.public.sales_orders"), Until::End);
    assert!(log.chunks.recv_timeout(WAIT).is_err());
    let error = log.finish().unwrap_err();
    assert_eq!((error.code, error.retry), ("TOPIC_UNKNOWN", false));
    assert!(error.message.contains("did you mean `crm.public.sales_order`?"), "{error}");

    let log = start(spec(&cluster, "later"), Until::Forever);
    until(&log, |view| view.trouble.as_deref() == Some("topic `later` does not exist yet"));
    assert!(!log.status.view().backlog_done);
    cluster.create_topic("later", 1, 1).unwrap();
    numbered(&cluster, "later", 1, 1);
    assert_eq!(messages(&log.chunks.recv_timeout(WAIT).unwrap()).len(), 1);
    until(&log, |view| view.trouble.is_none() && view.backlog_done);
}

#[test]
fn a_broker_that_is_away_is_a_trouble_and_comes_back() {
    let cluster = cluster(&[("t", 1)]);
    numbered(&cluster, "t", 1, 1);
    let log = start(spec(&cluster, "t"), Until::Forever);
    assert_eq!(log.chunks.recv_timeout(WAIT).unwrap().next, 1);
    cluster.broker_down(1).unwrap();
    until(&log, |view| view.trouble.as_ref().is_some_and(|t| t.contains("no answer from Kafka at")));
    cluster.broker_up(1).unwrap();
    numbered(&cluster, "t", 1, 1);
    assert_eq!(log.chunks.recv_timeout(WAIT).unwrap().next, 2);
    until(&log, |view| view.trouble.is_none());
}

#[test]
fn a_client_that_gets_no_answer_is_made_anew_and_goes_on_where_it_was() {
    let cluster = cluster(&[("crm.t", 2), ("__debezium-heartbeat.crm", 1)]);
    numbered(&cluster, "crm.t", 2, 3);
    let pace = Pace { renew_after: Duration::from_millis(300), ..pace() };
    let log = open(7, spec(&cluster, "crm.t"), Until::Forever, Box::new(|_| None), None, pace).unwrap();
    let mut all = Vec::new();
    let mut read = |log: &LogHandle, wanted: usize| {
        while all.len() < wanted {
            all.extend(messages(&log.chunks.recv_timeout(WAIT).unwrap()));
        }
        all.sort();
        all.clone()
    };
    read(&log, 6);
    for _ in 0..2 {
        cluster.broker_down(1).unwrap();
        until(&log, |view| view.trouble.is_some());
        // Several clients come and go meanwhile.
        std::thread::sleep(Duration::from_secs(1));
        cluster.broker_up(1).unwrap();
        until(&log, |view| view.trouble.is_none());
    }
    numbered(&cluster, "crm.t", 2, 3);
    let offsets: Vec<(i32, i64)> = read(&log, 12).iter().map(|(partition, offset, ..)| (*partition, *offset)).collect();
    assert_eq!(offsets, (0..2).flat_map(|p| (0..6).map(move |at| (p, at))).collect::<Vec<_>>());
    until(&log, |view| view.caught_up);
    assert!(log.chunks.recv_timeout(Duration::from_millis(300)).is_err(), "nothing comes twice");
}

#[test]
fn nobody_there_is_worth_a_retry() {
    let cluster = cluster(&[]);
    let mut nowhere = spec(&cluster, "t");
    drop(cluster);
    nowhere.brokers = "127.0.0.1:1".into();
    let log = start(nowhere, Until::End);
    assert!(log.chunks.recv_timeout(WAIT).is_err());
    let error = log.finish().unwrap_err();
    assert_eq!((error.code, error.retry), ("BROKER_UNREACHABLE", true));
    assert!(error.message.contains("127.0.0.1:1"), "{error}");
}

#[test]
fn wrong_settings_are_named() {
    let cluster = cluster(&[]);
    let mut wrong = spec(&cluster, "t");
    // Its value may be a secret, whoever spelled its name.
    for name in ["sasl.pasword", "sasl.jaas.config", "session.timeout.ms"] {
        wrong.properties = Properties::default();
        wrong.properties.set(name, "hunter2");
        assert!(!format!("{:?}", wrong.properties).contains("hunter2"));
        let error = open(0, wrong.clone(), Until::End, Box::new(|_| None), None, pace()).unwrap_err();
        assert_eq!(error.code, "CONNECTION_SETTINGS");
        assert!(error.message.contains(&format!("`{name}`")) && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn refused_access_is_not_retried() {
    let cluster = cluster(&[("t", 1)]);
    cluster.topic_error("t", rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let log = start(spec(&cluster, "t"), Until::Forever);
    assert!(log.chunks.recv_timeout(WAIT).is_err());
    let error = log.finish().unwrap_err();
    assert_eq!((error.code, error.retry), ("ACCESS_REFUSED", false));
}

#[test]
fn a_heartbeat_passes_after_the_table() {
    let cluster = cluster(&[("crm.public.t", 1), ("__debezium-heartbeat.crm", 1)]);
    let producer = producer(&cluster);
    let beat = |ms: i64| {
        put(&producer, "__debezium-heartbeat.crm", 0, None, Some(&format!(r#"{{"ts_ms":{ms}}}"#)));
        producer.flush(WAIT).unwrap();
    };
    numbered(&cluster, "crm.public.t", 1, 3);
    beat(1_000);
    beat(2_000);
    let once = start(spec(&cluster, "crm.public.t"), Until::End);
    let chunks: Vec<Chunk> = once.chunks.iter().collect();
    let beats: Vec<i64> = chunks.iter().filter_map(|c| if let Payload::Heartbeat(ms) = c.payload { Some(ms) } else { None }).collect();
    assert_eq!(beats, [2_000]);
    assert!(matches!(chunks.last().unwrap().payload, Payload::Heartbeat(2_000)));

    let log = start(spec(&cluster, "crm.public.t"), Until::Forever);
    let mut received = 0;
    for ms in [2_000, 3_000, 4_000] {
        if ms > 2_000 {
            numbered(&cluster, "crm.public.t", 1, 3);
            beat(ms);
        }
        loop {
            let chunk = log.chunks.recv_timeout(WAIT).unwrap();
            received += messages(&chunk).len();
            if let Payload::Heartbeat(seen) = chunk.payload {
                assert_eq!(seen, ms);
                assert_eq!(received as i64, (ms / 1_000 - 1) * 3);
                break;
            }
        }
    }
}

#[test]
fn a_heartbeat_topic_that_appears_later_is_followed() {
    let cluster = cluster(&[("erp.t", 1)]);
    let log = start(spec(&cluster, "erp.t"), Until::Forever);
    until(&log, |view| view.caught_up);
    cluster.create_topic("__debezium-heartbeat.erp", 1, 1).unwrap();
    let producer = producer(&cluster);
    put(&producer, "__debezium-heartbeat.erp", 0, None, Some(r#"{"schema":{},"payload":{"ts_ms":5}}"#));
    producer.flush(WAIT).unwrap();
    assert!(matches!(log.chunks.recv_timeout(WAIT).unwrap().payload, Payload::Heartbeat(5)));
}

#[test]
fn a_reader_that_nobody_empties_holds_still() {
    let cluster = cluster(&[("t", 4)]);
    numbered(&cluster, "t", 4, 20_000);
    let log = start(spec(&cluster, "t"), Until::End);
    let begun = Instant::now();
    while log.chunks.len() < QUEUE_CHUNKS {
        assert!(begun.elapsed() < WAIT);
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(100));
    let sent = log.status.view().read_messages as usize;
    assert!(sent <= (QUEUE_CHUNKS + 1) * CHUNK_MESSAGES, "{sent}");
    assert_eq!(read_all(log).0.len(), 80_000);
}

/// Not a benchmark: prints what one reader does against the mock, when asked with `--ignored --nocapture`.
#[test]
#[ignore = "prints a speed"]
fn speed() {
    let (partitions, each) = (32, 15_000);
    let cluster = cluster(&[("t", partitions)]);
    let producer = producer(&cluster);
    let value = "x".repeat(300);
    for n in 0..each {
        for p in 0..partitions {
            while producer.send(BaseRecord::to("t").partition(p).key(&format!("k{n}")).payload(&value)).is_err() {
                producer.poll(Duration::from_millis(10));
            }
        }
    }
    producer.flush(WAIT).unwrap();
    let begun = Instant::now();
    let log = start(spec(&cluster, "t"), Until::End);
    let (mut first, mut count, mut chunks) = (None, 0, 0);
    while let Ok(chunk) = log.chunks.recv() {
        first.get_or_insert_with(Instant::now);
        chunks += 1;
        if let Payload::Messages { index, .. } = &chunk.payload {
            count += index.len();
        }
    }
    let seconds = first.unwrap().elapsed().as_secs_f64();
    println!("{count} messages in {chunks} chunks, {seconds:.3} s after {:?}: {:.2} M/s", begun.elapsed(), count as f64 / seconds / 1e6);
}
