//! The compact keyed table: one or both sides of a comparison, or one target or source table.
//!
//! It holds for each key an expected and an actual value; equal rows are stored once. Changes are applied in the order of
//! their log as they come; what is published when a tick closes is the net change only. A source that repeats itself
//! changes nothing: state is keyed, not counted.
//!
//! This file owns the meaning of changes; `slab` and `index` own memory, `change` the bytes between workers. The stage
//! around it, which knows ticks and workers, is `render::table`.

use std::collections::HashMap;

use super::{DifferenceChange, Reject, RowState, Side, Sides};
use crate::memory;
use crate::row::{self, Field, RowReader, RowWriter, Type};

pub mod change;
pub mod counted;
mod index;
pub mod many;
pub mod save;
mod slab;
mod weighed;
mod written;

use change::{Change, Op};
use index::Index;
use slab::{Handle, Kind, Slabs};
use weighed::Weighed;

/// The expected side, the only one of a plain table.
pub const EXPECTED: usize = 0;
/// The actual side.
pub const ACTUAL: usize = 1;

/// Slots that are worked on together.
const STRETCH: usize = 32;

/// The slot was touched since the last close.
const TOUCHED: u8 = 1;
/// Its difference stands in what was published.
const PUBLISHED: u8 = 2;
/// Its expected value before the tick is in `before`.
const TRACKED: u8 = 4;
/// What a side was before the tick is in `weighed`, by side.
const WEIGHED: [u8; 2] = [32, 64];
/// While a tick closes (nothing is weighed then): a side was touched.
const PASSED: [u8; 2] = WEIGHED;

/// What the table publishes when a tick closes.
#[derive(Debug, Default)]
pub struct Closed {
    pub differences: Vec<DifferenceChange>,
    /// Net changes of the expected side: key, value before, value after.
    pub rows: Vec<(Box<[u8]>, Value, Value)>,
    /// Rejects that came and went.
    pub rejects: Vec<(Reject, i64)>,
}

/// A value of one side, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Absent,
    Row(Box<[u8]>),
    /// Several rows.
    Many(Vec<Box<[u8]>>),
    Reject(Box<Reject>),
    /// A row that was written by another mapping.
    Written,
}

/// See the module.
pub struct Table {
    /// Types of a value's fields, for rows with unknown fields.
    types: Vec<Type>,
    compare: bool,
    track: bool,
    index: Index,
    slots: Vec<[Handle; 2]>,
    flags: Vec<u8>,
    free: Vec<u32>,
    slabs: Slabs,
    /// Each application since the last close: slot, side, source time.
    log: Vec<(u32, u8, i64)>,
    /// The newest source time that each side has shown here.
    shown_to: [i64; 2],
    /// What rows of collections came to and went from since then.
    weighed: Weighed,
    before: Vec<(u32, Value)>,
    rejects: Vec<(Reject, i64)>,
    rows: [u64; 2],
    /// Rows are counted, since nothing names them.
    counted: Option<counted::Counted>,
    /// What no checkpoint has yet.
    unsaved: save::Unsaved,
    /// It is not whole yet: its differences wait.
    blind: bool,
    written: written::Written,
}

impl Table {
    /// An empty table of values with these fields. `compare`: differences are published; `track`: net changes of the
    /// expected side are.
    pub fn new(types: Vec<Type>, compare: bool, track: bool) -> Self {
        Table {
            types,
            compare,
            track,
            index: Index::default(),
            slots: Vec::new(),
            flags: Vec::new(),
            free: Vec::new(),
            slabs: Slabs::default(),
            log: Vec::new(),
            shown_to: [i64::MIN; 2],
            weighed: Weighed::default(),
            before: Vec::new(),
            rejects: Vec::new(),
            rows: [0; 2],
            counted: None,
            unsaved: save::Unsaved::default(),
            blind: false,
            written: written::Written::default(),
        }
    }

    /// While it is blind, a close publishes no differences: the first one after that does.
    pub fn blind(&mut self, blind: bool) {
        self.blind = blind;
    }

    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// Rows of a side (a key with several counts once).
    pub fn rows(&self, side: usize) -> u64 {
        self.counted.as_ref().map_or(self.rows[side], |counted| counted.rows)
    }

    /// Bytes held from the allocator.
    pub fn bytes(&self) -> u64 {
        self.index.bytes()
            + self.slabs.bytes()
            + self.slots.capacity() as u64 * 8
            + self.flags.capacity() as u64
            + self.log.capacity() as u64 * 16
            + self.weighed.bytes()
            + self.unsaved.bytes()
    }

    /// Applies the changes of one packed run, in order, to one side.
    pub fn apply_all(&mut self, side: usize, run: &[u8]) {
        // Several passes per stretch of changes: one each to bring index, slots and entries near (the loads of a pass do
        // not depend on each other, so the processor overlaps them), the last works on them.
        let mut changes = change::read(run);
        let mut stretch: [(Change, u64); STRETCH] = [(Change::EMPTY, 0); STRETCH];
        loop {
            let (mut n, mut near) = (0, 0u64);
            while n < STRETCH {
                let Some(change) = changes.next() else { break };
                let hash = row::hash_key(change.key);
                near ^= self.index.touch(hash as u32);
                stretch[n] = (change, hash);
                n += 1;
            }
            std::hint::black_box(near);
            if n == 0 {
                return;
            }
            let mut handles = [[0; 2]; STRETCH];
            for ((_, hash), handles) in stretch[..n].iter().zip(&mut handles) {
                let place = self.index.touch(*hash as u32);
                if place != 0 && (place >> 32) as u32 == *hash as u32 {
                    *handles = self.slots[place as u32 as usize - 1];
                }
            }
            let mut near = 0u8;
            for [expected, actual] in &handles[..n] {
                near ^= self.slabs.touch(*expected);
                if actual != expected {
                    near ^= self.slabs.touch(*actual);
                }
            }
            std::hint::black_box(near);
            for (change, hash) in &stretch[..n] {
                self.apply(side, change, *hash as u32);
            }
            memory::breathe();
        }
    }

    fn find(&self, hash: u32, key: &[u8]) -> Option<u32> {
        self.index.find(hash, |slot| self.key_of(slot) == key)
    }

    fn apply(&mut self, side: usize, change: &Change, hash: u32) {
        if change.op == Op::Truncate {
            return self.truncate(side, change.time);
        }
        let slot = match self.find(hash, change.key) {
            Some(slot) => slot,
            None if matches!(change.op, Op::Clear | Op::Merge) => return,
            None => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.slots.push([0; 2]);
                    self.flags.push(0);
                    self.slots.len() as u32 - 1
                });
                self.index.insert(hash, slot);
                slot
            }
        };
        if self.counted.is_some() {
            return self.count(slot, side, change);
        }
        // What changes nothing leaves no trace: a record that repeats itself does not make a difference any younger.
        match change.op {
            Op::Set | Op::Merge => {
                let kind = self.kind(slot, side);
                if change.op == Op::Merge && kind != Some(Kind::Row) {
                    return;
                }
                let merged = row::has_unknown(change.value).then(|| self.merged(slot, side, change.value));
                let value = merged.as_deref().unwrap_or(change.value);
                if kind == Some(Kind::Row) && self.slabs.get(self.slots[slot as usize][side]).2 == value {
                    return;
                }
                self.touch(slot, side, change.time);
                self.set(slot, side, Kind::Row, change.key, value);
                return;
            }
            Op::Clear if self.kind(slot, side).is_none() => return,
            Op::Add | Op::Subtract | Op::AddReject | Op::SubtractReject if self.compare => self.weigh(slot, side, change.time),
            _ => self.touch(slot, side, change.time),
        }
        match change.op {
            Op::Set | Op::Merge => unreachable!("handled above"),
            Op::Reject => {
                if let Some(reject) = change::reported(change.value) {
                    self.rejects.push((reject, 1));
                }
                self.set(slot, side, Kind::Reject, change.key, change.value);
            }
            Op::Clear => self.clear(slot, side),
            Op::Add | Op::Subtract | Op::AddReject | Op::SubtractReject => {
                let weight = if matches!(change.op, Op::Add | Op::AddReject) { 1 } else { -1 };
                let item = match change.op {
                    Op::Add | Op::Subtract => many::Item::Row(change.value),
                    _ => many::Item::Reject(change.value),
                };
                let handle = self.slots[slot as usize][side];
                let current = match (handle != 0).then(|| self.slabs.get(handle)) {
                    Some((kind @ (Kind::Row | Kind::Many), _, value)) => Some((kind == Kind::Many, value)),
                    _ => None,
                };
                match many::add(current, item, weight) {
                    many::Sum::Nothing => self.clear_or_keep(slot, side, change.key),
                    many::Sum::One(row) => self.set(slot, side, Kind::Row, change.key, &row),
                    many::Sum::Many(rows) => self.set(slot, side, Kind::Many, change.key, &rows),
                }
            }
            Op::Truncate => unreachable!("handled above"),
            Op::Gain | Op::Lose => unreachable!("only tables that count get them"),
        }
    }

    fn touch(&mut self, slot: u32, side: usize, time: i64) {
        self.shown_to[side] = self.shown_to[side].max(time);
        let flags = &mut self.flags[slot as usize];
        // A second touch without a time says nothing new.
        if time != i64::MIN || *flags & TOUCHED == 0 {
            self.log.push((slot, side as u8, time));
        }
        *flags |= TOUCHED;
        self.mark(slot, side);
    }

    /// What a checkpoint and the net changes of rows must know of a side before it changes.
    fn mark(&mut self, slot: u32, side: usize) {
        let flags = &mut self.flags[slot as usize];
        if self.unsaved.sides[side] != save::Keeps::Nothing && *flags & save::DIRTY == 0 {
            *flags |= save::DIRTY;
            self.unsaved.dirty.push(slot);
        }
        if self.track && side == EXPECTED && *flags & TRACKED == 0 {
            *flags |= TRACKED;
            let before = self.value(slot, side);
            self.before.push((slot, before));
        }
    }

    /// What a side is: of several rows among which is a reject, a reject.
    fn kind(&self, slot: u32, side: usize) -> Option<Kind> {
        let handle = self.slots[slot as usize][side];
        match (handle != 0).then(|| self.slabs.get(handle))? {
            (Kind::KeyOnly, ..) => None,
            (Kind::Many, _, items) if many::reject(items).is_some() => Some(Kind::Reject),
            (kind, ..) => Some(kind),
        }
    }

    /// The new row, with its unknown fields taken from the row that stands.
    fn merged(&self, slot: u32, side: usize, new: &[u8]) -> Vec<u8> {
        let handle = self.slots[slot as usize][side];
        if self.kind(slot, side) != Some(Kind::Row) {
            return new.to_vec();
        }
        let old = self.slabs.get(handle).2;
        let (mut old, mut new) = (RowReader::new(old, self.types.len()), RowReader::new(new, self.types.len()));
        let mut out = Vec::new();
        let mut writer = RowWriter::new(&mut out, self.types.len());
        for ty in &self.types {
            let (old_missing, new_missing) = (old.is_missing(), new.is_missing());
            match (old.next(*ty), new.next(*ty)) {
                (_, Field::Unknown) if old_missing => writer.missing(),
                (old, Field::Unknown) => writer.field(old),
                _ if new_missing => writer.missing(),
                (_, new) => writer.field(new),
            }
        }
        writer.finish();
        out
    }

    /// Gives up the entry of a side unless the other side has the same one.
    fn release(&mut self, slot: u32, side: usize) {
        let sides = self.slots[slot as usize];
        let handle = sides[side];
        if handle == 0 {
            return;
        }
        if handle != sides[1 - side] {
            match self.slabs.get(handle) {
                (Kind::Reject, _, value) => {
                    if let Some(reject) = change::reported(value) {
                        self.rejects.push((reject, -1));
                    }
                }
                (kind, _, value) => self.rows[side] -= counted(kind, value),
            }
            self.slabs.remove(handle);
        } else {
            self.rows[side] -= 1;
        }
        self.slots[slot as usize][side] = 0;
    }

    fn set(&mut self, slot: u32, side: usize, kind: Kind, key: &[u8], value: &[u8]) {
        let [current, other] = {
            let s = self.slots[slot as usize];
            [s[side], s[1 - side]]
        };
        if current != 0 {
            let (old_kind, _, old_value) = self.slabs.get(current);
            if old_kind == kind && old_value == value && kind != Kind::Reject {
                return;
            }
        }
        if other != 0 && other != current {
            let (other_kind, _, other_value) = self.slabs.get(other);
            if other_kind == Kind::KeyOnly {
                // The key has an entry of its own again: the stand-in goes.
                self.slabs.remove(other);
                self.slots[slot as usize][1 - side] = 0;
            } else if kind == Kind::Row && other_kind == Kind::Row && other_value == value {
                self.release(slot, side);
                self.slots[slot as usize][side] = other;
                self.rows[side] += 1;
                return;
            }
        }
        let plain = current != 0 && current != other && self.slabs.get(current).0 == Kind::Row && kind == Kind::Row;
        if plain {
            self.slots[slot as usize][side] = self.slabs.replace(current, kind, key, value);
            return;
        }
        // The key bytes of `key` are the caller's, so releasing first is safe.
        self.release(slot, side);
        self.slots[slot as usize][side] = self.slabs.insert(kind, key, value);
        self.rows[side] += counted(kind, value);
    }

    /// The side has no value; if neither has, the key stays as a stand-in until the tick closes.
    fn clear(&mut self, slot: u32, side: usize) {
        let [current, other] = {
            let s = self.slots[slot as usize];
            [s[side], s[1 - side]]
        };
        if current == 0 || self.slabs.get(current).0 == Kind::KeyOnly {
            return;
        }
        let key = (other == 0).then(|| self.slabs.key(current).to_vec());
        self.release(slot, side);
        if let Some(key) = key {
            self.slots[slot as usize][side] = self.slabs.insert(Kind::KeyOnly, &key, &[]);
        }
    }

    /// As `clear`, for a slot that may be new.
    fn clear_or_keep(&mut self, slot: u32, side: usize, key: &[u8]) {
        if self.slots[slot as usize] == [0; 2] {
            self.slots[slot as usize][side] = self.slabs.insert(Kind::KeyOnly, key, &[]);
        } else {
            self.clear(slot, side);
        }
    }

    fn truncate(&mut self, side: usize, time: i64) {
        for slot in 0..self.slots.len() as u32 {
            if self.kind(slot, side).is_some() {
                self.touch(slot, side, time);
                self.clear(slot, side);
            }
        }
        if let Some(counted) = &mut self.counted {
            counted.rows = 0;
        }
    }

    fn value(&self, slot: u32, side: usize) -> Value {
        let handle = self.slots[slot as usize][side];
        if handle == 0 {
            return Value::Absent;
        }
        match self.slabs.get(handle) {
            (Kind::KeyOnly, ..) => Value::Absent,
            (Kind::Row, _, row) => Value::Row(row.into()),
            (Kind::Many, _, items) => match many::reject(items) {
                Some(reject) => rejected(reject),
                None => Value::Many(many::rows(items)),
            },
            (Kind::Reject, _, reject) => rejected(reject),
        }
    }

    fn side(&self, slot: u32, side: usize) -> Side {
        match self.value(slot, side) {
            Value::Absent | Value::Written => Side::Absent,
            Value::Row(row) => Side::Row(row),
            Value::Many(rows) => Side::Duplicate(rows),
            Value::Reject(_) => Side::Rejected,
        }
    }

    /// Do the sides of a slot disagree?
    fn differs(&self, slot: u32) -> bool {
        let [expected, actual] = self.slots[slot as usize];
        if expected == actual {
            // One entry for both; its kind is `Row`.
            return false;
        }
        let kind = |side| self.kind(slot, side);
        match (kind(EXPECTED), kind(ACTUAL)) {
            // Nothing on either side, or nothing and what nobody could read.
            (None | Some(Kind::Reject), None | Some(Kind::Reject)) => false,
            (Some(Kind::Row), Some(Kind::Row)) => {
                let (expected, actual) = (self.slabs.get(expected).2, self.slabs.get(actual).2);
                if !row::has_unknown(expected) && !row::has_unknown(actual) {
                    return true;
                }
                let (mut expected, mut actual) = (RowReader::new(expected, self.types.len()), RowReader::new(actual, self.types.len()));
                self.types.iter().any(|ty| match (expected.next(*ty), actual.next(*ty)) {
                    (Field::Unknown, _) | (_, Field::Unknown) => false,
                    (expected, actual) => expected != actual,
                })
            }
            _ => true,
        }
    }

    /// Closes a tick: what changed since the last close, net.
    pub fn close(&mut self) -> Closed {
        let mut closed = Closed { rejects: std::mem::take(&mut self.rejects), ..Closed::default() };
        for (slot, before) in std::mem::take(&mut self.before) {
            self.flags[slot as usize] &= !TRACKED;
            let after = self.value(slot, EXPECTED);
            if before != after {
                closed.rows.push((self.key_of(slot).into(), before, after));
            }
        }
        if self.blind {
            return closed;
        }
        let passing = self.weighed_out();
        let mut log = std::mem::take(&mut self.log);
        let (mut place, mut passed) = (HashMap::<u32, usize>::new(), Vec::new());
        for (n, &(slot, side, time)) in log.iter().enumerate() {
            if n.is_multiple_of(STRETCH) {
                memory::breathe();
            }
            if self.flags[slot as usize] & TOUCHED != 0 {
                self.flags[slot as usize] &= !TOUCHED;
                let published = self.flags[slot as usize] & PUBLISHED != 0;
                let differs = self.compare && self.differs(slot);
                if differs || published {
                    let key = self.key_of(slot).into();
                    let now = differs.then(|| Sides { expected: self.side(slot, EXPECTED), actual: self.side(slot, ACTUAL) });
                    place.insert(slot, closed.differences.len());
                    closed.differences.push(DifferenceChange { key, now, expected_time: i64::MIN, actual_time: i64::MIN });
                    let flags = &mut self.flags[slot as usize];
                    *flags = if differs { *flags | PUBLISHED } else { *flags & !PUBLISHED };
                }
            }
            if !place.is_empty()
                && let Some(at) = place.get(&slot)
            {
                let change = &mut closed.differences[*at];
                let last = if usize::from(side) == EXPECTED { &mut change.expected_time } else { &mut change.actual_time };
                *last = (*last).max(time);
            } else if self.compare {
                // What comes and goes may matter to what the other side has yet to show: nobody else would know of it then.
                let flag = PASSED[usize::from(side)];
                if self.flags[slot as usize] & flag != 0 && time > self.shown_to[1 - usize::from(side)] {
                    passed.push(slot);
                }
                self.flags[slot as usize] |= flag;
            }
        }
        if !passed.is_empty() {
            self.came_and_went(passed, &log, &mut closed.differences);
        }
        // Now that nobody needs their keys: slots that hold nothing.
        for slot in log.iter().map(|(slot, ..)| *slot).chain(passing) {
            self.flags[slot as usize] &= !(PASSED[EXPECTED] | PASSED[ACTUAL]);
            let [expected, actual] = self.slots[slot as usize];
            let stand_in = if expected == 0 {
                actual
            } else if actual == 0 {
                expected
            } else {
                continue;
            };
            if stand_in != 0 && self.slabs.get(stand_in).0 == Kind::KeyOnly {
                let hash = row::hash_key(self.slabs.key(stand_in)) as u32;
                self.index.remove(hash, slot);
                if self.flags[slot as usize] & save::KEPT != 0 {
                    self.unsaved.graves.push(self.slabs.key(stand_in).into());
                }
                self.flags[slot as usize] = 0;
                self.slabs.remove(stand_in);
                self.slots[slot as usize] = [0; 2];
                self.free.push(slot);
            }
        }
        // The next tick is likely to be as large as this one; a much smaller one gives the memory back.
        let keep = log.capacity() <= 1 << 16 || log.len() >= log.capacity() / 8;
        log.clear();
        if keep {
            self.log = log;
        }
        closed
    }

    /// Tells of keys on which the sides agree as before when they last changed.
    fn came_and_went(&self, mut slots: Vec<u32>, log: &[(u32, u8, i64)], to: &mut Vec<DifferenceChange>) {
        slots.sort_unstable();
        slots.dedup();
        let mut times = vec![[i64::MIN; 2]; slots.len()];
        for (slot, side, time) in log {
            if let Ok(at) = slots.binary_search(slot) {
                let newest = &mut times[at][usize::from(*side)];
                *newest = (*newest).max(*time);
            }
        }
        let change =
            |(slot, [expected_time, actual_time]): (u32, [i64; 2])| DifferenceChange { key: self.key_of(slot).into(), now: None, expected_time, actual_time };
        to.extend(slots.into_iter().zip(times).map(change));
    }

    /// What a side holds for a key.
    pub fn get(&self, side: usize, key: &[u8]) -> Value {
        self.find(row::hash_key(key) as u32, key).map_or(Value::Absent, |slot| self.value(slot, side))
    }

    /// The slots that have a value on some side, in no order.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        let breathe = |slot: &u32| {
            if (*slot as usize).is_multiple_of(STRETCH) {
                memory::breathe();
            }
        };
        (0..self.slots.len() as u32).inspect(breathe).filter(|slot| self.kind(*slot, EXPECTED).is_some() || self.kind(*slot, ACTUAL).is_some())
    }

    fn key_of(&self, slot: u32) -> &[u8] {
        let [expected, actual] = self.slots[slot as usize];
        self.slabs.key(if expected != 0 { expected } else { actual })
    }

    /// The slots that have a value on some side, in the order of keys.
    pub fn sorted(&self) -> Vec<u32> {
        // Keys are far apart in memory, so what mostly decides stands beside the slot: eight bytes of the key from where
        // the keys begin to differ.
        let mut keys = self.slots().map(|slot| self.key_of(slot));
        let Some(first) = keys.next() else { return Vec::new() };
        let common = keys.fold(first.len(), |common, key| first[..common].iter().zip(key).take_while(|(a, b)| a == b).count());
        let head = |key: &[u8]| {
            let (mut head, rest) = ([0; 8], &key[common..]);
            let len = rest.len().min(8);
            head[..len].copy_from_slice(&rest[..len]);
            u64::from_be_bytes(head)
        };
        let mut slots: Vec<(u64, u32)> = self.slots().map(|slot| (head(self.key_of(slot)), slot)).collect();
        slots.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.key_of(a.1).cmp(self.key_of(b.1))));
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Do both sides of a slot have one row in common?
    pub fn is_tied(&self, slot: u32) -> bool {
        let [expected, actual] = self.slots[slot as usize];
        expected != 0 && expected == actual
    }

    /// Key and rows of a side of a slot; a key with several rows has each as often as it counts.
    pub fn rows_of(&self, slot: u32, side: usize) -> (&[u8], Rows<'_>) {
        let handle = self.slots[slot as usize][side];
        if handle == 0 {
            return (&[], Rows::None);
        }
        match self.slabs.get(handle) {
            (Kind::Row, key, row) => (key, Rows::One(row)),
            (Kind::Many, key, items) if many::reject(items).is_none() => (key, Rows::Many(many::rows(items))),
            (_, key, _) => (key, Rows::None),
        }
    }
}

/// Does the key count among the side's rows?
fn counted(kind: Kind, value: &[u8]) -> u64 {
    match kind {
        Kind::Row => 1,
        Kind::Many => u64::from(many::reject(value).is_none()),
        Kind::Reject | Kind::KeyOnly => 0,
    }
}

fn rejected(packed: &[u8]) -> Value {
    change::unpack_reject(packed).map_or(Value::Absent, |reject| Value::Reject(Box::new(reject)))
}

/// The rows of one key.
pub enum Rows<'a> {
    None,
    One(&'a [u8]),
    Many(Vec<Box<[u8]>>),
}

impl Value {
    /// The same, with rows as `whole` makes them out of a value.
    pub fn state(self, whole: impl Fn(&[u8]) -> Box<[u8]>) -> RowState {
        match self {
            Value::Absent => RowState::Absent,
            Value::Row(row) => RowState::Row(whole(&row)),
            Value::Many(rows) => RowState::Duplicate(rows.iter().map(|r| whole(r)).collect()),
            Value::Reject(reject) => RowState::Rejected(reject),
            Value::Written => RowState::Written,
        }
    }
}

#[cfg(test)]
mod tests;
