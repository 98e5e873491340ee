//! The table of a source without a key: a multiset. What names a row is the row itself, and the value is how often it is there.
//!
//! A row may be taken away before it comes, where a topic has several partitions: that is a debt, which the next such row
//! settles. Nobody sees a negative count; while the debt stands, it is a reject.
//!
//! A key is `[0][row]`, with the packed count as its value, or with a reject and the debt (8 bytes) behind it; or it is
//! `[1][position]` of a message that could not be read.

use super::{
    Kind, Table, Value,
    change::{self, Change, Op},
};
use crate::{
    engine::Reject,
    row::{self, RowReader, Type, pack_int, read_int},
};

/// What the first byte of a key says.
pub const ROW: u8 = 0;
pub const POSITION: u8 = 1;

/// Of a table that counts.
#[derive(Debug)]
pub(super) struct Counted {
    /// For its rejects.
    source: usize,
    /// All rows, each as often as it is there.
    pub rows: u64,
}

impl Table {
    /// The same table, of a source (by its number) whose rows are counted.
    pub fn counting(self, source: usize) -> Self {
        Table { counted: Some(Counted { source, rows: 0 }), ..self }
    }

    /// Are rows counted? Then net changes are those of counts.
    pub fn counts(&self) -> bool {
        self.counted.is_some()
    }

    /// Applies a change of what counts.
    pub(super) fn count(&mut self, slot: u32, side: usize, change: &Change) {
        let before = self.balance(slot, side);
        self.touch(slot, side, change.time);
        match change.op {
            Op::Gain => self.balanced(slot, side, change, before + 1),
            Op::Lose => self.balanced(slot, side, change, before - 1),
            // Of a checkpoint: a count, or a debt; or a message that could not be read.
            Op::Set => self.set(slot, side, Kind::Row, change.key, change.value),
            Op::Reject => self.refuse(slot, side, change.key, change.value),
            _ => self.clear_or_keep(slot, side, change.key),
        }
        let there = |balance: i64| balance.max(0) as u64;
        let after = self.balance(slot, side);
        if let Some(counted) = &mut self.counted {
            counted.rows = counted.rows + there(after) - there(before);
        }
    }

    /// How often a row is there; a debt is negative.
    fn balance(&self, slot: u32, side: usize) -> i64 {
        let handle = self.slots[slot as usize][side];
        match (handle != 0).then(|| self.slabs.get(handle)) {
            Some((Kind::Row, _, count)) => read_int(count, &mut 0),
            Some((Kind::Reject, [ROW, ..], reject)) => reject.last_chunk().map_or(0, |debt| i64::from_le_bytes(*debt)),
            _ => 0,
        }
    }

    fn balanced(&mut self, slot: u32, side: usize, change: &Change, balance: i64) {
        if balance == 0 {
            return self.clear_or_keep(slot, side, change.key);
        }
        if balance > 0 {
            let mut count = Vec::new();
            pack_int(&mut count, balance);
            return self.set(slot, side, Kind::Row, change.key, &count);
        }
        // The newest of the messages that took away what is not there.
        let mut reject = match change.op {
            Op::Lose => self.not_found(change),
            _ => {
                let current = self.slabs.get(self.slots[slot as usize][side]).2;
                current[..current.len() - 8].to_vec()
            }
        };
        reject.extend(balance.to_le_bytes());
        self.refuse(slot, side, change.key, &reject);
    }

    fn refuse(&mut self, slot: u32, side: usize, key: &[u8], reject: &[u8]) {
        if let Some(reject) = change::reported(reject) {
            self.rejects.push((reject, 1));
        }
        self.set(slot, side, Kind::Reject, key, reject);
    }

    fn not_found(&self, change: &Change) -> Vec<u8> {
        let mut at = 0;
        let (partition, offset) = (read_int(change.value, &mut at) as i32, read_int(change.value, &mut at));
        change::pack_reject(&Reject {
            source: self.counted.as_ref().map_or(0, |counted| counted.source),
            code: "ROW_NOT_FOUND",
            cause: "the row that is updated or deleted is not there: the event came twice, the row's own event was not read, or `before` has other values \
                    than the row had"
                .into(),
            key: Some(text(&self.types, &change.key[1..])),
            partition,
            offset,
            target: None,
            keyed: true,
        })
    }
}

/// A row for people, as a key of all its columns.
fn text(types: &[Type], row: &[u8]) -> String {
    let mut reader = RowReader::new(row, types.len());
    match types {
        [ty] => row::text_of(*ty, &reader.next(*ty).value(*ty)),
        types => serde_json::Value::Array(types.iter().map(|ty| row::json_of(*ty, &reader.next(*ty).value(*ty))).collect()).to_string(),
    }
}

/// The row of a key, and how often more it is there than it was.
pub fn net<'a>(key: &'a [u8], before: &Value, after: &Value) -> (&'a [u8], isize) {
    let count = |value: &Value| if let Value::Row(count) = value { read_int(count, &mut 0) as isize } else { 0 };
    (&key[1..], count(after) - count(before))
}
