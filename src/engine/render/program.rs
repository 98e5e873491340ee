//! Runs a [`Program`] over batches of packed rows: the one place where a dataflow computes values.

use arrow::array::ArrayRef;
use differential_dataflow::{AsCollection, VecCollection};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        channels::pact::Pipeline,
        operators::generic::{OutputBuilder, builder_rc::OperatorBuilder},
    },
};

use super::sql::{Errors, RowError, Rows};
use crate::{
    engine::sql::{
        compute::Compiled,
        rel::{Program, Source},
        types,
    },
    format::Span,
    row::{self, Field, RowReader, RowWriter},
};

/// Rows that are computed at once, at most.
const BATCH_ROWS: usize = 8192;

/// What a program gives for one row.
pub struct Emitted<'a> {
    program: &'a Program,
    /// Fields of the input row by place in `needed`.
    fields: &'a [Field<'a>],
    places: &'a [usize],
    computed: &'a [Span],
    bytes: &'a [u8],
}

impl<'a> Emitted<'a> {
    /// An output.
    #[inline]
    pub fn field(&self, output: usize) -> Field<'a> {
        match self.program.outputs[output] {
            Source::Copy(at) => self.fields[self.places[at]],
            Source::Computed(at) => self.computed[at].field(self.bytes),
        }
    }

    /// Appends the row of some outputs; says whether one of them is NULL.
    #[inline]
    pub fn write(&self, outputs: std::ops::Range<usize>, out: &mut Vec<u8>) -> bool {
        let (mut writer, mut null) = (RowWriter::new(out, outputs.len()), false);
        for output in outputs {
            let field = self.field(output);
            null |= field == Field::Null;
            writer.field(field);
        }
        writer.finish();
        null
    }

    /// The row of some outputs.
    pub fn row(&self, outputs: std::ops::Range<usize>) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(self.fields.iter().map(|f| if let Field::Packed(bytes) = f { bytes.len() } else { 0 }).sum::<usize>() + outputs.len() / 8 + 1);
        self.write(outputs, &mut out);
        out
    }
}

/// A program with the places of its fields.
pub struct Runner {
    program: Program,
    /// By column of the row: its place in `needed`.
    places: Vec<usize>,
}

impl Runner {
    pub fn new(program: Program) -> Runner {
        let mut places = vec![usize::MAX; program.row.len()];
        for (place, column) in program.needed.iter().enumerate() {
            places[*column] = place;
        }
        Runner { program, places }
    }

    /// Runs over rows: `emit` gets each row that the filters want, `fail` each that has no value, both in order.
    pub fn run<'a>(&self, rows: &[&'a [u8]], emit: &mut dyn FnMut(usize, &Emitted), fail: &mut dyn FnMut(usize, RowError)) {
        let (program, width) = (&self.program, self.program.needed.len());
        let mut fields: Vec<Field<'a>> = Vec::with_capacity(rows.len() * width);
        let mut alive: Vec<u32> = Vec::with_capacity(rows.len());
        let mut failed: Vec<(u32, RowError)> = Vec::new();
        let last = program.needed.last().map_or(0, |l| l + 1);
        for (i, row) in rows.iter().enumerate() {
            let mut reader = RowReader::new(row, program.row.len());
            let mut unknown = None;
            for (column, slot) in program.row[..last].iter().enumerate() {
                let field = reader.next(slot.packed);
                if self.places[column] != usize::MAX {
                    if field == Field::Unknown && unknown.is_none() {
                        unknown = Some(column);
                    }
                    fields.push(field);
                }
            }
            match unknown {
                None => alive.push(i as u32),
                Some(column) => {
                    failed.push((i as u32, RowError { code: "VALUE_UNKNOWN", cause: format!("the value of `{}` was never sent", program.row[column].name) }))
                }
            }
        }
        let mut arrays: Vec<Option<ArrayRef>> = vec![None; width];
        let mut bytes = Vec::new();
        for filter in &program.filters {
            let mut kept = Vec::with_capacity(alive.len());
            bytes.clear();
            let mut verdicts: Vec<Result<Span, String>> = Vec::with_capacity(alive.len());
            self.compute(filter, &fields, &alive, &mut arrays, &mut bytes, &mut |_, result| verdicts.push(result));
            for (i, verdict) in alive.iter().zip(verdicts) {
                match verdict {
                    Ok(span) => {
                        if span.field(&bytes) == Field::Packed(&[1]) {
                            kept.push(*i);
                        }
                    }
                    Err(why) => failed.push((*i, self.blame(filter, &fields, *i, &why))),
                }
            }
            if kept.len() < alive.len() {
                arrays.fill(None);
                alive = kept;
            }
        }
        bytes.clear();
        let stride = program.computed.len();
        let mut computed = vec![Span::NULL; alive.len() * stride];
        let mut dead: Vec<bool> = Vec::new();
        for (j, compiled) in program.computed.iter().enumerate() {
            self.compute(compiled, &fields, &alive, &mut arrays, &mut bytes, &mut |i, result| match result {
                Ok(span) => computed[i * stride + j] = span,
                Err(why) => {
                    dead.resize(alive.len(), false);
                    if !std::mem::replace(&mut dead[i], true) {
                        failed.push((alive[i], self.blame(compiled, &fields, alive[i], &why)));
                    }
                }
            });
        }
        for (i, row) in alive.iter().enumerate() {
            if dead.get(i) != Some(&true) {
                let fields = &fields[*row as usize * width..][..width];
                let emitted = Emitted { program, fields, places: &self.places, computed: &computed[i * stride..][..stride], bytes: &bytes };
                emit(*row as usize, &emitted);
            }
        }
        for (row, error) in failed {
            fail(row as usize, error);
        }
    }

    fn compute(
        &self,
        compiled: &Compiled,
        fields: &[Field],
        alive: &[u32],
        arrays: &mut [Option<ArrayRef>],
        bytes: &mut Vec<u8>,
        put: &mut dyn FnMut(usize, Result<Span, String>),
    ) {
        let width = self.program.needed.len();
        let inputs = compiled.inputs.iter().map(|column| {
            let (place, slot) = (self.places[*column], &self.program.row[*column]);
            arrays[place].get_or_insert_with(|| types::array_of(slot.table, &slot.ty, alive.len(), |i| fields[alive[i] as usize * width + place])).clone()
        });
        let inputs = inputs.collect();
        compiled.evaluate(inputs, alive.len(), bytes, put);
    }

    fn blame(&self, compiled: &Compiled, fields: &[Field], row: u32, why: &str) -> RowError {
        let width = self.program.needed.len();
        let shown = compiled.inputs.iter().map(|column| {
            let slot = &self.program.row[*column];
            format!("{} = {}", slot.name, types::show(slot.table, &slot.ty, fields[row as usize * width + self.places[*column]]))
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        RowError { code: "EVALUATION_FAILED", cause: if shown.is_empty() { why.to_string() } else { format!("{why} ({shown})") } }
    }
}

/// Runs a program over a collection; `build` makes a record of what it gives for a row, or none.
pub fn run<'scope, D: Clone + 'static>(
    rows: Rows<'scope>,
    name: &str,
    program: &Program,
    mut build: impl FnMut(&Emitted) -> Option<D> + 'static,
) -> (VecCollection<'scope, u64, D, isize>, Errors<'scope>) {
    let runner = Runner::new(program.clone());
    let mut builder = OperatorBuilder::new(name.to_string(), rows.inner.scope());
    let mut input = builder.new_input(rows.inner, Pipeline);
    let (good, good_stream) = builder.new_output();
    let (bad, bad_stream) = builder.new_output();
    let mut good = OutputBuilder::<_, CapacityContainerBuilder<Vec<(D, u64, isize)>>>::from(good);
    let mut bad = OutputBuilder::<_, CapacityContainerBuilder<Vec<(RowError, u64, isize)>>>::from(bad);
    builder.build(move |_| {
        move |_| {
            let (mut good, mut bad) = (good.activate(), bad.activate());
            input.for_each_time(|capability, data| {
                let updates: Vec<(Vec<u8>, u64, isize)> = data.flat_map(|container| container.drain(..)).collect();
                let (mut good, mut bad) = (good.session(&capability), bad.session(&capability));
                for batch in updates.chunks(BATCH_ROWS) {
                    let rows: Vec<&[u8]> = batch.iter().map(|(row, _, _)| row.as_slice()).collect();
                    runner.run(
                        &rows,
                        &mut |i, emitted| {
                            if let Some(record) = build(emitted) {
                                good.give((record, batch[i].1, batch[i].2));
                            }
                        },
                        &mut |i, error| bad.give((error, batch[i].1, batch[i].2)),
                    );
                }
            });
        }
    });
    (good_stream.as_collection(), bad_stream.as_collection())
}

/// The rows of a program's outputs.
pub fn map<'scope>(rows: Rows<'scope>, program: &Program) -> (Rows<'scope>, Errors<'scope>) {
    let width = program.outputs.len();
    run(rows, "Map", program, move |emitted| Some(emitted.row(0..width)))
}

/// Appends a length and the bytes; [`split_record`] takes them apart.
pub fn push_part(record: &mut Vec<u8>, part: &[u8]) {
    row::push_varint64(record, part.len() as u64);
    record.extend_from_slice(part);
}

/// The part that [`push_part`] put first, and the rest.
#[inline]
pub fn split_record(record: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    let len = row::read_varint64(record, &mut at) as usize;
    record[at..].split_at(len)
}
