//! How far a partition is written, whether that is committed or not: a consumer that reads what is committed is told of the end of
//! that only.
//!
//! The Rust wrapper asks the leader, which answers by the consumer's isolation level. What librdkafka remembers of the last fetch
//! has both ends, so its own call is used.

use std::ffi::CString;

use rdkafka::{ClientContext, bindings as c, client::Client};

/// The position behind the last message of a partition that was known when it was fetched last; `None` before that.
pub fn high<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> Option<i64> {
    let name = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // Safety: the name and both places outlive the call, which keeps nothing.
    let error = unsafe { c::rd_kafka_get_watermark_offsets(client.native_ptr(), name.as_ptr(), partition, &raw mut low, &raw mut high) };
    (error == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}
