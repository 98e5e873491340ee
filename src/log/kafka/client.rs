//! What readers and writers of Kafka share: settings, librdkafka's log lines, and the meaning of its errors.

use std::{collections::BTreeMap, sync::Mutex};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::KafkaError,
    producer::{DeliveryResult, ProducerContext},
    types::RDKafkaErrorCode,
};

use crate::log::LogError;

/// The settings of a connection, as librdkafka takes them; callers add what they depend on afterwards.
pub fn config(brokers: &str, properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "tieout");
    // A broker that is back should be seen within a second, not after librdkafka's ten.
    config.set("reconnect.backoff.max.ms", "1000");
    for (name, value) in properties {
        config.set(name, value);
    }
    config.set("bootstrap.servers", brokers);
    config
}

/// Keeps the last error that librdkafka reported by itself, for the text of a trouble; forwards its log lines to `tracing`.
#[derive(Debug, Default)]
pub struct Context {
    last: Mutex<Option<String>>,
}

impl Context {
    /// The last error since this was last asked.
    pub fn last_error(&self) -> Option<String> {
        self.last.lock().expect("nobody panics while holding it").take()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{line}")
            }
            // A broker that can't be reached is reported once, as the trouble of its source, not once per attempt.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!(target: "librdkafka", facility, "{line}")
            }
            _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        // "all brokers down" says less than the reason before it.
        let code = error.rdkafka_error_code();
        if !matches!(code, Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::AllBrokersDown)) {
            *self.last.lock().expect("nobody panics while holding it") = Some(reason.to_string());
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, _: ()) {}
}

/// The user (or certificate) is not let in: trying again would only lock accounts.
pub fn refused(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code,
        Authentication
            | SaslAuthenticationFailed
            | UnsupportedSASLMechanism
            | IllegalSASLState
            | TopicAuthorizationFailed
            | ClusterAuthorizationFailed
            | TransactionalIdAuthorizationFailed
    )
}

/// The error of a connection that does not let us do `what`.
pub fn refusal(connection: &str, what: &str, reason: &str) -> LogError {
    LogError {
        code: "ACCESS_REFUSED",
        message: format!("connection `{connection}`: {what} was refused: {reason}"),
        remedy: "check the connection's security.protocol, sasl.* and ssl.* properties, and the rights of its user".into(),
        retry: false,
    }
}

/// The error of settings that librdkafka does not take.
pub fn misconfigured(connection: &str, error: &KafkaError) -> LogError {
    let text = match error {
        KafkaError::ClientConfig(_, text, name, value) => format!("{text} (`{name}: {value}`)"),
        other => other.to_string(),
    };
    LogError {
        code: "CONNECTION_SETTINGS",
        message: format!("connection `{connection}`: librdkafka does not take its properties: {text}"),
        remedy: "properties are librdkafka's own settings; see its CONFIGURATION.md for their names and values".into(),
        retry: false,
    }
}

/// The topics whose names are most like this one, best first.
pub fn similar<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> =
        names.filter(|name| !name.starts_with("__")).map(|name| (strsim::jaro_winkler(wanted, name), name)).filter(|(score, _)| *score > 0.7).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}
