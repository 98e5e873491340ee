//! The linear checker: another algorithm for the same differences.
//!
//! Rows of the expected side count +1 and rows of the actual side -1 in one differential arrangement by key; equal rows
//! cancel when it compacts, and what is left of a key *is* its difference. It needs each change as the row that goes and
//! the row that comes, and gets both from the oracle's model of keyed state, one message at a time: a tick whose changes
//! come and go must cancel, too.
//!
//! It agrees with the engine if after every tick the same keys are left, with as many rows on each side. What it can't
//! judge: states, unknown values (cases with them are left out), rejects beyond that they hold no row, and the mapping
//! itself, which it takes from the oracle.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use differential_dataflow::input::InputSession;
use tieout::engine::{Side, Sides};

use super::{
    truth::Row,
    value::{Cell, V, dec},
};

/// Comparison and key, row, tick, weight.
pub type Update = ((usize, String), String, u64, isize);
/// Rows left on the expected and on the actual side, by comparison and key.
pub type Left = BTreeMap<(usize, String), (isize, isize)>;

/// A row such that equal values are equal texts, whatever the types of the two sides.
pub fn text(row: &Row) -> String {
    let plain = |cell: &Cell| match cell {
        Cell::Is(V::Int(n)) => Cell::Is(dec(*n, 0)),
        Cell::Is(V::Dec(n, scale)) => Cell::Is(dec(*n, *scale)),
        other => other.clone(),
    };
    format!("{:?}", row.iter().map(plain).collect::<Vec<_>>())
}

/// The same of a difference of the engine: bytes of equal rows are equal.
pub fn left_of(sides: &Sides) -> Option<(isize, isize)> {
    let rows = |side: &Side| match side {
        Side::Absent | Side::Rejected => Vec::new(),
        Side::Row(row) => vec![row.clone()],
        Side::Duplicate(rows) => rows.clone(),
    };
    let mut weights: BTreeMap<Box<[u8]>, isize> = BTreeMap::new();
    rows(&sides.expected).into_iter().for_each(|row| *weights.entry(row).or_default() += 1);
    rows(&sides.actual).into_iter().for_each(|row| *weights.entry(row).or_default() -= 1);
    counted(weights.into_values())
}

fn counted(weights: impl Iterator<Item = isize>) -> Option<(isize, isize)> {
    let (mut expected, mut actual) = (0, 0);
    for weight in weights {
        expected += weight.max(0);
        actual += (-weight).max(0);
    }
    ((expected, actual) != (0, 0)).then_some((expected, actual))
}

/// What is left after each of the ticks 1 to `ticks`.
pub fn differences(updates: Vec<Update>, ticks: u64) -> Vec<Left> {
    let changes = timely::execute_directly(move |worker| {
        let changes = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&changes);
        let mut input: InputSession<u64, ((usize, String), String), isize> = InputSession::new();
        let probe = worker.dataflow(|scope| {
            let left = input.to_collection(scope).reduce(|_, rows, output| {
                output.extend(counted(rows.iter().map(|(_, weight)| *weight)).map(|left| (left, 1)));
            });
            left.inspect(move |((key, left), tick, weight)| seen.borrow_mut().push((key.clone(), *left, *tick, *weight))).probe().0
        });
        let mut updates = updates.into_iter().peekable();
        for tick in 1..=ticks {
            input.advance_to(tick);
            while let Some((key, row, _, weight)) = updates.next_if(|u| u.2 == tick) {
                input.update((key, row), weight);
            }
            input.advance_to(tick + 1);
            input.flush();
            worker.step_while(|| probe.less_than(&(tick + 1)));
        }
        changes.take()
    });
    let mut left = Left::new();
    let mut all = Vec::new();
    for tick in 1..=ticks {
        let of_tick = || changes.iter().filter(|change| change.2 == tick);
        of_tick().filter(|change| change.3 < 0).for_each(|(key, ..)| _ = left.remove(key));
        of_tick().filter(|change| change.3 > 0).for_each(|(key, now, ..)| _ = left.insert(key.clone(), *now));
        all.push(left.clone());
    }
    all
}
