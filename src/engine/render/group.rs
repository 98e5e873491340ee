//! Grouped aggregates and DISTINCT: one operator with a table of groups.
//!
//! Updates wait by tick. When a tick is closed its updates are applied in whatever order they came, since accumulators do
//! not remember order, and of each touched group the old row goes and the new one comes, if they differ. A group that can't
//! be computed (an overflow) has an error instead of a row until it can.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use differential_dataflow::AsCollection;
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        channels::pact::Exchange,
        operators::generic::{OutputBuilder, builder_rc::OperatorBuilder},
    },
};

use super::{
    accumulate::{Accumulator, ByBytes},
    arrange::{Keyed, route},
    program::{self, push_part, split_record},
    sql::{Errors, Rendering, RowError, Rows},
};
use crate::{
    engine::sql::rel::Group,
    row::{self, Field, RowReader, RowWriter, Type},
};

/// The rows of a grouped relation.
pub fn render<'scope>(rendering: &mut Rendering<'_, 'scope>, group: &Group) -> Rows<'scope> {
    let rows = rendering.rel(&group.input);
    let (keys, width) = (group.keys, group.program.outputs.len());
    let mut scratch = Vec::new();
    let (records, errors) = program::run(rows, "GroupKey", &group.program, move |emitted| {
        scratch.clear();
        emitted.write(0..keys, &mut scratch);
        let mut record = Vec::with_capacity(scratch.len() + 24);
        push_part(&mut record, &scratch);
        if width > keys {
            emitted.write(keys..width, &mut record);
        }
        Some(record)
    });
    rendering.errors.push(errors);
    let (rows, errors) = grouped(records, Shape::new(group));
    rendering.errors.push(errors);
    rows
}

/// Each key once, as long as it has a record.
pub fn distinct_keys(records: Keyed<'_>) -> Rows<'_> {
    distinct_rows(records.map(|(key, _)| key))
}

/// Each row once.
pub fn distinct_rows(rows: Rows<'_>) -> Rows<'_> {
    let records = rows.map(|row| {
        let mut record = Vec::with_capacity(row.len() + 2);
        push_part(&mut record, &row);
        record
    });
    grouped(records, Shape { is_key: true, ..Shape::default() }).0
}

/// What the operator knows of a [`Group`].
#[derive(Default)]
struct Shape {
    keys: Vec<Type>,
    /// Of the key's columns.
    names: Vec<(String, DataType)>,
    arguments: Vec<Type>,
    always: bool,
    aggregates: Vec<crate::engine::sql::rel::Aggregate>,
    outputs: Vec<usize>,
    /// The row is the key.
    is_key: bool,
}

impl Shape {
    fn new(group: &Group) -> Shape {
        let packed = |slots: &[crate::engine::sql::rel::Slot]| slots.iter().map(|s| s.packed).collect::<Vec<_>>();
        Shape {
            keys: packed(&group.slots[..group.keys]),
            names: group.slots[..group.keys].iter().map(|s| (s.name.clone(), s.ty.clone())).collect(),
            arguments: packed(&group.slots[group.keys..]),
            always: group.always,
            aggregates: group.aggregates.clone(),
            outputs: group.outputs.clone(),
            is_key: group.aggregates.is_empty() && group.outputs.iter().copied().eq(0..group.keys),
        }
    }

    fn empty(&self) -> State {
        State { rows: 0, accumulators: self.aggregates.iter().map(Accumulator::new).collect() }
    }

    /// What stands for a group now.
    fn outcome(&self, key: &[u8], state: &State) -> Outcome {
        if state.rows <= 0 && !self.always {
            return Outcome::Absent;
        }
        if self.is_key {
            return Outcome::Row(key.to_vec());
        }
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(self.aggregates.len()));
        for (aggregate, accumulator) in self.aggregates.iter().zip(&state.accumulators) {
            let start = bytes.len();
            match accumulator.finish(aggregate, state.rows, &mut bytes) {
                Ok(present) => ends.push(present.then_some(start..bytes.len())),
                Err(cause) => return Outcome::Failed(cause),
            }
        }
        let mut reader = RowReader::new(key, self.keys.len());
        let keys: Vec<Field> = self.keys.iter().map(|ty| reader.next(*ty)).collect();
        let mut row = Vec::with_capacity(key.len() + bytes.len() + 2);
        let mut writer = RowWriter::new(&mut row, self.outputs.len());
        for output in &self.outputs {
            match output.checked_sub(keys.len()) {
                None => writer.field(keys[*output]),
                Some(at) => writer.field(ends[at].clone().map_or(Field::Null, |place| Field::Packed(&bytes[place]))),
            }
        }
        writer.finish();
        Outcome::Row(row)
    }
}

struct State {
    /// How many rows the group has.
    rows: i64,
    accumulators: Vec<Accumulator>,
}

#[derive(PartialEq, Eq)]
enum Outcome {
    Absent,
    Row(Vec<u8>),
    Failed(String),
}

/// The operator: records of a key and its arguments (see [`push_part`]) to rows.
fn grouped<'scope>(records: Rows<'scope>, shape: Shape) -> (Rows<'scope>, Errors<'scope>) {
    let scope = records.inner.scope();
    let (index, peers) = (scope.index(), scope.peers());
    let mut builder = OperatorBuilder::new("Group".to_string(), scope);
    let exchange = Exchange::new(|(record, _, _): &(Vec<u8>, u64, isize)| route(split_record(record).0));
    let mut input = builder.new_input(records.inner, exchange);
    let (good, good_stream) = builder.new_output();
    let (bad, bad_stream) = builder.new_output();
    let mut good = OutputBuilder::<_, CapacityContainerBuilder<Vec<(Vec<u8>, u64, isize)>>>::from(good);
    let mut bad = OutputBuilder::<_, CapacityContainerBuilder<Vec<(RowError, u64, isize)>>>::from(bad);
    builder.build(move |capabilities| {
        let mut groups: ByBytes<State> = ByBytes::default();
        // A group that is always there is there from the first tick, before any row came.
        let only = row::pack_row(&[]);
        let mut first = (shape.always && route(&only) % peers as u64 == index as u64).then_some(capabilities);
        let mut waiting: BTreeMap<u64, (_, Vec<(Vec<u8>, isize)>)> = BTreeMap::new();
        move |frontiers| {
            let (mut good, mut bad) = (good.activate(), bad.activate());
            if let Some(capabilities) = first.take() {
                let state = shape.empty();
                let tick = *capabilities[0].time();
                match shape.outcome(&only, &state) {
                    Outcome::Row(row) => good.session(&capabilities[0]).give((row, tick, 1)),
                    Outcome::Failed(cause) => bad.session(&capabilities[1]).give((RowError { code: "EVALUATION_FAILED", cause }, tick, 1)),
                    Outcome::Absent => {}
                }
                groups.insert(only.as_slice().into(), state);
            }
            input.for_each_time(|capability, data| {
                for (record, tick, weight) in data.flat_map(|container| container.drain(..)) {
                    waiting.entry(tick).or_insert_with(|| ((capability.delayed(&tick, 0), capability.delayed(&tick, 1)), Vec::new())).1.push((record, weight));
                }
            });
            while let Some(entry) = waiting.first_entry() {
                if frontiers[0].less_equal(entry.key()) {
                    break;
                }
                let (tick, ((good_at, bad_at), updates)) = entry.remove_entry();
                let (mut good, mut bad) = (good.session(&good_at), bad.session(&bad_at));
                let touched = apply(&shape, &mut groups, updates);
                for (key, before) in touched {
                    let state = &groups[&key];
                    let after = shape.outcome(&key, state);
                    let is_gone = state.rows == 0 && !shape.always;
                    if before != after {
                        for (outcome, weight) in [(before, -1), (after, 1)] {
                            match outcome {
                                Outcome::Absent => {}
                                Outcome::Row(row) => good.give((row, tick, weight)),
                                Outcome::Failed(cause) => bad.give((RowError { code: "EVALUATION_FAILED", cause: shape.blame(&key, cause) }, tick, weight)),
                            }
                        }
                    }
                    if is_gone {
                        groups.remove(&key);
                    }
                }
            }
        }
    });
    (good_stream.as_collection(), bad_stream.as_collection())
}

/// Applies a tick's updates; gives the groups they touched and what stood for these before.
fn apply(shape: &Shape, groups: &mut ByBytes<State>, updates: Vec<(Vec<u8>, isize)>) -> Vec<(Box<[u8]>, Outcome)> {
    let mut touched: ByBytes<Outcome> = ByBytes::default();
    for (record, weight) in updates {
        let (key, arguments) = split_record(&record);
        let state = match groups.get_mut(key) {
            Some(state) => state,
            None => groups.entry(key.into()).or_insert_with(|| shape.empty()),
        };
        if !touched.contains_key(key) {
            touched.insert(key.into(), shape.outcome(key, state));
        }
        state.rows += weight as i64;
        if !shape.arguments.is_empty() {
            let mut reader = RowReader::new(arguments, shape.arguments.len());
            let fields: Vec<Field> = shape.arguments.iter().map(|ty| reader.next(*ty)).collect();
            for (aggregate, accumulator) in shape.aggregates.iter().zip(&mut state.accumulators) {
                if let Some(argument) = aggregate.argument {
                    accumulator.add(fields[argument], weight as i64);
                }
            }
        }
    }
    touched.into_iter().collect()
}

impl Shape {
    /// An error's cause, with the group's key.
    fn blame(&self, key: &[u8], cause: String) -> String {
        let mut reader = RowReader::new(key, self.keys.len());
        let keys: Vec<String> = self
            .keys
            .iter()
            .zip(&self.names)
            .map(|(ty, (name, arrow))| format!("{name} = {}", crate::engine::sql::types::show(None, arrow, reader.next(*ty))))
            .collect();
        if keys.is_empty() { cause } else { format!("{cause} ({})", keys.join(", ")) }
    }
}
