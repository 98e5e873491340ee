//! A comparison after a restart: what it goes on from, and what of it is to be told.

use std::{collections::BTreeMap, sync::Arc};

use super::LiveComparison;
use crate::ledger::{
    ahead::Ahead,
    difference::Difference,
    save::{Shown, Stands, Stood},
};

impl LiveComparison {
    /// Goes on from what stood, and what was ahead.
    pub fn resume(&mut self, stood: BTreeMap<Arc<[u8]>, Stood>, ahead: [Ahead; 2], shown: Shown, stands: Option<Stands>) {
        (self.stood, self.ahead, self.resumed) = (stood, ahead, shown);
        (self.restored, self.watches) = (stands, shown != Shown::Never);
    }

    /// How it stands as a whole.
    pub fn stands(&self) -> Stands {
        Stands { stale: self.stale.is_some(), moved_ms: [self.expected.status.moved_ms, self.actual.status.moved_ms], since_ms: self.since_ms }
    }

    /// The tables have given back what they had: how many differences that stood they did not.
    pub fn given_back(&mut self) -> usize {
        self.touched.clear();
        if let Some(stands) = self.restored.take() {
            [self.expected.status.moved_ms, self.actual.status.moved_ms] = stands.moved_ms;
            self.since_ms = stands.since_ms;
        }
        for (key, shown) in std::mem::take(&mut self.came_back) {
            // It may be shown as something else now: what made it stale has passed, or the grace is another one.
            let Some(is) = self.entries.get(&key).map(|entry| &entry.difference).filter(|is| is.state != shown) else { continue };
            self.touched.insert(key, Some(Arc::new(Difference { state: shown, ..Difference::clone(is) })));
        }
        if self.resumed == Shown::Otherwise {
            return 0;
        }
        let lost = std::mem::take(&mut self.stood);
        lost.keys().for_each(|key| self.differs_from_saved(key));
        lost.len()
    }
}
