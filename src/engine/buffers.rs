//! Buffers that are used again: those of chunks, between the readers that fill them and the workers that have decoded them,
//! and those of runs of changes.
//!
//! Without this every chunk is memory that one thread takes from the allocator and another gives back, and the process
//! holds several times what it uses.

use std::sync::Mutex;

/// Buffers kept, at most.
const KEPT_MAX: usize = 64;
/// Larger ones are given back to the allocator.
const BYTES_MAX: usize = 1 << 20;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// An empty buffer, perhaps with room.
pub fn take() -> Vec<u8> {
    KEPT.lock().ok().and_then(|mut kept| kept.pop()).unwrap_or_default()
}

/// Gives a buffer back that is not needed any more.
pub fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > BYTES_MAX {
        return;
    }
    buffer.clear();
    if let Ok(mut kept) = KEPT.lock()
        && kept.len() < KEPT_MAX
    {
        kept.push(buffer);
    }
}
