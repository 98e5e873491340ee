//! One tick out of what each process says of it: where several run one plan, each knows its own share of every log.

use crate::{
    engine::{Part, Sealed, SealedSource},
    log::LogError,
    plan::SourceId,
};

/// Two processes read topics of one name that are not the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    pub source: SourceId,
    pub processes: [usize; 2],
    /// What tells the topics apart.
    pub ids: [String; 2],
}

impl Torn {
    /// The stop that follows.
    pub fn error(&self) -> LogError {
        let ([a, b], [is, there]) = (self.processes, &self.ids);
        LogError {
            code: "TOPIC_DIFFERS",
            message: format!("process {b} reads another topic of the same name than process {a} (ids {there} and {is})"),
            remedy: "name brokers of the same Kafka cluster in the configurations of all processes".into(),
            retry: false,
        }
    }
}

/// What has been said so far that later ticks need.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// By source and process, the newest heartbeat that it has let through.
    beats: Vec<Vec<Option<i64>>>,
    /// By source, the newest that all had let through.
    told: Vec<Option<i64>>,
}

impl Whole {
    /// Adds what other processes say to what the one that leads does. Of a tick that is made again the list knows the positions.
    ///
    /// # Errors
    /// They read topics that are not the same ones, and it is no whole.
    pub fn merge(&mut self, sealed: &mut Sealed, parts: Vec<Part>) -> Result<(), Torn> {
        for source in 0..sealed.sources.len() {
            let of_parts = parts.iter().filter_map(|part| Some((part.process, part.sources.get(source)?)));
            let all = std::iter::once((0, &sealed.sources[source])).chain(of_parts);
            let mut known = all.filter_map(|(process, of)| Some((process, of.identity.as_ref()?)));
            let Some((first, is)) = known.next() else { continue };
            if let Some((other, there)) = known.find(|(_, there)| *there != is) {
                return Err(Torn { source, processes: [first, other], ids: [is.clone(), there.clone()] });
            }
        }
        let processes = parts.len() + 1;
        self.beats.resize_with(sealed.sources.len(), Vec::new);
        self.told.resize(sealed.sources.len(), None);
        for (id, of) in sealed.sources.iter_mut().enumerate() {
            self.beats[id].resize(processes, None);
            let told = &mut self.told[id];
            if sealed.replay {
                *told = (*told).max(of.heartbeat);
                parts.iter().filter_map(|part| part.sources.get(id)).for_each(|part| learn(of, part));
                continue;
            }
            let mut reads = vec![!of.positions.is_empty(); processes];
            self.beats[id][0] = self.beats[id][0].max(of.heartbeat);
            for (at, part) in parts.iter().enumerate() {
                let Some(part) = part.sources.get(id) else { continue };
                reads[at + 1] = !part.positions.is_empty();
                self.beats[id][at + 1] = self.beats[id][at + 1].max(part.heartbeat);
                add(of, part);
            }
            of.positions.sort_unstable();
            // A heartbeat is of all partitions; who has not let one through yet may still read something before it.
            let newest = self.beats[id].iter().zip(&reads).filter(|(_, reads)| **reads).map(|(beat, _)| *beat).min().flatten();
            of.heartbeat = newest.filter(|newest| told.is_none_or(|told| *newest > told));
            *told = (*told).max(newest);
        }
        for part in parts {
            sealed.incomplete.extend(part.incomplete);
            sealed.marked.extend(part.marked);
        }
        Ok(())
    }
}

/// Adds one process's share of a source to those of others.
fn add(of: &mut SealedSource, part: &SealedSource) {
    of.positions.extend_from_slice(&part.positions);
    of.start.extend_from_slice(&part.start);
    of.caught_up &= part.caught_up;
    of.asked_ms = of.asked_ms.into_iter().chain(part.asked_ms).min();
    if of.trouble.is_none() {
        of.trouble.clone_from(&part.trouble);
    }
    of.refused |= part.refused;
    of.behind_bytes += part.behind_bytes;
    of.replaying = match (of.replaying, part.replaying) {
        (Some(mut a), Some(b)) => {
            a.since_ms = a.since_ms.min(b.since_ms);
            a.records += b.records;
            a.bytes += b.bytes;
            Some(a)
        }
        (a, b) => a.or(b),
    };
    learn(of, part);
}

/// Takes over what another process knows of a log beside positions.
fn learn(of: &mut SealedSource, part: &SealedSource) {
    of.upstream.extend(part.upstream.iter().cloned());
    if of.identity.is_none() {
        of.identity.clone_from(&part.identity);
    }
    // Each learns from its own partitions; who has seen more changes knows better.
    let seen = |source: &SealedSource| source.schema.as_ref().map(|schema| (schema.refused, schema.accepted + schema.refused_ever, schema.known.len()));
    if seen(part) > seen(of) {
        of.schema.clone_from(&part.schema);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(positions: &[(i32, i64)], heartbeat: Option<i64>) -> SealedSource {
        SealedSource { positions: positions.to_vec(), heartbeat, caught_up: true, ..SealedSource::default() }
    }

    fn merged(whole: &mut Whole, own: SealedSource, others: Vec<SealedSource>) -> SealedSource {
        let mut sealed = Sealed { tick: 5, sources: vec![own], ..Sealed::default() };
        let part = |(at, source): (usize, SealedSource)| Part { process: at + 1, tick: 5, sources: vec![source], ..Part::default() };
        whole.merge(&mut sealed, others.into_iter().enumerate().map(part).collect()).expect("they are of one topic");
        sealed.sources.remove(0)
    }

    #[test]
    fn positions_of_all_and_what_any_lacks() {
        let lacks = SealedSource { caught_up: false, asked_ms: Some(7), trouble: Some("away".into()), behind_bytes: 3, ..source(&[(1, 10)], None) };
        let got = merged(&mut Whole::default(), SealedSource { asked_ms: Some(9), behind_bytes: 2, ..source(&[(2, 30), (0, 20)], None) }, vec![lacks]);
        assert_eq!(got.positions, [(0, 20), (1, 10), (2, 30)]);
        assert_eq!((got.caught_up, got.asked_ms, got.trouble.as_deref(), got.behind_bytes), (false, Some(7), Some("away"), 5));
    }

    #[test]
    fn a_heartbeat_counts_once_every_reader_has_let_it_through() {
        let mut whole = Whole::default();
        let mut beat = |own: Option<i64>, other: Option<i64>, third: Option<i64>| {
            // The third one reads no partition.
            merged(&mut whole, source(&[(0, 1)], own), vec![source(&[(1, 1)], other), source(&[], third)]).heartbeat
        };
        assert_eq!(beat(Some(100), None, Some(500)), None);
        assert_eq!(beat(None, Some(90), None), Some(90));
        assert_eq!(beat(None, None, None), None);
        assert_eq!(beat(None, Some(120), None), Some(100));
        assert_eq!(beat(Some(130), None, None), Some(120));
    }

    #[test]
    fn what_is_read_of_two_topics_of_one_name_is_no_whole() {
        let of = |identity: Option<&str>| SealedSource { identity: identity.map(String::from), ..source(&[(0, 1)], None) };
        for (all, torn) in [
            ([Some("a"); 3], None),
            ([Some("a"), None, None], None),
            ([None, Some("b"), None], None),
            ([Some("a"), Some("b"), None], Some([0, 1])),
            ([None, Some("a"), Some("b")], Some([1, 2])),
        ] {
            let mut sealed = Sealed { tick: 5, sources: vec![of(all[0])], ..Sealed::default() };
            let parts = (1..3).map(|process| Part { process, tick: 5, sources: vec![of(all[process])], ..Part::default() }).collect();
            assert_eq!(Whole::default().merge(&mut sealed, parts).err().map(|torn| torn.processes), torn, "{all:?}");
        }
    }

    #[test]
    fn a_tick_that_is_made_again_is_as_its_list_says() {
        let mut whole = Whole::default();
        let mut sealed = Sealed { replay: true, sources: vec![source(&[(0, 4), (1, 6)], Some(50))], ..Sealed::default() };
        whole.merge(&mut sealed, vec![Part { sources: vec![source(&[(1, 6)], Some(40))], ..Part::default() }]).expect("they are of one topic");
        assert_eq!((sealed.sources[0].positions.len(), sealed.sources[0].heartbeat), (2, Some(50)));
        assert_eq!(merged(&mut whole, source(&[(0, 4)], Some(45)), vec![source(&[(1, 6)], Some(48))]).heartbeat, None);
    }
}
