//! What the processes of a cluster say to each other: orders go down from the one that leads, what comes of them goes up.
//!
//! The mesh carries it (`cluster`), whole and in order for each pair of processes. Written by postcard; what is stored as JSON
//! elsewhere (positions, schemas) is JSON here, too.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clock::{Begin, State},
    engine::{ExportBlock, Give, Part, Renumbered, Report, RowAnswer, SavePart, SideOf, Tick},
    http::forward::{Piece, Word},
    log::View,
    pipeline::Blame,
    plan::TableRef,
};

/// From the one that leads.
#[derive(Serialize, Deserialize)]
pub enum Down {
    /// What to go on from; comes first.
    Begin(#[serde(with = "json")] Box<Begin>),
    Seal {
        tick: Tick,
        hold: bool,
        shown: bool,
    },
    Row {
        id: u64,
        table: TableRef,
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
    },
    /// The oldest source time that any other process has still to hand out.
    Oldest(i64),
    Keep,
    Save {
        id: u64,
        all: bool,
    },
    Cut,
    Blind {
        tables: Vec<usize>,
    },
    Restore {
        #[serde(with = "serde_bytes")]
        entries: Vec<u8>,
        give: Vec<Give>,
        numbers: Option<Renumbered>,
    },
    Empty {
        sides: Vec<SideOf>,
    },
    Restored,
    Quiet,
    Export,
    Stop,
    /// A part of an answer over HTTP.
    Answer {
        id: u64,
        piece: Piece,
    },
    /// The run is over; why, if something failed.
    Over(Option<(Blame, String)>),
}

/// From the others.
#[derive(Serialize, Deserialize)]
pub enum Up {
    Report(Report),
    Part(#[serde(with = "json")] Part),
    State(State),
    Row {
        id: u64,
        answer: RowAnswer,
    },
    Save {
        id: u64,
        part: SavePart,
    },
    Export {
        worker: usize,
        block: ExportBlock,
    },
    /// How far its logs are read, by source, and what else is shown of it.
    Shown(#[serde(with = "json")] Box<Shown>),
    /// A source can't be read on.
    Failed {
        source: usize,
        code: String,
        message: String,
        remedy: String,
        retry: bool,
    },
    /// Somebody asked it to stop.
    AskedToStop,
    /// A question over HTTP, and what becomes of its answer.
    Http {
        id: u64,
        word: Word,
    },
    /// All that there was to say has been said.
    Done,
}

/// What a process shows of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Shown {
    /// By source; with whether its reader waits for the engine, and whether it has left.
    pub logs: Vec<(View, bool, bool)>,
    pub memory_bytes: u64,
    /// Chunks that are handed out and not decoded yet.
    pub pending: u64,
    /// Where it serves HTTP.
    pub http: Option<String>,
}

/// As it goes over the wire.
pub fn write<T: Serialize>(note: &T) -> Vec<u8> {
    postcard::to_allocvec(note).expect("notes are plain data")
}

/// Reads a note.
///
/// # Errors
/// The other process speaks something else, though it says to be of the same version.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| format!("it says what nobody understands: {error}"))
}

/// What leaves out fields, or keeps some by name, is written as JSON within the rest.
mod json {
    use serde::{Deserializer, Serialize, Serializer, de::DeserializeOwned};

    pub fn serialize<T: Serialize, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        let bytes = serde_json::to_vec(value).map_err(serde::ser::Error::custom)?;
        serde_bytes::serialize(&bytes, to)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(from)?;
        serde_json::from_slice(&bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{DifferenceChange, Reject, RowChange, RowState, SealedSource, Side, Sides};

    #[test]
    fn a_report_comes_as_it_went() {
        let reject =
            Reject { source: 1, code: "TYPE_MISMATCH", cause: "no number".into(), key: Some("7".into()), partition: 2, offset: 9, target: None, keyed: true };
        let sides = Sides { expected: Side::Row(Box::from(&b"row"[..])), actual: Side::Duplicate(vec![Box::from(&b"a"[..]), Box::from(&b""[..])]) };
        let report = Report {
            worker: 3,
            tick: 1 << 50,
            differences: vec![(0, DifferenceChange { key: Box::from(&b"k\0"[..]), now: Some(sides), expected_time: i64::MIN, actual_time: 5 })],
            rows: vec![(1, RowChange { key: Box::from(&b"k"[..]), before: RowState::Absent, after: RowState::Rejected(Box::new(reject.clone())) })],
            rejects: vec![(reject, -1)],
            seconds: 0.25,
            ..Report::default()
        };
        let Up::Report(back) = read(&write(&Up::Report(Report { ..clone(&report) }))).expect("it reads") else { panic!("another note") };
        assert_eq!((back.worker, back.tick, back.seconds), (3, 1 << 50, 0.25));
        assert_eq!((back.differences, back.rows, back.rejects), (report.differences, report.rows, report.rejects));
        assert!(read::<Up>(&[200, 1]).is_err_and(|why| why.contains("understands")));
    }

    fn clone(report: &Report) -> Report {
        let Report { worker, tick, differences, rows, rejects, seconds, .. } = report;
        Report {
            worker: *worker,
            tick: *tick,
            differences: differences.clone(),
            rows: rows.clone(),
            rejects: rejects.clone(),
            seconds: *seconds,
            ..Report::default()
        }
    }

    #[test]
    fn a_part_keeps_what_only_json_can() {
        let source = SealedSource { positions: vec![(0, 7)], asked_ms: None, trouble: Some("away".into()), ..SealedSource::default() };
        let part = Part { process: 2, tick: 9, sources: vec![source], ..Part::default() };
        let Up::Part(back) = read(&write(&Up::Part(part.clone()))).expect("it reads") else { panic!("another note") };
        assert_eq!(back, part);
    }
}
