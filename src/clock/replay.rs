//! Ticks that were written before a restart, made again exactly as they were: the same messages, number and times, so that
//! what follows from them is the same, and nothing of it is written twice.
//!
//! A list says up to which positions each tick had been read. A chunk that crosses a position is cut there; what comes too
//! early is put aside, live heartbeats too, and listed ones take their place.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) use crate::engine::chunk::{cut, first};

use super::{Ask, CREDIT_WAIT, Clock, Lane, Stopped, resent::Resent};
use crate::{
    engine::{Again, Chunk, Command, Marked, Payload, Sealed, SealedSource, SideOf, workers::Workers},
    log::LogError,
};

/// How long the clock waits when nothing has come.
const WAIT: Duration = Duration::from_millis(1);
/// How long a log may say that it ends before a position that it was read up to, before it is believed.
const SHRUNK_AFTER: Duration = Duration::from_secs(10);

/// Chunks that are looked at in one turn.
const TURN: usize = 64;
/// So much may be put aside of a source while one of its partitions is waited for.
const ASIDE_BYTES_MAX: usize = 1 << 30;

/// How far a lane is on its way to the positions of a tick.
enum Step {
    There,
    Waits,
    Chunk(Chunk),
}

impl Clock<'_> {
    /// Reads again what is not as it was, and makes the listed ticks again. Gives what was asked meanwhile.
    pub(super) fn replay(&mut self) -> Result<VecDeque<Ask>, Stopped> {
        let mut asks = VecDeque::new();
        let (listed, rebuild) = (std::mem::take(&mut self.listed), std::mem::take(&mut self.rebuild));
        if listed.is_empty() && rebuild.is_empty() {
            return Ok(asks);
        }
        if !rebuild.is_empty() {
            self.rebuild(&rebuild, &mut asks)?;
        }
        let (began, ticks) = (Instant::now(), listed.len());
        self.shown = listed.iter().any(|sealed| sealed.hydrated);
        for sealed in listed {
            self.feed_up_to(&sealed, &[], &mut asks)?;
            self.seal_again(sealed);
        }
        self.go_on();
        if ticks > 0 {
            tracing::info!(ticks, last = self.last, seconds = began.elapsed().as_secs_f64(), "made again what had been written");
        }
        Ok(asks)
    }

    /// What was put aside while ticks were made again comes first now.
    pub(super) fn go_on(&mut self) {
        for lane in &mut self.lanes {
            // A heartbeat that was put aside is of now; it may wait for the end.
            lane.aside.extend(lane.head.take());
            if let Some(time) = lane.heartbeat.take() {
                lane.aside.push_back(lane.beat(time));
            }
        }
    }

    /// Reads sources again up to where they had been read, for the sides that need it. All of it is in the tick to come.
    pub(super) fn rebuild(&mut self, rebuild: &[Again], asks: &mut VecDeque<Ask>) -> Result<(), Stopped> {
        let began = Instant::now();
        let mut upto = Sealed { sources: vec![SealedSource::default(); self.lanes.len()], ..Sealed::default() };
        for one in rebuild {
            upto.sources[one.source].positions.clone_from(&one.until);
        }
        self.feed_up_to(&upto, rebuild, asks)?;
        for one in rebuild.iter().filter(|one| !one.until.is_empty()) {
            let lane = &mut self.lanes[one.source];
            lane.positions = lane.own(&one.until);
            lane.starts.clear();
        }
        tracing::info!(seconds = began.elapsed().as_secs_f64(), "read again what follows from something else than before");
        Ok(())
    }

    /// Hands out what lies below the positions of a tick; what is in `rebuild` only for the sides that need it.
    pub(super) fn feed_up_to(&mut self, sealed: &Sealed, rebuild: &[Again], asks: &mut VecDeque<Ask>) -> Result<(), Stopped> {
        let mut stands_since = Instant::now();
        let upto = |(source, lane): (usize, &Lane)| sealed.sources.get(source).map_or_else(Vec::new, |of| lane.own(&of.positions));
        let upto: Vec<_> = self.lanes.iter().enumerate().map(upto).collect();
        loop {
            if let Some(stopped) = self.broken() {
                return Err(stopped);
            }
            while let Ok(ask) = self.asks.try_recv() {
                match ask {
                    Ask::Stop => return Err(Stopped::Early { last: self.last }),
                    Ask::Failed(source, error) => return Err(Stopped::Log { source, error }),
                    ask => asks.push_back(ask),
                }
            }
            if self.workers.pending() >= self.most_pending()? {
                std::thread::sleep(CREDIT_WAIT);
                continue;
            }
            let (mut there, mut moved) = (true, false);
            for (source, positions) in upto.iter().enumerate() {
                match self.lanes[source].step(positions) {
                    Step::There => {}
                    Step::Waits => there = false,
                    Step::Chunk(chunk) => {
                        match rebuild.iter().find(|one| one.source == source) {
                            Some(one) => self.lanes[source].pass_again(chunk, self.workers, &one.sides),
                            None => self.lanes[source].pass_marked(chunk, self.workers, &sealed.marked),
                        }
                        (there, moved) = (false, true);
                    }
                }
            }
            if there {
                return Ok(());
            }
            if moved {
                stands_since = Instant::now();
                continue;
            }
            if stands_since.elapsed() > SHRUNK_AFTER {
                let full = self.lanes.iter().zip(&upto).enumerate().find_map(|(source, (lane, upto))| Some((source, lane.overfull(upto)?)));
                if let Some((source, error)) = full {
                    return Err(Stopped::Log { source, error });
                }
                let shrunk = self.lanes.iter().zip(&upto).enumerate();
                if let Some((source, error)) = shrunk.map(|(source, (lane, upto))| (source, lane.shrunk(upto))).find_map(|(s, e)| Some((s, e?))) {
                    return Err(Stopped::Log { source, error });
                }
            }
            std::thread::sleep(WAIT);
        }
    }

    fn seal_again(&mut self, mut sealed: Sealed) {
        self.take_over(&mut sealed);
        let (tick, shown) = (sealed.tick, sealed.hydrated);
        let _ = self.sealed.send(Sealed { replay: true, ..sealed });
        self.workers.all(&Command::Seal { tick, hold: false, shown });
        self.last = tick;
        self.last_seal = Instant::now();
    }

    /// Stands at a tick that was made again; adds what this process knows of its sources beside that.
    pub(super) fn take_over(&mut self, sealed: &mut Sealed) {
        for (lane, of) in self.lanes.iter_mut().zip(&mut sealed.sources) {
            lane.positions = lane.own(&of.positions);
            of.identity = lane.view.identity.clone().or(of.identity.take());
            of.upstream = lane.resent.as_ref().map(Resent::saved).unwrap_or_default();
            of.schema = lane.log.status.schema();
        }
    }
}

impl Lane {
    /// A heartbeat, at the position that its partition has.
    fn beat(&self, time: i64) -> Chunk {
        let next = self.position(0).unwrap_or(0);
        Chunk { source: self.log.source, partition: 0, payload: Payload::Heartbeat(time), source_time: Some(time), next }
    }

    /// Hands a chunk out for some sides only.
    fn pass_again(&mut self, chunk: Chunk, workers: &Workers, sides: &Arc<[SideOf]>) {
        self.set_position(chunk.partition, chunk.next);
        workers.chunk_again(chunk, self.seq, sides);
        self.seq += 1;
    }

    /// Hands a chunk out in parts: those of incomplete transactions are marked as they were.
    fn pass_marked(&mut self, chunk: Chunk, workers: &Workers, marked: &[Marked]) {
        let mut rest = Some(chunk);
        while let Some(chunk) = rest.take() {
            let (of, at) = ((chunk.source, chunk.partition), first(&chunk));
            let ahead = marked.iter().filter(|mark| (mark.source, mark.partition) == of && mark.to > at).min_by_key(|mark| mark.from);
            let (upto, name) = match ahead {
                Some(mark) if mark.from <= at => (mark.to, Some(Arc::from(mark.transaction.as_str()))),
                Some(mark) => (mark.from, None),
                None => (i64::MAX, None),
            };
            let (head, tail) = cut(chunk, upto);
            if let Some(resent) = &mut self.resent {
                resent.pass(&head);
            }
            self.pass(head, workers, name);
            rest = tail;
        }
    }

    /// The next chunk below the positions, if there is one yet.
    fn step(&mut self, until: &[(i32, i64)]) -> Step {
        let limit = |chunk: &Chunk| until.iter().find(|(partition, _)| *partition == chunk.partition).map_or(i64::MIN, |(_, next)| *next);
        if let Some(at) = self.aside.iter().position(|chunk| first(chunk) < limit(chunk)) {
            let chunk = self.aside.remove(at).expect("it was found there");
            let end = limit(&chunk);
            let (chunk, rest) = cut(chunk, end);
            if let Some(rest) = rest {
                self.aside.insert(at, rest);
            }
            return Step::Chunk(chunk);
        }
        if until.iter().all(|(partition, next)| self.is_at(*partition, *next)) {
            return Step::There;
        }
        for _ in 0..TURN {
            let head = &mut self.head;
            if head.is_none() && !self.ended {
                let taken = self.log.take(1, |chunk| *head = Some(chunk));
                (self.drained, self.ended, self.view) = (taken.drained, taken.ended, taken.view);
            }
            let Some(chunk) = self.head.take() else { return Step::Waits };
            self.drained = false;
            let end = limit(&chunk);
            if let Payload::Heartbeat(time) = chunk.payload {
                self.heartbeat = self.heartbeat.max(Some(time));
            } else if first(&chunk) >= end {
                self.aside.push_back(chunk);
                if until.iter().all(|(partition, next)| self.is_at(*partition, *next)) {
                    return Step::There;
                }
            } else {
                let (chunk, rest) = cut(chunk, end);
                self.aside.extend(rest);
                return Step::Chunk(chunk);
            }
        }
        Step::Waits
    }

    /// Everything of a partition below a position was handed out, or is not there any more (transaction markers, compaction).
    fn is_at(&self, partition: i32, next: i64) -> bool {
        let drained = self.drained && self.head.is_none();
        let passed = || self.view.partitions.iter().any(|p| p.partition == partition && (p.start >= next || (drained && p.next >= next)));
        self.position(partition).is_some_and(|at| at >= next) || self.aside.iter().any(|chunk| chunk.partition == partition) || passed()
    }

    /// More is put aside than may be, while a partition of these is waited for.
    fn overfull(&self, until: &[(i32, i64)]) -> Option<LogError> {
        if self.aside.iter().map(|chunk| chunk.payload.bytes()).sum::<usize>() <= ASIDE_BYTES_MAX {
            return None;
        }
        let (partition, next) = until.iter().find(|(partition, next)| !self.is_at(*partition, *next))?;
        Some(LogError {
            code: "REPLAY_WAITS",
            message: format!("number {partition} of the log does not come up to {next}, while the others are {} MiB ahead of it", ASIDE_BYTES_MAX >> 20),
            remedy: "look after the broker that leads this partition; the next start tries it again".into(),
            retry: true,
        })
    }

    /// The log has been read to its end, and that lies before these positions.
    fn shrunk(&self, until: &[(i32, i64)]) -> Option<LogError> {
        if !self.drained || !self.view.caught_up {
            return None;
        }
        let (partition, next) = until.iter().find(|(partition, next)| !self.is_at(*partition, *next))?;
        Some(LogError {
            code: "LOG_SHRUNK",
            message: format!("number {partition} of the log ends before {next}, up to which its messages are written already"),
            remedy: "bring the log back; or start anew with `tieout run --fresh` and empty output topics".into(),
            retry: false,
        })
    }
}

#[cfg(test)]
mod tests;
