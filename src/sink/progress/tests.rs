//! Progress records: what is written is read, and a chain that lacks something is noticed.

use super::*;

fn output(tick: Tick, positions: &[(i32, i64)], hydrated: bool) -> TickOutput {
    let source = SealedSource { positions: positions.to_vec(), caught_up: tick.is_multiple_of(2), refused: tick == 5, ..SealedSource::default() };
    TickOutput {
        tick,
        wall_ms: tick as i64 * 10,
        hydrated,
        sealed: vec![source, SealedSource { heartbeat: (tick == 3).then_some(33), start: vec![(0, 5)], ..SealedSource::default() }],
        ..TickOutput::default()
    }
}

fn record(before: Tick, ticks: &[Tick]) -> Progress {
    let mut notes = Notes::default();
    ticks.iter().for_each(|tick| notes.add(&output(*tick, &[(0, (*tick as i64 / 2) * 100)], *tick > 2)));
    let tick = notes.last().unwrap_or(before);
    Progress { tick, before, plan: "p".into(), run: "r".into(), written_by: "0".into(), ticks: notes.take(), ..Progress::default() }
}

fn begins(record: Progress) -> Progress {
    Progress { begins: true, ..record }
}

#[test]
fn what_is_written_is_read() {
    let one = begins(record(0, &[1, 2, 3]));
    let bytes = one.to_bytes();
    assert_eq!(Progress::from_bytes(&bytes).unwrap(), one);
    let text = String::from_utf8(bytes).unwrap();
    // Positions stand where they changed.
    assert_eq!(text.matches("positions").count(), 2 + 1, "{text}");
    assert!(Progress::from_bytes(b"{}").is_err());
}

#[test]
fn a_chain_gives_the_ticks_as_they_were() {
    let chain = Chain::of(&[begins(record(0, &[1, 2, 3])), record(3, &[4, 5])]).unwrap().unwrap();
    assert_eq!((chain.base, chain.last, chain.partly), (0, 5, None));
    let after = chain.after(2);
    assert_eq!(after.iter().map(|s| s.tick).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(after[0].sources[0].positions, [(0, 100)]);
    assert_eq!((after[0].wall_ms, after[0].hydrated, after[0].replay), (30, true, true));
    assert_eq!(after[0].sources[1].heartbeat, Some(33));
    assert_eq!((after[1].sources[0].positions.clone(), after[1].sources[0].caught_up), (vec![(0, 200)], true));
    assert_eq!(after.iter().map(|sealed| sealed.sources[0].refused).collect::<Vec<_>>(), [false, false, true]);
    assert!(!chain.after(0)[1].hydrated);
    assert_eq!(Chain::of(&[]), Ok(None));
}

#[test]
fn a_gap_is_noticed_and_a_beginning_is_none() {
    assert_eq!(Chain::of(&[begins(record(0, &[1, 2])), record(3, &[4])]), Err(2));
    let chain = Chain::of(&[begins(record(0, &[1, 2])), record(3, &[4]), begins(record(7, &[9, 10])), record(10, &[12])]).unwrap().unwrap();
    assert_eq!((chain.base, chain.last), (7, 12));
    // A checkpoint from before the beginning is of another past, but for the one that it went on from.
    let usable: Vec<Tick> = (0..14).filter(|tick| chain.goes_on_from(*tick)).collect();
    assert_eq!(usable, [7, 9, 10, 11, 12]);
    // The oldest records may be gone.
    let rest = Chain::of(&[record(3, &[4]), record(4, &[5])]).unwrap().unwrap();
    assert_eq!((rest.base, rest.goes_on_from(0), rest.goes_on_from(3)), (3, false, true));
}

#[test]
fn parts_of_a_tick_are_counted() {
    let mut first = begins(record(0, &[1]));
    first.more = true;
    let second = Progress { part: 1, more: true, ..record(1, &[]) };
    // A run that starts says again how far its predecessor came.
    let claim = Progress { part: 1, more: true, run: "s".into(), ..record(1, &[]) };
    let chain = Chain::of(&[first.clone(), second.clone(), claim.clone()]).unwrap().unwrap();
    // From a version that did not say how many records that were.
    assert_eq!((chain.last, chain.partly, chain.after(0).len()), (1, Some(Partly { parts: 2, records: 20_000 }), 1));
    let (second, claim) = (Progress { done: 700, ..second }, Progress { done: 700, ..claim });
    assert_eq!(Chain::of(&[first.clone(), second.clone(), claim.clone()]).unwrap().unwrap().partly, Some(Partly { parts: 2, records: 700 }));
    let last = Progress { part: 2, ..record(1, &[]) };
    assert_eq!(Chain::of(&[first, second, claim, last]).unwrap().unwrap().partly, None);
}

#[test]
fn it_knows_where_reading_began() {
    let chain = Chain::of(&[begins(record(0, &[1]))]).unwrap().unwrap();
    assert_eq!(chain.starts(2), [(vec![], None), (vec![(0, 5)], None)]);
}
