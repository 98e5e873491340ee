//! Changes of a table as they travel between workers: a run of
//! `[op: 1 byte][key length: varint][value length: varint][source time: 8 bytes][key][value]`.
//!
//! A length-prefixed run of bytes costs a tenth of a serialised vector of records; see `docs/decisions`.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    engine::{Reject, RejectCode, Renumbered},
    row::{pack_bytes, pack_int, push_varint64, read_int, read_varint64},
};

/// What a change does to one side of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// The value is this row; unknown fields are taken from the row that stands.
    Set = 0,
    /// There is no value.
    Clear = 1,
    /// The newest record of the key is a reject; the value is the packed reject.
    Reject = 2,
    /// One more of this row.
    Add = 3,
    /// One less of this row.
    Subtract = 4,
    /// As `Set`, but only where a row stands: whether the row passes the filter could not be told and has not changed.
    Merge = 5,
    /// No key has a value.
    Truncate = 6,
    /// One more reject of a row that would have had this key; the value is the packed reject.
    AddReject = 7,
    /// One less of that reject.
    SubtractReject = 8,
    /// In a table that counts rows: one more of the row that the key is.
    Gain = 9,
    /// In a table that counts rows: one less; the value is the packed partition and offset of the message.
    Lose = 10,
}

/// One change; the bytes are those of its run.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub op: Op,
    /// Milliseconds since the epoch; `i64::MIN` where nothing tells it.
    pub time: i64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl Change<'_> {
    pub const EMPTY: Change<'static> = Change { op: Op::Clear, time: 0, key: &[], value: &[] };
}

/// Changes of one input for one worker.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Parcel {
    /// The worker that holds these keys.
    pub to: u64,
    /// The input of the stage: which of its sides, and which source.
    pub input: u32,
    /// The process that decoded it.
    pub process: u32,
    /// The number of the chunk among those of its source that this process reads, where the order of chunks matters.
    pub seq: Option<u64>,
    #[serde(with = "serde_bytes")]
    pub run: Vec<u8>,
}

/// Appends a change whose value is written by `value`.
#[inline]
pub fn push_with(run: &mut Vec<u8>, op: Op, time: i64, key: &[u8], value: &[u8]) {
    run.push(op as u8);
    push_varint64(run, key.len() as u64);
    push_varint64(run, value.len() as u64);
    run.extend_from_slice(&time.to_le_bytes());
    run.extend_from_slice(key);
    run.extend_from_slice(value);
}

/// The changes of a run, in order.
pub fn read(run: &[u8]) -> impl Iterator<Item = Change<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == run.len() {
            return None;
        }
        let op = match run[at] {
            0 => Op::Set,
            1 => Op::Clear,
            2 => Op::Reject,
            3 => Op::Add,
            4 => Op::Subtract,
            5 => Op::Merge,
            7 => Op::AddReject,
            8 => Op::SubtractReject,
            9 => Op::Gain,
            10 => Op::Lose,
            _ => Op::Truncate,
        };
        at += 1;
        let key_len = read_varint64(run, &mut at) as usize;
        let value_len = read_varint64(run, &mut at) as usize;
        let time = i64::from_le_bytes(run[at..at + 8].try_into().expect("eight bytes"));
        at += 8;
        let (key, value) = (&run[at..at + key_len], &run[at + key_len..at + key_len + value_len]);
        at += key_len + value_len;
        Some(Change { op, time, key, value })
    })
}

/// The codes a reject can have, with what they mean; a packed reject has the place in this list.
pub const CODES: [(&str, &str); 15] = [
    ("DECODE_FAILED", "the message is not what its format says"),
    ("KEY_MISSING", "a column of the key is lacking or null"),
    ("TYPE_MISMATCH", "a value is not of its column's declared type"),
    ("VALUE_OUT_OF_RANGE", "a value does not fit its column's declared type"),
    ("MAPPING_NOT_FOUND", "a case map has neither a rule for the value nor an else"),
    ("NULL_VALUE", "a value is null, and the field's policy refuses that"),
    ("REQUIRED_VALUE_MISSING", "a required field has no value"),
    ("EVALUATION_FAILED", "an expression has no value for this row: a cast, a division by zero, an overflow"),
    ("VALUE_UNKNOWN", "an expression needs a value that the connector did not send and that was never seen"),
    ("EMPTY_VALUE", "a value is the empty text, and the field's policy refuses that"),
    ("SCHEMA_UNKNOWN", "the registry does not know the schema that the message was written with"),
    ("SCHEMA_UNREADABLE", "the schema that the message was written with is none that tieout reads"),
    ("BEFORE_INCOMPLETE", "an update or delete in a source without a key does not say what the whole row was"),
    ("ROW_NOT_FOUND", "an update or delete in a source without a key is of a row that is not there (more often than it is)"),
    ("COLUMN_GONE", "a row lacks a declared column that the rows around it have, and `schema_change` is `evolve`"),
];

/// Reads the code of a reject.
///
/// # Errors
/// There is no such code.
pub fn known_code<'de, D: Deserializer<'de>>(from: D) -> Result<RejectCode, D::Error> {
    let text = String::deserialize(from)?;
    let known = CODES.iter().find(|(code, _)| *code == text).map(|(code, _)| *code);
    known.ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no code of a reject")))
}

/// Packs a reject; its code must be one of [`CODES`].
pub fn pack_reject(reject: &Reject) -> Vec<u8> {
    let code = CODES.iter().position(|(code, _)| *code == reject.code).unwrap_or(0);
    let mut out = vec![code as u8];
    push_varint64(&mut out, reject.source as u64);
    pack_int(&mut out, i64::from(reject.partition));
    pack_int(&mut out, reject.offset);
    push_varint64(&mut out, reject.target.map_or(0, |t| t as u64 + 1));
    push_varint64(&mut out, u64::from(reject.key.is_some()));
    pack_bytes(&mut out, reject.key.as_deref().unwrap_or("").as_bytes());
    pack_bytes(&mut out, reject.cause.as_bytes());
    out
}

/// Set in the first byte of a packed reject that another table reports: here it only says that the key is rejected.
const SILENT: u8 = 0x80;

/// Makes a packed reject one that is kept and not reported.
pub fn silence(reject: &mut [u8]) {
    reject[0] |= SILENT;
}

/// The packed reject, if the table that keeps it reports it.
pub fn reported(bytes: &[u8]) -> Option<Reject> {
    if *bytes.first()? & SILENT == 0 { unpack_reject(bytes) } else { None }
}

/// A packed reject with what its source and target are numbered now; `None`: one of them is gone.
pub fn renumber_reject(bytes: &[u8], numbers: &Renumbered) -> Option<Vec<u8>> {
    let mut at = 1;
    let source = *numbers.sources.get(read_varint64(bytes, &mut at) as usize)?;
    let place = at;
    for _partition_and_offset in 0..2 {
        read_int(bytes, &mut at);
    }
    let place = &bytes[place..at];
    let target = match (read_varint64(bytes, &mut at) as usize).checked_sub(1) {
        Some(target) => (*numbers.targets.get(target)?)? as u64 + 1,
        None => 0,
    };
    let mut out = vec![*bytes.first()?];
    push_varint64(&mut out, source? as u64);
    out.extend_from_slice(place);
    push_varint64(&mut out, target);
    out.extend_from_slice(&bytes[at..]);
    Some(out)
}

/// What [`pack_reject`] packed; `None` when the bytes are something else.
pub fn unpack_reject(bytes: &[u8]) -> Option<Reject> {
    let mut at = 1;
    let code = CODES.get(usize::from(*bytes.first()? & !SILENT))?.0;
    let source = read_varint64(bytes, &mut at) as usize;
    let partition = read_int(bytes, &mut at) as i32;
    let offset = read_int(bytes, &mut at);
    let target = (read_varint64(bytes, &mut at) as usize).checked_sub(1);
    let has_key = read_varint64(bytes, &mut at) == 1;
    let mut text = || {
        let len = read_varint64(bytes, &mut at) as usize;
        at += len;
        String::from_utf8_lossy(&bytes[at - len..at]).into_owned()
    };
    let (key, cause) = (text(), text());
    Some(Reject { source, code, cause, key: has_key.then_some(key), partition, offset, target, keyed: true })
}
