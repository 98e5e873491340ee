//! A file of entries: `tieout-1`, then blocks of `[kind: 1 byte][number: 4][length: 4][checksum: 8][bytes]`, little-endian.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::CheckpointError;

const MAGIC: &[u8; 8] = b"tieout-1";
/// A longer block was not written by us.
const BLOCK_BYTES_MAX: usize = 1 << 30;
const HEAD: usize = 17;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Entries of the table with this number.
    Table = 0,
    /// Since when the differences of the comparison with this number stand.
    Differences = 1,
    /// What of that changed since the file before.
    Changed = 2,
}

/// A file that is being written.
pub struct Writer {
    file: BufWriter<File>,
    hash: Xxh3,
    bytes: u64,
}

impl Writer {
    /// Begins a file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn create(path: &Path) -> std::io::Result<Writer> {
        let mut writer = Writer { file: BufWriter::with_capacity(1 << 20, File::create(path)?), hash: Xxh3::new(), bytes: 0 };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Appends a block.
    ///
    /// # Errors
    /// It can't be written.
    pub fn block(&mut self, kind: Kind, number: usize, bytes: &[u8]) -> std::io::Result<()> {
        if bytes.len() > BLOCK_BYTES_MAX {
            return Err(std::io::Error::other(format!("a block of {} bytes can't be read again", bytes.len())));
        }
        let mut head = [0; HEAD];
        head[0] = kind as u8;
        head[1..5].copy_from_slice(&(number as u32).to_le_bytes());
        head[5..9].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        head[9..].copy_from_slice(&xxh3_64(bytes).to_le_bytes());
        self.put(&head)?;
        self.put(bytes)
    }

    /// Ends the file and makes it durable: its length and its checksum.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(self) -> std::io::Result<(u64, u128)> {
        let file = self.file.into_inner().map_err(|e| e.into_error())?;
        file.sync_all()?;
        Ok((self.bytes, self.hash.digest128()))
    }
}

/// Reads the blocks of some kinds, each verified; the others are passed over.
///
/// # Errors
/// Where it is not what was written, or can't be read.
pub fn read(path: &Path, wanted: &[Kind], mut each: impl FnMut(Kind, usize, Vec<u8>)) -> Result<(), CheckpointError> {
    let damaged = |why: &dyn std::fmt::Display| CheckpointError::damaged(path, why);
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(|e| damaged(&e))?);
    let mut magic = [0; 8];
    file.read_exact(&mut magic).map_err(|e| damaged(&e))?;
    if magic != *MAGIC {
        return Err(damaged(&"it does not begin as a file of entries does"));
    }
    let mut at = MAGIC.len();
    loop {
        let mut head = [0; HEAD];
        match file.read(&mut head[..1]).map_err(|e| damaged(&e))? {
            0 => return Ok(()),
            _ => file.read_exact(&mut head[1..]).map_err(|e| damaged(&e))?,
        }
        let number = |range: std::ops::Range<usize>| u32::from_le_bytes(head[range].try_into().expect("four bytes")) as usize;
        let (block, len) = (number(1..5), number(5..9));
        let kind = match head[0] {
            0 => Kind::Table,
            1 => Kind::Differences,
            2 => Kind::Changed,
            _ => return Err(damaged(&format!("there is no such block at byte {at}"))),
        };
        if len > BLOCK_BYTES_MAX {
            return Err(damaged(&format!("the block at byte {at} is too long")));
        }
        if !wanted.contains(&kind) {
            file.seek_relative(len as i64).map_err(|e| damaged(&e))?;
            at += HEAD + len;
            continue;
        }
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes).map_err(|e| damaged(&e))?;
        if xxh3_64(&bytes).to_le_bytes() != head[9..] {
            return Err(damaged(&format!("the block at byte {at} does not have its checksum")));
        }
        at += HEAD + len;
        each(kind, block, bytes);
    }
}

/// Length and checksum of a whole file.
///
/// # Errors
/// It can't be read.
pub fn sum(path: &Path) -> std::io::Result<(u64, u128)> {
    let (mut file, mut hash, mut bytes) = (File::open(path)?, Xxh3::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let got = file.read(&mut buffer)?;
        if got == 0 {
            return Ok((bytes, hash.digest128()));
        }
        hash.update(&buffer[..got]);
        bytes += got as u64;
    }
}
