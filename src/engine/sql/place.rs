//! Places in a SQL text: the parser's lines and columns to bytes, and words to where they stand.

use std::ops::Range;

use datafusion_sql::sqlparser::tokenizer::{Location, Span};

use super::SqlProblem;

/// The bytes of a parser's span; `None` if the parser did not say one.
pub fn of_span(text: &str, span: Span) -> Option<Range<usize>> {
    if span.start.line == 0 || span.end.line == 0 {
        return None;
    }
    let (start, end) = (of_location(text, span.start), of_location(text, span.end));
    (start < end).then_some(start..end)
}

/// The byte at a parser's location (lines and columns from 1, columns in characters).
pub fn of_location(text: &str, location: Location) -> usize {
    let mut start = 0;
    for _ in 1..location.line {
        match text[start..].find('\n') {
            Some(at) => start += at + 1,
            None => return text.len(),
        }
    }
    let line = &text[start..];
    line.char_indices().nth((location.column as usize).saturating_sub(1)).map_or(text.len(), |(at, _)| start + at)
}

/// Where `word` stands as a whole word, whatever its case; the whole text if it does not.
pub fn of_word(text: &str, word: &str) -> Range<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (lower, word) = (text.to_ascii_lowercase(), word.to_ascii_lowercase());
    let mut from = 0;
    while !word.is_empty()
        && let Some(at) = lower[from..].find(&word).map(|at| at + from)
    {
        let end = at + word.len();
        if !lower[..at].chars().next_back().is_some_and(is_word) && !lower[end..].chars().next().is_some_and(is_word) {
            return at..end;
        }
        from = at + lower[at..].chars().next().map_or(1, char::len_utf8);
    }
    whole(text)
}

/// The text without the white space around it.
pub fn whole(text: &str) -> Range<usize> {
    let start = text.len() - text.trim_start().len();
    start..text.trim_end().len().max(start)
}

/// The place of `Line: 1, Column: 8` in a parser's message, with the message freed from it.
pub fn of_message(text: &str, message: &str) -> (Range<usize>, String) {
    let Some(at) = message.rfind(" at Line: ") else { return (whole(text), message.to_string()) };
    let mut numbers = message[at..].split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    let (line, column) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
    let start = of_location(text, Location { line, column });
    let end = text[start..].find(|c: char| c.is_whitespace() || c == ',' || c == ')').map_or(text.len(), |len| start + len);
    let place = if start == end { start..(start + text[start..].chars().next().map_or(0, char::len_utf8)) } else { start..end };
    (place, message[..at].to_string())
}

/// A problem.
pub fn problem(at: Range<usize>, message: impl Into<String>, hint: Option<String>) -> SqlProblem {
    SqlProblem { at, message: message.into(), hint }
}

/// `did you mean `amount`?`, if some name is near; otherwise the names, if they are few.
pub fn suggest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>, what: &str) -> Option<String> {
    let names: Vec<&str> = names.into_iter().collect();
    let lower = word.to_lowercase();
    let near = names
        .iter()
        .map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), *name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)));
    match near {
        Some((_, name)) => Some(format!("did you mean `{name}`?")),
        None if names.is_empty() => None,
        None if names.len() <= 24 => Some(format!("{what} {}", names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "))),
        None => None,
    }
}
