//! Kafka topics as sinks: what writing to a cluster takes, and the plain sink of `run --once`: an idempotent producer, one
//! topic an output, ticks in order, at least once (a second run writes records again, with the same `tieout-id`).
//!
//! A topic that does not exist is created, compacted, if the broker lets us.
//!
//! | file | what |
//! | --- | --- |
//! | `transactions` | one producer for all outputs of a connection, whole ticks in transactions |
//! | `topic` | the topic of progress records, read |
//! | `open` | transactions that somebody left open: found, and ended |
//! | `hanging` | transactions whose end brokers left out: what is to be done about them |

use std::{
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message as _,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};

use super::{Sink, SinkBatch, SinkError, SinkRecord};
use crate::{
    log::kafka::client::{self, Config, Context, Denied},
    plan::Properties,
};

mod hanging;
pub mod open;
pub mod topic;
pub mod transactions;

/// The settings of an output's topic.
const COMPACTED: &[(&str, &str)] = &[("cleanup.policy", "compact")];
/// How long the cluster may take to answer at the start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one poll waits while the queue is full or on its way.
const POLL: Duration = Duration::from_millis(20);

/// A cluster that is written to.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub connection: String,
    pub brokers: String,
    pub properties: Properties,
}

/// A topic that is written to.
pub struct KafkaSink {
    cluster: Cluster,
    topic: String,
    producer: BaseProducer<Deliveries>,
}

/// Collects what became of the messages.
#[derive(Debug, Default)]
struct Deliveries {
    client: Context,
    /// The first message that was not delivered since the last flush: its topic, and why.
    failed: Mutex<Option<(String, KafkaError)>>,
    /// Of this topic the newest offset is kept.
    watched: String,
    offset: AtomicI64,
}

impl ClientContext for Deliveries {
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

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) if message.topic() == self.watched => self.offset.store(message.offset(), Ordering::Relaxed),
            Ok(_) => {}
            Err((error, message)) => {
                _ = self.failed.lock().expect("nobody panics while holding it").get_or_insert_with(|| (message.topic().into(), error.clone()));
            }
        }
    }
}

impl Deliveries {
    fn take(&self) -> Option<(String, KafkaError)> {
        self.failed.lock().expect("nobody panics while holding it").take()
    }
}

impl Cluster {
    /// What every producer is made with.
    fn producing(&self) -> Config {
        let mut config = client::config(&self.brokers, &self.properties);
        for (name, value) in [
            ("compression.type", "zstd"),
            ("linger.ms", "2"),
            ("queue.buffering.max.kbytes", "32768"),
            // The partitions that the Java client would choose, so that consumers can join topics by partition.
            ("partitioner", "murmur2_random"),
        ] {
            if !self.properties.contains_key(name) {
                config.set(name, value);
            }
        }
        // A topic that is created by being written to would have the broker's clean-up policy, not ours.
        config.set("enable.idempotence", "true").set("acks", "all").set("allow.auto.create.topics", "false");
        // Connections that are lost are told of in the log.
        config.set("log.connection.close", "true");
        if !matches!(config.log_level, RDKafkaLogLevel::Debug) {
            config.set_log_level(RDKafkaLogLevel::Info);
        }
        config
    }

    fn producer(&self, config: &Config, watched: &str) -> Result<BaseProducer<Deliveries>, SinkError> {
        config
            .producer(|client| Deliveries { client, watched: watched.into(), ..Deliveries::default() })
            .map_err(|e| from_log(client::misconfigured(&self.connection, &e)))
    }

    /// Finds a topic, or creates it with these settings and so many partitions (-1: as the broker has them); how many it has.
    fn need_topic(&self, producer: &BaseProducer<Deliveries>, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<usize, SinkError> {
        let begun = Instant::now();
        loop {
            producer.poll(Duration::ZERO);
            match producer.client().fetch_metadata(Some(topic), Duration::from_secs(1)) {
                Ok(metadata) => match metadata.topics().first().map(|t| (t.error().map(RDKafkaErrorCode::from), t.partitions().len())) {
                    Some((None, partitions)) => return Ok(partitions),
                    Some((Some(RDKafkaErrorCode::UnknownTopicOrPartition), _)) => self.create(topic, partitions, settings)?,
                    Some((Some(code), _)) if client::refused(code) => return Err(self.refused(producer, topic, &KafkaError::MetadataFetch(code))),
                    Some((Some(RDKafkaErrorCode::InvalidTopic), _)) => return Err(self.unfit(&format!("`{topic}` is no name of a topic"))),
                    of if begun.elapsed() > PATIENCE => {
                        let reason = of.and_then(|(code, _)| code).map_or("nothing is known of it".to_string(), |code| code.to_string());
                        return Err(self.unreachable(&format!("about topic `{topic}`: {reason}")));
                    }
                    _ => {}
                },
                Err(error) if error.rdkafka_error_code().is_some_and(client::refused) => {
                    return Err(self.refused(producer, topic, &error));
                }
                Err(error) if self.is_denied(producer, begun.elapsed() > PATIENCE) => return Err(self.refused(producer, topic, &error)),
                Err(error) if begun.elapsed() > PATIENCE => {
                    let reason = producer.context().client.last_error().unwrap_or_else(|| error.to_string());
                    return Err(self.unreachable(&format!("about topic `{topic}`: {reason}")));
                }
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn admin(&self) -> Result<AdminClient<Context>, SinkError> {
        client::config(&self.brokers, &self.properties).admin().map_err(|e| from_log(client::misconfigured(&self.connection, &e)))
    }

    /// What is declared of the connection, or of an output to it, is not what its brokers take.
    fn unfit(&self, why: &str) -> SinkError {
        SinkError {
            code: "CONNECTION_SETTINGS",
            message: format!("connection `{}`: {why}", self.connection),
            remedy: "correct its properties, or the output's `topic`".into(),
            retry: false,
        }
    }

    fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<(), SinkError> {
        let admin = self.admin()?;
        // Replicas, and unless it is said, partitions, as the broker has them by default.
        let topic = settings.iter().fold(NewTopic::new(name, partitions, TopicReplication::Fixed(-1)), |topic, (key, value)| topic.set(key, value));
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        // Brokers that are not all there yet have no room for replicas.
        use RDKafkaErrorCode::{BrokerTransportFailure, InvalidReplicationFactor, NotController, OperationTimedOut, RequestTimedOut};
        let passes =
            |code: RDKafkaErrorCode| [BrokerTransportFailure, InvalidReplicationFactor, NotController, OperationTimedOut, RequestTimedOut].contains(&code);
        let (why, retry) = match runtime.block_on(admin.create_topics([&topic], &options)) {
            Ok(results) => match results.into_iter().next() {
                None | Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                    tracing::info!(topic = name, "topic created");
                    return Ok(());
                }
                Some(Err((_, code))) => (code.to_string(), passes(code)),
            },
            Err(error) => (error.to_string(), error.rdkafka_error_code().is_some_and(passes)),
        };
        let settings: Vec<String> = settings.iter().map(|(key, value)| format!("--config {key}={value}")).collect();
        let count = if partitions > 0 { format!(" --partitions {partitions}") } else { String::new() };
        Err(SinkError {
            code: "TOPIC_NOT_CREATED",
            message: format!("topic `{name}` does not exist, and could not be created on connection `{}`: {why}", self.connection),
            remedy: format!("create it: kafka-topics.sh --bootstrap-server {} --create --topic {name}{count} {}", self.brokers, settings.join(" ")),
            retry,
        })
    }

    fn unreachable(&self, what: &str) -> SinkError {
        SinkError {
            code: "BROKER_UNREACHABLE",
            message: format!("no answer from Kafka at {} {what}", self.brokers),
            remedy: format!("check that the brokers of connection `{}` run and can be reached", self.connection),
            retry: true,
        }
    }

    /// Has the producer heard that it is not let in, and is there no use in trying (any longer)?
    fn is_denied(&self, producer: &BaseProducer<Deliveries>, patient_enough: bool) -> bool {
        client::denied_producer(producer, |context| &context.client).is_some_and(|denied| patient_enough || !denied.retry)
    }

    fn refused(&self, producer: &BaseProducer<Deliveries>, topic: &str, error: &KafkaError) -> SinkError {
        self.denied(&format!("writing topic `{topic}`"), producer.context().client.denied(), error)
    }

    /// The error of a client that was not let in; `error` is how it noticed.
    fn denied(&self, what: &str, denied: Option<Denied>, error: &KafkaError) -> SinkError {
        let denied = denied.unwrap_or_else(|| Denied { code: "ACCESS_REFUSED", reason: error.to_string(), retry: false });
        from_log(client::refusal(&self.connection, what, &denied))
    }

    fn undelivered(&self, producer: &BaseProducer<Deliveries>, topic: &str, error: &KafkaError) -> SinkError {
        let code = error.rdkafka_error_code();
        if code.is_some_and(client::refused) {
            return self.refused(producer, topic, error);
        }
        let too_large = code == Some(RDKafkaErrorCode::MessageSizeTooLarge);
        SinkError {
            code: "NOT_DELIVERED",
            message: format!("topic `{topic}` of connection `{}` did not take a record: {error}", self.connection),
            remedy: if too_large {
                "raise `max.message.bytes` of the topic, and `message.max.bytes` of the connection".into()
            } else {
                "the brokers did not answer for `message.timeout.ms`; start again when they do".into()
            },
            retry: !too_large,
        }
    }
}

impl KafkaSink {
    /// Connects, and creates the topic if there is none.
    ///
    /// # Errors
    /// librdkafka does not take the properties, no broker answers, or the topic can neither be found nor created.
    pub fn open(connection: &str, brokers: &str, properties: &Properties, topic: &str) -> Result<KafkaSink, SinkError> {
        let cluster = Cluster { connection: connection.into(), brokers: brokers.into(), properties: properties.clone() };
        let producer = cluster.producer(&cluster.producing(), "")?;
        cluster.need_topic(&producer, topic, -1, COMPACTED)?;
        Ok(KafkaSink { cluster, topic: topic.into(), producer })
    }

    fn undelivered(&self, error: &KafkaError) -> SinkError {
        self.cluster.undelivered(&self.producer, &self.topic, error)
    }

    fn check(&self) -> Result<(), SinkError> {
        self.producer.context().take().map_or(Ok(()), |(_, error)| Err(self.undelivered(&error)))
    }
}

/// A record of an output, as the producer takes it.
fn message<'a>(topic: &'a str, tick: &str, record: &'a SinkRecord) -> BaseRecord<'a, [u8], [u8]> {
    let id = record.id_text();
    let headers = OwnedHeaders::new_with_capacity(3)
        .insert(Header { key: hanging::TICK, value: Some(tick) })
        .insert(Header { key: "tieout-id", value: Some(&id) })
        .insert(Header { key: "tieout-mapping", value: Some(&*record.mapping) });
    let mut message = BaseRecord::<[u8], [u8]>::to(topic).key(&record.key).headers(headers);
    message.payload = record.value.as_deref();
    message
}

/// Whether the brokers have what was sent, within this time. (The client's own flush looks only every 100 ms.)
fn delivered(producer: &BaseProducer<Deliveries>, patience: Duration) -> bool {
    let began = Instant::now();
    while producer.in_flight_count() > 0 {
        if began.elapsed() > patience {
            return false;
        }
        producer.poll(Duration::from_millis(1));
    }
    true
}

fn from_log(error: crate::log::LogError) -> SinkError {
    SinkError { code: error.code, message: error.message, remedy: error.remedy, retry: error.retry }
}

impl Sink for KafkaSink {
    fn apply(&mut self, batch: &SinkBatch) -> Result<(), SinkError> {
        let tick = batch.tick.to_string();
        for record in &batch.records {
            let mut message = message(&self.topic, &tick, record);
            loop {
                match self.producer.send(message) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        self.producer.poll(POLL);
                        self.check()?;
                        message = back;
                    }
                    Err((error, _)) => return Err(self.undelivered(&error)),
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        loop {
            let flushed = delivered(&self.producer, Duration::from_millis(500));
            self.check()?;
            if flushed {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
