//! Encoding, files, and the round trip through librdkafka's mock cluster. (Creating topics needs a real broker: `tests/real`.)

use std::{io::Write as _, time::Duration};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
    mocking::MockCluster,
};

use super::*;
use crate::{
    engine::{RowChange, RowState},
    ledger::fixture,
    plan::{Format, Output, OutputOf, Properties},
    row::{Type, Value, pack_key, pack_row, pack_value},
};

/// An encoder whose tables are hydrated.
fn encoder(format: Format) -> encode::Encoder {
    let mut encoder = encode::Encoder::new(plan(format), 0);
    assert_eq!(encoder.encode(&tick(0, true, Vec::new())).records, []);
    encoder
}

/// The fixture's plan with one output of its target.
pub(super) fn plan(format: Format) -> Arc<Plan> {
    let mut plan = fixture::plan();
    plan.outputs = vec![Output { what: OutputOf::Table(0), connection: 0, to: "out.ndjson".into(), format }];
    Arc::new(plan)
}

fn state(row: Option<(i64, &str)>) -> RowState {
    match row {
        None => RowState::Absent,
        Some((id, status)) => {
            let values = [Value::Int(id), Value::Decimal(150), Value::Text(status.into())];
            RowState::Row(pack_row(&values).into())
        }
    }
}

pub(super) fn change(id: i64, before: Option<&str>, after: Option<&str>) -> RowChange {
    let mut packed = Vec::new();
    pack_value(&mut packed, &Value::Int(id));
    let key = pack_key(&[Type::Int(64)], &[crate::row::Field::Packed(&packed)]).into();
    RowChange { key, before: state(before.map(|s| (id, s))), after: state(after.map(|s| (id, s))) }
}

pub(super) fn tick(tick: Tick, hydrated: bool, rows: Vec<RowChange>) -> Arc<TickOutput> {
    Arc::new(TickOutput {
        tick,
        wall_ms: 1_000 + tick as i64,
        hydrated,
        rows: rows.into_iter().map(|change| (0, change)).collect(),
        sealed: vec![crate::engine::SealedSource { positions: vec![(0, tick as i64)], ..Default::default() }],
        ..TickOutput::default()
    })
}

fn lines(batch: &SinkBatch) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    batch.records.iter().map(|r| format!("{} {}", text(&r.key), r.value.as_deref().map_or("-".into(), text))).collect()
}

const ROW_1A: &str = r#"{"id":1} {"id":1,"amount":"1.50","status":"a"}"#;

#[test]
fn rows_are_upserts_and_what_was_only_on_the_way_is_not_written() {
    let mut encoder = encode::Encoder::new(plan(Format::UpsertJson), 0);
    let first = tick(1, false, vec![change(2, None, Some("x")), change(1, None, Some("z"))]);
    assert_eq!(lines(&encoder.encode(&first)), [""; 0]);
    let second = tick(2, true, vec![change(1, Some("z"), Some("a")), change(2, Some("x"), None)]);
    assert_eq!(lines(&encoder.encode(&second)), [ROW_1A]);
    let third = tick(3, true, vec![change(1, Some("a"), None), change(3, None, None)]);
    assert_eq!(lines(&encoder.encode(&third)), [r#"{"id":1} -"#]);
}

#[test]
fn the_id_is_that_of_the_fact() {
    let id = |at, row: RowChange| encoder(Format::UpsertJson).encode(&tick(at, true, vec![row])).records[0].id;
    let one = id(1, change(1, None, Some("a")));
    assert_eq!(one, id(9, change(1, Some("b"), Some("a"))));
    assert_ne!(one, id(1, change(1, None, Some("b"))));
    assert_ne!(one, id(1, change(1, Some("a"), None)));
    let envelope = encode::Encoder::new(plan(Format::DebeziumJson), 0).encode(&tick(1, true, vec![change(1, None, Some("a"))]));
    assert_eq!(one, envelope.records[0].id);
}

#[test]
fn an_envelope_has_both_images_and_a_delete_its_tombstone() {
    let mut encoder = encoder(Format::DebeziumJson);
    let batch = encoder.encode(&tick(2, true, vec![change(1, Some("a"), Some("b")), change(2, Some("c"), None)]));
    let values: Vec<Option<serde_json::Value>> = batch.records.iter().map(|r| r.value.as_ref().map(|v| serde_json::from_slice(v).unwrap())).collect();
    let [Some(update), Some(delete), None] = &values[..] else { panic!("{values:?}") };
    assert_eq!((&update["op"], &update["before"]["status"], &update["after"]["status"]), (&"u".into(), &"a".into(), &"b".into()));
    assert_eq!((&delete["op"], &delete["before"]["id"], &delete["after"]), (&"d".into(), &2.into(), &serde_json::Value::Null));
    assert_eq!(update["source"]["ts_ms"], 1_002);
}

#[test]
fn a_file_gets_whole_lines_after_whole_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/out.ndjson");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "{\"a\":1}\n{\"key\":{\"torn").unwrap();
    let mut plan = (*plan(Format::UpsertJson)).clone();
    plan.connections[0].kind = ConnectionKind::File { dir: dir.path().join("sub") };
    let writers = Writers::start(&Arc::new(plan), Vec::new(), "", |_| Keep::All).unwrap();
    for output in [tick(1, true, vec![change(1, None, Some("a"))]), tick(2, true, vec![change(1, Some("a"), None)])] {
        writers.send(&output).unwrap();
    }
    let status = writers.status().next().unwrap().clone();
    writers.finish().unwrap();
    assert_eq!((status.tick(), status.records()), (2, 2));
    let text = std::fs::read_to_string(&path).unwrap();
    let read: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(read.len(), 3);
    assert_eq!((&read[1]["value"]["status"], &read[1]["tick"]), (&"a".into(), &1.into()));
    assert_eq!((&read[2]["key"]["id"], &read[2]["value"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(read[1]["id"].as_str().unwrap().len(), 32);
}

#[test]
fn a_topic_gets_records_with_headers_in_the_order_of_ticks() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("out", 1, 1).unwrap();
    let mut sink = kafka::KafkaSink::open("bus", &cluster.bootstrap_servers(), &Properties::default(), "out").unwrap();
    let mut encoder = encoder(Format::UpsertJson);
    for at in 1..=20 {
        let rows = vec![change(at as i64, None, Some("a")), change(0, Some("a"), None)];
        sink.apply(&encoder.encode(&tick(at, true, rows))).unwrap();
    }
    sink.flush().unwrap();

    let mut config = crate::log::kafka::client::config(&cluster.bootstrap_servers(), &Properties::default());
    let consumer: BaseConsumer = config.set("group.id", "test").create().unwrap();
    let mut places = TopicPartitionList::new();
    places.add_partition_offset("out", 0, Offset::Beginning).unwrap();
    consumer.assign(&places).unwrap();
    let mut ids = Vec::new();
    for n in 0..40 {
        let message = consumer.poll(Duration::from_secs(20)).unwrap().unwrap();
        let headers: Vec<(String, String)> =
            message.headers().unwrap().iter().map(|h| (h.key.into(), String::from_utf8(h.value.unwrap().to_vec()).unwrap())).collect();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tieout-tick", "tieout-id", "tieout-mapping"]);
        assert_eq!((headers[0].1.as_str(), headers[2].1.as_str()), ((n / 2 + 1).to_string().as_str(), "1"));
        assert_eq!(message.payload().is_none(), n % 2 == 1);
        assert!(message.key().unwrap().starts_with(br#"{"id":"#));
        ids.push(headers[1].1.clone());
    }
    assert_eq!(ids.iter().filter(|id| **id == ids[1]).count(), 20, "the same fact has the same id");
}

#[test]
fn a_record_that_no_broker_takes_is_named() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("out", 1, 1).unwrap();
    let properties = Properties::from_iter([("message.timeout.ms".to_string(), "300".to_string())]);
    let mut sink = kafka::KafkaSink::open("bus", &cluster.bootstrap_servers(), &properties, "out").unwrap();
    cluster.broker_down(1).unwrap();
    let mut encoder = encoder(Format::UpsertJson);
    sink.apply(&encoder.encode(&tick(1, true, vec![change(1, None, Some("a"))]))).unwrap();
    let error = sink.flush().unwrap_err();
    assert_eq!((error.code, error.retry), ("NOT_DELIVERED", true));
    assert!(error.message.contains("topic `out` of connection `bus`"), "{error}");
}

#[test]
fn a_file_is_cut_back_to_the_tick_of_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.ndjson");
    let text = |n: u64| SinkRecord {
        key: format!("{{\"id\":{n}}}").into_bytes(),
        value: Some(format!("{{\"a\":\",\\\"tick\\\":9{n}\"}}").into_bytes()),
        id: [7; 16],
        mapping: "".into(),
    };
    let write = |keep, ticks: &[Tick]| {
        let mut sink = file::FileSink::open(&path, keep).unwrap();
        for tick in ticks {
            sink.apply(&SinkBatch { tick: *tick, records: vec![text(*tick), text(*tick)] }).unwrap();
        }
        sink.flush().unwrap();
        let lines = std::fs::read_to_string(&path).unwrap();
        lines.lines().map(|line| line.rsplit_once(",\"tick\":").unwrap().1.split(',').next().unwrap().parse().unwrap()).collect::<Vec<Tick>>()
    };
    assert_eq!(write(Keep::All, &[3, 5, 120]), [3, 3, 5, 5, 120, 120]);
    let began = std::fs::metadata(&path).unwrap().len();
    assert_eq!(write(Keep::UpTo(5), &[6]), [3, 3, 5, 5, 6, 6]);
    assert_eq!(write(Keep::UpTo(5), &[]), [3, 3, 5, 5]);
    assert_eq!(write(Keep::UpTo(1), &[]), [0; 0]);
    assert_eq!(write(Keep::Bytes(0), &[9]), [9, 9]);
    assert_eq!(write(Keep::Bytes(began), &[10]), [9, 9, 10, 10]);
    let append = |text: &str| std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
    append("{\"key\":{\"id\":1");
    assert_eq!(write(Keep::UpTo(10), &[]), [9, 9, 10, 10], "half a line of ours goes");
    // What others wrote stays, and nothing is written beside it that is there already.
    let refused = |keep| {
        let before = std::fs::read(&path).unwrap();
        let error = file::FileSink::open(&path, keep).unwrap_err();
        assert_eq!((error.code, std::fs::read(&path).unwrap() == before), ("FILE_NOT_WRITTEN", true), "{error}");
    };
    append("# mine");
    refused(Keep::All);
    append("\n");
    refused(Keep::UpTo(9));
    refused(Keep::Bytes(0));
    file::FileSink::open(&path, Keep::UpTo(10)).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().ends_with("# mine\n"));
}

/// The fixture's plan, in which the column `status` is bytes.
fn plan_of_bytes(format: Format) -> Arc<Plan> {
    let mut plan = Arc::unwrap_or_clone(plan(format));
    plan.targets[0].columns.iter_mut().filter(|column| column.name == "status").for_each(|column| column.ty = Type::Bytes);
    Arc::new(plan)
}

#[test]
fn bytes_in_an_envelope_are_base64_and_ids_are_those_of_the_rows() {
    let written = |format: Format| {
        let mut encoder = encode::Encoder::new(plan_of_bytes(format), 0);
        encoder.encode(&tick(0, true, Vec::new()));
        let row = |bytes: &[u8]| RowState::Row(pack_row(&[Value::Int(1), Value::Decimal(150), Value::Bytes(bytes.into())]).into());
        let turn = |before, after| RowChange { before, after, ..change(1, None, None) };
        encoder.encode(&tick(1, true, vec![turn(row(&[0, 255, 7]), row(&[1])), turn(row(&[1]), RowState::Absent)]))
    };
    let (events, rows) = (written(Format::DebeziumJson), written(Format::UpsertJson));
    let ids = |batch: &SinkBatch| batch.records.iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(ids(&events)[..2], ids(&rows)[..]);
    assert!(lines(&rows)[0].contains(r#""status":"01""#), "{:?}", lines(&rows));
    // A source of the same format reads what was written.
    let source = crate::format::testing::source("debezium-json", "id bigint, amount decimal(12,2), status bytes", "id");
    let mut decoder = crate::format::decoder(&source, &[true; 3]);
    let mut batch = crate::format::Batch::default();
    batch.clear(3);
    for record in &events.records {
        decoder.decode(crate::format::Message { key: Some(&record.key), value: record.value.as_deref(), ..Default::default() }, &mut batch);
    }
    let read = crate::format::testing::show(&batch, &source);
    assert_eq!(read, "1001 upsert id=1 amount=1.50 status=01\n1001 delete id=1 amount=? status=?\ndelete id=1 amount=? status=?");
    let first: serde_json::Value = serde_json::from_slice(events.records[0].value.as_deref().unwrap()).unwrap();
    assert_eq!((&first["before"]["status"], &first["after"]["status"]), (&"AP8H".into(), &"AQ==".into()));
}
