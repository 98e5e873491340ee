//! Chunks by position: where one begins, cutting one in two, and its messages one by one.

use super::{Chunk, MessageAt, Payload};
use crate::format::Message;

/// The position of a chunk's first message.
pub fn first(chunk: &Chunk) -> i64 {
    match &chunk.payload {
        Payload::Lines { offset, .. } => *offset,
        Payload::Messages { index, .. } => index.first().map_or(chunk.next, |message| message.offset),
        Payload::Heartbeat(_) => chunk.next,
    }
}

/// Cuts a chunk at a position behind its first message.
pub fn cut(chunk: Chunk, at: i64) -> (Chunk, Option<Chunk>) {
    if chunk.next <= at {
        return (chunk, None);
    }
    let Chunk { source, partition, payload, source_time, next } = chunk;
    let (payload, rest) = match payload {
        Payload::Lines { mut bytes, offset } => {
            let rest = bytes.split_off(((at - offset) as usize).min(bytes.len()));
            (Payload::Lines { bytes, offset }, Payload::Lines { bytes: rest, offset: at })
        }
        Payload::Messages { mut bytes, mut index } => {
            let rest = index.split_off(index.partition_point(|message| message.offset < at));
            let Some(from) = rest.first().map(|message| message.start) else {
                return (Chunk { source, partition, payload: Payload::Messages { bytes, index }, source_time, next }, None);
            };
            let rest = rest.into_iter().map(|message| MessageAt { start: message.start - from, ..message }).collect();
            let tail = bytes.split_off(from as usize);
            (Payload::Messages { bytes, index }, Payload::Messages { bytes: tail, index: rest })
        }
        Payload::Heartbeat(_) => return (Chunk { source, partition, payload, source_time, next }, None),
    };
    (Chunk { source, partition, payload, source_time, next: at }, Some(Chunk { source, partition, payload: rest, source_time, next }))
}

impl Chunk {
    /// Shows its messages, the first one first, until `look` has found something.
    pub fn find<T>(&self, mut look: impl FnMut(Message) -> Option<T>) -> Option<T> {
        match &self.payload {
            Payload::Lines { bytes, offset } => {
                let mut start = 0;
                while start < bytes.len() {
                    let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |n| start + n);
                    if let Some(found) = line(&bytes[start..end], offset + start as i64).and_then(&mut look) {
                        return Some(found);
                    }
                    start = end + 1;
                }
                None
            }
            Payload::Messages { bytes, index } => index.iter().find_map(|at| look(message(bytes, *at))),
            Payload::Heartbeat(_) => None,
        }
    }

    /// The same, the last one first.
    pub fn find_last<T>(&self, mut look: impl FnMut(Message) -> Option<T>) -> Option<T> {
        match &self.payload {
            Payload::Lines { bytes, offset } => {
                let mut end = bytes.len();
                while end > 0 {
                    let start = memchr::memrchr(b'\n', &bytes[..end]).map_or(0, |n| n + 1);
                    if let Some(found) = line(&bytes[start..end], offset + start as i64).and_then(&mut look) {
                        return Some(found);
                    }
                    end = start.saturating_sub(1);
                }
                None
            }
            Payload::Messages { bytes, index } => index.iter().rev().find_map(|at| look(message(bytes, *at))),
            Payload::Heartbeat(_) => None,
        }
    }
}

/// A line as a message; an empty one is none.
fn line(bytes: &[u8], offset: i64) -> Option<Message<'_>> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    (!bytes.iter().all(u8::is_ascii_whitespace)).then_some(Message { value: Some(bytes), offset, ..Message::default() })
}

/// A message of a chunk's buffer.
pub fn message(bytes: &[u8], at: MessageAt) -> Message<'_> {
    let value_start = at.start as usize + at.key_len.unwrap_or(0) as usize;
    Message {
        key: at.key_len.map(|_| &bytes[at.start as usize..value_start]),
        value: at.value_len.map(|len| &bytes[value_start..value_start + len as usize]),
        offset: at.offset,
        timestamp: at.timestamp,
    }
}
