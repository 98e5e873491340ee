//! A small plan and a clock of one's own, for the tests of the ledger and of HTTP: orders of a CRM that must stand in an ERP.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    engine::{Counts, DifferenceChange, Reject, Report, Sealed, SealedSource, Side, Sides, SourceReport, TableReport, Tick},
    ledger::{Ledger, SharedLedger, TickOutput},
    plan::{
        Comparison, Connection, ConnectionKind, FieldMapping, FieldPair, FieldRule, FieldValue, Format, KeyPair, LogSpec, Mapping, NullPolicy, Output,
        OutputOf, Plan, Source, TableRef, Target, Wire,
    },
    row::{Column, Type, Value, pack_key, pack_row, pack_value},
};

pub const CRM: usize = 0;
pub const ERP: usize = 1;

fn column(name: &str, ty: Type) -> Column {
    Column { name: name.into(), ty }
}

fn source(name: &str, connection: usize, ty: Type) -> Source {
    Source {
        name: name.into(),
        dataflow: "orders".into(),
        owner: Some("sales@example.com".into()),
        connection,
        log: LogSpec::Files(vec![PathBuf::from(format!("{name}.ndjson"))]),
        format: Format::DebeziumJson,
        columns: vec![column("id", Type::Int(64)), column("amount", ty), column("status", Type::Varchar(0))],
        key: vec![0],
        wire: Wire::default(),
        schema_change: None,
        required: std::sync::Arc::default(),
        schemas: None,
        comment: None,
    }
}

/// Sources `opportunity` (crm) and `sales_order` (erp), target `expected_order`, comparison `orders_in_erp` with a grace of
/// 30 s, stale after 60 s. The ERP keeps four decimal places.
pub fn plan() -> Plan {
    let opportunity = source("opportunity", 0, Type::Decimal(18, 2));
    let fields = (0..opportunity.columns.len())
        .map(|c| FieldRule { value: FieldValue::Column(c), on_null: NullPolicy::Pass, on_missing: None, on_empty: None })
        .collect();
    let target = Target {
        name: "expected_order".into(),
        dataflow: "orders".into(),
        owner: None,
        columns: opportunity.columns.clone(),
        key: vec![0],
        mapping: Mapping::Fields(FieldMapping { from: TableRef::Source(CRM), filter: None, fields, require: Vec::new() }),
        version: "1".into(),
        comment: None,
        notes: Vec::new(),
    };
    let field = |name: &str, at, ty| FieldPair { name: name.into(), ty, expected: at, actual: at };
    let comparison = Comparison {
        name: "orders_in_erp".into(),
        dataflow: "orders".into(),
        owner: Some("sales@example.com".into()),
        expected: TableRef::Target(0),
        actual: TableRef::Source(ERP),
        key: vec![KeyPair { name: "id".into(), ty: Type::Int(64), expected: 0, actual: 0 }],
        fields: vec![field("status", 2, Type::Varchar(0)), field("amount", 1, Type::Decimal(20, 4))],
        grace: Duration::from_secs(30),
        stale_after: Duration::from_secs(60),
        totals: Vec::new(),
        comment: Some("Deals that leave the CRM must stand as orders in the ERP.".into()),
    };
    let connection = |name: &str| Connection { name: name.into(), kind: ConnectionKind::File { dir: PathBuf::from("data") } };
    Plan {
        name: "tieout".into(),
        data_dir: PathBuf::from("state"),
        workers: 1,
        tick: Duration::from_millis(10),
        stuck_after: Duration::from_secs(30),
        replay_bound: Duration::from_secs(60),
        process: crate::plan::Process::ALONE,
        memory_max: None,
        listen: ([127, 0, 0, 1], 0).into(),
        checkpoint: crate::plan::Checkpoints { interval: Duration::from_secs(10), keep: 3 },
        connections: vec![connection("crm"), connection("erp")],
        transactions: Vec::new(),
        sources: vec![opportunity, source("sales_order", 1, Type::Decimal(18, 4))],
        targets: vec![target],
        comparisons: vec![comparison],
        outputs: vec![Output { what: OutputOf::Differences(0), connection: 1, to: "differences".into(), format: Format::UpsertJson }],
        tests: Vec::new(),
    }
}

/// A ledger of [`plan`] and what its clock says next.
pub struct Bench {
    pub ledger: SharedLedger,
    pub sealed: Sealed,
    pub report: Report,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::of(plan())
    }

    pub fn of(plan: Plan) -> Bench {
        let sources = vec![SealedSource::default(); plan.sources.len()];
        let sealed = Sealed { tick: 0, wall_ms: 1_000_000, sources, hydrated: true, ..Sealed::default() };
        let mut bench = Bench { ledger: SharedLedger::new(Ledger::new(Arc::new(plan))), sealed, report: Report::default() };
        bench.report = bench.fresh();
        bench
    }

    fn fresh(&self) -> Report {
        let counts = SourceReport { counts: Vec::new(), source_time: i64::MIN, handled: None, beat: None };
        let tables = vec![TableReport { table: TableRef::Target(0), rows: 1000 }, TableReport { table: TableRef::Source(ERP), rows: 998 }];
        Report { sources: vec![counts; self.sealed.sources.len()], tables, state_bytes: 1 << 20, ..Report::default() }
    }

    /// One record of the source was read, with this source time.
    pub fn read(&mut self, source: usize, time: i64) -> &mut Bench {
        let report = &mut self.report.sources[source];
        report.counts.push((0, Counts { read: 1, applied: 1, ..Counts::default() }));
        report.source_time = time;
        self
    }

    /// A key's sides change; `None` is the source time of a side that did not.
    pub fn change(&mut self, id: i64, now: Option<(Side, Side)>, expected: Option<i64>, actual: Option<i64>) -> &mut Bench {
        let now = now.map(|(expected, actual)| Sides { expected, actual });
        let change = DifferenceChange { key: key(id).into(), now, expected_time: expected.unwrap_or(i64::MIN), actual_time: actual.unwrap_or(i64::MIN) };
        self.report.differences.push((0, change));
        self
    }

    pub fn reject(&mut self, offset: i64, weight: i64) -> &mut Bench {
        let cause = "no rule for `Thinking`, and no else".to_string();
        let (code, key) = ("MAPPING_NOT_FOUND", Some("7".to_string()));
        let reject = Reject { source: CRM, code, cause, key, partition: 0, offset, target: Some(0), keyed: true };
        self.report.rejects.push((reject, weight));
        self
    }

    /// Closes a tick with all that was said since the last one.
    pub fn close(&mut self, tick: Tick) -> TickOutput {
        self.sealed.tick = tick;
        let fresh = self.fresh();
        let mut report = std::mem::replace(&mut self.report, fresh);
        report.tick = tick;
        self.ledger.apply(self.sealed.clone(), vec![report])
    }
}

/// The key of an order.
pub fn key(id: i64) -> Vec<u8> {
    let mut packed = Vec::new();
    pack_value(&mut packed, &Value::Int(id));
    pack_key(&[Type::Int(64)], &[crate::row::Field::Packed(&packed)])
}

/// A side's row: the status, and the amount in hundredths (`None`: unknown).
pub fn row(status: &str, amount: Option<i64>) -> Side {
    let amount = amount.map_or(Value::Unknown, |cents| Value::Decimal(i128::from(cents) * 100));
    Side::Row(pack_row(&[Value::Text(status.into()), amount]).into())
}
