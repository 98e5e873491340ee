//! Arrangements of packed keys and values: differential's generics appear once, here.

use std::rc::Rc;

use differential_dataflow::{
    VecCollection,
    operators::arrange::{Arranged, TraceAgent, arrangement::arrange_core},
    trace::{
        implementations::{
            BatchContainer, ContainerChunker, OffsetList,
            merge_batcher::{MergeBatcher, vec::VecMerger},
            ord_neu::{OrdValBatch, OrdValBuilder},
            spine_fueled::Spine,
        },
        rc_blanket_impls::RcBuilder,
    },
};
use timely::{container::PushInto, dataflow::channels::pact::Exchange};

use crate::row::hash_key;

/// Updates by packed key: ((key, value), tick, weight).
pub type Keyed<'scope> = VecCollection<'scope, u64, (Vec<u8>, Vec<u8>), isize>;

type Layout = (Bytes, Bytes, Vec<u64>, Vec<isize>, OffsetList);
type Batches = Spine<Rc<OrdValBatch<Layout>>>;
type Batcher = MergeBatcher<VecMerger<(Vec<u8>, Vec<u8>), u64, isize>>;
type Builder = RcBuilder<OrdValBuilder<Layout, Vec<((Vec<u8>, Vec<u8>), u64, isize)>>>;

/// An arrangement of [`Keyed`] updates.
pub type Arrangement<'scope> = Arranged<'scope, TraceAgent<Batches>>;

/// The worker that holds a key's records follows from this.
#[inline]
pub fn route(key: &[u8]) -> u64 {
    // timely takes the low bits, tables of this crate the high ones.
    hash_key(key) >> 32
}

/// Arranges updates by key, each key on one worker.
pub fn arrange<'scope>(updates: Keyed<'scope>, name: &str) -> Arrangement<'scope> {
    let exchange = Exchange::new(|((key, _), _, _): &((Vec<u8>, Vec<u8>), u64, isize)| route(key));
    arrange_core::<_, _, ContainerChunker<Vec<((Vec<u8>, Vec<u8>), u64, isize)>>, Batcher, Builder, Batches>(updates.inner, exchange, name)
}

/// Byte strings one after the other.
pub struct Bytes {
    ends: OffsetList,
    bytes: Vec<u8>,
}

impl Bytes {
    fn push(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.ends.push(self.bytes.len());
    }
}

impl PushInto<Vec<u8>> for Bytes {
    fn push_into(&mut self, item: Vec<u8>) {
        self.push(&item);
    }
}

impl BatchContainer for Bytes {
    type Owned = Vec<u8>;
    type ReadItem<'a> = &'a [u8];

    fn into_owned(item: &[u8]) -> Vec<u8> {
        item.to_vec()
    }

    fn clone_onto(item: &[u8], other: &mut Vec<u8>) {
        other.clear();
        other.extend_from_slice(item);
    }

    fn push_ref(&mut self, item: &[u8]) {
        self.push(item);
    }

    fn push_own(&mut self, item: &Vec<u8>) {
        self.push(item);
    }

    fn clear(&mut self) {
        *self = Bytes::with_capacity(0);
    }

    fn with_capacity(size: usize) -> Bytes {
        let mut ends = OffsetList::with_capacity(size + 1);
        ends.push(0);
        Bytes { ends, bytes: Vec::new() }
    }

    fn merge_capacity(one: &Bytes, other: &Bytes) -> Bytes {
        let mut merged = Bytes::with_capacity(one.len() + other.len());
        merged.bytes.reserve(one.bytes.len() + other.bytes.len());
        merged
    }

    fn reborrow<'b, 'a: 'b>(item: &'a [u8]) -> &'b [u8] {
        item
    }

    fn index(&self, index: usize) -> &[u8] {
        &self.bytes[self.ends.index(index)..self.ends.index(index + 1)]
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }
}
