//! What must stand after a list of messages: recomputed from the first message on, with plain loops.

use std::collections::BTreeMap;

use super::{
    events::{Does, Message},
    model::{Col, Mapped, Model, Table, key_text},
    value::Cell,
};

pub type Row = Vec<Cell>;

/// What a table holds for a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Side {
    /// Sorted, one or more.
    Rows(Vec<Row>),
    /// The newest record of the key, at this offset, is a reject.
    Rejected(i64),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reject {
    pub source: usize,
    pub target: Option<usize>,
    pub code: &'static str,
    pub key: Option<String>,
    /// `None`: that of no record, as the row came through a collection.
    pub offset: Option<i64>,
}

#[derive(Clone, Debug)]
struct Slot {
    key: Row,
    row: Result<Row, &'static str>,
    offset: i64,
}

/// By key, as a JSON array of its values.
pub type Held = BTreeMap<String, Side>;

#[derive(Debug, Default)]
pub struct World {
    pub sources: Vec<Held>,
    pub targets: Vec<Held>,
    /// By target: the rows that others read, whatever claims their keys.
    flowing: Vec<Vec<Row>>,
    /// By target: a reject of it or of what it is made of stands; and one that may have touched any key of it.
    troubled: Vec<bool>,
    pub doubtful: Vec<bool>,
    pub rejects: Vec<Reject>,
}

/// The same to a comparison: which reject it is does not matter.
pub fn alike(a: Option<&Side>, b: Option<&Side>) -> bool {
    a == b || matches!((a, b), (Some(Side::Rejected(_)), Some(Side::Rejected(_))))
}

pub fn key_id(cols: &[Col], cells: &[Cell]) -> String {
    serde_json::Value::Array(cols.iter().zip(cells).map(|(c, v)| c.ty.json(v)).collect()).to_string()
}

pub fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|r| format!("{r:?}"));
    rows
}

impl World {
    pub fn side(&self, _model: &Model, table: Table) -> &Held {
        match table {
            Table::Source(s) => &self.sources[s],
            Table::Target(t) => &self.targets[t],
        }
    }

    /// Replays all messages.
    pub fn replay(model: &Model, messages: &[Message]) -> World {
        let mut world = World::default();
        let mut slots: Vec<BTreeMap<String, Slot>> = vec![BTreeMap::new(); model.sources.len()];
        for message in messages {
            let source = &model.sources[message.source];
            let slots = &mut slots[message.source];
            let cols = &source.cols[..source.keys];
            for does in &message.does {
                match does {
                    Does::Nothing => {}
                    Does::Upsert(new) => {
                        let (key, id) = (new[..source.keys].to_vec(), key_id(cols, new));
                        let old = slots.get(&id).and_then(|s| s.row.as_ref().ok());
                        let row = new
                            .iter()
                            .enumerate()
                            .map(|(c, cell)| if *cell == Cell::Unknown { old.map_or(Cell::Unknown, |old| old[c].clone()) } else { cell.clone() });
                        let slot = Slot { key, row: Ok(row.collect()), offset: message.offset };
                        slots.insert(id, slot);
                    }
                    Does::Delete(key) => _ = slots.remove(&key_id(cols, key)),
                    Does::Truncate => slots.clear(),
                    Does::Reject(code, Ok(key)) => {
                        slots.insert(key_id(cols, key), Slot { key: key.clone(), row: Err(code), offset: message.offset });
                    }
                    Does::Reject(code, Err(text)) => {
                        world.rejects.push(Reject { source: message.source, target: None, code, key: text.clone(), offset: Some(message.offset) });
                    }
                }
            }
        }
        for (s, slots) in slots.iter().enumerate() {
            let mut held = Held::new();
            for (id, slot) in slots {
                held.insert(
                    id.clone(),
                    match &slot.row {
                        Ok(row) => Side::Rows(vec![row.clone()]),
                        Err(code) => {
                            let source = &model.sources[s];
                            world.rejects.push(Reject {
                                source: s,
                                target: None,
                                code,
                                key: Some(key_text(&source.cols[..source.keys], &slot.key)),
                                offset: Some(slot.offset),
                            });
                            Side::Rejected(slot.offset)
                        }
                    },
                );
            }
            world.sources.push(held);
        }
        for (t, target) in model.targets.iter().enumerate() {
            let (in_cols, in_keys) = (model.cols(target.from), model.keys(target.from));
            let out_cols = target.cols();
            let source = model.sources_of(target.from)[0];
            let mut inputs: Vec<(Row, Result<Row, ()>, Option<i64>)> = Vec::new();
            match target.from {
                Table::Source(s) => inputs.extend(slots[s].values().map(|slot| (slot.key.clone(), slot.row.clone().map_err(|_| ()), Some(slot.offset)))),
                Table::Target(from) => inputs.extend(world.flowing[from].iter().map(|row| (row[..in_keys].to_vec(), Ok(row.clone()), None))),
            }
            let troubled = match target.from {
                Table::Source(s) => world.sources[s].values().any(|side| matches!(side, Side::Rejected(_))),
                Table::Target(from) => world.troubled[from],
            };
            let (mut rejecting, mut doubtful) = (false, troubled && !target.fused);
            let (mut flowing, mut held, mut rejected) = (Vec::new(), Held::new(), BTreeMap::new());
            for (key, row, offset) in inputs {
                let mapped = row.as_ref().ok().map(|row| target.map(row));
                // The key of a row that is rejected, where that can be told.
                let own_key = || {
                    let cells = match &row {
                        Ok(row) => row.clone(),
                        Err(()) if !target.fused => return None,
                        Err(()) => key.iter().cloned().chain(in_cols[in_keys..].iter().map(|_| Cell::Missing)).collect(),
                    };
                    target.key_of(&cells).map(|key| key_id(&out_cols[..target.keys], &key))
                };
                match mapped {
                    Some(Mapped::Dropped) => {}
                    Some(Mapped::Row(row)) => {
                        flowing.push(row.clone());
                        match held.entry(key_id(&out_cols[..target.keys], &row)).or_insert_with(|| Side::Rows(vec![])) {
                            Side::Rows(rows) => rows.push(row),
                            Side::Rejected(_) => unreachable!("rejects come last"),
                        }
                    }
                    None => _ = own_key().map(|key| rejected.insert(key, offset)),
                    Some(Mapped::Rejected(code)) => {
                        let text = key_text(&in_cols[..in_keys], &key);
                        let known = key.iter().all(|c| c.value().is_some());
                        world.rejects.push(Reject { source, target: Some(t), code, key: known.then_some(text), offset: offset.filter(|_| target.fused) });
                        rejecting = true;
                        match own_key() {
                            Some(key) => _ = rejected.insert(key, offset),
                            None => doubtful |= !target.fused,
                        }
                    }
                }
            }
            for side in held.values_mut() {
                if let Side::Rows(rows) = side {
                    *rows = sorted(std::mem::take(rows));
                }
            }
            held.extend(rejected.into_iter().map(|(key, offset)| (key, Side::Rejected(offset.unwrap_or(-1)))));
            world.flowing.push(flowing);
            world.targets.push(held);
            world.troubled.push(troubled || rejecting);
            world.doubtful.push(doubtful);
        }
        world.rejects.sort();
        world
    }
}
