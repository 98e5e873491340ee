//! Joins on packed keys, of every kind.
//!
//! Everything is made of inner joins of arrangements and differences of bags:
//!
//! ```text
//! semi  = left ⋈ distinct keys of right
//! anti  = left − semi
//! left  = inner ∪ anti with NULLs
//! full  = inner ∪ anti of both sides with NULLs
//! ```
//!
//! With a condition beyond the keys, "has a match" is asked of the whole left row instead of its key. A NULL in a key
//! matches nothing: such rows are dropped where unmatched rows are dropped, and get a mark of their side otherwise, so
//! that their key equals no key of the other side.

use super::{
    arrange::{Arrangement, Keyed, arrange},
    group, program,
    sql::{Rendering, Rows},
};
use crate::{
    engine::sql::rel::{Join, JoinKind, JoinSide, Pick, Slot, Source},
    row::{Field, RowReader, RowWriter, Type},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum NullKeys {
    Match,
    Drop,
    /// They stay, with this mark.
    Mark(u8),
}

/// The rows of a join.
pub fn render<'scope>(rendering: &mut Rendering<'_, 'scope>, join: &Join) -> Rows<'scope> {
    let (keeps_left, keeps_right) =
        (matches!(join.kind, JoinKind::Left | JoinKind::Full | JoinKind::Anti), matches!(join.kind, JoinKind::Right | JoinKind::Full));
    let nulls = |keeps: bool, mark: u8| match (join.nulls_match, keeps) {
        (true, _) => NullKeys::Match,
        (false, true) => NullKeys::Mark(mark),
        (false, false) => NullKeys::Drop,
    };
    let left = side(rendering, &join.left, join.keys, nulls(keeps_left, 1));
    let right = side(rendering, &join.right, join.keys, nulls(keeps_right, 2));
    let layout = Layout::new(join);
    match (&join.residual, join.kind) {
        (None, JoinKind::Semi) => {
            let keys = arrange(as_keyed(group::distinct_keys(right)), "SemiKeys");
            pairs(&arrange(left, "SemiLeft"), &keys, &layout, &layout.outputs(join, Side::Left))
        }
        (None, JoinKind::Anti) => {
            let keys = arrange(as_keyed(group::distinct_keys(right)), "AntiKeys");
            let outputs = layout.outputs(join, Side::Left);
            let all = alone(left.clone(), &layout, &outputs);
            let matched = pairs(&arrange(left, "AntiLeft"), &keys, &layout, &outputs);
            all.concat(matched.negate())
        }
        (None, kind) => {
            let (left_index, right_index) = (arrange(left.clone(), "JoinLeft"), arrange(right.clone(), "JoinRight"));
            let mut rows = pairs(&left_index, &right_index, &layout, &layout.outputs(join, Side::Both));
            if matches!(kind, JoinKind::Left | JoinKind::Full) {
                let keys = arrange(as_keyed(group::distinct_keys(right.clone())), "RightKeys");
                let outputs = layout.outputs(join, Side::Left);
                rows = rows.concat(alone(left.clone(), &layout, &outputs)).concat(pairs(&left_index, &keys, &layout, &outputs).negate());
            }
            if matches!(kind, JoinKind::Right | JoinKind::Full) {
                let keys = arrange(as_keyed(group::distinct_keys(left)), "LeftKeys");
                let mirrored = layout.mirrored();
                let outputs = mirrored.outputs(join, Side::Right);
                rows = rows.concat(alone(right, &mirrored, &outputs)).concat(pairs(&right_index, &keys, &mirrored, &outputs).negate());
            }
            rows
        }
        (Some(residual), kind) => {
            let (left_index, right_index) = (arrange(left.clone(), "JoinLeft"), arrange(right.clone(), "JoinRight"));
            let wide = pairs(&left_index, &right_index, &layout, &layout.wide());
            let outputs = layout.outputs(join, Side::Both);
            let mut condition = residual.clone();
            if kind == JoinKind::Inner {
                condition.outputs = outputs.iter().map(|o| Source::Copy(o.expect("pairs have both sides"))).collect();
            }
            // The pairs that hold; the rows of a side that stand in one of them are matched.
            let (held, errors) = program::map(wide, &condition);
            rendering.errors.push(errors);
            let (keys, left_width, width) = (join.keys, layout.left, layout.wide().len());
            let left_id: Vec<Option<usize>> = (0..keys + left_width).map(Some).collect();
            let right_id: Vec<Option<usize>> = (0..keys).chain(keys + left_width..width).map(Some).collect();
            let whole = |side: Keyed<'scope>, layout: &Layout, id: Vec<Option<usize>>| {
                let rows = alone(side, layout, &(0..id.len()).map(Some).collect::<Vec<_>>());
                let matched = arrange(as_keyed(group::distinct_rows(reshape(held.clone(), &residual.row, id))), "Matched");
                let index = arrange(as_keyed(rows.clone()), "Rows");
                let matched = index.join_core(matched, |row: &[u8], _: &[u8], _: &[u8]| Some(row.to_vec()));
                (rows, matched)
            };
            let slots = |side: &JoinSide| side.slots.clone();
            match kind {
                JoinKind::Inner => held,
                JoinKind::Semi | JoinKind::Anti => {
                    let (rows, matched) = whole(left, &layout, left_id);
                    let kept = if kind == JoinKind::Semi { matched } else { rows.concat(matched.negate()) };
                    reshape(kept, &slots(&join.left), layout.outputs(join, Side::Left))
                }
                _ => {
                    let mut rows = reshape(held.clone(), &residual.row, outputs);
                    if matches!(kind, JoinKind::Left | JoinKind::Full) {
                        let (all, matched) = whole(left, &layout, left_id);
                        rows = rows.concat(reshape(all.concat(matched.negate()), &slots(&join.left), layout.outputs(join, Side::Left)));
                    }
                    if matches!(kind, JoinKind::Right | JoinKind::Full) {
                        let mirrored = layout.mirrored();
                        let (all, matched) = whole(right, &mirrored, right_id);
                        rows = rows.concat(reshape(all.concat(matched.negate()), &slots(&join.right), mirrored.outputs(join, Side::Right)));
                    }
                    rows
                }
            }
        }
    }
}

fn side<'scope>(rendering: &mut Rendering<'_, 'scope>, side: &JoinSide, keys: usize, nulls: NullKeys) -> Keyed<'scope> {
    let rows = rendering.rel(&side.rel);
    let width = side.program.outputs.len();
    let (keyed, errors) = program::run(rows, "Key", &side.program, move |emitted| {
        let mut key = Vec::new();
        let null = emitted.write(0..keys, &mut key);
        match nulls {
            NullKeys::Drop if null => return None,
            NullKeys::Mark(mark) if null => key.push(mark),
            _ => {}
        }
        Some((key, emitted.row(keys..width)))
    });
    rendering.errors.push(errors);
    keyed
}

fn as_keyed(rows: Rows<'_>) -> Keyed<'_> {
    rows.map(|row| (row, Vec::new()))
}

/// Pairs of more fields than this cost an allocation each.
const FIELDS_ON_STACK: usize = 24;

/// The fields of a pair: keys, values of the one side, values of the other.
#[derive(Clone)]
struct Layout {
    types: [Vec<Type>; 3],
    left: usize,
    /// Fields of a pair.
    width: usize,
    is_mirrored: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Both,
    Left,
    Right,
}

impl Layout {
    fn new(join: &Join) -> Layout {
        let packed = |slots: &[Slot]| slots.iter().map(|s| s.packed).collect::<Vec<_>>();
        let types = [packed(&join.left.slots[..join.keys]), packed(&join.left.slots[join.keys..]), packed(&join.right.slots[join.keys..])];
        Layout { left: types[1].len(), width: types.iter().map(Vec::len).sum(), types, is_mirrored: false }
    }

    /// With the right side first.
    fn mirrored(&self) -> Layout {
        let [keys, left, right] = self.types.clone();
        Layout { left: right.len(), width: self.width, types: [keys, right, left], is_mirrored: true }
    }

    fn wide(&self) -> Vec<Option<usize>> {
        (0..self.width).map(Some).collect()
    }

    /// The join's outputs as places in the fields of a pair; NULL (`None`) where only one `side` is there and it is not
    /// that field's. The first side of the layout must be `side`.
    fn outputs(&self, join: &Join, side: Side) -> Vec<Option<usize>> {
        let (keys, first) = (join.keys, self.types[1].len());
        let place = |pick: &Pick| match (*pick, side) {
            (Pick::LeftKey(k), Side::Both | Side::Left) | (Pick::RightKey(k), Side::Both | Side::Right) => Some(k),
            (Pick::Left(v), Side::Both | Side::Left) | (Pick::Right(v), Side::Right) => Some(keys + v),
            (Pick::Right(v), Side::Both) => Some(keys + first + v),
            _ => None,
        };
        debug_assert_eq!(self.is_mirrored, side == Side::Right);
        join.outputs.iter().map(place).collect()
    }

    /// Writes the row of some fields of a pair.
    fn write<'a>(&self, key: &'a [u8], one: &'a [u8], other: Option<&'a [u8]>, outputs: &[Option<usize>]) -> Vec<u8> {
        let mut found: [Field<'a>; FIELDS_ON_STACK] = [Field::Null; FIELDS_ON_STACK];
        let mut more: Vec<Field<'a>> = Vec::new();
        let found: &mut [Field<'a>] = if self.width <= FIELDS_ON_STACK {
            &mut found
        } else {
            more.resize(self.width, Field::Null);
            &mut more
        };
        let mut at = 0;
        let parts = [Some(key), Some(one), other];
        for (types, part) in self.types.iter().zip(parts) {
            if let Some(part) = part {
                let mut reader = RowReader::new(part, types.len());
                for ty in types {
                    found[at] = reader.next(*ty);
                    at += 1;
                }
            }
        }
        let mut row = Vec::with_capacity(key.len() + one.len() + other.map_or(0, <[u8]>::len) + 2);
        let mut writer = RowWriter::new(&mut row, outputs.len());
        for output in outputs {
            writer.field(output.map_or(Field::Null, |at| found[at]));
        }
        writer.finish();
        row
    }
}

/// Every pair of rows with equal keys.
fn pairs<'scope>(one: &Arrangement<'scope>, other: &Arrangement<'scope>, layout: &Layout, outputs: &[Option<usize>]) -> Rows<'scope> {
    let (layout, outputs) = (layout.clone(), outputs.to_vec());
    let with_other = outputs.iter().flatten().any(|at| *at >= layout.types[0].len() + layout.types[1].len());
    one.clone().join_core(other.clone(), move |key: &[u8], one: &[u8], other: &[u8]| Some(layout.write(key, one, with_other.then_some(other), &outputs)))
}

/// The rows of one side without the other.
fn alone<'scope>(side: Keyed<'scope>, layout: &Layout, outputs: &[Option<usize>]) -> Rows<'scope> {
    let (layout, outputs) = (layout.clone(), outputs.to_vec());
    side.map(move |(key, value)| layout.write(&key, &value, None, &outputs))
}

/// Other fields of packed rows; NULL where `outputs` says none.
fn reshape<'scope>(rows: Rows<'scope>, slots: &[Slot], outputs: Vec<Option<usize>>) -> Rows<'scope> {
    let types: Vec<Type> = slots.iter().map(|s| s.packed).collect();
    rows.map(move |row| {
        let mut reader = RowReader::new(&row, types.len());
        let fields: Vec<Field> = types.iter().map(|ty| reader.next(*ty)).collect();
        let mut out = Vec::with_capacity(row.len());
        let mut writer = RowWriter::new(&mut out, outputs.len());
        for output in &outputs {
            writer.field(output.map_or(Field::Null, |at| fields[at]));
        }
        writer.finish();
        out
    })
}
