//! Which differences are not as the last checkpoint has them: what the next one gets of them.

use std::{collections::BTreeSet, sync::Arc};

use super::{Entry, LiveComparison};
use crate::{
    engine::Cut,
    ledger::save::{Stood, UNSAVED_MAX},
};

impl Entry {
    pub(super) fn stood(&self) -> Stood {
        Stood { since: self.difference.since, base: self.difference.base, reached: self.reached, state: Some(self.phase.state()) }
    }
}

impl LiveComparison {
    /// Checkpoints will be taken.
    pub fn keep(&mut self) {
        (self.keeps, self.unsaved) = (true, Some(BTreeSet::new()));
    }

    /// A difference is not as the last checkpoint has it.
    pub(super) fn differs_from_saved(&mut self, key: &Arc<[u8]>) {
        let Some(unsaved) = &mut self.unsaved else { return };
        unsaved.insert(Arc::clone(key));
        // No checkpoint is taken for long: all that stands is less by now.
        if unsaved.len() > UNSAVED_MAX.max(2 * self.entries.len()) {
            self.unsaved = None;
        }
    }

    /// What a checkpoint gets: all, if what changed is not known.
    pub fn cut(&self, cut: Cut) -> Cut {
        if self.unsaved.is_some() { cut } else { Cut::Whole }
    }

    /// What a checkpoint keeps; nothing of a key that has no difference any more.
    pub fn stood(&self, cut: Cut, mut each: impl FnMut(&[u8], Option<Stood>)) {
        match cut {
            Cut::Whole => self.entries.iter().for_each(|(key, entry)| each(key, Some(entry.stood()))),
            Cut::Changes => self.unsaved.iter().flatten().for_each(|key| each(key, self.entries.get(key).map(Entry::stood))),
        }
    }

    /// What stands is what a checkpoint has.
    pub fn is_saved(&mut self) {
        if self.keeps {
            self.unsaved = Some(BTreeSet::new());
        }
    }
}
