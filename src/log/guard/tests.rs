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

/// An event that says when its row was committed, and when the connector handled it.
fn timed(offset: i64, committed: i64, handled: i64, row: &str) -> (i64, Option<String>) {
    (offset, Some(format!(r#"{{"op":"c","after":{row},"source":{{"ts_ms":{committed}}},"ts_ms":{handled}}}"#)))
}

/// Chunk by chunk: the offsets that go on, and that of the refused message.
fn chunks(guard: &mut Guard, chunks: &[&[(i64, Option<String>)]]) -> (Vec<i64>, Option<i64>) {
    let mut on = Vec::new();
    for messages in chunks {
        let given = guard.examine(chunk(messages));
        on.extend(offsets(&given.chunk));
        if let Some(refused) = given.refused {
            return (on, Some(refused.offset));
        }
    }
    (on, None)
}

const SHORT: &str = r#"{"id":1,"a":1}"#;
const LONG: &str = r#"{"id":1,"a":1,"b":1}"#;

/// What a checkpoint keeps of it.
fn kept(guard: &Guard) -> Option<Arc<Evolution>> {
    Some(Arc::new(serde_json::from_str(&serde_json::to_string(&**guard.evolution()).unwrap()).unwrap()))
}

fn again(policy: SchemaPolicy, kept: Option<Arc<Evolution>>, settled: Vec<(i32, i64)>) -> (Source, Guard) {
    let source = source("debezium-json", "id int, a int, b int", "id");
    let guard = Guard::new(&source, policy, kept, settled).expect("somebody looks");
    (source, guard)
}

#[test]
fn a_column_that_came_later_and_goes_is_gone_though_rows_without_it_are_known() {
    let before = timed(0, 10, 11, SHORT);
    let (added, dropped) = (timed(1, 20, 21, LONG), timed(2, 30, 31, SHORT));
    let (_, mut evolve) = again(SchemaPolicy::Evolve, None, Vec::new());
    let (on, accepted, refused) = told(&mut evolve, &[before.clone(), added.clone(), dropped.clone()]);
    assert_eq!((on, accepted), (vec![0, 1], vec!["1: new `b`".to_string()]));
    assert_eq!(refused.unwrap(), "2: gone `b`: the declared column `b` (int) is gone");
    // Also after a restart, and from a checkpoint that does not say since when the newest columns are there.
    let (_, mut evolve) = again(SchemaPolicy::Evolve, None, Vec::new());
    assert_eq!(chunks(&mut evolve, &[&[before], &[added]]), (vec![0, 1], None));
    let (_, mut restarted) = again(SchemaPolicy::Evolve, kept(&evolve), Vec::new());
    assert_eq!(chunks(&mut restarted, &[std::slice::from_ref(&dropped)]), (vec![], Some(2)));
    // It stood there; once it is accepted, nothing else is said of it.
    let (_, mut lenient) = again(SchemaPolicy::Lenient, kept(&restarted), Vec::new());
    assert_eq!(chunks(&mut lenient, &[std::slice::from_ref(&dropped)]), (vec![2], None));
    assert!(lenient.evolution().changes.iter().all(|change| change.accepted), "{:?}", lenient.evolution());
    let mut old = serde_json::to_value(&**evolve.evolution()).unwrap();
    old.as_object_mut().unwrap().remove("since");
    let (_, mut restarted) = again(SchemaPolicy::Evolve, Some(Arc::new(serde_json::from_value(old).unwrap())), Vec::new());
    assert_eq!(chunks(&mut restarted, &[&[dropped]]), (vec![], Some(2)));
}

#[test]
fn rows_from_before_a_column_was_added_go_on_whenever_they_come() {
    let (_, mut evolve) = again(SchemaPolicy::Evolve, None, Vec::new());
    let of_snapshot = timed(4, 25, 19, SHORT);
    let unsaid = (5, Some(format!(r#"{{"op":"c","after":{SHORT}}}"#)));
    let (on, refused) = chunks(
        &mut evolve,
        &[
            &[timed(0, 10, 11, SHORT)],
            &[timed(1, 20, 21, LONG)],
            // Sent again: handled later, committed before. Of a partition that lags, in the same millisecond too.
            &[timed(2, 10, 40, SHORT), timed(3, 20, 21, SHORT)],
            // A snapshot's rows have the connector's time; it was handled before. And one that says nothing.
            &[of_snapshot],
            &[unsaid],
            &[timed(6, 22, 41, LONG), timed(7, 11, 42, SHORT)],
        ],
    );
    assert_eq!((on, refused), ((0..8).collect(), None));
    assert_eq!(chunks(&mut evolve, &[&[timed(8, 12, 43, SHORT), timed(9, 50, 51, SHORT)]]), (vec![8], Some(9)));
}

#[test]
fn a_row_between_others_is_seen_where_decoders_do_not_reject_it() {
    let (_, mut evolve) = again(SchemaPolicy::Evolve, None, Vec::new());
    let between = [timed(2, 30, 31, LONG), timed(3, 40, 41, SHORT), timed(4, 50, 51, LONG)];
    assert_eq!(chunks(&mut evolve, &[&[timed(0, 10, 11, SHORT)], &[timed(1, 20, 21, LONG)], &between]), (vec![0, 1, 2], Some(3)));
}

#[test]
fn what_lenient_took_in_is_no_reason_to_stop_later_and_the_next_time_is() {
    let (_, mut lenient) = again(SchemaPolicy::Lenient, None, Vec::new());
    let rows = [timed(0, 10, 11, SHORT), timed(1, 20, 21, LONG), timed(2, 30, 31, SHORT)];
    assert_eq!(chunks(&mut lenient, &[&rows]), (vec![0, 1, 2], None));
    assert_eq!(lenient.evolution().accepted, 1, "what comes back is no change");
    let (_, mut evolve) = again(SchemaPolicy::Evolve, kept(&lenient), Vec::new());
    let rows = [timed(3, 40, 41, SHORT), timed(4, 25, 41, LONG), timed(5, 50, 51, SHORT)];
    assert_eq!(chunks(&mut evolve, &[&rows]), (vec![3, 4, 5], None), "a row from between changes nothing");
    assert_eq!(chunks(&mut evolve, &[&[timed(6, 60, 61, LONG)], &[timed(7, 70, 71, SHORT)]]), (vec![6], Some(7)));
}

#[test]
fn a_short_row_that_was_taken_in_before_a_restart_does_not_switch_the_check_off() {
    let (_, mut evolve) = again(SchemaPolicy::Evolve, None, Vec::new());
    assert_eq!(chunks(&mut evolve, &[&[timed(0, 10, 11, LONG)]]), (vec![0], None));
    // It stood between others, and decoders rejected it; this time it is the last of what comes at once.
    let (_, mut replayed) = again(SchemaPolicy::Evolve, kept(&evolve), vec![(0, 3)]);
    assert_eq!(chunks(&mut replayed, &[&[timed(1, 20, 21, SHORT)], &[timed(2, 30, 31, LONG)]]), (vec![1, 2], None));
    let (_, mut later) = again(SchemaPolicy::Evolve, kept(&replayed), Vec::new());
    assert_eq!(chunks(&mut later, &[&[timed(3, 40, 41, LONG)], &[timed(4, 50, 51, SHORT)]]), (vec![3], Some(4)));
    let (_, mut later) = again(SchemaPolicy::Evolve, kept(&replayed), Vec::new());
    let between = [timed(3, 40, 41, LONG), timed(4, 50, 51, SHORT), timed(5, 60, 61, LONG)];
    assert_eq!(chunks(&mut later, &[&between]), (vec![3], Some(4)));
}

/// By column: may rows not lack it?
fn required(source: &Source) -> Vec<bool> {
    source.required.get().cloned().unwrap_or_else(|| vec![false; source.columns.len()])
}

#[test]
fn ticks_that_are_made_again_lack_what_they_lacked() {
    let long = timed(0, 10, 11, LONG);
    let short_between = [timed(9, 20, 21, LONG), timed(10, 30, 31, SHORT), timed(11, 40, 41, LONG)];
    // Under `lenient` short rows were NULL: whatever the policy is by now, they are again, and later ones are not.
    let (of_lenient, mut lenient) = again(SchemaPolicy::Lenient, None, Vec::new());
    chunks(&mut lenient, &[std::slice::from_ref(&long)]);
    assert_eq!(required(&of_lenient), [false; 3]);
    let (source, mut evolve) = again(SchemaPolicy::Evolve, kept(&lenient), vec![(0, 9)]);
    assert_eq!(required(&source), [false; 3]);
    assert_eq!(chunks(&mut evolve, &[&short_between]), (vec![9], Some(10)));
    // Under `evolve` they were rejects, and are again.
    let (of_evolve, mut evolve) = again(SchemaPolicy::Evolve, None, Vec::new());
    chunks(&mut evolve, &[&[long]]);
    assert_eq!(required(&of_evolve), [true; 3]);
    assert_eq!(required(&again(SchemaPolicy::Evolve, kept(&evolve), vec![(0, 9)]).0), [true; 3]);
    assert_eq!(required(&again(SchemaPolicy::Evolve, kept(&lenient), Vec::new()).0), [true; 3], "nothing is made again");
}

/// They are rejects, or nothing: what names can be found in them says nothing of the rows.
#[test]
fn a_message_without_a_row_is_no_change() {
    let good = |offset| (offset, Some(r#"{"op":"c","before":null,"after":{"id":1,"q":1,"r":2},"source":{"ts_ms":1}}"#.to_string()));
    for bad in [
        r#"{"op":"c","after":{"id":7,"q":1}"#,
        r#"{"op":"q","after":{"id":2}}"#,
        r#"{"op":"m","after":{"id":7,"q":1}}"#,
        r#"{"op":"c","after":{"id":null}}"#,
        r#"{"after":{"id":1,"q":1},"op":17}"#,
        r#"{"op":"c","after":{"id":1,"q":1},"sou"#,
        r#"{"op":"c","after":{"id":1,"q":1}}{"op":"c"}"#,
    ] {
        for policy in [SchemaPolicy::Exception, SchemaPolicy::Evolve, SchemaPolicy::Lenient] {
            let mut guard = guard(policy, "id int, q int, r int");
            // Also where it is the first that comes.
            let found = told(&mut guard, &[(0, Some(bad.into())), good(1), (2, Some(bad.into()))]);
            assert_eq!(found, (vec![0, 1, 2], Vec::new(), None), "{bad}, {policy:?}");
            assert_eq!(told(&mut guard, &[(3, Some(bad.into()))]), (vec![3], Vec::new(), None), "{bad}, {policy:?}");
            assert_eq!(told(&mut guard, &[good(4)]), (vec![4], Vec::new(), None), "{bad}, {policy:?}");
            // A row without the column is one, and so is one whose key has another name.
            for row in [r#"{"op":"c","after":{"id":7,"q":1}}"#, r#"{"op":"c","after":{"no":7,"q":1,"r":1}}"#] {
                let accepted = policy == SchemaPolicy::Lenient;
                let found = told(&mut guard, &[(5, Some(row.into()))]);
                assert!(found.1.len() == usize::from(accepted) && found.2.is_none() == accepted, "{bad}, {policy:?}, {row}: {found:?}");
                if !accepted {
                    break;
                }
            }
        }
    }
}
