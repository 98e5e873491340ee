//! Large buffers that go from thread to thread, used again.
//!
//! A chunk is filled by a reader and freed by a worker, a parcel's run is filled by one worker and freed by another. Left
//! to the allocator, each would be fresh pages for one thread and garbage of another for the next: measured, that is a
//! tenth of all CPU time, most of it page faults. The buffers that wait here are few:
//! what is under way does not wait, and what waits is memory that nobody uses.

use std::sync::{Mutex, PoisonError};

/// Buffers of one kind.
pub struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
    /// So many wait at most; what is larger than `bytes_max` never does.
    waiting_max: usize,
    bytes_max: usize,
}

/// Of chunks, from readers to workers.
pub static CHUNKS: Buffers = Buffers::new(8, 512 * 1024);
/// Of runs, from workers to workers.
pub static RUNS: Buffers = Buffers::new(8, 512 * 1024);

impl Buffers {
    const fn new(waiting_max: usize, bytes_max: usize) -> Buffers {
        Buffers { free: Mutex::new(Vec::new()), waiting_max, bytes_max }
    }

    /// An empty buffer with room for so many bytes.
    pub fn take(&self, bytes: usize) -> Vec<u8> {
        let used = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match used {
            Some(mut buffer) => {
                buffer.reserve(bytes);
                buffer
            }
            None => Vec::with_capacity(bytes),
        }
    }

    /// Takes a buffer back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > self.bytes_max {
            return;
        }
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.waiting_max {
            free.push(buffer);
        }
    }
}
