//! Rejects that may have touched any key of a comparison.
//!
//! A row that a side's own field mapping rejects holds back its key. But where rows go through SQL, or through a mapping
//! whose key is not one to one with its source's, nobody can tell which keys a record would have had that could not be
//! decoded. While such a reject stands, a difference that it may have made must not be alarmed on: nothing new is confirmed.
//!
//! A message whose key can't be read at all is not counted: no later record would take the doubt back.
//!
//! A transaction of which parts are lacking is the same: where rows go through SQL, nobody can tell which keys would be others
//! with the rest of it. And of many together it is not kept which keys they touched.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    engine::{Incomplete, Reject, render::layout},
    plan::{Comparison, Mapping, Plan, SourceId, TableRef, TargetId},
};

/// The rejects that count for a comparison, and how many of them stand.
#[derive(Debug, Default)]
pub struct Doubts {
    sources: BTreeSet<SourceId>,
    targets: BTreeSet<TargetId>,
    /// The sides' own targets: their rejects say which key they hold back, mostly.
    own: BTreeSet<TargetId>,
    /// Everything that both sides are made of.
    all: BTreeSet<SourceId>,
    standing: i64,
    /// Incomplete transactions with rows of these sources.
    incomplete: u64,
}

impl Doubts {
    pub fn new(plan: &Plan, comparison: &Comparison) -> Doubts {
        let all = [comparison.expected, comparison.actual].into_iter().flat_map(|side| plan.sources_of(side)).collect();
        let mut doubts = Doubts { all, ..Doubts::default() };
        for side in [comparison.expected, comparison.actual] {
            if let TableRef::Target(target) = side
                && layout::fused(plan, target).is_none()
            {
                doubts.own.insert(target);
            }
        }
        for target in doubts.own.clone() {
            doubts.targets.insert(target);
            doubts.add_inputs(plan, target);
        }
        doubts
    }

    /// Everything that a target is made of.
    fn add_inputs(&mut self, plan: &Plan, target: TargetId) {
        let inputs = match &plan.targets[target].mapping {
            Mapping::Fields(mapping) => std::slice::from_ref(&mapping.from),
            Mapping::Sql(sql) => &sql.inputs,
        };
        for input in inputs {
            match input {
                TableRef::Source(source) => _ = self.sources.insert(*source),
                TableRef::Target(target) => {
                    self.own.remove(target);
                    self.targets.insert(*target);
                    self.add_inputs(plan, *target);
                }
            }
        }
    }

    /// Counts the rejects of keyed rows that a tick brought and took.
    pub fn count(&mut self, rejects: &BTreeMap<Reject, i64>) {
        for (reject, weight) in rejects {
            let counts = match reject.target {
                None => self.sources.contains(&reject.source),
                Some(target) => self.targets.contains(&target) && !(reject.keyed && self.own.contains(&target)),
            };
            if counts {
                self.standing += weight;
            }
        }
    }

    /// Takes over the incomplete transactions that stand now.
    pub fn count_incomplete(&mut self, incomplete: &[Incomplete]) {
        // Of many it is not known which keys they touched, whatever the mapping.
        let of = |one: &&Incomplete| if one.rest.is_some() { &self.all } else { &self.sources };
        let counts = |one: &&Incomplete| one.seen.iter().any(|(source, _)| of(one).contains(source));
        self.incomplete = incomplete.iter().filter(counts).map(|one| one.rest.as_ref().map_or(1, |rest| rest.count)).sum();
    }

    /// How many rejects stand.
    pub fn rejects(&self) -> u64 {
        self.standing.max(0) as u64
    }

    /// How many incomplete transactions do.
    pub fn incomplete(&self) -> u64 {
        self.incomplete
    }

    /// Does any of both stand?
    pub fn any(&self) -> bool {
        self.rejects() + self.incomplete > 0
    }
}
