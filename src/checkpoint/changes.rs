//! What of a checkpoint still holds for a plan that is not the one it was taken of, and what has to be made again.
//!
//! Each side of a table is judged by what its rows follow from: the log, the columns, the mapping. What is the same is given
//! back. What is not is made again within the first tick after the checkpoint's: its sources are read from their beginnings
//! up to where they had been read, for those sides only. Before and after that tick tables, differences and outputs stand
//! as they should, so that outputs are told the net change.
//!
//! | a table | at the checkpoint's tick | in the next tick |
//! | --- | --- | --- |
//! | nothing of it changed | as it was | |
//! | other rows of records, packed as before | as it was | the changed sides are emptied and read again |
//! | other types, or other SQL | what still holds, its differences not looked at | what is read or computed again; outputs are written anew |

use std::{collections::BTreeMap, sync::Arc};

use super::manifest::{self, Manifest, SourceShape, TableShape, TargetShape};
use crate::{
    engine::{
        Again, Command, Give, Reject, Renumbered, SideOf,
        render::layout::{self, Feed, Layout, TableOf},
        table::{EXPECTED, change},
        workers::Workers,
    },
    ledger::{LedgerSave, SourceState},
    log::At,
    plan::{ComparisonId, OutputOf, Plan, SourceId, TargetId},
    row,
};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// What changed, for people; nothing: all is as it was.
    pub what: Vec<String>,
    /// By a table's number in the checkpoint: what is given back of it.
    give: Vec<Vec<Give>>,
    /// By number in the checkpoint: the number now.
    sources: Vec<Option<SourceId>>,
    targets: Vec<Option<TargetId>>,
    comparisons: Vec<Option<ComparisonId>>,
    /// Sides that are read again, by source.
    again: BTreeMap<SourceId, Vec<SideOf>>,
    /// By source, which side reports what can't be decoded; by target, which one what can't be mapped.
    decoded: Vec<Option<SideOf>>,
    mapped: Vec<Option<SideOf>>,
    /// Tables whose differences are not looked at before they are whole.
    blind: Vec<usize>,
    /// What is written anew: all that stands, not what changed.
    targets_anew: Vec<TargetId>,
    /// Of these nobody knows which rows are gone.
    targets_stale: Vec<TargetId>,
    comparisons_anew: Vec<ComparisonId>,
    /// Targets whose rows are not given back as they were.
    made_anew: Vec<TargetId>,
}

impl Changes {
    /// Compares a checkpoint with a plan.
    ///
    /// # Errors
    /// Why nothing of it can be used.
    pub fn between(was: &Manifest, plan: &Plan) -> Result<Changes, String> {
        let (tables, sources, comparisons) = (manifest::tables(plan), manifest::sources(plan), manifest::comparisons(plan));
        let (targets, layout) = (manifest::targets(plan), layout::layout(plan));
        let same_log = |a: &SourceShape, b: &SourceShape| a.name == b.name && a.log == b.log;
        let by_name = |name: &str| plan.comparisons.iter().position(|comparison| comparison.name == name);
        let key_of = |tables: &[TableShape], comparison: &str| {
            let name = format!("comparison {comparison}");
            tables.iter().find(|table| table.name == name).map(|table| table.key.clone())
        };
        let same_key = |comparison: &str| key_of(&was.tables, comparison) == key_of(&tables, comparison);
        let mut changes = Changes {
            give: vec![Vec::new(); was.tables.len()],
            sources: was.sources.iter().map(|old| sources.iter().position(|new| same_log(old, new))).collect(),
            targets: was.targets.iter().map(|old| targets.iter().position(|new| new.name == old.name)).collect(),
            comparisons: was.comparisons.iter().map(|old| by_name(name_of(old)).filter(|new| comparisons[*new] == *old || same_key(name_of(old)))).collect(),
            ..Changes::default()
        };
        changes.note_reports(plan, &layout);
        for (at, new) in sources.iter().enumerate() {
            if changes.old_source(at).is_some() {
                continue;
            }
            let what = if was.sources.iter().any(|old| old.name == new.name) { "reads another log" } else { "is new" };
            changes.what.push(format!("source {} {what}", plan.sources[at].name));
        }
        changes.gone("source", was.sources.iter().map(|old| old.name.as_str()), |name| sources.iter().any(|new| new.name == name));
        for (at, new) in tables.iter().enumerate() {
            let old = was.tables.iter().position(|old| old.name == new.name);
            changes.compare_table(&layout, at, new, old.map(|old| (old, &was.tables[old])));
        }
        changes.compare_homes(was, plan, &tables, &layout);
        changes.gone("table of", was.tables.iter().map(|old| old.name.as_str()), |name| tables.iter().any(|new| new.name == name));
        for (id, new) in comparisons.iter().enumerate().filter(|(_, new)| !was.comparisons.contains(new)) {
            changes.what.push(format!("comparison {} is new, or compares something else", name_of(new)));
            changes.comparison_anew(id);
        }
        changes.compare_outputs(was, plan);
        let in_order = is_identity(&changes.sources, sources.len())
            && is_identity(&changes.comparisons, comparisons.len())
            && changes.give.iter().enumerate().all(|(n, give)| give.iter().all(|give| give.to.table == n))
            && (was.targets.is_empty() || is_identity(&changes.targets, targets.len()));
        if changes.what.is_empty() && !in_order {
            changes.what.push("what there is has another order".into());
        }
        let what = || changes.what.join("; ");
        if !changes.is_none() && was.tables.iter().any(|table| table.sides.is_empty()) {
            return Err(format!("{}; and tieout {}, which took it, did not note what its parts follow from", what(), was.written_by));
        }
        if !changes.is_none() && !was.ledger.incomplete.is_empty() {
            return Err(format!("{}; and transactions were incomplete when it was taken", what()));
        }
        Ok(changes)
    }

    fn note_reports(&mut self, plan: &Plan, layout: &Layout) {
        (self.decoded, self.mapped) = (vec![None; plan.sources.len()], vec![None; plan.targets.len()]);
        for (table, spec) in layout.tables.iter().enumerate() {
            for (side, feed) in spec.sides.iter().enumerate() {
                let Feed::Records { source, mapping, reports, .. } = feed else { continue };
                if reports.decode {
                    self.decoded[*source] = Some(SideOf { table, side });
                }
                if let Some(target) = mapping.filter(|_| reports.mapping) {
                    self.mapped[target] = Some(SideOf { table, side });
                }
            }
        }
    }

    fn gone<'a>(&mut self, what: &str, old: impl Iterator<Item = &'a str>, is_there: impl Fn(&str) -> bool) {
        self.what.extend(old.filter(|name| !is_there(name)).map(|name| format!("{what} {name} is gone")));
    }

    /// Is everything as it was?
    pub fn is_none(&self) -> bool {
        self.what.is_empty()
    }

    fn target_anew(&mut self, id: TargetId) {
        if !self.targets_anew.contains(&id) {
            self.targets_anew.push(id);
        }
    }

    fn comparison_anew(&mut self, id: ComparisonId) {
        if !self.comparisons_anew.contains(&id) {
            self.comparisons_anew.push(id);
        }
    }

    /// What goes to a new place is written there from the beginning.
    fn compare_outputs(&mut self, was: &Manifest, plan: &Plan) {
        let Some(old) = &was.outputs else { return };
        let new = manifest::outputs(plan);
        for (output, name) in plan.outputs.iter().zip(&new).filter(|(_, name)| !old.contains(name)) {
            self.what.push(format!("{name} is new"));
            match output.what {
                OutputOf::Table(target) => self.target_anew(target),
                OutputOf::Differences(id) => self.comparison_anew(id),
            }
        }
        self.what.extend(old.iter().filter(|name| !new.contains(name)).map(|name| format!("{name} is gone")));
    }

    fn compare_table(&mut self, layout: &Layout, at: usize, new: &TableShape, old: Option<(usize, &TableShape)>) {
        if let Some((old, shape)) = old
            && shape.shape == new.shape
            && (shape.sides.is_empty() || shape.sides == new.sides)
        {
            self.give[old].extend(Give::whole(at));
            return;
        }
        let what = if old.is_none() { "is new" } else { "follows from other logs, columns or mappings" };
        self.what.push(format!("{} {what}", new.name));
        let packed_alike = old.is_some_and(|(_, old)| old.packing == new.packing && old.sides.len() == new.sides.len());
        let same = |side: usize| packed_alike && old.is_some_and(|(_, old)| old.sides.get(side) == new.sides.get(side));
        let records = |side: usize| match layout.tables[at].sides[side] {
            Feed::Records { source, .. } => Some(source),
            Feed::Rows { .. } => None,
        };
        let changed: Vec<usize> = (0..new.sides.len()).filter(|side| !same(*side)).collect();
        // Rows of records can be shown as they were; what is computed, or was, can't.
        let computed = |side: usize| old.is_some_and(|(_, old)| old.computed.get(side) == Some(&true));
        let as_it_was = packed_alike && changed.iter().all(|side| records(*side).is_some() && !computed(*side));
        if let Some((old, _)) = old {
            let kept = Give::whole(at).into_iter().filter(|give| as_it_was || same(give.from));
            self.give[old].extend(kept);
        }
        if !as_it_was {
            self.blind.push(at);
            if let TableOf::Comparison(id) = layout.tables[at].of {
                self.comparison_anew(id);
            }
            self.made_anew.extend((0..layout.homes.len()).filter(|target| layout.homes[*target].table == at && !same(layout.homes[*target].side)));
        }
        for side in changed {
            if let Some(source) = records(side) {
                self.again.entry(source).or_default().push(SideOf { table: at, side });
            }
        }
    }

    /// What is written of targets whose rows are made anew, or are kept in another table than they were.
    fn compare_homes(&mut self, was: &Manifest, plan: &Plan, tables: &[TableShape], layout: &Layout) {
        for (target, home) in layout.homes.iter().enumerate() {
            let old = self.targets.iter().position(|to| *to == Some(target)).map(|old| &was.targets[old]);
            let named = |old: &TargetShape| old.columns.is_empty() || old.columns == manifest::columns(plan, target);
            let at_home =
                old.is_none_or(|old| named(old) && old.side == home.side && was.tables.get(old.table).is_some_and(|old| old.name == tables[home.table].name));
            if at_home && !self.made_anew.contains(&target) {
                continue;
            }
            if !at_home || old.is_none() || matches!(layout.tables[home.table].sides[home.side], Feed::Rows { .. }) {
                self.target_anew(target);
            }
            // Only what was shown was written.
            let (name, is_output) = (&plan.targets[target].name, plan.outputs.iter().any(|output| output.what == OutputOf::Table(target)));
            let written =
                is_output && was.ledger.hydrated && was.outputs.as_ref().is_none_or(|outputs| outputs.iter().any(|output| manifest::is_of_table(output, name)));
            let Some(old) = old.filter(|_| written && home.side == EXPECTED) else { continue };
            if was.tables.get(old.table).is_none_or(|table| table.key != tables[home.table].key) {
                self.targets_stale.push(target);
                self.target_anew(target);
                continue;
            }
            // Its keys are known, so that outputs are told which rows go.
            let to = SideOf { table: home.table, side: home.side };
            self.give[old.table].push(Give { from: old.side, to, keys: true });
        }
    }

    /// What sources are read again for; `save` is adapted to the plan.
    pub fn again(&self, save: &LedgerSave) -> Vec<Again> {
        let given: Vec<SideOf> = self.give.iter().flatten().filter(|give| !give.keys).map(|give| give.to).collect();
        let again = |(source, sides): (&SourceId, &Vec<SideOf>)| {
            let emptied = sides.iter().filter(|side| given.contains(side)).copied().collect();
            Again { source: *source, emptied, sides: sides.clone().into(), until: save.sources[*source].positions.clone() }
        };
        self.again.iter().map(again).collect()
    }

    /// Where each source is read from; `save` is adapted to the plan.
    pub fn at(&self, save: &LedgerSave) -> Vec<At> {
        let at = |(source, state): (SourceId, &SourceState)| {
            let at = At { identity: state.identity.clone(), schema: state.schema.clone(), ..At::default() };
            if !self.again.contains_key(&source) {
                return At { positions: state.positions.clone(), ..at };
            }
            let began = |partition: &i32| state.began.get(partition).copied().unwrap_or(0);
            let again = state.positions.iter().map(|(partition, until)| (*partition, began(partition).min(*until), *until)).collect();
            At { settled: state.positions.clone(), again, ..at }
        };
        save.sources.iter().enumerate().map(at).collect()
    }

    /// What is made again, and what is not, as a sentence.
    pub fn say(&self, plan: &Plan) -> String {
        let list = |names: Vec<&str>| if names.is_empty() { "none".to_string() } else { names.join(", ") };
        let sources = list(self.again.keys().map(|source| plan.sources[*source].name.as_str()).collect());
        let targets = self.targets_anew.iter().map(|target| plan.targets[*target].name.as_str());
        let anew = list(targets.chain(self.comparisons_anew.iter().map(|id| plan.comparisons[*id].name.as_str())).collect());
        let stale: Vec<&str> = self.targets_stale.iter().map(|target| plan.targets[*target].name.as_str()).collect();
        let stale = if stale.is_empty() { String::new() } else { format!("; rows that only what was before gave stay in the outputs of: {}", list(stale)) };
        let what = self.what.join("; ");
        format!("{what}; sources that are read again for this: {sources}; tables and comparisons whose outputs are written anew: {anew}{stale}")
    }

    /// The number that a source had.
    pub fn old_source(&self, source: SourceId) -> Option<usize> {
        self.sources.iter().position(|new| *new == Some(source))
    }

    /// The number that a comparison had.
    fn old_comparison(&self, comparison: ComparisonId) -> Option<usize> {
        self.comparisons.iter().position(|new| *new == Some(comparison))
    }

    /// Targets and comparisons of which all that stands is written, not what changed.
    pub fn anew(&self) -> (&[TargetId], &[ComparisonId]) {
        (&self.targets_anew, &self.comparisons_anew)
    }

    /// Tells workers, before anything is given back, which tables are not whole until what is read again has come.
    pub fn make_blind(&self, workers: &Workers) {
        if !self.blind.is_empty() {
            workers.all(&Command::Blind { tables: self.blind.as_slice().into() });
        }
    }

    /// What is given back of a table, by its number in the checkpoint.
    pub fn give(&self, old: usize) -> Arc<[Give]> {
        self.give.get(old).map_or_else(|| [].into(), |give| give.as_slice().into())
    }

    /// The numbers of sources and targets, if they are not the same.
    pub fn renumbered(&self) -> Option<Arc<Renumbered>> {
        let same = is_identity(&self.sources, self.sources.len()) && is_identity(&self.targets, self.targets.len());
        (!same).then(|| Arc::new(Renumbered { sources: self.sources.clone(), targets: self.targets.clone() }))
    }

    /// What a ledger of the plan goes on from.
    pub fn adapt(&self, save: &LedgerSave, plan: &Plan) -> LedgerSave {
        let mut out = save.clone();
        if self.is_none() {
            return out;
        }
        out.sources = (0..plan.sources.len()).map(|source| self.old_source(source).map(|old| save.sources[old].clone()).unwrap_or_default()).collect();
        let kept = |id: ComparisonId| save.differences.get(self.old_comparison(id)?).cloned();
        out.differences = (0..plan.comparisons.len()).map(|id| kept(id).unwrap_or_default()).collect();
        out.stands = (0..plan.comparisons.len()).map(|id| *save.stands.get(self.old_comparison(id)?)?).collect();
        out.marks = Vec::new();
        out.rejects = save.rejects.iter().filter_map(|(text, weight)| Some((self.reject_now(text)?, *weight))).collect();
        out
    }

    /// A reject that no table holds, with the numbers of now; nothing: what it was of is gone, or is read again, and comes again.
    fn reject_now(&self, text: &str) -> Option<String> {
        let mut bytes = row::unhex(text.as_bytes())?;
        if let Some(numbers) = self.renumbered() {
            bytes = change::renumber_reject(&bytes, &numbers)?;
        }
        let reject: Reject = change::unpack_reject(&bytes)?;
        let reported_by = match reject.target {
            Some(target) => *self.mapped.get(target)?,
            None => *self.decoded.get(reject.source)?,
        };
        let again = self.again.values().flatten().any(|side| Some(*side) == reported_by);
        (!again && reported_by.is_some()).then(|| row::hex(&bytes))
    }
}

/// The name of a comparison as a checkpoint has it.
fn name_of(comparison: &str) -> &str {
    comparison.split(':').next().unwrap_or(comparison)
}

fn is_identity(numbers: &[Option<usize>], now: usize) -> bool {
    numbers.len() == now && numbers.iter().enumerate().all(|(n, to)| *to == Some(n))
}
