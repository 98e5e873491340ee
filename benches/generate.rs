//! The reference workload, made here: two departments' change files and the true differences between them.
//!
//! A CRM has deals, an ERP should have an order for each deal that is not a draft, a dimension has accounts. Both systems
//! are written as Debezium-shaped NDJSON: a snapshot of each, then changes. The ERP follows the CRM `lag` changes later,
//! and one order in `1 / fault` is left out or falsified; some orders have no deal at all. What then really differs is
//! counted from the two worlds as they stand at the end, by loops that share nothing with tieout.
//!
//! The shapes, the chances and the default sizes are those of `../shared/bench/gen.py`, so numbers compare.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// The source time at which everything starts.
pub const START_MS: i64 = 1_780_000_000_000;
/// The source time of the first change.
const CHANGES_MS: i64 = START_MS + 10_000_000;

/// How large a workload is, and how unruly.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub rows: u64,
    pub changes: u64,
    pub seed: u64,
    /// The chance that an order is left out or falsified.
    pub fault: f64,
    /// Changes of the CRM before the ERP follows.
    pub lag: usize,
}

impl Default for Size {
    fn default() -> Size {
        Size { rows: 1_000_000, changes: 1_000_000, seed: 7, fault: 0.001, lag: 1000 }
    }
}

/// A workload on disk.
pub struct Workload {
    pub dir: PathBuf,
    /// Messages of deals, orders and accounts.
    pub deals: u64,
    pub orders: u64,
    pub accounts: u64,
    /// Keys in either table at the end.
    pub keys: u64,
    /// The true differences: lines of `key,kind,field,expected,actual`.
    pub orders_truth: BTreeSet<String>,
    pub revenue_truth: BTreeSet<String>,
}

/// xorshift64*: the same workload each time.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)) * u128::from(n)) >> 64) as u64
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.below(1 << 32) < (p * (1u64 << 32) as f64) as u64
    }
}

const STAGES: [(&str, Option<&str>); 5] =
    [("Closed Won", Some("confirmed")), ("Closed Lost", Some("cancelled")), ("Negotiation", Some("open")), ("Proposal", Some("open")), ("Draft", None)];
const CURRENCIES: [Option<&str>; 4] = [Some("EUR"), Some("USD"), Some("CNY"), None];
const REGIONS: [&str; 3] = ["EMEA", "APAC", "AMER"];

/// A row of the CRM.
#[derive(Clone, Copy, PartialEq)]
pub struct Deal {
    pub id: u64,
    account: u64,
    owner: u64,
    pub cents: u64,
    currency: Option<&'static str>,
    stage: usize,
    probability: u64,
    closed: Option<(u64, u64)>,
    updated: i64,
}

/// A row of the ERP.
#[derive(Clone, Copy, PartialEq)]
pub struct Order {
    id: u64,
    customer: u64,
    status: &'static str,
    pub cents: u64,
    currency: &'static str,
    closed: Option<(u64, u64)>,
    /// `None`: a ghost.
    owner: Option<u64>,
}

impl Deal {
    pub fn random(random: &mut Random, id: u64, accounts: u64, updated: i64) -> Deal {
        Deal {
            id,
            account: random.below(accounts),
            owner: random.below(500),
            cents: 100 + random.below(9_999_900),
            currency: CURRENCIES[random.below(4) as usize],
            stage: random.below(5) as usize,
            probability: random.below(101),
            closed: random.chance(0.7).then(|| (1 + random.below(12), 1 + random.below(28))),
            updated,
        }
    }

    /// The deal as it is one change later.
    pub fn changed(mut self, random: &mut Random, accounts: u64, now: i64) -> Deal {
        self.updated = now;
        match random.below(10) {
            0..5 => self.cents = 100 + random.below(9_999_900),
            5..9 => self.stage = random.below(5) as usize,
            _ => self.account = random.below(accounts),
        }
        self
    }

    pub fn won(mut self) -> Deal {
        self.stage = 0;
        self
    }

    /// The order that should stand for it.
    pub fn order(&self) -> Option<Order> {
        let status = STAGES[self.stage].1?;
        let currency = self.currency.unwrap_or("EUR");
        Some(Order { id: self.id, customer: self.account, status, cents: self.cents, currency, closed: self.closed, owner: Some(self.owner) })
    }

    fn json(&self, out: &mut String) {
        let Deal { id, account, owner, cents, stage, probability, updated, .. } = self;
        let (units, cents, stage) = (cents / 100, cents % 100, STAGES[*stage].0);
        let _ = write!(out, r#"{{"id":{id},"account_id":{account},"owner":"User{owner}","amount":"{units}.{cents:02}","currency":"#);
        match self.currency {
            Some(currency) => {
                let _ = write!(out, "\"{currency}\"");
            }
            None => out.push_str("null"),
        }
        let _ = write!(out, r#","stage":"{stage}","probability":{probability},"closed_at":"#);
        day(out, self.closed, true);
        let _ = write!(out, r#","updated_at":{updated}}}"#);
    }
}

impl Order {
    fn json(&self, out: &mut String) {
        let Order { id, customer, status, cents, currency, .. } = self;
        let (units, cents) = (cents / 100, cents % 100);
        let _ = write!(
            out,
            r#"{{"order_id":"SO-{id}","customer":{customer},"status":"{status}","amount":"{units}.{cents:02}","currency":"{currency}","closed_on":"#
        );
        day(out, self.closed, true);
        let _ = write!(out, r#","owner":"{}"}}"#, self.owner());
    }

    fn owner(&self) -> String {
        self.owner.map_or("ghost".into(), |owner| format!("user{owner}"))
    }

    fn fields(&self) -> [(&'static str, String); 6] {
        let mut closed = String::new();
        day(&mut closed, self.closed, false);
        [
            ("customer", self.customer.to_string()),
            ("status", self.status.into()),
            ("amount", amount(self.cents)),
            ("currency", self.currency.into()),
            ("closed_on", closed),
            ("owner", self.owner()),
        ]
    }

    /// What a careless system makes of it.
    fn falsified(mut self, random: &mut Random) -> Option<Order> {
        match random.below(3) {
            0 => return None,
            1 => self.cents += 1 + random.below(499),
            _ => self.status = "hold",
        }
        Some(self)
    }

    pub fn with_cents(mut self, cents: u64) -> Order {
        self.cents = cents;
        self
    }
}

fn day(out: &mut String, day: Option<(u64, u64)>, json: bool) {
    let _ = match (day, json) {
        (Some((month, day)), true) => write!(out, "\"2026-{month:02}-{day:02}\""),
        (Some((month, day)), false) => write!(out, "2026-{month:02}-{day:02}"),
        (None, true) => write!(out, "null"),
        (None, false) => Ok(()),
    };
}

fn amount(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Writes messages of one system.
pub struct Journal<W: Write> {
    pub out: W,
    table: &'static str,
    line: String,
    lsn: u64,
    pub messages: u64,
}

impl<W: Write> Journal<W> {
    pub fn new(out: W, table: &'static str) -> Journal<W> {
        Journal { out, table, line: String::new(), lsn: 0, messages: 0 }
    }

    fn message(&mut self, before: Option<&dyn Fn(&mut String)>, after: Option<&dyn Fn(&mut String)>, op: char, ms: i64) -> io::Result<()> {
        self.messages += 1;
        self.lsn += 1;
        self.line.clear();
        for (name, image) in [("{\"before\":", before), (",\"after\":", after)] {
            self.line.push_str(name);
            match image {
                Some(image) => image(&mut self.line),
                None => self.line.push_str("null"),
            }
        }
        let (db, lsn, sent) = (if self.table == "sales_order" { "erp" } else { "crm" }, self.lsn, ms + 3);
        let table = self.table;
        let _ = write!(
            self.line,
            r#","source":{{"connector":"postgresql","db":"{db}","schema":"public","table":"{table}","ts_ms":{ms},"lsn":{lsn}}},"op":"{op}","ts_ms":{sent}}}"#
        );
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes())
    }

    /// A change of a deal: before, after.
    pub fn deal(&mut self, before: Option<Deal>, after: Option<Deal>, snapshot: bool, ms: i64) -> io::Result<()> {
        let (b, a) = (before.map(|d| move |out: &mut String| d.json(out)), after.map(|d| move |out: &mut String| d.json(out)));
        let op = op(before.is_some(), after.is_some(), snapshot);
        self.message(b.as_ref().map(|f| f as &dyn Fn(&mut String)), a.as_ref().map(|f| f as &dyn Fn(&mut String)), op, ms)
    }

    /// A change of an order: before, after.
    pub fn order(&mut self, before: Option<Order>, after: Option<Order>, snapshot: bool, ms: i64) -> io::Result<()> {
        let (b, a) = (before.map(|d| move |out: &mut String| d.json(out)), after.map(|d| move |out: &mut String| d.json(out)));
        let op = op(before.is_some(), after.is_some(), snapshot);
        self.message(b.as_ref().map(|f| f as &dyn Fn(&mut String)), a.as_ref().map(|f| f as &dyn Fn(&mut String)), op, ms)
    }
}

fn op(before: bool, after: bool, snapshot: bool) -> char {
    match (before, after) {
        _ if snapshot => 'r',
        (false, _) => 'c',
        (true, true) => 'u',
        (true, false) => 'd',
    }
}

/// The deals and orders as they stand.
struct World {
    deals: Vec<Option<Deal>>,
    alive: Vec<u64>,
    orders: Vec<Option<Order>>,
    ghosts: Vec<Order>,
}

fn file(dir: &Path, name: &str) -> io::Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(1 << 20, File::create(dir.join(name))?))
}

/// Makes the workload in a folder of its own under `target`, or takes the one that is there.
pub fn workload(size: Size) -> Workload {
    let name = format!("r1-{}-{}-{}-{}-{}", size.rows, size.changes, size.seed, size.fault, size.lag);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let done = dir.join("done.json");
    if !done.exists() {
        eprintln!("making {} rows and {} changes in {}", size.rows, size.changes, dir.display());
        fs::create_dir_all(&dir).expect("the folder can be made");
        let made = make(size, &dir).expect("the workload can be written");
        fs::write(&done, serde_json::to_vec_pretty(&made).expect("it is JSON")).expect("the workload can be written");
    }
    let made: serde_json::Value = serde_json::from_slice(&fs::read(&done).expect("it was written")).expect("it is JSON");
    let number = |name: &str| made[name].as_u64().expect("a number");
    let lines = |name: &str| made[name].as_array().expect("an array").iter().map(|l| l.as_str().expect("a line").to_string()).collect();
    Workload {
        deals: number("deals"),
        orders: number("orders"),
        accounts: number("accounts"),
        keys: number("keys"),
        orders_truth: lines("orders_truth"),
        revenue_truth: lines("revenue_truth"),
        dir,
    }
}

fn make(size: Size, dir: &Path) -> io::Result<serde_json::Value> {
    let mut random = Random::new(size.seed);
    let accounts = (size.rows / 10).max(1);
    let mut dimension = file(dir, "acc.snapshot.ndjson")?;
    for id in 0..accounts {
        let (region, tier) = (REGIONS[(id % 3) as usize], id % 5);
        writeln!(
            dimension,
            r#"{{"before":null,"after":{{"id":{id},"name":"Account {id}","region":"{region}","tier":{tier}}},"source":{{"connector":"postgresql","db":"crm","schema":"public","table":"account","ts_ms":{START_MS},"lsn":{id}}},"op":"r","ts_ms":{}}}"#,
            START_MS + 3
        )?;
    }
    dimension.flush()?;

    let mut world = World { deals: Vec::new(), alive: (0..size.rows).collect(), orders: vec![None; (size.rows + size.changes) as usize], ghosts: Vec::new() };
    let (mut crm, mut erp) = (Journal::new(file(dir, "src.snapshot.ndjson")?, "opportunity"), Journal::new(file(dir, "tgt.snapshot.ndjson")?, "sales_order"));
    for id in 0..size.rows {
        let ms = START_MS + id as i64;
        let deal = Deal::random(&mut random, id, accounts, ms);
        crm.deal(None, Some(deal), true, ms)?;
        world.deals.push(Some(deal));
        let mut order = deal.order();
        if order.is_some() && random.chance(size.fault) {
            order = order.and_then(|o| o.falsified(&mut random));
        }
        if order.is_some() {
            erp.order(None, order, true, ms + 50)?;
            world.orders[id as usize] = order;
        }
    }
    for ghost in 0..(size.rows as f64 * size.fault / 3.0) as u64 {
        let order = Order { id: 10 * size.rows + ghost, customer: 1, status: "open", cents: 1000, currency: "EUR", closed: None, owner: None };
        erp.order(None, Some(order), true, START_MS)?;
        world.ghosts.push(order);
    }
    crm.out.flush()?;
    erp.out.flush()?;
    (crm.out, erp.out) = (file(dir, "src.changes.ndjson")?, file(dir, "tgt.changes.ndjson")?);

    let mut pending: VecDeque<(u64, Option<Order>)> = VecDeque::new();
    for change in 0..=size.changes {
        let ms = CHANGES_MS + change as i64;
        let keep = if change == size.changes { 0 } else { size.lag };
        if change < size.changes {
            let (before, after) = match random.below(20) {
                0 => {
                    let id = world.deals.len() as u64;
                    world.alive.push(id);
                    (None, Some(Deal::random(&mut random, id, accounts, ms)))
                }
                1 if !world.alive.is_empty() => {
                    let at = random.below(world.alive.len() as u64) as usize;
                    (world.deals[world.alive.swap_remove(at) as usize], None)
                }
                _ => {
                    let id = world.alive[random.below(world.alive.len() as u64) as usize];
                    let deal = world.deals[id as usize].expect("a living deal");
                    (Some(deal), Some(deal.changed(&mut random, accounts, ms)))
                }
            };
            let id = before.or(after).expect("a change of something").id;
            crm.deal(before, after, false, ms)?;
            match world.deals.get_mut(id as usize) {
                Some(deal) => *deal = after,
                None => world.deals.push(after),
            }
            let mut order = after.and_then(|deal| deal.order());
            if order.is_some() && random.chance(size.fault) {
                order = order.and_then(|o| o.falsified(&mut random));
            }
            pending.push_back((id, order));
        }
        while pending.len() > keep {
            let (id, order) = pending.pop_front().expect("something is pending");
            let stands = &mut world.orders[id as usize];
            if *stands != order {
                erp.order(*stands, order, false, ms + 20)?;
                *stands = order;
            }
        }
    }
    crm.out.flush()?;
    erp.out.flush()?;
    let (orders_truth, keys) = orders_truth(&world);
    let revenue_truth = revenue_truth(&world);
    Ok(
        serde_json::json!({ "deals": crm.messages, "orders": erp.messages, "accounts": accounts, "keys": keys, "orders_truth": orders_truth, "revenue_truth": revenue_truth }),
    )
}

fn orders_truth(world: &World) -> (Vec<String>, u64) {
    let (mut lines, mut keys) = (Vec::new(), 0);
    for (id, actual) in world.orders.iter().enumerate() {
        let expected = world.deals.get(id).copied().flatten().and_then(|deal| deal.order());
        keys += u64::from(expected.is_some() || actual.is_some());
        match (expected, actual) {
            (Some(_), None) => lines.push(format!("SO-{id},missing,,,")),
            (None, Some(_)) => lines.push(format!("SO-{id},unexpected,,,")),
            (Some(expected), Some(actual)) => {
                let fields = expected.fields().into_iter().zip(actual.fields()).filter(|(e, a)| e != a);
                lines.extend(fields.map(|((name, e), (_, a))| format!("SO-{id},mismatched,{name},{e},{a}")));
            }
            (None, None) => {}
        }
    }
    lines.extend(world.ghosts.iter().map(|ghost| format!("SO-{},unexpected,,,", ghost.id)));
    (lines, keys + world.ghosts.len() as u64)
}

fn revenue_truth(world: &World) -> Vec<String> {
    #[derive(Default, Clone, Copy)]
    struct Revenue {
        sum: u64,
        count: u64,
        largest: u64,
    }
    fn add<'a>(rows: impl Iterator<Item = &'a Order>) -> BTreeMap<(&'static str, &'static str), Revenue> {
        let mut groups: BTreeMap<_, Revenue> = BTreeMap::new();
        for order in rows.filter(|o| o.status == "confirmed") {
            let group = groups.entry((REGIONS[(order.customer % 3) as usize], order.currency)).or_default();
            *group = Revenue { sum: group.sum + order.cents, count: group.count + 1, largest: group.largest.max(order.cents) };
        }
        groups
    }
    let deals: Vec<Order> = world.deals.iter().flatten().filter_map(Deal::order).collect();
    let (expected, actual) = (add(deals.iter()), add(world.orders.iter().flatten().chain(&world.ghosts)));
    let mut lines = Vec::new();
    for group in expected.keys().chain(actual.keys()).collect::<BTreeSet<_>>() {
        let key = format!("[\"{}\",\"{}\"]", group.0, group.1);
        match (expected.get(group), actual.get(group)) {
            (Some(e), Some(a)) => {
                let mut line = |field: &str, e: String, a: String| {
                    if e != a {
                        lines.push(format!("{key},mismatched,{field},{e},{a}"))
                    }
                };
                line("revenue", amount(e.sum), amount(a.sum));
                line("orders", e.count.to_string(), a.count.to_string());
                line("largest", amount(e.largest), amount(a.largest));
            }
            (Some(_), None) => lines.push(format!("{key},missing,,,")),
            (None, _) => lines.push(format!("{key},unexpected,,,")),
        }
    }
    lines
}
