//! How far connectors are: what one table of a connector shows is known of all its tables that are read to their ends, and
//! what a heartbeat counts for.
//!
//! A heartbeat of Debezium has the connector's clock and no position, also while the connector reads its database's log
//! minutes late. So it is not taken for the time up to which the source is known. An event says two times: when the connector
//! handled it, `h`, and when the database had committed it, `s`. Everything committed up to `s` has come; what may be said at
//! a later heartbeat `t` follows from that.
//!
//! ```text
//! database's time   s ────────── s + (t - h) ──▶ …  t - least
//! connector's clock h ──────────────── t               least: the smallest h - s of all events, at most a second
//! ```
//!
//! - The connector is taken to be as late as it was at the event: the heartbeat counts for `s + (t - h)`.
//! - While nothing comes it catches up: a second in four. Who delivers nothing of what is followed reads on at least at 1.25
//!   times the speed at which the log is written.
//! - Who sent no heartbeat for much longer than usual was away: it is taken to be as late as it was away, until an event says
//!   something else. What is usual is not known before the second heartbeat: until then a second is long.
//! - Of a connector of which no event has come nothing is known: its heartbeats count as they are.
//! - Who says nothing at all is down, or has nothing to say, which nobody can tell from outside. For a while it is taken to be
//!   down; then what other connectors of its connection show counts as a heartbeat of its own would. Where a topic of heartbeats
//!   is named it is down as long as that is silent.
//!
//! All of it follows from what ticks have, so ticks that are made again say the same.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::source::SourceState;
use crate::{
    engine::SealedSource,
    format::Handled,
    plan::{ConnectionKind, Format, Heartbeat, LogSpec, Plan, Source},
};

/// The newest source time of a connector's sources that are read to their ends, with the wall clock at which it was known;
/// both in milliseconds, the oldest first.
pub type Times = VecDeque<(i64, i64)>;

/// Times closer to each other than this are one.
const TIMES_APART_MS: i64 = 20;
/// Who has not asked its log for so long is known by what was known then.
const TIMES_KEPT_MS: i64 = 30_000;
/// Between ticks further apart than this, and than some ticks are meant to be, nobody was there to see whether heartbeats came.
const APART_MS: i64 = 1_000;
/// So much of what every event was late is the way, and the difference of two clocks; more than that is a connector that lags.
const LEAST_MS: i64 = 1_000;
/// Who has said nothing for so long has nothing to say.
const SILENT_MS: i64 = 60_000;
/// A connector that sends nothing is taken to catch up by one second in so many.
const CATCHES_UP: i64 = 4;

/// What heartbeats of one connector count for. All times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// The event that it handled last, or what stands for one.
    event: Option<Handled>,
    /// The smallest time from commit to handling: how much its clock is ahead, and what the way takes at least.
    least: Option<i64>,
    /// The newest heartbeat, and how far it was known then; `None`: none came while somebody was there.
    beat: Option<(i64, i64)>,
    /// The usual time from one heartbeat to the next; 0: not known yet.
    usual: i64,
    /// The wall clock of the newest tick at which it had said something, or nobody could know whether it had; 0: no tick yet.
    #[serde(default)]
    heard_ms: i64,
}

impl Pace {
    fn event(&mut self, event: Handled) {
        let late = (event.at - event.committed).clamp(0, LEAST_MS);
        self.least = Some(self.least.map_or(late, |least| least.min(late)));
        if self.event.is_none_or(|known| known < event) {
            self.event = Some(event);
        }
    }

    /// What a heartbeat counts for; `None`: an event that was handled after it tells more.
    fn counts(&self, beat: i64) -> Option<i64> {
        let Some(event) = self.event else { return Some(beat) };
        let since = beat - event.at;
        (since >= 0).then(|| (event.committed + since + since / CATCHES_UP).min(beat - self.least.unwrap_or(0)))
    }

    /// A heartbeat comes, after so much time in which nothing was heard though somebody was there. The same may come by each of
    /// its sources.
    fn beat(&mut self, beat: i64, silent: i64) {
        // When it was last heard, and how far it was known then.
        let (heard, known) = match (self.beat, self.event) {
            (Some((last, _)), _) if beat <= last => return,
            (Some((last, known)), Some(event)) if event.at > last => (event.at, known.max(event.committed)),
            (Some(last), _) => last,
            // The first one, as far as anybody knows.
            (None, Some(event)) if event.at >= beat - silent => (event.at, event.committed),
            (None, Some(event)) => (beat - silent, self.counts(beat - silent).unwrap_or(event.committed)),
            (None, None) => (beat, beat),
        };
        let away = beat - heard > 2 * self.usual + 1000;
        if away && (self.usual > 0 || self.event.is_some()) {
            self.event = Some(Handled { at: beat, committed: known });
        }
        if let Some((last, _)) = self.beat {
            // Rarer heartbeats become the usual ones after a few.
            self.usual = if self.usual == 0 { beat - last } else { (beat - last).clamp(self.usual / 2, 2 * self.usual + 1000) };
        }
        let known = self.counts(beat).or(self.event.map(|event| event.committed)).unwrap_or(beat);
        self.beat = Some((beat, self.beat.map_or(known, |(_, before)| before.max(known))));
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Connectors {
    /// The plan's connections, and after them the connectors: several may write to one Kafka cluster, and each is late by itself.
    all: Vec<Connector>,
    /// By source, whose it is.
    of: Vec<usize>,
    /// By source, whether it takes the time that others of its connection show as a heartbeat of its own, if its connector is
    /// silent: MariaDB's has none while nothing is written. Not where heartbeats are left out, nor where a source of the connector
    /// names their topic.
    takes: Vec<bool>,
    /// Between ticks further apart than this nobody was there, in milliseconds.
    apart_ms: i64,
}

#[derive(Clone, Debug, Default)]
struct Connector {
    name: String,
    /// The connection through which it is read.
    connection: usize,
    times: Times,
    pace: Pace,
}

/// What a checkpoint keeps of connectors, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Paces(BTreeMap<String, Pace>);

impl Paces {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The name of the connector that writes a source's topic: by its heartbeats, as its topics have its prefix. `None`: nothing
/// tells it from others of the connection, and messages have the broker's time.
fn name(plan: &Plan, source: &Source) -> Option<String> {
    let connection = &plan.connections[source.connection];
    let LogSpec::Topic { topic, heartbeat, .. } = &source.log else { return None };
    if !matches!(connection.kind, ConnectionKind::Kafka { .. }) || source.format.in_text() != Format::DebeziumJson {
        return None;
    }
    let beats = match heartbeat {
        Heartbeat::Topic(beats) => beats.clone(),
        Heartbeat::Auto | Heartbeat::None => Heartbeat::of(topic).unwrap_or_else(|| topic.clone()),
    };
    Some(format!("{}/{beats}", connection.name))
}

impl Connectors {
    pub fn new(plan: &Plan) -> Connectors {
        let connection =
            |(at, connection): (usize, &crate::plan::Connection)| Connector { name: connection.name.clone(), connection: at, ..Connector::default() };
        let mut all: Vec<Connector> = plan.connections.iter().enumerate().map(connection).collect();
        let of = plan.sources.iter().map(|source| {
            let Some(name) = name(plan, source) else { return source.connection };
            all.iter().position(|one| one.name == name).unwrap_or_else(|| {
                all.push(Connector { name, connection: source.connection, ..Connector::default() });
                all.len() - 1
            })
        });
        let of: Vec<usize> = of.collect();
        let beats = |source: &Source| match &source.log {
            LogSpec::Topic { heartbeat, .. } => heartbeat.clone(),
            _ => Heartbeat::Auto,
        };
        let named = |connector: usize| of.iter().zip(&plan.sources).any(|(of, source)| *of == connector && matches!(beats(source), Heartbeat::Topic(_)));
        let takes = plan.sources.iter().zip(&of).map(|(source, of)| beats(source) != Heartbeat::None && !named(*of)).collect();
        Connectors { all, of, takes, apart_ms: APART_MS.max(3 * plan.tick.as_millis() as i64) }
    }

    /// Goes on from what a checkpoint has.
    pub fn resume(&mut self, times: &BTreeMap<String, Times>, paces: &Paces) {
        for one in &mut self.all {
            one.times = times.get(&one.name).cloned().unwrap_or_default();
            one.pace = paces.0.get(&one.name).cloned().unwrap_or_default();
        }
    }

    /// What a checkpoint keeps.
    pub fn save(&self) -> (BTreeMap<String, Times>, Paces) {
        let times = self.all.iter().map(|one| (one.name.clone(), one.times.clone())).collect();
        let paces = self.all.iter().filter(|one| one.pace != Pace::default()).map(|one| (one.name.clone(), one.pace.clone())).collect();
        (times, Paces(paces))
    }

    /// Counts the heartbeats of a tick. By source: the event that was handled last, and the newest heartbeat. `since_ms`: how
    /// long before `wall_ms` the tick before was sealed.
    pub fn beat(&mut self, sources: &mut [SourceState], seen: &[(Option<Handled>, Option<i64>)], wall_ms: i64, since_ms: i64) {
        if since_ms > self.apart_ms {
            self.all.iter_mut().for_each(|one| (one.pace.beat, one.pace.heard_ms) = (None, wall_ms));
        }
        for (of, event) in self.of.iter().zip(seen).filter_map(|(of, (event, _))| Some((*of, (*event)?))) {
            self.all[of].pace.event(event);
        }
        for (of, beat) in self.of.iter().zip(seen).filter_map(|(of, (_, beat))| Some((*of, (*beat)?))) {
            let pace = &mut self.all[of].pace;
            pace.beat(beat, wall_ms - pace.heard_ms);
        }
        for (of, _) in self.of.iter().zip(seen).filter(|(_, (event, beat))| event.is_some() || beat.is_some()) {
            self.all[*of].pace.heard_ms = wall_ms;
        }
        for ((source, of), (_, beat)) in sources.iter_mut().zip(&self.of).zip(seen) {
            source.time = source.time.max(beat.and_then(|beat| self.all[*of].pace.counts(beat)));
        }
    }

    /// Sets how far each source is known, once all of a tick is counted. What is read to its end as of some moment is known as
    /// far as its connector was known then: what others have shown since may have come after that. Of a silent connector, what others of
    /// its connection show counts as a heartbeat would.
    pub fn advance(&mut self, sources: &mut [SourceState], sealed: &[SealedSource], wall_ms: i64) {
        let (of, connections) = (&self.of, self.all.iter().map(|one| one.connection).collect::<Vec<_>>());
        let asked = |source: usize| sealed.get(source).and_then(|of| of.asked_ms).unwrap_or(i64::MAX);
        for (at, one) in self.all.iter_mut().enumerate() {
            // What has the broker's time is known as far as anything that came through it.
            let shows = |source: usize| of[source] == at || (at == one.connection && connections[of[source]] == at);
            let caught_up = || sources.iter().enumerate().filter(|(id, source)| source.caught_up && shows(*id));
            let newest = caught_up().filter_map(|(_, source)| source.time).max();
            let times = &mut one.times;
            if let Some(newest) = newest.filter(|newest| times.back().is_none_or(|(_, known)| newest > known)) {
                if times.back().is_some_and(|(wall, _)| wall / TIMES_APART_MS == wall_ms / TIMES_APART_MS) {
                    times.pop_back();
                }
                times.push_back((wall_ms, newest));
            }
            let needed = caught_up().map(|(id, _)| asked(id)).min().unwrap_or(i64::MAX).max(wall_ms - TIMES_KEPT_MS);
            while times.get(1).is_some_and(|(wall, _)| *wall < needed) {
                times.pop_front();
            }
        }
        self.set_beside(sources);
        for (id, source) in sources.iter_mut().enumerate() {
            let own = &self.all[self.of[id]];
            let at = |one: &Connector| one.times.iter().rev().find(|(wall, _)| *wall < asked(id)).map(|(_, newest)| *newest);
            // A log that is read to its end once, and not followed, has all that there is to know.
            let silent = asked(id) == i64::MAX || wall_ms - own.pace.heard_ms >= SILENT_MS;
            let beside = at(&self.all[own.connection]).filter(|_| self.takes[id] && silent).and_then(|time| own.pace.counts(time));
            source.known_to = source.known_to.max(source.time).max(at(own).max(beside).filter(|_| source.caught_up));
        }
    }

    /// Says of each source that has shown no time whether others of its connector have.
    pub fn set_beside(&self, sources: &mut [SourceState]) {
        let timed: Vec<usize> = self.of.iter().zip(&*sources).filter(|(_, source)| source.time.is_some()).map(|(of, _)| *of).collect();
        for (source, of) in sources.iter_mut().zip(&self.of) {
            source.beside = source.time.is_none() && timed.contains(of);
        }
    }
}

#[cfg(test)]
mod tests;
