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
        table::change::{Op, Parcel, push_with},
    },
    format::{self, Batch, Record, Span},
    row::{self, Column, Field, RowReader, RowWriter, Type, push_key},
};

/// Packed rows of a table's columns, with weights.
pub type Rows<'scope> = VecCollection<'scope, u64, Vec<u8>, isize>;
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
    rows.inner.unary::<CapacityContainerBuilder<Vec<Parcel>>, _, _, _>(Pipeline, "Changes", move |_, _| {
        let (mut key_bytes, mut value_bytes, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        move |input_handle, output| {
            input_handle.for_each(|cap, data| {
                let mut runs = vec![Vec::new(); workers];
                for (packed, _, weight) in data.drain(..) {
                    let fields = row::fields(&packed, &columns);
                    key_bytes.clear();
                    for (i, (column, ty)) in key.iter().enumerate() {
                        let field = converted(fields[*column], columns[*column].ty, *ty, &mut scratch);
                        push_key(&mut key_bytes, *ty, field, i + 1 == key.len());
                    }
                    value_bytes.clear();
                    let mut writer = RowWriter::new(&mut value_bytes, values.len());
                    for (column, ty) in &values {
                        writer.field(converted(fields[*column], columns[*column].ty, *ty, &mut scratch));
                    }
                    writer.finish();
                    let run = &mut runs[row::worker_of(row::hash_key(&key_bytes), workers)];
                    let op = if weight > 0 { Op::Add } else { Op::Subtract };
                    for _ in 0..weight.unsigned_abs() {
                        push_with(run, op, TIME_OF_TICK, &key_bytes, &value_bytes);
                    }
                }
                let mut session = output.session(&cap);
                for (to, run) in runs.into_iter().enumerate().filter(|(_, run)| !run.is_empty()) {
                    session.give(Parcel { to: to as u64, input, seq: None, run });
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
            match row::convert(from, to, bytes, scratch) {
                Ok(()) => Field::Packed(scratch),
                Err(_) => Field::Null,
            }
        }
        field => field,
    }
}

/// A field mapping over the rows of a collection.
pub fn mapped<'scope>(rows: Rows<'scope>, columns: Vec<Column>, mut program: RowProgram, failure: Failure) -> (Rows<'scope>, Rejects<'scope>) {
    let mut batch = Batch::default();
    let stream = rows.inner.unary::<CapacityContainerBuilder<Vec<(Result<Vec<u8>, Reject>, u64, isize)>>, _, _, _>(Pipeline, "Fields", move |_, _| {
        move |input, output| {
            input.for_each(|cap, data| {
                fill(&mut batch, &columns, data.iter().map(|(row, ..)| row.as_slice()));
                let mut session = output.session(&cap);
                let result = program.run(&batch, -1, |mapped| {
                    let (_, tick, weight) = &data[mapped.record];
                    match (mapped.fate, mapped.change, mapped.reject) {
                        (Fate::Applied, Some((_, _, value)), _) => session.give((Ok(value.to_vec()), *tick, *weight)),
                        (_, _, Some(reject)) => session.give((Err(reject), *tick, *weight)),
                        _ => {}
                    }
                });
                if let Err(why) = result {
                    failure.borrow_mut().get_or_insert(why);
                }
                data.clear();
            });
        }
    });
    let rows = stream.clone().flat_map(|(result, tick, weight)| result.ok().map(|row| (row, tick, weight))).as_collection();
    let rejects = stream.flat_map(|(result, tick, weight)| result.err().map(|reject| (reject, tick, weight))).as_collection();
    (rows, rejects)
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
