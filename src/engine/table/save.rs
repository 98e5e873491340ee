//! What a checkpoint keeps of a table: the sides that records feed, key by key, only what changed since the checkpoint before.
//! What comes out of collections is recomputed; where it is written somewhere, its keys are kept.
//!
//! An entry is `[key length: varint][key]` and then a state for each side: one byte, and for a row or a reject
//! `[length: varint][bytes]`. Entries of one table are read in the order in which they were written; the last one of a key
//! counts. That is what makes copying bit by bit while the table changes right: whatever is touched after it was copied is
//! copied again, at the latest when the checkpoint is cut.

use super::{
    ACTUAL, EXPECTED, Table,
    change::{self, Op, push_with},
    slab::Kind,
};
use crate::{
    engine::{Give, Renumbered},
    row::{has_unknown, push_varint64, read_varint64},
};

/// Bytes of a part of what is copied; one entry more may go over it.
pub const SAVE_BYTES: usize = 256 << 10;

/// The slot changed since it was copied last.
pub(super) const DIRTY: u8 = 8;
/// A checkpoint may have the slot's key.
pub(super) const KEPT: u8 = 16;

/// What an entry says of a side.
const ABSENT: u8 = 0;
const ROW: u8 = 1;
const REJECT: u8 = 2;
/// The same row as the expected side.
const SAME: u8 = 3;
/// Not kept here: the side is recomputed, or there is none.
const ELSEWHERE: u8 = 4;
/// There is a row, which is recomputed.
const THERE: u8 = 5;

/// What checkpoints keep of a side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeps {
    #[default]
    Nothing,
    /// Which keys have a row: those that another mapping does not give are to be written as gone.
    Keys,
    Values,
}

/// What is still to be copied.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    /// What is kept of each side.
    pub sides: [Keeps; 2],
    /// Slots touched since the copying began.
    pub dirty: Vec<u32>,
    /// Slots to copy: those from here on, and these.
    from: Option<usize>,
    copying: Vec<u32>,
    /// Keys that are gone and that a checkpoint may have.
    pub graves: Vec<Box<[u8]>>,
}

impl Unsaved {
    pub fn bytes(&self) -> u64 {
        (self.dirty.capacity() + self.copying.capacity()) as u64 * 4 + self.graves.iter().map(|key| key.len() as u64 + 16).sum::<u64>()
    }
}

impl Table {
    /// What checkpoints keep of a side. To be said before the first change.
    pub fn keep(&mut self, side: usize, keeps: Keeps) {
        self.unsaved.sides[side] = keeps;
    }

    /// Begins to copy: everything, or what changed since the copying before.
    pub fn begin_save(&mut self, all: bool) {
        if self.unsaved.sides == [Keeps::Nothing; 2] {
            return;
        }
        let dirty = std::mem::take(&mut self.unsaved.dirty);
        self.unsaved.copying.extend(dirty);
        if all {
            // Nothing older counts any more, so nobody needs to know what is gone.
            self.unsaved.graves.clear();
            self.unsaved.from = Some(0);
        }
    }

    /// Copies up to `slots` slots to the end of `out`, fewer once it has [`SAVE_BYTES`]; false when none is left.
    pub fn save_some(&mut self, slots: usize, out: &mut Vec<u8>) -> bool {
        while let Some(key) = self.unsaved.graves.pop() {
            let gone = |side: usize| if self.unsaved.sides[side] == Keeps::Nothing { ELSEWHERE } else { ABSENT };
            push_bytes(out, &key);
            out.extend([gone(EXPECTED), gone(ACTUAL)]);
            // All of them before any slot: a key may have come again.
            if out.len() >= SAVE_BYTES {
                return true;
            }
        }
        for _ in 0..slots {
            if out.len() >= SAVE_BYTES {
                break;
            }
            let (slot, whatever) = match self.unsaved.from {
                Some(slot) if slot < self.slots.len() => {
                    self.unsaved.from = Some(slot + 1);
                    (slot, true)
                }
                _ => {
                    self.unsaved.from = None;
                    let Some(slot) = self.unsaved.copying.pop() else { return false };
                    (slot as usize, false)
                }
            };
            let flags = &mut self.flags[slot];
            if (whatever || *flags & DIRTY != 0) && self.slots[slot] != [0; 2] {
                *flags = *flags & !DIRTY | KEPT;
                self.save_slot(slot as u32, out);
            }
        }
        true
    }

    /// Copies all that is left, and gives it away in parts.
    pub fn save_rest(&mut self, out: &mut Vec<u8>, mut part: impl FnMut(&mut Vec<u8>)) {
        self.unsaved.copying.append(&mut self.unsaved.dirty);
        while self.save_some(usize::MAX, out) {
            part(out);
        }
    }

    /// What has been restored is what the checkpoint has.
    pub fn is_saved(&mut self) {
        for slot in std::mem::take(&mut self.unsaved.dirty) {
            let flags = &mut self.flags[slot as usize];
            *flags = *flags & !DIRTY | KEPT;
        }
        self.unsaved.graves.clear();
        // No tick is as large as what was restored.
        if !self.blind {
            self.log = Vec::new();
        }
    }

    fn save_slot(&self, slot: u32, out: &mut Vec<u8>) {
        push_bytes(out, self.key_of(slot));
        let [expected, actual] = self.slots[slot as usize];
        for (side, handle) in [expected, actual].into_iter().enumerate() {
            if self.unsaved.sides[side] != Keeps::Values {
                out.push(match (self.unsaved.sides[side], self.kind(slot, side)) {
                    (Keeps::Nothing, _) => ELSEWHERE,
                    (_, Some(Kind::Row)) => THERE,
                    _ => ABSENT,
                });
                continue;
            }
            if side == ACTUAL && handle != 0 && handle == expected && self.unsaved.sides[EXPECTED] == Keeps::Values {
                out.push(SAME);
                continue;
            }
            match (handle != 0).then(|| self.slabs.get(handle)) {
                None | Some((Kind::KeyOnly, ..)) => out.push(ABSENT),
                Some((Kind::Row, _, row)) => {
                    out.push(ROW);
                    push_bytes(out, row);
                }
                Some((Kind::Reject, _, reject)) => {
                    out.push(REJECT);
                    push_bytes(out, reject);
                }
                Some((Kind::Many, ..)) => unreachable!("records leave one value a key"),
            }
        }
    }
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_varint64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A side of an entry that is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept<'a> {
    Elsewhere,
    Absent,
    There,
    Row(&'a [u8]),
    Reject(&'a [u8]),
}

/// What entries say of the keys that `mine` accepts, as a run for each of `give`; rejects get the `numbers` of now. `None`:
/// they are not what [`Table::save_some`] wrote.
pub fn restore(entries: &[u8], mut mine: impl FnMut(&[u8]) -> bool, give: &[Give], numbers: Option<&Renumbered>) -> Option<Vec<Vec<u8>>> {
    let (mut at, mut runs) = (0, vec![Vec::new(); give.len()]);
    while at < entries.len() {
        let key = read_bytes(entries, &mut at)?;
        let mut sides = [Kept::Elsewhere; 2];
        for side in [EXPECTED, ACTUAL] {
            let tag = *entries.get(at)?;
            at += 1;
            sides[side] = match tag {
                ABSENT => Kept::Absent,
                ROW => Kept::Row(read_bytes(entries, &mut at)?),
                REJECT => Kept::Reject(read_bytes(entries, &mut at)?),
                SAME if side == ACTUAL => sides[EXPECTED],
                ELSEWHERE => Kept::Elsewhere,
                THERE => Kept::There,
                _ => return None,
            };
        }
        if !mine(key) {
            continue;
        }
        for (give, run) in give.iter().zip(&mut runs) {
            match (sides[give.from], give.keys) {
                (Kept::Elsewhere, _) | (Kept::There, false) => {}
                (Kept::Row(_) | Kept::There, true) => push_with(run, Op::Set, i64::MIN, key, &[]),
                (Kept::Row(row), false) => {
                    // An older entry of the key has nothing to say of its unknown fields.
                    if has_unknown(row) {
                        push_with(run, Op::Clear, i64::MIN, key, &[]);
                    }
                    push_with(run, Op::Set, i64::MIN, key, row);
                }
                (Kept::Absent, _) | (Kept::Reject(_), true) => push_with(run, Op::Clear, i64::MIN, key, &[]),
                (Kept::Reject(reject), false) => match numbers.map(|numbers| change::renumber_reject(reject, numbers)) {
                    None => push_with(run, Op::Reject, i64::MIN, key, reject),
                    Some(Some(reject)) => push_with(run, Op::Reject, i64::MIN, key, &reject),
                    // What it was of is gone, or will be read again.
                    Some(None) => push_with(run, Op::Clear, i64::MIN, key, &[]),
                },
            }
        }
    }
    Some(runs)
}

fn read_bytes<'a>(from: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    // A varint has at most ten bytes, the last of them without its high bit.
    from[*at..].iter().take(10).position(|byte| byte & 0x80 == 0)?;
    let len = usize::try_from(read_varint64(from, at)).ok()?;
    let bytes = from.get(*at..at.checked_add(len)?)?;
    *at += len;
    Some(bytes)
}
