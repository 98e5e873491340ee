//! Several rows under one key, with their counts: `[count: zigzag varint][length: varint][row]`, sorted by row.
//!
//! Counts may be negative for a moment, while a tick's changes come in any order.

use crate::row::{pack_int, push_varint64, read_varint64};

/// What a key holds after a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Sum {
    Nothing,
    One(Vec<u8>),
    /// Packed.
    Many(Vec<u8>),
}

fn entries(packed: &[u8]) -> Vec<(i64, &[u8])> {
    let (mut at, mut found) = (0, Vec::new());
    while at < packed.len() {
        let count = read_varint64(packed, &mut at);
        let count = (count >> 1) as i64 ^ -((count & 1) as i64);
        let len = read_varint64(packed, &mut at) as usize;
        found.push((count, &packed[at..at + len]));
        at += len;
    }
    found
}

/// Adds a row with a weight to what is there: nothing, a row, or several (`true`).
pub fn add(current: Option<(bool, &[u8])>, row: &[u8], weight: i64) -> Sum {
    let mut entries = match current {
        None => Vec::new(),
        Some((false, row)) => vec![(1, row)],
        Some((true, packed)) => entries(packed),
    };
    match entries.binary_search_by(|(_, r)| (*r).cmp(row)) {
        Ok(at) => {
            entries[at].0 += weight;
            if entries[at].0 == 0 {
                entries.remove(at);
            }
        }
        Err(at) => entries.insert(at, (weight, row)),
    }
    match entries.as_slice() {
        [] => Sum::Nothing,
        [(1, row)] => Sum::One(row.to_vec()),
        entries => {
            let mut out = Vec::new();
            for (count, row) in entries {
                pack_int(&mut out, *count);
                push_varint64(&mut out, row.len() as u64);
                out.extend_from_slice(row);
            }
            Sum::Many(out)
        }
    }
}

/// The rows, each as often as it counts.
pub fn rows(packed: &[u8]) -> Vec<Box<[u8]>> {
    entries(packed).into_iter().flat_map(|(count, row)| std::iter::repeat_n(row.into(), count.max(0) as usize)).collect()
}
