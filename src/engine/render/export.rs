//! Everything that stands in a worker's tables, in the order of keys: rows as lines of JSON, and totals of comparisons.

use std::{collections::BTreeMap, sync::Arc};

use crossbeam_channel::Sender;

use super::{Dataflow, layout::TableOf};
use crate::{
    engine::{
        ExportBlock, Total, TotalValue,
        table::{ACTUAL, EXPECTED, Rows, Table},
    },
    format::encode::RowEncoder,
    plan::{Comparison, ComparisonId, Plan},
    row::{self, Field, RowReader, Type},
};

const BLOCK_BYTES: usize = 256 * 1024;

/// Sends everything; blocks while the receiver is busy.
pub fn export(plan: &Plan, flow: &Dataflow, to: &Sender<ExportBlock>) {
    let mut sorted: BTreeMap<usize, Arc<[u32]>> = BTreeMap::new();
    for (target, (home, whole)) in flow.homes.iter().enumerate() {
        let table = &flow.stages[home.table].borrow().table;
        let slots = Arc::clone(sorted.entry(home.table).or_insert_with(|| table.sorted().into()));
        let encoder = RowEncoder::new(&plan.targets[target].columns);
        let (mut bytes, mut rows, mut row, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for slot in slots.iter() {
            let (key, held) = table.rows_of(*slot, home.side);
            let mut line = |value: &[u8]| {
                bytes.extend_from_slice(key);
                let key_end = bytes.len() as u32;
                row.clear();
                whole.write(key, value, &mut keys, &mut row);
                encoder.row(&row, &mut bytes);
                bytes.push(b'\n');
                rows.push((key_end, bytes.len() as u32));
            };
            match held {
                Rows::None => {}
                Rows::One(value) => line(value),
                Rows::Many(values) => values.iter().for_each(|value| line(value)),
            }
            if bytes.len() >= BLOCK_BYTES {
                let block = ExportBlock::Rows { target, bytes: std::mem::take(&mut bytes), rows: std::mem::take(&mut rows), last: false };
                let _ = to.send(block);
            }
        }
        let _ = to.send(ExportBlock::Rows { target, bytes, rows, last: true });
    }
    for (stage, of) in flow.stages.iter().zip(&flow.specs) {
        if let TableOf::Comparison(comparison) = of {
            let totals = totals(plan, *comparison, &stage.borrow().table);
            let _ = to.send(ExportBlock::Totals { comparison: *comparison, totals });
        }
    }
}

#[derive(Clone, Copy)]
enum From {
    Key(usize),
    Value(usize),
}

/// The totals of one comparison over this worker's keys.
fn totals(plan: &Plan, id: ComparisonId, table: &Table) -> Vec<Total> {
    let comparison = &plan.comparisons[id];
    let key_types: Vec<Type> = comparison.key.iter().map(|k| k.ty).collect();
    let place = |name: &str| {
        let key = comparison.key.iter().position(|k| k.name == name).map(From::Key);
        key.or_else(|| comparison.fields.iter().position(|f| f.name == name).map(From::Value)).expect("totals name fields of the comparison")
    };
    let specs: Vec<(From, Type, String, Vec<From>)> = comparison
        .totals
        .iter()
        .map(|t| {
            let from = place(&t.sum);
            (from, type_of(comparison, from), format!("sum({})", t.sum), t.by.iter().map(|by| place(by)).collect())
        })
        .collect();
    let mut found: BTreeMap<(Option<String>, String), TotalValue> = BTreeMap::new();
    let all: [Option<String>; 1] = [None];
    let mut counts = [0i64; 2];
    let mut checksums = [0u128; 2];
    for slot in table.sorted() {
        for side in [EXPECTED, ACTUAL] {
            let (key, rows) = table.rows_of(slot, side);
            let mut add = |value: &[u8]| {
                counts[side] += 1;
                checksums[side] = checksums[side].wrapping_add(checksum(key, value));
                if specs.is_empty() {
                    return;
                }
                let keys = row::unpack_key(&key_types, key);
                let mut reader = RowReader::new(value, comparison.fields.len());
                let fields: Vec<Field> = comparison.fields.iter().map(|f| reader.next(f.ty)).collect();
                let value_of = |from: From| match from {
                    From::Key(at) => keys[at].clone(),
                    From::Value(at) => fields[at].value(comparison.fields[at].ty),
                };
                for (sum, ty, measure, by) in &specs {
                    let group = group_text(comparison, by, &value_of);
                    let number = value_of(*sum);
                    for group in all.iter().chain((!by.is_empty()).then_some(&group)) {
                        let entry = found.entry((group.clone(), measure.clone())).or_insert_with(|| zero(*ty));
                        add_to(entry, side, &number);
                    }
                    if !by.is_empty() {
                        let entry = found.entry((group, "rows".into())).or_insert(TotalValue::Count(0, 0));
                        if let TotalValue::Count(e, a) = entry {
                            // Two sums by the same fields count a row once: the first of them does.
                            let first = specs.iter().position(|s| s.3.len() == by.len() && s.3.iter().zip(by).all(|(x, y)| same(x, y)));
                            let this = specs.iter().position(|s| std::ptr::eq(&s.2, measure));
                            if first == this {
                                *(if side == EXPECTED { e } else { a }) += 1;
                            }
                        }
                    }
                }
            };
            match rows {
                Rows::None => {}
                Rows::One(value) => add(value),
                Rows::Many(values) => values.iter().for_each(|value| add(value)),
            }
        }
    }
    found.insert((None, "rows".into()), TotalValue::Count(counts[0], counts[1]));
    found.insert((None, "checksum".into()), TotalValue::Checksum(checksums[0], checksums[1]));
    for (_, ty, measure, _) in &specs {
        found.entry((None, measure.clone())).or_insert_with(|| zero(*ty));
    }
    found.into_iter().map(|((group, measure), value)| Total { group, measure, value }).collect()
}

fn same(a: &From, b: &From) -> bool {
    matches!((a, b), (From::Key(x), From::Key(y)) | (From::Value(x), From::Value(y)) if x == y)
}

/// The 128-bit hash of a row; the sum of these over a table tells multisets apart in any order.
pub fn checksum(key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&(key.len() as u32).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest128()
}

fn type_of(comparison: &Comparison, from: From) -> Type {
    match from {
        From::Key(at) => comparison.key[at].ty,
        From::Value(at) => comparison.fields[at].ty,
    }
}

/// The group's text: the value of its one field, or a JSON array of its several, as keys print.
fn group_text(comparison: &Comparison, by: &[From], value_of: &impl Fn(From) -> row::Value) -> Option<String> {
    match by {
        [one] => Some(row::text_of(type_of(comparison, *one), &value_of(*one))),
        several => Some(serde_json::Value::Array(several.iter().map(|f| row::json_of(type_of(comparison, *f), &value_of(*f))).collect()).to_string()),
    }
}

fn zero(ty: Type) -> TotalValue {
    match ty {
        Type::Double => TotalValue::Double(0.0, 0.0),
        Type::Decimal(_, scale) => TotalValue::Sum(0, 0, scale),
        _ => TotalValue::Sum(0, 0, 0),
    }
}

fn add_to(total: &mut TotalValue, side: usize, value: &row::Value) {
    let pick = |e: i128, a: i128, n: i128| if side == EXPECTED { (e.saturating_add(n), a) } else { (e, a.saturating_add(n)) };
    *total = match (&*total, value) {
        (TotalValue::Sum(e, a, s), row::Value::Decimal(n)) => { let (e, a) = pick(*e, *a, *n); TotalValue::Sum(e, a, *s) }
        (TotalValue::Sum(e, a, s), row::Value::Int(n)) => { let (e, a) = pick(*e, *a, i128::from(*n)); TotalValue::Sum(e, a, *s) }
        (TotalValue::Double(e, a), row::Value::Double(n)) => if side == EXPECTED { TotalValue::Double(e + n, *a) } else { TotalValue::Double(*e, a + n) },
        (other, _) => other.clone(),
    };
}

/// Adds the totals of one worker to those of another.
pub fn merge(into: &mut BTreeMap<(Option<String>, String), TotalValue>, totals: Vec<Total>) {
    for total in totals {
        let entry = into.entry((total.group, total.measure));
        let value = total.value;
        entry
            .and_modify(|held| {
                *held = match (&*held, &value) {
                    (TotalValue::Count(a, b), TotalValue::Count(c, d)) => TotalValue::Count(a + c, b + d),
                    (TotalValue::Sum(a, b, s), TotalValue::Sum(c, d, _)) => TotalValue::Sum(a + c, b + d, *s),
                    (TotalValue::Double(a, b), TotalValue::Double(c, d)) => TotalValue::Double(a + c, b + d),
                    (TotalValue::Checksum(a, b), TotalValue::Checksum(c, d)) => TotalValue::Checksum(a.wrapping_add(*c), b.wrapping_add(*d)),
                    (held, _) => held.clone(),
                }
            })
            .or_insert(value);
    }
}

