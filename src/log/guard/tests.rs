//! Each policy on what real connectors sent, and on what is written here where nothing was captured.

use super::*;
use crate::{
    engine::{MessageAt, Payload},
    format::testing::source,
    plan::LogSpec,
};

const CUSTOMER: &str = "id int, name varchar, email varchar, credit decimal(12,2), tier varchar";

/// The values of a captured topic, with their offsets.
fn captured(file: &str, topic: &str) -> Vec<(i64, Option<String>)> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/debezium").join(file).with_extension("ndjson");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a captured record"));
    let of_topic = records.filter(|record| record["topic"] == topic);
    of_topic.map(|record| (record["offset"].as_i64().expect("an offset"), record["value"].as_str().map(str::to_string))).collect()
}

fn chunk(messages: &[(i64, Option<String>)]) -> Chunk {
    let (mut bytes, mut index) = (Vec::new(), Vec::new());
    for (offset, value) in messages {
        let start = bytes.len() as u32;
        bytes.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
        index.push(MessageAt { start, key_len: None, value_len: value.as_ref().map(|value| value.len() as u32), offset: *offset, timestamp: Some(5) });
    }
    let next = messages.last().map_or(0, |(offset, _)| offset + 1);
    Chunk { source: 0, partition: 0, payload: Payload::Messages { bytes, index }, source_time: None, next }
}

fn guard(policy: SchemaPolicy, columns: &str) -> Guard {
    let source = Source { log: LogSpec::Demo("none".into()), ..source("debezium-json", columns, "id") };
    Guard::new(&source, policy, None, Vec::new()).expect("somebody looks")
}

fn offsets(chunk: &Option<Chunk>) -> Vec<i64> {
    let mut offsets = Vec::new();
    if let Some(chunk) = chunk {
        chunk.find(|message| {
            offsets.push(message.offset);
            None::<()>
        });
    }
    offsets
}

/// What comes of a chunk: the offsets that go on, the changes that were accepted, and the one that was not with its reason.
fn told(guard: &mut Guard, messages: &[(i64, Option<String>)]) -> (Vec<i64>, Vec<String>, Option<String>) {
    let Let { chunk, rest, accepted, refused } = guard.examine(chunk(messages));
    let one = |change: &SchemaChange| format!("{}: {}", change.offset, change.difference);
    let mut all = offsets(&chunk);
    if refused.is_none() {
        assert!(rest.is_none());
    }
    all.extend(offsets(&rest));
    assert_eq!(all, messages.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), "nothing is lost of a chunk");
    (offsets(&chunk), accepted.iter().map(one).collect(), refused.as_ref().map(|change| format!("{}: {}", one(change), change.why.as_deref().unwrap_or("-"))))
}

/// PostgreSQL: a snapshot, then ADD phone with RENAME of email to mail, a wider numeric, DROP phone.
fn postgres() -> Vec<(i64, Option<String>)> {
    let topic = "crm.public.customer";
    let mut all = captured("postgres/01-snapshot", topic);
    all.extend(captured("postgres/13-schema-change", topic));
    all
}

#[test]
fn exception_stops_at_the_first_change() {
    let mut guard = guard(SchemaPolicy::Exception, "id int, name varchar");
    let (on, accepted, refused) = told(&mut guard, &postgres());
    assert_eq!((on, accepted), (vec![0, 1], vec![]));
    assert_eq!(refused.unwrap(), "11: new `mail`, `phone`; gone `email`: `schema_change: exception` accepts no change");
    assert!(guard.evolution().refused);
    let error = guard.stop(guard.evolution().changes.last().unwrap());
    assert_eq!(error.code, "SCHEMA_CHANGED");
    assert!(error.message.starts_with("the schema changed at partition 0, position 11, of 20"), "{}", error.message);
    assert!(error.remedy.contains("schema_change: evolve"), "{}", error.remedy);
}

#[test]
fn evolve_stops_where_a_declared_column_is_gone_and_nowhere_else() {
    let mut declared = guard(SchemaPolicy::Evolve, CUSTOMER);
    let (on, accepted, refused) = told(&mut declared, &postgres());
    assert_eq!((on, accepted), (vec![0, 1], vec![]));
    assert_eq!(
        refused.unwrap(),
        "11: new `mail`, `phone`; gone `email`: the declared column `email` (varchar) is gone (new: `mail`, `phone`; was it renamed?)"
    );
    let mut others = guard(SchemaPolicy::Evolve, "id int, name varchar, credit decimal(12,2)");
    let (on, accepted, refused) = told(&mut others, &postgres());
    assert_eq!((on, refused), (vec![0, 1, 11, 12, 13], None));
    assert_eq!(accepted, ["11: new `mail`, `phone`; gone `email`", "13: gone `phone`"]);
    assert!(!others.evolution().refused);
    // A column that is declared before it comes is no column that is gone, until it has been there.
    let mut ahead = guard(SchemaPolicy::Evolve, "id int, phone varchar");
    let (on, accepted, refused) = told(&mut ahead, &postgres());
    assert_eq!((on, accepted), (vec![0, 1, 11, 12], vec!["11: new `mail`, `phone`; gone `email`".to_string()]));
    assert_eq!(refused.unwrap(), "13: gone `phone`: the declared column `phone` (varchar) is gone");
}

#[test]
fn lenient_never_stops_and_tells_and_ignore_does_not_look() {
    let mut lenient = guard(SchemaPolicy::Lenient, CUSTOMER);
    let (on, accepted, refused) = told(&mut lenient, &postgres());
    assert_eq!((on.len(), accepted.len(), refused), (5, 2, None));
    let source = source("debezium-json", CUSTOMER, "id");
    assert!(Guard::new(&source, SchemaPolicy::Ignore, None, Vec::new()).is_none());
}

#[test]
fn a_renamed_column_of_mariadb_is_seen_too() {
    let topic = "erp.erp.account";
    let mut all = captured("mariadb/01-snapshot-and-schema-topic", topic);
    all.extend(captured("mariadb/09-schema-change", topic));
    let mut evolve = guard(SchemaPolicy::Evolve, "id int, name varchar, credit decimal(12,2)");
    let (_, accepted, refused) = told(&mut evolve, &all);
    assert_eq!((accepted.len(), refused), (1, None), "{accepted:?}");
    assert!(accepted[0].contains("new `phone`"), "{accepted:?}");
}

#[test]
fn deletes_tombstones_unchanged_values_and_orders_of_columns_are_no_change() {
    let mut one = guard(SchemaPolicy::Exception, "id int, name varchar");
    let topic = "crm.public.customer";
    for file in ["01-snapshot", "02-insert", "03-update-identity-default", "05-delete-identity-default", "07-primary-key-change"] {
        let (_, accepted, refused) = told(&mut one, &captured(&format!("postgres/{file}"), topic));
        assert_eq!((accepted, refused), (vec![], None), "{file}");
    }
    let mut docs = guard(SchemaPolicy::Exception, "id int, body varchar");
    let mut all = captured("postgres/01-snapshot", "crm.public.doc");
    all.extend(captured("postgres/08-toast-unchanged", "crm.public.doc"));
    assert_eq!(told(&mut docs, &all).2, None);
    let turned = [r#"{"op":"c","after":{"id":1,"name":"a"}}"#, r#"{"after":{"name":"a","id":1},"op":"u"}"#];
    let mut turns = guard(SchemaPolicy::Exception, "id int, name varchar");
    let messages: Vec<_> = turned.iter().enumerate().map(|(at, event)| (at as i64, Some((*event).to_string()))).collect();
    assert_eq!(told(&mut turns, &messages).2, None);
}

#[test]
fn what_was_accepted_comes_again_without_being_a_change() {
    // A connector that was killed sends what it had sent: old rows after new ones.
    let all = postgres();
    let mut evolve = guard(SchemaPolicy::Evolve, "id int, phone varchar");
    told(&mut evolve, &all[..4]);
    let (on, accepted, refused) = told(&mut evolve, &all[..4]);
    assert_eq!((on.len(), accepted, refused), (4, vec![], None));
}

#[test]
fn a_restart_stands_where_it_stood_and_goes_on_once_the_change_is_accepted() {
    let all = postgres();
    let mut before = guard(SchemaPolicy::Exception, CUSTOMER);
    told(&mut before, &all);
    let saved = serde_json::to_string(&**before.evolution()).unwrap();
    let known: Evolution = serde_json::from_str(&saved).unwrap();
    let source = source("debezium-json", CUSTOMER, "id");
    let mut again = Guard::new(&source, SchemaPolicy::Exception, Some(Arc::new(known.clone())), Vec::new()).unwrap();
    assert!(!again.evolution().refused);
    let (on, _, refused) = told(&mut again, &all[2..]);
    assert_eq!((on, refused.is_some()), (vec![], true));
    assert_eq!((again.evolution().changes.len(), again.evolution().refused_ever), (1, 1), "it is the same change");
    let mut lenient = Guard::new(&source, SchemaPolicy::Lenient, Some(Arc::new(known.clone())), Vec::new()).unwrap();
    let (on, accepted, refused) = told(&mut lenient, &all[2..]);
    assert_eq!((on.len(), accepted.len(), refused), (3, 2, None));
    assert!(lenient.evolution().changes.iter().all(|change| change.accepted), "it is accepted now");
    // What had been taken in before the restart is taken in again, whatever the policy is by now.
    let mut settled = Guard::new(&source, SchemaPolicy::Exception, Some(Arc::new(known)), vec![(0, 13)]).unwrap();
    let (on, accepted, refused) = told(&mut settled, &all[2..]);
    assert_eq!((on, accepted.len(), refused.is_some()), (vec![11, 12], 1, true));
}

/// An event with a schema, of a row with a key and one more column.
fn with_schema(offset: i64, ty: &str, name: Option<&str>, value: &str) -> (i64, Option<String>) {
    let name = name.map(|name| format!(r#","name":"{name}","version":1,"parameters":{{"scale":"2"}}"#)).unwrap_or_default();
    let row = format!(
        r#"{{"type":"struct","fields":[{{"type":"int32","optional":false,"field":"id"}},{{"type":"{ty}","optional":true{name},"field":"v"}}],"optional":true,"field":"after"}}"#
    );
    let event =
        format!(r#"{{"schema":{{"type":"struct","fields":[{row}],"optional":false}},"payload":{{"before":null,"after":{{"id":1,"v":{value}}},"op":"c"}}}}"#);
    (offset, Some(event))
}

#[test]
fn of_messages_with_a_schema_types_are_seen() {
    let events = [
        with_schema(0, "int32", None, "7"),
        with_schema(1, "int64", None, "7"),
        with_schema(2, "string", None, "\"7\""),
        with_schema(3, "string", None, "\"x\""),
    ];
    let mut evolve = guard(SchemaPolicy::Evolve, "id int, v bigint");
    let (on, accepted, refused) = told(&mut evolve, &events);
    assert_eq!((on, accepted), (vec![0, 1], vec!["1: `v` is int64 and was int32".to_string()]));
    assert_eq!(refused.unwrap(), "2: `v` is string and was int64: the column `v` is declared bigint, and string can't be read as that");
    let mut text = guard(SchemaPolicy::Lenient, "id int, v bigint");
    assert_eq!(told(&mut text, &events).1, ["1: `v` is int64 and was int32", "2: `v` is string and was int64"]);
    // Each message is looked at, also one that is the last of its kind in a chunk.
    let mut evolve = guard(SchemaPolicy::Evolve, "id int, v bigint");
    let (on, _, refused) = told(&mut evolve, &[events[0].clone(), events[2].clone(), (7, events[0].1.clone())]);
    assert_eq!((on, refused.is_some()), (vec![0], true));
}

#[test]
fn a_type_is_refused_only_where_it_would_be_read_as_something_else() {
    let reads = |declared: &str, from: (&str, Option<&str>), to: (&str, Option<&str>)| {
        let mut evolve = guard(SchemaPolicy::Evolve, &format!("id int, v {declared}"));
        told(&mut evolve, &[with_schema(0, from.0, from.1, "null"), with_schema(1, to.0, to.1, "null")]).2.is_none()
    };
    let (micro, milli, decimal) = (Some("io.debezium.time.MicroTimestamp"), Some("io.debezium.time.Timestamp"), Some("org.apache.kafka.connect.data.Decimal"));
    assert!(reads("timestamp(6)", ("int64", milli), ("int64", micro)), "the schema tells the unit");
    assert!(reads("timestamp(6)", ("int64", micro), ("string", Some("io.debezium.time.ZonedTimestamp"))));
    assert!(reads("decimal(12,2)", ("bytes", decimal), ("int32", None)));
    assert!(reads("decimal(12,2)", ("int32", None), ("double", None)));
    assert!(reads("varchar", ("string", None), ("string", Some("io.debezium.data.Enum"))));
    assert!(!reads("timestamp(6)", ("int64", micro), ("int64", None)), "a number that counts nothing is no time");
    assert!(!reads("bigint", ("int64", None), ("int64", micro)));
    assert!(!reads("varchar", ("string", None), ("int32", None)));
    assert!(!reads("varchar", ("string", None), ("bytes", None)));
    assert!(!reads("int", ("int32", None), ("double", None)));
}

#[test]
fn an_undeclared_column_may_become_anything() {
    let mut evolve = guard(SchemaPolicy::Evolve, "id int");
    let (on, accepted, refused) = told(&mut evolve, &[with_schema(0, "int32", None, "7"), with_schema(1, "string", None, "\"x\"")]);
    assert_eq!((on, accepted.len(), refused), (vec![0, 1], 1, None));
}

#[test]
fn lines_of_a_file_stop_at_the_line() {
    let lines = ["{\"op\":\"c\",\"after\":{\"id\":1,\"v\":2}}\n", "\n", "{\"op\":\"c\",\"after\":{\"id\":2}}\n", "{\"op\":\"c\",\"after\":{\"id\":3}}\n"];
    let bytes = lines.concat().into_bytes();
    let next = 100 + bytes.len() as i64;
    let chunk = Chunk { source: 0, partition: 3, payload: Payload::Lines { bytes, offset: 100 }, source_time: None, next };
    let mut evolve = guard(SchemaPolicy::Evolve, "id int, v int");
    let given = evolve.examine(chunk);
    let at = 100 + (lines[0].len() + lines[1].len()) as i64;
    assert_eq!((given.refused.unwrap().offset, given.chunk.as_ref().unwrap().next), (at, at));
    assert_eq!((offsets(&given.chunk), offsets(&given.rest)[0]), (vec![100], at));
}
