//! Records in Avro: the schemas of an output, their registration, and messages written by them.
//!
//! The writer registers the schemas of an output as `TOPIC-key` and `TOPIC-value` before its first record; what is written
//! carries the ids that it was given.

use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json};

use super::{Packed, Turn};
use crate::{
    format::avro::write,
    plan::{ConnectionKind, Format, Mapping, Output, OutputOf, Plan, Registry, TableRef},
    registry::{Client, Failure},
    row::{Column, Type},
    sink::SinkError,
};

/// How long the registry may be silent at the start.
const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(500);

impl From<Failure> for SinkError {
    fn from(Failure { code, message, remedy, retry }: Failure) -> SinkError {
        SinkError { code, message, remedy, retry }
    }
}

/// Registers the schemas of all outputs in Avro.
///
/// # Errors
/// A registry does not answer, or refuses a schema.
pub fn register(plan: &Plan) -> Result<(), SinkError> {
    for output in plan.outputs.iter().filter(|output| output.format.is_avro()) {
        let Some((connection, registry)) = registry_of(plan, output) else { continue };
        let client = Client::new(connection, registry);
        let shape = Shape::of(plan, output);
        for (subject, schema) in [(key_subject(output), &shape.key_schema), (value_subject(output), &shape.value_schema)] {
            let begun = Instant::now();
            let id = loop {
                match client.register(&subject, schema) {
                    Ok(id) => break id,
                    Err(failure) if failure.retry && begun.elapsed() < PATIENCE => std::thread::sleep(AGAIN),
                    Err(failure) => return Err(failure.into()),
                }
            };
            registry.schemas.registered(&subject, id);
        }
    }
    Ok(())
}

fn registry_of<'p>(plan: &'p Plan, output: &Output) -> Option<(&'p str, &'p Registry)> {
    let connection = &plan.connections[output.connection];
    match &connection.kind {
        ConnectionKind::Kafka { registry: Some(registry), .. } => Some((&connection.name, registry)),
        _ => None,
    }
}

fn key_subject(output: &Output) -> String {
    format!("{}-key", output.to)
}

fn value_subject(output: &Output) -> String {
    format!("{}-value", output.to)
}

/// What an output's messages look like.
#[derive(Debug)]
struct Shape {
    key_schema: Json,
    value_schema: Json,
    key: Vec<Type>,
    /// A column of the key may be NULL, which only queries allow.
    nullable: bool,
    /// The columns of a table's rows; empty for differences.
    columns: Vec<Column>,
}

impl Shape {
    fn of(plan: &Plan, output: &Output) -> Shape {
        let queried = |table: TableRef| matches!(table, TableRef::Target(id) if matches!(plan.targets[id].mapping, Mapping::Sql(_)));
        let (space, key, nullable, columns) = match output.what {
            OutputOf::Table(id) => {
                let target = &plan.targets[id];
                let key: Vec<Column> = target.key.iter().map(|c| target.columns[*c].clone()).collect();
                (format!("tieout.{}", target.name), key, queried(TableRef::Target(id)), target.columns.clone())
            }
            OutputOf::Differences(id) => {
                let comparison = &plan.comparisons[id];
                let key = comparison.key.iter().map(|pair| Column { name: pair.name.clone(), ty: pair.ty }).collect();
                (format!("tieout.{}", comparison.name), key, queried(comparison.expected) || queried(comparison.actual), Vec::new())
            }
        };
        let row = match output.what {
            OutputOf::Table(_) => write::row_schema(&space, &columns),
            OutputOf::Differences(_) => write::difference_schema(&space),
        };
        Shape {
            key_schema: write::key_schema(&space, &key, nullable),
            value_schema: if output.format == Format::DebeziumAvro { write::envelope_schema(&space, &row) } else { row },
            key: key.iter().map(|c| c.ty).collect(),
            nullable,
            columns,
        }
    }
}

/// Writes the messages of one output.
#[derive(Debug)]
pub struct AvroEncoder {
    shape: Shape,
    key_id: u32,
    value_id: u32,
    envelope: bool,
    /// The name of the table or comparison.
    name: String,
}

impl AvroEncoder {
    /// For an output whose schemas have been registered.
    pub fn new(plan: &Plan, output: usize, name: &str) -> AvroEncoder {
        let output = &plan.outputs[output];
        let id = |subject: String| registry_of(plan, output).and_then(|(_, registry)| registry.schemas.subject(&subject)).unwrap_or(0);
        AvroEncoder {
            shape: Shape::of(plan, output),
            key_id: id(key_subject(output)),
            value_id: id(value_subject(output)),
            envelope: output.format == Format::DebeziumAvro,
            name: name.into(),
        }
    }

    /// The key of a change.
    pub(super) fn key(&self, turn: &Turn) -> Vec<u8> {
        let mut out = Vec::new();
        write::push_head(&mut out, self.key_id);
        write::push_key(&mut out, &self.shape.key, turn.packed.key(), self.shape.nullable);
        out
    }

    /// The value of a change: the row, or (in an envelope) both rows. `None`: the key is gone.
    pub(super) fn value(&self, turn: &Turn, op: &str, wall_ms: i64) -> Option<Vec<u8>> {
        let (before, after) = match &turn.packed {
            Packed::Row { before, after, .. } => (before.map(Body::Row), after.map(Body::Row)),
            Packed::Difference { .. } => (turn.before.as_ref().map(Body::Difference), turn.after.as_ref().map(Body::Difference)),
        };
        let mut out = Vec::new();
        write::push_head(&mut out, self.value_id);
        if !self.envelope {
            self.body(&mut out, after?);
            return Some(out);
        }
        for body in [before, after] {
            write::push_long(&mut out, i64::from(body.is_some()));
            body.into_iter().for_each(|body| self.body(&mut out, body));
        }
        write::push_text(&mut out, "tieout");
        write::push_text(&mut out, &self.name);
        write::push_long(&mut out, wall_ms);
        write::push_text(&mut out, op);
        write::push_long(&mut out, 1);
        write::push_long(&mut out, wall_ms);
        Some(out)
    }

    fn body(&self, out: &mut Vec<u8>, body: Body) {
        match body {
            Body::Row(row) => write::push_row(out, &self.shape.columns, row),
            Body::Difference(difference) => push_difference(out, difference),
        }
    }
}

enum Body<'a> {
    Row(&'a [u8]),
    Difference(&'a Json),
}

/// Appends a difference, which is what `show::difference_object` makes, by `write::difference_schema`.
fn push_difference(out: &mut Vec<u8>, difference: &Json) {
    let text = |json: &Json| match json {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    for name in ["kind", "state"] {
        write::push_text(out, difference[name].as_str().unwrap_or_default());
    }
    let none = Map::new();
    let fields = difference["fields"].as_object().unwrap_or(&none);
    if !fields.is_empty() {
        write::push_long(out, fields.len() as i64);
        for (name, sides) in fields {
            write::push_text(out, name);
            write::push_optional(out, text(&sides["expected"]).as_deref());
            write::push_optional(out, text(&sides["actual"]).as_deref());
        }
    }
    write::push_long(out, 0);
    for name in ["expected", "actual", "since"] {
        write::push_optional(out, text(&difference[name]).as_deref());
    }
}

#[cfg(test)]
mod tests;
