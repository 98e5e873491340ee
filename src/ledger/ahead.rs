//! Keys without a difference that one side has changed at source times that the other side has not reached: with changes that
//! are late they may come to differ, only until a later one comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A side may stand still for days. Of more keys than this the oldest are forgotten, and count for all keys.
const KEYS_MAX: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub struct Ahead {
    by_key: BTreeMap<Arc<[u8]>, i64>,
    by_time: BTreeSet<(i64, Arc<[u8]>)>,
    /// Any key may have changed at this time; `i64::MIN`: all are known.
    any: i64,
}

impl Default for Ahead {
    fn default() -> Self {
        Ahead { by_key: BTreeMap::new(), by_time: BTreeSet::new(), any: i64::MIN }
    }
}

impl Ahead {
    /// A key changed at this time; the empty key stands for all.
    pub fn put(&mut self, key: &[u8], time: i64) {
        let time = time.max(self.take(key));
        if key.is_empty() {
            self.any = time;
        }
        if time <= self.any {
            return;
        }
        let key: Arc<[u8]> = key.into();
        self.by_key.insert(Arc::clone(&key), time);
        self.by_time.insert((time, key));
        if self.by_key.len() > KEYS_MAX
            && let Some((time, key)) = self.by_time.pop_first()
        {
            self.by_key.remove(&key);
            self.any = time;
        }
    }

    /// Forgets a key and gives the time at which it may have changed; `i64::MIN`: it has not.
    pub fn take(&mut self, key: &[u8]) -> i64 {
        let Some((key, time)) = self.by_key.remove_entry(key) else { return self.any };
        self.by_time.remove(&(time, key));
        time
    }

    /// The other side is closed up to this time.
    pub fn pass(&mut self, closed: i64) {
        while self.by_time.first().is_some_and(|(time, _)| *time <= closed) {
            self.by_time.pop_first().map(|(_, key)| self.by_key.remove(&key));
        }
        if self.any <= closed {
            self.any = i64::MIN;
        }
    }

    /// In the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], i64)> {
        let any = (self.any > i64::MIN).then_some((&[][..], self.any));
        any.into_iter().chain(self.by_key.iter().map(|(key, time)| (&**key, *time)))
    }
}

#[test]
fn what_is_forgotten_counts_for_all_keys() {
    let mut ahead = Ahead::default();
    let key = |n: usize| (n as u32).to_be_bytes();
    (0..KEYS_MAX).for_each(|n| ahead.put(&key(n), n as i64));
    assert_eq!((ahead.take(&key(5)), ahead.take(&key(5))), (5, i64::MIN));
    (0..3).for_each(|n| ahead.put(&key(KEYS_MAX + n), 1_000_000));
    assert_eq!((ahead.take(b"another"), ahead.take(&key(0)), ahead.take(&key(7))), (1, 1, 7));
    let mut again = Ahead::default();
    ahead.iter().for_each(|(key, time)| again.put(key, time));
    assert!(ahead.iter().eq(again.iter()));
    ahead.pass(1_000_000);
    assert_eq!((ahead.iter().count(), ahead.take(b"another")), (0, i64::MIN));
}
