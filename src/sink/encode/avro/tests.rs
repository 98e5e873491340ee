//! What is written in Avro is read back as the same rows; schemas as they are registered.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    format::{
        Batch, Message,
        avro::{Known, Schemas, schema::Schema},
        testing::{show, source},
    },
    plan::Connection,
    row::{Value, pack_key, pack_row, pack_value},
    sink::{
        encode::Encoder,
        tests::{change, tick},
    },
};

const COLUMNS: &str = "id bigint, b bool, s smallint, d decimal(38,3), f double, t varchar(5), by bytes, day date, ti time(3), ts timestamp(3), tz timestamptz, u uuid, j json, a array";

/// A plan with one output in Avro, whose schemas have the ids 1 (key) and 2 (value), and what can read it.
fn plan(what: OutputOf, format: Format, columns: &[Column]) -> (Arc<Plan>, Arc<Schemas>) {
    let mut plan = crate::ledger::fixture::plan();
    if !columns.is_empty() {
        plan.targets[0].columns = columns.to_vec();
    }
    let registry = Arc::new(Registry { url: "http://127.0.0.1:1".into(), user: None, schemas: Arc::default() });
    plan.connections.push(Connection {
        name: "bus".into(),
        kind: ConnectionKind::Kafka { brokers: String::new(), properties: Default::default(), registry: Some(registry.clone()) },
    });
    plan.outputs = vec![Output { what, connection: 2, to: "out".into(), format }];
    let shape = Shape::of(&plan, &plan.outputs[0]);
    for (subject, id, schema) in [("out-key", 1, &shape.key_schema), ("out-value", 2, &shape.value_schema)] {
        registry.schemas.registered(subject, id);
        registry.schemas.put(id, Known::Schema(Arc::new(Schema::parse(&schema.to_string(), &[]).expect("a schema"))));
    }
    (Arc::new(plan), registry.schemas.clone())
}

fn columns_of(text: &str) -> Vec<Column> {
    source("upsert-avro", text, "id").columns
}

/// What a source in this format reads of the records of an output.
fn read_back(format: &str, columns: &str, schemas: &Arc<Schemas>, records: &[crate::sink::SinkRecord]) -> String {
    let source = crate::plan::Source { schemas: Some(schemas.clone()), ..source(format, columns, "id") };
    let mut decoder = crate::format::decoder(&source, &vec![true; source.columns.len()]);
    let mut batch = Batch::default();
    batch.clear(source.columns.len());
    for record in records {
        decoder.decode(Message { key: Some(&record.key), value: record.value.as_deref(), ..Message::default() }, &mut batch);
    }
    show(&batch, &source)
}

#[test]
fn every_type_is_read_back_as_it_was() {
    let columns = columns_of(COLUMNS);
    let (plan, schemas) = plan(OutputOf::Table(0), Format::UpsertAvro, &columns);
    let rows = [
        vec![
            Value::Int(i64::MIN),
            Value::Bool(true),
            Value::Int(-7),
            Value::Decimal(-129),
            Value::Double(-0.1),
            Value::Text("é".into()),
            Value::Bytes(vec![0, 255]),
            Value::Date(-800_000),
            Value::Time(-1_000),
            Value::Timestamp(-1_000),
            Value::Timestamp(i64::MAX),
            Value::Uuid([9; 16]),
            Value::Text("{\"a\": 1}".into()),
            Value::Text("[1,null]".into()),
        ],
        [Value::Int(1)].into_iter().chain((1..14).map(|_| Value::Null)).collect(),
        [Value::Int(2), Value::Unknown].into_iter().chain((2..14).map(|_| Value::Null)).collect(),
    ];
    let mut encoder = Encoder::new(plan, 0);
    encoder.encode(&tick(0, true, Vec::new()));
    let mut changes = Vec::new();
    for row in &rows {
        let mut packed = Vec::new();
        pack_value(&mut packed, &row[0]);
        let key = pack_key(&[Type::Int(64)], &[crate::row::Field::Packed(&packed)]).into();
        changes.push(crate::engine::RowChange { key, before: crate::engine::RowState::Absent, after: crate::engine::RowState::Row(pack_row(row).into()) });
    }
    let records = encoder.encode(&tick(1, true, changes)).records;
    let nulls = " b=- s=- d=- f=- t=- by=- day=- ti=- ts=- tz=- u=- j=- a=-";
    assert_eq!(
        read_back("upsert-avro", COLUMNS, &schemas, &records),
        format!(
            "upsert id=-9223372036854775808 b=true s=-7 d=-0.129 f=-0.1 t=é by=00ff day=-0221-09-04 ti=-00:00:00.001 ts=1969-12-31T23:59:59.999 \
             tz=epoch+9223372036854775807us u=09090909-0909-0909-0909-090909090909 j={{\"a\": 1}} a=[1,null]\nupsert id=1{nulls}\nupsert id=2{nulls}"
        )
    );
}

#[test]
fn decimals_are_as_short_as_they_can_be() {
    let columns = columns_of("id bigint, d decimal(38,0)");
    for (n, bytes) in [(0i128, &[0u8][..]), (127, &[127]), (128, &[0, 128]), (-128, &[128]), (-129, &[0xff, 0x7f]), (1 << 64, &[1, 0, 0, 0, 0, 0, 0, 0, 0])] {
        let mut out = Vec::new();
        write::push_row(&mut out, &columns, &pack_row(&[Value::Null, Value::Decimal(n)]));
        assert_eq!(out[2..], [&[2 * bytes.len() as u8][..], bytes].concat(), "{n}");
    }
}

#[test]
fn an_envelope_has_both_rows_and_a_tombstone_follows_a_delete() {
    let (plan, schemas) = plan(OutputOf::Table(0), Format::DebeziumAvro, &[]);
    let mut encoder = Encoder::new(plan, 0);
    encoder.encode(&tick(0, true, Vec::new()));
    let changes = vec![change(1, None, Some("a")), change(2, Some("a"), Some("b")), change(3, Some("a"), None)];
    let records = encoder.encode(&tick(1, true, changes)).records;
    assert_eq!(records.len(), 4);
    assert_eq!((records[2].id, &records[2].key, records[3].value.as_ref()), (records[3].id, &records[3].key, None));
    assert_eq!(
        read_back("debezium-avro", "id bigint, amount decimal(18,2), status varchar", &schemas, &records),
        "1001 upsert id=1 amount=1.50 status=a\n1001 upsert id=2 amount=1.50 status=b\n1001 delete id=3 amount=? status=?\ndelete id=3 amount=? status=?"
    );
}

/// The same fact has the same id, whatever it is written in.
#[test]
fn ids_do_not_depend_on_the_format() {
    let records = |format| {
        let mut encoder = Encoder::new(plan(OutputOf::Table(0), format, &[]).0, 0);
        encoder.encode(&tick(0, true, Vec::new()));
        encoder.encode(&tick(1, true, vec![change(1, None, Some("a")), change(3, Some("a"), None)])).records.iter().map(|r| r.id).collect::<Vec<_>>()
    };
    assert_eq!(records(Format::UpsertAvro), records(Format::UpsertJson));
}

#[test]
fn differences_are_read_back() {
    let (plan, schemas) = plan(OutputOf::Differences(0), Format::UpsertAvro, &[]);
    let shape = Shape::of(&plan, &plan.outputs[0]);
    assert_eq!(shape.key_schema, json!({ "type": "record", "name": "Key", "namespace": "tieout.orders_in_erp", "fields": [{ "name": "id", "type": "long" }] }));
    let mut key = Vec::new();
    pack_value(&mut key, &Value::Int(7));
    let key = pack_key(&[Type::Int(64)], &[crate::row::Field::Packed(&key)]);
    let encoder = AvroEncoder::new(&plan, 0, "orders_in_erp");
    let difference = json!({
        "kind": "mismatched", "state": "confirmed", "fields": { "amount": { "expected": "1.50", "actual": null }, "n": { "expected": 2, "actual": 3 } },
        "expected": { "id": 7, "amount": "1.50" }, "actual": [1], "since": "2026-01-01T00:00:00Z",
    });
    let turn = Turn { key: Map::new(), before: None, after: Some(difference), packed: Packed::Difference { key: &key } };
    let record = crate::sink::SinkRecord { key: encoder.key(&turn), value: encoder.value(&turn, "c", 0), id: [0; 16], mapping: "".into() };
    assert_eq!(
        read_back("upsert-avro", "id bigint, kind varchar, state varchar, fields json, expected json, actual json, since timestamptz", &schemas, &[record]),
        "upsert id=7 kind=mismatched state=confirmed fields={\"amount\":{\"expected\":\"1.50\",\"actual\":null},\"n\":{\"expected\":\"2\",\"actual\":\"3\"}} \
         expected={\"id\":7,\"amount\":\"1.50\"} actual=[1] since=2026-01-01T00:00:00Z"
    );
}
