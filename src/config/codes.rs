//! The codes of problems: one literal list, from which the reference is written.

/// What kind of problem it is. The code is stable; tools may rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    Unreadable,
    Yaml,
    DuplicateKey,
    UnknownKey,
    MissingKey,
    ConflictingKeys,
    WrongType,
    BadValue,
    BadType,
    BadName,
    UnsetVariable,
    BadInterpolation,
    DuplicateName,
    UnknownName,
    UnknownColumn,
    WrongKind,
    Cycle,
    Sql,
    BadKey,
    BadMapping,
    NotComparable,
    NotNumeric,
    BadTest,
    Unused,
}

/// Every code, as it is printed, with the sentence that explains it.
pub const CODES: &[(Code, &str, &str)] = &[
    (Code::Unreadable, "unreadable", "A file or a folder of the configuration cannot be read."),
    (Code::Yaml, "yaml", "The file is not YAML, or uses what tieout does not take: several documents, keys that are no text, very deep nesting."),
    (Code::DuplicateKey, "duplicate-key", "A key stands twice in one map; the second would silently win."),
    (Code::UnknownKey, "unknown-key", "A key that the format does not know at this place."),
    (Code::MissingKey, "missing-key", "A required key is lacking."),
    (Code::ConflictingKeys, "conflicting-keys", "Keys that exclude one another stand together, or one stands without the other that it needs."),
    (Code::WrongType, "wrong-type", "A value has another form than the format says: a text for a list, a text for a number."),
    (Code::BadValue, "bad-value", "A value of the right form that cannot be read, is out of range, or is none of those known."),
    (Code::BadType, "bad-type", "A column type that cannot be read."),
    (Code::BadName, "bad-name", "A name that SQL, a file or an address could not carry."),
    (
        Code::UnsetVariable,
        "unset-variable",
        "`${env:NAME}` names a variable that is not set, or is empty, and has no default; `${env:NAME:-}` takes the empty text.",
    ),
    (Code::BadInterpolation, "bad-interpolation", "A `${…}` that is not closed, is of an unknown kind, or names a file that cannot be read."),
    (Code::DuplicateName, "duplicate-name", "Two things have one name. Sources, targets and comparisons of all files share one namespace."),
    (Code::UnknownName, "unknown-name", "A connection, source, target or comparison that is not declared anywhere."),
    (Code::UnknownColumn, "unknown-column", "A column that the table at hand does not have."),
    (Code::WrongKind, "wrong-kind", "The named thing exists but cannot serve here: a topic on a file connection, a source as an output."),
    (Code::Cycle, "cycle", "Targets read each other in a circle, so that none can be computed first."),
    (Code::Sql, "sql", "SQL that cannot be parsed, planned or kept up to date incrementally."),
    (Code::BadKey, "bad-key", "A key that does not hold: a column of a type that identifies nothing, a column named twice, sides that do not match."),
    (Code::BadMapping, "bad-mapping", "A field rule that contradicts itself: a policy without its default, a default that is never used, a case twice."),
    (Code::NotComparable, "not-comparable", "Two columns whose types have no values in common, or whose values no decimal of 38 digits holds."),
    (Code::NotNumeric, "not-numeric", "A total of a column that is no number."),
    (
        Code::BadTest,
        "bad-test",
        "A step of a test that cannot be carried out or could never hold: an event that is none of the source's format, a value that is none of the column's type, an unknown kind, state or code, nothing at all.",
    ),
    (Code::Unused, "unused", "Something is declared and nothing uses it (a warning)."),
];

impl Code {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        CODES.iter().find(|(code, ..)| *code == self).expect("every code is listed").1
    }
}
