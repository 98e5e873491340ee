//! Sources whose messages go through a gate: how the clock feeds gates from its lanes, and hands out what they give.

use std::time::Instant;

use super::{
    Clock, Lane,
    gate::{Batch, Gate},
    replay,
};
use crate::{
    engine::{Chunk, Incomplete, Marked},
    log::Until,
    plan::{Plan, SourceId},
    telemetry,
};

/// Chunks of a lane that go into its gate before the clock looks at other things.
const CHUNKS_A_TURN: usize = 8;

/// A gate, and what it has given out.
pub struct Gated {
    pub gate: Gate,
    sources: Vec<SourceId>,
    /// What goes on next; nothing of it without all of it.
    pub ready: Option<Batch>,
    /// The source time of what goes on next, or of what did last.
    pub time: i64,
    /// Since when it has had nothing while others wait for it.
    pub empty_since: Option<Instant>,
    /// The transactions that stand incomplete, as of what was handed out.
    pub incomplete: Vec<Incomplete>,
    /// What had come when the backlog of all its logs was read.
    backlog: Option<u64>,
    /// All of that has been handed out.
    passed: bool,
}

impl Gated {
    /// Looks whether all of the backlog has been handed out; on a busy log something newer is ready nearly always.
    fn note_backlog(&mut self) {
        self.passed |= self.ready.is_none() && self.backlog.is_some_and(|upto| self.gate.has_passed(upto));
    }
}

impl Clock<'_> {
    /// Puts the gates of a plan before the sources that take part in transactions; goes on with those that stand incomplete.
    pub fn gates(mut self, plan: &Plan, standing: &[Incomplete]) -> Self {
        for group in 0..plan.transactions.len() {
            let mut gate = Gate::new(plan, group);
            let sources: Vec<SourceId> = gate.sources().collect();
            // Who does not read them would never learn that they are whole by now.
            let standing = if sources.iter().any(|source| plan.share(*source).has(0)) { standing } else { &[] };
            gate.resume(standing);
            sources.iter().for_each(|source| self.lanes[*source].gate = Some(group));
            let incomplete = standing.iter().filter(|one| one.group == group).cloned().collect();
            self.gated.push(Gated { gate, sources, ready: None, time: i64::MIN, empty_since: None, incomplete, backlog: None, passed: false });
        }
        self
    }

    /// Milliseconds since the clock was made.
    pub(super) fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Feeds the gates what their lanes have, and asks what may go on.
    pub(super) fn feed_gates(&mut self) {
        let (now, shows) = (self.elapsed_ms(), self.shows());
        for at in 0..self.gated.len() {
            let Gated { gate, sources, .. } = &mut self.gated[at];
            for source in sources.iter() {
                let lane = &mut self.lanes[*source];
                for turn in 0..=CHUNKS_A_TURN {
                    if turn == CHUNKS_A_TURN || !gate.takes(*source) {
                        lane.drained = false;
                        break;
                    }
                    lane.fill();
                    let read = lane
                        .view
                        .partitions
                        .iter()
                        .filter(|partition| lane.drained && !lane.is_replaying() && partition.at_end())
                        .map(|partition| partition.partition);
                    gate.partitions(*source, lane.view.partitions.len(), read);
                    let Some(chunk) = lane.head.take() else { break };
                    if sources.last() == Some(source) && lane.position(chunk.partition).is_none() {
                        // Its positions move when transactions have gone on.
                        let first = replay::first(&chunk);
                        lane.starts.push((chunk.partition, first));
                        lane.set_position(chunk.partition, first);
                    }
                    let behind = !lane.view.caught_up;
                    lane.offer(chunk, now, shows, |one| gate.feed_again(one.chunk, now, behind, &one.copies));
                }
            }
            let ended = self.until == Until::End && sources.iter().all(|source| self.lanes[*source].at_end());
            let gated = &mut self.gated[at];
            if gated.ready.is_none() {
                gated.ready = gated.gate.release(now, ended);
                gated.gate.news().iter().for_each(|news| telemetry::TransactionTurned { news }.emit());
            }
            match &gated.ready {
                Some(batch) if batch.pieces.is_empty() => self.hand_out_batch(at),
                Some(batch) => {
                    gated.time = batch.time.unwrap_or(gated.time);
                    gated.empty_since = None;
                }
                None => {}
            }
        }
    }

    /// Hands out all of what a gate gave.
    pub(super) fn hand_out_batch(&mut self, at: usize) {
        let Some(batch) = self.gated[at].ready.take() else { return };
        for piece in batch.pieces {
            if let Some(name) = &piece.incomplete {
                let Chunk { source, partition, next, .. } = piece.chunk;
                self.marked.push(Marked { transaction: name.to_string(), source, partition, from: replay::first(&piece.chunk), to: next });
            }
            self.hand_out_chunk(piece.chunk, piece.incomplete);
        }
        let gated = &mut self.gated[at];
        let log = &mut self.lanes[*gated.sources.last().expect("a group has a log")];
        for (partition, next) in batch.positions {
            log.set_position(partition, next);
        }
        gated.incomplete = batch.incomplete;
        gated.note_backlog();
        if !self.hydrated {
            // While it waited for other sources nobody could be late.
            let now = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
            gated.gate.pardon(now);
        }
    }

    /// Has everything been handed out that the gate's logs held when their backlog was read?
    pub(super) fn has_passed_backlog(&mut self, at: usize) -> bool {
        let gated = &mut self.gated[at];
        if gated.backlog.is_none() && gated.sources.iter().all(|source| self.lanes[*source].done()) {
            gated.backlog = Some(gated.gate.arrivals());
        }
        gated.note_backlog();
        gated.passed
    }

    /// Has the gate nothing to show, and will have nothing for now?
    pub(super) fn is_gate_idle(&self, at: usize) -> bool {
        let gated = &self.gated[at];
        let idle = |lane: &Lane| lane.done() || lane.view.trouble.is_some();
        gated.sources.iter().all(|source| idle(&self.lanes[*source])) && gated.gate.has_passed(u64::MAX)
    }

    /// Is nothing left in the gate?
    pub(super) fn is_gate_empty(&self, at: usize) -> bool {
        self.gated[at].ready.is_none() && self.gated[at].sources.iter().all(|source| self.gated[at].gate.held_of(*source) == 0)
    }

    /// Tells how much the gates hold.
    pub(super) fn measure_gates(&self) {
        for Gated { gate, incomplete, .. } in &self.gated {
            let older = incomplete.iter().filter_map(|one| one.rest.as_ref()).map(|rest| rest.count).sum();
            let each = incomplete.iter().filter(|one| one.rest.is_none()).count();
            telemetry::TransactionsMeasured { log: gate.name(), held: gate.held_transactions(), bytes: gate.held_bytes(), incomplete: each, older }.emit();
        }
    }

    /// Bytes of a source that are held, or wait to be handed out; 0: nothing is.
    pub(super) fn held_of(&self, source: SourceId) -> u64 {
        let lane = &self.lanes[source];
        let resent = lane.held().1.max(u64::from(lane.is_replaying()));
        let Some(at) = lane.gate else { return resent };
        let waits = self.gated[at].ready.is_some();
        resent + self.gated[at].gate.held_of(source).max(u64::from(waits))
    }
}
