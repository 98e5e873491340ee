//! The clock of a process that does not lead: it hands out what its own logs have, and seals when it is told to.
//!
//! Which tick it is, and when it is over, is decided by the clock that leads; each process binds the positions of its own share
//! when it hears of it. Timely closes a tick when all have sealed it, so nobody waits for an answer.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Select, TryRecvError};
use serde::{Deserialize, Serialize};

use super::{CHUNKS_PER_WORKER, CREDIT_WAIT, Clock, IDLE_SEAL, Lane, Stopped, align};
use crate::{
    engine::{Again, Command, Incomplete, Part, Sealed, Tick, Upstream},
    log::At,
};

/// What a process goes on from; the one that leads has found it out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Begin {
    /// Logs are read to their ends, and not followed.
    pub once: bool,
    /// Where each source is read from.
    pub at: Vec<At>,
    /// The newest tick that was ever made.
    pub last: Tick,
    /// There is a checkpoint, which comes first.
    pub restores: bool,
    /// Ticks to be made again.
    pub again: Vec<Sealed>,
    /// What is read again before that.
    pub rebuild: Vec<Again>,
    /// The transactions that stand incomplete.
    pub incomplete: Vec<Incomplete>,
    /// By source, the newest positions in the databases' own logs.
    pub upstream: Vec<Vec<Upstream>>,
}

/// What the one that leads says.
pub enum Order {
    /// For the workers, in this order with everything else; a seal binds positions.
    Tell(Command),
    /// The oldest source time that any other process has still to hand out.
    Oldest(i64),
}

/// How a clock that does not lead is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The backlog has been handed out.
    pub over: bool,
    /// Nothing more will come.
    pub at_end: bool,
    /// Something was handed out since the last seal, and how much.
    pub open: bool,
    pub bytes: u64,
    /// The oldest source time that it has still to hand out, while a backlog is read.
    pub oldest: i64,
}

impl Default for State {
    fn default() -> State {
        State { over: false, at_end: false, open: false, bytes: 0, oldest: i64::MIN }
    }
}

impl Clock<'_> {
    /// What another process says of its clock. An older word about the open tick may come after its seal, which makes a tick of
    /// nothing and does no harm.
    pub(super) fn heard(&mut self, process: usize, state: State) {
        if let Some(other) = process.checked_sub(1).and_then(|at| self.others.get_mut(at)) {
            *other = state;
        }
        let oldest = self.others.iter().map(|other| other.oldest).min().unwrap_or(i64::MAX);
        self.ahead.others(oldest);
        if self.others.len() > 1 {
            self.tell_others();
        }
    }

    /// Runs as one that does not lead, until it is told to stop or something is wrong. `say` gets what it is, `part` what it seals,
    /// and whether differences are shown as of that.
    pub fn follow(mut self, process: usize, begin: Begin, orders: &Receiver<Order>, mut say: impl FnMut(State), mut part: impl FnMut(Part, bool)) -> Stopped {
        let mut restoring = begin.restores;
        let mut listed = VecDeque::from(begin.again);
        let mut rebuild = begin.rebuild;
        self.shown = listed.iter().any(|sealed| sealed.hydrated);
        let (mut said, mut none, mut quiet) = (State::default(), VecDeque::new(), false);
        if !restoring && let Err(stopped) = self.read_again(&mut rebuild, &mut none) {
            return stopped;
        }
        loop {
            loop {
                let command = match orders.try_recv() {
                    Ok(Order::Tell(command)) => command,
                    Ok(Order::Oldest(oldest)) => {
                        self.ahead.others(oldest);
                        continue;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Stopped::Early { last: self.last },
                };
                match command {
                    Command::Restore { entries, give, numbers } => {
                        while self.workers.pending() >= CHUNKS_PER_WORKER * self.workers.count() as u64 && self.workers.is_alive() {
                            std::thread::sleep(CREDIT_WAIT);
                        }
                        self.workers.restore(std::sync::Arc::unwrap_or_clone(entries), give, numbers);
                    }
                    Command::Restored => {
                        self.workers.all(&Command::Restored);
                        restoring = false;
                        if let Err(stopped) = self.read_again(&mut rebuild, &mut none) {
                            return stopped;
                        }
                    }
                    Command::Quiet => quiet = true,
                    Command::Stop => return Stopped::Done { last: self.last },
                    Command::Seal { tick, .. } if restoring => {
                        self.workers.all(&command);
                        self.last = tick;
                    }
                    Command::Seal { tick, hold, shown } => {
                        let again = listed.front().is_some_and(|sealed| sealed.tick == tick);
                        if let Some(mut sealed) = listed.pop_front().filter(|_| again) {
                            if let Err(stopped) = self.feed_up_to(&sealed, &[], &mut none) {
                                return stopped;
                            }
                            self.take_over(&mut sealed);
                            part(Part { process, tick, sources: sealed.sources, ..Part::default() }, false);
                            self.workers.all(&command);
                            if listed.is_empty() {
                                self.go_on();
                            }
                        } else {
                            listed.clear();
                            self.hydrated |= shown;
                            let sources = self.sealed_sources();
                            let incomplete = self.gated.iter().flat_map(|gated| gated.incomplete.iter().cloned()).collect();
                            let marked = std::mem::take(&mut self.marked);
                            part(Part { process, tick, sources, incomplete, marked }, shown);
                            self.measure_gates();
                            self.workers.all(&Command::Seal { tick, hold, shown });
                        }
                        self.end_tick(tick);
                        (said.open, said.bytes) = (false, 0);
                    }
                    command => self.workers.all(&command),
                }
            }
            if let Some(stopped) = self.broken() {
                return stopped;
            }
            if quiet || restoring || !listed.is_empty() {
                // What the leader has to say comes first.
                self.wait_for(orders, false);
                continue;
            }
            for lane in self.lanes.iter_mut().filter(|lane| lane.gate.is_none()) {
                lane.fill();
            }
            self.let_go();
            self.feed_gates();
            let moved = match self.hand_out_next() {
                Ok(moved) => moved,
                Err(stopped) => return stopped,
            };
            let now = State { over: self.is_over(), at_end: self.is_at_end(), open: self.bytes > 0, bytes: self.bytes, oldest: self.oldest() };
            let news = (now.over, now.at_end, now.open) != (said.over, said.at_end, said.open);
            if news || self.untold >= align::TELL_BYTES || (!moved && now.oldest != said.oldest) {
                (said, self.untold) = (now, 0);
                say(now);
            }
            if !moved {
                self.wait_for(orders, true);
            }
        }
    }

    fn read_again(&mut self, rebuild: &mut Vec<Again>, asks: &mut VecDeque<super::Ask>) -> Result<(), Stopped> {
        let rebuild = std::mem::take(rebuild);
        if rebuild.is_empty() {
            return Ok(());
        }
        self.rebuild(&rebuild, asks)?;
        self.go_on();
        Ok(())
    }

    /// Waits until the leader has something, or one of the `logs`.
    fn wait_for(&self, orders: &Receiver<Order>, logs: bool) {
        let mut select = Select::new();
        let wants = |lane: &&Lane| lane.gate.is_none_or(|at| self.gated[at].gate.takes(lane.log.source));
        for lane in self.lanes.iter().filter(|lane| logs && !lane.ended && lane.head.is_none()).filter(wants) {
            select.recv(&lane.log.chunks);
        }
        select.recv(orders);
        let _ = select.ready_timeout(IDLE_SEAL);
    }
}
