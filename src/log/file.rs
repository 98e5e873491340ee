//! Files of a folder as one log: read one after the other, the last one followed as it grows. One before it that grows after
//! all is read on, too.
//!
//! A partition is the place of the file in the source's list, a position the byte at which a line starts. A file that
//! shrinks below what was read is a named stop: its lines can't be told from those that were there.

use std::{
    fs::{File, Metadata},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Feed, Guard, LogError, LogHandle, PartitionView, QUEUE_CHUNKS, SourceTime, Stopped, Until, spawn, wall_ms};
use crate::{
    engine::{Chunk, Payload, buffers::CHUNKS},
    failpoint,
    format::Message,
    plan::SourceId,
};

/// Bytes of a chunk while there is a backlog.
const CHUNK_BYTES: usize = 128 * 1024;
/// A line longer than this is not a line.
const LINE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How often a file is looked at: soon after something came, and when it has been quiet for a while.
const POLL_BUSY: Duration = Duration::from_millis(1);
const POLL_QUIET: Duration = Duration::from_millis(5);
/// How often it is looked whether a quiet file is still the one of its name.
const LOOK: Duration = Duration::from_secs(1);
const QUIET_AFTER: Duration = Duration::from_secs(2);
/// After so long without a byte more, what stands behind the last line feed is looked at.
const TAIL_AFTER: Duration = Duration::from_secs(1);

/// Opens files as a log, at the positions `from` (by place in the list, otherwise 0). A file that is not there yet is waited for, unless the log ends (`Until::End`).
pub fn open(
    source: SourceId,
    name: &str,
    dir: &Path,
    files: &[PathBuf],
    from: &[(i32, i64)],
    until: Until,
    source_time: SourceTime,
    guard: Option<Guard>,
) -> LogHandle {
    let start = |place: usize| from.iter().find(|(p, _)| *p as usize == place).map_or(0, |(_, position)| *position as u64);
    let starts: Vec<u64> = (0..files.len()).map(start).collect();
    let files: Vec<PathBuf> = files.iter().map(|f| dir.join(f)).collect();
    spawn(source, name, QUEUE_CHUNKS, move |feed| {
        feed.watch(guard, until);
        let (tails, ids) = (vec![None; files.len()], vec![None; files.len()]);
        let mut reader = Reader { feed, source_time, until, tails, ids, next: starts, ends: Vec::new(), failure: None, warned: false };
        reader.read_all(&files);
        reader.failure.map_or(Ok(()), Err)
    })
}

struct Reader<'a> {
    feed: &'a Feed,
    source_time: SourceTime,
    until: Until,
    /// The next position in each file.
    next: Vec<u64>,
    /// Of each file before the last: its length when its end was found to be half a line, and when that was, until it has been looked
    /// at for the last time.
    tails: Vec<Option<(u64, Option<Instant>)>>,
    /// Which file each name stood for when it was opened.
    ids: Vec<Option<(u64, u64)>>,
    /// The length of each file when the reader started.
    ends: Vec<u64>,
    failure: Option<LogError>,
    /// It was said that an earlier file grew.
    warned: bool,
}

impl Reader<'_> {
    fn read_all(&mut self, files: &[PathBuf]) {
        if self.until == Until::End
            && let Some((path, error)) = files.iter().find_map(|f| f.metadata().err().map(|e| (f, e)))
        {
            self.failure = Some(unreadable(path, &error));
            return;
        }
        self.ends = files.iter().map(|f| f.metadata().map_or(0, |m| m.len())).collect();
        let places: Vec<(u64, u64)> = self.next.iter().copied().zip(self.ends.iter().copied()).collect();
        self.feed.update(|view| {
            view.asked_ms = Some(wall_ms());
            view.behind_bytes = places.iter().map(|(start, end)| end.saturating_sub(*start)).sum();
            let partition = |(i, (start, end)): (usize, &(u64, u64))| PartitionView {
                partition: i as i32,
                start: *start as i64,
                next: *start as i64,
                end: Some(*end as i64),
                ..PartitionView::default()
            };
            view.partitions = places.iter().enumerate().map(partition).collect();
            view.backlog_done = view.behind_bytes == 0;
        });
        for (place, path) in files.iter().enumerate() {
            match self.read_file(place, path, &files[..place], place + 1 == files.len()) {
                Ok(true) => {}
                Ok(false) | Err(None) => return,
                Err(Some(error)) => {
                    self.failure = Some(error);
                    return;
                }
            }
        }
    }

    /// Reads one file; `Ok(false)` when the reader should stop, `Err(None)` as well.
    fn read_file(&mut self, place: usize, path: &Path, before: &[PathBuf], last: bool) -> Result<bool, Option<LogError>> {
        let mut file = loop {
            match File::open(path) {
                Ok(file) => break file,
                Err(error) if self.until == Until::End => return Err(Some(unreadable(path, &error))),
                Err(error) => {
                    self.feed.update(|view| view.trouble = Some(format!("{} can't be read yet: {error}", path.display())));
                    if self.wait(Duration::from_millis(100)) {
                        return Ok(false);
                    }
                }
            }
        };
        self.feed.update(|view| view.trouble = None);
        self.ids[place] = Some(file.metadata().map(|metadata| id(&metadata)).map_err(|e| Some(unreadable(path, &e)))?);
        let limit = (self.until == Until::End).then_some(self.ends[place].max(self.next[place]));
        let mut looked = Instant::now();
        let (mut position, mut buffer, mut busy) = (self.next[place], Vec::<u8>::new(), Instant::now());
        // The length of the file when its end was found to be half a line.
        let mut half = 0;
        file.seek(SeekFrom::Start(position)).map_err(|e| Some(unreadable(path, &e)))?;
        loop {
            failpoint::reach("log-file");
            let want = limit.map_or(CHUNK_BYTES as u64, |l| (l - position - buffer.len() as u64).min(CHUNK_BYTES as u64));
            let had = buffer.len();
            // With room for a probe behind the last byte, so that reading does not grow the buffer beyond what it needs.
            buffer.reserve(want as usize + 64);
            let got = if want == 0 { 0 } else { (&mut file).take(want).read_to_end(&mut buffer).map_err(|e| Some(unreadable(path, &e)))? };
            if got > 0 {
                busy = Instant::now();
                unmark(&mut position, &mut buffer);
                if let Some(end) = memchr::memrchr(b'\n', &buffer[had..]).map(|at| had + at + 1) {
                    let rest = buffer[end..].to_vec();
                    buffer.truncate(end);
                    // What is kept for the next read grows to a chunk anyway.
                    let mut next = CHUNKS.take(CHUNK_BYTES + rest.len());
                    next.extend_from_slice(&rest);
                    let chunk = std::mem::replace(&mut buffer, next);
                    self.send(place, &mut position, chunk, &file)?;
                } else if buffer.len() > LINE_BYTES_MAX {
                    return Err(Some(LogError {
                        code: "LINE_TOO_LONG",
                        message: format!("{} has no line end within {LINE_BYTES_MAX} bytes from byte {position}", path.display()),
                        remedy: "write one message a line".into(),
                        retry: false,
                    }));
                }
                if got == CHUNK_BYTES {
                    continue;
                }
            }
            let length = file.metadata().map_err(|e| Some(unreadable(path, &e)))?.len();
            let read = position + buffer.len() as u64;
            if length < read {
                return Err(Some(truncated(path, length, read)));
            }
            if limit.is_some_and(|l| read >= l) || (!last && length == read) {
                // The last line may lack its line feed; of a file that is followed it may also be half of what is being written.
                let rest = std::mem::take(&mut buffer);
                if !rest.is_empty() && (self.until == Until::End || is_whole(&rest)) {
                    self.send(place, &mut position, rest, &file)?;
                }
                return Ok(true);
            }
            if length > read {
                continue;
            }
            if self.until == Until::Forever && looked.elapsed() > LOOK {
                looked = Instant::now();
                self.same_file(place, path)?;
            }
            // A last line that nothing comes behind is taken as it is, if it is one: not everybody ends it.
            if !buffer.is_empty() && half != length && busy.elapsed() > TAIL_AFTER {
                half = length;
                if is_whole(&buffer) {
                    let rest = std::mem::take(&mut buffer);
                    self.send(place, &mut position, rest, &file)?;
                    continue;
                }
            }
            let (grown, half_before) = self.read_grown(before)?;
            if grown {
                continue;
            }
            self.feed.update(|view| {
                view.asked_ms = Some(wall_ms());
                // Who stands before half a line has not read all that is there.
                view.behind_bytes = half_before + buffer.len() as u64;
                view.caught_up = view.behind_bytes == 0;
                view.backlog_done = true;
            });
            if self.wait(if busy.elapsed() < QUIET_AFTER { POLL_BUSY } else { POLL_QUIET }) {
                return Ok(false);
            }
        }
    }

    /// Reads on the files before the one that is followed, where they grew; whether some did, and how many bytes of half lines
    /// they end with.
    fn read_grown(&mut self, before: &[PathBuf]) -> Result<(bool, u64), Option<LogError>> {
        let (mut grown, mut half) = (false, 0);
        for (place, path) in before.iter().enumerate() {
            let (Ok(named), mut position) = (path.metadata(), self.next[place]) else { continue };
            let length = named.len();
            if self.ids[place].is_some_and(|was| was != id(&named)) {
                return Err(Some(replaced(path)));
            }
            if length < position {
                return Err(Some(truncated(path, length, position)));
            }
            if length == position {
                continue;
            }
            let tail = self.tails[place].filter(|(was, _)| *was == length);
            if tail.is_some_and(|(_, since)| since.is_none_or(|since| since.elapsed() <= TAIL_AFTER)) {
                half += length - position;
                continue;
            }
            let mut file = File::open(path).map_err(|e| Some(unreadable(path, &e)))?;
            file.seek(SeekFrom::Start(position)).map_err(|e| Some(unreadable(path, &e)))?;
            let mut bytes = Vec::new();
            (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut bytes).map_err(|e| Some(unreadable(path, &e)))?;
            while memchr::memchr(b'\n', &bytes).is_none() && bytes.len() < LINE_BYTES_MAX {
                if (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut bytes).map_err(|e| Some(unreadable(path, &e)))? == 0 {
                    break;
                }
            }
            unmark(&mut position, &mut bytes);
            match memchr::memrchr(b'\n', &bytes) {
                Some(end) => bytes.truncate(end + 1),
                None if tail.is_some() && is_whole(&bytes) => {}
                None => {
                    // Once more after a while, if nothing comes.
                    self.tails[place] = Some((length, tail.is_none().then(Instant::now)));
                    half += length - position;
                    continue;
                }
            }
            if !std::mem::replace(&mut self.warned, true) {
                let why = "it is in no order with later files; a restart may read it before them";
                tracing::warn!("{} grew after a later file of its source was begun: {why}", path.display());
            }
            self.send(place, &mut position, bytes, &file)?;
            grown = true;
        }
        Ok((grown, half))
    }

    fn send(&mut self, place: usize, position: &mut u64, bytes: Vec<u8>, file: &File) -> Result<(), Option<LogError>> {
        let first = &bytes[..memchr::memchr(b'\n', &bytes).unwrap_or(bytes.len())];
        let source_time = (self.source_time)(Message { value: Some(first), offset: *position as i64, ..Message::default() });
        let (len, offset) = (bytes.len() as u64, *position as i64);
        *position += len;
        self.next[place] = *position;
        let next = *position as i64;
        let chunk = Chunk { source: self.feed.source, partition: place as i32, payload: Payload::Lines { bytes, offset }, source_time, next };
        self.feed.send(chunk).map_err(|Stopped| None)?;
        let length = file.metadata().map_or(0, |m| m.len());
        let started = self.ends.clone();
        self.feed.update(|view| {
            let partition = &mut view.partitions[place];
            partition.next = next;
            partition.end = Some((length as i64).max(next));
            view.read_bytes += len;
            view.behind_bytes = view.partitions.iter().map(|p| (p.end.unwrap_or(0) - p.next).max(0) as u64).sum();
            view.caught_up = view.behind_bytes == 0;
            view.backlog_done |= view.partitions.iter().zip(&started).all(|(p, end)| p.next as u64 >= *end);
        });
        Ok(())
    }

    /// Is the file that is open still the one of that name? One that was moved away or replaced gets no more lines.
    fn same_file(&self, place: usize, path: &Path) -> Result<(), Option<LogError>> {
        let Ok(named) = path.metadata() else {
            self.feed.update(|view| view.trouble = Some(format!("{} is gone; nothing can be appended to it", path.display())));
            return Ok(());
        };
        if self.ids[place].is_some_and(|was| was != id(&named)) {
            return Err(Some(replaced(path)));
        }
        self.feed.update(|view| view.trouble = None);
        Ok(())
    }

    /// Waits; true when the reader should stop.
    fn wait(&self, time: Duration) -> bool {
        std::thread::sleep(time);
        self.feed.stopped()
    }
}

/// What tells a file from another one of its name.
fn id(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Leaves out what the beginning of a file only says of how it is written: the byte order mark.
fn unmark(position: &mut u64, bytes: &mut Vec<u8>) {
    const MARK: &[u8] = &[0xef, 0xbb, 0xbf];
    if *position == 0 && bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
        *position = MARK.len() as u64;
    }
}

/// Is it a message to its last byte?
fn is_whole(line: &[u8]) -> bool {
    line.trim_ascii_end().ends_with(b"}") && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

fn truncated(path: &Path, length: u64, read: u64) -> LogError {
    LogError {
        code: "FILE_TRUNCATED",
        message: format!("{} has {length} bytes, and {read} of it are read already", path.display()),
        remedy:
            "append to files of changes; when one was rewritten, start with `run --fresh` and empty output topics: it forgets what was read, and reads it all"
                .into(),
        retry: false,
    }
}

fn replaced(path: &Path) -> LogError {
    LogError {
        code: "FILE_REPLACED",
        message: format!("{} is another file now than the one that was read", path.display()),
        remedy: "append to files of changes; after one was replaced, give the new one another name in the source's `files`, or start with `run --fresh` and empty output topics".into(),
        retry: false,
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> LogError {
    LogError {
        code: "FILE_UNREADABLE",
        message: format!("{} can't be read: {error}", path.display()),
        remedy: "check the connection's `dir`, the source's `files`, and who may read them".into(),
        retry: error.kind() == std::io::ErrorKind::Interrupted,
    }
}

#[cfg(test)]
mod tests;
