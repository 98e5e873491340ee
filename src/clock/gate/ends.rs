//! What the log of transactions said: ends whose transactions have not gone on yet, and so the position from which a
//! restart must read the log again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::End;

/// Ends that wait, beyond which the log is read on only when a transaction waits for its end.
const ENOUGH: usize = 10_000;
/// With so many the oldest whose rows are not there is dropped.
const FULL: usize = 500_000;
/// Ends that were dropped because nothing of their transactions came, in case it comes yet.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Default)]
struct Partition {
    partition: i32,
    next: i64,
    /// Position and transaction.
    waiting: VecDeque<(i64, Arc<str>)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ends {
    partitions: Vec<Partition>,
    /// The source time of the first end that was read, in milliseconds.
    begin: Option<i64>,
    remembered: HashMap<Arc<str>, End>,
    order: VecDeque<Arc<str>>,
}

impl Ends {
    /// An end was read that has this source time.
    pub fn begins(&mut self, time: Option<i64>) {
        self.begin = self.begin.or(time);
    }

    /// Since when the log says which transactions ended.
    pub fn begin(&self) -> Option<i64> {
        self.begin
    }

    fn partition(&mut self, partition: i32) -> &mut Partition {
        let at = self.partitions.iter().position(|p| p.partition == partition).unwrap_or_else(|| {
            self.partitions.push(Partition { partition, ..Partition::default() });
            self.partitions.len() - 1
        });
        &mut self.partitions[at]
    }

    /// Holds the position of an end until its transaction has gone on.
    pub fn hold(&mut self, partition: i32, at: i64, id: Arc<str>) {
        self.partition(partition).waiting.push_back((at, id));
    }

    /// A partition has been read up to here.
    pub fn read(&mut self, partition: i32, next: i64) {
        self.partition(partition).next = next;
    }

    /// Does the log tell the order of commits? One of several partitions does not.
    pub fn is_ordered(&self) -> bool {
        self.partitions.len() <= 1
    }

    fn waiting(&self) -> usize {
        self.partitions.iter().map(|p| p.waiting.len()).sum()
    }

    pub fn has_room(&self) -> bool {
        self.waiting() < ENOUGH
    }

    pub fn is_full(&self) -> bool {
        self.waiting() >= FULL
    }

    /// The next position of each partition, before the oldest end for which `waits` is true.
    pub fn positions(&mut self, waits: impl Fn(&str) -> bool) -> Vec<(i32, i64)> {
        self.partitions
            .iter_mut()
            .map(|p| {
                while p.waiting.front().is_some_and(|(_, id)| !waits(id)) {
                    p.waiting.pop_front();
                }
                (p.partition, p.waiting.front().map_or(p.next, |(at, _)| *at))
            })
            .collect()
    }

    /// The transaction of the oldest end of some partition for which `waits` is true.
    pub fn oldest(&mut self, waits: impl Fn(&str) -> bool) -> Option<Arc<str>> {
        self.positions(waits);
        self.partitions.iter().filter_map(|p| p.waiting.front()).map(|(_, id)| Arc::clone(id)).next()
    }

    /// Goes on from a time as if the log had been read since then.
    pub fn began(&mut self, since: i64) {
        self.begin = Some(since);
    }

    /// Keeps in mind an end that nobody waits for any more. Gives the one that is forgotten for it.
    pub fn remember(&mut self, id: Arc<str>, end: End) -> Option<End> {
        if self.remembered.insert(Arc::clone(&id), end).is_none() {
            self.order.push_back(id);
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                return self.remembered.remove(&oldest);
            }
        }
        None
    }

    /// The ends that are kept in mind.
    pub fn all_remembered(&self) -> impl Iterator<Item = &End> {
        self.remembered.values()
    }

    pub fn is_remembered(&self, id: &str) -> bool {
        self.remembered.contains_key(id)
    }

    /// The end of a transaction that was dropped before a message of it came.
    pub fn remembered(&mut self, id: &str) -> Option<End> {
        self.remembered.remove(id)
    }
}
