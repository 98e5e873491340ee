//! Between rows of collections and keyed changes of tables; and field mappings over collections.

use std::sync::Arc;

use differential_dataflow::{AsCollection, VecCollection};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Pipeline,
        operators::{generic::operator::Operator, vec::Map},
    },
};

use super::{Failure, layout::Place, table::NetRows};
use crate::{
    engine::{
        Reject,
        mapping::{Fate, RowProgram},
        table::change::{Op, Parcel, push_with, silence},
    },
    format::{self, Batch, Record, Span},
    row::{self, Column, Field, RowReader, RowWriter, Type, push_key},
};

/// Packed rows of a table's columns, with weights.
pub type Rows<'scope> = VecCollection<'scope, u64, Vec<u8>, isize>;
/// Rejects of rows whose target key is known: a row that has only that key, and the packed reject; with weights.
pub type RejectedRows<'scope> = VecCollection<'scope, u64, (Vec<u8>, Vec<u8>), isize>;
/// Rejects, with weights.
pub type Rejects<'scope> = VecCollection<'scope, u64, Reject, isize>;

/// How to make the whole row of a target out of key and value, where its home keeps it.
#[derive(Clone, Debug)]
pub struct Whole {
    pub key: Arc<[Type]>,
    pub values: Arc<[Type]>,
    pub places: Arc<[Place]>,
}

impl Whole {
    /// The row of all columns.
    pub fn row(&self, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(key.len() + value.len() + 4);
        self.write(key, value, &mut Vec::new(), &mut out);
        out
    }

    /// Writes the row of all columns to the end of `out`; `keys` is memory to work in.
    pub fn write(&self, key: &[u8], value: &[u8], keys: &mut Vec<u8>, out: &mut Vec<u8>) {
        keys.clear();
        let key_fields = row::repack_key(&self.key, key, keys);
        let mut reader = RowReader::new(value, self.values.len());
        let mut next = 0;
        let mut writer = RowWriter::new(out, self.places.len());
        for place in self.places.iter() {
            match place {
                // Values mostly stand in the order of the columns; where they don't, the reader starts again.
                Place::Value(at) => {
                    if *at < next {
                        reader = RowReader::new(value, self.values.len());
                        next = 0;
                    }
                    while next < *at {
                        reader.next(self.values[next]);
                        next += 1;
                    }
                    next += 1;
                    writer.field(reader.next(self.values[*at]));
                }
                Place::Key(at) => match &key_fields[*at] {
                    Some(field) => writer.packed(&keys[field.clone()]),
                    None => writer.null(),
                },
            }
        }
        writer.finish();
    }
}

/// Net changes of a table as a collection of whole rows; `None`: its values are whole rows already.
pub fn whole_rows<'scope>(changes: Stream<'scope, u64, NetRows>, whole: Option<Whole>) -> Rows<'scope> {
    changes
        .map(move |((key, value), tick, weight)| {
            let row = match &whole {
                Some(whole) => whole.row(&key, &value),
                None => value,
            };
            (row, tick, weight)
        })
        .as_collection()
}

/// Source time of a change that comes out of a collection: that of its tick, which the ledger knows.
pub const TIME_OF_TICK: i64 = i64::MIN + 1;

/// Rows as changes of a table: parcels for the workers that hold their keys.
pub fn changes<'scope>(
    rows: Rows<'scope>,
    columns: Vec<Column>,
    key: Vec<(usize, Type)>,
    values: Vec<(usize, Type)>,
    input: u32,
    workers: usize,
) -> Stream<'scope, u64, Vec<Parcel>> {
    let (mut value, mut scratch) = (Vec::new(), Vec::new());
    parcels(
        rows.inner,
        move |packed, weight, run| {
            let fields = row::fields(packed, &columns);
            run.key(&fields, &columns, &key);
            value.clear();
            let mut writer = RowWriter::new(&mut value, values.len());
            for (column, ty) in &values {
                writer.field(converted(fields[*column], columns[*column].ty, *ty, &mut scratch));
            }
            writer.finish();
            run.push(if weight > 0 { Op::Add } else { Op::Subtract }, weight, &value);
        },
        input,
        workers,
    )
}

/// Rejected rows as changes of a table: each holds its key back.
pub fn holds<'scope>(
    rows: RejectedRows<'scope>,
    columns: Vec<Column>,
    key: Vec<(usize, Type)>,
    input: u32,
    workers: usize,
) -> Stream<'scope, u64, Vec<Parcel>> {
    parcels(
        rows.inner,
        move |(packed, reject), weight, run| {
            run.key(&row::fields(packed, &columns), &columns, &key);
            run.push(if weight > 0 { Op::AddReject } else { Op::SubtractReject }, weight, reject);
        },
        input,
        workers,
    )
}

/// The runs of changes for each worker.
struct Runs {
    key: Vec<u8>,
    scratch: Vec<u8>,
    runs: Vec<Vec<u8>>,
}

impl Runs {
    /// The key of the changes that are pushed next.
    fn key(&mut self, fields: &[Field], columns: &[Column], key: &[(usize, Type)]) {
        self.key.clear();
        for (i, (column, ty)) in key.iter().enumerate() {
            let field = converted(fields[*column], columns[*column].ty, *ty, &mut self.scratch);
            push_key(&mut self.key, *ty, field, i + 1 == key.len());
        }
    }

    fn push(&mut self, op: Op, weight: isize, value: &[u8]) {
        let to = row::worker_of(row::hash_key(&self.key), self.runs.len());
        for _ in 0..weight.unsigned_abs() {
            push_with(&mut self.runs[to], op, TIME_OF_TICK, &self.key, value);
        }
    }
}

fn parcels<'scope, D: Clone + 'static>(
    stream: Stream<'scope, u64, Vec<(D, u64, isize)>>,
    mut each: impl FnMut(&D, isize, &mut Runs) + 'static,
    input: u32,
    workers: usize,
) -> Stream<'scope, u64, Vec<Parcel>> {
    stream.unary::<CapacityContainerBuilder<Vec<Parcel>>, _, _, _>(Pipeline, "Changes", move |_, _| {
        let mut runs = Runs { key: Vec::new(), scratch: Vec::new(), runs: vec![Vec::new(); workers] };
        move |input_handle, output| {
            input_handle.for_each(|cap, data| {
                // A join that is behind sends what belongs to several ticks at once, as of the first of them.
                data.sort_by_key(|(_, tick, _)| *tick);
                for same in data.chunk_by(|a, b| a.1 == b.1) {
                    same.iter().for_each(|(item, _, weight)| each(item, *weight, &mut runs));
                    let cap = cap.delayed(&same[0].1, 0);
                    let mut session = output.session(&cap);
                    for (to, run) in runs.runs.iter_mut().enumerate().filter(|(_, run)| !run.is_empty()) {
                        session.give(Parcel { to: to as u64, input, seq: None, run: std::mem::take(run), ..Parcel::default() });
                    }
                }
            });
        }
    })
}

/// The comparison's types hold both sides' values, so a conversion to them does not fail.
fn converted<'a>(field: Field<'a>, from: Type, to: Type, scratch: &'a mut Vec<u8>) -> Field<'a> {
    match field {
        Field::Packed(bytes) if !row::same_packing(from, to) => {
            scratch.clear();
            match row::convert_common(from, to, bytes, scratch) {
                Ok(()) => Field::Packed(scratch),
                Err(_) => Field::Null,
            }
        }
        field => field,
    }
}

/// What a mapping makes of a row.
#[derive(Clone)]
enum Outcome {
    Row(Vec<u8>),
    Reject(Reject),
    /// Beside the reject: a row that has only its key, and the packed reject.
    Hold(Vec<u8>, Vec<u8>),
}

/// A field mapping over the rows of a collection; `key` is that of its target.
pub fn mapped<'scope>(
    rows: Rows<'scope>,
    columns: Vec<Column>,
    key: KeyOf,
    mut program: RowProgram,
    failure: Failure,
) -> (Rows<'scope>, RejectedRows<'scope>, Rejects<'scope>) {
    let mut batch = Batch::default();
    let stream = rows.inner.unary::<CapacityContainerBuilder<Vec<(Outcome, u64, isize)>>, _, _, _>(Pipeline, "Fields", move |_, _| {
        move |input, output| {
            input.for_each(|cap, data| {
                fill(&mut batch, &columns, data.iter().map(|(row, ..)| row.as_slice()));
                let mut session = output.session(&cap);
                let result = program.run(&batch, -1, |mapped| {
                    let (_, tick, weight) = &data[mapped.record];
                    match (mapped.fate, mapped.change) {
                        (Fate::Applied, Some((_, _, value))) => session.give((Outcome::Row(value.to_vec()), *tick, *weight)),
                        (Fate::Rejected, Some((_, bytes, reject))) => {
                            let mut silent = reject.to_vec();
                            silence(&mut silent);
                            session.give((Outcome::Hold(key.row(bytes), silent), *tick, *weight));
                        }
                        _ => {}
                    }
                    if let Some(reject) = mapped.reject {
                        session.give((Outcome::Reject(reject), *tick, *weight));
                    }
                });
                if let Err(why) = result {
                    failure.borrow_mut().get_or_insert(why);
                }
                data.clear();
            });
        }
    });
    fn pick<'scope, D: Clone + 'static>(
        stream: &Stream<'scope, u64, Vec<(Outcome, u64, isize)>>,
        which: impl Fn(Outcome) -> Option<D> + 'static,
    ) -> VecCollection<'scope, u64, D, isize> {
        stream.clone().flat_map(move |(outcome, tick, weight)| which(outcome).map(|d| (d, tick, weight))).as_collection()
    }
    let rows = pick(&stream, |outcome| if let Outcome::Row(row) = outcome { Some(row) } else { None });
    let holds = pick(&stream, |outcome| if let Outcome::Hold(row, reject) = outcome { Some((row, reject)) } else { None });
    let rejects = pick(&stream, |outcome| if let Outcome::Reject(reject) = outcome { Some(reject) } else { None });
    (rows, holds, rejects)
}

/// The key of a target: the types and places of its columns, out of how many.
pub struct KeyOf {
    pub types: Vec<Type>,
    pub places: Vec<usize>,
    pub columns: usize,
}

impl KeyOf {
    /// A row that has only the key.
    fn row(&self, key: &[u8]) -> Vec<u8> {
        let (mut keys, mut out) = (Vec::new(), Vec::new());
        let fields = row::repack_key(&self.types, key, &mut keys);
        let mut writer = RowWriter::new(&mut out, self.columns);
        for column in 0..self.columns {
            match self.places.iter().position(|place| *place == column).and_then(|at| fields[at].clone()) {
                Some(field) => writer.packed(&keys[field]),
                None => writer.null(),
            }
        }
        writer.finish();
        out
    }
}

/// Fills a batch with rows: each is an upsert at offset -1.
pub fn fill<'a>(batch: &mut Batch, columns: &[Column], rows: impl Iterator<Item = &'a [u8]>) {
    batch.clear(columns.len());
    for packed in rows {
        let base = batch.bytes.len();
        batch.bytes.extend_from_slice(packed);
        let mut reader = RowReader::new(packed, columns.len());
        for column in columns {
            let missing = reader.is_missing();
            batch.spans.push(match reader.next(column.ty) {
                _ if missing => Span::MISSING,
                Field::Null => Span::NULL,
                Field::Unknown => Span::UNKNOWN,
                Field::Packed(field) => {
                    let at = base + (field.as_ptr() as usize - packed.as_ptr() as usize);
                    Span::of(at, at + field.len())
                }
            });
        }
        batch.records.push(Record { op: format::Op::Upsert, source_time: i64::MIN, offset: -1 });
    }
}

#[cfg(test)]
mod tests {
    use timely::dataflow::operators::{Capture, capture::Event, vec::ToStream};

    use super::*;
    use crate::{
        engine::table::change,
        row::{Value, pack_row},
    };

    /// What is ahead of its tick must not be seen in it: a row that a join takes back and another part of it gives would
    /// show half of the change.
    #[test]
    fn a_change_is_of_its_own_tick_whatever_it_travels_with() {
        let captured = timely::example(|scope| {
            // All of them travel as of tick 0.
            let rows: Vec<(Vec<u8>, u64, isize)> =
                [(1, 7, 1), (2, 3, 1), (3, 7, -1)].map(|(n, tick, weight)| (pack_row(&[Value::Int(n)]), tick, weight)).into();
            let columns = vec![Column { name: "id".into(), ty: Type::Int(64) }];
            changes(rows.to_stream(scope).as_collection(), columns, vec![(0, Type::Int(64))], Vec::new(), 0, 1).capture()
        });
        let mut ticks: Vec<(u64, Vec<Op>)> = Vec::new();
        for event in captured {
            if let Event::Messages(tick, parcels) = event {
                ticks.extend(parcels.iter().map(|parcel| (tick, change::read(&parcel.run).map(|c| c.op).collect())));
            }
        }
        assert_eq!(ticks, [(3, vec![Op::Add]), (7, vec![Op::Add, Op::Subtract])]);
    }
}
