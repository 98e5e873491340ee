//! Messages drawn at random: the bytes that the engine gets, and what they mean, which is all that the oracle gets.

use serde_json::Value as Json;

use super::{
    draw::Draw,
    model::{Fmt, Model, Source, key_text},
    truth::{Side, World},
    value::{Cell, T, V},
};

/// What a message does to its source.
#[derive(Clone, Debug)]
pub enum Does {
    /// All columns; the key's are values.
    Upsert(Vec<Cell>),
    Delete(Vec<Cell>),
    Truncate,
    Nothing,
    /// The code, and the key as far as it could be read: whole, in part (as text), or not at all.
    Reject(&'static str, Result<Vec<Cell>, Option<String>>),
}

#[derive(Clone, Debug)]
pub struct Message {
    pub source: usize,
    /// One message may do two things: an update that moves a row to another key deletes the old one first.
    pub does: Vec<Does>,
    /// `i64::MIN`: nothing says it.
    pub time: i64,
    /// It brings its time; else it is of the moment at which it is fed.
    pub timed: bool,
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
}

/// A spelling of a cell in the source's format; `None`: the field is left out.
fn spell(d: &mut Draw, format: Fmt, ty: T, cell: &Cell) -> Option<String> {
    match cell {
        Cell::Missing => None,
        Cell::Null => Some("null".into()),
        Cell::Unknown => Some("\"__debezium_unavailable_value\"".into()),
        Cell::Is(V::Plain(hex)) if ty == T::Bytes && format == Fmt::Upsert => Some(format!("\"{hex}\"")),
        Cell::Is(v) => Some(match ty.pool().iter().find(|(p, _)| p == v) {
            Some((_, ways)) => d.of(ways).clone(),
            // Computed values: as text, which every such type reads.
            None => match (ty, v) {
                (T::Int(_) | T::Double | T::Bool | T::Json | T::Array, v) => ty.text(v),
                (ty, v) => Json::from(ty.text(v)).to_string(),
            },
        }),
    }
}

fn object(d: &mut Draw, fields: Vec<(String, String)>) -> String {
    let mut fields = fields;
    if d.one_in(4) {
        fields.reverse();
    }
    if d.one_in(6) {
        fields.insert(0, ("zzz".into(), "{\"op\":[1,\"}\"]}".into()));
    }
    let space = if d.one_in(8) { " " } else { "" };
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{space}{}{space}:{space}{value}", Json::from(name.as_str()))).collect();
    format!("{{{}}}", fields.join(","))
}

fn row(d: &mut Draw, source: &Source, cells: &[Cell]) -> String {
    let fields = source.cols.iter().zip(cells).filter_map(|(c, cell)| Some((c.name.clone(), spell(d, source.format, c.ty, cell)?))).collect();
    object(d, fields)
}

fn key_object(d: &mut Draw, source: &Source, key: &[Cell]) -> String {
    let fields = source.cols.iter().zip(key).map(|(c, cell)| (c.name.clone(), spell(d, source.format, c.ty, cell).unwrap())).collect();
    object(d, fields)
}

fn key(d: &mut Draw, source: &Source) -> Vec<Cell> {
    // Few keys, so that they meet.
    source.cols[..source.keys]
        .iter()
        .map(|c| {
            let pool = c.ty.pool();
            Cell::Is(pool[d.below(pool.len().min(3))].0.clone())
        })
        .collect()
}

fn cells(d: &mut Draw, model: &Model, source: &Source, key: Vec<Cell>) -> Vec<Cell> {
    let mut row = key;
    for c in &source.cols[source.keys..] {
        let pool = c.ty.pool();
        row.push(match d.below(8) {
            6 => Cell::Null,
            7 if d.one_in(2) => Cell::Missing,
            _ => Cell::Is(pool[if d.one_in(3) { d.below(pool.len()) } else { d.below(pool.len().min(3)) }].0.clone()),
        });
        if model.toast && source.format == Fmt::Debezium && matches!(c.ty, T::Text(0) | T::Bytes | T::Json) && d.one_in(3) {
            *row.last_mut().unwrap() = Cell::Unknown;
        }
    }
    row
}

/// A row of an actual side, modelled on what is expected of some key now.
fn echo(d: &mut Draw, model: &Model, world: &World, source: &Source) -> Option<Vec<Cell>> {
    let comparison = &model.comparisons[source.actual_of?];
    let expected = world.side(model, comparison.expected);
    let rows: Vec<&Vec<Cell>> = expected.values().filter_map(|s| if let Side::Rows(rows) = s { rows.first() } else { None }).collect();
    if rows.is_empty() {
        return None;
    }
    let row = *d.of(&rows);
    // A key of NULL can't be sent, and what nobody knows neither.
    if row[..source.keys].iter().any(|c| c.value().is_none()) {
        return None;
    }
    let fit = |cell: &Cell, from: T, to: T| match (cell, from, to) {
        (Cell::Unknown, ..) => Cell::Null,
        // A sum may be more than its own pool has, but never more than the other side's type.
        (Cell::Is(V::Int(n)), _, T::Dec(..)) => Cell::Is(super::value::dec(*n, 0)),
        (cell, ..) => cell.clone(),
    };
    let from = model.cols(comparison.expected);
    Some(row.iter().zip(&from).zip(&source.cols).map(|((cell, from), to)| fit(cell, from.ty, to.ty)).collect())
}

/// The next message of a source. `now`: the time of messages that bring none.
pub fn draw(d: &mut Draw, model: &Model, world: &World, at: usize, offset: i64, now: i64) -> Message {
    let source = &model.sources[at];
    let stamp = match d.below(6) {
        0 | 1 | 2 => None,
        3 => Some(now + 500),
        4 => Some(now - 20_000),
        _ => Some(now + 2_500),
    };
    let time = stamp.unwrap_or(now);
    let message =
        |does: Vec<Does>, time: i64, key: Option<String>, value: Option<String>| Message { source: at, does, time, timed: time != now, offset, key, value };
    let echoed = if d.below(3) < 2 { echo(d, model, world, source) } else { None };
    let kind = d.below(16);
    let mut after = match echoed {
        Some(row) => row,
        None => {
            let key = key(d, source);
            cells(d, model, source, key)
        }
    };
    if kind == 1 && source.cols.len() > source.keys {
        // Almost the row that is expected.
        let c = source.keys + d.below(source.cols.len() - source.keys);
        after[c] = Cell::Is(source.cols[c].ty.pool()[d.below(2)].0.clone());
    }
    let this_key = after[..source.keys].to_vec();
    if source.format == Fmt::Upsert {
        let line = |key: String, value: String| match stamp {
            Some(ms) => format!("{{\"key\":{key},\"value\":{value},\"ts_ms\":{ms}}}"),
            None => format!("{{\"key\":{key},\"value\":{value}}}"),
        };
        return match kind {
            11 | 12 | 13 => {
                let key = key_object(d, source, &this_key);
                message(vec![Does::Delete(this_key)], time, None, Some(line(key, "null".into())))
            }
            14 => match bad_row(d, source, &after) {
                Some((code, fields)) => {
                    let (key, value) = (key_object(d, source, &this_key), object(d, fields));
                    message(vec![Does::Reject(code, Ok(this_key))], time, None, Some(line(key, value)))
                }
                None => message(vec![Does::Nothing], now, None, Some("{}".into())).into_reject(),
            },
            15 => message(vec![Does::Reject("DECODE_FAILED", Err(None))], now, None, Some("{\"value\":".into())),
            _ => {
                let key = key_object(d, source, &this_key);
                let value = row(d, source, &after);
                message(vec![Does::Upsert(after)], time, None, Some(line(key, value)))
            }
        };
    }
    let event = |d: &mut Draw, op: &str, before: Option<String>, after: Option<String>| {
        let mut fields = vec![("before".to_string(), before.unwrap_or("null".into())), ("after".to_string(), after.unwrap_or("null".into()))];
        match stamp {
            Some(ms) if d.one_in(3) => fields.push(("ts_ms".into(), ms.to_string())),
            Some(ms) => {
                fields.push(("source".into(), format!("{{\"db\":\"x\",\"ts_ms\":{ms}}}")));
                // The connector's clock is behind; else heartbeats would count for less.
                fields.push(("ts_ms".into(), (ms - 7).to_string()));
            }
            None => {}
        }
        fields.push(("op".into(), format!("\"{op}\"")));
        let inner = object(d, fields);
        if d.one_in(8) { format!("{{\"schema\":null,\"payload\":{inner}}}") } else { inner }
    };
    match kind {
        // Deletes: with the row before, of which all but the key is invented; or with the message's key alone.
        10 | 11 => {
            let invented: Vec<Cell> = this_key.iter().cloned().chain(source.cols[source.keys..].iter().map(|c| Cell::Is(c.ty.pool()[0].0.clone()))).collect();
            let (message_key, before) = if d.one_in(3) { (Some(key_object(d, source, &this_key)), None) } else { (None, Some(row(d, source, &invented))) };
            let value = event(d, "d", before, None);
            message(vec![Does::Delete(this_key)], time, message_key, Some(value))
        }
        // A tombstone says nothing of its time.
        12 => {
            let with_key = !d.one_in(3);
            let message_key = with_key.then(|| key_object(d, source, &this_key));
            message(vec![if with_key { Does::Delete(this_key) } else { Does::Nothing }], i64::MIN, message_key, None)
        }
        13 => match d.below(8) {
            0 => {
                let value = event(d, "t", None, None);
                message(vec![Does::Truncate], time, None, Some(value))
            }
            1 => {
                let value = event(d, "m", None, None);
                message(vec![Does::Nothing], time, None, Some(value))
            }
            2 | 3 => message(vec![Does::Nothing], now + 900, None, Some(format!("{{\"ts_ms\":{}}}", now + 900))),
            // A row moves to another key.
            _ => {
                let old = key(d, source);
                let mut does = Vec::new();
                if key_text(&source.cols[..source.keys], &old) != key_text(&source.cols[..source.keys], &this_key) {
                    does.push(Does::Delete(old.clone()));
                }
                let (before, value) = (key_object(d, source, &old), row(d, source, &after));
                let value = event(d, "u", Some(before), Some(value));
                does.push(Does::Upsert(after));
                message(does, time, None, Some(value))
            }
        },
        14 => match bad_row(d, source, &after) {
            Some((code, fields)) => {
                let value = object(d, fields);
                let value = event(d, "c", None, Some(value));
                message(vec![Does::Reject(code, Ok(this_key))], time, None, Some(value))
            }
            None => message(vec![Does::Reject("DECODE_FAILED", Err(None))], now, None, Some("[]".into())),
        },
        15 => {
            let ty = source.cols[0].ty;
            match d.below(4) {
                // Not JSON, with the key beside it or without.
                0 => {
                    let message_key = key_object(d, source, &this_key);
                    message(vec![Does::Reject("DECODE_FAILED", Ok(this_key))], now, Some(message_key), Some("{\"op\":\"u\",\"after\":".into()))
                }
                1 => message(vec![Does::Reject("DECODE_FAILED", Err(None))], now, None, Some("not json".into())),
                // The key itself is bad, or lacks.
                _ => {
                    let (code, spelled) = match ty.bad().first() {
                        Some((bad, code)) if d.one_in(2) => (*code, bad.to_string()),
                        _ => ("KEY_MISSING", "null".to_string()),
                    };
                    let mut fields = vec![(source.cols[0].name.clone(), spelled)];
                    for (c, cell) in source.cols.iter().zip(&after).skip(1) {
                        fields.extend(spell(d, source.format, c.ty, cell).map(|s| (c.name.clone(), s)));
                    }
                    let mut read = this_key;
                    read[0] = Cell::Null;
                    let text = (source.keys > 1).then(|| key_text(&source.cols[..source.keys], &read));
                    let value = object(d, fields);
                    let value = event(d, "c", None, Some(value));
                    message(vec![Does::Reject(code, Err(text))], time, None, Some(value))
                }
            }
        }
        _ => {
            let op = *d.of(&["c", "u", "r"]);
            let before = (op == "u" && d.one_in(2)).then(|| row(d, source, &after));
            let value = row(d, source, &after);
            let value = event(d, op, before, Some(value));
            message(vec![Does::Upsert(after)], time, None, Some(value))
        }
    }
}

impl Message {
    fn into_reject(mut self) -> Message {
        self.does = vec![Does::Reject("DECODE_FAILED", Err(None))];
        self
    }
}

/// The fields of a row of which one that is read is bad.
fn bad_row(d: &mut Draw, source: &Source, after: &[Cell]) -> Option<(&'static str, Vec<(String, String)>)> {
    let open: Vec<usize> = (source.keys..source.cols.len()).filter(|c| source.used[*c]).collect();
    if open.is_empty() {
        return None;
    }
    let bad = *d.of(&open);
    let ways = source.cols[bad].ty.bad();
    // In upsert-json bytes are in hex, where `*` is as bad.
    let (spelled, code) = *d.of(&ways);
    let mut fields = Vec::new();
    for (c, (col, cell)) in source.cols.iter().zip(after).enumerate() {
        if c == bad {
            fields.push((col.name.clone(), spelled.to_string()));
        } else if let Some(text) = spell(d, source.format, col.ty, cell) {
            fields.push((col.name.clone(), text));
        }
    }
    Some((code, fields))
}
