//! One transactional producer for all outputs of a connection.
//!
//! A transaction is written until it is known to be committed, or the run ends. What is known of a commit that was not
//! answered is what the progress topic says: each transaction ends with a record there that no other one has.
//!
//! Who starts later under the same name fences the one before. A producer that is fenced by the broker because it was away
//! for too long looks the same from inside; so each run begins with a record of its own, and whoever finds a record of
//! another run after its own ends.
//!
//! Whoever begins, or lost a connection, makes a new producer and looks for transactions that hang: see `hanging`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, Message as _, OwnedHeaders, OwnedMessage},
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::{
    COMPACTED, Cluster, Deliveries, POLL, delivered,
    hanging::{self, Found, Step},
    message,
    open::Outputs,
    topic,
};
use crate::{
    engine::Tick,
    failpoint,
    log::kafka::{client, topic_id},
    sink::{
        SinkError,
        exact::{self, Outgoing, Tell, Transact},
        progress::{Piece, Progress},
    },
};

/// What a client may have to say before it is asked to give up a transaction.
const EVENTS: usize = 1_000;
/// And before it is asked whether a connection was lost: all but lines of its log was heard while records were delivered.
const LINES: usize = 50;
/// How long one call may take before it is looked at other things.
const STEP: Duration = Duration::from_secs(5);
/// How long the cluster may take at the start.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long is waited before the next attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a producer that was fenced waits for the record of the one that may have fenced it. That one reads the progress
/// records and a checkpoint before it writes one; if it takes longer, the older one takes its place back.
const FENCED_PAUSE: Duration = Duration::from_secs(5);
/// How often it is asked whether topics are still the ones that were written.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Clocks of machines that write by turns are no further apart, in milliseconds.
const CLOCKS_APART: i64 = 60_000;
/// How often what hangs in a partition is ended until it is taken for somebody else's,
const ABORTS: u8 = 2;
/// and how many steps that may take in all.
const STEPS: usize = 20;
/// How long an answer to that is waited for.
const ASK_PATIENCE: Duration = Duration::from_secs(1);

/// The name under which a deployment writes.
pub fn id(deployment: &str) -> String {
    format!("tieout-{deployment}")
}

/// See the module.
pub struct Transactions {
    cluster: Cluster,
    /// Of the deployment.
    name: String,
    progress: String,
    topics: Vec<String>,
    /// The cluster's names for these topics and that of the progress records, as far as it gives them, and when it was asked last.
    ids: BTreeMap<String, String>,
    asked: Instant,
    run: String,
    producer: Option<BaseProducer<Deliveries>>,
    /// The progress topic is known up to here.
    scanned: i64,
    /// Where the newest progress record stands that this run knows to be committed, and up to which tick they were before it.
    told: Option<i64>,
    known: Tick,
    /// It names pieces that are not yet written again.
    mending: bool,
    /// A transaction took so long that a connection may have been lost.
    slow: bool,
    /// Everything will be written anew, and until that is said, records that are gone stop nobody.
    fresh: bool,
    /// Another one took this one's place while what hangs was ended.
    fenced: bool,
    /// Its records, as far as they are known: of which tick, and where.
    records: VecDeque<(Tick, i64)>,
    admin: Option<AdminClient<client::Context>>,
}

/// Sends the records of a transaction.
type Fill<'a> = dyn Fn(&BaseProducer<Deliveries>, &mut Tell<'_>) -> Result<(), Trouble> + 'a;

/// A record as it was, to where it was.
fn again(of: &OwnedMessage) -> BaseRecord<'_, [u8], [u8]> {
    let mut record = BaseRecord::<[u8], [u8]>::to(of.topic()).partition(of.partition());
    (record.key, record.payload, record.timestamp) = (of.key(), of.payload(), of.timestamp().to_millis());
    match of.headers() {
        Some(headers) => record.headers(headers.clone()),
        None => record,
    }
}

/// Why a step of a transaction did not work.
enum Trouble {
    /// The same step again.
    Again(String),
    /// The same transaction again.
    Abort(String),
    /// With another producer.
    Broken {
        why: String,
        fenced: bool,
    },
    Stop(SinkError),
}

impl Transactions {
    /// Fences whoever wrote under this name before, finds or creates the topics, ends what hangs, and reads the progress records.
    /// `known`: those up to this tick are known to be committed. `fresh`: everything will be written anew.
    ///
    /// # Errors
    /// `PROGRESS_PARTITIONS`; those of what hangs; no broker answers; topics that can't be made; settings that librdkafka does
    /// not take.
    pub fn open(cluster: Cluster, name: &str, topics: Vec<String>, run: &str, known: Tick, fresh: bool) -> Result<(Transactions, topic::Scanned), SinkError> {
        let mut opened = Transactions::new(cluster, name, topics, run);
        let producer = opened.fence_patiently()?;
        for topic in &opened.topics {
            opened.cluster.need_topic(&producer, topic, -1, COMPACTED)?;
        }
        let partitions = opened.cluster.need_topic(&producer, &opened.progress, 1, topic::SETTINGS)?;
        if partitions != 1 {
            return Err(SinkError {
                code: "PROGRESS_PARTITIONS",
                message: format!("topic `{}` has {partitions} partitions, and its records need an order", opened.progress),
                remedy: "remove that topic, empty the output topics and start with `tieout run --fresh`".into(),
                retry: false,
            });
        }
        topic::check(&opened.cluster, &opened.progress)?;
        let topics = opened.topics.iter().chain([&opened.progress]);
        opened.ids = topic_id::topic_ids(producer.client(), topics.cloned(), STEP);
        (opened.producer, opened.known, opened.fresh) = (Some(producer), known, fresh);
        let begun = Instant::now();
        let scanned = loop {
            let scanned = topic::scan(&opened.cluster, &opened.progress, 0)?;
            opened.mending = scanned.records.last().is_some_and(|last| !last.mends.is_empty());
            match opened.settle(&mut |_| begun.elapsed() > PATIENCE) {
                Ok(false) => break scanned,
                Ok(true) => break topic::scan(&opened.cluster, &opened.progress, 0)?,
                Err(error) if error.retry && begun.elapsed() < PATIENCE => {
                    tracing::info!("{error}");
                    std::thread::sleep(PAUSE);
                    opened.producer = Some(opened.fence_patiently()?);
                }
                Err(error) => return Err(error),
            }
        };
        opened.records = scanned.records.iter().map(|record| record.tick).zip(scanned.offsets.iter().copied()).collect();
        opened.scanned = scanned.end;
        Ok((opened, scanned))
    }

    fn new(cluster: Cluster, name: &str, topics: Vec<String>, run: &str) -> Transactions {
        Transactions {
            cluster,
            name: name.into(),
            progress: topic::name(name),
            topics,
            ids: BTreeMap::new(),
            asked: Instant::now(),
            run: run.into(),
            producer: None,
            scanned: 0,
            told: None,
            known: 0,
            mending: false,
            slow: false,
            fresh: false,
            fenced: false,
            records: VecDeque::new(),
            admin: None,
        }
    }

    /// Fences whoever writes under this name, which ends what it left open, and leaves.
    ///
    /// # Errors
    /// No broker answers; settings that librdkafka does not take; rights that are lacking.
    pub fn fence_once(cluster: &Cluster, name: &str) -> Result<(), SinkError> {
        Transactions::new(cluster.clone(), name, Vec::new(), "").fence_patiently().map(drop)
    }

    /// The cluster's name for itself, if it gives one.
    pub fn cluster_id(&self) -> Option<String> {
        self.producer.as_ref()?.client().fetch_cluster_id(STEP)
    }

    /// The cluster's names for the topics of the outputs, as far as it gives them.
    pub fn topic_ids(&self) -> BTreeMap<String, String> {
        let mut ids = self.ids.clone();
        ids.remove(&self.progress);
        ids
    }

    /// Are the topics still those that were written? Another one of its name takes records as if nothing were lacking.
    fn compare(&mut self) -> Result<(), SinkError> {
        let Some(producer) = self.producer.as_ref().filter(|_| !self.ids.is_empty() && self.asked.elapsed() >= ASK_EVERY) else { return Ok(()) };
        self.asked = Instant::now();
        let ask = || topic_id::topic_ids(producer.client(), self.ids.keys().cloned(), ASK_PATIENCE);
        let other = |ids: BTreeMap<String, String>| ids.into_iter().find(|(topic, is)| self.ids.get(topic).is_some_and(|was| was != is));
        // A broker that lags behind another one may know an older one of that name: what is said twice is believed.
        let Some(first) = other(ask()) else { return Ok(()) };
        std::thread::sleep(PAUSE);
        if other(ask()).as_ref() != Some(&first) {
            return Ok(());
        }
        let connection = &self.cluster.connection;
        Err(match first.0 == self.progress {
            true => exact::lost(&self.name, connection, "it was removed, and another one is there by its name"),
            false => exact::gone(connection, &first.0),
        })
    }

    fn fence_patiently(&self) -> Result<BaseProducer<Deliveries>, SinkError> {
        let begun = Instant::now();
        loop {
            match self.fence() {
                Ok(producer) => return Ok(producer),
                Err(Trouble::Stop(error)) => return Err(error),
                Err(Trouble::Again(why) | Trouble::Abort(why) | Trouble::Broken { why, .. }) if begun.elapsed() > PATIENCE => {
                    return Err(self.cluster.unreachable(&format!("about transactions of `{}`: {why}", id(&self.name))));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// A new producer that has fenced all before it.
    fn fence(&self) -> Result<BaseProducer<Deliveries>, Trouble> {
        let mut config = self.cluster.producing();
        config.set("transactional.id", id(&self.name));
        // A transaction that begins while the markers of the one before are written is asked to wait for so long.
        if !self.cluster.properties.contains_key("retry.backoff.ms") {
            config.set("retry.backoff.ms", "10");
        }
        let producer = self.cluster.producer(&config, &self.progress).map_err(Trouble::Stop)?;
        producer.init_transactions(STEP).map_err(|error| match self.cluster.is_denied(&producer, false) {
            true => Trouble::Stop(self.cluster.refused(&producer, &self.progress, &error)),
            false => self.judge(&producer, &error),
        })?;
        Ok(producer)
    }

    fn judge(&self, producer: &BaseProducer<Deliveries>, error: &KafkaError) -> Trouble {
        use RDKafkaErrorCode::*;
        // Once something is fatal, all that fails later says only that.
        let code = producer.client().fatal_error().map(|(code, _)| code).or_else(|| error.rdkafka_error_code());
        if code.is_some_and(client::refused) && !producer.context().client.renews() {
            return Trouble::Stop(self.cluster.refused(producer, &self.progress, error));
        }
        let why = producer.context().client.last_error().map_or_else(|| error.to_string(), |last| format!("{error} ({last})"));
        if code == Some(InvalidTransactionTimeout) {
            return Trouble::Stop(self.cluster.unfit(&format!("the broker allows no transaction so long: {why}")));
        }
        let broken = |why| Trouble::Broken { why, fenced: matches!(code, Some(Fenced | ProducerFenced | InvalidProducerEpoch)) };
        match error {
            KafkaError::Transaction(of) if of.is_fatal() => broken(why),
            KafkaError::Transaction(of) if of.txn_requires_abort() => Trouble::Abort(why),
            KafkaError::Transaction(of) if of.is_retriable() => Trouble::Again(why),
            KafkaError::Flush(OperationTimedOut) => Trouble::Again(why),
            KafkaError::Flush(_) => Trouble::Abort(why),
            KafkaError::MessageProduction(Fatal | Fenced | State) => broken(why),
            KafkaError::MessageProduction(MessageSizeTooLarge) => Trouble::Stop(self.cluster.undelivered(producer, "of an output", error)),
            KafkaError::MessageProduction(_) => Trouble::Abort(why),
            _ => broken(why),
        }
    }

    /// A record that its topic will not take later either.
    fn never(&self, producer: &BaseProducer<Deliveries>, (topic, error): &(String, KafkaError)) -> Option<Trouble> {
        let code = error.rdkafka_error_code();
        let never = code == Some(RDKafkaErrorCode::MessageSizeTooLarge) || code.is_some_and(client::refused);
        never.then(|| Trouble::Stop(self.cluster.undelivered(producer, topic, error)))
    }

    fn producer(&self) -> Result<&BaseProducer<Deliveries>, Trouble> {
        self.producer.as_ref().ok_or(Trouble::Broken { why: "there is no producer".into(), fenced: false })
    }

    /// One transaction with a tick's records, or those of several.
    fn attempt(&self, records: &[Outgoing], progress: &Progress, tell: &mut Tell<'_>) -> Result<(), Trouble> {
        let all = |producer: &BaseProducer<Deliveries>, tell: &mut Tell<'_>| {
            records.iter().try_for_each(|of| {
                let topic = &self.topics[of.output];
                self.send(producer, topic, message(topic, &of.tick.to_string(), &of.record), tell)
            })
        };
        self.transact(&all, progress, tell)
    }

    /// One transaction, from its beginning to the answer to its commit.
    fn transact(&self, fill: &Fill<'_>, progress: &Progress, tell: &mut Tell<'_>) -> Result<(), Trouble> {
        let producer = self.producer()?;
        let judged = |error: KafkaError| self.judge(producer, &error);
        let begun = Instant::now();
        producer.context().take();
        producer.begin_transaction().map_err(judged)?;
        failpoint::reach("before-produce");
        fill(producer, tell)?;
        let value = progress.to_bytes();
        let mut last = BaseRecord::<[u8], [u8]>::to(&self.progress).key(self.name.as_bytes()).partition(0);
        last.payload = Some(&value);
        self.send(producer, &self.progress, last, tell)?;
        failpoint::reach("before-commit");
        if !delivered(producer, STEP) && tell(Some(&format!("the brokers have not taken all records for {} s", STEP.as_secs()))) {
            return Err(Trouble::Abort("the run ends".into()));
        }
        // Here the brokers have the records, and a transaction that is open.
        failpoint::reach("produced");
        loop {
            let committed = producer.commit_transaction(STEP);
            let Err(error) = committed else { break };
            let failed = producer.context().take();
            if let Some(stop) = failed.as_ref().and_then(|failed| self.never(producer, failed)) {
                return Err(stop);
            }
            match (self.judge(producer, &error), failed) {
                (Trouble::Again(why), _) if !tell(Some(&why)) => {}
                // The transaction's own error counts the records, that of the first one says why.
                (Trouble::Abort(why), Some((topic, failed))) => return Err(Trouble::Abort(format!("{why}: topic `{topic}`: {failed}"))),
                (trouble, _) => return Err(trouble),
            }
        }
        tracing::debug!(tick = progress.tick, seconds = begun.elapsed().as_secs_f64(), "committed");
        failpoint::reach("after-commit");
        Ok(())
    }

    fn send(&self, producer: &BaseProducer<Deliveries>, topic: &str, record: BaseRecord<'_, [u8], [u8]>, tell: &mut Tell<'_>) -> Result<(), Trouble> {
        let (mut record, mut since) = (record, Instant::now());
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    producer.poll(POLL);
                    if let Some(failed) = producer.context().take() {
                        let too_large = failed.1.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge);
                        let never = if too_large { self.never(producer, &failed) } else { None };
                        return Err(never.unwrap_or_else(|| self.judge(producer, &failed.1)));
                    }
                    if since.elapsed() > STEP {
                        since = Instant::now();
                        if tell(Some("the brokers take nothing")) {
                            return Err(Trouble::Abort("the brokers take nothing".into()));
                        }
                    }
                    record = back;
                }
                Err((error @ KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                    return Err(Trouble::Stop(self.cluster.undelivered(producer, topic, &error)));
                }
                Err((error, _)) => return Err(self.judge(producer, &error)),
            }
        }
    }

    fn abort(&self, tell: &mut Tell<'_>) -> Result<(), Trouble> {
        let Some(producer) = &self.producer else { return Ok(()) };
        loop {
            // One event each: what was not delivered is waited for, and nobody else looks.
            for _ in 0..EVENTS {
                producer.poll(Duration::ZERO);
            }
            let Err(error) = producer.abort_transaction(STEP) else { return Ok(()) };
            match self.judge(producer, &error) {
                Trouble::Again(why) if !tell(Some(&why)) => {}
                trouble => return Err(trouble),
            }
        }
    }

    /// Makes a new producer in place of one that is of no use any more, and why; whether the transaction had been committed after all.
    fn reconnect(&mut self, progress: &Progress, mut why: Option<String>, fenced: bool, tell: &mut Tell<'_>) -> Result<bool, SinkError> {
        (self.producer, self.slow, self.fenced) = (None, false, fenced);
        loop {
            if let Some(why) = why.take()
                && tell(Some(&why))
            {
                return Err(self.cluster.unreachable(&format!("while records were to be written: {why}")));
            }
            std::thread::sleep(if std::mem::take(&mut self.fenced) { FENCED_PAUSE } else { PAUSE });
            // Before this run fences anybody, it looks whether it was fenced.
            let again = self.look(progress).and_then(|_| match self.fence() {
                Ok(producer) => {
                    self.producer = Some(producer);
                    self.look(progress).and_then(|_| self.settle(tell)).and_then(|_| self.look(progress))
                }
                Err(Trouble::Stop(error)) => Err(error),
                Err(Trouble::Again(why) | Trouble::Abort(why) | Trouble::Broken { why, .. }) => Err(self.cluster.unreachable(&why)),
            });
            match again {
                Ok(written) => return Ok(written),
                Err(error) if !error.retry => return Err(error),
                Err(error) => why = Some(error.message),
            }
        }
    }

    /// Is this record in the progress topic?
    fn look(&mut self, progress: &Progress) -> Result<bool, SinkError> {
        let scanned = topic::scan(&self.cluster, &self.progress, self.scanned)?;
        if scanned.records.iter().any(|record| record.run != self.run) {
            return Err(SinkError {
                code: "SINK_FENCED",
                message: format!("another tieout named `{}` writes to the cluster of connection `{}`", self.name, self.cluster.connection),
                remedy: "give each deployment its own `name` and output topics, and start one that gets another with `tieout run --fresh`".into(),
                retry: false,
            });
        }
        let found = scanned.records.iter().position(|record| record == progress);
        if let Some(offset) = found.map(|at| scanned.offsets[at])
            && self.records.back().is_none_or(|(_, newest)| *newest < offset)
        {
            self.records.push_back((progress.tick, offset));
        }
        Ok(found.is_some())
    }
}

impl Transactions {
    /// Ends what hangs, a step at a time; whether there was anything.
    ///
    /// # Errors
    /// `TRANSACTION_OPEN`: it does not end, or somebody else holds the progress topic back. `PROGRESS_GAP`: records that are to be
    /// written again are gone, or whether some were committed can't be known. No broker answers, or one refuses.
    fn settle(&mut self, tell: &mut Tell<'_>) -> Result<bool, SinkError> {
        let outputs = Outputs::new(self.cluster.clone(), &self.name, self.topics.clone())?;
        let mut ended: BTreeMap<(String, i32), u8> = BTreeMap::new();
        for steps in 0..STEPS {
            let Some(found) = self.find(&outputs, &ended)? else { return Ok(steps > 0) };
            let (step, past) = hanging::next(found, &self.progress);
            let last = past.last().map(|last| last.progress.clone()).unwrap_or_default();
            let claim = |mends: Vec<Piece>| {
                let written_by = env!("CARGO_PKG_VERSION").into();
                Progress { before: last.tick, begins: false, run: self.run.clone(), written_by, mends, ticks: Vec::new(), ..last.clone() }
            };
            let (begun, mut now) = (Instant::now(), None);
            let mut patient = |why: Option<&str>| begun.elapsed() > PATIENCE || why.is_some_and(|why| tell(Some(why)));
            let done = match step {
                Step::Done => return Ok(steps > 0),
                Step::Abort(partitions) => {
                    tracing::warn!(code = "TRANSACTION_HANGING", ?partitions, "brokers left out the end of a transaction that was aborted; it is ended");
                    partitions.iter().for_each(|of| *ended.entry(of.clone()).or_default() += 1);
                    self.abort_in(&partitions, &mut patient)
                }
                Step::Name(pieces) => {
                    tracing::warn!(
                        code = "TRANSACTION_HANGING",
                        ?pieces,
                        "brokers left out the end of a transaction that was committed; its records there are written again"
                    );
                    self.transact(&|_, _| Ok(()), now.insert(claim(pieces)), &mut patient)
                }
                Step::Again(pieces) => {
                    let lost = match outputs.lost(&pieces, &past) {
                        // They stay named until a new chain begins: if it does not, the next start is to find them.
                        Err(error) if self.fresh && error.code == "PROGRESS_GAP" => return Ok(steps > 0),
                        lost => lost?,
                    };
                    let fill = |producer: &BaseProducer<Deliveries>, tell: &mut Tell<'_>| {
                        lost.iter().try_for_each(|of| self.send(producer, of.topic(), again(of), tell))
                    };
                    self.transact(&fill, now.insert(claim(Vec::new())), &mut patient)
                }
                Step::Torn(tick) if !self.fresh => {
                    let why = format!("brokers left out the ends of two transactions behind tick {tick}, and whether the later one was committed is not known");
                    return Err(exact::gap(&self.name, &self.cluster.connection, &why));
                }
                Step::Say | Step::Torn(_) => self.transact(&|_, _| Ok(()), now.insert(claim(Vec::new())), &mut patient),
            };
            if let (Ok(()), Some(progress)) = (&done, &now) {
                self.knows(progress);
            }
            // That it is committed, or aborted, is said before the ends are written; who fences waits for them.
            match done.and_then(|()| self.fence_again()) {
                Ok(()) => {}
                Err(trouble) => return Err(self.unended(trouble)),
            }
        }
        Err(outputs.still_open(&outputs.held()?))
    }

    /// A step did not work.
    fn unended(&mut self, trouble: Trouble) -> SinkError {
        let (why, fenced) = match trouble {
            Trouble::Stop(error) => return error,
            Trouble::Broken { why, fenced } => (why, fenced),
            Trouble::Again(why) | Trouble::Abort(why) => (why, false),
        };
        self.fenced |= fenced;
        let by = if fenced { format!("another tieout named `{}` may have taken its place: ", self.name) } else { String::new() };
        self.cluster.unreachable(&format!("while a transaction that hangs was to be ended: {by}{why}"))
    }

    /// What hangs now; `None`: nothing. Partitions that are held back although what hung in them was ended are held back by others.
    fn find(&mut self, outputs: &Outputs, ended: &BTreeMap<(String, i32), u8>) -> Result<Option<Found>, SinkError> {
        let mut held = outputs.held_back()?;
        let waiting = held.iter().position(|of| of.topic == self.progress).map(|at| held.remove(at));
        held.retain(|of| {
            let mine = ended.get(&(of.topic.clone(), of.partition)).is_none_or(|times| *times < ABORTS);
            if !mine {
                tracing::warn!(topic = of.topic, partition = of.partition, "it is held back by the transaction of another producer");
            }
            mine
        });
        if held.is_empty() && waiting.is_none() && !self.mending {
            return Ok(None);
        }
        let scanned = topic::scan(&self.cluster, &self.progress, 0)?;
        self.mending = scanned.records.last().is_some_and(|last| !last.mends.is_empty());
        let past = scanned.sent();
        let waiting = waiting.map(|of| outputs.waiting(&of)).transpose()?;
        let wanted = |record| waiting.iter().flatten().any(|of| of.has(record));
        let since = past.last().map_or(0, |last| last.ms - CLOCKS_APART);
        let visible = if waiting.as_ref().is_some_and(|waiting| !waiting.is_empty()) { outputs.visible(since, wanted)? } else { Vec::new() };
        let mut found = Found { held: Vec::new(), waiting: None, visible, past, told: self.told, known: self.known };
        for piece in held {
            match outputs.hanging(piece.clone())? {
                Some(hanging) => found.held.push(hanging),
                None if waiting.as_ref().is_some_and(|waiting| !waiting.is_empty()) && outputs.any(&piece, wanted)? => {
                    let Piece { topic, partition, .. } = piece;
                    let why = format!("whether a transaction was committed: partition {partition} of topic `{topic}` is held back by another producer's");
                    return Err(self.cluster.unreachable(&why));
                }
                None => {}
            }
        }
        found.waiting = waiting;
        Ok(Some(found))
    }

    /// Aborts whatever of this name hangs in these partitions.
    fn abort_in(&self, partitions: &[(String, i32)], tell: &mut Tell<'_>) -> Result<(), Trouble> {
        let producer = self.producer()?;
        producer.context().take();
        producer.begin_transaction().map_err(|error| self.judge(producer, &error))?;
        for (topic, partition) in partitions {
            let headers = OwnedHeaders::new_with_capacity(1).insert(Header { key: hanging::ABORT, value: Some("") });
            self.send(producer, topic, BaseRecord::<[u8], [u8]>::to(topic).partition(*partition).key(b"tieout".as_slice()).headers(headers), tell)?;
        }
        if !delivered(producer, STEP) || producer.context().take().is_some() {
            return Err(Trouble::Again("the brokers have not taken all records".into()));
        }
        producer.abort_transaction(STEP).map_err(|error| self.judge(producer, &error))
    }

    fn fence_again(&mut self) -> Result<(), Trouble> {
        self.producer = None;
        self.producer = Some(self.fence()?);
        Ok(())
    }

    /// This is committed, and what was sent last to the topic of progress records.
    fn knows(&mut self, progress: &Progress) {
        self.told = self.producer.as_ref().map(|producer| producer.context().offset.load(Ordering::Relaxed));
        self.mending = !progress.mends.is_empty();
        self.fresh &= !progress.begins;
    }

    /// Was a connection lost since this was asked last? A transaction may have been ended meanwhile, and not everywhere.
    fn broke(&self) -> bool {
        let Some(producer) = &self.producer else { return true };
        (0..LINES).for_each(|_| producer.poll(Duration::ZERO));
        producer.context().client.broke() || self.slow
    }

    fn remove(&mut self, before: i64) -> Result<(), String> {
        let admin = match self.admin.take() {
            Some(admin) => admin,
            None => self.cluster.admin().map_err(|e| e.to_string())?,
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.progress, 0, Offset::Offset(before)).map_err(|e| e.to_string())?;
        let options = AdminOptions::new().request_timeout(Some(STEP));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        let removed = runtime.block_on(admin.delete_records(&list, &options)).map_err(|e| e.to_string())?;
        // One that failed is made anew: its token may have ended.
        self.admin = Some(admin);
        removed.elements().iter().try_for_each(|element| element.error()).map_err(|e| e.to_string())
    }
}

impl Transact for Transactions {
    fn forget(&mut self, tick: Tick) {
        let Some(at) = self.records.iter().position(|(of, _)| *of > tick).filter(|at| *at > 0) else { return };
        let before = self.records[at].1;
        match self.remove(before) {
            Ok(()) => _ = self.records.drain(..at),
            Err(why) => tracing::warn!(topic = self.progress, "records that are not needed could not be removed: {why}"),
        }
    }

    fn write(&mut self, records: &[Outgoing], progress: &Progress, tell: &mut Tell<'_>) -> Result<(), SinkError> {
        loop {
            self.compare()?;
            let begun = Instant::now();
            // Nothing failed, and nobody is told of it.
            if self.broke() && self.reconnect(progress, None, false, tell)? {
                tell(None);
                return Ok(());
            }
            let trouble = match self.attempt(records, progress, tell) {
                Ok(()) => {
                    self.slow = begun.elapsed() > STEP;
                    self.knows(progress);
                    if let Some(producer) = &self.producer {
                        let offset = producer.context().offset.load(Ordering::Relaxed);
                        self.records.push_back((progress.tick, offset));
                        // What was there when this run began is known; what another one adds comes later.
                        self.scanned = self.scanned.max(offset);
                    }
                    tell(None);
                    return Ok(());
                }
                Err(Trouble::Abort(why) | Trouble::Again(why)) => match self.abort(tell) {
                    Ok(()) if tell(Some(&why)) => return Err(self.cluster.unreachable(&why)),
                    Ok(()) => Trouble::Broken { why, fenced: false },
                    Err(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            let (why, fenced) = match trouble {
                Trouble::Stop(error) => return Err(error),
                Trouble::Broken { why, fenced } => (why, fenced),
                Trouble::Again(why) | Trouble::Abort(why) => (why, false),
            };
            if self.reconnect(progress, Some(why), fenced, tell)? {
                tell(None);
                return Ok(());
            }
        }
    }
}
