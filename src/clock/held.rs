//! How the clock holds ranges that connectors send again: chunks go through `resent` before they are handed out, or before the
//! gate of their transactions.

use super::{
    Clock, Lane,
    resent::{Look, Passed, Resent, Why},
};
use crate::{
    engine::{Chunk, Replaying, Upstream},
    memory::{self, Pressure},
    plan::Plan,
    telemetry,
};

/// With so many bytes held the range that began first goes on.
const HELD_BYTES: u64 = 256 << 20;
/// So close to the end of a backlog every message is looked at, since what is read next is shown.
const NEAR_END_BYTES: u64 = 8 << 20;

impl Lane {
    /// Takes a chunk; gives what may go on, which belongs in one tick.
    pub(super) fn offer(&mut self, chunk: Chunk, now: i64, shows: bool, mut give: impl FnMut(Passed)) {
        let Some(resent) = &mut self.resent else { return give(Passed { chunk, copies: Vec::new() }) };
        let whole = shows || self.view.behind_bytes < NEAR_END_BYTES;
        resent.offer(chunk, Look { now, whole, hold: shows }, give);
        self.tell();
    }

    fn tell(&mut self) {
        let Some(resent) = &mut self.resent else { return };
        resent.news().iter().for_each(|news| telemetry::ReplayTurned { source: &self.name, news }.emit());
    }

    /// Does a range wait for its end?
    pub(super) fn is_replaying(&self) -> bool {
        self.resent.as_ref().is_some_and(|resent| resent.since().is_some())
    }

    /// Messages and bytes that are held.
    pub(super) fn held(&self) -> (u64, u64) {
        self.resent.as_ref().map_or((0, 0), Resent::held)
    }
}

impl Clock<'_> {
    /// Holds ranges that connectors send again; `saved`: by source, the newest positions of what was read before. Comes
    /// after the gates.
    pub fn holds(mut self, plan: &Plan, saved: &[Vec<Upstream>]) -> Self {
        self.replay_bound = i64::try_from(plan.replay_bound.as_millis()).unwrap_or(i64::MAX);
        if self.replay_bound > 0 {
            for (id, (lane, source)) in self.lanes.iter_mut().zip(&plan.sources).enumerate() {
                // Of what others read they know the newest.
                let own: Vec<Upstream> = saved.get(id).into_iter().flatten().filter(|one| lane.share.has(one.partition)).cloned().collect();
                (lane.resent, lane.name) = (Resent::new(source, lane.gate.is_some(), &own), source.name.clone());
            }
        }
        self
    }

    /// Is what goes on now shown, or written?
    pub(super) fn shows(&self) -> bool {
        self.hydrated || self.shown
    }

    /// Hands out a chunk of a source without a gate, or holds it.
    pub(super) fn take(&mut self, chunk: Chunk) {
        let (now, shows, source) = (self.elapsed_ms(), self.shows(), chunk.source);
        let mut passed = Vec::new();
        self.lanes[source].offer(chunk, now, shows, |one| passed.push(one));
        for one in passed {
            self.hand_out_chunk(one.chunk, None);
        }
    }

    /// Lets go what has been held for too long, or is too much.
    pub(super) fn let_go(&mut self) {
        if !self.lanes.iter().any(Lane::is_replaying) {
            return;
        }
        let (now, shows) = (self.elapsed_ms(), self.shows());
        let short = memory::pressure() != Pressure::None;
        let full = self.lanes.iter().map(|lane| lane.held().1).sum::<u64>() >= HELD_BYTES;
        let since = |lane: &Lane| lane.resent.as_ref().and_then(Resent::since);
        let first = (0..self.lanes.len()).filter(|source| since(&self.lanes[*source]).is_some()).min_by_key(|source| since(&self.lanes[*source]));
        for source in 0..self.lanes.len() {
            let lane = &mut self.lanes[source];
            let Some(since) = since(lane) else { continue };
            let idle = lane.head.is_none() && lane.drained && lane.view.caught_up;
            let why = match () {
                () if lane.at_end() => Some(Why::Ended),
                () if now - since >= self.replay_bound => Some(Why::Bound),
                () if short && lane.held().1 > 0 => Some(Why::Memory),
                () if full && first == Some(source) => Some(Why::Volume),
                () => None,
            };
            let mut passed = Vec::new();
            match (&mut lane.resent, why) {
                (Some(resent), None) => resent.settle(now, idle, shows, |one| passed.push(one)),
                (Some(resent), Some(why)) => resent.give_up(why, now, shows, |one| passed.push(one)),
                (None, _) => {}
            }
            lane.tell();
            for one in passed {
                match self.lanes[source].gate {
                    None => self.hand_out_chunk(one.chunk, None),
                    Some(at) => self.gated[at].gate.feed_again(one.chunk, now, false, &one.copies),
                }
            }
        }
    }

    /// What a seal tells of a source's range.
    pub(super) fn replaying(&self, source: usize) -> Option<Replaying> {
        let lane = &self.lanes[source];
        let since = lane.resent.as_ref()?.since()?;
        let (records, bytes) = lane.held();
        Some(Replaying { since_ms: super::now_ms() - (self.elapsed_ms() - since), records, bytes })
    }
}
