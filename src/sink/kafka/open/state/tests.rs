//! Records of the coordinator's log, as a broker of Kafka 4.3 wrote them, and what is made of broken ones.

use super::*;

fn compact(text: &str, to: &mut Vec<u8>) {
    to.push(text.len() as u8 + 1);
    to.extend_from_slice(text.as_bytes());
}

fn head(version: i16, state: u8) -> Vec<u8> {
    let mut value = version.to_be_bytes().to_vec();
    value.extend_from_slice(&7_i64.to_be_bytes());
    value.extend_from_slice(&3_i16.to_be_bytes());
    value.extend_from_slice(&60_000_i32.to_be_bytes());
    value.push(state);
    value
}

fn flexible() -> Vec<u8> {
    let mut value = head(1, 1);
    value.push(3);
    for (topic, partitions) in [("out.a", &[0, 2][..]), ("tieout-progress-x", &[0])] {
        compact(topic, &mut value);
        value.push(partitions.len() as u8 + 1);
        partitions.iter().for_each(|p: &i32| value.extend_from_slice(&p.to_be_bytes()));
        value.push(0);
    }
    value.extend_from_slice(&2_000_i64.to_be_bytes());
    value.extend_from_slice(&1_000_i64.to_be_bytes());
    // One tagged field: the version of the client's protocol.
    value.extend_from_slice(&[1, 2, 2, 0, 2]);
    value
}

#[test]
fn both_forms_are_read() {
    let known = Known::from_bytes(&flexible()).unwrap();
    assert_eq!(known.partitions, [("out.a".to_string(), vec![0, 2]), ("tieout-progress-x".to_string(), vec![0])]);
    assert_eq!((known.state, known.producer, known.epoch, known.timeout_ms), (State::Ongoing, 7, 3, 60_000));
    assert_eq!((known.updated_ms, known.began_ms), (2_000, Some(1_000)));
    let mut old = head(0, 4);
    old.extend_from_slice(&(-1_i32).to_be_bytes());
    old.extend_from_slice(&2_000_i64.to_be_bytes());
    old.extend_from_slice(&(-1_i64).to_be_bytes());
    let known = Known::from_bytes(&old).unwrap();
    assert_eq!((known.state, known.partitions.len(), known.began_ms), (State::CompleteCommit, 0, None));
    assert!(!known.state.open());
}

#[test]
fn broken_ones_are_none_and_no_panic() {
    let whole = flexible();
    // What follows the times may be left off.
    for length in 0..whole.len() - 5 {
        assert_eq!(Known::from_bytes(&whole[..length]), None, "{length}");
    }
    assert_eq!(Known::from_bytes(&head(2, 1)), None);
    let mut endless = head(1, 1);
    endless.extend_from_slice(&[0xff; 9]);
    assert_eq!(Known::from_bytes(&endless), None);
}

#[test]
fn an_id_lies_where_java_puts_it() {
    assert_eq!(id(b"\0\0\0\x03abc"), Some(&b"abc"[..]));
    assert_eq!(id(b"\0\x01\0\x03abc"), None);
    assert_eq!(partition("abc", 50), 96_354 % 50);
    // A negative hash, and the one that has no positive counterpart.
    assert_eq!(partition("tieout-orders", 7), 4);
    assert_eq!(partition("polygenelubricants", 50), 0);
}
