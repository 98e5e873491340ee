//! What several rows of a collection leave under one key: rows, or rejects of rows that would have been there, with their
//! counts: `[count: zigzag varint, times two, plus one for a reject][length: varint][row or packed reject]`, sorted.
//!
//! Counts may be negative for a moment, while a tick's changes come in any order.

use crate::row::{push_varint64, read_varint64};

/// What a key holds after a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Sum {
    Nothing,
    One(Vec<u8>),
    /// Packed.
    Many(Vec<u8>),
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item<'a> {
    Row(&'a [u8]),
    /// Packed.
    Reject(&'a [u8]),
}

fn entries(packed: &[u8]) -> impl Iterator<Item = (i64, Item<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        (at < packed.len()).then(|| {
            let head = read_varint64(packed, &mut at);
            let count = (head >> 2) as i64 ^ -((head >> 1 & 1) as i64);
            let len = read_varint64(packed, &mut at) as usize;
            at += len;
            let bytes = &packed[at - len..at];
            (count, if head & 1 == 1 { Item::Reject(bytes) } else { Item::Row(bytes) })
        })
    })
}

/// Adds a row or a reject with a weight to what is there: nothing, a row, or several (`true`).
pub fn add(current: Option<(bool, &[u8])>, item: Item, weight: i64) -> Sum {
    let mut entries = match current {
        None => Vec::new(),
        Some((false, row)) => vec![(1, Item::Row(row))],
        Some((true, packed)) => entries(packed).collect(),
    };
    match entries.binary_search_by(|(_, i)| i.cmp(&item)) {
        Ok(at) => {
            entries[at].0 += weight;
            if entries[at].0 == 0 {
                entries.remove(at);
            }
        }
        Err(at) => entries.insert(at, (weight, item)),
    }
    match entries.as_slice() {
        [] => Sum::Nothing,
        [(1, Item::Row(row))] => Sum::One(row.to_vec()),
        entries => {
            let mut out = Vec::new();
            for (count, item) in entries {
                let (bytes, reject) = match item {
                    Item::Row(row) => (row, 0),
                    Item::Reject(reject) => (reject, 1),
                };
                push_varint64(&mut out, ((count << 1 ^ count >> 63) as u64) << 1 | reject);
                push_varint64(&mut out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Sum::Many(out)
        }
    }
}

/// The rows, each as often as it counts.
pub fn rows(packed: &[u8]) -> Vec<Box<[u8]>> {
    let row = |(count, item)| match item {
        Item::Row(row) if count > 0 => Some(std::iter::repeat_n(row.into(), count as usize)),
        Item::Row(_) | Item::Reject(_) => None,
    };
    entries(packed).filter_map(row).flatten().collect()
}

/// A reject that claims the key, packed, if there is one: then nobody knows how many rows it should have.
pub fn reject(packed: &[u8]) -> Option<&[u8]> {
    entries(packed).find_map(|(count, item)| match item {
        Item::Reject(reject) if count > 0 => Some(reject),
        Item::Row(_) | Item::Reject(_) => None,
    })
}
