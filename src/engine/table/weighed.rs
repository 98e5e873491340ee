//! What rows of collections did to the sides of a table in a tick, net.
//!
//! A join may take a row back and give it again within a tick, or not, as its inputs happen to be cut among workers. Which of
//! both it was must not be seen: a side counts as touched when at the end of the tick it is not what it was at its beginning.

use super::{Kind, TOUCHED, Table, WEIGHED, many};

/// What sides were when the first row of the tick came to them or went from them.
#[derive(Debug, Default)]
pub(super) struct Weighed {
    sides: Vec<Was>,
    /// The values.
    values: Vec<u8>,
}

#[derive(Debug)]
struct Was {
    slot: u32,
    side: usize,
    /// The source time of that row; all rows of a tick have the same.
    time: i64,
    kind: Option<Kind>,
    /// How long its value is: they stand one behind the other.
    len: usize,
}

impl Weighed {
    pub fn bytes(&self) -> u64 {
        (self.sides.capacity() * size_of::<Was>() + self.values.capacity()) as u64
    }
}

impl Table {
    /// A row of a collection, or a reject, is about to come to a side or to go from it.
    pub(super) fn weigh(&mut self, slot: u32, side: usize, time: i64) {
        if self.flags[slot as usize] & WEIGHED[side] == 0 {
            self.flags[slot as usize] |= WEIGHED[side];
            let mut weighed = std::mem::take(&mut self.weighed);
            let (kind, value) = self.shown(slot, side);
            weighed.values.extend_from_slice(value);
            weighed.sides.push(Was { slot, side, time, kind, len: value.len() });
            self.weighed = weighed;
        }
        self.mark(slot, side);
    }

    /// Puts down as touched what is not what it was. Gives the slots of the rest: they may hold nothing.
    pub(super) fn weighed_out(&mut self) -> Vec<u32> {
        let Weighed { sides, values } = std::mem::take(&mut self.weighed);
        let (mut at, mut passing) = (0, Vec::new());
        for Was { slot, side, time, kind, len } in sides {
            let before = (kind, &values[at..at + len]);
            at += len;
            let same = self.shown(slot, side) == before;
            let flags = &mut self.flags[slot as usize];
            *flags &= !WEIGHED[side];
            if same {
                passing.push(slot);
            } else {
                *flags |= TOUCHED;
                self.log.push((slot, side as u8, time));
            }
        }
        passing
    }

    /// What a comparison sees of a side: which reject it is does not matter.
    fn shown(&self, slot: u32, side: usize) -> (Option<Kind>, &[u8]) {
        let handle = self.slots[slot as usize][side];
        match (handle != 0).then(|| self.slabs.get(handle)) {
            None | Some((Kind::KeyOnly, ..)) => (None, &[]),
            Some((Kind::Reject, ..)) => (Some(Kind::Reject), &[]),
            Some((Kind::Many, _, items)) if many::reject(items).is_some() => (Some(Kind::Reject), &[]),
            Some((kind, _, value)) => (Some(kind), value),
        }
    }
}
