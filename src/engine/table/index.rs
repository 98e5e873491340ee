//! From the hash of a key to its slot: open addressing in the order of hashes, eight bytes a place.
//!
//! A place is `hash << 32 | slot + 1`, 0 is free. The home of a hash is proportional to it, so growing by half copies in
//! order, and a walk meets keys in the order of their hashes. Linear probing; deletion shifts back, so there are no
//! tombstones.

use crate::memory;

/// Places between two looks at memory while all of them move.
const BREATH: usize = 1 << 15;

#[derive(Default)]
pub struct Index {
    places: Vec<u64>,
    used: usize,
}

impl Index {
    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.places.len() as u64) >> 32) as usize
    }

    /// Brings the home of a hash near, without waiting for it.
    #[inline]
    pub fn touch(&self, hash: u32) -> u64 {
        if self.places.is_empty() { 0 } else { self.places[self.home(hash)] }
    }

    /// The slot with this hash that `is` accepts.
    #[inline]
    pub fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            let place = self.places[at];
            if place == 0 {
                return None;
            }
            if (place >> 32) as u32 == hash && is(place as u32 - 1) {
                return Some(place as u32 - 1);
            }
            at += 1;
            if at == self.places.len() {
                at = 0;
            }
        }
    }

    /// Adds a slot that is not there.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        if (self.used + 1) * 8 > self.places.len() * 7 {
            self.grow();
        }
        self.used += 1;
        self.put(u64::from(hash) << 32 | (u64::from(slot) + 1));
    }

    fn put(&mut self, place: u64) {
        let mut at = self.home((place >> 32) as u32);
        while self.places[at] != 0 {
            at += 1;
            if at == self.places.len() {
                at = 0;
            }
        }
        self.places[at] = place;
    }

    fn grow(&mut self) {
        let size = (self.places.len() * 3 / 2).max(64);
        let old = std::mem::replace(&mut self.places, vec![0; size]);
        for stretch in old.chunks(BREATH) {
            for place in stretch.iter().filter(|place| **place != 0) {
                self.put(*place);
            }
            memory::breathe();
        }
    }

    /// Takes a slot out.
    ///
    /// # Panics
    /// When it is not there.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let size = self.places.len();
        let wanted = u64::from(hash) << 32 | (u64::from(slot) + 1);
        let mut hole = self.home(hash);
        while self.places[hole] != wanted {
            assert!(self.places[hole] != 0, "a slot that is removed is in the index");
            hole = if hole + 1 == size { 0 } else { hole + 1 };
        }
        let mut at = hole;
        loop {
            at = if at + 1 == size { 0 } else { at + 1 };
            let place = self.places[at];
            if place == 0 {
                break;
            }
            // Move back what would otherwise be cut off from its home: its home is not between the hole and it.
            let distance = (at + size - self.home((place >> 32) as u32)) % size;
            if distance >= (at + size - hole) % size {
                self.places[hole] = place;
                hole = at;
            }
        }
        self.places[hole] = 0;
        self.used -= 1;
    }

    /// Bytes held from the allocator.
    pub fn bytes(&self) -> u64 {
        self.places.capacity() as u64 * 8
    }
}
