//! Cutting chunks at positions.

use super::*;
use crate::engine::MessageAt;

fn lines(text: &str, offset: i64) -> Chunk {
    let bytes = text.as_bytes().to_vec();
    Chunk { source: 1, partition: 2, next: offset + bytes.len() as i64, payload: Payload::Lines { bytes, offset }, source_time: Some(7) }
}

fn messages(offsets: &[i64], next: i64) -> Chunk {
    let bytes: Vec<u8> = offsets.iter().flat_map(|offset| [*offset as u8, b'v', b'w']).collect();
    let at = |(n, offset): (usize, &i64)| MessageAt { start: n as u32 * 3, key_len: Some(1), value_len: Some(2), offset: *offset, timestamp: None };
    let index = offsets.iter().enumerate().map(at).collect();
    Chunk { source: 1, partition: 2, payload: Payload::Messages { bytes, index }, source_time: Some(7), next }
}

fn shown(chunk: &Chunk) -> (i64, i64, Vec<(i64, Vec<u8>)>) {
    let of = match &chunk.payload {
        Payload::Lines { bytes, offset } => vec![(*offset, bytes.clone())],
        Payload::Messages { bytes, index } => index.iter().map(|m| (m.offset, bytes[m.start as usize..m.start as usize + 3].to_vec())).collect(),
        Payload::Heartbeat(_) => Vec::new(),
    };
    (first(chunk), chunk.next, of)
}

#[test]
fn lines_are_cut_at_the_byte() {
    let (head, rest) = cut(lines("ab\ncde\nf\n", 100), 103);
    assert_eq!(shown(&head), (100, 103, vec![(100, b"ab\n".to_vec())]));
    assert_eq!(shown(&rest.unwrap()), (103, 109, vec![(103, b"cde\nf\n".to_vec())]));
    assert!(cut(lines("ab\n", 100), 103).1.is_none());
    assert!(cut(lines("ab\n", 100), 200).1.is_none());
}

#[test]
fn messages_are_cut_at_the_offset_whatever_is_lacking_around_it() {
    for at in [5, 6] {
        let (head, rest) = cut(messages(&[2, 4, 7, 9], 10), at);
        assert_eq!(shown(&head), (2, at, vec![(2, vec![2, b'v', b'w']), (4, vec![4, b'v', b'w'])]));
        assert_eq!(shown(&rest.unwrap()), (7, 10, vec![(7, vec![7, b'v', b'w']), (9, vec![9, b'v', b'w'])]));
    }
    let (whole, rest) = cut(messages(&[2, 4], 9), 6);
    assert_eq!((shown(&whole).2.len(), rest.is_none()), (2, true));
}
