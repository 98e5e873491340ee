//! Places of a transaction's events, so that copies are told from events that have not been seen: mostly one stretch.

/// Numbers in stretches from one to another, both of them in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    stretches: Vec<(u64, u64)>,
    len: u64,
}

impl Places {
    /// The place of an event that has none: one that has not been seen.
    pub fn next(&self) -> u64 {
        self.stretches.last().map_or(1, |(_, to)| to + 1)
    }

    /// Adds a place; whether it is new.
    pub fn add(&mut self, place: u64) -> bool {
        let at = self.stretches.partition_point(|(from, _)| *from <= place);
        if at > 0 && self.stretches[at - 1].1 >= place {
            return false;
        }
        self.len += 1;
        let joins_before = at > 0 && self.stretches[at - 1].1 + 1 == place;
        let joins_after = self.stretches.get(at).is_some_and(|(from, _)| *from == place + 1);
        match (joins_before, joins_after) {
            (true, true) => self.stretches[at - 1].1 = self.stretches.remove(at).1,
            (true, false) => self.stretches[at - 1].1 = place,
            (false, true) => self.stretches[at].0 = place,
            (false, false) => self.stretches.insert(at, (place, place)),
        }
        true
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Places) {
        other.stretches.iter().flat_map(|(from, to)| *from..=*to).for_each(|place| _ = self.add(place));
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn stretches(&self) -> &[(u64, u64)] {
        &self.stretches
    }

    /// What [`Places::stretches`] gave.
    pub fn of(stretches: &[(u64, u64)]) -> Places {
        Places { stretches: stretches.to_vec(), len: stretches.iter().map(|(from, to)| to - from + 1).sum() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_a_set(places in prop::collection::vec(1..40u64, 0..60)) {
            let (mut set, mut of) = (BTreeSet::new(), Places::default());
            for place in places {
                prop_assert_eq!(of.add(place), set.insert(place));
                prop_assert_eq!(of.len(), set.len() as u64);
            }
            let all: Vec<u64> = of.stretches().iter().flat_map(|(from, to)| *from..=*to).collect();
            prop_assert_eq!(all, set.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(Places::of(of.stretches()), of);
        }
    }
}
