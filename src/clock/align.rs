//! How clocks of several processes keep their sides together in source time while a backlog is read: nobody goes further ahead
//! of the oldest that another one has to hand out than a few chunks. Otherwise differences would be made, and taken back, for every
//! row that one process reads before another process reads its other side.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{ALIGN_WAIT, Clock};

/// Bytes that a clock may be ahead of the others: enough to decode while their word is on its way.
const AHEAD_BYTES: u64 = 768 << 10;
/// After so many bytes others are told how far this clock is.
pub(super) const TELL_BYTES: u64 = 256 << 10;

/// How far this process is ahead of the others.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The oldest source time that any other process has still to hand out; `i64::MAX`: nothing that others wait for.
    others: i64,
    /// What was handed out and is newer: source times and bytes.
    newer: VecDeque<(i64, u64)>,
    bytes: u64,
    waits_since: Option<Instant>,
}

impl Ahead {
    pub fn new() -> Ahead {
        Ahead { others: i64::MAX, newer: VecDeque::new(), bytes: 0, waits_since: None }
    }

    /// The others have come this far.
    pub fn others(&mut self, oldest: i64) {
        if oldest != self.others {
            self.waits_since = None;
        }
        self.others = oldest;
        while self.newer.front().is_some_and(|(time, _)| *time <= oldest) {
            let (_, bytes) = self.newer.pop_front().expect("there is a front");
            self.bytes -= bytes;
        }
    }

    /// So much of this source time is handed out.
    pub fn hand_out(&mut self, time: i64, bytes: u64) {
        if time > self.others {
            self.newer.push_back((time, bytes));
            self.bytes += bytes;
        }
    }

    /// Should it wait for the others? Not for longer than one that has nothing to say is waited for.
    pub fn waits(&mut self, now: Instant) -> bool {
        if self.bytes < AHEAD_BYTES {
            self.waits_since = None;
            return false;
        }
        let waited: Duration = now - *self.waits_since.get_or_insert(now);
        waited < ALIGN_WAIT
    }
}

impl Clock<'_> {
    /// The oldest source time that this process has still to hand out, of what others should wait for.
    pub(super) fn oldest(&self) -> i64 {
        if self.hydrated {
            return i64::MAX;
        }
        let lanes = self.lanes.iter().filter(|lane| lane.gate.is_none() && lane.view.trouble.is_none() && (lane.head.is_some() || !lane.done()));
        let gates = (0..self.gated.len()).filter(|at| self.gated[*at].ready.is_some() || !self.is_gate_idle(*at)).map(|at| self.gated[at].time);
        lanes.map(|lane| lane.time).chain(gates).min().unwrap_or(i64::MAX)
    }

    /// Tells each of the others how far all but it are.
    pub(super) fn tell_others(&mut self) {
        if self.hydrated || self.others.is_empty() {
            return;
        }
        let own = self.oldest();
        for at in 0..self.others.len() {
            let rest = self.others.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other.oldest);
            self.workers.align(at + 1, rest.min().unwrap_or(i64::MAX).min(own));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_goes_further_ahead_than_a_few_chunks_and_waits_for_ever() {
        let (mut ahead, now) = (Ahead::new(), Instant::now());
        ahead.hand_out(5, AHEAD_BYTES * 2);
        assert!(!ahead.waits(now), "nobody has to come");
        ahead.others(10);
        ahead.hand_out(10, AHEAD_BYTES);
        ahead.hand_out(20, AHEAD_BYTES / 2);
        assert!(!ahead.waits(now));
        ahead.hand_out(30, AHEAD_BYTES / 2);
        assert!(ahead.waits(now) && ahead.waits(now + ALIGN_WAIT / 2));
        ahead.others(20);
        assert!(!ahead.waits(now));
        ahead.hand_out(40, AHEAD_BYTES);
        assert!(ahead.waits(now) && !ahead.waits(now + ALIGN_WAIT));
        ahead.others(i64::MAX);
        assert!(!ahead.waits(now) && ahead.newer.is_empty());
    }
}
