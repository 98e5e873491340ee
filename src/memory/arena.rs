//! Large blocks in a file that is mapped into memory.
//!
//! The file is sparse and has no name, so that nothing is left of it, however the process ends. Blocks have sizes of powers of two;
//! a block that is given back leaves a hole in the file and is used again for one of its size. Space on the disk is reserved
//! before a block is given out, since writing to a mapping without it would end the process: where there is none, the block
//! comes from memory after all.

use std::{
    alloc::Layout,
    fs::{File, OpenOptions},
    io,
    path::Path,
    ptr::{self, NonNull},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::{
    fs::FallocateFlags,
    mm::{Advice, MapFlags, ProtFlags},
};

use super::LARGE;

/// What blocks are aligned to: a mapping begins at a page, and pages are not smaller.
const PAGE: usize = 4096;

/// Sizes of blocks: `LARGE` times a power of two, up to 64 GiB.
const CLASSES: usize = 20;
/// A block that was given back says in its first bytes which one was before it.
const LINK_BYTES: u64 = 4096;
/// The file's length, in times of the limit; a sparse file costs nothing.
const TIMES: u64 = 64;
const LEAST_BYTES: u64 = 64 << 30;

/// See the module.
#[derive(Debug)]
pub struct Arena {
    file: File,
    base: NonNull<u8>,
    bytes: usize,
    places: Mutex<Places>,
    /// Bytes of blocks that are out.
    out: AtomicU64,
    /// The disk had no space.
    full: AtomicBool,
}

#[derive(Debug)]
struct Places {
    /// Where nothing was given out yet.
    next: u64,
    /// By size: the block that was given back last, plus one.
    free: [u64; CLASSES],
    /// Where the next pages are given back.
    cursor: u64,
}

// SAFETY: the mapping is shared by all threads; who owns which block of it is kept under a lock.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

fn class_of(size: usize) -> Option<usize> {
    let class = (size.div_ceil(LARGE).next_power_of_two().ilog2()) as usize;
    (class < CLASSES).then_some(class)
}

fn class_bytes(class: usize) -> u64 {
    (LARGE as u64) << class
}

impl Arena {
    /// A file in `dir`, for a process that may hold `most` bytes.
    ///
    /// # Errors
    /// The file can't be made or mapped.
    pub fn new(dir: &Path, most: u64) -> io::Result<Arena> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(format!("memory-{}", std::process::id()));
        // One of this number that was killed just here may have left its file.
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        let bytes = most.saturating_mul(TIMES).max(LEAST_BYTES);
        file.set_len(bytes)?;
        // SAFETY: a new mapping at an address of the kernel's choice; nobody else knows the file, so nobody changes or cuts it.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), bytes as usize, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)? };
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("the kernel mapped nothing"))?;
        let places = Mutex::new(Places { next: 0, free: [0; CLASSES], cursor: 0 });
        let arena = Arena { file, base, bytes: bytes as usize, places, out: AtomicU64::new(0), full: AtomicBool::new(false) };
        // A file system that can't do these is found out now.
        rustix::fs::fallocate(&arena.file, FallocateFlags::KEEP_SIZE, 0, LARGE as u64)?;
        arena.hole(0, LARGE as u64)?;
        Ok(arena)
    }

    /// Bytes of the blocks that are out.
    pub fn bytes(&self) -> u64 {
        self.out.load(Ordering::Relaxed)
    }

    /// Whether the disk had no space for a block.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Is it one of this file's blocks?
    #[inline]
    pub fn holds(&self, block: *mut u8) -> bool {
        (block as usize).wrapping_sub(self.base.as_ptr() as usize) < self.bytes
    }

    fn at(&self, offset: u64) -> *mut u8 {
        // SAFETY: offsets of blocks lie within the mapping.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    fn reserve(&self, offset: u64, size: usize) -> bool {
        let done = rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, size as u64).is_ok();
        if !done {
            self.full.store(true, Ordering::Relaxed);
        }
        done
    }

    fn hole(&self, offset: u64, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, bytes)?)
    }

    /// A block of zeros; null if there is none of its kind, or no space on the disk.
    pub fn take(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout.size()).filter(|_| layout.align() <= PAGE) else { return ptr::null_mut() };
        let Ok(mut places) = self.places.lock() else { return ptr::null_mut() };
        let freed = places.free[class];
        let offset = if freed != 0 { freed - 1 } else { places.next };
        if freed == 0 && offset + class_bytes(class) > self.bytes as u64 {
            return ptr::null_mut();
        }
        if !self.reserve(offset, layout.size()) {
            return ptr::null_mut();
        }
        let block = self.at(offset);
        if freed == 0 {
            places.next += class_bytes(class);
        } else {
            // SAFETY: the block is nobody's, its first page is there, and aligned for a link.
            unsafe {
                places.free[class] = block.cast::<u64>().read();
                block.cast::<u64>().write(0);
            }
        }
        self.out.fetch_add(layout.size() as u64, Ordering::Relaxed);
        block
    }

    /// Takes a block back; its space on the disk is free again.
    ///
    /// # Safety
    /// [`Arena::take`] gave the block, of this size (or it was [`Arena::resized`] to it), and nobody uses it any more.
    pub unsafe fn give(&self, block: *mut u8, layout: Layout) {
        let (Some(class), Ok(mut places)) = (class_of(layout.size()), self.places.lock()) else { return };
        let offset = (block as usize - self.base.as_ptr() as usize) as u64;
        if self.hole(offset + LINK_BYTES, class_bytes(class) - LINK_BYTES).is_err() {
            // What is not zero can't be given out again; it stays behind.
            return;
        }
        // SAFETY: the block is nobody's from here on, and has space for a link.
        unsafe {
            ptr::write_bytes(block, 0, LINK_BYTES as usize);
            block.cast::<u64>().write(places.free[class]);
        }
        places.free[class] = offset + 1;
        self.out.fetch_sub(layout.size() as u64, Ordering::Relaxed);
    }

    /// Makes a block larger or smaller where it is; false if that does not go.
    pub fn resized(&self, block: *mut u8, layout: Layout, size: usize) -> bool {
        if size < LARGE || class_of(size) != class_of(layout.size()) {
            return false;
        }
        let offset = (block as usize - self.base.as_ptr() as usize) as u64;
        if size > layout.size() && !self.reserve(offset, size) {
            return false;
        }
        self.out.fetch_add(size as u64, Ordering::Relaxed);
        self.out.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        true
    }

    /// Gives the memory of a part of a block back, if it is one of this file's; what it holds stays in the file.
    pub fn leave(&self, part: *mut u8, bytes: usize) {
        if self.holds(part) && bytes >= LARGE {
            // SAFETY: as in `trim`; parts begin at pages, as blocks do.
            let _ = unsafe { rustix::mm::madvise(part.cast(), bytes, Advice::LinuxDontNeed) };
        }
    }

    /// How often [`Arena::trim`] must be called to have been everywhere.
    pub fn spans(&self, bytes: usize) -> usize {
        self.places.lock().map_or(0, |places| places.next.div_ceil(bytes as u64) as usize)
    }

    /// Gives the memory of the next so many bytes back; what they hold stays in the file.
    pub fn trim(&self, bytes: usize) {
        let Ok(mut places) = self.places.lock() else { return };
        let from = if places.cursor >= places.next { 0 } else { places.cursor };
        let until = (from + bytes as u64).min(places.next);
        places.cursor = until;
        drop(places);
        if until > from {
            // SAFETY: the pages are of a shared mapping of a file: their content is the file's, and is there when they are touched again.
            let _ = unsafe { rustix::mm::madvise(self.at(from).cast(), (until - from) as usize, Advice::LinuxDontNeed) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 64).unwrap()
    }

    /// Every byte of a block says whose it is.
    fn fill(block: *mut u8, from: usize, to: usize, of: u8) {
        // SAFETY: the tests own the block, which is as large.
        unsafe { ptr::write_bytes(block.add(from), of, to - from) }
    }

    fn all(block: *mut u8, size: usize, of: u8) -> bool {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(block, size) }.iter().all(|byte| *byte == of)
    }

    #[test]
    fn blocks_keep_what_they_hold_whatever_is_taken_given_resized_and_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let arena = Arena::new(dir.path(), 1 << 20).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
        let (mut random, mut blocks) = (9_u64, Vec::<(*mut u8, usize, u8)>::new());
        let mut draw = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for step in 0..3_000 {
            match draw(8) {
                0..=2 => {
                    let size = LARGE + draw(5 * LARGE as u64) as usize;
                    let block = arena.take(layout(size));
                    assert!(!block.is_null() && arena.holds(block) && all(block, size, 0), "step {step}: a new block is not zero");
                    let of = 1 + draw(255) as u8;
                    fill(block, 0, size, of);
                    blocks.push((block, size, of));
                }
                3 | 4 if !blocks.is_empty() => {
                    let (block, size, of) = blocks.swap_remove(draw(blocks.len() as u64) as usize);
                    assert!(all(block, size, of), "step {step}");
                    // SAFETY: the block was taken, has this size, and has left the list.
                    unsafe { arena.give(block, layout(size)) };
                }
                5 | 6 if !blocks.is_empty() => {
                    let at = draw(blocks.len() as u64) as usize;
                    let (block, size, of) = blocks[at];
                    let new = LARGE + draw(5 * LARGE as u64) as usize;
                    if arena.resized(block, layout(size), new) {
                        assert!(all(block, size.min(new), of), "step {step}");
                        fill(block, size.min(new), new, of);
                        blocks[at] = (block, new, of);
                    }
                }
                _ => arena.trim(1 << 20),
            }
        }
        assert!(blocks.iter().all(|(block, size, of)| all(*block, *size, *of)));
        assert_eq!(arena.bytes(), blocks.iter().map(|(_, size, _)| *size as u64).sum::<u64>());
    }

    #[test]
    fn what_is_too_large_or_too_strictly_aligned_comes_from_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let arena = Arena::new(dir.path(), 1 << 20).unwrap();
        assert!(arena.take(layout(1 << 40)).is_null());
        assert!(arena.take(Layout::from_size_align(LARGE, 2 * PAGE).unwrap()).is_null());
        assert!(!arena.holds(Box::into_raw(Box::new(0_u8))));
    }
}
