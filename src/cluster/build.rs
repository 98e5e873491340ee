//! Which build of tieout this process runs: what processes tell each other has no other version.

use std::{
    fs::File,
    io::{Read, Result, Seek, SeekFrom},
};

use xxhash_rust::xxh3::Xxh3;

use crate::row::hex;

/// The version, and the build by what its linker has put into it, a hash of its contents; where there is none, by a hash of the
/// program's file. The same file has the same one on every machine.
pub fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let build = running().and_then(|mut program| match noted(&mut program) {
        Ok(Some(id)) => Ok(id),
        _ => hashed(&mut program),
    });
    match build {
        Ok(id) => format!("{version} (build {})", hex(&id[..id.len().min(20)])),
        Err(_) => version.into(),
    }
}

/// The program as it runs, even if another one has taken its place.
fn running() -> Result<File> {
    if cfg!(target_os = "linux") { File::open("/proc/self/exe") } else { File::open(std::env::current_exe()?) }
}

/// The GNU build id of a program of this machine's kind: a note in one of its segments.
fn noted(program: &mut (impl Read + Seek)) -> Result<Option<Vec<u8>>> {
    let mut head = [0; 64];
    program.read_exact(&mut head)?;
    // ELF, of 64 bits.
    if !head.starts_with(b"\x7fELF\x02") {
        return Ok(None);
    }
    let (segments, size, count) = (long(&head, 32), short(&head, 54), short(&head, 56));
    for at in 0..u64::from(count) {
        let mut segment = [0; 56];
        program.seek(SeekFrom::Start(segments + at * u64::from(size)))?;
        program.read_exact(&mut segment)?;
        const NOTES: u32 = 4;
        if int(&segment, 0) == NOTES {
            program.seek(SeekFrom::Start(long(&segment, 8)))?;
            let mut notes = Vec::new();
            program.take(long(&segment, 32).min(64 << 10)).read_to_end(&mut notes)?;
            if let Some(id) = build_id(&notes) {
                return Ok(Some(id.to_vec()));
            }
        }
    }
    Ok(None)
}

/// The build id among notes: `[name's length][content's length][kind][name][content]`, both filled up to four bytes.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const BUILD_ID: u32 = 3;
    loop {
        let (head, rest) = notes.split_at_checked(12)?;
        let (name_len, len) = (int(head, 0) as usize, int(head, 4) as usize);
        let (name, rest) = rest.split_at_checked(name_len.checked_next_multiple_of(4)?)?;
        let content = rest.get(..len)?;
        if int(head, 8) == BUILD_ID && name == b"GNU\0" && !content.is_empty() {
            return Some(content);
        }
        notes = rest.get(len.checked_next_multiple_of(4)?..)?;
    }
}

fn hashed(program: &mut (impl Read + Seek)) -> Result<Vec<u8>> {
    program.rewind()?;
    let (mut hash, mut piece) = (Xxh3::new(), vec![0; 256 << 10]);
    loop {
        match program.read(&mut piece)? {
            0 => return Ok(hash.digest128().to_be_bytes().to_vec()),
            n => hash.update(&piece[..n]),
        }
    }
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn int(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_ne_bytes(*four))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_ne_bytes(*eight))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn note(kind: u32, name: &[u8], content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        [name.len() as u32, content.len() as u32, kind].iter().for_each(|n| out.extend(n.to_ne_bytes()));
        for part in [name, content] {
            out.extend(part);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    /// A program with one segment, of notes.
    fn program(notes: &[u8]) -> Cursor<Vec<u8>> {
        let mut out = vec![0; 64 + 56];
        out[..5].copy_from_slice(b"\x7fELF\x02");
        out[32..40].copy_from_slice(&64_u64.to_ne_bytes());
        out[54..56].copy_from_slice(&56_u16.to_ne_bytes());
        out[56..58].copy_from_slice(&1_u16.to_ne_bytes());
        out[64..68].copy_from_slice(&4_u32.to_ne_bytes());
        out[72..80].copy_from_slice(&120_u64.to_ne_bytes());
        out[96..104].copy_from_slice(&(notes.len() as u64).to_ne_bytes());
        out.extend(notes);
        Cursor::new(out)
    }

    #[test]
    fn the_note_is_found_among_others() {
        let notes = [note(1, b"GNU\0", &[7; 5]), note(3, b"Else\0", &[8; 4]), note(3, b"GNU\0", b"the build")].concat();
        assert_eq!(noted(&mut program(&notes)).expect("it reads"), Some(b"the build".to_vec()));
        assert_eq!(noted(&mut program(&notes[..notes.len() - 8])).expect("it reads"), None, "it is cut off");
        assert_eq!(noted(&mut Cursor::new([0; 100])).expect("it reads"), None, "no program");
    }

    #[test]
    fn without_a_note_the_contents_decide() {
        let hash = |bytes: &[u8]| hashed(&mut Cursor::new(bytes.to_vec())).expect("it reads");
        assert_eq!(hash(b"one"), hash(b"one"));
        assert_ne!(hash(b"one"), hash(b"two"));
    }

    #[test]
    fn it_is_said_which_build_this_is() {
        let version = version();
        assert!(version.starts_with(env!("CARGO_PKG_VERSION")) && version.contains("build "), "{version}");
        assert!(version.len() < 100, "it fits into a card");
    }
}
