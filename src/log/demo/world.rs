//! What happens in the two simulated departments, as a function of seed, rate and time: no clock, no threads.
//!
//! A deal is opened, proposed, negotiated, won or lost, and archived a while later; the ERP copies what it sees of the deal
//! some hundred milliseconds to a few seconds after each change. A few deals meet a mishap ([`Fault`]), and some mishaps are
//! mended after a minute. Whatever is opened is archived, so the tables stay the same size for ever.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Write as _,
};

use super::names::{COMPANY, CURRENCIES, OWNERS, REGIONS, SEGMENTS, TRADE};
use crate::row::decimal_text;

/// The world has been going on for so long when the snapshot is taken, so that its tables are full.
const WARM_UP_MS: i64 = 400_000;
/// How long a deal stays in a stage, on average.
const STAGE_MS: i64 = 28_000;
/// How long a closed deal stays before it is archived, on average.
const CLOSED_MS: i64 = 90_000;
/// Changes of both tables that one deal makes in its life, on average: the rate of new deals follows from it.
const CHANGES_PER_DEAL: f64 = 8.6;
/// A mishap that is mended is mended after about so long.
const REPAIR_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

/// A table of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Of the CRM.
    Account,
    /// Of the CRM.
    Deal,
    /// Of the ERP.
    SalesOrder,
}

/// All tables.
pub const TABLES: [Table; 3] = [Table::Account, Table::Deal, Table::SalesOrder];

impl Table {
    pub fn name(self) -> &'static str {
        ["account", "deal", "sales_order"][self as usize]
    }

    pub fn parse(name: &str) -> Option<Table> {
        TABLES.into_iter().find(|table| table.name() == name)
    }

    fn system(self) -> &'static str {
        if self == Table::SalesOrder { "erp" } else { "crm" }
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A time around `mean`, from half to one and a half of it.
    fn around(&mut self, mean: i64) -> i64 {
        mean / 2 + (self.share() * mean as f64) as i64
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// What goes wrong between CRM and ERP.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The order never reaches the ERP.
    Lost,
    /// Somebody typed the amount: it is off by so many cents.
    WrongAmount(i64),
    /// The order stays open, whatever becomes of the deal.
    StuckOpen,
    /// The interface is overloaded: everything of this deal comes so much later. It heals by itself.
    Late(i64),
    /// A colleague cloned another deal, quote number and all: two deals claim one order.
    Cloned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Qualified,
    Proposal,
    Negotiation,
    Won,
    Lost,
    /// A stage that the mapping does not know.
    OnHold,
}

impl Stage {
    fn name(self) -> &'static str {
        ["Qualified", "Proposal", "Negotiation", "Closed Won", "Closed Lost", "On Hold"][self as usize]
    }

    /// The status of its order; `None`: there is no order yet.
    fn status(self) -> Option<&'static str> {
        match self {
            Stage::Qualified | Stage::OnHold => None,
            Stage::Won => Some("confirmed"),
            Stage::Lost => Some("cancelled"),
            Stage::Proposal | Stage::Negotiation => Some("open"),
        }
    }
}

#[derive(Clone, Debug)]
struct Deal {
    quote_no: u64,
    account: usize,
    owner: &'static str,
    cents: i64,
    currency: &'static str,
    stage: Stage,
    closed_day: Option<i32>,
    updated_ms: i64,
    fault: Option<Fault>,
}

#[derive(Clone, Debug, PartialEq)]
struct Order {
    customer: usize,
    status: &'static str,
    cents: i64,
    currency: &'static str,
    sales_rep: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// Somebody opens a deal.
    Open,
    /// A deal goes to its next stage.
    Advance(u64),
    /// The ERP takes over what it sees of a deal, under the number that the quote had.
    Copy(u64, u64),
    /// A mishap is mended.
    Mend(u64),
    /// Somebody books an order in the ERP that no deal asked for.
    Ghost,
    /// An order without a deal is found and removed.
    Remove(u64),
    /// An account moves to another region.
    Move,
}

/// The world at a time.
pub struct World {
    dice: Dice,
    now_ms: i64,
    start_ms: i64,
    /// What will happen, by time; the number keeps the order of what happens at once.
    agenda: BinaryHeap<Reverse<(i64, u64, Happening)>>,
    planned: u64,
    /// Milliseconds between new deals.
    every_ms: f64,
    next_open_ms: f64,
    accounts: Vec<(String, &'static str, &'static str)>,
    deals: BTreeMap<u64, Deal>,
    orders: BTreeMap<u64, Order>,
    next_id: u64,
    /// The table whose changes are written down, once the warm-up is over.
    table: Option<Table>,
    out: Vec<u8>,
}

impl World {
    /// The world of a seed as of `start_ms`; `rate` is the number of changes in a second, all tables together.
    pub fn new(seed: u64, rate: u32, start_ms: i64) -> World {
        let mut dice = Dice(seed);
        let accounts = (0..COMPANY.len() * TRADE.len())
            .map(|n| (format!("{} {}", COMPANY[n / TRADE.len()], TRADE[n % TRADE.len()]), dice.pick(&REGIONS), dice.pick(&SEGMENTS)))
            .collect();
        let every_ms = 1000.0 * CHANGES_PER_DEAL / f64::from(rate.max(1));
        let mut world = World {
            dice,
            now_ms: start_ms - WARM_UP_MS,
            start_ms,
            agenda: BinaryHeap::new(),
            planned: 0,
            every_ms,
            next_open_ms: (start_ms - WARM_UP_MS) as f64,
            accounts,
            deals: BTreeMap::new(),
            orders: BTreeMap::new(),
            next_id: 100_001,
            table: None,
            out: Vec::new(),
        };
        for first in [Happening::Open, Happening::Ghost, Happening::Move] {
            world.plan(0, first);
        }
        world.run_until(start_ms);
        world
    }

    /// The time up to which everything has happened, in milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// The rows of a table as a connector's initial snapshot: a line each.
    pub fn snapshot(&self, table: Table) -> Vec<Vec<u8>> {
        let rows: Vec<String> = match table {
            Table::Account => (0..self.accounts.len()).map(|id| self.account_row(id)).collect(),
            Table::Deal => self.deals.iter().map(|(id, deal)| self.deal_row(*id, deal)).collect(),
            Table::SalesOrder => self.orders.iter().map(|(no, order)| order_row(*no, order)).collect(),
        };
        rows.iter().map(|row| event(table, "r", None, Some(row), self.now_ms)).collect()
    }

    /// What changes in a table up to `now_ms`, as lines.
    pub fn changes_until(&mut self, now_ms: i64, table: Table) -> Vec<u8> {
        self.table = Some(table);
        self.run_until(now_ms);
        std::mem::take(&mut self.out)
    }

    fn run_until(&mut self, now_ms: i64) {
        while let Some(Reverse((at, _, happening))) = self.agenda.peek().copied().filter(|Reverse((at, ..))| *at <= now_ms) {
            self.agenda.pop();
            self.now_ms = self.now_ms.max(at);
            self.happen(happening);
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn plan(&mut self, in_ms: i64, happening: Happening) {
        self.planned += 1;
        self.agenda.push(Reverse((self.now_ms + in_ms, self.planned, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Open => self.open(),
            Happening::Advance(id) => self.advance(id),
            Happening::Copy(id, quote_no) => self.copy(id, quote_no),
            Happening::Mend(id) => self.mend(id),
            Happening::Ghost => {
                let no = self.take_id();
                let order = Order {
                    customer: self.dice.below(self.accounts.len()),
                    status: "open",
                    cents: self.amount(),
                    currency: self.dice.pick(&CURRENCIES),
                    sales_rep: self.dice.pick(&OWNERS).to_lowercase(),
                };
                self.set_order(no, Some(order));
                let (found, next) = (self.dice.around(REPAIR_MS), self.dice.around(20_000));
                self.plan(found, Happening::Remove(no));
                self.plan(next, Happening::Ghost);
            }
            Happening::Remove(no) => self.set_order(no, None),
            Happening::Move => {
                let id = self.dice.below(self.accounts.len());
                let before = self.account_row(id);
                self.accounts[id].1 = self.dice.pick(&REGIONS);
                let after = self.account_row(id);
                if before != after {
                    self.write(Table::Account, "u", Some(&before), Some(&after));
                }
                let next = self.dice.around(30_000);
                self.plan(next, Happening::Move);
            }
        }
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn amount(&mut self) -> i64 {
        // Many small deals, few large ones; whole tens, as people quote.
        let share = self.dice.share();
        (900.0 + share * share * share * 240_000.0) as i64 / 10 * 1000
    }

    fn open(&mut self) {
        self.next_open_ms += self.every_ms;
        let next = self.next_open_ms as i64 - self.now_ms;
        self.plan(next.max(0), Happening::Open);
        let id = self.take_id();
        let fault = self.fault();
        let mut quote_no = id;
        if fault == Some(Fault::Cloned) {
            // One of the newest deals with an order, so that the original outlives the mishap.
            let back = self.dice.below(200);
            quote_no = self.deals.values().rev().filter(|d| d.stage == Stage::Proposal && d.fault.is_none()).nth(back).map_or(id, |d| d.quote_no);
        }
        let deal = Deal {
            quote_no,
            account: self.dice.below(self.accounts.len()),
            owner: self.dice.pick(&OWNERS),
            cents: self.amount(),
            currency: self.dice.pick(&CURRENCIES),
            stage: if fault == Some(Fault::Cloned) { Stage::Proposal } else { Stage::Qualified },
            closed_day: None,
            updated_ms: self.now_ms,
            fault,
        };
        let mends = match fault {
            Some(Fault::Cloned) => true,
            Some(Fault::Lost | Fault::WrongAmount(_) | Fault::StuckOpen) => self.dice.share() < 0.6,
            Some(Fault::Late(_)) | None => false,
        };
        if mends {
            // Nobody sees it before the deal has an order.
            let before = if fault == Some(Fault::Cloned) { 0 } else { STAGE_MS };
            let repair = before + self.dice.around(REPAIR_MS);
            self.plan(repair, Happening::Mend(id));
        }
        self.set_deal(id, Some(deal));
        let stay = self.dice.around(STAGE_MS);
        self.plan(stay, Happening::Advance(id));
    }

    fn fault(&mut self) -> Option<Fault> {
        let share = self.dice.share();
        match share {
            _ if share < 0.003 => Some(Fault::Lost),
            _ if share < 0.007 => Some(Fault::WrongAmount((1 + self.dice.below(90) as i64) * 100 * if self.dice.share() < 0.5 { -1 } else { 1 })),
            _ if share < 0.010 => Some(Fault::StuckOpen),
            _ if share < 0.020 => Some(Fault::Late(7_000 + (self.dice.share() * 9_000.0) as i64)),
            _ if share < 0.022 => Some(Fault::Cloned),
            _ => None,
        }
    }

    fn advance(&mut self, id: u64) {
        let Some(mut deal) = self.deals.get(&id).cloned() else { return };
        let chance = self.dice.share();
        let next = match deal.stage {
            Stage::Qualified if chance < 0.003 => Stage::OnHold,
            Stage::Qualified | Stage::OnHold => Stage::Proposal,
            Stage::Proposal => Stage::Negotiation,
            Stage::Negotiation if chance < 0.7 => Stage::Won,
            Stage::Negotiation => Stage::Lost,
            Stage::Won | Stage::Lost => {
                self.set_deal(id, None);
                return;
            }
        };
        if next == Stage::Negotiation && chance < 0.6 {
            // A discount, as a rule.
            deal.cents = deal.cents / 100 * (88 + self.dice.below(14) as i64);
        }
        deal.stage = next;
        let closed = matches!(next, Stage::Won | Stage::Lost);
        deal.closed_day = closed.then_some((self.now_ms / DAY_MS) as i32);
        let stay = self.dice.around(if closed { CLOSED_MS } else { STAGE_MS });
        self.set_deal(id, Some(deal));
        self.plan(stay, Happening::Advance(id));
    }

    fn mend(&mut self, id: u64) {
        let Some(mut deal) = self.deals.get(&id).cloned() else { return };
        let was = deal.fault.take();
        if was == Some(Fault::Cloned) {
            deal.quote_no = id;
            self.set_deal(id, Some(deal));
        } else {
            let quote_no = deal.quote_no;
            self.deals.insert(id, deal);
            self.plan(0, Happening::Copy(id, quote_no));
        }
    }

    /// The ERP makes of a deal what it sees of it now; a deal that is gone takes its order along.
    fn copy(&mut self, id: u64, quote_no: u64) {
        let Some(deal) = self.deals.get(&id) else { return self.set_order(quote_no, None) };
        let Some(mut status) = deal.stage.status().filter(|_| deal.quote_no == quote_no) else { return };
        let mut cents = deal.cents;
        match deal.fault {
            Some(Fault::Lost | Fault::Cloned) => return,
            Some(Fault::WrongAmount(off)) => cents += off,
            Some(Fault::StuckOpen) => status = "open",
            Some(Fault::Late(_)) | None => {}
        }
        let order = Order { customer: deal.account, status, cents, currency: deal.currency, sales_rep: deal.owner.to_lowercase() };
        self.set_order(quote_no, Some(order));
    }

    fn set_deal(&mut self, id: u64, deal: Option<Deal>) {
        let deal = deal.map(|deal| Deal { updated_ms: self.now_ms, ..deal });
        let before = match &deal {
            Some(deal) => self.deals.insert(id, deal.clone()),
            None => self.deals.remove(&id),
        };
        if self.table == Some(Table::Deal) {
            let (old, new) = (before.as_ref().map(|d| self.deal_row(id, d)), deal.as_ref().map(|d| self.deal_row(id, d)));
            self.write(Table::Deal, op(old.is_some(), new.is_some()), old.as_deref(), new.as_deref());
        }
        let Some(seen) = deal.or(before) else { return };
        let share = self.dice.share();
        let mut lag = 300 + (share * share * share * 3_700.0) as i64;
        if let Some(Fault::Late(more)) = seen.fault {
            lag += more;
        }
        // The clone never had an order of its own, so it takes none along.
        if seen.fault != Some(Fault::Cloned) {
            self.plan(lag, Happening::Copy(id, seen.quote_no));
        }
    }

    fn set_order(&mut self, no: u64, order: Option<Order>) {
        if self.orders.get(&no) == order.as_ref() {
            return;
        }
        let before = match &order {
            Some(order) => self.orders.insert(no, order.clone()),
            None => self.orders.remove(&no),
        };
        if self.table == Some(Table::SalesOrder) {
            let (old, new) = (before.as_ref().map(|o| order_row(no, o)), order.as_ref().map(|o| order_row(no, o)));
            self.write(Table::SalesOrder, op(old.is_some(), new.is_some()), old.as_deref(), new.as_deref());
        }
    }

    fn write(&mut self, table: Table, op: &str, before: Option<&str>, after: Option<&str>) {
        if self.table == Some(table) {
            let line = event(table, op, before, after, self.now_ms.max(self.start_ms));
            self.out.extend_from_slice(&line);
        }
    }

    fn account_row(&self, id: usize) -> String {
        let (name, region, segment) = &self.accounts[id];
        format!(r#"{{"id":{},"name":"{name}","region":"{region}","segment":"{segment}"}}"#, id + 1)
    }

    fn deal_row(&self, id: u64, deal: &Deal) -> String {
        let closed_on = deal.closed_day.map_or("null".into(), |day| day.to_string());
        format!(
            r#"{{"id":{id},"quote_no":{},"account_id":{},"owner":"{}","amount":"{}","currency":"{}","stage":"{}","closed_on":{closed_on},"updated_at":{}}}"#,
            deal.quote_no,
            deal.account + 1,
            deal.owner,
            decimal_text(deal.cents.into(), 2),
            deal.currency,
            deal.stage.name(),
            deal.updated_ms
        )
    }
}

fn op(was: bool, is: bool) -> &'static str {
    match (was, is) {
        (false, _) => "c",
        (true, true) => "u",
        (true, false) => "d",
    }
}

fn order_row(no: u64, order: &Order) -> String {
    format!(
        r#"{{"order_no":"SO-{no}","customer":{},"status":"{}","amount":"{}","currency":"{}","sales_rep":"{}"}}"#,
        order.customer + 1,
        order.status,
        decimal_text(order.cents.into(), 2),
        order.currency,
        order.sales_rep
    )
}

/// A change event as Debezium's PostgreSQL connector writes it, without the schema.
fn event(table: Table, op: &str, before: Option<&str>, after: Option<&str>, ts_ms: i64) -> Vec<u8> {
    let mut line = String::with_capacity(512);
    let (before, after) = (before.unwrap_or("null"), after.unwrap_or("null"));
    let (system, name, snapshot) = (table.system(), table.name(), op == "r");
    let _ = writeln!(
        line,
        r#"{{"before":{before},"after":{after},"source":{{"version":"3.5.0.Final","connector":"postgresql","name":"{system}","ts_ms":{ts_ms},"snapshot":"{snapshot}","db":"{system}","schema":"public","table":"{name}"}},"op":"{op}","ts_ms":{ts_ms}}}"#,
    );
    line.into_bytes()
}
