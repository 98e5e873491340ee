//! The identity of a topic: a topic that was deleted and created again has the old name and another id; and so has one of the
//! same name in another cluster.
//!
//! The Rust wrapper has no call for it, so librdkafka's own is used here, as in `watermark`.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char},
    time::Duration,
};

use rdkafka::{ClientContext, bindings as c, client::Client};

/// The cluster's name for a topic and for itself; `None` if it gives none (old brokers), or does not answer in time.
pub fn ask<C: ClientContext>(client: &Client<C>, topic: &str, patience: Duration) -> Option<String> {
    let id = topic_id(client, topic, patience)?;
    let cluster = client.fetch_cluster_id(patience)?;
    Some(format!("{id} {cluster}"))
}

/// The cluster's part of an identity.
pub fn cluster(identity: &str) -> &str {
    identity.split_once(' ').map_or("", |(_, cluster)| cluster)
}

/// The cluster's name for a topic; `None` as for [`ask`].
pub fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, patience: Duration) -> Option<String> {
    topic_ids(client, [topic.to_string()], patience).remove(topic)
}

/// The cluster's names for topics, in one question; those for which it gives none are lacking.
pub fn topic_ids<C: ClientContext>(client: &Client<C>, topics: impl IntoIterator<Item = String>, patience: Duration) -> BTreeMap<String, String> {
    let names: Vec<CString> = topics.into_iter().filter_map(|topic| CString::new(topic).ok()).collect();
    let client = client.native_ptr();
    // Safety: every pointer made here is destroyed here, after its last use; what `result`, `topics` and `id` point to
    // belongs to `event`, and the text is copied before that goes.
    unsafe {
        let queue = c::rd_kafka_queue_new(client);
        let options = c::rd_kafka_AdminOptions_new(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let mut text = [0 as c_char; 256];
        c::rd_kafka_AdminOptions_set_request_timeout(options, patience.as_millis() as i32, text.as_mut_ptr(), text.len());
        let mut names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let wanted = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        c::rd_kafka_DescribeTopics(client, wanted, options, queue);
        let event = c::rd_kafka_queue_poll(queue, patience.as_millis() as i32);
        let ids = if event.is_null() { BTreeMap::new() } else { read(event) };
        if !event.is_null() {
            c::rd_kafka_event_destroy(event);
        }
        c::rd_kafka_TopicCollection_destroy(wanted);
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_queue_destroy(queue);
        ids
    }
}

/// Safety: `event` must be a live event.
unsafe fn read(event: *mut c::rd_kafka_event_t) -> BTreeMap<String, String> {
    // Safety: what is asked of a live event belongs to it, and lives as long; there are as many topics as it says.
    unsafe {
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return BTreeMap::new();
        }
        let mut count = 0;
        let topics = c::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        (0..count).filter_map(|at| id_of(*topics.add(at))).collect()
    }
}

/// A topic's own name, and the cluster's. Safety: it must be one of a live event.
unsafe fn id_of(topic: *const c::rd_kafka_TopicDescription_t) -> Option<(String, String)> {
    // Safety: what is asked of it belongs to the event, and is copied.
    unsafe {
        let error = c::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() && c::rd_kafka_error_code(error) != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let id = c::rd_kafka_TopicDescription_topic_id(topic);
        if id.is_null() || (c::rd_kafka_Uuid_most_significant_bits(id) == 0 && c::rd_kafka_Uuid_least_significant_bits(id) == 0) {
            return None;
        }
        let copied = |text: *const c_char| (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
        Some((copied(c::rd_kafka_TopicDescription_name(topic))?, copied(c::rd_kafka_Uuid_base64str(id))?))
    }
}
