//! Wires a plan into one dataflow. No logic here: what happens is in the stages, one file each.
//!
//! ```text
//!  decoded records ─▶ parcels ─┬─▶ table (comparison, target) ─▶ net changes ─▶ report
//!                              └─▶ table (source) ─▶ rows ─▶ fields | SQL ─▶ changes ─▶ table
//! ```

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
};

use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Scope, Stream,
        channels::pact::Pipeline,
        operators::{Concatenate, Input as _, Probe, generic::operator::Operator},
    },
};

use super::{
    Reject, SideOf, Tick,
    mapping::RowProgram,
    table::{Table, change::Parcel},
};
use crate::{
    plan::{Mapping, Plan, SourceId, TableRef},
    row::Type,
};

pub mod accumulate;
pub mod arrange;
pub mod exact_sum;
pub mod export;
pub mod group;
pub mod join;
pub mod layout;
pub mod program;
pub mod rows;
pub mod sql;
pub mod table;

use layout::{Feed, Home, Layout, Reports, TableOf};
use rows::{KeyOf, RejectedRows, Rejects, Rows, Whole};
use table::Stage;

/// The handle of one feed of records.
type Handle = timely::dataflow::operators::core::input::Handle<u64, CapacityContainerBuilder<Vec<Parcel>>>;

/// Where decoded records of a source go.
pub struct RecordFeed {
    pub source: SourceId,
    pub program: RowProgram,
    pub reports: Reports,
    pub handle: Handle,
    /// The table, and the input's number in it.
    pub table: usize,
    pub input: u32,
}

impl RecordFeed {
    /// The side that it feeds.
    pub fn side(&self) -> SideOf {
        SideOf { table: self.table, side: self.input as usize }
    }
}

/// The first reason to stop that a stage had.
pub type Failure = Rc<RefCell<Option<String>>>;

/// A rendered plan: what the worker's loop holds.
pub struct Dataflow {
    pub feeds: Vec<RecordFeed>,
    pub stages: Vec<Rc<RefCell<Stage>>>,
    pub specs: Vec<TableOf>,
    pub homes: Vec<(Home, Whole)>,
    /// Rejects of mappings over collections, by tick.
    pub rejects: Rc<RefCell<BTreeMap<Tick, Vec<(Reject, i64)>>>>,
    /// Why a mapping over collections asks to stop (`on_null: fail`).
    pub failure: Failure,
    pub probe: timely::dataflow::operators::probe::Handle<u64>,
}

/// Renders a plan for one of `workers` workers.
pub fn render<'scope>(scope: Scope<'scope, u64>, plan: &Plan, workers: usize) -> Dataflow {
    let Layout { tables, homes, collections } = layout::layout(plan);
    let homes: Vec<(Home, Whole)> = homes
        .into_iter()
        .map(|home| {
            let spec = &tables[home.table];
            let whole = Whole { key: spec.key.clone().into(), values: spec.values.clone().into(), places: Arc::from(home.places.clone()) };
            (home, whole)
        })
        .collect();
    let mut flow = Dataflow {
        feeds: Vec::new(),
        stages: tables.iter().map(|spec| Rc::new(RefCell::new(Stage::new(table_of(spec))))).collect(),
        specs: tables.iter().map(|t| t.of).collect(),
        homes,
        rejects: Rc::default(),
        failure: Failure::default(),
        probe: timely::dataflow::operators::probe::Handle::new(),
    };
    let mut found: HashMap<TableRef, Rows<'scope>> = HashMap::new();
    let mut held: HashMap<TableRef, RejectedRows<'scope>> = HashMap::new();
    // Tables that only records feed come first: collections start from them.
    let (first, last): (Vec<usize>, Vec<usize>) = (0..tables.len()).partition(|t| tables[*t].sides.iter().all(|s| matches!(s, Feed::Records { .. })));
    for at in first {
        let changes = flow.table(scope, plan, &tables[at], at, &found, &held, workers);
        match tables[at].of {
            TableOf::Source(source) => {
                found.insert(TableRef::Source(source), rows::whole_rows(changes, None));
            }
            TableOf::Target(_) | TableOf::Comparison(_) => {
                let home = flow.homes.iter().position(|(home, _)| home.table == at && home.side == super::table::EXPECTED);
                if let Some(target) = home.filter(|target| collections.contains(&TableRef::Target(*target)) && tables[at].track) {
                    found.insert(TableRef::Target(target), rows::whole_rows(changes, Some(flow.homes[target].1.clone())));
                }
            }
        }
    }
    for (id, target) in plan.targets.iter().enumerate() {
        let table = TableRef::Target(id);
        if layout::fused(plan, id).is_some() {
            continue;
        }
        let (rows, rejects) = match &target.mapping {
            Mapping::Sql(query) => {
                let (rows, errors) = sql::render_sql(scope, query, &found);
                let source = plan.sources_of(table)[0];
                let reject = move |error: sql::RowError| Reject {
                    source,
                    code: error.code,
                    cause: error.cause,
                    key: None,
                    partition: -1,
                    offset: -1,
                    target: Some(id),
                    keyed: false,
                };
                (rows, errors.map(reject))
            }
            Mapping::Fields(mapping) => {
                let columns = plan.columns(mapping.from).to_vec();
                let key: Vec<(usize, Type)> = target.key.iter().map(|k| (*k, target.columns[*k].ty)).collect();
                let key_of = KeyOf { types: key.iter().map(|k| k.1).collect(), places: target.key.clone(), columns: target.columns.len() };
                let values = target.columns.iter().enumerate().map(|(c, column)| (c, column.ty)).collect();
                let origin = super::mapping::Origin { source: plan.sources_of(mapping.from)[0], target: Some(id), key: plan.key(mapping.from).to_vec() };
                let program = RowProgram::mapping(origin, &columns, &target.columns, mapping, key, values);
                let (rows, holds, rejects) = rows::mapped(found[&mapping.from].clone(), columns, key_of, program, Rc::clone(&flow.failure));
                held.insert(table, holds);
                (rows, rejects)
            }
        };
        flow.keep_rejects(rejects);
        found.insert(table, rows);
    }
    for at in last {
        flow.table(scope, plan, &tables[at], at, &found, &held, workers);
    }
    flow
}

fn table_of(spec: &layout::TableSpec) -> Table {
    let table = Table::new(spec.values.clone(), spec.sides.len() == 2, spec.track);
    match spec.of {
        TableOf::Source(source) if spec.key.is_empty() => table.counting(source),
        _ => table,
    }
}

impl Dataflow {
    /// One table with what feeds it.
    fn table<'scope>(
        &mut self,
        scope: Scope<'scope, u64>,
        plan: &Plan,
        spec: &layout::TableSpec,
        at: usize,
        found: &HashMap<TableRef, Rows<'scope>>,
        held: &HashMap<TableRef, RejectedRows<'scope>>,
        workers: usize,
    ) -> Stream<'scope, u64, table::NetRows> {
        let mut parcels = Vec::new();
        for (side, feed) in spec.sides.iter().enumerate() {
            match feed {
                Feed::Records { source, mapping, key, values, reports } => {
                    let (handle, stream) = scope.new_input::<Vec<Parcel>>();
                    let keep_missing = matches!(spec.of, TableOf::Source(_)) && layout::tells_missing(plan, *source);
                    let program = layout::program(plan, *source, *mapping, key, values).keep_missing(keep_missing);
                    self.feeds.push(RecordFeed { source: *source, program, reports: *reports, handle, table: at, input: side as u32 });
                    parcels.push(stream);
                }
                Feed::Rows { table, key, values } => {
                    let columns = plan.columns(*table).to_vec();
                    if let Some(held) = held.get(table) {
                        parcels.push(rows::holds(held.clone(), columns.clone(), key.clone(), side as u32, workers));
                    }
                    parcels.push(rows::changes(found[table].clone(), columns, key.clone(), values.clone(), side as u32, workers));
                }
            }
        }
        let sides = (0..spec.sides.len()).collect();
        let changes = table::table(&format!("Table {:?}", spec.of), scope.concatenate(parcels), sides, Rc::clone(&self.stages[at]));
        changes.probe_with(&self.probe)
    }

    /// Collects rejects for the report.
    fn keep_rejects(&mut self, rejects: Rejects<'_>) {
        let kept = Rc::clone(&self.rejects);
        rejects
            .inner
            .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "Rejects", move |_, _| {
                move |input, _| {
                    input.for_each(|_, data| {
                        let mut kept = kept.borrow_mut();
                        for (reject, tick, weight) in data.drain(..) {
                            kept.entry(tick).or_default().push((reject, weight as i64));
                        }
                    });
                }
            })
            .probe_with(&self.probe);
    }
}
