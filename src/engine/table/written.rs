//! What had been written of a side before its mapping changed: outputs are told what becomes of those rows.

use std::collections::BTreeSet;

use super::{
    Closed, Table, Value,
    change::{self, Op},
};
use crate::engine::Tick;

/// Keys whose rows were written, of an expected side that is made in another way now.
#[derive(Default)]
pub(super) struct Written {
    pub(super) keys: BTreeSet<Box<[u8]>>,
    until: Tick,
}

impl Table {
    /// Rows of these keys (set and cleared by a packed run) were written of the expected side, which is made in another way now.
    /// [`Table::tell_of_written`] says it of those that come again, [`Table::gone`] has the others.
    pub fn was_written(&mut self, run: &[u8]) {
        self.written.until = Tick::MAX;
        for change in change::read(run) {
            match change.op {
                Op::Set => _ = self.written.keys.insert(change.key.into()),
                _ => _ = self.written.keys.remove(change.key),
            }
        }
    }

    /// With this tick the side is whole: what has not come again by then is gone.
    pub fn whole_at(&mut self, tick: Tick) {
        self.written.until = tick;
    }

    /// Says in the net changes of a tick what was written before of the keys that have a row for the first time.
    pub fn tell_of_written(&mut self, closed: &mut Closed, tick: Tick) {
        let Written { keys, until } = &mut self.written;
        if keys.is_empty() || tick > *until {
            return;
        }
        for (key, before, _) in closed.rows.iter_mut().filter(|(_, before, _)| *before == Value::Absent) {
            if keys.remove(key) {
                *before = Value::Written;
            }
        }
    }

    /// Net changes of the keys that were written and did not come again.
    pub fn gone(&mut self) -> impl Iterator<Item = (Box<[u8]>, Value, Value)> + use<> {
        std::mem::take(&mut self.written).keys.into_iter().map(|key| (key, Value::Written, Value::Absent))
    }
}
