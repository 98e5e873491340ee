//! Connectors that lag, catch up, pause and come back, against what they had really delivered.

use proptest::prelude::*;

use super::*;
use crate::ledger::fixture;

/// What a connector sends, in seconds: `H/S` an event handled at H and committed at S, `T=N` a heartbeat at T that counts for
/// N (`-`: not at all).
#[track_caller]
fn check(script: &str) {
    let (mut pace, mut heard) = (Pace::default(), None);
    let ms = |text: &str| (text.parse::<f64>().unwrap() * 1000.0).round() as i64;
    for word in script.split_whitespace() {
        if let Some((at, committed)) = word.split_once('/') {
            pace.event(Handled { at: ms(at), committed: ms(committed) });
            heard = heard.max(Some(ms(at)));
        } else {
            let (at, counts) = word.split_once('=').unwrap();
            pace.beat(ms(at), heard.map_or(0, |heard| ms(at) - heard));
            heard = heard.max(Some(ms(at)));
            let expected = (counts != "-").then(|| ms(counts));
            assert_eq!(pace.counts(ms(at)), expected, "{word} in {script}: {pace:?}");
        }
    }
}

#[test]
fn a_heartbeat_counts_for_as_much_less_as_the_newest_event_was_late() {
    check("10=10 20=20");
    check("0=0 9=9 10/10 20=20 30=30");
    // Its clock is behind the database's.
    check("0=0 9=9 10/12 20=20");
    // It lags by 40 s, and what it sends says so.
    check("100/60 100=60 101/60.5 101=60.5 101.2=60.75");
    // An event that was handled after the heartbeat tells more than that.
    check("100/60 99=-");
}

#[test]
fn who_sends_nothing_catches_up_by_a_second_in_four() {
    check("80=80 90=90 100/100 200/160 204=165 240=210 300=285 360=360 400=400");
    // No further than the way from the database to here, and its clock, allow.
    check("80=80 90=90 100/99 200/160 210=172.5 240=210 300=285 400=399");
}

#[test]
fn who_was_away_is_as_late_as_it_was_away() {
    // Heartbeats every ten seconds, and one after ten minutes.
    check("0=0 9=9 10/10 20=20 30=30 40=40 640=40 650=52.5 660/100 660=100 670=112.5");
    // Before it stopped it had sent an event.
    check("0=0 9=9 10/10 20=20 30=30 35/34 640=34");
    // As long as events come it is there.
    check("0=0 9=9 10/10 20=20 30=30 60/60 90/90 100=100");
    // Nothing is known of its events: but that it was away.
    check("20=20 30=30 640=30 660=55 680=80");
    // It went away before its heartbeats had begun, or when there had been one: nothing tells how usual that is.
    check("10/10 41=10 42=11.25 43=12.5");
    check("10/10 10.5=10.5 41=10.5 42=11.75");
}

#[test]
fn rarer_heartbeats_become_the_usual_ones() {
    let mut pace = Pace::default();
    let mut late = Vec::new();
    for beat in [1, 2].into_iter().chain((1..40).map(|n| 2 + 60 * n)) {
        pace.beat(beat * 1000, 0);
        late.push(beat - pace.counts(beat * 1000).unwrap() / 1000);
    }
    assert_eq!(late.last(), Some(&0), "{late:?}");
}

/// Sources of two connectors and of an application, all of one Kafka cluster.
fn cluster() -> (Plan, Connectors) {
    let mut plan = fixture::plan();
    let source = plan.sources[0].clone();
    plan.connections[0].kind = ConnectionKind::Kafka { brokers: String::new(), properties: crate::plan::Properties::default(), registry: None };
    let topic = |topic: &str, format, heartbeat| Source {
        name: topic.into(),
        connection: 0,
        format,
        log: LogSpec::Topic { topic: topic.into(), start: crate::plan::Start::Beginning, heartbeat },
        ..source.clone()
    };
    plan.sources = vec![
        topic("crm.public.a", Format::DebeziumJson, Heartbeat::Auto),
        topic("crm.public.b", Format::DebeziumAvro, Heartbeat::None),
        topic("erp.public.a", Format::DebeziumJson, Heartbeat::Auto),
        topic("orders", Format::DebeziumJson, Heartbeat::Topic("__debezium-heartbeat.erp".into())),
        topic("bare", Format::DebeziumJson, Heartbeat::Auto),
        topic("written", Format::UpsertJson, Heartbeat::Auto),
    ];
    let connectors = Connectors::new(&plan);
    (plan, connectors)
}

#[test]
fn what_another_connector_shows_counts_as_a_heartbeat_would() {
    let (plan, mut connectors) = cluster();
    let mut sources = vec![SourceState { caught_up: true, ..SourceState::default() }; plan.sources.len()];
    let sealed = vec![SealedSource::default(); sources.len()];
    let mut known = |times: &[(usize, i64)], wall| {
        times.iter().for_each(|(source, time)| sources[*source].time = Some(*time));
        connectors.advance(&mut sources, &sealed, wall);
        sources.iter().map(|source| source.known_to.unwrap_or(0)).collect::<Vec<_>>()
    };
    // Of one of which no event has come nothing is known; who leaves heartbeats out, or names them, takes nothing from others.
    assert_eq!(known(&[(0, 100)], 1000), [100, 100, 0, 0, 100, 100]);
    assert_eq!(known(&[(3, 170)], 2000), [170, 100, 170, 170, 170, 170]);

    // One whose newest event was a minute late is a minute late.
    let (plan, mut connectors) = unnamed();
    let mut sources = vec![SourceState { caught_up: true, ..SourceState::default() }; plan.sources.len()];
    let mut seen = vec![(None, None); sources.len()];
    seen[2].0 = Some(Handled { at: 100_000, committed: 40_000 });
    connectors.beat(&mut sources, &seen, 1000, 0);
    sources[2].time = Some(40_000);
    sources[0].time = Some(108_000);
    connectors.advance(&mut sources, &sealed, 1000);
    assert_eq!(sources.iter().map(|source| source.known_to.unwrap_or(0)).collect::<Vec<_>>(), [108_000, 108_000, 50_000, 0, 108_000, 108_000]);
}

/// The same, and nobody names heartbeats.
fn unnamed() -> (Plan, Connectors) {
    let (mut plan, _) = cluster();
    let LogSpec::Topic { heartbeat, .. } = &mut plan.sources[3].log else { panic!("a topic") };
    *heartbeat = Heartbeat::None;
    let connectors = Connectors::new(&plan);
    (plan, connectors)
}

/// A log that is followed, and was just asked.
fn asked(sources: usize, wall_ms: i64) -> Vec<SealedSource> {
    vec![SealedSource { asked_ms: Some(wall_ms), ..SealedSource::default() }; sources]
}

#[test]
fn who_may_be_down_takes_nothing_from_others() {
    let (plan, mut connectors) = unnamed();
    let mut sources = vec![SourceState { caught_up: true, ..SourceState::default() }; plan.sources.len()];
    // Both connectors are there, then the second one says nothing any more. Times are seconds.
    let mut known = |at: i64, says: &[usize]| {
        let wall = at * 1000;
        let mut seen = vec![(None, None); sources.len()];
        for source in says {
            seen[*source].0 = Some(Handled { at: wall, committed: wall });
            sources[*source].time = Some(wall);
        }
        connectors.beat(&mut sources, &seen, wall, 100);
        let sealed = asked(sources.len(), wall + 1);
        connectors.advance(&mut sources, &sealed, wall);
        (sources[0].known_to.unwrap_or(0) / 1000, sources[2].known_to.unwrap_or(0) / 1000)
    };
    assert_eq!(known(1000, &[0, 2]), (1000, 1000));
    assert_eq!(known(1010, &[0]), (1010, 1000));
    assert_eq!(known(1059, &[0]), (1059, 1000), "it may be down");
    assert_eq!(known(1060, &[0]), (1060, 1060), "it has nothing to say");
    assert_eq!(known(1061, &[0, 2]), (1061, 1061));
    assert_eq!(known(1120, &[0]), (1120, 1061));
}

#[test]
fn where_heartbeats_are_named_silence_is_never_idleness() {
    let (plan, mut connectors) = cluster();
    let mut sources = vec![SourceState { caught_up: true, ..SourceState::default() }; plan.sources.len()];
    for at in [1_000_000, 9_000_000] {
        let mut seen = vec![(None, None); sources.len()];
        seen[0].0 = Some(Handled { at, committed: at });
        sources[0].time = Some(at);
        connectors.beat(&mut sources, &seen, at, 100);
        connectors.advance(&mut sources, &asked(plan.sources.len(), at + 1), at);
    }
    assert_eq!(sources.iter().map(|source| source.known_to.unwrap_or(0)).collect::<Vec<_>>()[..3], [9_000_000, 9_000_000, 0]);
}

#[test]
fn what_a_connector_was_late_counts_for_all_its_sources() {
    let (plan, mut connectors) = cluster();
    let mut sources = vec![SourceState::default(); plan.sources.len()];
    let mut seen = vec![(None, None); sources.len()];
    seen[0].0 = Some(Handled { at: 100_000, committed: 60_000 });
    for beat in [92_000, 96_000] {
        let beats = vec![(None, Some(beat)); seen.len()];
        connectors.beat(&mut sources.clone(), &beats, 1000, 0);
    }
    connectors.beat(&mut sources, &seen, 1000, 0);
    seen[0].0 = None;
    (0..4).for_each(|source| seen[source].1 = Some(104_000));
    connectors.beat(&mut sources, &seen, 1000, 0);
    let times: Vec<_> = sources.iter().map(|source| source.time.unwrap_or(0)).collect();
    assert_eq!(times, [65_000, 65_000, 104_000, 104_000, 0, 0]);
    // It is known after a restart, too.
    let (times, paces) = connectors.save();
    let paces: Paces = serde_json::from_str(&serde_json::to_string(&paces).unwrap()).unwrap();
    let mut after = Connectors::new(&plan);
    after.resume(&times, &paces);
    let mut sources = vec![SourceState::default(); plan.sources.len()];
    (0..4).for_each(|source| seen[source].1 = Some(108_000));
    after.beat(&mut sources, &seen, 1000, 0);
    assert_eq!(sources[1].time, Some(70_000));
}

#[test]
fn while_nobody_was_there_nobody_was_away() {
    let (plan, mut connectors) = cluster();
    let mut sources = vec![SourceState::default(); plan.sources.len()];
    let mut at = |beat: i64, since_ms| {
        let mut seen = vec![(None, None); sources.len()];
        seen[0].1 = Some(beat);
        connectors.beat(&mut sources, &seen, 1000, since_ms);
        sources[0].time.unwrap()
    };
    assert_eq!([at(10_000, 100), at(20_000, 100)], [10_000, 20_000]);
    assert_eq!(at(620_000, 600_000), 620_000, "tieout itself was not there");
    assert_eq!([at(630_000, 100), at(1_230_000, 100)], [630_000, 630_000]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// A connector reads the log at whatever speed while it sends events, at 1.25 times the speed of the log at least while it
    /// sends none, and goes away for a minute and more. No heartbeat counts for more than it has delivered.
    #[test]
    fn no_heartbeat_counts_for_what_has_not_come(
        stretches in prop::collection::vec((60_000..200_000i64, 50..4000i64, 0..3u8), 1..20),
        every in 100..2000i64,
    ) {
        let (mut pace, mut clock, mut read, mut beats, mut heard) = (Pace::default(), 1_000_000i64, 1_000_000i64, 1_000_000i64, 1_000_000i64);
        // One event at the least is heard before it goes away.
        for (lasts, speed, does) in [(50, 1000, 0)].into_iter().chain(stretches) {
            let until = clock + lasts;
            while clock < until {
                clock += 50;
                let speed = match does {
                    0 => speed,
                    1 => speed.max(1280),
                    _ => continue,
                };
                let new = (read + speed * 50 / 1000).min(clock);
                if does == 0 && new > read {
                    pace.event(Handled { at: clock, committed: new });
                    heard = clock;
                }
                read = new;
                if clock - beats >= every {
                    pace.beat(clock, clock - heard);
                    (beats, heard) = (clock, clock);
                    let counts = pace.counts(clock).unwrap();
                    prop_assert!(counts <= read + 3, "{} is said, {} was read at {}", counts, read, clock);
                }
            }
        }
    }

    /// Once a connector has caught up its heartbeats count in full, four times later than it was late, and its first two heartbeats
    /// apart, at the latest.
    #[test]
    fn who_has_caught_up_is_believed(late in 0..10_000_000i64, least in 0..1000i64, every in 100..10_000i64) {
        let mut pace = Pace::default();
        pace.event(Handled { at: 0, committed: -least });
        pace.event(Handled { at: late, committed: -least });
        let until = late + 4 * (late + 2 * every) + 3 * every;
        let mut beat = late;
        while beat < until {
            beat += every;
            pace.beat(beat, every);
        }
        prop_assert_eq!(pace.counts(beat), Some(beat - least));
    }
}
