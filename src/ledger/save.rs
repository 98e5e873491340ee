//! What a checkpoint keeps of the ledger, beside what the tables give back: how far the sources are, since when each
//! difference stands, and the rejects that no table holds.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Ledger, Since, State,
    ahead::Ahead,
    comparison::LiveComparison,
    connector::{Paces, Times},
    source::SourceState,
};
use crate::{
    engine::{Cut, Incomplete, Reject, Sealed, SealedSource, Tick, render::layout, table::change},
    plan::{ComparisonId, Plan, SourceId, TargetId},
    row::{self, push_varint64, read_varint64},
};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LedgerSave {
    pub tick: Tick,
    pub wall_ms: i64,
    /// Whether differences were shown.
    pub hydrated: bool,
    /// In the plan's order.
    pub sources: Vec<SourceState>,
    /// By connection or connector, how far it was known when, and what its heartbeats count for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub times: BTreeMap<String, Times>,
    #[serde(default, skip_serializing_if = "Paces::is_empty")]
    pub paces: Paces,
    /// Those that no table holds, packed as tables pack them, in hex, with how often each stands.
    pub rejects: Vec<(String, i64)>,
    /// Transactions that stand though parts of them are lacking, and by comparison the keys that they touched, in hex, with
    /// their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<Incomplete>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<(ComparisonId, String, String)>,
    /// By comparison in the plan's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stands: Vec<Option<Stands>>,
    /// By comparison in the plan's order, in parts that follow one another; kept beside, since there may be many.
    #[serde(skip)]
    pub differences: Vec<Vec<Packed>>,
}

/// Keys whose differences changed since the last checkpoint: of more, the next one gets all that stands.
pub(super) const UNSAVED_MAX: usize = 100_000;

/// What of differences had been shown before a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shown {
    #[default]
    Never,
    /// What stood: what is shown first after it is what changed since.
    Before,
    /// Something that followed from other rules: all that stands is shown, and what stood and does not any more.
    Otherwise,
}

/// How a comparison stood as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stands {
    /// It was stale, so that its differences were shown as undetermined.
    pub stale: bool,
    /// The wall clock (ms) when the time of the expected and of the actual side last moved.
    pub moved_ms: [i64; 2],
    /// And since when it was watched, where that is not known to have been before.
    #[serde(default = "long_ago")]
    pub since_ms: [i64; 2],
}

fn long_ago() -> [i64; 2] {
    [i64::MIN; 2]
}

/// What a checkpoint keeps of a difference; the tables give back the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stood {
    pub since: Since,
    pub base: i64,
    pub reached: i64,
    /// What it was shown as, or would have been if the comparison were not stale; nothing: a checkpoint of before that was kept.
    pub state: Option<State>,
}

impl Stood {
    pub fn passed(&self) -> bool {
        self.state == Some(State::Confirmed)
    }
}

/// Since when differences stand: all of them, or what changed since the part before; and all keys that are ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    pub cut: Cut,
    pub bytes: Vec<u8>,
}

impl Packed {
    /// All that several parts say together; nothing: they are not what [`Ledger::save`] gave.
    pub fn whole(parts: &[Packed]) -> Option<Packed> {
        let (stood, ahead) = unpack(parts)?;
        let mut packer = Packer::default();
        stood.iter().for_each(|(key, stood)| packer.difference(key, Some(*stood)));
        Some(packer.finish(Cut::Whole, &ahead))
    }
}

impl LedgerSave {
    /// The tick that has what the tables give back, and nothing else.
    pub fn sealed(&self) -> Sealed {
        let sources = self.sources.iter().map(|source| SealedSource { positions: source.positions.clone(), ..SealedSource::default() }).collect();
        Sealed { tick: self.tick, wall_ms: self.wall_ms, sources, restored: true, incomplete: self.incomplete.clone(), ..Sealed::default() }
    }
}

impl Ledger {
    /// May a checkpoint be taken? Not while catching up after a restart: what had been shown before is compared with what
    /// will be shown after, and a checkpoint in between would know neither.
    pub fn may_save(&self) -> bool {
        self.hydrated || !self.resumed
    }

    /// Does it go on from a checkpoint of a time at which differences were shown?
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Checkpoints will be taken. To be said before the first tick.
    pub fn keep(&mut self) {
        self.comparisons.iter_mut().for_each(LiveComparison::keep);
    }

    /// As [`Ledger::save`]; the cut after this one is told what changes from now on.
    pub fn cut(&mut self, cut: Cut) -> LedgerSave {
        let save = self.save(cut);
        self.comparisons.iter_mut().for_each(LiveComparison::is_saved);
        save
    }

    /// What a checkpoint as of now must keep.
    pub fn save(&self, cut: Cut) -> LedgerSave {
        let (plan, (times, paces)) = (self.plan.clone(), self.connectors.save());
        let loose = self.rejects.iter().filter(|(reject, _)| is_loose(&plan, reject));
        LedgerSave {
            tick: self.as_of,
            wall_ms: self.wall_ms,
            hydrated: self.hydrated,
            sources: self.sources.clone(),
            times,
            paces,
            rejects: loose.map(|(reject, weight)| (row::hex(&change::pack_reject(reject)), *weight)).collect(),
            incomplete: self.incomplete.clone(),
            marks: self
                .comparisons
                .iter()
                .enumerate()
                .flat_map(|(id, live)| live.marks().map(move |(key, name)| (id, row::hex(key), name.to_string())))
                .collect(),
            stands: self.comparisons.iter().map(|live| Some(live.stands())).collect(),
            differences: self.comparisons.iter().map(|live| vec![pack(live, cut)]).collect(),
        }
    }

    /// A ledger that goes on from what was saved; the tick that was saved must be applied first, with all that the tables
    /// give back. Outputs of the targets and comparisons in `anew` get all that stands, not what changed since.
    ///
    /// # Errors
    /// It is not what [`Ledger::save`] gave for this plan: what is wrong with it.
    pub fn resume(plan: Arc<Plan>, save: &LedgerSave, anew: (&[TargetId], &[ComparisonId])) -> Result<Ledger, String> {
        let mut ledger = Ledger::new(plan.clone());
        if save.sources.len() != plan.sources.len() || save.differences.len() != plan.comparisons.len() {
            return Err("it has other sources or comparisons".into());
        }
        ledger.resumed = save.hydrated;
        ledger.anew = anew.0.to_vec();
        ledger.sources.clone_from(&save.sources);
        ledger.connectors.resume(&save.times, &save.paces);
        for (text, weight) in &save.rejects {
            let reject = row::unhex(text.as_bytes()).and_then(|bytes| change::unpack_reject(&bytes)).ok_or("a reject can't be read")?;
            ledger.rejects.insert(Reject { keyed: false, ..reject }, *weight);
        }
        for (id, key, name) in &save.marks {
            let key = row::unhex(key.as_bytes()).ok_or("a key can't be read")?;
            ledger.comparisons.get_mut(*id).ok_or("it has other comparisons")?.resume_marks(&key, name);
        }
        for (id, parts) in save.differences.iter().enumerate() {
            let (stood, ahead) = unpack(parts).ok_or("its differences can't be read")?;
            let shown = match (save.hydrated, anew.1.contains(&id)) {
                (false, _) => Shown::Never,
                (true, false) => Shown::Before,
                (true, true) => Shown::Otherwise,
            };
            ledger.comparisons[id].resume(stood, ahead, shown, save.stands.get(id).copied().flatten());
        }
        Ok(ledger)
    }

    /// These sources are read again before the next tick.
    pub fn rebuilds(&mut self, sources: impl Iterator<Item = SourceId>) {
        self.rebuilding = sources.map(|source| self.plan.sources[source].name.clone()).collect();
    }

    /// Comparisons with differences that stood when the checkpoint was taken, and that the tables did not give back.
    pub(super) fn not_given_back(&mut self) -> Vec<(ComparisonId, usize)> {
        self.comparisons.iter_mut().map(LiveComparison::given_back).enumerate().filter(|(_, lost)| *lost > 0).collect()
    }
}

/// Does no table hold it?
fn is_loose(plan: &Plan, reject: &Reject) -> bool {
    !reject.keyed && reject.target.is_none_or(|target| layout::fused(plan, target).is_some())
}

/// It was confirmed, or would have been if the comparison were not stale.
const PASSED: u8 = 1;
/// The same of the other states.
const OTHER: [(State, u8); 2] = [(State::Undetermined, 32), (State::InFlight, 64)];
/// The newest time of the key follows; without it, that is the base.
const REACHED: u8 = 2;
/// The key has no difference, only such a time of the expected or the actual side; the empty key stands for all.
const AHEAD: [u8; 2] = [8, 4];
/// The key has no difference any more.
const GONE: u8 = 16;

fn pack(live: &LiveComparison, cut: Cut) -> Packed {
    let mut packer = Packer::default();
    let cut = live.cut(cut);
    live.stood(cut, |key, stood| packer.difference(key, stood));
    packer.finish(cut, live.ahead())
}

#[derive(Default)]
struct Packer(Vec<u8>);

impl Packer {
    fn push(&mut self, key: &[u8], since: Since, base: i64, flags: u8, reached: Option<i64>) {
        let out = &mut self.0;
        push_varint64(out, key.len() as u64);
        out.extend_from_slice(key);
        push_varint64(out, since.tick);
        out.extend_from_slice(&since.source_time.to_le_bytes());
        out.extend_from_slice(&base.to_le_bytes());
        out.push(flags | if reached.is_some() { REACHED } else { 0 });
        out.extend(reached.into_iter().flat_map(i64::to_le_bytes));
    }

    fn difference(&mut self, key: &[u8], stood: Option<Stood>) {
        match stood {
            Some(stood) => {
                let reached = (stood.reached != stood.base).then_some(stood.reached);
                let other = OTHER.iter().find(|(state, _)| stood.state == Some(*state)).map_or(0, |(_, flag)| *flag);
                self.push(key, stood.since, stood.base, if stood.passed() { PASSED } else { other }, reached);
            }
            None => self.push(key, NEVER, 0, GONE, None),
        }
    }

    fn finish(mut self, cut: Cut, ahead: &[Ahead; 2]) -> Packed {
        for (ahead, flag) in ahead.iter().zip(AHEAD) {
            ahead.iter().for_each(|(key, time)| self.push(key, NEVER, 0, flag, Some(time)));
        }
        Packed { cut, bytes: self.0 }
    }
}

const NEVER: Since = Since { tick: 0, source_time: 0 };

fn unpack(parts: &[Packed]) -> Option<(BTreeMap<Arc<[u8]>, Stood>, [Ahead; 2])> {
    let (mut found, mut ahead) = (BTreeMap::new(), <[Ahead; 2]>::default());
    for Packed { cut, bytes } in parts {
        if *cut == Cut::Whole {
            found.clear();
        }
        ahead = Default::default();
        unpack_into(bytes, &mut found, &mut ahead)?;
    }
    Some((found, ahead))
}

fn unpack_into(packed: &[u8], found: &mut BTreeMap<Arc<[u8]>, Stood>, ahead: &mut [Ahead; 2]) -> Option<()> {
    let mut at = 0;
    while at < packed.len() {
        let len = read_varint64(packed, &mut at) as usize;
        let key = packed.get(at..at + len)?;
        at += len;
        let tick = read_varint64(packed, &mut at);
        let (source_time, base) = (read_time(packed, &mut at)?, read_time(packed, &mut at)?);
        let flags = *packed.get(at)?;
        at += 1;
        let reached = if flags & REACHED == 0 { base } else { read_time(packed, &mut at)? };
        if let Some(side) = AHEAD.iter().position(|flag| flags & flag != 0) {
            ahead[side].put(key, reached);
        } else if flags & GONE != 0 {
            found.remove(key);
        } else {
            let other = OTHER.iter().find(|(_, flag)| flags & flag != 0).map(|(state, _)| *state);
            let state = if flags & PASSED != 0 { Some(State::Confirmed) } else { other };
            found.insert(Arc::from(key), Stood { since: Since { tick, source_time }, base, reached, state });
        }
    }
    Some(())
}

fn read_time(packed: &[u8], at: &mut usize) -> Option<i64> {
    let bytes = packed.get(*at..*at + 8)?;
    *at += 8;
    Some(i64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
