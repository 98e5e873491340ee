//! The topic of progress records: one partition, kept for as long as a checkpoint may need it, read whole at a start.

use std::time::{Duration, Instant};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    admin::{AdminOptions, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
};

use super::{Cluster, client::Context, from_log, hanging::Sent};
use crate::{
    log::kafka::{client, watch},
    sink::{SinkError, progress::Progress},
};

/// The topic's settings when it is created.
pub const SETTINGS: &[(&str, &str)] = &[("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")];
/// How long the topic may be silent while it is read.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// How long one question about it may take.
const SILENT: Duration = Duration::from_secs(10);

/// The name of the topic of a deployment.
pub fn name(deployment: &str) -> String {
    format!("tieout-progress-{deployment}")
}

/// Looks whether the topic keeps its records. One that is compacted loses all but the last; one with a retention of its own
/// loses those that a tieout needs which was down for longer. A user who may not read the settings is not told.
///
/// # Errors
/// `PROGRESS_COMPACTED`.
pub fn check(cluster: &Cluster, topic: &str) -> Result<(), SinkError> {
    let admin = cluster.admin()?;
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let found = match runtime.block_on(admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options)).map(|found| found.into_iter().next()) {
        Ok(Some(Ok(found))) => found,
        other => {
            tracing::debug!(topic, "its settings can't be read: {:?}", other.err());
            return Ok(());
        }
    };
    let value = |name: &str| found.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let settings: Vec<String> = SETTINGS.iter().map(|(name, wanted)| format!("{name}={wanted}")).collect();
    let remedy = format!("kafka-configs.sh --bootstrap-server {} --alter --topic {topic} --add-config {}", cluster.brokers, settings.join(","));
    if value("cleanup.policy").contains("compact") {
        return Err(SinkError {
            code: "PROGRESS_COMPACTED",
            message: format!("topic `{topic}` of connection `{}` is compacted, and keeps only the last of its records", cluster.connection),
            remedy,
            retry: false,
        });
    }
    for name in ["retention.ms", "retention.bytes"] {
        let value = value(name);
        if value.parse::<i64>().is_ok_and(|limit| limit >= 0) {
            tracing::warn!(topic, "{name} is {value}: after a longer time down, outputs could not be gone on with; {remedy}");
        }
    }
    Ok(())
}

/// What the topic holds.
#[derive(Debug)]
pub struct Scanned {
    /// All committed records from where it was asked, in order, where each stands, and when it was sent.
    pub records: Vec<Progress>,
    pub offsets: Vec<i64>,
    pub ms: Vec<i64>,
    /// Records have been removed at its beginning.
    pub cut: bool,
    /// Where what is committed ended.
    pub end: i64,
}

impl Scanned {
    pub(super) fn sent(self) -> Vec<Sent> {
        let all = self.records.into_iter().zip(self.offsets).zip(self.ms);
        all.map(|((progress, offset), ms)| Sent { progress, offset, ms }).collect()
    }
}

/// A consumer that goes where it is told, and leaves no trace.
///
/// # Errors
/// librdkafka does not take the connection's properties.
pub(super) fn consumer(cluster: &Cluster, isolation: &str) -> Result<BaseConsumer<Context>, SinkError> {
    let mut config = client::config(&cluster.brokers, &cluster.properties);
    for (name, value) in [
        ("group.id", "tieout"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "earliest"),
        ("allow.auto.create.topics", "false"),
        ("fetch.wait.max.ms", "100"),
        ("isolation.level", isolation),
    ] {
        config.set(name, value);
    }
    config.consumer(|client| client).map_err(|e| from_log(client::misconfigured(&cluster.connection, &e)))
}

/// Reads a partition from an offset up to an end, as the consumer's isolation level shows it, until `take` has enough.
///
/// # Errors
/// No broker answers; the user may not read it; what `take` says.
pub(super) fn read(
    cluster: &Cluster,
    reader: &BaseConsumer<Context>,
    (topic, partition): (&str, i32),
    (from, end): (i64, i64),
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<bool, SinkError>,
) -> Result<(), SinkError> {
    let silent = |error: &dyn std::fmt::Display| cluster.unreachable(&format!("about topic `{topic}`: {error}"));
    let assign = || -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from))?;
        reader.assign(&list)
    };
    assign().map_err(|e| silent(&e))?;
    let (mut heard, mut next) = (Instant::now(), from);
    while next < end {
        match reader.poll(POLL) {
            Some(Ok(message)) => {
                (heard, next) = (Instant::now(), message.offset() + 1);
                if take(&message)? {
                    return Ok(());
                }
            }
            // Markers at the end are no messages, but the client has passed them.
            Some(Err(KafkaError::PartitionEOF(_))) => {
                let passed = reader.position().ok().and_then(|list| list.find_partition(topic, partition).map(|p| p.offset()));
                if let Some(Offset::Offset(at)) = passed {
                    next = next.max(at);
                }
            }
            Some(Err(error)) if error.rdkafka_error_code().is_some_and(client::refused) => {
                return Err(cluster.denied(&format!("reading topic `{topic}`"), reader.context().denied(), &error));
            }
            Some(Err(_)) | None => {}
        }
        if heard.elapsed() > PATIENCE {
            return Err(silent(&format!("it was read up to {next}, and ends at {end}")));
        }
    }
    Ok(())
}

/// The progress record in a message.
///
/// # Errors
/// `PROGRESS_UNREADABLE`.
pub(super) fn sent(topic: &str, message: &BorrowedMessage<'_>) -> Result<Sent, SinkError> {
    let progress = Progress::from_bytes(message.payload().unwrap_or_default()).map_err(|why| SinkError {
        code: "PROGRESS_UNREADABLE",
        message: format!("offset {} of topic `{topic}` is no progress record that this version reads: {why}", message.offset()),
        remedy: "give each deployment its own `name`, and leave its topic alone; to go on, remove that topic, empty the output topics and start with `tieout run --fresh`".into(),
        retry: false,
    })?;
    Ok(Sent { progress, offset: message.offset(), ms: message.timestamp().to_millis().unwrap_or(0) })
}

/// Reads the topic from an offset up to the end of what is committed now. Whoever fenced those before finds all of theirs.
///
/// # Errors
/// No broker answers; a record is not one of tieout's.
pub fn scan(cluster: &Cluster, topic: &str, from: i64) -> Result<Scanned, SinkError> {
    let reader = consumer(cluster, "read_committed")?;
    let silent = |e: KafkaError| match client::denied_consumer(&reader) {
        Some(denied) => cluster.denied(&format!("reading topic `{topic}`"), Some(denied), &e),
        None => cluster.unreachable(&format!("about topic `{topic}`: {}", reader.context().last_error().unwrap_or_else(|| e.to_string()))),
    };
    let ask = |at: Offset| watch::ask(&reader, topic, 1, at, SILENT).map_err(silent).map(|found| found[0]);
    let (low, end) = (ask(Offset::Beginning)?, ask(Offset::End)?);
    let mut scanned = Scanned { records: Vec::new(), offsets: Vec::new(), ms: Vec::new(), cut: low > 0, end };
    let from = from.max(low);
    if from >= end {
        return Ok(scanned);
    }
    read(cluster, &reader, (topic, 0), (from, end), |message| {
        let sent = sent(topic, message)?;
        scanned.records.push(sent.progress);
        scanned.offsets.push(sent.offset);
        scanned.ms.push(sent.ms);
        Ok(false)
    })?;
    Ok(scanned)
}
