//! Values, keys and differences as text and JSON, the same for HTTP, sinks and exports.
//!
//! A comparison's rows hold both sides' values in one common type; here each is turned back into the type that its own
//! side declared, so that a `decimal(18,2)` reads `1.50` also when the other side has four places.

use serde_json::{Map, Value as Json};

use crate::{
    engine::{RowState, Side},
    ledger::difference::{Difference, DifferingField},
    plan::{Comparison, Plan, TableRef},
    row::{self, Column, Field, RowReader, Type, Value},
};

/// A value of type `from` as one of type `to`, where `to` can hold it; the other way round of [`Type::common`].
pub fn convert(value: Value, from: Type, to: Type) -> Option<Value> {
    Some(match (value, from, to) {
        (Value::Decimal(n), Type::Decimal(_, have), Type::Decimal(precision, want)) => {
            Value::Decimal(row::rescale(n, i64::from(want) - i64::from(have), precision)?)
        }
        (Value::Decimal(n), Type::Decimal(_, have), Type::Int(bits)) => {
            let n = i64::try_from(row::rescale(n, -i64::from(have), 38)?).ok()?;
            row::fits(n, bits).then_some(Value::Int(n))?
        }
        // Doubles hold 15 digits for certain; what the side declared says how many of them are its own.
        (Value::Double(n), Type::Double, Type::Decimal(precision, scale)) => {
            let text = format!("{n:.places$}", places = usize::from(scale));
            Value::Decimal(row::parse_decimal(text.as_bytes(), precision, scale).ok()?)
        }
        (Value::Double(n), Type::Double, Type::Int(bits)) => {
            (n.fract() == 0.0 && n.abs() < 9.0e18 && row::fits(n as i64, bits)).then_some(Value::Int(n as i64))?
        }
        (Value::Timestamp(us), Type::Timestamp(..), Type::Date) => {
            const DAY_US: i64 = 86_400_000_000;
            (us % DAY_US == 0).then_some(Value::Date(i32::try_from(us / DAY_US).ok()?))?
        }
        (Value::Text(text), _, Type::Uuid) => row::parse_text(Type::Uuid, &text).ok()?,
        (value, _, _) => value,
    })
}

/// A value and the type to show it in: the declared one, or the common one where that can't hold it.
fn declared(value: Value, common: Type, declared: Type) -> (Value, Type) {
    match convert(value.clone(), common, declared) {
        Some(value) => (value, declared),
        None => (value, common),
    }
}

/// Which side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Expected,
    Actual,
}

/// A field of one side as that side declared it.
pub fn field_value(plan: &Plan, comparison: &Comparison, which: Which, field: usize, value: Field) -> (Value, Type) {
    let pair = &comparison.fields[field];
    let (table, column) = match which {
        Which::Expected => (comparison.expected, pair.expected),
        Which::Actual => (comparison.actual, pair.actual),
    };
    declared(value.value(pair.ty), pair.ty, plan.columns(table)[column].ty)
}

/// The values of a comparison's key, in the types of the expected side.
fn key_values(plan: &Plan, comparison: &Comparison, key: &[u8]) -> Vec<(Value, Type)> {
    let types: Vec<Type> = comparison.key.iter().map(|k| k.ty).collect();
    let columns = plan.columns(comparison.expected);
    let values = row::unpack_key(&types, key).into_iter();
    values.zip(&comparison.key).map(|(value, pair)| declared(value, pair.ty, columns[pair.expected].ty)).collect()
}

/// The key of a comparison as text: the value of its one column, or a JSON array of several.
pub fn key_text(plan: &Plan, comparison: &Comparison, key: &[u8]) -> String {
    match key_values(plan, comparison, key).as_slice() {
        [(value, ty)] => row::text_of(*ty, value),
        values => Json::Array(values.iter().map(|(value, ty)| row::json_of(*ty, value)).collect()).to_string(),
    }
}

/// The key of a comparison as a JSON object of its columns, with the expected side's names.
pub fn key_object(plan: &Plan, comparison: &Comparison, key: &[u8]) -> Map<String, Json> {
    let values = key_values(plan, comparison, key).into_iter();
    values.zip(&comparison.key).map(|((value, ty), pair)| (pair.name.clone(), row::json_of(ty, &value))).collect()
}

/// Reads a key from its text: the value of its one column, or a JSON array of several.
///
/// # Errors
/// A sentence which says what a key of these columns looks like.
pub fn parse_key(columns: &[(&str, Type)], text: &str) -> Result<Vec<u8>, String> {
    let values = match columns {
        [(name, ty)] => vec![row::parse_text(*ty, text).map_err(|e| format!("key column {name}: {e}"))?],
        _ => {
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            let parts: Vec<Json> = serde_json::from_str(text)
                .ok()
                .filter(|parts: &Vec<Json>| parts.len() == columns.len())
                .ok_or_else(|| format!("`{text}` is not a JSON array of {} values ({})", columns.len(), names.join(", ")))?;
            let value = |((name, ty), part): (&(&str, Type), &Json)| match part {
                Json::Null => Ok(Value::Null),
                Json::String(text) => row::parse_text(*ty, text).map_err(|e| format!("key column {name}: {e}")),
                other => row::parse_text(*ty, &other.to_string()).map_err(|e| format!("key column {name}: {e}")),
            };
            columns.iter().zip(&parts).map(value).collect::<Result<_, _>>()?
        }
    };
    let mut key = Vec::new();
    for (i, ((_, ty), value)) in columns.iter().zip(&values).enumerate() {
        let mut packed = Vec::new();
        row::pack_value(&mut packed, value);
        let field = if *value == Value::Null { Field::Null } else { Field::Packed(&packed) };
        row::push_key(&mut key, *ty, field, i + 1 == columns.len());
    }
    Ok(key)
}

/// Reads a key of a comparison.
///
/// # Errors
/// A sentence which says what a key of it looks like.
pub fn parse_comparison_key(comparison: &Comparison, text: &str) -> Result<Vec<u8>, String> {
    let columns: Vec<(&str, Type)> = comparison.key.iter().map(|k| (k.name.as_str(), k.ty)).collect();
    parse_key(&columns, text)
}

/// Reads a key of a table.
///
/// # Errors
/// A sentence which says what a key of it looks like.
pub fn parse_table_key(plan: &Plan, table: TableRef, text: &str) -> Result<Vec<u8>, String> {
    let columns = plan.columns(table);
    let key: Vec<(&str, Type)> = plan.key(table).iter().map(|c| (columns[*c].name.as_str(), columns[*c].ty)).collect();
    parse_key(&key, text)
}

/// A row of a table as a JSON object; unknown columns are left out, NULL is null.
pub fn row_object(columns: &[Column], row: &[u8]) -> Map<String, Json> {
    let mut reader = RowReader::new(row, columns.len());
    let mut object = Map::new();
    for column in columns {
        let field = reader.next(column.ty);
        if field != Field::Unknown {
            object.insert(column.name.clone(), row::json_of(column.ty, &field.value(column.ty)));
        }
    }
    object
}

/// What a table holds for a key: an object, an array of several that claim it, or null.
pub fn row_state_json(columns: &[Column], state: &RowState) -> Json {
    match state {
        RowState::Absent | RowState::Rejected(_) | RowState::Written => Json::Null,
        RowState::Row(row) => Json::Object(row_object(columns, row)),
        RowState::Duplicate(rows) => rows.iter().map(|row| Json::Object(row_object(columns, row))).collect(),
    }
}

fn comparison_row(plan: &Plan, comparison: &Comparison, which: Which, row: &[u8]) -> Json {
    let mut reader = RowReader::new(row, comparison.fields.len());
    let mut object = Map::new();
    for (i, pair) in comparison.fields.iter().enumerate() {
        let field = reader.next(pair.ty);
        if field != Field::Unknown {
            let (value, ty) = field_value(plan, comparison, which, i, field);
            object.insert(pair.name.clone(), row::json_of(ty, &value));
        }
    }
    Json::Object(object)
}

/// A side of a difference: the compared fields as an object, an array of the rows that claim the key, or null where there
/// is no row, or none that could be read.
pub fn side_json(plan: &Plan, comparison: &Comparison, which: Which, side: &Side) -> Json {
    match side {
        Side::Absent | Side::Rejected => Json::Null,
        Side::Row(row) => comparison_row(plan, comparison, which, row),
        Side::Duplicate(rows) => rows.iter().map(|row| comparison_row(plan, comparison, which, row)).collect(),
    }
}

/// Both values of a differing field, as text.
pub fn differing_text(plan: &Plan, comparison: &Comparison, d: &DifferingField) -> (Option<String>, Option<String>) {
    let text = |which, field| {
        let (value, ty) = field_value(plan, comparison, which, d.field, field);
        (value != Value::Null).then(|| row::text_of(ty, &value))
    };
    (text(Which::Expected, d.expected), text(Which::Actual, d.actual))
}

/// A difference as the output topics have it: `kind`, `state`, `fields` (name → expected, actual), `expected`, `actual`,
/// `since`. It says nothing that changes without the difference itself.
pub fn difference_object(plan: &Plan, comparison: &Comparison, difference: &Difference) -> Map<String, Json> {
    let mut fields = Map::new();
    for d in difference.fields(comparison) {
        let json = |which, field| {
            let (value, ty) = field_value(plan, comparison, which, d.field, field);
            row::json_of(ty, &value)
        };
        let mut both = Map::new();
        both.insert("expected".into(), json(Which::Expected, d.expected));
        both.insert("actual".into(), json(Which::Actual, d.actual));
        fields.insert(comparison.fields[d.field].name.clone(), Json::Object(both));
    }
    let mut object = Map::new();
    object.insert("kind".into(), difference.kind.name().into());
    object.insert("state".into(), difference.state.name().into());
    object.insert("fields".into(), Json::Object(fields));
    object.insert("expected".into(), side_json(plan, comparison, Which::Expected, &difference.sides.expected));
    object.insert("actual".into(), side_json(plan, comparison, Which::Actual, &difference.sides.actual));
    object.insert("since".into(), row::source_time_text(difference.since.source_time).into());
    object
}

/// A reject as an object: what `rejects.csv` has, and the target whose mapping rejected the row.
pub fn reject_object(plan: &Plan, reject: &crate::engine::Reject) -> Map<String, Json> {
    let mut object = Map::new();
    object.insert("source".into(), plan.sources[reject.source].name.clone().into());
    object.insert("code".into(), reject.code.into());
    object.insert("cause".into(), reject.cause.clone().into());
    object.insert("key".into(), reject.key.clone().into());
    // A row that was computed from several records has no position.
    object.insert("partition".into(), (reject.partition >= 0).then_some(reject.partition).into());
    object.insert("offset".into(), (reject.offset >= 0).then_some(reject.offset).into());
    object.insert("target".into(), reject.target.map(|t| plan.targets[t].name.clone()).into());
    object
}
