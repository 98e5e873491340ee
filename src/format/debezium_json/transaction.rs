//! What messages say of transactions (Debezium's `provide.transaction.metadata`): of which one a change is a part, and where
//! transactions begin and end.
//!
//! PostgreSQL's id is `txId:LSN` with the LSN of that very record, so only what stands before the colon joins; MariaDB's is
//! the GTID, the same everywhere, and MySQL's has a UUID before its colon.

use serde::Deserialize;

use crate::format::scan::{Kind, Scan, Shape, Stop, Token};

// Fields of the envelope.
const TRANSACTION: usize = 0;
const OP: usize = 1;
const PAYLOAD: usize = 2;
const SOURCE: usize = 3;
const OTHER: usize = 4;

/// Of which transaction a change is a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// What joins the parts.
    pub id: &'a str,
    /// Its place in the transaction, from 1: the same in every copy of the message.
    pub order: Option<u64>,
    /// When the transaction was committed, in milliseconds since the epoch.
    pub time: Option<i64>,
}

/// Finds the transaction of change events, without reading anything else of them.
#[derive(Debug)]
pub struct Parts {
    envelope: Shape,
    transaction: Shape,
    source: Shape,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            envelope: Shape::new([("transaction", TRANSACTION), ("op", OP), ("payload", PAYLOAD), ("source", SOURCE)], OTHER),
            transaction: Shape::new([("id", 0), ("total_order", 1)], 2),
            source: Shape::new([("ts_ms", 0)], 1),
        }
    }
}

impl Parts {
    /// The transaction that a message is a part of; `None`: it is of none (snapshots, heartbeats), or can't be read, or
    /// stands for itself (MariaDB's and MySQL's TRUNCATE, which is a transaction alone, and of which no end is ever sent).
    pub fn of<'a>(&mut self, value: &'a [u8]) -> Option<Part<'a>> {
        let (mut fields, mut parts) = ([Token::MISSING; OTHER + 1], Tokens::default());
        let mut scan = Scan::new(value);
        self.envelope(&mut scan, &mut fields, &mut parts, true).ok()?;
        if fields[TRANSACTION].kind != Kind::Object || parts.transaction[0].kind != Kind::Text {
            return None;
        }
        let whole = std::str::from_utf8(parts.transaction[0].of(value)).ok()?;
        let id = joined(whole);
        if fields[OP].of(value) == b"t" && id.len() == whole.len() {
            return None;
        }
        Some(Part { id, order: number(parts.transaction[1], value), time: number(parts.source[0], value) })
    }

    fn envelope(&mut self, scan: &mut Scan, fields: &mut [Token], parts: &mut Tokens, outer: bool) -> Result<(), Stop> {
        let mut place = 0;
        let mut more = scan.enter()?;
        while more {
            let target = self.envelope.field(scan, &mut place)?;
            let object = scan.peek() == b'{';
            match target {
                TRANSACTION if object => fields[TRANSACTION] = scan.object(&mut self.transaction, &mut parts.transaction)?,
                SOURCE if object => fields[SOURCE] = scan.object(&mut self.source, &mut parts.source)?,
                PAYLOAD if outer && object => self.envelope(scan, fields, parts, false)?,
                _ => fields[target] = scan.value()?,
            }
            more = scan.more()?;
        }
        Ok(())
    }
}

/// What was found in the objects of an event: the transaction's `id` and `total_order`, the source's `ts_ms`; then the rest.
struct Tokens {
    transaction: [Token; 3],
    source: [Token; 2],
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens { transaction: [Token::MISSING; 3], source: [Token::MISSING; 2] }
    }
}

fn number<N: std::str::FromStr>(token: Token, value: &[u8]) -> Option<N> {
    std::str::from_utf8(token.of(value)).ok()?.parse().ok()
}

/// The part of a transaction's id that is the same in all of its messages.
pub fn joined(id: &str) -> &str {
    match id.split_once(':') {
        Some((before, _)) if !before.is_empty() && before.bytes().all(|b| b.is_ascii_digit()) => before,
        _ => id,
    }
}

/// A message of the log of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boundary {
    Begin {
        id: String,
    },
    /// With how many events of which table it has, as the connector names the table; of tables that nobody follows, too.
    End {
        id: String,
        counts: Vec<(String, u64)>,
        /// When it was committed, in milliseconds since the epoch.
        time: Option<i64>,
    },
}

#[derive(Deserialize)]
struct Message {
    status: Option<String>,
    id: Option<String>,
    ts_ms: Option<i64>,
    data_collections: Option<Vec<Count>>,
    payload: Option<Box<Message>>,
}

#[derive(Deserialize)]
struct Count {
    data_collection: String,
    event_count: u64,
}

/// Reads a message of the log of transactions, with or without its schema around it; `None`: it is none.
pub fn boundary(value: &[u8]) -> Option<Boundary> {
    let message: Message = serde_json::from_slice(value).ok()?;
    let message = match message.payload {
        Some(payload) if message.status.is_none() => *payload,
        _ => message,
    };
    let id = joined(message.id.as_deref()?).to_string();
    match message.status.as_deref()? {
        "BEGIN" => Some(Boundary::Begin { id }),
        "END" => {
            let counts = message.data_collections.unwrap_or_default();
            Some(Boundary::End { id, counts: counts.into_iter().map(|c| (c.data_collection, c.event_count)).collect(), time: message.ts_ms })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_its_transaction() {
        let mut parts = Parts::default();
        let of = |id, order| Some(Part { id, order, time: None });
        assert_eq!(parts.of(br#"{"op":"c","transaction":{"id":"755:27145752","total_order":3,"data_collection_order":1}}"#), of("755", Some(3)));
        assert_eq!(parts.of(br#"{"transaction":{"data_collection_order":1,"id":"0-1-20"},"op":"u","after":{"id":1}}"#), of("0-1-20", None));
        let timed = br#"{"source":{"db":"crm","ts_ms":17},"op":"c","transaction":{"id":"755:1","total_order":3}}"#;
        assert_eq!(parts.of(timed), Some(Part { id: "755", order: Some(3), time: Some(17) }));
        let wrapped = br#"{"schema":{"type":"struct"},"payload":{"before":null,"transaction":{"id":"3e11fa47-71ca-11e1-9e33-c80aa9429562:23","total_order":1},"op":"d"}}"#;
        assert_eq!(parts.of(wrapped), of("3e11fa47-71ca-11e1-9e33-c80aa9429562:23", Some(1)));
        for none in [
            &br#"{"op":"r","transaction":null}"#[..],
            br#"{"ts_ms":1}"#,
            br#"{"op":"c","transaction":{"total_order":1}}"#,
            br#"{"op":"c","transaction":{"id":7}}"#,
            br#"{"op":"t","transaction":{"id":"0-1-28","total_order":1}}"#,
            b"no json",
            b"",
        ] {
            assert_eq!(parts.of(none), None, "{}", String::from_utf8_lossy(none));
        }
        // PostgreSQL sends the end of a transaction with a truncate like any other.
        assert_eq!(parts.of(br#"{"op":"t","transaction":{"id":"755:1","total_order":1}}"#), of("755", Some(1)));
    }

    #[test]
    fn begin_and_end_are_read_with_and_without_schema() {
        let begin = br#"{"status":"BEGIN","id":"755:1","event_count":null,"data_collections":null,"ts_ms":1}"#;
        assert_eq!(boundary(begin), Some(Boundary::Begin { id: "755".into() }));
        let end = r#"{"status":"END","id":"0-1-20","event_count":2,"data_collections":[{"data_collection":"erp.account","event_count":2}],"ts_ms":1}"#;
        let expected = Some(Boundary::End { id: "0-1-20".into(), counts: vec![("erp.account".into(), 2)], time: Some(1) });
        assert_eq!(boundary(end.as_bytes()), expected);
        assert_eq!(boundary(format!(r#"{{"schema":{{}},"payload":{end}}}"#).as_bytes()), expected);
        for none in [&b"{}"[..], b"null", b"x", br#"{"status":"PAUSE","id":"1"}"#] {
            assert_eq!(boundary(none), None);
        }
    }
}
