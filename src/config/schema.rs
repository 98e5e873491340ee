//! The JSON Schemas of all kinds of files, from the shape of the format, so that editors complete and check them.

use serde_json::{Map, Value, json};

use super::{
    check::describe,
    shape::{self, Object, Rule, Shape},
};
use crate::row::Type;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration file.
    Config,
    /// A dataflow file.
    Dataflow,
    /// A cluster file.
    Cluster,
}

impl Kind {
    pub const ALL: [(&'static str, Kind); 3] = [("config", Kind::Config), ("dataflow", Kind::Dataflow), ("cluster", Kind::Cluster)];

    fn object(self) -> &'static Object {
        match self {
            Kind::Config => &shape::CONFIG,
            Kind::Dataflow => &shape::DATAFLOW,
            Kind::Cluster => &shape::CLUSTER,
        }
    }
}

/// The JSON Schema (draft 2020-12) of a kind of file. What a schema cannot say, `check` does.
pub fn schema(kind: Kind) -> Value {
    let mut root = object_schema(kind.object());
    let fields = root.as_object_mut().expect("an object's schema is a map");
    let defs: Map<String, Value> = shape::objects().into_iter().filter(|o| reaches(kind.object(), o)).map(|o| (o.name.to_string(), object_schema(o))).collect();
    let mut out = Map::new();
    out.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    out.insert("title".into(), json!(format!("tieout {}", kind.object().name)));
    out.append(fields);
    if !defs.is_empty() {
        out.insert("$defs".into(), Value::Object(defs));
    }
    Value::Object(out)
}

/// Is `what` somewhere below `object`?
fn reaches(object: &'static Object, what: &Object) -> bool {
    fn visit(shape: &Shape, what: &Object) -> bool {
        match shape {
            Shape::Object(object) => object.name == what.name || reaches(object, what),
            Shape::List(of) | Shape::Map(_, of) => visit(of, what),
            Shape::Either(shapes) => shapes.iter().any(|shape| visit(shape, what)),
            _ => false,
        }
    }
    object.keys.iter().any(|key| visit(&key.shape, what))
}

fn object_schema(object: &Object) -> Value {
    let mut properties = Map::new();
    for key in object.keys {
        let mut schema = shape_schema(&key.shape);
        let map = schema.as_object_mut().expect("a schema is a map");
        let only = key.only.map_or(String::new(), |(tag, value)| format!(" (Only for `{tag}: {value}`.)"));
        map.insert("description".into(), json!(format!("{}{only}", key.doc)));
        if key.filled {
            map.insert("minItems".into(), json!(1));
        }
        if let Some(pattern) = key.pattern {
            map.insert("pattern".into(), json!(pattern));
        }
        if let Some(default) = key.default {
            map.insert("default".into(), serde_json::from_str::<i64>(default).map_or_else(|_| json!(default), |n| json!(n)));
        }
        if let Some(example) = key.example.filter(|e| !e.starts_with(['{', '[', '"'])) {
            map.insert("examples".into(), json!([example]));
        }
        properties.insert(key.name.into(), schema);
    }
    let always: Vec<&str> = object.keys.iter().filter(|k| k.required && k.only.is_none()).map(|k| k.name).collect();
    let mut all: Vec<Value> = object.rules.iter().map(|rule| rule_schema(*rule)).collect();
    all.extend(tags_schema(object));
    let mut schema = json!({ "type": "object", "description": object.doc, "properties": properties, "additionalProperties": false });
    let map = schema.as_object_mut().expect("a map");
    if !always.is_empty() {
        map.insert("required".into(), json!(always));
    }
    if !all.is_empty() {
        map.insert("allOf".into(), json!(all));
    }
    schema
}

fn rule_schema(rule: Rule) -> Value {
    match rule {
        Rule::ExactlyOne(keys) => json!({ "oneOf": keys.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>() }),
        Rule::Needs(key, other) => json!({ "dependentRequired": { key: [other] } }),
        Rule::Excludes(key, others) => json!({ "not": { "required": [key], "anyOf": others.iter().map(|o| json!({ "required": [o] })).collect::<Vec<_>>() } }),
    }
}

/// For keys that belong to one value of another key: required there, and refused elsewhere.
fn tags_schema(object: &Object) -> Vec<Value> {
    object
        .keys
        .iter()
        .filter_map(|key| {
            let (tag, value) = key.only?;
            let then = if key.required { json!({ "required": [key.name] }) } else { json!(true) };
            Some(json!({
                "if": { "properties": { tag: { "const": value } }, "required": [tag] },
                "then": then,
                "else": { "not": { "required": [key.name] } },
            }))
        })
        .collect()
}

/// A pattern of the texts that [`Type::parse`] takes: its words in any case, then digits in parentheses.
fn type_pattern() -> String {
    let words = |words: &[&str]| {
        let letter = |c: char| match c {
            ' ' => r"\s+".to_string(),
            c if c.is_ascii_alphabetic() => format!("[{c}{}]", c.to_ascii_uppercase()),
            c => c.to_string(),
        };
        words.iter().map(|word| word.chars().map(letter).collect::<String>()).collect::<Vec<_>>().join("|")
    };
    let (plain, sized, times) = (words(&PLAIN), words(&SIZED), words(&TIMES));
    let (size, zone) = (r"(\s*\([0-9,\s]+\))?", words(&["with time zone", "without time zone"]));
    format!(r"^\s*(({plain})|({sized}){size}|({times}){size}(\s+({zone}))?|.*\[\])\s*$")
}

/// Types without a size.
const PLAIN: [&str; 15] =
    ["bool", "boolean", "double", "double precision", "float", "real", "float4", "float8", "float32", "float64", "date", "uuid", "json", "jsonb", "array"];
/// Types that may have one.
const SIZED: [&str; 27] = [
    "tinyint",
    "int8",
    "smallint",
    "int16",
    "int2",
    "int",
    "integer",
    "int32",
    "int4",
    "bigint",
    "int64",
    "long",
    "decimal",
    "numeric",
    "varchar",
    "text",
    "string",
    "char",
    "character",
    "character varying",
    "bytes",
    "binary",
    "varbinary",
    "bytea",
    "blob",
    "timestamptz",
    "datetime",
];
/// Types that may have one, and say of the zone behind it.
const TIMES: [&str; 2] = ["time", "timestamp"];

/// Names that a user chooses, where they must be carried by SQL, file names and addresses: see `names::is_plain`.
const NAMES: [&str; 4] = ["source", "target", "comparison", "transaction log"];

fn shape_schema(shape: &Shape) -> Value {
    /// A variable may stand wherever a number or word does.
    const VARIABLE: &str = r"\$\{(env|file):.*\}";
    let word_docs = |words: &[(&str, &str)]| words.iter().map(|(w, doc)| json!({ "const": w, "description": doc })).collect::<Vec<_>>();
    match shape {
        Shape::Text => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Sql | Shape::Literal => json!({ "type": ["string", "number", "boolean", "null"] }),
        Shape::Int { min, max } => json!({ "anyOf": [{ "type": "integer", "minimum": min, "maximum": max }, { "type": "string", "pattern": VARIABLE }] }),
        Shape::Span { .. } => json!({ "type": "string", "pattern": format!(r"^[0-9]+ ?(ms|s|m|h|d)$|{VARIABLE}") }),
        Shape::Size { .. } => json!({ "type": "string", "pattern": format!(r"^[0-9]+ ?([kKmMgGtT]i|[mMgG])[bB]$|{VARIABLE}") }),
        Shape::Type => json!({ "type": "string", "pattern": format!(r"{}|{VARIABLE}", type_pattern()), "examples": Type::NAMES }),
        Shape::Address => json!({ "type": "string", "examples": ["127.0.0.1:7171", "0.0.0.0:7171"] }),
        Shape::Word(words) => json!({ "anyOf": [{ "oneOf": word_docs(words) }, { "type": "string", "pattern": VARIABLE }] }),
        Shape::WordOr(words, other) => {
            let mut any = word_docs(words);
            any.push(json!({ "type": "string", "description": other }));
            json!({ "anyOf": any })
        }
        Shape::List(of) => json!({ "type": "array", "items": shape_schema(of) }),
        Shape::Map(of, value) => {
            let mut schema = json!({ "type": "object", "additionalProperties": shape_schema(value), "title": format!("{of}: {}", describe(value)) });
            // Where the values say what they are: elsewhere (`feed`, for one) the names are those of things that are checked.
            if NAMES.contains(of) && matches!(value, Shape::Object(_)) {
                schema["propertyNames"] = json!({ "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,119}$", "not": { "const": "rejects" } });
            }
            schema
        }
        Shape::Object(object) => json!({ "$ref": format!("#/$defs/{}", object.name) }),
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(shape_schema).collect::<Vec<_>>() }),
        Shape::Any => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema knows the same types as the check.
    #[test]
    fn every_type_of_the_pattern_is_a_type() {
        for word in PLAIN.iter().chain(&SIZED).chain(&TIMES) {
            assert!(Type::parse(word).is_ok(), "{word}");
        }
        for word in SIZED.iter().chain(&TIMES) {
            assert!(Type::parse(&format!("{word}(3)")).is_ok(), "{word}(3)");
        }
        for word in PLAIN.iter().filter(|w| **w != "array") {
            assert!(Type::parse(&format!("{word}(3)")).is_err(), "{word}(3)");
        }
        for name in Type::NAMES {
            let word = name.split('(').next().unwrap_or(name);
            assert!(PLAIN.contains(&word) || SIZED.contains(&word) || TIMES.contains(&word), "{name}");
        }
    }

    /// What a schema can say, it says.
    #[test]
    fn names_and_lists_that_check_refuses_are_refused_by_the_schema() {
        let dataflow = schema(Kind::Dataflow);
        for section in ["sources", "targets", "comparisons", "transactions"] {
            assert_eq!(dataflow["properties"][section]["propertyNames"]["pattern"], "^[A-Za-z_][A-Za-z0-9_]{0,119}$", "{section}");
        }
        assert_eq!(dataflow["$defs"]["target"]["properties"]["key"]["minItems"], 1);
        assert_eq!(dataflow["$defs"]["source"]["properties"]["files"]["minItems"], 1);
        let column = &dataflow["$defs"]["column"]["properties"]["type"]["pattern"];
        assert!(column.as_str().is_some_and(|pattern| pattern.contains("[dD][eE][cC][iI][mM][aA][lL]")), "{column}");
        assert!(schema(Kind::Config)["properties"]["name"]["pattern"].is_string());
    }
}
