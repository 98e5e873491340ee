//! What the formats' tests share: a source from one line of text, and records as text.

use super::{Batch, Decoder, Lack, Message, Op};
use crate::{
    plan::{Format, LogSpec, Source, Wire},
    row::{self, Column, Type},
};

/// A source; `columns` is `name type, name type, …`, with the commas of types kept together by their parentheses.
pub fn source(format: &str, columns: &str, key: &str) -> Source {
    let mut declared: Vec<String> = vec![String::new()];
    let mut open = 0;
    for c in columns.chars() {
        open += i32::from(c == '(') - i32::from(c == ')');
        if c == ',' && open == 0 {
            declared.push(String::new())
        } else if let Some(last) = declared.last_mut() {
            last.push(c)
        }
    }
    let columns: Vec<Column> = declared
        .iter()
        .map(|d| d.trim().split_once(' ').expect("a name and a type"))
        .map(|(name, ty)| Column { name: name.into(), ty: Type::parse(ty).expect("a type") })
        .collect();
    let key = key.split(',').filter(|k| !k.is_empty()).map(|k| columns.iter().position(|c| c.name == k.trim()).expect("a key column")).collect();
    Source {
        name: "source".into(),
        dataflow: "test".into(),
        owner: None,
        connection: 0,
        log: LogSpec::Files(Vec::new()),
        format: Format::ALL.iter().find(|(name, _)| *name == format).expect("a format").1,
        columns,
        key,
        wire: Wire { hex: !format.starts_with("debezium"), ..Wire::default() },
        schema_change: None,
        required: std::sync::Arc::default(),
        schemas: None,
        comment: None,
    }
}

/// The records of messages (key, value), one a line: source time, operation, columns. `-` is NULL, `?` missing, `!` unknown.
pub fn feed(decoder: &mut dyn Decoder, source: &Source, messages: &[(Option<&str>, Option<&str>)]) -> String {
    let mut batch = Batch::default();
    batch.clear(source.columns.len());
    for (key, value) in messages {
        let message = Message { key: key.map(str::as_bytes), value: value.map(str::as_bytes), ..Message::default() };
        decoder.decode(message, &mut batch);
    }
    show(&batch, source)
}

/// See [`feed`].
pub fn show(batch: &Batch, source: &Source) -> String {
    assert_eq!(batch.spans.len(), batch.records.len() * batch.columns, "each record has all columns");
    (0..batch.records.len()).map(|r| show_record(batch, source, r)).collect::<Vec<_>>().join("\n")
}

fn show_record(batch: &Batch, source: &Source, r: usize) -> String {
    let record = batch.records[r];
    let mut words = Vec::new();
    if record.source_time != i64::MIN {
        words.push(record.source_time.to_string());
    }
    words.push(format!("{:?}", record.op).to_lowercase());
    if let Some(reject) = batch.rejects.iter().find(|reject| reject.record == r) {
        words.push(format!("{} {}", reject.code, reject.cause));
        words.extend(reject.key.as_ref().map(|key| format!("[{key}]")));
    }
    if !matches!(record.op, Op::Skip | Op::Truncate) {
        for (column, span) in source.columns.iter().zip(batch.row(r)) {
            let text = match span.lack() {
                Some(Lack::Null) => "-".to_string(),
                Some(Lack::Missing) => "?".to_string(),
                Some(Lack::Unknown) => "!".to_string(),
                None => row::text_of(column.ty, &span.field(&batch.bytes).value(column.ty)),
            };
            words.push(format!("{}={text}", column.name));
        }
    }
    words.join(" ")
}
