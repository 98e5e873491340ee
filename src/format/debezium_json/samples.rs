//! Events that real connectors sent, each decoded to what it says. `tests/samples/debezium/README.md` tells what they are.

use serde::Deserialize;

use super::*;
use crate::{
    format::testing::{show, source},
    plan::{Wire, WireDecimals, WireTimes},
};

#[derive(Deserialize)]
struct Captured {
    topic: String,
    offset: i64,
    key: Option<String>,
    value: Option<String>,
    timestamp: i64,
}

fn captured(file: &str) -> Vec<Captured> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/debezium").join(file).with_extension("ndjson");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("a captured record")).collect()
}

pub(in crate::format) const PRECISE: Wire = Wire { decimals: WireDecimals::Precise, times: WireTimes::Adaptive, hex: false };

/// The records of a topic of a file as text; source times are left out but checked to be what `source_time` says.
fn decode(file: &str, topic: &str, columns: &str, key: &str, wire: Wire) -> String {
    let source = crate::plan::Source { wire, ..source("debezium-json", columns, key) };
    let mut decoder = DebeziumJson::new(&source, &vec![true; source.columns.len()]);
    let mut batch = Batch::default();
    batch.clear(source.columns.len());
    for record in captured(file).iter().filter(|r| r.topic == topic) {
        let before = batch.records.len();
        let message = Message {
            key: record.key.as_deref().map(str::as_bytes),
            value: record.value.as_deref().map(str::as_bytes),
            offset: record.offset,
            timestamp: Some(record.timestamp),
        };
        decoder.decode(message, &mut batch);
        assert!(batch.records.len() > before, "each message leaves a record");
        for r in &mut batch.records[before..] {
            // A heartbeat says when the connector was there, and not how far its source is.
            let time = decoder.source_time(message).filter(|_| !topic.starts_with("__debezium-heartbeat"));
            assert_eq!((r.offset, r.source_time), (record.offset, time.unwrap_or(i64::MIN)));
            r.source_time = i64::MIN;
        }
    }
    show(&batch, &source)
}

/// The lines of `expected` are those of the topic.
fn check(file: &str, topic: &str, columns: &str, key: &str, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(decode(file, topic, columns, key, PRECISE), expected.join("\n"), "{file} {topic}");
}

const CUSTOMER: &str = "id int, name varchar, email varchar, credit decimal(12,2), tier varchar, active bool, updated_at timestamptz";

/// A delete names its key and nothing else.
const GONE: &str = "name=? email=? credit=? tier=? active=? updated_at=?";

#[test]
fn postgres_rows_and_their_changes() {
    let (topic, full) = ("crm.public.customer", "crm.public.customer_full");
    for t in [topic, full] {
        check(
            "postgres/01-snapshot",
            t,
            CUSTOMER,
            "id",
            "
            upsert id=1 name=Ada email=ada@example.com credit=100.00 tier=gold active=true updated_at=2026-01-01T00:00:00Z
            upsert id=2 name=Bob email=- credit=- tier=bronze active=false updated_at=2026-01-02T00:00:00Z",
        );
    }
    check(
        "postgres/02-insert",
        topic,
        CUSTOMER,
        "id",
        "upsert id=3 name=Cyd email=c@example.com credit=5.10 tier=silver active=true updated_at=2026-02-01T00:00:00Z",
    );
    check("postgres/02-insert", "crm.transaction", CUSTOMER, "id", "skip\nskip");
    check(
        "postgres/03-update-identity-default",
        topic,
        CUSTOMER,
        "id",
        "upsert id=3 name=Cyd email=c@example.com credit=7.25 tier=silver active=true updated_at=2026-02-02T00:00:00Z",
    );
    check(
        "postgres/04-update-identity-full",
        full,
        CUSTOMER,
        "id",
        "upsert id=2 name=Bob email=- credit=7.25 tier=bronze active=false updated_at=2026-01-02T00:00:00Z",
    );
}

#[test]
fn a_delete_is_its_key_whatever_before_invents() {
    let twice = |id: i32| format!("delete id={id} {GONE}\ndelete id={id} {GONE}");
    check("postgres/05-delete-identity-default", "crm.public.customer", CUSTOMER, "id", &twice(3));
    check("postgres/06-delete-identity-full", "crm.public.customer_full", CUSTOMER, "id", &twice(2));
    check("mariadb/04-delete", "erp.erp.account", CUSTOMER, "id", &twice(3));
    let moved = twice(2) + "\nupsert id=20 name=Bob email=- credit=- tier=bronze active=false updated_at=2026-01-02T00:00:00Z";
    check("postgres/07-primary-key-change", "crm.public.customer", CUSTOMER, "id", &moved);
    check("mariadb/05-primary-key-change", "erp.erp.account", CUSTOMER, "id", &moved);
    check(
        "postgres/10-identity-using-index",
        "crm.public.by_index",
        "id int, code varchar, v varchar",
        "code",
        "
        upsert id=1 code=c1 v=y
        delete id=? code=c1 v=?
        delete id=? code=c1 v=?
        upsert id=1 code=c2 v=y
        delete id=? code=c2 v=?
        delete id=? code=c2 v=?",
    );
}

#[test]
fn an_unchanged_toast_value_is_unknown() {
    let columns = "id int, title varchar, body varchar";
    check("postgres/08-toast-unchanged", "crm.public.doc", columns, "id", "upsert id=1 title=one, again body=!");
    let full = decode("postgres/08-toast-unchanged", "crm.public.doc_full", columns, "id", PRECISE);
    // md5 of "1".
    assert!(full.starts_with("upsert id=1 title=one, again body=c4ca4238a0b923820dcc509a6f75849b") && full.len() > 9000);
    let maria = decode("mariadb/06-long-text-is-always-whole", "erp.erp.doc", columns, "id", PRECISE);
    assert_eq!(maria, format!("upsert id=1 title=four body={}", "long text ".repeat(900)));
}

#[test]
fn a_table_without_key_takes_the_declared_one() {
    let expected = |at: &str| {
        format!(
            "
        upsert at={at} what=a
        upsert at={at} what=a
        delete at={at} what=a
        upsert at={at} what=b
        delete at={at} what=a
        upsert at={at} what=b
        delete at={at} what=b
        skip
        delete at={at} what=b
        skip"
        )
    };
    check("postgres/09-no-key-table", "crm.public.audit_nokey", "at timestamptz, what varchar", "at,what", &expected("2026-02-01T00:00:00Z"));
    check("mariadb/07-no-key-table", "erp.erp.nokey", "at timestamp(3), what varchar", "at,what", &expected("2026-02-01T00:00:00"));
}

#[test]
fn a_table_without_key_is_its_whole_rows() {
    let expected = |at: &str| {
        format!(
            "
        upsert at={at} what=a
        upsert at={at} what=a
        delete at={at} what=a
        upsert at={at} what=b
        delete at={at} what=a
        upsert at={at} what=b
        delete at={at} what=b
        skip
        delete at={at} what=b
        skip"
        )
    };
    check("postgres/09-no-key-table", "crm.public.audit_nokey", "at timestamptz, what varchar", "", &expected("2026-02-01T00:00:00Z"));
    check("mariadb/07-no-key-table", "erp.erp.nokey", "at timestamp(3), what varchar", "", &expected("2026-02-01T00:00:00"));
    // Under the default identity a delete invents what it does not know: that is no row that anybody knows.
    check(
        "postgres/05-delete-identity-default",
        "crm.public.customer",
        CUSTOMER,
        "",
        "
        delete id=3 name= email=- credit=- tier=bronze active=true updated_at=1970-01-01T00:00:00Z
        skip",
    );
    check(
        "postgres/04-update-identity-full",
        "crm.public.customer_full",
        CUSTOMER,
        "",
        "
        delete id=2 name=Bob email=- credit=- tier=bronze active=false updated_at=2026-01-02T00:00:00Z
        upsert id=2 name=Bob email=- credit=7.25 tier=bronze active=false updated_at=2026-01-02T00:00:00Z",
    );
    let without = "operation `u` has no `before`, and a table without a key needs it: set REPLICA IDENTITY FULL in PostgreSQL, binlog_row_image=FULL in MariaDB and MySQL";
    let rejected = decode("postgres/03-update-identity-default", "crm.public.customer", CUSTOMER, "", PRECISE);
    assert!(rejected.starts_with(&format!("reject BEFORE_INCOMPLETE {without}")), "{rejected}");
    check("postgres/14-truncate", "crm.public.order_line", "order_id int, sku varchar", "", "truncate");
}

#[test]
fn a_transaction_over_tables_is_its_rows() {
    let line = "order_id int, line_no int, sku varchar, qty int";
    check(
        "postgres/11-transaction-many-tables",
        "crm.public.customer",
        CUSTOMER,
        "id",
        "
        upsert id=30 name=Dee email=- credit=- tier=bronze active=true updated_at=2026-02-03T00:00:00Z
        upsert id=30 name=Dee email=- credit=- tier=bronze active=false updated_at=2026-02-03T00:00:00Z",
    );
    check(
        "postgres/11-transaction-many-tables",
        "crm.public.order_line",
        line,
        "order_id,line_no",
        "
        upsert order_id=30 line_no=1 sku=A-1 qty=1
        upsert order_id=30 line_no=2 sku=B-2 qty=2
        upsert order_id=30 line_no=1 sku=A-1 qty=9
        delete order_id=30 line_no=2 sku=? qty=?
        delete order_id=30 line_no=2 sku=? qty=?
        upsert order_id=31 line_no=1 sku=never qty=1",
    );
    assert!(captured("postgres/12-aborted-transaction-is-silent").is_empty());
    check("postgres/14-truncate", "crm.public.order_line", line, "order_id,line_no", "truncate");
    check(
        "mariadb/08-transaction-many-tables",
        "erp.erp.account",
        CUSTOMER,
        "id",
        "upsert id=30 name=Dee email=- credit=- tier=bronze active=true updated_at=2026-02-03T00:00:00Z",
    );
    let line = "invoice int, line int, sku varchar, qty int";
    check(
        "mariadb/08-transaction-many-tables",
        "erp.erp.invoice_line",
        line,
        "invoice,line",
        "
        upsert invoice=30 line=1 sku=A-1 qty=1
        upsert invoice=30 line=2 sku=B-2 qty=2
        upsert invoice=30 line=1 sku=A-1 qty=9
        delete invoice=30 line=2 sku=? qty=?
        delete invoice=30 line=2 sku=? qty=?",
    );
    check("mariadb/10-truncate", "erp.erp.invoice_line", line, "invoice,line", "truncate");
}

/// Rows of an incremental snapshot come between changes, and without a position in the database's own log: they are the newest
/// of their topic, as any other record.
#[test]
fn an_incremental_snapshot_is_rows() {
    let file = "postgres/15-incremental-snapshot";
    let line = "order_id int, line_no int, sku varchar, qty int";
    check(
        file,
        "crm.public.order_line",
        line,
        "order_id,line_no",
        "
        upsert order_id=50 line_no=1 sku=S-1 qty=1
        upsert order_id=50 line_no=2 sku=S-2 qty=2
        upsert order_id=50 line_no=3 sku=S-3 qty=3
        upsert order_id=50 line_no=4 sku=S-4 qty=4
        upsert order_id=50 line_no=5 sku=S-5 qty=5",
    );
    let events = |topic: &str| -> Vec<serde_json::Value> {
        let of_topic = captured(file).into_iter().filter(|r| r.topic == topic);
        of_topic.map(|r| serde_json::from_str(&r.value.expect("an event")).expect("JSON")).collect()
    };
    for event in events("crm.public.order_line") {
        let source = &event["source"];
        assert_eq!((&event["op"], &source["snapshot"]), (&"r".into(), &"incremental".into()));
        assert!(event["transaction"].is_null() && source["txId"].is_null() && source["lsn"].is_null());
    }
    // The signal that asked for it, and a window a chunk: rows of the signal table, which change nothing elsewhere.
    let signals: Vec<_> = events("crm.public.dbz_signal").iter().map(|e| e["after"]["type"].as_str().unwrap_or_default().to_string()).collect();
    let windows = ["snapshot-window-open", "snapshot-window-close"];
    assert_eq!(signals[0], "execute-snapshot");
    assert_eq!(signals[1..], windows.repeat(4));
    let decoded = decode(file, "crm.public.dbz_signal", "id varchar, type varchar", "id", PRECISE);
    assert_eq!(decoded.lines().count(), signals.len());
    assert!(decoded.lines().zip(&signals).all(|(line, signal)| line.starts_with("upsert id=") && line.ends_with(&format!(" type={signal}"))), "{decoded}");
    check(file, "crm.transaction", line, "order_id,line_no", &"skip\n".repeat(18));
    check(
        "mariadb/11-incremental-snapshot",
        "erp.erp.invoice_line",
        "invoice int, line int, sku varchar, qty int",
        "invoice,line",
        "
        upsert invoice=50 line=1 sku=S-1 qty=1
        upsert invoice=50 line=2 sku=S-2 qty=2
        upsert invoice=50 line=3 sku=S-3 qty=3",
    );
}

#[test]
fn messages_that_are_no_rows_move_only_the_time() {
    let skips = |n: usize| "skip\n".repeat(n);
    check("postgres/16-logical-message", "crm.message", CUSTOMER, "id", &skips(2));
    check("postgres/16-logical-message", "crm.transaction", CUSTOMER, "id", &skips(2));
    check("postgres/17-heartbeat", "__debezium-heartbeat.beat", CUSTOMER, "id", &skips(3));
    check("mariadb/12-heartbeat", "__debezium-heartbeat.beat2", CUSTOMER, "id", &skips(3));
    check("mariadb/01-snapshot-and-schema-topic", "erp", CUSTOMER, "id", &skips(16));
    check("mariadb/09-schema-change", "erp", CUSTOMER, "id", &skips(4));
    check("mariadb/09-schema-change", "erp.transaction", CUSTOMER, "id", &skips(10));
}

#[test]
fn a_changed_table_shows_in_the_shape_of_its_rows() {
    // Without a schema, the same bytes mean another amount after ALTER: facts, 6. The declaration must follow.
    check(
        "postgres/13-schema-change",
        "crm.public.customer",
        "id int, name varchar, email varchar, mail varchar, phone varchar, credit decimal(14,4)",
        "id",
        "
        upsert id=1 name=Ada email=? mail=ada@example.com phone=+49 1 credit=1.0000
        upsert id=1 name=Ada email=? mail=ada@example.com phone=+49 1 credit=1.2345
        upsert id=1 name=Ada L. email=? mail=ada@example.com phone=? credit=1.2345",
    );
    check(
        "mariadb/09-schema-change",
        "erp.erp.account",
        "id int, phone varchar, credit decimal(14,4)",
        "id",
        "
        upsert id=1 phone=+49 1 credit=1.0000
        upsert id=1 phone=+49 1 credit=1.2345",
    );
    check("mariadb/09-schema-change", "erp.erp.account_v2", "id int, name varchar, credit decimal(14,4)", "id", "upsert id=1 name=Ada L. credit=1.2345");
}

#[test]
fn mariadb_rows_and_their_changes() {
    let topic = "erp.erp.account";
    check(
        "mariadb/01-snapshot-and-schema-topic",
        topic,
        CUSTOMER,
        "id",
        "
        upsert id=1 name=Ada email=ada@example.com credit=100.00 tier=gold active=true updated_at=2026-01-01T00:00:00Z
        upsert id=2 name=Bob email=- credit=- tier=bronze active=false updated_at=2026-01-02T00:00:00Z",
    );
    check(
        "mariadb/02-insert",
        topic,
        CUSTOMER,
        "id",
        "upsert id=3 name=Cyd email=c@example.com credit=5.10 tier=silver active=true updated_at=2026-02-01T00:00:00Z",
    );
    check(
        "mariadb/03-update",
        topic,
        CUSTOMER,
        "id",
        "upsert id=3 name=Cyd email=c@example.com credit=7.25 tier=silver active=true updated_at=2026-02-01T00:00:00Z",
    );
}

/// The records of one row of the tables of types, without what is NULL.
pub(in crate::format) fn types(file: &str, topic: &str, columns: &str, wire: Wire, id: i32) -> Vec<String> {
    let all = decode(file, topic, columns, "id", wire);
    let of_id = format!(" id={id} ");
    all.lines().filter(|line| line.contains(&of_id)).map(|line| line.split(' ').filter(|word| !word.ends_with("=-")).collect::<Vec<_>>().join(" ")).collect()
}

pub(in crate::format) const POSTGRES: &str = "id int, si smallint, i int, bi bigint, n122 decimal(12,2), n_free decimal(38,9), m decimal(19,2), dom decimal(12,2), r double, \
    d double, b bool, dt date, t time, t3 time(3), tz time, ts timestamp, ts3 timestamp(3), tstz timestamptz, u uuid, j json, jb json, by bytes, txt varchar, \
    vc varchar(20), ch varchar(5), ci varchar, ai int[], at text[], an array, ats array, e varchar, ae array, ip varchar, pt json, r4 varchar, bit1 bool, \
    bit8 bytes, vbit bytes, h json, oid_ bigint, gen decimal(38,2)";

/// `binary.handling.mode=hex`, and times of day in microseconds where `adaptive` counts milliseconds.
#[test]
fn hexadecimal_bytes_and_mariadbs_times_of_day() {
    let hex = Wire { hex: true, ..Wire::default() };
    let bytes = |file: &str, topic: &str, columns: &str, wire| types(file, topic, &format!("id int, {columns}"), wire, 1)[0].clone();
    assert_eq!(bytes("postgres/23-types-double-isostring", "t23.public.types", "by bytes", hex), "upsert id=1 by=deadbeef00");
    let maria = ("mariadb/23-types-double-isostring", "m23.erp.types");
    assert_eq!(bytes(maria.0, maria.1, "bin bytes, vbin bytes, bl bytes", hex), "upsert id=1 bin=deadbeef vbin=00ff bl=deadbeef00");
    // Where a schema says bytes, they are base64 whatever is declared.
    assert_eq!(bytes("mariadb/21-types-precise-default-schemas", "m21.erp.types", "bin bytes", hex), "upsert id=1 bin=deadbeef");
    let times = |times| {
        let wire = Wire { times, ..PRECISE };
        bytes("mariadb/20-types-precise-default", "m20.erp.types", "t time(3), t6 time, dtm3 timestamp(3), dtm6 timestamp", wire)
    };
    let expected = "upsert id=1 t=13:14:15 t6=13:14:15.123456 dtm3=2026-03-29T02:30:00.123 dtm6=2026-03-29T02:30:00.123456";
    assert_eq!(times(WireTimes::AdaptiveTimeMicroseconds), expected);
    assert!(times(WireTimes::Adaptive).starts_with("reject VALUE_OUT_OF_RANGE column `t`"), "{}", times(WireTimes::Adaptive));
}

/// The settings in which the table of types was captured: what its file and topic are, and what a source declares.
fn postgres_settings() -> [(u8, &'static str, Wire); 5] {
    [
        (20, "postgres/20-types-precise-adaptive", PRECISE),
        (21, "postgres/21-types-precise-adaptive-schemas", Wire::default()),
        (22, "postgres/22-types-string-connect-schemas", Wire::default()),
        (23, "postgres/23-types-double-isostring", Wire::default()),
        (24, "postgres/24-types-string-microseconds", Wire { times: WireTimes::Microseconds, ..Wire::default() }),
    ]
}

#[test]
fn postgres_types_are_equal_by_value_in_all_settings() {
    for (setting, file, wire) in postgres_settings() {
        let topic = format!("t{setting}.public.types");
        // In hexadecimal digits here, and the bit strings beside it in base64: see `hexadecimal_bytes_and_mariadbs_times_of_day`.
        let columns = if setting == 23 { POSTGRES.replace("by bytes", "by varchar") } else { POSTGRES.to_string() };
        let row = |id| types(file, &topic, &columns, wire, id);
        let mut usual = "upsert id=1 si=7 i=42 bi=9007199254740993 n122=1234.50 n_free=12345.678900000 m=99.95 dom=10.10 r=0.1 d=0.1 b=true dt=2026-03-29 \
            t=13:14:15.123456 t3=13:14:15.123 tz=11:14:15.500000 ts=2026-03-29T01:59:59.999999 ts3=2026-03-29T02:30:00.123 tstz=2026-03-29T01:00:00.000001Z \
            u=6f1c8b1e-0d5e-4c7a-9a53-0f4dd3c3b111 j={\"b\": 1, \"a\":  [1.10, null]} jb={\"a\": [1.10, null], \"b\": 1} by=deadbeef00 txt=plain vc=var \
            ch=ab    ci=CaseLess ai=[1,2,null] at=[\"a\",\"b,c\",null] an=[\"1.10\",\"2.20\"] ats=[\"2026-03-29T01:00:00.000000Z\"] e=gold ae=[\"bronze\",\"gold\"] ip=10.0.0.1 \
            pt={\"x\":1.5,\"y\":2.5,\"wkb\":\"AQEAAAAAAAAAAAD4PwAAAAAAAARA\",\"srid\":null} r4=[1,5) bit1=true bit8=a5 vbit=05 h={\"k\":\"v\",\"n\":null} oid_=4294967295 \
            gen=2469.00".to_string();
        match setting {
            // Arrays are opaque: of decimals they keep the connector's spelling.
            20 | 21 => usual = usual.replace("[\"1.10\",\"2.20\"]", "[\"bg==\",\"ANw=\"]"),
            // Connect's times have milliseconds: the connector lost the rest.
            22 => usual = usual.replace("t=13:14:15.123456", "t=13:14:15.123000").replace(":59.999999", ":59.999000"),
            23 => usual = usual.replace("[\"1.10\",\"2.20\"]", "[1.1,2.2]"),
            _ => {}
        }
        // The generated column is absent from the stream: missing, not NULL.
        let changed = usual.replace("si=7", "si=1").replace("gen=2469.00", "gen=?");
        assert_eq!(row(1), [usual, changed], "{file}");
        assert_eq!(row(2), ["upsert id=2"], "{file}");
        assert_eq!(
            row(5),
            [
                "upsert id=5 j={\"k\":\"\\u00e9 \\ud83d\\ude00 é\"} txt=Zoë 日本語 Ω 👩‍👩‍👧‍👦 e\u{301} \u{202e}RTL \u{1} \u{2028} \"q\" \\ / vc=ÄÖÜß ch=é     at=[\"ä\",\"\",\"NULL\"]"
            ],
            "{file}"
        );
        assert_eq!(row(6), ["upsert id=6 n_free=100.000000000 ai=[null,null] at=[] an=[]"], "{file}");
    }
}

#[test]
fn postgres_extremes_are_exact_or_rejected() {
    for (setting, file, wire) in postgres_settings() {
        let topic = format!("t{setting}.public.types");
        let reject = |column: &str, id| {
            let columns = format!("id int, {column}");
            let found = types(file, &topic, &columns, wire, id).join("\n");
            assert!(found.starts_with(&format!("reject VALUE_OUT_OF_RANGE column `{}`", column.split(' ').next().unwrap_or_default())), "{file}: {found}");
        };
        reject("tstz timestamptz", 3);
        // 39 digits.
        reject("n_free decimal(38,9)", 4);
        let columns = "id int, si smallint, i int, bi bigint, n122 decimal(12,2), r double, d double, t time, j json, txt varchar, gen decimal(38,2)";
        let t = if setting == 23 { "00:00:00" } else { "24:00:00" };
        let stream = format!("upsert id=3 si=1 i=-2147483648 bi=-9223372036854775808 n122=-9999999999.99 r=NaN d=Infinity t={t} j=null txt= gen=?");
        let snapshot = stream.replace("si=1 ", "si=-32768 ").replace("gen=?", "gen=-19999999999.98");
        assert_eq!(types(file, &topic, columns, wire, 3), [snapshot, stream], "{file}");
        // Years before Christ come as years after it, 0001-01-01 two days early: the connector's doing.
        assert_eq!(
            types(file, &topic, "id int, bi bigint, n122 decimal(12,2), d double, dt date, ts timestamp, tstz timestamptz", wire, 4),
            ["upsert id=4 bi=9223372036854775807 n122=0.00 d=1e-310 dt=0044-03-15 ts=0000-12-30T00:00:00 tstz=9999-12-31T23:59:59.999999Z"],
            "{file}"
        );
        // NaN is null under `precise`, else a numeric that no decimal holds.
        match setting {
            20 | 21 => assert_eq!(types(file, &topic, "id int, n_free decimal(38,9)", wire, 3), ["upsert id=3", "upsert id=3"]),
            _ => reject("n_free decimal(38,9)", 3),
        }
        // PostgreSQL's least money went through a double, save in the stream of `precise` and `string`.
        let money = |at: usize| types(file, &topic, "id int, m decimal(19,2)", wire, 3)[at].clone();
        assert_eq!(money(0), "upsert id=3 m=-92233720368547760.00");
        assert_eq!(money(1), if setting == 23 { "upsert id=3 m=-92233720368547760.00" } else { "upsert id=3 m=-92233720368547758.08" });
        // 'infinity' is the same number of microseconds in text and number; as a date it differs from snapshot to stream.
        assert_eq!(types(file, &topic, "id int, ts timestamp", wire, 3), ["upsert id=3 ts=epoch+9223372036825200000us"; 2]);
        match setting {
            23 => reject("dt date", 3),
            _ => assert_eq!(types(file, &topic, "id int, dt date", wire, 3), ["upsert id=3 dt=epoch-622191234d", "upsert id=3 dt=epoch-2147472692d"]),
        }
    }
}

const MARIADB: &str = "id int, ti tinyint, ti1 bool, si int, mi int, i bigint, bi bigint, n122 decimal(12,2), n decimal(30,10), f double, d double, b1 bool, \
    b8 bytes, bo bool, y int, dt date, t time, t6 time, dtm timestamp(3), dtm3 timestamp(3), dtm6 timestamp, ts timestamptz, ts6 timestamptz, ch varchar, \
    vc varchar, tx varchar, bin bytes, vbin bytes, bl bytes, j json, e varchar, s varchar, u uuid, pt json, ci varchar, gen decimal(14,2)";

#[test]
fn mariadb_types_are_equal_by_value_in_all_settings() {
    for (setting, file, wire) in [
        // MariaDB's connector counts all times in microseconds, which `adaptive` of a declared time(3) would not.
        (20, "mariadb/20-types-precise-default", PRECISE),
        (21, "mariadb/21-types-precise-default-schemas", Wire::default()),
        (22, "mariadb/22-types-string-connect", Wire { times: WireTimes::Connect, ..Wire::default() }),
        (23, "mariadb/23-types-double-isostring", Wire::default()),
    ] {
        let topic = format!("m{setting}.erp.types");
        // See `postgres_types_are_equal_by_value_in_all_settings`.
        let columns = if setting == 23 {
            ["bin", "vbin", "bl"].iter().fold(MARIADB.to_string(), |c, b| c.replace(&format!(" {b} bytes"), &format!(" {b} varchar")))
        } else {
            MARIADB.to_string()
        };
        let row = |id| types(file, &topic, &columns, wire, id);
        let mut usual = "upsert id=1 ti=-7 ti1=true si=65535 mi=-8388608 i=4294967295 bi=9007199254740993 n122=1234.50 n=12345.6789000000 f=0.1 d=0.1 b1=true b8=a5 \
            bo=true y=2026 dt=2026-03-29 t=13:14:15 t6=13:14:15.123456 dtm=2026-03-29T02:30:00 dtm3=2026-03-29T02:30:00.123 dtm6=2026-03-29T02:30:00.123456 \
            ts=2026-03-29T01:00:00Z ts6=2026-03-29T01:00:00.000001Z ch=ab vc=var tx=text bin=deadbeef vbin=00ff bl=deadbeef00 j={\"b\": 1, \"a\":  [1.10, null]} e=b s=x,z \
            u=6f1c8b1e-0d5e-4c7a-9a53-0f4dd3c3b111 pt={\"x\":1.5,\"y\":2.5,\"wkb\":\"AQEAAAAAAAAAAAD4PwAAAAAAAARA\",\"srid\":null} ci=Bin gen=2469.00".to_string();
        if setting == 22 {
            usual = usual.replace("t6=13:14:15.123456", "t6=13:14:15.123000").replace("dtm6=2026-03-29T02:30:00.123456", "dtm6=2026-03-29T02:30:00.123000");
        }
        assert_eq!(row(1), [usual.clone(), usual.replace("ti=-7", "ti=1")], "{file}");
        assert_eq!(row(2), ["upsert id=2"], "{file}");
        // A zero TIMESTAMP is null in the snapshot and 1970 in the stream.
        assert_eq!(row(4), ["upsert id=4", "upsert id=4 ti=1 ts=1970-01-01T00:00:00Z"], "{file}");
        assert_eq!(row(5), ["upsert id=5 ch=é vc=ÄÖÜß 日本語 👩‍👩‍👧‍👦 tx=e\u{301} \u{202e}RTL \u{0} \u{2028} \"q\" \\ / j={\"k\":\"é \\u00e9\"} e=ö"], "{file}");
        let extremes =
            types(file, &topic, "id int, ti tinyint, bi bigint, n122 decimal(12,2), d double, y int, dt date, ts6 timestamptz, gen decimal(14,2)", wire, 3);
        assert_eq!(
            extremes,
            [
                "upsert id=3 ti=-128 bi=-9223372036854775808 n122=-9999999999.99 d=1e-308 y=1901 dt=9999-12-31 ts6=2038-01-19T03:14:07.999999Z gen=-19999999999.98"
            ],
            "{file}"
        );
        // A time beyond a day is null in `connect` and `isostring`.
        let times = types(file, &topic, "id int, t time, t6 time, dtm6 timestamp", wire, 3);
        assert_eq!(
            times,
            [match setting {
                22 => "upsert id=3 dtm6=9999-12-31T23:59:59.999000",
                23 => "upsert id=3 dtm6=9999-12-31T23:59:59.999999",
                _ => "upsert id=3 t=-838:59:59 t6=838:59:59.999999 dtm6=9999-12-31T23:59:59.999999",
            }],
            "{file}"
        );
        // The largest BIGINT UNSIGNED is -1, or base64 in a message that has text for other decimals: not to be read.
        let unsigned = types(file, &topic, "id int, bu decimal(20,0)", wire, 1)[0].clone();
        assert!(unsigned.starts_with(if setting == 22 { "reject TYPE_MISMATCH column `bu`" } else { "upsert id=1 bu=-1" }), "{file}: {unsigned}");
    }
}
