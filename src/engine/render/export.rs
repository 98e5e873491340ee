//! Everything that stands in a worker's tables, in the order of keys: rows as lines of JSON, and totals of comparisons.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crossbeam_channel::Sender;

use super::{Dataflow, layout::TableOf};
use crate::{
    engine::{
        ExportBlock, Total, TotalValue,
        table::{ACTUAL, EXPECTED, Rows, Table},
    },
    format::encode::RowEncoder,
    memory,
    plan::{Comparison, ComparisonId, Plan},
    row::{self, Field, RowReader, RowWriter, Type},
};

const BLOCK_BYTES: usize = 256 * 1024;

/// Rows between two looks at memory.
const BREATH: usize = 32;

/// Sends everything; blocks while the receiver is busy.
pub fn export(plan: &Plan, flow: &Dataflow, to: &Sender<ExportBlock>) {
    let mut sorted: BTreeMap<usize, Arc<[u32]>> = BTreeMap::new();
    for (target, (home, whole)) in flow.homes.iter().enumerate() {
        let table = &flow.stages[home.table].borrow().table;
        let slots = Arc::clone(sorted.entry(home.table).or_insert_with(|| table.sorted().into()));
        let encoder = RowEncoder::new(&plan.targets[target].columns);
        let (mut bytes, mut rows, mut row, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (n, slot) in slots.iter().enumerate() {
            if n.is_multiple_of(BREATH) {
                memory::breathe();
            }
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

#[derive(Clone, Copy, PartialEq)]
enum From {
    Key(usize),
    Value(usize),
}

/// Sums that are grouped by the same fields.
struct Grouping {
    by: Vec<From>,
    /// What is summed, its type, and the measure's name.
    sums: Vec<(From, Type, String)>,
    /// By packed group: its rows, and its sums in the order of `sums`.
    groups: HashMap<Vec<u8>, ([i64; 2], Vec<TotalValue>)>,
}

/// The totals of one comparison over this worker's keys.
fn totals(plan: &Plan, id: ComparisonId, table: &Table) -> Vec<Total> {
    let comparison = &plan.comparisons[id];
    let key_types: Vec<Type> = comparison.key.iter().map(|k| k.ty).collect();
    let mut groupings = groupings(comparison);
    let (mut counts, mut checksums) = ([0i64; 2], [0u128; 2]);
    let (mut keys, mut group) = (Vec::new(), Vec::new());
    for slot in table.slots() {
        // Most rows agree: what they add up to is found once.
        let turns: &[&[usize]] = if table.is_tied(slot) { &[&[EXPECTED, ACTUAL]] } else { &[&[EXPECTED], &[ACTUAL]] };
        for sides in turns {
            let (key, rows) = table.rows_of(slot, sides[0]);
            let mut add = |value: &[u8]| {
                let checksum = checksum(key, value);
                for side in *sides {
                    counts[*side] += 1;
                    checksums[*side] = checksums[*side].wrapping_add(checksum);
                }
                if groupings.is_empty() {
                    return;
                }
                keys.clear();
                let key_fields = row::repack_key(&key_types, key, &mut keys);
                let mut reader = RowReader::new(value, comparison.fields.len());
                let fields: Vec<Field> = comparison.fields.iter().map(|f| reader.next(f.ty)).collect();
                let field_of = |from: From| match from {
                    From::Key(at) => key_fields[at].clone().map_or(Field::Null, |range| Field::Packed(&keys[range])),
                    From::Value(at) => fields[at],
                };
                for grouping in &mut groupings {
                    group.clear();
                    let mut writer = RowWriter::new(&mut group, grouping.by.len());
                    grouping.by.iter().for_each(|from| writer.field(field_of(*from)));
                    writer.finish();
                    if !grouping.groups.contains_key(&group) {
                        grouping.groups.insert(group.clone(), ([0; 2], grouping.sums.iter().map(|(_, ty, _)| zero(*ty)).collect()));
                    }
                    let (rows, totals) = grouping.groups.get_mut(&group).expect("the group is there");
                    sides.iter().for_each(|side| rows[*side] += 1);
                    for ((from, ty, _), total) in grouping.sums.iter().zip(totals) {
                        let value = field_of(*from).value(*ty);
                        sides.iter().for_each(|side| add_to(total, *side, &value));
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
    let mut found: BTreeMap<(Option<String>, String), TotalValue> = BTreeMap::new();
    found.insert((None, "rows".into()), TotalValue::Count(counts[0], counts[1]));
    found.insert((None, "checksum".into()), TotalValue::Checksum(checksums[0], checksums[1]));
    let mut whole: Vec<String> = Vec::new();
    for grouping in groupings {
        let seen = whole.len();
        for (_, ty, measure) in &grouping.sums {
            found.entry((None, measure.clone())).or_insert_with(|| zero(*ty));
        }
        whole.extend(grouping.sums.iter().map(|(_, _, measure)| measure.clone()));
        for (group, (rows, totals)) in &grouping.groups {
            let text = group_text(comparison, &grouping.by, group);
            if let Some(text) = &text {
                found.insert((Some(text.clone()), "rows".into()), TotalValue::Count(rows[0], rows[1]));
            }
            for ((_, _, measure), value) in grouping.sums.iter().zip(totals) {
                let total = |group| vec![Total { group, measure: measure.clone(), value: value.clone() }];
                // The whole table is what its groups add up to, in the first grouping that has the sum.
                if !whole[..seen].contains(measure) {
                    merge(&mut found, total(None));
                }
                if text.is_some() {
                    merge(&mut found, total(text.clone()));
                }
            }
        }
    }
    found.into_iter().map(|((group, measure), value)| Total { group, measure, value }).collect()
}

/// The declared sums, by what they are grouped by; a sum that is declared with several groupings adds to `*` once.
fn groupings(comparison: &Comparison) -> Vec<Grouping> {
    let place = |name: &str| {
        let key = comparison.key.iter().position(|k| k.name == name).map(From::Key);
        key.or_else(|| comparison.fields.iter().position(|f| f.name == name).map(From::Value)).expect("totals name fields of the comparison")
    };
    let mut groupings: Vec<Grouping> = Vec::new();
    for total in &comparison.totals {
        let by: Vec<From> = total.by.iter().map(|by| place(by)).collect();
        let from = place(&total.sum);
        let sum = (from, type_of(comparison, from), format!("sum({})", total.sum));
        match groupings.iter_mut().find(|g| g.by == by) {
            Some(grouping) if grouping.sums.contains(&sum) => {}
            Some(grouping) => grouping.sums.push(sum),
            None => groupings.push(Grouping { by, sums: vec![sum], groups: HashMap::new() }),
        }
    }
    groupings
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

/// The group's text: the value of its one field, or a JSON array of its several, as keys print. `None`: the whole table.
fn group_text(comparison: &Comparison, by: &[From], group: &[u8]) -> Option<String> {
    let mut reader = RowReader::new(group, by.len());
    let values: Vec<(Type, row::Value)> = by.iter().map(|from| type_of(comparison, *from)).map(|ty| (ty, reader.next(ty).value(ty))).collect();
    match values.as_slice() {
        [] => None,
        [(ty, value)] => Some(row::text_of(*ty, value)),
        several => Some(serde_json::Value::Array(several.iter().map(|(ty, value)| row::json_of(*ty, value)).collect()).to_string()),
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
        (TotalValue::Sum(e, a, s), row::Value::Decimal(n)) => {
            let (e, a) = pick(*e, *a, *n);
            TotalValue::Sum(e, a, *s)
        }
        (TotalValue::Sum(e, a, s), row::Value::Int(n)) => {
            let (e, a) = pick(*e, *a, i128::from(*n));
            TotalValue::Sum(e, a, *s)
        }
        (TotalValue::Double(e, a), row::Value::Double(n)) => {
            if side == EXPECTED {
                TotalValue::Double(e + n, *a)
            } else {
                TotalValue::Double(*e, a + n)
            }
        }
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
