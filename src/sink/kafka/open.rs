//! Transactions that are open: what the brokers say of a deployment's own, and which partitions an open one holds back.
//!
//! librdkafka has no call that describes transactions. What the coordinator knows stands in its own log, the topic
//! `__transaction_state`, in a form that Kafka keeps between versions; a user who may not read that topic still learns from
//! the ends of partitions that a transaction is open: readers of what is committed are stopped before the end of everything.

use std::time::{Duration, Instant};

use rdkafka::{
    Message as _, Offset, Timestamp,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Headers as _,
};

use super::{
    Cluster, topic,
    transactions::{self, Transactions},
};
use crate::{
    engine::Tick,
    log::kafka::{
        client::{self, Context},
        watch,
    },
    plan::{ConnectionId, ConnectionKind, Plan},
    sink::SinkError,
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
        let mut topics: Vec<String> = plan.outputs.iter().filter(|output| output.connection == connection).map(|output| output.to.clone()).collect();
        topics.push(topic::name(&plan.name));
        topics.sort();
        topics.dedup();
        let (everything, committed) = (topic::consumer(&cluster, "read_uncommitted")?, topic::consumer(&cluster, "read_committed")?);
        let outputs = Outputs { cluster, deployment: plan.name.clone(), topics, everything, committed };
        outputs.arrive()?;
        Ok(outputs)
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
        for topic in &self.topics {
            let silent = |e: KafkaError| self.silent(topic, &e);
            let Some(partitions) = watch::partitions(&self.everything, topic, PATIENCE).map_err(silent)? else { continue };
            // In this order: what is committed between the questions is not taken for open.
            let ends = watch::ask(&self.everything, topic, partitions, Offset::End, PATIENCE).map_err(silent)?;
            let stable = watch::ask(&self.committed, topic, partitions, Offset::End, PATIENCE).map_err(silent)?;
            for (partition, (&from, &end)) in (0..).zip(stable.iter().zip(&ends)).filter(|(_, (from, end))| from < end) {
                let mut found = Held { topic: topic.clone(), partition, from, end, since_ms: None, tick: None };
                topic::read(&self.cluster, &self.everything, (topic, partition), (from, end), |message| {
                    if let Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) = message.timestamp() {
                        found.since_ms = Some(ms);
                    }
                    let mut headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                    let tick = headers.find(|header| header.key == "tieout-tick").and_then(|header| header.value);
                    found.tick = tick.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
                    Ok(true)
                })?;
                held.push(found);
            }
        }
        Ok(held)
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
                return Err(SinkError {
                    code: "TRANSACTION_OPEN",
                    message: format!("{} of {} partitions are still held back: {}", held.len(), self.id(), names(&held)),
                    remedy: "their transaction may be another producer's; kafka-transactions.sh --find-hanging names it".into(),
                    retry: false,
                });
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
