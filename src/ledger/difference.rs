//! A difference: what it is, since when, and how sure it is. Plain values; `comparison` moves them through their states.

use std::{fmt, sync::Arc};

use crate::{
    engine::{Side, Sides, Tick},
    plan::Comparison,
    row::{self, Field, RowReader},
};

/// How the sides disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Expected, and not there.
    Missing,
    /// There, and not expected.
    Unexpected,
    /// On both sides, with fields that differ.
    Mismatched,
    /// Several rows claim the key on one side; no guess is made.
    Duplicate,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Missing, Kind::Unexpected, Kind::Mismatched, Kind::Duplicate];

    pub fn name(self) -> &'static str {
        ["missing", "unexpected", "mismatched", "duplicate"][self as usize]
    }

    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// How sure a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// An input is not closed, is stale, or says of this key what nobody can judge. Never alarmed on.
    Undetermined,
    /// Closed on both sides, but the actual side has not yet had its time.
    InFlight,
    /// The actual side had its time, and the difference stands.
    Confirmed,
}

impl State {
    pub const ALL: [State; 3] = [State::Undetermined, State::InFlight, State::Confirmed];

    pub fn name(self) -> &'static str {
        ["undetermined", "in_flight", "confirmed"][self as usize]
    }

    pub fn parse(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When a difference opened; it stays until the difference closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    pub tick: Tick,
    /// In milliseconds since the epoch.
    pub source_time: i64,
}

/// What about a key keeps its difference undetermined, whatever the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// The newest record of the key on the expected, or else the actual, side is a reject.
    Rejected { expected: bool },
    /// A compared field is unknown, so the list of differing fields may lack some.
    UnknownField,
    /// The transaction of this name changed the key, and other rows of it are lacking.
    IncompleteTransaction(Arc<str>),
}

/// One key on which a comparison's sides disagree, as of one tick. Never changed in place: a new state is a new value, so
/// that readers of an older tick keep theirs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub key: Arc<[u8]>,
    pub kind: Kind,
    pub state: State,
    pub sides: Sides,
    pub since: Since,
    /// The source time from which the grace counts, in milliseconds since the epoch.
    pub base: i64,
    pub unclear: Option<Unclear>,
}

/// A field on which two rows differ, by its place in the comparison's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DifferingField<'a> {
    pub field: usize,
    pub expected: Field<'a>,
    pub actual: Field<'a>,
}

impl Difference {
    /// The fields that differ, in the comparison's order; none unless it is `mismatched`.
    pub fn fields<'a>(&'a self, comparison: &Comparison) -> Vec<DifferingField<'a>> {
        match (&self.sides.expected, &self.sides.actual) {
            (Side::Row(expected), Side::Row(actual)) => differing(comparison, expected, actual),
            _ => Vec::new(),
        }
    }
}

/// The fields on which two rows of a comparison differ; an unknown field differs from nothing.
pub fn differing<'a>(comparison: &Comparison, expected: &'a [u8], actual: &'a [u8]) -> Vec<DifferingField<'a>> {
    let columns = comparison.fields.len();
    let (mut expected, mut actual) = (RowReader::new(expected, columns), RowReader::new(actual, columns));
    let pairs =
        comparison.fields.iter().enumerate().map(|(field, pair)| DifferingField { field, expected: expected.next(pair.ty), actual: actual.next(pair.ty) });
    pairs.filter(|d| d.expected != d.actual && d.expected != Field::Unknown && d.actual != Field::Unknown).collect()
}

/// What two sides are as a difference; `None`: they agree, as far as anybody knows.
///
/// A rejected side counts as present, because some record of the key is there: with a row on the other side it is a
/// mismatch whose fields nobody knows. An unknown field matters only to a mismatch: that a whole row is missing is certain.
pub fn classify(comparison: &Comparison, sides: &Sides) -> Option<(Kind, Option<Unclear>)> {
    let rejected = match (&sides.expected, &sides.actual) {
        (Side::Rejected, _) => Some(Unclear::Rejected { expected: true }),
        (_, Side::Rejected) => Some(Unclear::Rejected { expected: false }),
        _ => None,
    };
    match (&sides.expected, &sides.actual) {
        (Side::Absent, Side::Absent) => None,
        (Side::Duplicate(_), _) | (_, Side::Duplicate(_)) => Some((Kind::Duplicate, rejected)),
        (_, Side::Absent) => Some((Kind::Missing, rejected)),
        (Side::Absent, _) => Some((Kind::Unexpected, rejected)),
        (Side::Row(expected), Side::Row(actual)) => {
            let differ = !differing(comparison, expected, actual).is_empty();
            let unknown = row::has_unknown(expected) || row::has_unknown(actual);
            differ.then(|| (Kind::Mismatched, unknown.then_some(Unclear::UnknownField)))
        }
        _ => Some((Kind::Mismatched, rejected)),
    }
}
