//! Exactly once: one writer for all outputs of a Kafka connection.
//!
//! ```text
//! TickOutput ─▶ encoders of all outputs ─▶ records of whole ticks + one progress record ─▶ one transaction
//! ```
//!
//! Ticks that wait together share a transaction. A tick without records needs none of its own: the next progress record lists
//! it, within a second. A tick that is too large is written in parts, each a transaction: a reader's state is complete at a
//! progress record without `more`.
//!
//! After a restart the same ticks come again, from the same positions; what is written already is encoded (encoders keep
//! state) and left out. The order of a tick's records is fixed, so that a tick of which some parts are written goes on where
//! it ended.
//!
//! This file owns what goes into which transaction; `kafka::transactions` carries transactions out.

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::{
    QUEUE_TICKS, SinkError, SinkRecord, WriterStatus,
    encode::Encoder,
    kafka::{Cluster, transactions::Transactions},
    progress::{Chain, Notes, Partly, Progress},
};
use crate::{
    engine::Tick,
    ledger::TickOutput,
    plan::{ConnectionId, ConnectionKind, Plan},
};

/// Records of one transaction at most,
const PART_RECORDS: usize = 10_000;
/// and their bytes, if it is not one record: it must be over before the broker ends it.
const PART_BYTES: usize = 8 << 20;
/// Ticks that one progress record lists at most.
const LIST_MAX: usize = 1_000;
/// And so many bytes: a record is refused above a million, if the topic does not allow more.
const LIST_BYTES: usize = 256 << 10;
/// A tick is in a progress record at the latest after so long.
const LIST_AFTER: Duration = Duration::from_secs(1);
/// How often it is looked whether that is so, or the run ends.
const LOOK: Duration = Duration::from_millis(50);
/// How often progress records are removed that no checkpoint needs.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// How long a run that begins waits for brokers that do not take its first record.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a run that ends waits for brokers that do not answer.
const PATIENCE_AT_END: Duration = Duration::from_secs(10);

/// A record on its way, with the output (of this connection) that it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    pub output: usize,
    pub tick: Tick,
    pub record: SinkRecord,
}

impl Outgoing {
    fn bytes(&self) -> usize {
        self.record.key.len() + self.record.value.as_ref().map_or(0, Vec::len)
    }
}

/// Is told why nothing is written now, or that it goes on; says whether to give up.
pub type Tell<'a> = dyn FnMut(Option<&str>) -> bool + 'a;

/// Carries out transactions.
pub trait Transact: Send {
    /// Returns when the records and the progress record are committed, once.
    ///
    /// # Errors
    /// They can't be; none of them is.
    fn write(&mut self, records: &[Outgoing], progress: &Progress, tell: &mut Tell<'_>) -> Result<(), SinkError>;

    /// No checkpoint needs progress records of ticks up to this one; they may go.
    fn forget(&mut self, _tick: Tick) {}
}

/// A connection whose outputs are written exactly once, and what was written before.
pub struct Exact {
    pub connection: ConnectionId,
    pub chain: Option<Chain>,
    to: Box<dyn Transact>,
    run: String,
    /// The cluster's name for itself, if it gives one.
    pub cluster: Option<String>,
    /// The cluster's names for the topics of the outputs, as far as it gives them.
    pub topics: BTreeMap<String, String>,
}

/// From where writing goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct From {
    /// Up to this tick everything is written, or is not to be.
    pub written: Tick,
    /// So much of that tick is, and not all.
    pub partly: Option<Partly>,
    /// A new chain begins.
    pub begins: bool,
}

#[cfg(test)]
impl Exact {
    /// One that was written so far, and is not written any more.
    pub fn known(connection: ConnectionId, chain: Option<Chain>, cluster: &str) -> Exact {
        struct Nowhere;
        impl Transact for Nowhere {
            fn write(&mut self, _: &[Outgoing], _: &Progress, _: &mut Tell<'_>) -> Result<(), SinkError> {
                unreachable!("nothing is written here")
            }
        }
        Exact { connection, chain, to: Box::new(Nowhere), run: "r".into(), cluster: Some(cluster.into()), topics: BTreeMap::new() }
    }
}

/// Kafka connections with outputs.
pub fn connections(plan: &Plan) -> Vec<ConnectionId> {
    let has_outputs = |id: &ConnectionId| plan.outputs.iter().any(|output| output.connection == *id);
    (0..plan.connections.len()).filter(|id| matches!(plan.connections[*id].kind, ConnectionKind::Kafka { .. })).filter(has_outputs).collect()
}

impl Exact {
    /// Fences the run before, reads how far it came, and says that this one writes now: whoever wrote before, and is only late,
    /// finds it. At once, since a checkpoint may take long to read, and one that was fenced looks for who it was only for some
    /// seconds. `known`: a checkpoint knows that progress records up to this tick are committed. `fresh`:
    /// everything will be written anew.
    ///
    /// # Errors
    /// `PROGRESS_GAP`, `PROGRESS_LOST`, those of [`Transactions::open`], and what hinders writing.
    pub fn open(plan: &Plan, connection: ConnectionId, known: Tick, fresh: bool) -> Result<Exact, SinkError> {
        let declared = &plan.connections[connection];
        let ConnectionKind::Kafka { brokers, properties, .. } = &declared.kind else { unreachable!("only Kafka is written exactly once") };
        let cluster = Cluster { connection: declared.name.clone(), brokers: brokers.clone(), properties: properties.clone() };
        let topics = plan.outputs.iter().filter(|output| output.connection == connection).map(|output| output.to.clone()).collect();
        let run = format!("{:016x}", RandomState::new().build_hasher().finish());
        let (mut to, scanned) = Transactions::open(cluster, &plan.name, topics, &run, known, fresh)?;
        if scanned.records.is_empty() && scanned.cut && !fresh {
            return Err(lost(&plan.name, &declared.name, "it was emptied"));
        }
        let chain = match Chain::of(&scanned.records) {
            // Of a new chain only the tick counts behind which it begins.
            Err(_) if fresh => Chain::of(scanned.records.iter().max_by_key(|record| record.tick).map_or(&[], std::slice::from_ref)),
            chain => chain,
        };
        let chain = chain.map_err(|after| gap(&plan.name, &declared.name, &format!("the record after tick {after} is lacking")))?;
        if let Some(chain) = &chain {
            let began = Instant::now();
            // What is still named is so until a new chain begins.
            let mends = scanned.records.last().map(|last| last.mends.clone()).unwrap_or_default();
            to.write(&[], &Progress { mends, ..claim(chain.last, chain.partly, &run, &chain.plan) }, &mut |_| began.elapsed() > PATIENCE)?;
        }
        let (cluster, topics) = (to.cluster_id(), to.topic_ids());
        Ok(Exact { connection, chain, to: Box::new(to), run, cluster, topics })
    }

    /// Says, where a new chain begins, that nothing before counts any more: no older checkpoint fits what is written from now on.
    ///
    /// # Errors
    /// What hinders writing.
    pub fn begin(mut self, from: From, of: &str) -> Result<(Exact, From), SinkError> {
        if from.begins {
            let (began, progress) = (Instant::now(), Progress { begins: true, ..claim(from.written, None, &self.run, of) });
            self.to.write(&[], &progress, &mut |_| began.elapsed() > PATIENCE)?;
        }
        Ok((self, From { begins: false, ..from }))
    }
}

/// What a run says before it writes anything: that it goes on behind this, or begins there.
fn claim(written: Tick, partly: Option<Partly>, run: &str, plan: &str) -> Progress {
    Progress {
        tick: written,
        part: partly.map_or(0, |of| of.parts.saturating_sub(1)),
        more: partly.is_some(),
        done: partly.map_or(0, |of| of.records),
        before: written,
        written_by: env!("CARGO_PKG_VERSION").into(),
        run: run.into(),
        plan: plan.into(),
        ..Progress::default()
    }
}

/// Two connections to one cluster would write under one name, and fence each other.
pub fn twice(plan: &Plan, all: &[Exact]) -> Option<SinkError> {
    let same = |(n, of): (usize, &Exact)| {
        let other = all[..n].iter().find(|other| of.cluster.is_some() && other.cluster == of.cluster)?;
        let name = |of: &Exact| plan.connections[of.connection].name.clone();
        Some(SinkError {
            code: "CLUSTER_TWICE",
            message: format!("connections `{}` and `{}` have outputs on the same cluster, which a deployment writes to as one", name(other), name(of)),
            remedy: "let the outputs of that cluster name one connection".into(),
            retry: false,
        })
    };
    all.iter().enumerate().find_map(same)
}

fn topic(deployment: &str, connection: &str) -> String {
    format!("topic `{}` of connection `{connection}`", super::kafka::topic::name(deployment))
}

const REMEDY: &str = "empty the output topics and start anew with `tieout run --fresh`; nobody knows what of them is right";

/// The cluster of a connection is not the one that was written to.
pub fn moved(plan: &Plan, exact: &Exact, was: &str) -> SinkError {
    let name = &plan.connections[exact.connection].name;
    let is = exact.cluster.as_deref().unwrap_or("one that gives no name");
    SinkError {
        code: "CLUSTER_CHANGED",
        message: format!("the outputs of connection `{name}` were written to the cluster {was}, and its brokers are of the cluster {is}"),
        remedy: "name the brokers of that cluster; or start anew with `tieout run --fresh` and empty output topics".into(),
        retry: false,
    }
}

/// What was written to a topic is gone with it.
pub fn gone(connection: &str, topic: &str) -> SinkError {
    SinkError {
        code: "OUTPUT_GONE",
        message: format!("topic `{topic}` of connection `{connection}` is not the one that was written: it was removed, and another one is there by its name"),
        remedy: "start anew with `tieout run --fresh` and empty output topics: only that writes all rows again".into(),
        retry: false,
    }
}

/// Progress records that were there are not.
pub fn lost(deployment: &str, connection: &str, why: &str) -> SinkError {
    SinkError { code: "PROGRESS_LOST", message: format!("{} lost records: {why}", topic(deployment, connection)), remedy: REMEDY.into(), retry: false }
}

/// What was written can't be made again.
pub fn gap(deployment: &str, connection: &str, why: &str) -> SinkError {
    SinkError {
        code: "PROGRESS_GAP",
        message: format!("what {} says is written can't be made again: {why}", topic(deployment, connection)),
        remedy: format!(
            "if another tieout writes there, give this one a `name` and output topics of its own, and start it with `tieout run --fresh`; else {REMEDY}"
        ),
        retry: false,
    }
}

/// The writer at work.
pub(super) struct ExactWriter {
    deployment: String,
    name: String,
    encoders: Vec<Encoder>,
    to: Box<dyn Transact>,
    run: String,
    /// What the plan's outputs follow from.
    of: String,
    from: From,
    /// The tick of the newest progress record.
    before: Tick,
    part_records: usize,
    part_bytes: usize,
    notes: Notes,
    since: Instant,
    records: Vec<Outgoing>,
    /// And so many bytes.
    bytes: usize,
    status: Arc<WriterStatus>,
    /// Progress records up to this tick are gone, and since when.
    forgotten: Tick,
    forgot: Instant,
}

impl ExactWriter {
    pub fn new(plan: &Arc<Plan>, exact: Exact, from: From, of: &str, status: Arc<WriterStatus>) -> ExactWriter {
        let mine = (0..plan.outputs.len()).filter(|output| plan.outputs[*output].connection == exact.connection);
        status.tick.store(if from.partly.is_some() { from.written.saturating_sub(1) } else { from.written }, Ordering::Release);
        if let Some(cluster) = &exact.cluster {
            let _ = status.cluster.set((cluster.clone(), exact.topics.clone()));
        }
        ExactWriter {
            deployment: plan.name.clone(),
            name: plan.connections[exact.connection].name.clone(),
            encoders: mine.map(|output| Encoder::new(plan.clone(), output)).collect(),
            to: exact.to,
            run: exact.run,
            of: of.into(),
            before: from.written,
            from,
            part_records: PART_RECORDS,
            part_bytes: PART_BYTES,
            notes: Notes::default(),
            since: Instant::now(),
            records: Vec::new(),
            bytes: 0,
            status,
            forgotten: 0,
            forgot: Instant::now(),
        }
    }

    /// Writes what comes until nothing more will.
    pub fn run(&mut self, ticks: &Receiver<Arc<TickOutput>>) -> Result<(), SinkError> {
        loop {
            let next = match self.notes.is_empty() {
                true => ticks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => ticks.recv_timeout(LOOK),
            };
            match next {
                Ok(first) => {
                    let mut cut = false;
                    for tick in std::iter::once(first).chain(ticks.try_iter().take(QUEUE_TICKS)) {
                        // A checkpoint waits for this.
                        cut |= tick.save.is_some();
                        self.take(&tick)?;
                    }
                    if cut || !self.records.is_empty() || self.due() {
                        self.commit()?;
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.due() => self.commit()?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.commit(),
            }
        }
    }

    /// Is it time to write of ticks without records? At the end a last checkpoint waits for it.
    fn due(&self) -> bool {
        !self.notes.is_empty() && (self.since.elapsed() >= LIST_AFTER || self.status.closing.load(Ordering::Relaxed))
    }

    fn progress(&mut self, tick: Tick) -> Progress {
        Progress { before: self.before, ticks: self.notes.take(), ..claim(tick, None, &self.run, &self.of) }
    }

    /// Takes a tick into the transaction to come; one that is too large is written.
    fn take(&mut self, tick: &TickOutput) -> Result<(), SinkError> {
        let mut records = Vec::new();
        for (output, encoder) in self.encoders.iter_mut().enumerate() {
            let mut batch = encoder.encode(tick).records;
            // The records of one key keep their order.
            batch.sort_by(|a, b| a.key.cmp(&b.key));
            records.extend(batch.into_iter().map(|record| Outgoing { output, tick: tick.tick, record }));
        }
        if tick.restored || tick.tick < self.from.written {
            return Ok(());
        }
        if tick.tick == self.from.written {
            let Some(partly) = self.from.partly.take() else { return Ok(()) };
            if records.len() as u64 <= partly.records {
                let of = format!("tick {} has {} records now, and {} were written, which were not all", tick.tick, records.len(), partly.records);
                return Err(gap(&self.deployment, &self.name, &of));
            }
            records.drain(..partly.records as usize);
            return self.write_parts(tick.tick, partly, &records);
        }
        let bytes: usize = records.iter().map(Outgoing::bytes).sum();
        let full = self.records.len() + records.len() > self.part_records || self.bytes + bytes > self.part_bytes;
        if !self.notes.is_empty() && (full || self.notes.len() >= LIST_MAX || self.notes.bytes() >= LIST_BYTES) {
            self.commit()?;
        }
        if self.notes.is_empty() {
            self.since = Instant::now();
        }
        self.notes.add(tick);
        if records.len() > self.part_records || bytes > self.part_bytes {
            return self.write_parts(tick.tick, Partly { parts: 0, records: 0 }, &records);
        }
        self.records.extend(records);
        self.bytes += bytes;
        Ok(())
    }

    /// Writes these records of a tick, of which so much is written.
    fn write_parts(&mut self, tick: Tick, partly: Partly, records: &[Outgoing]) -> Result<(), SinkError> {
        let (mut part, mut done, mut rest) = (partly.parts, partly.records, records);
        loop {
            let now;
            (now, rest) = rest.split_at(self.fits(rest));
            done += now.len() as u64;
            let more = !rest.is_empty();
            let progress = Progress { part, more, done: if more { done } else { 0 }, ..self.progress(tick) };
            self.write(now, &progress)?;
            if !more {
                return Ok(());
            }
            part += 1;
        }
    }

    /// So many of these records make a part.
    fn fits(&self, records: &[Outgoing]) -> usize {
        let mut bytes = 0;
        let fits = records.iter().take(self.part_records).take_while(|record| {
            bytes += record.bytes();
            bytes <= self.part_bytes
        });
        fits.count().max(1).min(records.len())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let Some(tick) = self.notes.last() else { return Ok(()) };
        let progress = self.progress(tick);
        let records = std::mem::take(&mut self.records);
        self.bytes = 0;
        self.write(&records, &progress)?;
        let needed = self.status.needed.load(Ordering::Relaxed);
        if needed > self.forgotten && self.forgot.elapsed() >= FORGET_EVERY {
            self.to.forget(needed);
            (self.forgotten, self.forgot) = (needed, Instant::now());
        }
        Ok(())
    }

    fn write(&mut self, records: &[Outgoing], progress: &Progress) -> Result<(), SinkError> {
        let (status, name) = (&self.status, &self.name);
        let mut since = None::<Instant>;
        let mut tell = |why: Option<&str>| match why {
            Some(why) => {
                if status.turn(Some(why.to_string())) {
                    tracing::warn!(connection = %name, "outputs can't be written: {why}");
                }
                since.get_or_insert_with(Instant::now).elapsed() > PATIENCE_AT_END && status.closing.load(Ordering::Relaxed)
            }
            None => {
                if status.turn(None) {
                    tracing::info!(connection = %name, "outputs are written again");
                }
                false
            }
        };
        self.to.write(records, progress, &mut tell)?;
        self.before = progress.tick;
        self.status.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        if !progress.more {
            self.status.tick.store(progress.tick, Ordering::Release);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
