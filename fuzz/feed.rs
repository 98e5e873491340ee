//! What the targets of formats share: a source with a column of every type, and what must hold of any message.

use std::sync::Arc;

use tieout::{
    format::{
        Batch, Message, Op,
        avro::{Known, Schemas, schema::Schema},
        decoder,
    },
    plan::{Format, Heartbeat, LogSpec, Source, Start, Wire},
    row::{self, Column, Type},
};

/// The key up to the first line feed, and the rest.
pub fn split(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|b| *b == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&[], data),
    }
}

pub fn topic() -> LogSpec {
    LogSpec::Topic { topic: "t".into(), start: Start::Beginning, heartbeat: Heartbeat::None }
}

/// Decodes a message; what `serde_json` refuses is a reject.
pub fn feed(format: Format, log: LogSpec, key: Option<&[u8]>, value: Option<&[u8]>) {
    let rejected = decode(format, log, None, key, value);
    let refused = value.is_some_and(|v| serde_json::from_slice::<serde_json::Value>(v).is_err_and(|e| !e.to_string().starts_with("number out of range")));
    assert!(!refused || rejected);
}

/// A schema up to the first line feed, and bytes as a value of it: as key and value of both formats in Avro.
pub fn feed_avro(data: &[u8]) {
    let (schema, bytes) = split(data);
    let Ok(schema) = Schema::parse(&String::from_utf8_lossy(schema), &[]) else { return };
    let schemas = Arc::new(Schemas::default());
    schemas.put(1, Known::Schema(Arc::new(schema)));
    let message = [&[0, 0, 0, 0, 1], bytes].concat();
    for format in [Format::DebeziumAvro, Format::UpsertAvro] {
        decode(format, topic(), Some(schemas.clone()), Some(&message), Some(&message));
        decode(format, topic(), Some(schemas.clone()), Some(&message), None);
        decode(format, topic(), Some(schemas.clone()), None, Some(bytes));
    }
}

/// Decodes a message twice, as what was learnt of the first must not change the second; all packed fields can be read. Whether
/// it is a reject.
fn decode(format: Format, log: LogSpec, schemas: Option<Arc<Schemas>>, key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
    let columns = [
        ("id", "int"),
        ("name", "varchar(20)"),
        ("email", "varchar"),
        ("credit", "decimal(12,2)"),
        ("active", "bool"),
        ("updated_at", "timestamptz"),
        ("b", "bool"),
        ("d", "double"),
        ("dt", "date"),
        ("t", "time"),
        ("t3", "time(3)"),
        ("ts", "timestamp"),
        ("ts3", "timestamp(3)"),
        ("u", "uuid"),
        ("j", "json"),
        ("by", "bytes"),
        ("ai", "int[]"),
        ("n_free", "decimal(38,9)"),
        ("bi", "bigint"),
    ];
    let source = Source {
        name: "fuzz".into(),
        dataflow: "fuzz".into(),
        owner: None,
        connection: 0,
        log,
        format,
        columns: columns.iter().map(|(name, ty)| Column { name: (*name).into(), ty: Type::parse(ty).expect("a type") }).collect(),
        key: vec![0],
        wire: Wire::default(),
        schema_change: None,
        required: std::sync::Arc::default(),
        schemas,
        comment: None,
    };
    let mut decoder = decoder(&source, &[true; 19]);
    let message = Message { key, value, ..Message::default() };
    decoder.source_time(message);
    let (mut shown, mut rejected) = (Vec::new(), false);
    for _ in 0..2 {
        let mut batch = Batch::default();
        batch.clear(columns.len());
        decoder.decode(message, &mut batch);
        assert!(!batch.records.is_empty() && batch.spans.len() == batch.records.len() * columns.len());
        let mut text = String::new();
        for (r, record) in batch.records.iter().enumerate() {
            text += &format!("{:?}", record.op);
            for (column, span) in source.columns.iter().zip(batch.row(r)) {
                text += &row::text_of(column.ty, &span.field(&batch.bytes).value(column.ty));
            }
        }
        shown.push(text);
        rejected = batch.records.iter().any(|r| r.op == Op::Reject);
        assert_eq!(batch.rejects.len(), batch.records.iter().filter(|r| r.op == Op::Reject).count());
    }
    assert_eq!(shown[0], shown[1]);
    rejected
}
