//! Accumulators of aggregates: what a group must remember so that any row may leave it again.
//!
//! Every accumulator is a function of the bag of its arguments, never of the order in which they came or went. Sums are
//! kept in 256 bits (integers, decimals) or exactly (doubles) and checked when they are read.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

use arrow::datatypes::DataType;

use super::exact_sum::ExactSum;
use crate::{
    engine::sql::{
        rel::{Aggregate, AggregateFunction},
        types::{Form, form_of},
    },
    row::{self, Field},
};

/// Hashes packed bytes.
#[derive(Clone, Copy, Default)]
pub struct BytesHasher(u64);

impl Hasher for BytesHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// A table by packed bytes.
pub type ByBytes<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<BytesHasher>>;

/// A signed number of 256 bits, wide enough for 2^63 terms of 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wide {
    low: u128,
    high: i128,
}

impl Wide {
    fn add(&mut self, term: i128, weight: i64) {
        let (low, high) = match term.checked_mul(i128::from(weight)) {
            Some(product) => (product as u128, product >> 127),
            None => {
                // Halves of 64 bits: neither product overflows.
                let (upper, lower) = (term >> 64, term as u64);
                let small = i128::from(lower) * i128::from(weight);
                let large = upper * i128::from(weight);
                let shifted = Wide { low: (large as u128) << 64, high: large >> 64 };
                let mut product = Wide { low: small as u128, high: small >> 127 };
                product.sum(shifted);
                (product.low, product.high)
            }
        };
        self.sum(Wide { low, high });
    }

    fn sum(&mut self, other: Wide) {
        let (low, carry) = self.low.overflowing_add(other.low);
        self.low = low;
        self.high = self.high.wrapping_add(other.high).wrapping_add(i128::from(carry));
    }

    fn get(self) -> Option<i128> {
        let n = self.low as i128;
        (self.high == n >> 127).then_some(n)
    }
}

/// How an argument becomes a number that orders as the values do.
#[derive(Clone, Copy, Debug)]
enum Ordinal {
    Bool,
    Int,
    Wide,
    Double,
}

impl Ordinal {
    fn read(self, field: &[u8]) -> i128 {
        match self {
            Ordinal::Bool => i128::from(field[0]),
            Ordinal::Int => i128::from(row::unpack_int(field)),
            Ordinal::Wide => row::unpack_decimal(field),
            Ordinal::Double => {
                let bits = row::unpack_double(field).to_bits() as i64;
                i128::from(if bits < 0 { !bits ^ i64::MIN } else { bits })
            }
        }
    }

    fn write(self, n: i128, out: &mut Vec<u8>) {
        match self {
            Ordinal::Bool => out.push(n as u8),
            Ordinal::Int => row::pack_int(out, n as i64),
            Ordinal::Wide => row::pack_decimal(out, n),
            Ordinal::Double => {
                let n = n as i64;
                row::pack_double(out, f64::from_bits(if n < 0 { !(n ^ i64::MIN) } else { n } as u64));
            }
        }
    }
}

/// The state of one aggregate of one group.
#[derive(Clone, Debug)]
pub enum Accumulator {
    Count(i64),
    Sum {
        sum: Wide256,
        count: i64,
        is_wide: bool,
    },
    SumDouble {
        sum: ExactSum,
        count: i64,
    },
    /// The least and greatest are asked of the ends.
    Numbers {
        values: BTreeMap<i128, i64>,
        read: OrdinalOf,
    },
    Bytes(BTreeMap<Box<[u8]>, i64>),
    /// Feeds each distinct value once to another accumulator.
    Distinct {
        values: ByBytes<i64>,
        inner: Box<Accumulator>,
    },
    /// All arguments are NULL.
    Null,
}

/// See [`Accumulator::Sum`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Wide256(Wide);

/// See [`Accumulator::Numbers`].
#[derive(Clone, Copy, Debug)]
pub struct OrdinalOf(Ordinal);

impl Accumulator {
    pub fn new(aggregate: &Aggregate) -> Accumulator {
        let form = form_of(&aggregate.input).unwrap_or(Form::Null);
        let plain = match (aggregate.function, form) {
            (AggregateFunction::Count, _) => Accumulator::Count(0),
            (_, Form::Null) => Accumulator::Null,
            (AggregateFunction::Sum | AggregateFunction::Average, Form::Double) => Accumulator::SumDouble { sum: ExactSum::default(), count: 0 },
            (AggregateFunction::Sum | AggregateFunction::Average, form) => Accumulator::Sum { sum: Wide256::default(), count: 0, is_wide: form == Form::Wide },
            (_, Form::Bytes) => Accumulator::Bytes(BTreeMap::new()),
            (_, form) => {
                let read = match form {
                    Form::Bool => Ordinal::Bool,
                    Form::Double => Ordinal::Double,
                    Form::Wide => Ordinal::Wide,
                    _ => Ordinal::Int,
                };
                Accumulator::Numbers { values: BTreeMap::new(), read: OrdinalOf(read) }
            }
        };
        if aggregate.distinct { Accumulator::Distinct { values: ByBytes::default(), inner: Box::new(plain) } } else { plain }
    }

    /// Takes an argument `weight` times; NULL is no argument.
    pub fn add(&mut self, argument: Field, weight: i64) {
        let Field::Packed(field) = argument else { return };
        match self {
            Accumulator::Count(count) => *count += weight,
            Accumulator::Sum { sum, count, is_wide } => {
                let term = if *is_wide { row::unpack_decimal(field) } else { i128::from(row::unpack_int(field)) };
                sum.0.add(term, weight);
                *count += weight;
            }
            Accumulator::SumDouble { sum, count } => {
                sum.add(row::unpack_double(field), weight);
                *count += weight;
            }
            Accumulator::Numbers { values, read } => {
                let n = read.0.read(field);
                let count = values.entry(n).or_insert(0);
                *count += weight;
                if *count == 0 {
                    values.remove(&n);
                }
            }
            Accumulator::Bytes(values) => {
                let text = row::unpack_bytes(field);
                match values.get_mut(text) {
                    Some(count) => {
                        *count += weight;
                        if *count == 0 {
                            values.remove(text);
                        }
                    }
                    None => {
                        values.insert(text.into(), weight);
                    }
                }
            }
            Accumulator::Distinct { values, inner } => {
                let (before, after) = match values.get_mut(field) {
                    Some(count) => {
                        let before = *count;
                        *count += weight;
                        (before, *count)
                    }
                    None => {
                        values.insert(field.into(), weight);
                        (0, weight)
                    }
                };
                if after == 0 {
                    values.remove(field);
                }
                match (before > 0, after > 0) {
                    (false, true) => inner.add(argument, 1),
                    (true, false) => inner.add(argument, -1),
                    _ => {}
                }
            }
            Accumulator::Null => {}
        }
    }

    /// Writes the aggregate's packed value; says whether there is one (otherwise it is NULL).
    ///
    /// # Errors
    /// Why the value can't be had.
    pub fn finish(&self, aggregate: &Aggregate, rows: i64, out: &mut Vec<u8>) -> Result<bool, String> {
        match self {
            Accumulator::Count(count) => row::pack_int(out, if aggregate.argument.is_none() { rows } else { *count }),
            Accumulator::Sum { count: 0, .. } | Accumulator::SumDouble { count: 0, .. } | Accumulator::Null => return Ok(false),
            Accumulator::Sum { sum, count, .. } => finish_sum(sum.0, *count, aggregate, out)?,
            Accumulator::SumDouble { sum, count } => {
                let total = sum.value();
                row::pack_double(out, if aggregate.function == AggregateFunction::Average { total / *count as f64 } else { total });
            }
            Accumulator::Numbers { values, read } => {
                let mut present = values.iter().filter(|(_, count)| **count > 0).map(|(n, _)| *n);
                match if aggregate.function == AggregateFunction::Least { present.next() } else { present.next_back() } {
                    Some(n) => read.0.write(n, out),
                    None => return Ok(false),
                }
            }
            Accumulator::Bytes(values) => {
                let mut present = values.iter().filter(|(_, count)| **count > 0).map(|(text, _)| text);
                match if aggregate.function == AggregateFunction::Least { present.next() } else { present.next_back() } {
                    Some(text) => row::pack_bytes(out, text),
                    None => return Ok(false),
                }
            }
            Accumulator::Distinct { inner, .. } => return inner.finish(aggregate, rows, out),
        }
        Ok(true)
    }
}

fn finish_sum(sum: Wide, count: i64, aggregate: &Aggregate, out: &mut Vec<u8>) -> Result<(), String> {
    let overflow = || format!("overflow: `{}` does not fit {}", aggregate.text, crate::engine::sql::types::sql_name(&aggregate.ty));
    let total = sum.get().ok_or_else(overflow)?;
    match (&aggregate.ty, &aggregate.input, aggregate.function) {
        (DataType::Decimal128(precision, scale), DataType::Decimal128(_, found), AggregateFunction::Average) => {
            // Rounded half away from zero at the scale of the result.
            let scaled = total.checked_mul(10i128.checked_pow((scale - found).max(0) as u32).ok_or_else(overflow)?).ok_or_else(overflow)?;
            let count = i128::from(count);
            let (quotient, rest) = (scaled / count, scaled % count);
            let mean = quotient + if 2 * rest.abs() >= count.abs() { rest.signum() * count.signum() } else { 0 };
            fits(mean, *precision).then(|| row::pack_decimal(out, mean)).ok_or_else(overflow)
        }
        (DataType::Decimal128(precision, _), _, _) => fits(total, *precision).then(|| row::pack_decimal(out, total)).ok_or_else(overflow),
        (DataType::UInt64, _, _) => u64::try_from(total).map(|_| row::pack_decimal(out, total)).map_err(|_| overflow()),
        (DataType::Float64, _, _) => {
            row::pack_double(out, total as f64 / if aggregate.function == AggregateFunction::Average { count as f64 } else { 1.0 });
            Ok(())
        }
        _ => i64::try_from(total).map(|n| row::pack_int(out, n)).map_err(|_| overflow()),
    }
}

fn fits(n: i128, precision: u8) -> bool {
    n.unsigned_abs() < 10u128.pow(u32::from(precision))
}
