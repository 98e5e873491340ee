//! Which tables a plan needs, what feeds them, and where each target's rows live: a plain function of the plan.
//!
//! A comparison is one table with both sides. A target lives in the first comparison that holds all of its columns as
//! they are, or in a table of its own. A mapping that is row by row and one to one is done where its source is decoded
//! (*fused*: the source's rows are not kept); everything else goes over rows in differential collections.

use std::collections::BTreeSet;

use crate::{
    engine::{
        mapping::{Origin, RowProgram, is_one_to_one},
        table::{ACTUAL, EXPECTED},
    },
    plan::{ComparisonId, Mapping, OutputOf, Plan, SourceId, TableRef, TargetId},
    row::{Type, same_packing},
};

/// A keyed table of the dataflow.
#[derive(Debug)]
pub struct TableSpec {
    pub of: TableOf,
    pub key: Vec<Type>,
    pub values: Vec<Type>,
    /// What feeds the expected side, and the actual one if it is a comparison.
    pub sides: Vec<Feed>,
    /// Net changes of the expected side go on into the dataflow.
    pub track: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableOf {
    Comparison(ComparisonId),
    /// A target that has no room in a comparison.
    Target(TargetId),
    /// A source that SQL, or a mapping that is not one to one, reads; its values are whole rows.
    Source(SourceId),
}

/// What feeds a side.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Records of a source, through its columns or a fused mapping.
    Records { source: SourceId, mapping: Option<TargetId>, key: Vec<(usize, Type)>, values: Vec<(usize, Type)>, reports: Reports },
    /// The rows of a table in a differential collection: places and types of key and values.
    Rows { table: TableRef, key: Vec<(usize, Type)>, values: Vec<(usize, Type)> },
}

/// Which rejects a feed reports, so that each is reported once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    pub decode: bool,
    pub mapping: bool,
}

/// Where a target's rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    pub table: usize,
    pub side: usize,
    /// For each column of the target: its place in the table's key or values.
    pub places: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Key(usize),
    Value(usize),
}

/// The tables of a plan.
#[derive(Debug, Default)]
pub struct Layout {
    pub tables: Vec<TableSpec>,
    pub homes: Vec<Home>,
    /// Tables whose rows are needed as a collection.
    pub collections: BTreeSet<TableRef>,
}

/// Is the target's mapping done while its source is decoded?
pub fn fused(plan: &Plan, target: TargetId) -> Option<SourceId> {
    let target = &plan.targets[target];
    match &target.mapping {
        Mapping::Fields(mapping) => match mapping.from {
            TableRef::Source(source) if is_one_to_one(mapping, target, &plan.sources[source].columns, &plan.sources[source].key) => Some(source),
            _ => None,
        },
        Mapping::Sql(_) => None,
    }
}

/// Does a mapping over the rows of a source tell what the message lacked from NULL?
pub fn tells_missing(plan: &Plan, source: SourceId) -> bool {
    plan.targets.iter().enumerate().any(|(id, target)| match &target.mapping {
        Mapping::Fields(mapping) => {
            mapping.from == TableRef::Source(source) && fused(plan, id).is_none() && mapping.fields.iter().any(|f| f.on_missing.is_some())
        }
        Mapping::Sql(_) => false,
    })
}

/// Lays out a plan.
pub fn layout(plan: &Plan) -> Layout {
    let mut layout = Layout::default();
    collections(plan, &mut layout);
    for (id, comparison) in plan.comparisons.iter().enumerate() {
        let key: Vec<Type> = comparison.key.iter().map(|k| k.ty).collect();
        let values: Vec<Type> = comparison.fields.iter().map(|f| f.ty).collect();
        let side = |expected: bool| {
            let pick = |e: usize, a: usize| if expected { e } else { a };
            let key = comparison.key.iter().map(|k| (pick(k.expected, k.actual), k.ty)).collect();
            let values = comparison.fields.iter().map(|f| (pick(f.expected, f.actual), f.ty)).collect();
            feed(plan, pick_table(comparison.expected, comparison.actual, expected), key, values)
        };
        layout.tables.push(TableSpec { of: TableOf::Comparison(id), key, values, sides: vec![side(true), side(false)], track: false });
    }
    for id in 0..plan.targets.len() {
        let home = home_in_comparison(plan, id, &layout).unwrap_or_else(|| own_table(plan, id, &mut layout));
        // The rows of a fused target are a collection only as what its table tracks.
        if fused(plan, id).is_some() && layout.collections.contains(&TableRef::Target(id)) || watched(plan, id) {
            let home = if home.side == ACTUAL { own_table(plan, id, &mut layout) } else { home };
            layout.tables[home.table].track = true;
            layout.homes.push(home);
        } else {
            layout.homes.push(home);
        }
    }
    for source in 0..plan.sources.len() {
        if layout.collections.contains(&TableRef::Source(source)) {
            let declared = &plan.sources[source];
            let whole: Vec<(usize, Type)> = declared.columns.iter().enumerate().map(|(c, column)| (c, column.ty)).collect();
            let key: Vec<(usize, Type)> = declared.key.iter().map(|c| (*c, declared.columns[*c].ty)).collect();
            layout.tables.push(TableSpec {
                of: TableOf::Source(source),
                // Without a key, rows are counted.
                key: key.iter().map(|k| k.1).collect(),
                values: whole.iter().map(|v| v.1).collect(),
                sides: vec![Feed::Records { source, mapping: None, key, values: whole, reports: Reports::default() }],
                track: true,
            });
        }
    }
    report_once(plan, &mut layout);
    layout
}

fn pick_table(expected: TableRef, actual: TableRef, first: bool) -> TableRef {
    if first { expected } else { actual }
}

/// Is a target's change stream written somewhere?
fn watched(plan: &Plan, target: TargetId) -> bool {
    plan.outputs.iter().any(|o| o.what == OutputOf::Table(target))
}

fn feed(plan: &Plan, table: TableRef, key: Vec<(usize, Type)>, values: Vec<(usize, Type)>) -> Feed {
    match table {
        TableRef::Source(source) => Feed::Records { source, mapping: None, key, values, reports: Reports::default() },
        TableRef::Target(target) => match fused(plan, target) {
            Some(source) => Feed::Records { source, mapping: Some(target), key, values, reports: Reports::default() },
            None => Feed::Rows { table, key, values },
        },
    }
}

/// Everything that SQL or a mapping that is not fused reads, and what those read.
fn collections(plan: &Plan, layout: &mut Layout) {
    for (id, target) in plan.targets.iter().enumerate() {
        if fused(plan, id).is_some() {
            continue;
        }
        layout.collections.insert(TableRef::Target(id));
        match &target.mapping {
            Mapping::Fields(mapping) => {
                layout.collections.insert(mapping.from);
            }
            Mapping::Sql(sql) => layout.collections.extend(sql.inputs.iter().copied()),
        }
    }
}

fn home_in_comparison(plan: &Plan, target: TargetId, layout: &Layout) -> Option<Home> {
    let declared = &plan.targets[target];
    for (table, spec) in layout.tables.iter().enumerate() {
        let TableOf::Comparison(id) = spec.of else { continue };
        let comparison = &plan.comparisons[id];
        for (side, table_ref) in [(EXPECTED, comparison.expected), (ACTUAL, comparison.actual)] {
            if table_ref != TableRef::Target(target) {
                continue;
            }
            let at = |e: usize, a: usize| if side == EXPECTED { e } else { a };
            let places: Option<Vec<Place>> = declared
                .columns
                .iter()
                .enumerate()
                .map(|(c, column)| {
                    let key = comparison.key.iter().position(|k| at(k.expected, k.actual) == c && same_packing(k.ty, column.ty));
                    let value = || comparison.fields.iter().position(|f| at(f.expected, f.actual) == c && same_packing(f.ty, column.ty));
                    key.map(Place::Key).or_else(|| value().map(Place::Value))
                })
                .collect();
            if let Some(places) = places {
                return Some(Home { table, side, places });
            }
        }
    }
    None
}

fn own_table(plan: &Plan, target: TargetId, layout: &mut Layout) -> Home {
    let declared = &plan.targets[target];
    let key: Vec<(usize, Type)> = declared.key.iter().map(|c| (*c, declared.columns[*c].ty)).collect();
    let values: Vec<(usize, Type)> = declared.columns.iter().enumerate().filter(|(c, _)| !declared.key.contains(c)).map(|(c, column)| (c, column.ty)).collect();
    let places = (0..declared.columns.len())
        .map(|c| match declared.key.iter().position(|k| *k == c) {
            Some(at) => Place::Key(at),
            None => Place::Value(values.iter().position(|(v, _)| *v == c).expect("a column is in the key or a value")),
        })
        .collect();
    layout.tables.push(TableSpec {
        of: TableOf::Target(target),
        key: key.iter().map(|k| k.1).collect(),
        values: values.iter().map(|v| v.1).collect(),
        sides: vec![feed(plan, TableRef::Target(target), key, values)],
        track: false,
    });
    Home { table: layout.tables.len() - 1, side: EXPECTED, places }
}

/// The first feed of a source reports what could not be decoded, the home of a target what could not be mapped.
fn report_once(plan: &Plan, layout: &mut Layout) {
    let mut decoded = vec![false; plan.sources.len()];
    for (at, table) in layout.tables.iter_mut().enumerate() {
        for (side, feed) in table.sides.iter_mut().enumerate() {
            if let Feed::Records { source, mapping, reports, .. } = feed {
                reports.decode = !std::mem::replace(&mut decoded[*source], true);
                reports.mapping = mapping.is_some_and(|target| layout.homes[target].table == at && layout.homes[target].side == side);
            }
        }
    }
}

/// The columns of each source that some feed needs.
pub fn wanted(plan: &Plan, layout: &Layout) -> Vec<Vec<bool>> {
    let mut wanted: Vec<Vec<bool>> = plan.sources.iter().map(|source| vec![false; source.columns.len()]).collect();
    for feed in layout.tables.iter().flat_map(|table| &table.sides) {
        let Feed::Records { source, mapping, key, values, .. } = feed else { continue };
        for (all, one) in wanted[*source].iter_mut().zip(program(plan, *source, *mapping, key, values).wanted()) {
            *all |= one;
        }
    }
    wanted
}

/// The program of a feed of records.
pub fn program(plan: &Plan, source: SourceId, mapping: Option<TargetId>, key: &[(usize, Type)], values: &[(usize, Type)]) -> RowProgram {
    let declared = &plan.sources[source];
    let origin = Origin { source, target: mapping, key: declared.key.clone() };
    match mapping.map(|target| &plan.targets[target]) {
        Some(target) => {
            let Mapping::Fields(fields) = &target.mapping else { unreachable!("only field mappings are fused") };
            RowProgram::mapping(origin, &declared.columns, &target.columns, fields, key.to_vec(), values.to_vec())
        }
        None => RowProgram::columns(origin, &declared.columns, key.to_vec(), values.to_vec()),
    }
}
