//! The simulated departments of `tieout demo`: sales keep deals in a CRM, operations keep orders in an ERP, and the ERP
//! follows the CRM with a lag and the usual mishaps.
//!
//! ```text
//!  World (deterministic: seed, rate, start) ─▶ events of one table ─▶ Debezium JSON ─▶ Feed ─▶ the same engine as ever
//! ```
//!
//! A table is a log of lines like a file: an initial snapshot, then changes as they come due. Every reader runs its own
//! copy of the same world and lets out only its own table's events, so nothing is shared but the start; a position is the
//! byte of the log at which a line starts. What happens in the world is `world`'s; this file owns the log.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{Feed, LogError, LogHandle, PartitionView, QUEUE_CHUNKS, Until, spawn, wall_ms};
use crate::{
    engine::{Chunk, Payload},
    plan::SourceId,
};

mod names;
mod world;

pub use world::{TABLES, Table, World};

/// How often the log looks whether something has come due.
const POLL: Duration = Duration::from_millis(10);
/// How often a table says that it is alive although nothing changed.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Bytes of a chunk of the snapshot.
const CHUNK_BYTES: usize = 256 * 1024;

/// When the world began, in milliseconds since the epoch: once in a process, for all tables alike.
static START_MS: OnceLock<i64> = OnceLock::new();

/// Opens a table of the simulation as a log.
///
/// # Errors
/// The simulation has no such table.
pub fn open(source: SourceId, table: &str, seed: u64, rate: u32, until: Until) -> Result<LogHandle, LogError> {
    let Some(table) = Table::parse(table) else {
        return Err(LogError {
            code: "TABLE_UNKNOWN",
            message: format!("the simulation has no table `{table}`"),
            remedy: format!("its tables are {}", TABLES.map(Table::name).join(", ")),
            retry: false,
        });
    };
    let start_ms = *START_MS.get_or_init(wall_ms);
    Ok(spawn(source, table.name(), QUEUE_CHUNKS, move |feed| {
        let mut log = Log { feed, table, world: World::new(seed, rate, start_ms), position: 0 };
        // A reader that is told to stop has done what it should.
        let _ = log.read(until);
        Ok(())
    }))
}

struct Log<'a> {
    feed: &'a Feed,
    table: Table,
    world: World,
    /// The byte at which the next line starts.
    position: i64,
}

impl Log<'_> {
    fn read(&mut self, until: Until) -> Result<(), super::Stopped> {
        let lines = self.world.snapshot(self.table);
        let end = lines.iter().map(|line| line.len() as i64).sum();
        self.feed.update(|view| {
            view.asked_ms = Some(wall_ms());
            view.behind_bytes = end as u64;
            view.partitions = vec![PartitionView { partition: 0, start: 0, next: 0, end: Some(end), ..PartitionView::default() }];
        });
        let mut bytes = Vec::new();
        for line in lines {
            bytes.extend_from_slice(&line);
            if bytes.len() >= CHUNK_BYTES {
                self.send(std::mem::take(&mut bytes))?;
            }
        }
        self.send(bytes)?;
        self.caught_up();
        if until == Until::End {
            return Ok(());
        }
        let mut alive = Instant::now();
        while !self.feed.stopped() {
            let now = wall_ms();
            let bytes = self.world.changes_until(now, self.table);
            if !bytes.is_empty() {
                self.send(bytes)?;
                alive = Instant::now();
            } else if alive.elapsed() >= HEARTBEAT {
                let chunk = Chunk { source: self.feed.source, partition: 0, payload: Payload::Heartbeat(now), source_time: Some(now), next: self.position };
                self.feed.send(chunk)?;
                alive = Instant::now();
            }
            self.caught_up();
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn send(&mut self, bytes: Vec<u8>) -> Result<(), super::Stopped> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (offset, len) = (self.position, bytes.len());
        self.position += len as i64;
        let next = self.position;
        let chunk = Chunk { source: self.feed.source, partition: 0, payload: Payload::Lines { bytes, offset }, source_time: Some(self.world.now_ms()), next };
        self.feed.send(chunk)?;
        self.feed.update(|view| {
            view.read_bytes += len as u64;
            let partition = &mut view.partitions[0];
            partition.next = next;
            partition.end = partition.end.max(Some(next));
            view.behind_bytes = (partition.end.unwrap_or(next) - next) as u64;
        });
        Ok(())
    }

    fn caught_up(&self) {
        self.feed.update(|view| {
            view.asked_ms = Some(wall_ms());
            view.caught_up = true;
            view.backlog_done = true;
            view.behind_bytes = 0;
        });
    }
}

#[cfg(test)]
mod tests;
