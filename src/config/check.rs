//! The check of a file against the shape of the format: unknown and missing keys, wrong forms, values that cannot be read.
//!
//! What it finds good is good one by one; whether it fits together is `resolve`'s matter.

use std::net::SocketAddr;

use super::{
    codes::Code,
    names,
    problem::{Place, Report},
    shape::{Key, Object, PROPERTIES, Rule, Shape},
    size, span,
    yaml::{At, Scalar},
};
use crate::{plan::properties::is_secret, row::Type};

/// Reports everything in which a file is not of a shape. Problems show lines of the file; secrets that stand in it are blotted out
/// before anything is said.
pub fn check(report: &mut Report, at: At, object: &'static Object) {
    let mut secrets = Vec::new();
    find_secrets(at, &Shape::Object(object), &mut secrets);
    secrets.iter().for_each(|secret| report.blot_out(&secret.place()));
    for secret in secrets {
        let hint = "name where it is: `${env:NAME}`, or `${file:PATH}` of a file that only tieout may read";
        match secret.scalar() {
            Some(_) => report.error(Code::BadValue, &secret.place(), "a secret stands in the file itself, where everybody can read it").hint(hint),
            None => report.error(Code::WrongType, &secret.place(), format!("expected a text, found {}", secret.form())).hint(hint),
        };
    }
    check_object(report, at, at.place(), object);
}

/// The secrets that are not named by a `${…}` alone.
fn find_secrets<'t>(at: At<'t>, shape: &Shape, found: &mut Vec<At<'t>>) {
    let stands = |value: At| value.scalar().is_none_or(|scalar| scalar.spelled) && !value.is_null();
    match shape {
        Shape::Object(object) => {
            for (key, value) in at.entries() {
                match object.keys.iter().find(|known| known.name == key.key()) {
                    Some(known) if known.secret && stands(value) => found.push(value),
                    Some(known) => find_secrets(value, &known.shape, found),
                    None => {}
                }
            }
        }
        Shape::Map(PROPERTIES, _) => found.extend(at.entries().filter(|(key, value)| is_secret(key.key()) && stands(*value)).map(|(_, value)| value)),
        Shape::Map(_, shape) => at.entries().for_each(|(_, value)| find_secrets(value, shape, found)),
        Shape::List(shape) => at.items().for_each(|item| find_secrets(item, shape, found)),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| find_secrets(at, shape, found)),
        _ => {}
    }
}

/// `name` is where the object's own name stands: what it lacks is shown there.
fn check_object(report: &mut Report, at: At, name: Place, object: &Object) {
    if !at.is_map() {
        wrong_form(report, at, &format!("a map ({})", names::list(object.keys.iter().map(|k| k.name))), &Shape::Map("key", &Shape::Any));
        return;
    }
    let applies = |key: &Key| key.only.is_none_or(|(tag, value)| at.get_text(tag) == Some(value));
    for (key, value) in at.entries() {
        let Some(known) = object.keys.iter().find(|k| k.name == key.key()) else {
            let known = object.keys.iter().filter(|k| applies(k)).map(|k| k.name);
            report.error(Code::UnknownKey, &key.place(), format!("{} has no key `{}`", one(object), key.key())).hint(names::alternatives(
                key.key(),
                known.clone(),
                "",
            ));
            continue;
        };
        if !applies(known) {
            let (tag, wanted) = known.only.expect("it does not apply");
            // Without a valid tag, there is a problem already.
            if at.get_text(tag).is_some_and(|value| tag_values(object, tag).contains(&value)) {
                report.error(Code::UnknownKey, &key.place(), format!("`{}` is only for `{tag}: {wanted}`", key.key())).hint(format!(
                    "for `{tag}: {}`, known are {}",
                    at.get_text(tag).unwrap_or_default(),
                    names::list(object.keys.iter().filter(|k| applies(k)).map(|k| k.name))
                ));
            }
            continue;
        }
        if value.is_null() && !matches!(known.shape, Shape::Sql | Shape::Literal | Shape::Any) {
            report.error(Code::MissingKey, &key.place(), format!("`{}` has no value", key.key())).hint(say(known));
            continue;
        }
        // One of another form has its problem.
        if !known.secret || value.scalar().is_some() {
            check_value(report, value, key.place(), &known.shape);
        }
    }
    for key in object.keys.iter().filter(|k| k.required && applies(k)) {
        if !at.entries().any(|(k, _)| k.key() == key.name) {
            report.error(Code::MissingKey, &name, format!("{} needs `{}`", one(object), key.name)).hint(say(key));
        }
    }
    for rule in object.rules {
        check_rule(report, at, &name, object, *rule);
    }
}

/// The object with its article.
fn one(object: &Object) -> String {
    let article = if object.name.starts_with(['a', 'e', 'i', 'o', 'h']) { "an" } else { "a" };
    format!("{article} {}", object.name)
}

/// A key and what it is for, as a hint.
fn say(key: &Key) -> String {
    let doc = format!("{}{}", key.doc[..1].to_lowercase(), key.doc[1..].trim_end_matches('.'));
    match key.example {
        Some(example) => format!("`{}`: {doc}. For example `{}: {example}`", key.name, key.name),
        None => format!("`{}`: {doc}", key.name),
    }
}

fn tag_values(object: &Object, tag: &str) -> Vec<&'static str> {
    match object.keys.iter().find(|k| k.name == tag).map(|k| k.shape) {
        Some(Shape::Word(words)) => words.iter().map(|(word, _)| *word).collect(),
        _ => Vec::new(),
    }
}

fn check_rule(report: &mut Report, at: At, name: &Place, object: &Object, rule: Rule) {
    let find = |key: &str| at.entries().find(|(k, _)| k.key() == key).map(|(k, _)| k.place());
    match rule {
        Rule::ExactlyOne(keys) => {
            let found: Vec<(&str, Place)> = keys.iter().filter_map(|k| find(k).map(|place| (*k, place))).collect();
            if found.is_empty() {
                let problem = report.error(Code::MissingKey, name, format!("{} needs one of {}", one(object), names::list(keys.iter().copied())));
                let docs: Vec<String> = object.keys.iter().filter(|k| keys.contains(&k.name)).map(say).collect();
                problem.hint(docs.join("\n"));
            }
            for (key, place) in found.iter().skip(1) {
                let (first, other) = &found[0];
                report
                    .error_of_two(Code::ConflictingKeys, place, format!("{} has either `{first}` or `{key}`, not both", one(object)), other, "the other one")
                    .hint("remove one of the two");
            }
        }
        Rule::Needs(key, other) => {
            if let Some(place) = find(key)
                && find(other).is_none()
                && !conflicts(object, at, key)
            {
                report
                    .error(Code::ConflictingKeys, &place, format!("`{key}` is nothing without `{other}`"))
                    .hint(object.keys.iter().find(|k| k.name == other).map(say).unwrap_or_default());
            }
        }
        Rule::Excludes(key, others) => {
            if let Some(first) = find(key) {
                for (other, place) in others.iter().filter_map(|o| find(o).map(|place| (o, place))) {
                    report
                        .error_of_two(Code::ConflictingKeys, &place, format!("`{other}` cannot stand beside `{key}`"), &first, "the other one")
                        .hint(format!("say it in the text of `{key}`"));
                }
            }
        }
    }
}

/// Is the key's own presence already a problem, because another of its group is there too?
fn conflicts(object: &Object, at: At, key: &str) -> bool {
    let here = |key: &str| at.entries().any(|(k, _)| k.key() == key);
    object.rules.iter().any(|rule| match rule {
        Rule::ExactlyOne(keys) => keys.contains(&key) && keys.iter().filter(|k| here(k)).count() > 1,
        Rule::Needs(a, b) => object.name == "target" && *a == "fields" && *b == key && here("sql"),
        Rule::Excludes(..) => false,
    })
}

fn wrong_form(report: &mut Report, at: At, wanted: &str, shape: &Shape) {
    report.error(Code::WrongType, &at.place(), format!("expected {wanted}, found {}", at.form())).hint(remedy(at, shape));
}

/// How to write something of a shape instead of what stands there.
fn remedy(at: At, shape: &Shape) -> String {
    let only = at.items().next().and_then(At::text).filter(|_| at.items().count() == 1);
    match shape {
        Shape::Object(_) | Shape::Map(..) => "write its keys below it, one a line: `NAME: …`".into(),
        Shape::List(_) => at.text().map_or_else(|| "write its entries below it, one a line behind `- `".into(), |text| format!("write `[{text}]`")),
        Shape::Int { .. } if at.scalar().is_some() => "write it in digits, without a unit".into(),
        Shape::Either(shapes) => shapes.first().map_or_else(String::new, |shape| remedy(at, shape)),
        _ if at.is_map() => "a value that starts with `{` needs quotes".into(),
        _ => match only {
            Some(text) => format!("only one value can stand here: write `{text}`, without the brackets"),
            None => "only one value can stand here; one that starts with `[` needs quotes".into(),
        },
    }
}

/// A shape in a few words.
pub fn describe(shape: &Shape) -> String {
    match shape {
        Shape::Text => "a text".into(),
        Shape::Sql => "SQL".into(),
        Shape::Literal => "a value".into(),
        Shape::Int { min, max: i64::MAX } => format!("a whole number from {min}"),
        Shape::Int { min, max } => format!("a whole number from {min} to {max}"),
        Shape::Span { min_ms: 0, .. } => "a time span such as `30s`".into(),
        Shape::Span { min_ms, max_ms } => format!("a time span from {} to {}", span::text(*min_ms), span::text(*max_ms)),
        Shape::Size { min } => format!("a size from {}", size::text(*min)),
        Shape::Type => "a column type".into(),
        Shape::Address => "an address and port".into(),
        Shape::Word(words) => format!("one of {}", names::list(words.iter().map(|(w, _)| *w))),
        Shape::WordOr(words, other) => format!("{} or {other}", names::list(words.iter().map(|(w, _)| *w))),
        Shape::List(Shape::Text) => "a list of texts".into(),
        Shape::List(Shape::Any) => "a list".into(),
        Shape::List(of) => format!("a list, each {}", describe(of)),
        Shape::Map(of, value) => format!("a map ({of}: {})", describe(value)),
        Shape::Object(object) => format!("a map ({})", object.keys.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")),
        Shape::Either(shapes) => shapes.iter().map(describe).collect::<Vec<_>>().join(" or "),
        Shape::Any => "anything".into(),
    }
}

fn check_value(report: &mut Report, at: At, name: Place, shape: &Shape) {
    match shape {
        Shape::Any => {}
        Shape::Object(object) => check_object(report, at, name, object),
        Shape::List(of) if at.is_list() => at.items().for_each(|item| check_value(report, item, item.place(), of)),
        Shape::Map(_, value) if at.is_map() => at.entries().for_each(|(key, entry)| {
            if is_rest_of_type(key, entry) || (matches!(shape, Shape::Map(PROPERTIES, _)) && is_secret(key.key()) && entry.scalar().is_none()) {
                // The type has been reported, or that a secret is none.
            } else if entry.is_null() && !matches!(value, Shape::Sql | Shape::Literal | Shape::Any) && !matches!(value, Shape::Either([Shape::Sql, ..])) {
                report.error(Code::MissingKey, &key.place(), format!("`{}` has no value", key.key())).hint(format!("expected is {}", describe(value)));
            } else {
                check_value(report, entry, key.place(), value);
            }
        }),
        Shape::List(of) => {
            wrong_form(report, at, &describe(shape), &Shape::List(of));
        }
        Shape::Map(..) => wrong_form(report, at, &describe(shape), shape),
        Shape::Either(shapes) => {
            let fits = |shape: &&Shape| match shape {
                Shape::List(_) => at.is_list(),
                Shape::Map(..) | Shape::Object(_) => at.is_map(),
                _ => at.scalar().is_some(),
            };
            match shapes.iter().find(fits) {
                Some(shape) => check_value(report, at, name, shape),
                None => wrong_form(report, at, &describe(shape), shape),
            }
        }
        scalar => match at.scalar() {
            Some(value) => check_scalar(report, at, value, scalar),
            None => wrong_form(report, at, &describe(scalar), scalar),
        },
    }
}

fn check_scalar(report: &mut Report, at: At, value: &Scalar, shape: &Shape) {
    let text = value.text.as_str();
    let place = at.place();
    match shape {
        Shape::Int { min, max } => match value.as_number().and_then(|n| n.parse::<i64>().ok()) {
            None => wrong_form(report, at, &describe(shape), shape),
            Some(n) if n < *min || n > *max => {
                report.error(Code::BadValue, &place, format!("{n} is out of range")).hint(format!("expected is {}", describe(shape)));
            }
            Some(_) => {}
        },
        Shape::Span { min_ms, max_ms } => match span::parse(text) {
            Err(why) => {
                report.error(Code::BadValue, &place, why).hint("a time span is a whole number with its unit: `50ms`, `30s`, `5m`, `1h`, `1d`");
            }
            Ok(span) if !(u128::from(*min_ms)..=u128::from(*max_ms)).contains(&span.as_millis()) => {
                report.error(Code::BadValue, &place, format!("`{text}` is out of range")).hint(format!(
                    "from {} to {}",
                    span::text(*min_ms),
                    span::text(*max_ms)
                ));
            }
            Ok(_) => {}
        },
        Shape::Size { min } => match size::parse(text) {
            Err(why) => {
                report.error(Code::BadValue, &place, why).hint("a size is a whole number with its unit: `512MiB`, `4GiB`");
            }
            Ok(bytes) if bytes < *min => {
                report.error(Code::BadValue, &place, format!("`{text}` is out of range")).hint(format!("from {}", size::text(*min)));
            }
            Ok(_) => {}
        },
        Shape::Type => {
            if let Err(why) = Type::parse(text) {
                let (why, hint) = why.split_once("; ").map_or((why.as_str(), None), |(why, hint)| (why, Some(hint.to_string())));
                let cut = text.contains('(') && !text.contains(')');
                let hint = if cut { Some("inside of `{ }`, a type with a comma needs quotes: `\"decimal(18,2)\"`".to_string()) } else { hint };
                report.error(Code::BadType, &place, why).hint(hint.unwrap_or_else(|| format!("known are {}", Type::NAMES.join(", "))));
            }
        }
        Shape::Address if address(text).is_none() => {
            report
                .error(Code::BadValue, &place, format!("`{text}` is not an address and port"))
                .hint("for example `127.0.0.1:7171`, or `0.0.0.0:7171` for all interfaces");
        }
        Shape::Word(words) if !words.iter().any(|(word, _)| *word == text) => {
            report.error(Code::BadValue, &place, format!("`{text}` is not known here")).hint(names::alternatives(text, words.iter().map(|(w, _)| *w), ""));
        }
        _ => {}
    }
}

/// Is this the end of an unquoted `decimal(18,2)` inside of braces, which reads as a key of its own?
pub fn is_rest_of_type(key: At, value: At) -> bool {
    value.is_null() && key.key().ends_with(')') && !key.key().contains('(')
}

/// An address to listen on; `localhost` is the loopback.
pub fn address(text: &str) -> Option<SocketAddr> {
    text.strip_prefix("localhost:").map_or_else(|| text.parse().ok(), |port| format!("127.0.0.1:{port}").parse().ok())
}
