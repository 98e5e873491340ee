//! Incomplete transactions beyond a number: what is kept of all of them together, when one stands for them.
//!
//! A source that stands for days makes each transaction with rows of it incomplete. Each costs memory, and a place in every
//! tick's list, in progress records and in checkpoints. So only the newest are kept each; the oldest become the *rest*: how
//! many there are, up to when, and how many events are lacking by source. Which keys they touched is not known any more, so
//! while there is a rest no comparison confirms anything new that reads a source of theirs: what is forgotten makes
//! differences undetermined, and never confirmed.
//!
//! An event up to that time, of a transaction that is not known though the log has gone on from it, is one of theirs, and goes
//! on at once. The rest has gone when of each source as many events have come as were lacking, or all its partitions have gone
//! on far beyond. Transactions of which nothing had come are lacking, too, once their ends are forgotten.

use std::sync::Arc;

use super::{End, Gate, News};
use crate::{
    engine::{Incomplete, Rest},
    format::debezium_json::transaction::Part,
    plan::SourceId,
};

/// Transactions that stand incomplete and are kept each.
pub(super) const STANDING: usize = 100;
/// A partition is beyond a time when an event came that is so many milliseconds later: times of MySQL's and MariaDB's events
/// are those of statements, in seconds.
pub(super) const BEYOND_MS: i64 = 60_000;
/// What stands in the place of a transaction's id.
const ID: &str = "older";

impl Gate {
    /// Makes the oldest transactions a part of the rest, when too many stand.
    pub(super) fn bound_standing(&mut self) {
        while self.standing.len() > self.standing_max {
            let of = |id: &&Arc<str>| self.open.get(*id).filter(|open| open.held == 0);
            let age = |id: &&Arc<str>| of(id).map(|open| (open.end.as_ref().map_or(u64::MAX, |end| end.number), open.newest));
            let Some(id) = self.standing.iter().filter(|id| of(id).is_some()).min_by_key(age).cloned() else { return };
            self.standing.remove(&id);
            let Some(open) = self.open.remove(&id) else { continue };
            if self.rest.is_none() {
                self.news.push(News::Many { name: self.named(ID), stands: true });
            }
            let rest =
                self.rest.get_or_insert(Rest { count: 0, since: self.ends.begin().unwrap_or(i64::MIN), upto: i64::MIN, lacking: Vec::new(), endless: false });
            rest.count += 1;
            rest.upto = rest.upto.max(open.newest.unwrap_or(i64::MIN)).max(open.end.as_ref().and_then(|end| end.time).unwrap_or(i64::MIN));
            rest.endless |= open.end.is_none();
            for (member, given) in self.members.iter().zip(&open.given).filter(|(_, given)| given.len() > 0) {
                // Where no end is known, one that comes will tell how many there should be.
                add(&mut rest.lacking, member.source, -(given.len() as i64));
            }
            for (member, count) in open.end.iter().flat_map(|end| &end.counts) {
                add(&mut rest.lacking, self.members[*member].source, *count as i64);
            }
        }
    }

    /// An end is not known any more that nothing came of.
    pub(super) fn forget(&mut self, end: Option<End>) {
        for (member, count) in end.into_iter().flat_map(|end| end.counts) {
            add(&mut self.forgotten, self.members[member].source, count as i64);
        }
    }

    /// Is an event of a transaction of which nothing else is kept?
    pub(super) fn is_covered(&mut self, queue: usize, part: &Part) -> bool {
        let queue = &mut self.queues[queue];
        queue.time = queue.time.max(part.time);
        let Some(rest) = &mut self.rest else { return false };
        let ended = |time: i64| (rest.since..=rest.upto).contains(&time) && self.log_time > Some(time);
        let known = self.open.contains_key(part.id) || self.recent.contains(part.id) || self.ends.is_remembered(part.id);
        let is = !known && part.time.is_some_and(ended);
        if is {
            add(&mut rest.lacking, self.members[queue.member].source, 0);
        }
        is
    }

    /// Takes the end of such a transaction.
    pub(super) fn covers_end(&mut self, time: Option<i64>, counts: &[(usize, u64)]) -> bool {
        let Some(rest) = self.rest.as_mut().filter(|rest| time.is_some_and(|time| time <= rest.upto)) else { return false };
        counts.iter().for_each(|(member, count)| add(&mut rest.lacking, self.members[*member].source, *count as i64));
        true
    }

    /// So many events of theirs are given out.
    pub(super) fn came(&mut self, member: usize, events: u64) {
        if let Some(rest) = self.rest.as_mut().filter(|_| events > 0) {
            add(&mut rest.lacking, self.members[member].source, -(events as i64));
        }
    }

    /// Looks whether the rest still stands.
    pub(super) fn settle_rest(&mut self) {
        let Some(rest) = &self.rest else { return };
        let beyond = |time: Option<i64>| time.is_some_and(|time| time > rest.upto.saturating_add(BEYOND_MS));
        let ends = !rest.endless || beyond(self.log_time);
        let gone = ends
            && self.members.iter().enumerate().all(|(at, member)| {
                let queues = || self.queues.iter().filter(|queue| queue.member == at);
                let lacking: i64 = rest.lacking.iter().chain(&self.forgotten).filter(|(source, _)| *source == member.source).map(|(_, lacking)| *lacking).sum();
                lacking <= 0 || (queues().count() > 0 && self.knows_all(at, false) && queues().all(|queue| beyond(queue.time)))
            });
        if gone {
            (self.rest, self.forgotten) = (None, Vec::new());
            self.news.push(News::Many { name: self.named(ID), stands: false });
        }
    }

    /// What stands for them.
    pub(super) fn incomplete_rest(&self) -> Option<Incomplete> {
        let mut rest = self.rest.clone()?;
        self.forgotten.iter().for_each(|(source, events)| add(&mut rest.lacking, *source, *events));
        for (member, count) in self.ends.all_remembered().flat_map(|end| &end.counts) {
            add(&mut rest.lacking, self.members[*member].source, *count as i64);
        }
        let seen = rest.lacking.iter().map(|(source, _)| (*source, Vec::new())).collect();
        Some(Incomplete { group: self.group, id: ID.into(), seen, rest: Some(rest), ..Incomplete::default() })
    }
}

fn add(to: &mut Vec<(SourceId, i64)>, source: SourceId, events: i64) {
    match to.iter_mut().find(|(of, _)| *of == source) {
        Some((_, lacking)) => *lacking += events,
        None => to.push((source, events)),
    }
}
