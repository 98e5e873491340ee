//! A limit for memory, `memory_max`: what the process does before the kernel would do worse.
//!
//! ```text
//! resident memory      0 ────────── 50 % ────────── 60 % ───── 70 % ───── 97 % of memory_max
//!                      as without   large blocks    readers     pages of   what can't be moved fills it:
//!                      a limit      go to a file    slow down   the file   a named stop, MEMORY_EXHAUSTED
//!                                   (`arena`)                   are given back
//! ```
//!
//! State is large in few, large blocks: pages of rows, indexes, arrangements of the dataflow. So the limit sits in the
//! allocator: from half of the limit on, new large blocks are places in a file of `data_dir` that is mapped into memory ([`arena`]). Their
//! pages can be given back at any time, the kernel reads them again when they are touched; what is touched often stays. Nothing
//! above knows of it.
//!
//! Only Linux tells enough of a process's memory and of its mappings; elsewhere a limit is refused when it is set.

use std::{
    alloc::{GlobalAlloc, Layout},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mimalloc::MiMalloc;

use crate::telemetry;

pub mod arena;

use arena::Arena;

/// Blocks of this size and more go to the file once memory is short. Pages of tables are.
pub const LARGE: usize = 128 * 1024;

/// Parts of a hundred of the limit; see the module.
const FILE_AT: u64 = 50;
const SLOW_AT: u64 = 60;
const TRIM_AT: u64 = 70;
const FULL_AT: u64 = 97;
/// How often memory is looked at,
const EVERY: Duration = Duration::from_millis(5);
/// and once state is in the file: a worker brings in some 30 MiB of it in such a time.
const EVERY_SHORT: Duration = Duration::from_millis(1);
/// Memory that is full of what can't be given back is believed after so long.
const FULL_FOR: Duration = Duration::from_secs(3);
/// Bytes of the file that are given back at once.
const TRIM_BYTES: usize = 32 << 20;
/// A block that moves is copied in pieces of this size, so that it is not in memory twice.
const PIECE_BYTES: usize = 4 << 20;

static ARENA: OnceLock<Arena> = OnceLock::new();
static TO_FILE: AtomicBool = AtomicBool::new(false);
static PRESSURE: AtomicU8 = AtomicU8::new(0);

/// How short memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    None,
    /// Readers should slow down.
    Tight,
    /// Nothing helps any more.
    Full,
}

/// As of now; always `None` without a limit.
pub fn pressure() -> Pressure {
    match PRESSURE.load(Ordering::Relaxed) {
        0 => Pressure::None,
        1 => Pressure::Tight,
        _ => Pressure::Full,
    }
}

/// Bytes of blocks that are in the file.
pub fn file_bytes() -> u64 {
    ARENA.get().map_or(0, Arena::bytes)
}

/// Whether the disk had no space for what was to go to the file.
pub fn disk_was_full() -> bool {
    ARENA.get().is_some_and(Arena::is_full)
}

/// The allocator of the program: mimalloc, and the file for large blocks when memory is short.
pub struct Allocator;

fn from_file(layout: Layout) -> *mut u8 {
    if layout.size() < LARGE || !TO_FILE.load(Ordering::Relaxed) {
        return std::ptr::null_mut();
    }
    ARENA.get().map_or(std::ptr::null_mut(), |arena| arena.take(layout))
}

fn file_of(block: *mut u8) -> Option<&'static Arena> {
    ARENA.get().filter(|arena| arena.holds(block))
}

// SAFETY: blocks come from mimalloc, or from the arena, which gives each block to one owner until it is given back; a block goes
// back to where it came from, which its address tells.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            let block = from_file(layout);
            if !block.is_null() {
                return block;
            }
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            // Blocks of the file are zero.
            let block = from_file(layout);
            if !block.is_null() {
                return block;
            }
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() >= LARGE
            && let Some(arena) = file_of(block)
        {
            // SAFETY: it came from there, and the caller gives it up.
            unsafe { arena.give(block, layout) };
            return;
        }
        // SAFETY: it came from there.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (of_file, to_file) = (layout.size() >= LARGE && file_of(block).is_some(), size >= LARGE && TO_FILE.load(Ordering::Relaxed));
        if !of_file && !to_file {
            // SAFETY: it came from there, and the caller's promise is handed on.
            return unsafe { MiMalloc.realloc(block, layout, size) };
        }
        if of_file && file_of(block).is_some_and(|arena| arena.resized(block, layout, size)) {
            return block;
        }
        // SAFETY: `size` is not zero and does not overflow with this alignment, as the caller promises.
        let new_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the new block is another one and as large as what is copied; the old one is the caller's to give back.
        unsafe {
            let new = self.alloc(new_layout);
            if !new.is_null() {
                let bytes = layout.size().min(size);
                for from in (0..bytes).step_by(PIECE_BYTES) {
                    let piece = PIECE_BYTES.min(bytes - from);
                    std::ptr::copy_nonoverlapping(block.add(from), new.add(from), piece);
                    if let Some(arena) = ARENA.get() {
                        arena.leave(block.add(from), piece);
                        arena.leave(new.add(from), piece);
                    }
                }
                self.dealloc(block, layout);
            }
            new
        }
    }
}

/// The thread that keeps the limit.
#[derive(Debug)]
pub struct Governor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The limit, and since when nothing helps.
#[derive(Debug)]
struct Limit {
    most: u64,
    full_since: Option<Instant>,
}

static LIMIT: Mutex<Option<Limit>> = Mutex::new(None);

impl Governor {
    /// Keeps the process within `most` bytes, with a file in `dir` for what does not fit.
    ///
    /// # Errors
    /// The file can't be made, or the system does not tell what is needed.
    pub fn start(most: u64, dir: &Path) -> std::io::Result<Governor> {
        if resident().is_none() {
            return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "this system does not tell how much memory a process holds"));
        }
        if ARENA.get().is_none() {
            let _ = ARENA.set(Arena::new(dir, most)?);
        }
        *limit() = Some(Limit { most, full_since: None });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("memory".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                relieve();
                std::thread::park_timeout(if TO_FILE.load(Ordering::Relaxed) { EVERY_SHORT } else { EVERY });
            }
            *limit() = None;
            PRESSURE.store(0, Ordering::Relaxed);
        })?;
        Ok(Governor { stop, thread })
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

fn limit() -> MutexGuard<'static, Option<Limit>> {
    LIMIT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// To be called by whoever walks over state, every few dozen places: once state is in the file each may bring sixteen pages of
/// it in, more than the governor alone keeps up with.
#[inline]
pub fn breathe() {
    if TO_FILE.load(Ordering::Relaxed) {
        relieve();
    }
}

/// One look, and what follows from it.
#[cold]
fn relieve() {
    let mut limit = limit();
    let (Some(limit), Some((mut held, files)), Some(arena)) = (limit.as_mut(), resident(), ARENA.get()) else { return };
    let most = limit.most;
    let part = |percent: u64| most / 100 * percent;
    if held >= part(FILE_AT) && !TO_FILE.swap(true, Ordering::Relaxed) {
        telemetry::MemoryShort { held, most }.emit();
    }
    // Pages of the file go first; they are read again when they are touched.
    if held >= part(TRIM_AT) {
        for _ in 0..arena.spans(TRIM_BYTES) {
            arena.trim(TRIM_BYTES);
            held = resident().map_or(0, |(held, _)| held);
            if held < part(SLOW_AT) {
                break;
            }
        }
    }
    let full = held.saturating_sub(files) >= part(FULL_AT) || held >= most;
    let since = if full { Some(*limit.full_since.get_or_insert_with(Instant::now)) } else { None };
    limit.full_since = since;
    let pressure = match since {
        Some(since) if since.elapsed() >= FULL_FOR => 2,
        _ => u8::from(held >= part(SLOW_AT)),
    };
    PRESSURE.store(pressure, Ordering::Relaxed);
}

/// Bytes of memory that this process holds; 0 where the system does not tell.
pub fn held() -> u64 {
    resident().map_or(0, |(held, _)| held)
}

/// Resident bytes of this process, and how many of them are pages of files.
fn resident() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').skip(1).map(|n| n.parse::<u64>().ok());
    let (held, files) = (pages.next()??, pages.next()??);
    let page = rustix::param::page_size() as u64;
    Some((held * page, files * page))
}
