//! Transactions that are open: what the brokers say of a deployment's own, and which partitions an open one holds back.
//!
//! librdkafka has no call that describes transactions. What the coordinator knows stands in its own log, the topic
//! `__transaction_state`, in a form that Kafka keeps between versions; a user who may not read that topic still learns from
//! the ends of partitions that a transaction is open: readers of what is committed are stopped before the end of everything.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{BorrowedMessage, OwnedMessage},
};

use super::{
    Cluster,
    hanging::{Hanging, Record, Sent, committed, is_abort},
    topic,
    transactions::{self, Transactions},
};
use crate::{
    engine::Tick,
    log::kafka::{
        client::{self, Context},
        watch,
    },
    plan::{ConnectionId, ConnectionKind, Plan},
    sink::{SinkError, exact, progress::Piece},
};

mod state;

pub use state::{Known, State};

/// Where the coordinators of transactions keep what they know.
const STATE_TOPIC: &str = "__transaction_state";
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is watched whether somebody writes. One that lives and writes leaves a progress record each second.
const WATCH: Duration = Duration::from_secs(3);
/// How long the brokers may take to end a transaction.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// The outputs of one Kafka connection, as the brokers have them.
pub struct Outputs {
    cluster: Cluster,
    deployment: String,
    topics: Vec<String>,
    everything: BaseConsumer<Context>,
    committed: BaseConsumer<Context>,
}

/// A partition whose newest records are in a transaction that is not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub topic: String,
    pub partition: i32,
    /// The first offset that readers of what is committed do not see.
    pub from: i64,
    /// The end of everything.
    pub end: i64,
    /// The time of the record at `from`, in milliseconds.
    pub since_ms: Option<i64>,
    /// The tick that the record at `from` says it is of, if tieout wrote it.
    pub tick: Option<Tick>,
}

impl Outputs {
    /// The outputs of a connection of kind Kafka.
    ///
    /// # Errors
    /// librdkafka does not take the connection's settings, no broker answers, or none lets us in.
    pub fn of(plan: &Plan, connection: ConnectionId) -> Result<Outputs, SinkError> {
        let declared = &plan.connections[connection];
        let ConnectionKind::Kafka { brokers, properties, .. } = &declared.kind else { unreachable!("only Kafka has transactions") };
        let cluster = Cluster { connection: declared.name.clone(), brokers: brokers.clone(), properties: properties.clone() };
        let topics = plan.outputs.iter().filter(|output| output.connection == connection).map(|output| output.to.clone()).collect();
        let outputs = Outputs::new(cluster, &plan.name, topics)?;
        outputs.arrive()?;
        Ok(outputs)
    }

    /// The outputs of a deployment in these topics, and its topic of progress records.
    ///
    /// # Errors
    /// librdkafka does not take the connection's settings.
    pub fn new(cluster: Cluster, deployment: &str, mut topics: Vec<String>) -> Result<Outputs, SinkError> {
        topics.push(topic::name(deployment));
        topics.sort();
        topics.dedup();
        let (everything, committed) = (topic::consumer(&cluster, "read_uncommitted")?, topic::consumer(&cluster, "read_committed")?);
        Ok(Outputs { cluster, deployment: deployment.into(), topics, everything, committed })
    }

    /// Waits until a broker answers, or says why it does not let us in.
    fn arrive(&self) -> Result<(), SinkError> {
        let began = Instant::now();
        let topic = &self.topics[0];
        loop {
            match self.everything.fetch_metadata(Some(topic), Duration::from_secs(1)) {
                Ok(_) => return Ok(()),
                Err(error) => match client::denied_consumer(&self.everything) {
                    Some(denied) if !denied.retry => return Err(self.cluster.denied(&format!("reading topic `{topic}`"), Some(denied), &error)),
                    _ if began.elapsed() > PATIENCE => return Err(self.silent(topic, &error)),
                    _ => {}
                },
            }
        }
    }

    /// The connection's name.
    pub fn connection(&self) -> &str {
        &self.cluster.connection
    }

    /// The name under which the deployment writes.
    pub fn id(&self) -> String {
        transactions::id(&self.deployment)
    }

    /// The topic of its progress records.
    pub fn progress(&self) -> String {
        topic::name(&self.deployment)
    }

    fn silent(&self, topic: &str, error: &KafkaError) -> SinkError {
        let denied = client::denied_consumer(&self.everything).or_else(|| client::denied_consumer(&self.committed));
        if denied.is_some() || error.rdkafka_error_code().is_some_and(client::refused) {
            return self.cluster.denied(&format!("reading topic `{topic}`"), denied, error);
        }
        self.cluster.unreachable(&format!("about topic `{topic}`: {error}"))
    }

    /// What the coordinator knows of the deployment's transactional id; `None`: it never had any, or was forgotten.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`: the user may not read the coordinator's topic. No broker answers.
    pub fn known(&self) -> Result<Option<Known>, SinkError> {
        let silent = |e: KafkaError| self.silent(STATE_TOPIC, &e);
        let Some(partitions) = watch::partitions(&self.everything, STATE_TOPIC, PATIENCE).map_err(silent)? else { return Ok(None) };
        let (id, mut known) = (self.id(), None);
        let partition = state::partition(&id, partitions as i32);
        let (low, end) = self.everything.fetch_watermarks(STATE_TOPIC, partition, PATIENCE).map_err(silent)?;
        topic::read(&self.cluster, &self.everything, (STATE_TOPIC, partition), (low, end), |message| {
            if message.key().and_then(state::id) == Some(id.as_bytes()) {
                known = match message.payload() {
                    None => None,
                    Some(value) => Some(Known::from_bytes(value).ok_or_else(|| SinkError {
                        code: "TRANSACTION_STATE_UNREADABLE",
                        message: format!("offset {} of topic `{STATE_TOPIC}` is in a form that this version does not read", message.offset()),
                        remedy: "ask Kafka's own kafka-transactions.sh".into(),
                        retry: false,
                    })?),
                };
            }
            Ok(false)
        })?;
        Ok(known)
    }

    /// The partitions of the output topics and of the topic of progress records that an open transaction holds back.
    ///
    /// # Errors
    /// No broker answers, or the user may not read a topic.
    pub fn held(&self) -> Result<Vec<Held>, SinkError> {
        let mut held = Vec::new();
        for Piece { topic, partition, from, end, .. } in self.held_back()? {
            let mut found = Held { topic, partition, from, end, since_ms: None, tick: None };
            topic::read(&self.cluster, &self.everything, (&found.topic.clone(), partition), (from, end), |message| {
                found.since_ms = message.timestamp().to_millis();
                found.tick = Record::of(message).map(|record| record.tick);
                Ok(true)
            })?;
            held.push(found);
        }
        Ok(held)
    }

    /// The same, without what stands there.
    ///
    /// # Errors
    /// No broker answers.
    pub(super) fn held_back(&self) -> Result<Vec<Piece>, SinkError> {
        let partitions = self.partitions()?;
        // In this order: what is committed between the questions is not taken for open.
        let ends = self.ends(&self.everything, &partitions, Offset::End)?;
        let stable = self.ends(&self.committed, &partitions, Offset::End)?;
        let all = partitions.iter().zip(ends).zip(stable).filter(|((_, end), from)| from < end);
        Ok(all.map(|((&(topic, partition), end), from)| Piece { topic: topic.into(), partition, from, end, records: 0 }).collect())
    }

    /// All partitions of the topics that exist.
    fn partitions(&self) -> Result<Vec<(&str, i32)>, SinkError> {
        let mut all = Vec::new();
        for topic in &self.topics {
            let partitions = watch::partitions(&self.everything, topic, PATIENCE).map_err(|e| self.silent(topic, &e))?;
            all.extend((0..partitions.unwrap_or(0) as i32).map(|partition| (topic.as_str(), partition)));
        }
        Ok(all)
    }

    /// The ends, or beginnings, of partitions, as this consumer may see them.
    fn ends(&self, consumer: &BaseConsumer<Context>, partitions: &[(&str, i32)], at: Offset) -> Result<Vec<i64>, SinkError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let ask = || -> KafkaResult<Vec<i64>> {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            partitions.iter().try_for_each(|(topic, partition)| list.add_partition_offset(topic, *partition, at))?;
            let answer = consumer.offsets_for_times(list, PATIENCE)?;
            let mut found = HashMap::with_capacity(partitions.len());
            for element in answer.elements() {
                if let Err(error) = element.error() {
                    tracing::info!(topic = element.topic(), partition = element.partition(), "its end is not known: {error}");
                    return Err(error);
                }
                let offset = match element.offset() {
                    Offset::Offset(offset) => offset,
                    // No record is so new.
                    Offset::End => i64::MAX,
                    _ => return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)),
                };
                found.insert((element.topic().to_string(), element.partition()), offset);
            }
            let of = |(topic, partition): &(&str, i32)| found.get(&(topic.to_string(), *partition)).copied();
            partitions.iter().map(of).collect::<Option<_>>().ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset))
        };
        ask().map_err(|error| match self.leaderless(partitions) {
            Some((topic, partition)) => self.cluster.unreachable(&format!("about partition {partition} of topic `{topic}`: it has no leader ({error})")),
            None => self.silent(&self.topics[0], &error),
        })
    }

    /// The first of these partitions that has no leader, if the brokers say so.
    fn leaderless<'a>(&self, partitions: &[(&'a str, i32)]) -> Option<(&'a str, i32)> {
        let mut topics: Vec<&str> = partitions.iter().map(|(topic, _)| *topic).collect();
        topics.dedup();
        topics.into_iter().find_map(|topic| {
            let metadata = self.everything.fetch_metadata(Some(topic), Duration::from_secs(1)).ok()?;
            let without = metadata.topics().first()?.partitions().iter().find(|of| of.leader() < 0).map(|of| of.id())?;
            Some((topic, without))
        })
    }

    /// Reads everything that stands in a piece, committed or not.
    fn each(&self, of: &Piece, mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), SinkError>) -> Result<(), SinkError> {
        self.until(of, |message| take(message).map(|()| false))
    }

    /// The same, until `take` has enough.
    fn until(&self, of: &Piece, mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<bool, SinkError>) -> Result<(), SinkError> {
        // More may have come.
        let take = |message: &BorrowedMessage<'_>| Ok(message.offset() >= of.end || take(message)?);
        topic::read(&self.cluster, &self.everything, (&of.topic, of.partition), (of.from, of.end), take)
    }

    /// Is one of these records in a piece?
    ///
    /// # Errors
    /// No broker answers.
    pub(super) fn any(&self, piece: &Piece, wanted: impl Fn(Record) -> bool) -> Result<bool, SinkError> {
        let mut any = false;
        self.until(piece, |message| {
            any |= Record::of(message).is_some_and(&wanted);
            Ok(any)
        })?;
        Ok(any)
    }

    /// What hangs in a partition that is held back; `None`: what begins there is not tieout's, or the user may not read it.
    ///
    /// # Errors
    /// No broker answers.
    pub(super) fn hanging(&self, piece: Piece) -> Result<Option<Hanging>, SinkError> {
        let (mut records, mut mine) = (Vec::new(), None);
        let read = self.until(&piece, |message| {
            let record = Record::of(message);
            // The first record is of the transaction that is open for longest; behind it may be what was committed.
            let mine = mine.get_or_insert(record.is_some() || is_abort(message));
            records.extend(record);
            Ok(!*mine)
        });
        match read {
            Err(error) if error.code == "ACCESS_REFUSED" => tracing::warn!("if a transaction hangs there, it can't be seen: {error}"),
            read => read?,
        }
        Ok(mine.unwrap_or(false).then_some(Hanging { piece, records }))
    }

    /// The progress records that are held back.
    ///
    /// # Errors
    /// No broker answers; a record is not one of tieout's.
    pub(super) fn waiting(&self, piece: &Piece) -> Result<Vec<Sent>, SinkError> {
        let mut waiting = Vec::new();
        self.each(piece, |message| {
            if !is_abort(message) {
                waiting.push(topic::sent(&piece.topic, message)?);
            }
            Ok(())
        })?;
        Ok(waiting)
    }

    /// Records that readers of what is committed see, of those that were sent since then (in milliseconds) and are wanted.
    ///
    /// # Errors
    /// No broker answers, or the user may not read a topic.
    pub(super) fn visible(&self, since: i64, wanted: impl Fn(Record) -> bool) -> Result<Vec<Record>, SinkError> {
        let progress = topic::name(&self.deployment);
        let mut partitions = self.partitions()?;
        partitions.retain(|(topic, _)| *topic != progress);
        let ends = self.ends(&self.committed, &partitions, Offset::End)?;
        // A partition without a newer record has none of them: then the answer is its end.
        let begins = self.ends(&self.committed, &partitions, Offset::Offset(since))?;
        let mut found = Vec::new();
        for ((&(topic, partition), end), from) in partitions.iter().zip(ends).zip(begins).filter(|((_, end), from)| from < end) {
            topic::read(&self.cluster, &self.committed, (topic, partition), (from, end), |message| {
                found.extend(Record::of(message).filter(|record| wanted(*record)));
                Ok(false)
            })?;
        }
        Ok(found)
    }

    /// The committed records in pieces of topics, which nobody sees.
    ///
    /// # Errors
    /// `PROGRESS_GAP`: not all of them are there. No broker answers.
    pub(super) fn lost(&self, pieces: &[Piece], past: &[Sent]) -> Result<Vec<OwnedMessage>, SinkError> {
        let mut lost = Vec::new();
        for piece in pieces {
            let partitions = watch::partitions(&self.everything, &piece.topic, PATIENCE).map_err(|e| self.silent(&piece.topic, &e))?;
            let there = (piece.partition as usize) < partitions.unwrap_or(0);
            let partition = [(piece.topic.as_str(), piece.partition)];
            // As if it were empty.
            let (low, end) = match there {
                true => (self.ends(&self.everything, &partition, Offset::Beginning)?[0], self.ends(&self.everything, &partition, Offset::End)?[0]),
                false => (0, 0),
            };
            let mut all = Vec::new();
            if low <= piece.from && piece.end <= end {
                self.each(piece, |message| {
                    all.extend(Record::of(message).map(|record| (record, message.detach())));
                    Ok(())
                })?;
            }
            let records: Vec<Record> = all.iter().map(|(record, _)| *record).collect();
            let wanted: Vec<Record> = committed(&records, past).into_iter().flatten().copied().collect();
            if wanted.len() as u64 != piece.records {
                let Piece { topic, partition, from, end, records } = piece;
                let why =
                    format!("{records} records between offsets {from} and {end} of partition {partition} of topic `{topic}` are gone, and nobody saw them");
                return Err(exact::gap(&self.deployment, &self.cluster.connection, &why));
            }
            lost.extend(all.into_iter().filter(|(record, _)| wanted.contains(record)).map(|(_, message)| message));
        }
        Ok(lost)
    }

    /// Partitions are held back though the deployment's own transaction is over.
    pub(super) fn still_open(&self, held: &[Held]) -> SinkError {
        SinkError {
            code: "TRANSACTION_OPEN",
            message: format!("{} of {} partitions are still held back: {}", held.len(), self.id(), names(held)),
            remedy: "if brokers left out the ends of transactions, the next start of tieout ends its own; those of other producers, and what no start can end, kafka-transactions.sh finds (find-hanging) and ends (abort)".into(),
            retry: false,
        }
    }

    /// Watches for some seconds that nobody writes.
    ///
    /// # Errors
    /// `TRANSACTION_IN_USE`: somebody does. No broker answers.
    pub fn unused(&self) -> Result<(), SinkError> {
        if !self.alive()? {
            return Ok(());
        }
        Err(SinkError {
            code: "TRANSACTION_IN_USE",
            message: format!("a tieout writes as `{}` to the brokers of connection `{}` at this moment", self.id(), self.cluster.connection),
            remedy: "stop it, or use `--force`".into(),
            retry: true,
        })
    }

    /// Watches for some seconds whether somebody writes progress records now.
    ///
    /// # Errors
    /// No broker answers.
    fn alive(&self) -> Result<bool, SinkError> {
        let topic = topic::name(&self.deployment);
        let silent = |e: KafkaError| self.silent(&topic, &e);
        if watch::partitions(&self.everything, &topic, PATIENCE).map_err(silent)?.is_none() {
            return Ok(false);
        }
        let end = || watch::ask(&self.everything, &topic, 1, Offset::End, PATIENCE).map_err(silent);
        let (before, began) = (end()?, Instant::now());
        while began.elapsed() < WATCH {
            std::thread::sleep(Duration::from_millis(200));
            if end()? != before {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends the transaction that the deployment left open, without its records, by taking its place; returns when the
    /// partitions are free. One that lives after all takes its place back, and writes the transaction again.
    ///
    /// # Errors
    /// No broker answers; the user may not write; `TRANSACTION_OPEN`: partitions are still held back.
    pub fn abort(&self) -> Result<(), SinkError> {
        self.end_within(END_PATIENCE)
    }

    fn end_within(&self, patience: Duration) -> Result<(), SinkError> {
        Transactions::fence_once(&self.cluster, &self.deployment)?;
        let began = Instant::now();
        loop {
            let held = self.held()?;
            if held.is_empty() {
                return Ok(());
            }
            if began.elapsed() > patience {
                return Err(self.still_open(&held));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// `topic 0, topic 3`
fn names(held: &[Held]) -> String {
    held.iter().map(|of| format!("{} {}", of.topic, of.partition)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
