//! How fast messages become packed fields: our decoder, and `serde_json` typed as a peer; and rows JSON text again.
//!
//! The events are those of the reference workload: half a snapshot, half changes with both images, of a source table with
//! nine columns (eight wanted) and a target table with seven. One thread. `cargo bench --bench decode [-- FILTER]`.

use std::{hint::black_box, time::Instant};

use serde::Deserialize;
use tieout::{
    format::{Batch, Message, decoder, encode::RowEncoder},
    plan::{Format, LogSpec, Source, Wire},
    row::{self, Column, RowWriter, Type},
};

const EVENTS: usize = 400_000;
const ROUNDS: usize = 7;

/// xorshift: the same events each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn day(random: &mut Random) -> String {
    if random.below(10) < 7 { format!("\"2026-{:02}-{:02}\"", 1 + random.below(12), 1 + random.below(28)) } else { "null".into() }
}

fn source_row(random: &mut Random, id: u64, ts: u64) -> String {
    let currency = ["\"EUR\"", "\"USD\"", "\"CNY\"", "null"][random.below(4) as usize];
    let stage = ["Closed Won", "Closed Lost", "Negotiation", "Proposal", "Draft"][random.below(5) as usize];
    format!(
        r#"{{"id":{id},"account_id":{},"owner":"User{}","amount":"{}.{:02}","currency":{currency},"stage":"{stage}","probability":{},"closed_at":{},"updated_at":{ts}}}"#,
        random.below(100_000),
        random.below(500),
        random.below(100_000),
        random.below(100),
        random.below(101),
        day(random)
    )
}

fn target_row(random: &mut Random, id: u64) -> String {
    let currency = ["EUR", "USD", "CNY"][random.below(3) as usize];
    let status = ["confirmed", "cancelled", "open"][random.below(3) as usize];
    format!(
        r#"{{"order_id":"SO-{id}","customer":{},"status":"{status}","amount":"{}.{:02}","currency":"{currency}","closed_on":{},"owner":"user{}"}}"#,
        random.below(100_000),
        random.below(100_000),
        random.below(100),
        day(random),
        random.below(500)
    )
}

/// Lines, without their line feeds.
fn events(row: impl Fn(&mut Random, u64, u64) -> String, db: &str, table: &str, both: Option<bool>) -> Vec<String> {
    let mut random = Random(7);
    (0..EVENTS)
        .map(|i| {
            let (id, ts) = (random.below(1_000_000), 1_780_000_000_000 + i as u64);
            let after = row(&mut random, id, ts);
            let change = both.unwrap_or(i >= EVENTS / 2);
            let before = if change { row(&mut random, id, ts - 1000) } else { "null".into() };
            let op = if change { "u" } else { "r" };
            format!(
                r#"{{"before":{before},"after":{after},"source":{{"connector":"postgresql","db":"{db}","schema":"public","table":"{table}","ts_ms":{ts},"lsn":{i}}},"op":"{op}","ts_ms":{}}}"#,
                ts + 3
            )
        })
        .collect()
}

fn source(columns: &[(&str, &str)], key: usize) -> Source {
    Source {
        name: "bench".into(),
        dataflow: "bench".into(),
        owner: None,
        connection: 0,
        log: LogSpec::Files(Vec::new()),
        format: Format::DebeziumJson,
        columns: columns.iter().map(|(name, ty)| Column { name: (*name).into(), ty: Type::parse(ty).expect("a type") }).collect(),
        key: vec![key],
        wire: Wire::default(),
        schema_change: None,
        required: std::sync::Arc::default(),
        schemas: None,
        comment: None,
    }
}

/// Prints the best round: the machine is shared, so the best is nearest to the truth.
fn measure(name: &str, events: &[String], mut run: impl FnMut(&[String])) {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    if !name.contains(&filter) {
        return;
    }
    let bytes: usize = events.iter().map(String::len).sum();
    let seconds = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            run(events);
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min);
    println!(
        "{name:<44} {:6.2} M messages/s  {:5.0} ns  {:5.2} GB/s  (mean {} B)",
        events.len() as f64 / seconds / 1e6,
        seconds * 1e9 / events.len() as f64,
        bytes as f64 / seconds / 1e9,
        bytes / events.len()
    );
}

fn ours(source: &Source, wanted: &[bool]) -> impl FnMut(&[String]) {
    let mut decoder = decoder(source, wanted);
    let mut batch = Batch::default();
    let columns = source.columns.len();
    move |events| {
        for chunk in events.chunks(2048) {
            batch.clear(columns);
            for event in chunk {
                decoder.decode(Message { value: Some(event.as_bytes()), ..Message::default() }, &mut batch);
            }
            assert!(batch.rejects.is_empty());
            black_box(&batch);
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a, R> {
    #[serde(borrow)]
    op: &'a str,
    after: Option<R>,
    source: Origin,
}

#[derive(Deserialize)]
struct Origin {
    ts_ms: i64,
}

#[derive(Deserialize)]
struct Opportunity<'a> {
    id: i64,
    account_id: i64,
    owner: &'a str,
    amount: &'a str,
    currency: Option<&'a str>,
    stage: &'a str,
    closed_at: Option<&'a str>,
    updated_at: i64,
}

/// Typed decoding, `before` skipped, packed as ours packs.
fn peer(events: &[String]) {
    let mut out = Vec::new();
    for chunk in events.chunks(2048) {
        out.clear();
        for event in chunk {
            let event: Envelope<Opportunity> = serde_json::from_slice(event.as_bytes()).expect("an event");
            black_box((event.op, event.source.ts_ms));
            let Some(o) = event.after else { continue };
            row::pack_int(&mut out, o.id);
            row::pack_int(&mut out, o.account_id);
            row::pack_bytes(&mut out, o.owner.as_bytes());
            row::pack_decimal(&mut out, row::parse_decimal(o.amount.as_bytes(), 18, 2).expect("a decimal"));
            if let Some(currency) = o.currency {
                row::pack_bytes(&mut out, currency.as_bytes());
            }
            row::pack_bytes(&mut out, o.stage.as_bytes());
            if let Some(day) = o.closed_at {
                row::pack_int(&mut out, i64::from(row::parse_date(day).expect("a date")));
            }
            row::pack_int(&mut out, o.updated_at);
        }
        black_box(&out);
    }
}

/// The packed rows of events, to be written as JSON.
fn packed(source: &Source, events: &[String]) -> Vec<Vec<u8>> {
    let mut decoder = decoder(source, &vec![true; source.columns.len()]);
    let mut batch = Batch::default();
    batch.clear(source.columns.len());
    for event in events {
        decoder.decode(Message { value: Some(event.as_bytes()), ..Message::default() }, &mut batch);
    }
    let rows = (0..batch.records.len()).map(|r| {
        let mut out = Vec::new();
        let mut row = RowWriter::new(&mut out, source.columns.len());
        batch.row(r).iter().for_each(|span| row.field(span.field(&batch.bytes)));
        row.finish();
        out
    });
    rows.collect()
}

/// The best round of writing rows as JSON lines.
fn measure_rows(source: &Source, rows: &[Vec<u8>]) {
    let encoder = RowEncoder::new(&source.columns);
    let mut out = Vec::new();
    let seconds = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for rows in rows.chunks(2048) {
                out.clear();
                for row in rows {
                    encoder.row(row, &mut out);
                    out.push(b'\n');
                }
                black_box(&out);
            }
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min);
    println!("{:<44} {:6.2} M rows/s", "rows of seven columns as JSON", rows.len() as f64 / seconds / 1e6);
}

fn main() {
    let crm = source(
        &[
            ("id", "bigint"),
            ("account_id", "bigint"),
            ("owner", "varchar"),
            ("amount", "decimal(18,2)"),
            ("currency", "varchar"),
            ("stage", "varchar"),
            ("probability", "int"),
            ("closed_at", "date"),
            ("updated_at", "bigint"),
        ],
        0,
    );
    let mut wanted = [true; 9];
    wanted[6] = false;
    let erp = source(
        &[
            ("order_id", "varchar"),
            ("customer", "bigint"),
            ("status", "varchar"),
            ("amount", "decimal(18,2)"),
            ("currency", "varchar"),
            ("closed_on", "date"),
            ("owner", "varchar"),
        ],
        0,
    );
    let mix = events(source_row, "crm", "opportunity", None);
    let snapshot = events(source_row, "crm", "opportunity", Some(false));
    let both = events(source_row, "crm", "opportunity", Some(true));
    let target = events(|random, id, _| target_row(random, id), "erp", "sales_order", None);
    measure("source, half with both images", &mix, ours(&crm, &wanted));
    measure("source, snapshot (no before)", &snapshot, ours(&crm, &wanted));
    measure("source, all with both images", &both, ours(&crm, &wanted));
    measure("source, both images, key only", &both, ours(&crm, &[false; 9]));
    measure("target, half with both images", &target, ours(&erp, &[true; 7]));
    measure_rows(&erp, &packed(&erp, &target));
    measure("peer: serde_json typed, source half both", &mix, peer);
    measure("peer: serde_json typed, source both", &both, peer);
}
