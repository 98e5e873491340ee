//! Tells the brokers how far checkpoints cover topics, as offsets of a consumer group: for those who watch lags, and for
//! nobody else. tieout never starts from them.
//!
//! The group is `tieout-NAME`, or the connection's `group.id`. It is never joined. Where two sources read one topic, the one
//! that is behind counts.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};

use super::client::{self, Context};
use crate::plan::{ConnectionId, ConnectionKind, LogSpec, Plan};

/// How long a run that ends waits until the brokers know its last checkpoint.
const PATIENCE_AT_END: Duration = Duration::from_secs(2);

/// What one source has read, by partition: the next position.
type Positions = [(i32, i64)];

/// The groups of all Kafka connections that are read.
pub struct Groups(Vec<Group>);

struct Group {
    connection: String,
    /// Sources with their topics.
    sources: Vec<(usize, String)>,
    consumer: Option<BaseConsumer<Commits>>,
    /// Has been told of.
    failed: bool,
}

/// Hears what became of commits.
#[derive(Debug, Default)]
struct Commits {
    client: Context,
    /// Under way, and why the last one did not work.
    open: std::sync::atomic::AtomicUsize,
    failed: std::sync::Mutex<Option<KafkaError>>,
}

impl ClientContext for Commits {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.client.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }

    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, settings: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.client.generate_oauth_token(settings)
    }
}

impl ConsumerContext for Commits {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        let _ = self.open.fetch_update(std::sync::atomic::Ordering::Relaxed, std::sync::atomic::Ordering::Relaxed, |n| Some(n.saturating_sub(1)));
        *self.failed.lock().expect("nobody panics while holding it") = result.err();
    }
}

impl Groups {
    /// The groups of a plan. Nothing connects before there is something to tell.
    pub fn of(plan: &Plan) -> Groups {
        let mut groups: BTreeMap<ConnectionId, Group> = BTreeMap::new();
        for (id, source) in plan.sources.iter().enumerate() {
            let declared = &plan.connections[source.connection];
            let (LogSpec::Topic { topic, .. }, ConnectionKind::Kafka { brokers, properties, .. }) = (&source.log, &declared.kind) else { continue };
            let group = groups.entry(source.connection).or_insert_with(|| {
                let mut config = client::config(brokers, properties);
                if !properties.contains_key("group.id") {
                    config.set("group.id", format!("tieout-{}", plan.name));
                }
                config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false").set("allow.auto.create.topics", "false");
                // Readers with the same properties were opened before this: they tell of settings that can't be.
                let consumer = config.consumer(|client| Commits { client, ..Commits::default() }).ok();
                Group { connection: declared.name.clone(), sources: Vec::new(), consumer, failed: false }
            });
            group.sources.push((id, topic.clone()));
        }
        Groups(groups.into_values().collect())
    }

    /// A checkpoint covers these positions, by source. Waits for nobody.
    pub fn cover<'a>(&mut self, positions: impl Fn(usize) -> &'a Positions) {
        for group in &mut self.0 {
            group.hear();
            let mut least: BTreeMap<(&str, i32), i64> = BTreeMap::new();
            for (source, topic) in &group.sources {
                for (partition, next) in positions(*source) {
                    least.entry((topic, *partition)).and_modify(|known| *known = (*known).min(*next)).or_insert(*next);
                }
            }
            let mut list = TopicPartitionList::new();
            for ((topic, partition), next) in least {
                let _ = list.add_partition_offset(topic, partition, Offset::Offset(next));
            }
            if let Some(consumer) = group.consumer.as_ref().filter(|_| list.count() > 0)
                && consumer.commit(&list, CommitMode::Async).is_ok()
            {
                consumer.context().open.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    /// Waits a moment for what is under way.
    pub fn finish(mut self) {
        let began = Instant::now();
        for group in &mut self.0 {
            while group.hear() > 0 && began.elapsed() < PATIENCE_AT_END {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Group {
    /// Hears what became of commits; how many are under way.
    fn hear(&mut self) -> usize {
        let Some(consumer) = &self.consumer else { return 0 };
        while consumer.poll(Duration::ZERO).is_some() {}
        let failed = consumer.context().failed.lock().expect("nobody panics while holding it").take();
        if let Some(error) = failed
            && !std::mem::replace(&mut self.failed, true)
        {
            tracing::warn!(connection = self.connection, "how far topics are read can't be told to the consumer group, which only monitoring misses: {error}");
        }
        consumer.context().open.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
