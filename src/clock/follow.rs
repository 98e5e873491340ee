//! The clock of a process that does not lead: it hands out what its own logs have, and seals when it is told to.
//!
//! Which tick it is, and when it is over, is decided by the clock that leads; each process binds the positions of its own share
//! when it hears of it. Timely closes a tick when all have sealed it, so nobody waits for an answer.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Select, TryRecvError};
use serde::{Deserialize, Serialize};

use super::{Ask, Clock, IDLE_SEAL, Stopped, align};
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
        let mut way = Way { process, restoring: begin.restores, rebuild: begin.rebuild, listed: begin.again.into(), ..Way::default() };
        self.shown = way.listed.iter().any(|sealed| sealed.hydrated);
        let stopped = match self.read_again(&mut way) {
            Ok(()) => self.obey_and_read(&mut way, orders, &mut say, &mut part),
            stopped => stopped,
        };
        stopped.expect_err("only a reason to stop ends it")
    }

    fn obey_and_read(
        &mut self,
        way: &mut Way,
        orders: &Receiver<Order>,
        say: &mut impl FnMut(State),
        part: &mut impl FnMut(Part, bool),
    ) -> Result<(), Stopped> {
        let mut said = State::default();
        loop {
            loop {
                match orders.try_recv() {
                    Ok(Order::Oldest(oldest)) => self.ahead.others(oldest),
                    Ok(Order::Tell(command)) => {
                        if self.obey(command, way, part)? {
                            (said.open, said.bytes) = (false, 0);
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Err(Stopped::Early { last: self.last }),
                }
            }
            if let Some(stopped) = self.broken() {
                return Err(stopped);
            }
            if way.quiet || way.restoring || !way.listed.is_empty() {
                // What the leader has to say comes first.
                let mut select = Select::new();
                select.recv(orders);
                let _ = select.ready_timeout(IDLE_SEAL);
                continue;
            }
            for lane in self.lanes.iter_mut().filter(|lane| lane.gate.is_none()) {
                lane.fill();
            }
            self.let_go();
            self.feed_gates();
            let moved = self.hand_out_next()?;
            let now = State { over: self.is_over(), at_end: self.is_at_end(), open: self.bytes > 0, bytes: self.bytes, oldest: self.oldest() };
            let news = (now.over, now.at_end, now.open) != (said.over, said.at_end, said.open);
            if news || self.untold >= align::TELL_BYTES || (!moved && now.oldest != said.oldest) {
                (said, self.untold) = (now, 0);
                say(now);
            }
            if !moved {
                let mut select = self.select_logs();
                select.recv(orders);
                let _ = select.ready_timeout(IDLE_SEAL);
            }
        }
    }

    /// Does what it is told; whether a tick of its own is over by that.
    fn obey(&mut self, command: Command, way: &mut Way, part: &mut impl FnMut(Part, bool)) -> Result<bool, Stopped> {
        match command {
            Command::Restore { entries, give, numbers } => self.workers.restore(std::sync::Arc::unwrap_or_clone(entries), give, numbers),
            Command::Restored => {
                self.workers.all(&Command::Restored);
                way.restoring = false;
                self.read_again(way)?;
            }
            Command::Quiet => way.quiet = true,
            Command::Stop => return Err(Stopped::Done { last: self.last }),
            Command::Seal { tick, .. } if way.restoring => {
                self.workers.all(&command);
                self.last = tick;
            }
            Command::Seal { tick, shown, .. } => {
                let listed = way.listed.pop_front().filter(|sealed| sealed.tick == tick);
                if let Some(mut sealed) = listed {
                    self.feed_up_to(&sealed, &[], &mut way.asks)?;
                    self.take_over(&mut sealed);
                    part(Part { process: way.process, tick, sources: sealed.sources, ..Part::default() }, false);
                    self.workers.all(&command);
                    if way.listed.is_empty() {
                        self.go_on();
                    }
                } else {
                    way.listed.clear();
                    self.hydrated |= shown;
                    part(self.bind(way.process, tick), shown);
                    self.workers.all(&command);
                }
                self.end_tick(tick);
                return Ok(true);
            }
            command => self.workers.all(&command),
        }
        Ok(false)
    }

    /// Reads again what a changed dataflow needs, once the checkpoint is given back.
    fn read_again(&mut self, way: &mut Way) -> Result<(), Stopped> {
        if way.restoring || way.rebuild.is_empty() {
            return Ok(());
        }
        let rebuild = std::mem::take(&mut way.rebuild);
        self.rebuild(&rebuild, &mut way.asks)?;
        self.go_on();
        Ok(())
    }
}

/// How far one that follows is on its way to what is new.
#[derive(Default)]
struct Way {
    process: usize,
    /// A checkpoint is being given back.
    restoring: bool,
    /// What is read again after that.
    rebuild: Vec<Again>,
    /// Ticks to be made again after that.
    listed: VecDeque<Sealed>,
    /// Nothing more is read.
    quiet: bool,
    /// Nobody asks one that follows.
    asks: VecDeque<Ask>,
}
