//! A file of NDJSON lines, `{"key":{…},"value":{…}|null,"tick":…,"id":…}`, appended to and flushed with each tick.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{Sink, SinkBatch, SinkError};
use crate::failpoint;

/// A file that is appended to.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    file: BufWriter<File>,
}

impl FileSink {
    /// Opens the file, or creates it with its folder. Half a line at its end (of a process that was killed) is cut off.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn open(path: &Path) -> Result<FileSink, SinkError> {
        let open = || {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            let end = whole_lines(&mut file)?;
            file.set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
            Ok(BufWriter::with_capacity(1 << 16, file))
        };
        open().map(|file| FileSink { path: path.into(), file }).map_err(|e: io::Error| failure(path, &e))
    }
}

/// Where the last whole line ends.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
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
                self.file.write_all(b"{\"key\":")?;
                self.file.write_all(&record.key)?;
                self.file.write_all(b",\"value\":")?;
                self.file.write_all(record.value.as_deref().unwrap_or(b"null"))?;
                writeln!(self.file, ",\"tick\":{},\"id\":\"{}\"}}", batch.tick, record.id_text())?;
            }
            Ok(())
        };
        write().map_err(|e| failure(&self.path, &e))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.file.flush().map_err(|e| failure(&self.path, &e))
    }
}
