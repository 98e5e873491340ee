//! Entries of a table in pages of equal places: a handle of four bytes, no allocation per row, no header but two bytes.
//!
//! An entry is `[key length and kind: varint][value length: varint][key][value]`.

use crate::{
    memory,
    row::{push_varint64, read_varint64},
};

/// What the value of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A packed row.
    Row = 0,
    /// Several rows with their counts (see `table::many`).
    Many = 1,
    /// The key's newest record is a reject: the packed reject.
    Reject = 2,
    /// Nothing but the key, which a table needs until its tick closes.
    KeyOnly = 3,
}

/// A place in the slabs; 0 is none. Five bits of size class, the rest a number within it.
pub type Handle = u32;

const CLASS_BITS: u32 = 5;
const INDEX_BITS: u32 = 32 - CLASS_BITS;
/// At least half of it is used: pages are large blocks for `memory`.
const PAGE_BYTES: usize = 2 * memory::LARGE;
/// Sizes of places, in bytes; what is larger is allocated by itself.
const SIZES: [usize; 31] =
    [16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 144, 160, 176, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536, 2048];
const LARGE: usize = SIZES.len();

#[derive(Default)]
struct Class {
    pages: Vec<Box<[u8]>>,
    /// Places handed out so far, freed ones included.
    used: u32,
    /// The first freed place plus one; each freed place holds the next.
    free: u32,
}

/// All entries of one table of one worker.
pub struct Slabs {
    classes: Vec<Class>,
    /// Size class by entry length in steps of 8 bytes.
    class_of: Vec<u8>,
    large: Vec<Box<[u8]>>,
    large_free: Vec<u32>,
    large_bytes: u64,
}

#[inline]
fn per_page_bits(class: usize) -> u32 {
    (PAGE_BYTES / SIZES[class]).ilog2()
}

impl Default for Slabs {
    fn default() -> Self {
        let class_of = (0..=SIZES[LARGE - 1] / 8).map(|n| SIZES.iter().position(|s| *s >= n * 8).expect("the last size is the largest") as u8).collect();
        Slabs { classes: (0..LARGE).map(|_| Class::default()).collect(), class_of, large: Vec::new(), large_free: Vec::new(), large_bytes: 0 }
    }
}

#[inline]
fn varint_len(n: u64) -> usize {
    (70 - (n | 1).leading_zeros() as usize) / 7
}

impl Slabs {
    #[inline]
    fn place(&self, handle: Handle) -> &[u8] {
        let (class, index) = (handle >> INDEX_BITS, handle & ((1 << INDEX_BITS) - 1));
        let class = class as usize;
        if class == LARGE {
            return &self.large[index as usize];
        }
        let bits = per_page_bits(class);
        let at = (index as usize & ((1 << bits) - 1)) * SIZES[class];
        &self.classes[class].pages[(index >> bits) as usize][at..at + SIZES[class]]
    }

    #[inline]
    fn place_mut(&mut self, handle: Handle) -> &mut [u8] {
        let (class, index) = (handle >> INDEX_BITS, handle & ((1 << INDEX_BITS) - 1));
        let class = class as usize;
        if class == LARGE {
            return &mut self.large[index as usize];
        }
        let bits = per_page_bits(class);
        let at = (index as usize & ((1 << bits) - 1)) * SIZES[class];
        &mut self.classes[class].pages[(index >> bits) as usize][at..at + SIZES[class]]
    }

    /// Kind, key and value of an entry.
    #[inline]
    pub fn get(&self, handle: Handle) -> (Kind, &[u8], &[u8]) {
        let place = self.place(handle);
        let mut at = 0;
        let head = read_varint64(place, &mut at);
        let value_len = read_varint64(place, &mut at) as usize;
        let key_len = (head >> 2) as usize;
        let kind = match head & 3 {
            0 => Kind::Row,
            1 => Kind::Many,
            2 => Kind::Reject,
            _ => Kind::KeyOnly,
        };
        (kind, &place[at..at + key_len], &place[at + key_len..at + key_len + value_len])
    }

    /// Brings an entry near, without waiting for it.
    #[inline]
    pub fn touch(&self, handle: Handle) -> u8 {
        if handle == 0 { 0 } else { self.place(handle).first().copied().unwrap_or(0) }
    }

    /// The key of an entry.
    #[inline]
    pub fn key(&self, handle: Handle) -> &[u8] {
        self.get(handle).1
    }

    fn write(place: &mut [u8], kind: Kind, key: &[u8], value: &[u8]) {
        let (head, value_len) = ((key.len() as u64) << 2 | kind as u64, value.len() as u64);
        let mut at;
        if head < 0x80 && value_len < 0x80 {
            place[0] = head as u8;
            place[1] = value_len as u8;
            at = 2;
        } else {
            let mut lengths = Vec::with_capacity(20);
            push_varint64(&mut lengths, head);
            push_varint64(&mut lengths, value_len);
            place[..lengths.len()].copy_from_slice(&lengths);
            at = lengths.len();
        }
        place[at..at + key.len()].copy_from_slice(key);
        at += key.len();
        place[at..at + value.len()].copy_from_slice(value);
    }

    #[inline]
    fn class_for(&self, key: &[u8], value: &[u8]) -> (usize, usize) {
        let len = varint_len((key.len() as u64) << 2) + varint_len(value.len() as u64) + key.len() + value.len();
        (self.class_of.get(len.div_ceil(8)).map_or(LARGE, |c| *c as usize), len)
    }

    /// Stores an entry.
    ///
    /// # Panics
    /// When one worker would hold more than 134 million entries of one size.
    pub fn insert(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Handle {
        let (class, len) = self.class_for(key, value);
        if class == LARGE {
            let mut entry = vec![0; len].into_boxed_slice();
            Self::write(&mut entry, kind, key, value);
            self.large_bytes += len as u64;
            let index = match self.large_free.pop() {
                Some(index) => {
                    self.large[index as usize] = entry;
                    index
                }
                None => {
                    self.large.push(entry);
                    self.large.len() as u32 - 1
                }
            };
            return (LARGE as u32) << INDEX_BITS | index;
        }
        let slab = &mut self.classes[class];
        let bits = per_page_bits(class);
        let index = if slab.free != 0 {
            let index = slab.free - 1;
            let at = (index as usize & ((1 << bits) - 1)) * SIZES[class];
            let place = &slab.pages[(index >> bits) as usize][at..at + 4];
            slab.free = u32::from_le_bytes(place.try_into().expect("four bytes"));
            index
        } else {
            let index = slab.used;
            assert!(index + 1 < 1 << INDEX_BITS, "a worker holds at most 134 million rows of {} bytes; start more workers", SIZES[class]);
            if index >> bits == slab.pages.len() as u32 {
                slab.pages.push(vec![0; SIZES[class] << bits].into_boxed_slice());
            }
            slab.used += 1;
            index
        };
        // Class 0 starts at index 1 so that no handle is 0: the first place of it is given up.
        let handle = (class as u32) << INDEX_BITS | index;
        if handle == 0 {
            return self.insert(kind, key, value);
        }
        Self::write(self.place_mut(handle), kind, key, value);
        handle
    }

    /// Frees the place of an entry.
    pub fn remove(&mut self, handle: Handle) {
        let (class, index) = ((handle >> INDEX_BITS) as usize, handle & ((1 << INDEX_BITS) - 1));
        if class == LARGE {
            self.large_bytes -= self.large[index as usize].len() as u64;
            self.large[index as usize] = Box::default();
            self.large_free.push(index);
            return;
        }
        let next = self.classes[class].free;
        self.place_mut(handle)[..4].copy_from_slice(&next.to_le_bytes());
        self.classes[class].free = index + 1;
    }

    /// Replaces an entry's kind and value, in place if the size class stays.
    pub fn replace(&mut self, handle: Handle, kind: Kind, key: &[u8], value: &[u8]) -> Handle {
        let (class, _) = self.class_for(key, value);
        if class != LARGE && class == (handle >> INDEX_BITS) as usize {
            Self::write(self.place_mut(handle), kind, key, value);
            return handle;
        }
        self.remove(handle);
        self.insert(kind, key, value)
    }

    /// Bytes held from the allocator.
    pub fn bytes(&self) -> u64 {
        self.classes.iter().enumerate().map(|(c, class)| class.pages.len() as u64 * (SIZES[c] << per_page_bits(c)) as u64).sum::<u64>() + self.large_bytes
    }
}
