//! Near misses, and lists of what is known.

/// The known name that was probably meant.
pub fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            let other = candidate.to_lowercase();
            let distance = strsim::damerau_levenshtein(&lower, &other);
            let close = distance <= 1 + name.chars().count() / 5 || (name.len() > 3 && (other.contains(&lower) || (other.len() > 3 && lower.contains(&other))));
            (close, strsim::jaro_winkler(&lower, &other), candidate)
        })
        .filter(|(close, similarity, _)| *close || *similarity > 0.9)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(.., candidate)| candidate)
}

/// `` did you mean `x`? known are `x`, `y` ``, or what to say when nothing is known.
pub fn alternatives<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone, none: &str) -> String {
    let list = list(known.clone());
    match near(name, known) {
        _ if list.is_empty() => none.to_string(),
        Some(best) => format!("did you mean `{best}`? known are {list}"),
        None => format!("known are {list}"),
    }
}

/// `` `a`, `b`, `c` ``, shortened when it is long.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    let more = names.len().saturating_sub(30);
    names.truncate(30);
    let mut text = names.join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// Can SQL, a file name and an address carry it as it is?
pub fn is_plain(name: &str) -> bool {
    name.len() <= 120 && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
