//! Transactions that do not wait any longer for the rest of their rows: when that is given up, what stands of them, and when
//! nothing more of them will come.

use std::sync::Arc;

use super::{End, Gate, HELD_BYTES, News, Open, Places, Why};
use crate::{engine::Incomplete, plan::SourceId};

impl Gate {
    /// Goes on with transactions that were given out incomplete before a restart.
    pub fn resume(&mut self, standing: &[Incomplete]) {
        let group = self.group;
        for one in standing.iter().filter(|one| one.group == group) {
            if let Some(rest) = &one.rest {
                self.rest = Some(rest.clone());
                self.ends.began(rest.since);
                // What waits still is later than what has been given up.
                self.log_time = Some(rest.upto.saturating_add(1)).filter(|_| !rest.endless);
                continue;
            }
            let none = vec![Places::default(); self.members.len()];
            let sources: Vec<SourceId> = self.members.iter().map(|m| m.source).collect();
            let member = |source: &SourceId| sources.iter().position(|of| of == source);
            let mut open = Open { seen: none.clone(), given: none.clone(), incomplete: true, newest: one.time, ..Open::default() };
            for (source, n) in &one.seen {
                if let Some(member) = member(source) {
                    open.seen[member] = Places::of(n);
                    open.given[member] = Places::of(n);
                }
            }
            let counts = |counts: &[(SourceId, u64)]| counts.iter().filter_map(|(source, n)| Some((member(source)?, *n))).collect();
            open.end = one.end.as_ref().map(|(number, of)| End { number: *number, counts: counts(of), time: None });
            let partitions: Vec<(usize, i32)> = one.partitions.iter().filter_map(|(source, partition)| Some((member(source)?, *partition))).collect();
            for (member, partition) in partitions {
                // Whatever is read there from now on stands behind it.
                open.last.insert(self.queue(member, partition), u64::MAX);
            }
            let id: Arc<str> = one.id.as_str().into();
            self.standing.insert(Arc::clone(&id));
            self.open.insert(id, open);
        }
        self.told.1 = self.incomplete();
    }

    /// Gives up waiting for the rest of what stands at the heads: what is late, or everything, or the oldest where too much
    /// is held.
    pub(super) fn give_up(&mut self, now: i64, last: bool) -> bool {
        let mut heads: Vec<(i64, Arc<str>)> = Vec::new();
        for id in self.queues.iter().filter_map(|q| q.head()?.id.as_ref()) {
            if let Some(open) = self.open.get(id).filter(|open| !open.incomplete) {
                heads.push((open.since, Arc::clone(id)));
            }
        }
        heads.sort();
        heads.dedup();
        let full = self.held_bytes() >= HELD_BYTES;
        let mut given = false;
        for (n, (since, id)) in heads.into_iter().enumerate() {
            let why = match () {
                () if last => Why::Ended,
                () if self.is_late(&id, since, now) => Why::Bound,
                () if full && n == 0 => Why::Volume,
                () => continue,
            };
            let name = self.named(&id);
            let open = self.open.get_mut(&id).expect("a head that waits is open");
            open.incomplete = true;
            self.standing.insert(Arc::clone(&id));
            let count = |member: usize| open.end.as_ref().map(|end| end.counts.iter().find(|(m, _)| *m == member).map_or(0, |(_, n)| *n));
            let seen = self.members.iter().enumerate().map(|(m, of)| (of.name.clone(), open.seen[m].len(), count(m)));
            self.news.push(News::Incomplete { name, why, seen: seen.filter(|(_, seen, count)| *seen > 0 || count.is_none_or(|n| n > 0)).collect() });
            given = true;
        }
        given
    }

    /// Has its rest been waited for long enough? Who reads on from a backlog is not late.
    fn is_late(&self, id: &str, since: i64, now: i64) -> bool {
        let Some(open) = self.open.get(id) else { return false };
        let busy = match &open.end {
            None => self.log_busy,
            Some(end) => end.counts.iter().filter(|(m, n)| open.seen[*m].len() < *n).map(|(m, _)| self.members[*m].busy).max().unwrap_or(i64::MIN),
        };
        now.saturating_sub(since.max(busy)) >= self.bound_ms
    }

    /// Closes what needs no more: incomplete ones of which the rest has come, ends of which no message is there.
    pub(super) fn settle(&mut self, now: i64, last: bool) {
        let is_settled = |id: &&Arc<str>| self.open.get(*id).is_none_or(|open| open.held == 0 && self.is_whole(id, open));
        let settled: Vec<Arc<str>> = self.standing.iter().filter(is_settled).cloned().collect();
        for id in settled {
            self.news.push(News::Settled { name: self.named(&id) });
            self.finish(&id);
        }
        self.bound_standing();
        self.settle_rest();
        while let Some(id) = self.ends.oldest(|id| self.open.get(id).is_some_and(|open| !open.incomplete)) {
            let Some(open) = self.open.get(&id) else { break };
            if open.held > 0 {
                break;
            }
            if self.is_whole(&id, open) {
                self.finish(&id);
            } else if last || self.ends.is_full() || self.is_late(&id, open.since, now) {
                let open = self.open.remove(&id).expect("it is open");
                if let Some(end) = open.end {
                    let forgotten = self.ends.remember(id, end);
                    self.forget(forgotten);
                }
            } else {
                break;
            }
        }
    }

    /// Have all partitions gone on from a transaction whose end is lost? That lifts a doubt, but gives nothing out early.
    pub(super) fn is_past(&self, id: &str, open: &Open) -> bool {
        // What stands behind it in a queue was committed after it.
        let behind = open.last.keys().map(|queue| &self.queues[*queue]).filter_map(|queue| match &queue.newest {
            Some(newest) if &**newest != id => self.open.get(newest).map_or(Some(queue.passed), |open| Some(open.end.as_ref()?.number)),
            _ => None,
        });
        let later = behind.max().unwrap_or(0);
        let all = (0..self.members.len()).all(|member| self.knows_all(member, false));
        later > 0 && all && self.queues.iter().all(|queue| self.reached(queue) >= later)
    }

    /// The transactions that stand incomplete, in the order of their ids.
    pub(super) fn incomplete(&self) -> Vec<Incomplete> {
        let one = |id: &Arc<str>| {
            let open = self.open.get(id)?;
            let seen = open.given.iter().enumerate().filter(|(_, places)| places.len() > 0);
            let seen = seen.map(|(m, places)| (self.members[m].source, places.stretches().to_vec())).collect();
            let end = open.end.as_ref().map(|end| (end.number, end.counts.iter().map(|(m, n)| (self.members[*m].source, *n)).collect()));
            // Where all is given out that has come: what is read there from now on stands behind it.
            let given = open.last.iter().map(|(queue, run)| (&self.queues[*queue], *run)).filter(|(queue, run)| *run == u64::MAX || *run < queue.first());
            let partitions = given.map(|(queue, _)| (self.members[queue.member].source, queue.partition)).collect();
            let time = open.newest.max(open.end.as_ref().and_then(|end| end.time));
            Some(Incomplete { group: self.group, id: id.to_string(), seen, partitions, end, time, rest: None })
        };
        self.standing.iter().filter_map(one).chain(self.incomplete_rest()).collect()
    }
}
