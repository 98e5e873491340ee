//! Changes to records: `upsert-json` and `debezium-json`, and the same in Avro (`avro`).
//!
//! What is written before the tables are hydrated would be news of a state that never was, so an encoder keeps the net
//! change of each key until then and writes it with the first hydrated tick. A key that several rows claim, or whose newest
//! record is a reject, has no row that anybody could vouch for: it is written as gone, and the differences say why.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Map, Value as Json, json};
use xxhash_rust::xxh3::Xxh3;

use super::{SinkBatch, SinkRecord};
use crate::{
    engine::{RowChange, RowState},
    format::encode::push_base64,
    ledger::{Change, Difference, TickOutput, show},
    plan::{ComparisonId, Format, OutputOf, Plan, TableRef, TargetId},
    row::{self, Type},
};

pub mod avro;

/// Encodes the changes of one output.
#[derive(Debug)]
pub struct Encoder {
    plan: Arc<Plan>,
    output: usize,
    name: String,
    mapping: Arc<str>,
    avro: Option<avro::AvroEncoder>,
    /// The columns whose values are in base64, as Debezium has bytes.
    base64: Vec<String>,
    hydrated: bool,
    /// While hydrating: what each key that changed held before, and holds now.
    held: HashMap<Box<[u8]>, (RowState, RowState)>,
    /// Differences that changed while ticks are made again of which nothing was shown; they are shown later.
    held_differences: BTreeMap<Arc<[u8]>, (Shown, Shown)>,
}

/// A difference, if there is one.
type Shown = Option<Arc<Difference>>;

/// A key's state before and after, as JSON, and as it came.
struct Turn<'a> {
    key: Map<String, Json>,
    before: Option<Json>,
    after: Option<Json>,
    packed: Packed<'a>,
}

/// Packed keys, and rows of a table.
enum Packed<'a> {
    Row { key: &'a [u8], before: Option<&'a [u8]>, after: Option<&'a [u8]> },
    Difference { key: &'a [u8] },
}

impl<'a> Packed<'a> {
    fn key(&self) -> &'a [u8] {
        match self {
            Packed::Row { key, .. } | Packed::Difference { key } => key,
        }
    }
}

impl Encoder {
    pub fn new(plan: Arc<Plan>, output: usize) -> Encoder {
        let (name, of) = match plan.outputs[output].what {
            OutputOf::Table(target) => (plan.targets[target].name.clone(), TableRef::Target(target)),
            OutputOf::Differences(id) => (plan.comparisons[id].name.clone(), plan.comparisons[id].expected),
        };
        let mapping = match of {
            TableRef::Target(target) => plan.targets[target].version.as_str(),
            TableRef::Source(_) => "",
        };
        let mapping = Arc::from(mapping);
        let avro = plan.outputs[output].format.is_avro().then(|| avro::AvroEncoder::new(&plan, output, &name));
        let base64 = plan.base64_of(&plan.outputs[output]).into_iter().map(String::from).collect();
        Encoder { plan, output, name, mapping, avro, base64, hydrated: false, held: HashMap::new(), held_differences: BTreeMap::new() }
    }

    /// The records of a tick.
    pub fn encode(&mut self, tick: &TickOutput) -> SinkBatch {
        let plan = self.plan.clone();
        let mut records = Vec::new();
        match plan.outputs[self.output].what {
            OutputOf::Differences(id) => {
                let changes = tick.changes.of(id);
                if tick.hydrated && self.held_differences.is_empty() {
                    changes.iter().for_each(|change| self.push(difference_turn(&plan, id, change), tick.wall_ms, &mut records));
                } else {
                    for change in changes {
                        let entry = self.held_differences.entry(change.key().clone());
                        let (_, after) = entry.or_insert_with(|| (change.before.clone(), None));
                        after.clone_from(&change.after);
                    }
                    if tick.hydrated {
                        for (before, after) in std::mem::take(&mut self.held_differences).into_values().filter(|(before, after)| before != after) {
                            self.push(difference_turn(&plan, id, &Change { before, after }), tick.wall_ms, &mut records);
                        }
                    }
                }
            }
            OutputOf::Table(target) => {
                let mine = tick.rows.iter().filter(|(id, _)| *id == target).map(|(_, change)| change);
                if self.hydrated && tick.hydrated {
                    mine.for_each(|change| self.push(row_turn(&plan, target, change), tick.wall_ms, &mut records));
                } else {
                    for change in mine {
                        let entry = self.held.entry(change.key.clone());
                        let (before, after) = entry.or_insert_with(|| (change.before.clone(), RowState::Absent));
                        after.clone_from(&change.after);
                        if before == after {
                            self.held.remove(&change.key);
                        }
                    }
                    if tick.hydrated {
                        let mut held: Vec<_> = std::mem::take(&mut self.held).into_iter().collect();
                        held.sort_by(|a, b| a.0.cmp(&b.0));
                        for (key, (before, after)) in held {
                            let change = RowChange { key, before, after };
                            self.push(row_turn(&plan, target, &change), tick.wall_ms, &mut records);
                        }
                    }
                }
            }
        }
        // It goes back only in ticks that are made again.
        self.hydrated = tick.hydrated;
        SinkBatch { tick: tick.tick, records }
    }

    fn push(&self, mut turn: Turn, wall_ms: i64, records: &mut Vec<SinkRecord>) {
        if turn.before.is_none() && turn.after.is_none() {
            return;
        }
        let mut object = Json::Object(std::mem::take(&mut turn.key));
        let mut key = object.to_string().into_bytes();
        let row = turn.after.as_ref().map(|row| row.to_string().into_bytes());
        let id = self.id(&key, row.as_deref());
        if !self.base64.is_empty() {
            [Some(&mut object), turn.before.as_mut(), turn.after.as_mut()].into_iter().flatten().for_each(|object| self.to_base64(object));
            key = object.to_string().into_bytes();
        }
        let record = |key: &[u8], value| SinkRecord { key: key.to_vec(), value, id, mapping: self.mapping.clone() };
        let op = match (&turn.before, &turn.after) {
            (_, None) => "d",
            (None, _) => "c",
            _ => "u",
        };
        let gone = turn.after.is_none();
        let format = self.plan.outputs[self.output].format;
        if let Some(avro) = &self.avro {
            let key = avro.key(&turn);
            records.push(record(&key, avro.value(&turn, op, wall_ms)));
            if format == Format::DebeziumAvro && gone {
                records.push(record(&key, None));
            }
            return;
        }
        if format == Format::DebeziumJson {
            let source = json!({ "connector": "tieout", "name": self.name, "ts_ms": wall_ms });
            let envelope = json!({ "before": turn.before, "after": turn.after, "source": source, "op": op, "ts_ms": wall_ms });
            records.push(record(&key, Some(envelope.to_string().into_bytes())));
            if !gone {
                return;
            }
        }
        records.push(record(&key, row));
    }

    /// Bytes of a row or key, which are in hexadecimal digits, as this output's readers expect them.
    fn to_base64(&self, object: &mut Json) {
        for name in &self.base64 {
            let Some(Json::String(value)) = object.get_mut(name) else { continue };
            let Some(bytes) = row::unhex(value.as_bytes()) else { continue };
            let mut text = Vec::new();
            push_base64(&mut text, &bytes);
            *value = String::from_utf8_lossy(&text).into_owned();
        }
    }

    /// The same for the same row (or its absence) under the same mapping; says nothing of ticks, clocks or envelopes.
    fn id(&self, key: &[u8], row: Option<&[u8]>) -> [u8; 16] {
        let mut hash = Xxh3::new();
        for part in [self.name.as_bytes(), self.mapping.as_bytes(), key] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        match row {
            None => hash.update(&[0]),
            Some(row) => {
                hash.update(&[1]);
                hash.update(row);
            }
        }
        hash.digest128().to_be_bytes()
    }
}

fn difference_turn<'a>(plan: &Plan, id: ComparisonId, change: &'a Change) -> Turn<'a> {
    let comparison = &plan.comparisons[id];
    let object = |d| Json::Object(show::difference_object(plan, comparison, d));
    let key = show::key_object(plan, comparison, change.key());
    Turn { key, before: change.before.as_deref().map(object), after: change.after.as_deref().map(object), packed: Packed::Difference { key: change.key() } }
}

fn row_turn<'a>(plan: &Plan, target: TargetId, change: &'a RowChange) -> Turn<'a> {
    let table = &plan.targets[target];
    let types: Vec<Type> = table.key.iter().map(|c| table.columns[*c].ty).collect();
    let values = row::unpack_key(&types, &change.key);
    let names = table.key.iter().map(|c| table.columns[*c].name.clone());
    let key: Map<String, Json> = names.zip(types.iter().zip(&values).map(|(ty, value)| row::json_of(*ty, value))).collect();
    let row = |state: &'a RowState| match state {
        RowState::Row(row) => Some(&**row),
        RowState::Absent | RowState::Duplicate(_) | RowState::Rejected(_) | RowState::Written => None,
    };
    let object = |row: Option<&[u8]>| row.map(|row| Json::Object(show::row_object(&table.columns, row)));
    let (before, after) = (row(&change.before), row(&change.after));
    // Of a row that another mapping gave only the key is known.
    let was = if change.before == RowState::Written { Some(Json::Object(key.clone())) } else { object(before) };
    // What was written as gone before is written as gone again only if it can still be there.
    Turn { key, before: was, after: object(after), packed: Packed::Row { key: &change.key, before, after } }
}
