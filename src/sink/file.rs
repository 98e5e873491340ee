//! A file of NDJSON lines, `{"key":{…},"value":{…}|null,"tick":…,"id":…}`, appended to and flushed with each tick.
//!
//! A run that goes on from a checkpoint cuts off what was written after the checkpoint's tick, and writes it again: a file says
//! at its end what it would if there had been no crash.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{Sink, SinkBatch, SinkError};
use crate::{engine::Tick, failpoint};

/// What stays of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    All,
    /// Lines of ticks up to this one.
    UpTo(Tick),
    /// So many bytes.
    Bytes(u64),
}

/// A file that is appended to.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    file: BufWriter<File>,
    /// How long it is once everything is flushed.
    length: u64,
}

impl FileSink {
    /// Opens the file, or creates it with its folder. What is not to be kept is cut off, and half a line at its end (of a process
    /// that was killed).
    ///
    /// # Errors
    /// The file can't be written, another process writes to it, or somebody else wrote behind what is to be cut off.
    pub fn open(path: &Path, keep: Keep) -> Result<FileSink, SinkError> {
        let open = || {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            // Appended to: whoever empties it while it is written leaves no hole.
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
            // Not every file system has locks.
            if let Err(TryLockError::WouldBlock) = file.try_lock() {
                return Ok(Err(busy(path)));
            }
            let mut end = whole_lines(&mut file, u64::MAX)?;
            if !is_half_of_ours(&mut file, end)? {
                return Ok(Err(foreign(path, "ends with half a line")));
            }
            match keep {
                Keep::All => {}
                Keep::Bytes(bytes) => {
                    let begin = whole_lines(&mut file, bytes)?;
                    file.seek(SeekFrom::Start(begin))?;
                    for line in BufReader::new(&file).take(end.saturating_sub(begin)).split(b'\n') {
                        if tick_in(&line?).is_none() {
                            return Ok(Err(foreign(path, "has lines behind those that are to be written again")));
                        }
                    }
                    end = end.min(begin);
                }
                Keep::UpTo(tick) => {
                    let (mut at, mut others) = (end, false);
                    while at > 0 {
                        let start = whole_lines(&mut file, at - 1)?;
                        match tick_of(&mut file, start, at)? {
                            None => others = true,
                            Some(of) if of <= tick => break,
                            Some(_) if others => return Ok(Err(foreign(path, "has lines behind those that are to be written again"))),
                            Some(_) => end = start,
                        }
                        at = start;
                    }
                }
            }
            file.set_len(end)?;
            Ok(Ok((BufWriter::with_capacity(1 << 16, file), end)))
        };
        let (file, length) = open().map_err(|e: io::Error| failure(path, &e))??;
        Ok(FileSink { path: path.into(), file, length })
    }
}

/// What each line begins with.
const KEY: &[u8] = b"{\"key\":";

/// Is what stands behind the last line feed the begin of a line of ours? Zeros are what a file system leaves of one when the
/// machine goes down.
fn is_half_of_ours(file: &mut File, from: u64) -> io::Result<bool> {
    let mut begin = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(KEY.len() as u64).read_to_end(&mut begin)?;
    Ok(KEY.starts_with(&begin) || begin.iter().all(|byte| *byte == 0))
}

/// The tick of a line; nothing: it was written by somebody else.
fn tick_of(file: &mut File, start: u64, end: u64) -> io::Result<Option<Tick>> {
    let from = end.saturating_sub(TAIL).max(start);
    let mut line = vec![0; (end - from) as usize];
    file.seek(SeekFrom::Start(from))?;
    file.read_exact(&mut line)?;
    Ok(tick_in(&line))
}

/// The tick stands before the id, which is of one length; both within so many bytes of the end.
const TAIL: u64 = 96;

fn tick_in(line: &[u8]) -> Option<Tick> {
    const TICK: &[u8] = b",\"tick\":";
    let line = &line[line.len().saturating_sub(TAIL as usize)..];
    let digits = |at: usize| line[at + TICK.len()..].iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect::<String>();
    memchr::memmem::rfind(line, TICK).and_then(|at| digits(at).parse().ok())
}

/// Has all that is in a file been written after a tick? Then it was emptied, and written on.
pub fn is_after(path: &Path, tick: Tick) -> bool {
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| BufReader::new(file).read_until(b'\n', &mut first));
    read.is_ok() && first.ends_with(b"\n") && tick_in(&first).is_some_and(|of| of > tick)
}

/// Where the last whole line ends before `limit`.
fn whole_lines(file: &mut File, limit: u64) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?.min(limit);
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        match memchr::memrchr(b'\n', block) {
            Some(at) => return Ok(start + at as u64 + 1),
            None => end = start,
        }
    }
    Ok(0)
}

/// A file that was written is not there any more.
pub fn gone(path: &Path) -> SinkError {
    SinkError {
        code: "OUTPUT_GONE",
        message: format!("{} was written, and is not there any more", path.display()),
        remedy: "bring it back; or make an empty file of that name, which gets what changes from now on; or start anew with `tieout run --fresh`, which writes all rows again".into(),
        retry: false,
    }
}

/// A file is shorter than what was written to it.
pub fn shorter(path: &Path, is: u64, was: u64) -> SinkError {
    SinkError { message: format!("{} has {is} bytes, and {was} of it were written when the checkpoint was taken", path.display()), ..gone(path) }
}

fn busy(path: &Path) -> SinkError {
    SinkError {
        code: "FILE_NOT_WRITTEN",
        message: format!("{} is written already, by another process or another output", path.display()),
        remedy: "end that one first, or name another `file`; a run with `--once` beside one that goes on needs other outputs".into(),
        retry: true,
    }
}

fn foreign(path: &Path, what: &str) -> SinkError {
    SinkError {
        code: "FILE_NOT_WRITTEN",
        message: format!("{} {what} that tieout did not write", path.display()),
        remedy: "let nobody else write to it: move those lines away, or name another `file` for the output".into(),
        retry: false,
    }
}

fn failure(path: &Path, error: &io::Error) -> SinkError {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    SinkError {
        code: "FILE_NOT_WRITTEN",
        message: format!("{} could not be written: {error}", path.display()),
        remedy: if full { "make room" } else { "check the folder and its rights" }.into(),
        retry: full,
    }
}

impl Sink for FileSink {
    fn apply(&mut self, batch: &SinkBatch) -> Result<(), SinkError> {
        failpoint::reach("sink-file");
        let mut write = || {
            for record in &batch.records {
                let value = record.value.as_deref().unwrap_or(b"null");
                let end = format!(",\"tick\":{},\"id\":\"{}\"}}\n", batch.tick, record.id_text());
                for part in [KEY, &record.key, b",\"value\":", value, end.as_bytes()] {
                    self.file.write_all(part)?;
                    self.length += part.len() as u64;
                }
            }
            Ok(())
        };
        write().map_err(|e| failure(&self.path, &e))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.file.flush().map_err(|e| failure(&self.path, &e))?;
        let is = self.file.get_ref().metadata().map_or(self.length, |file| file.len());
        if is < self.length {
            tracing::warn!("{} has {is} bytes, and {} of it were written: somebody cut it; it is appended to", self.path.display(), self.length);
        }
        self.length = is;
        Ok(())
    }

    fn file(&self) -> Option<(&Path, u64)> {
        Some((&self.path, self.length))
    }
}
