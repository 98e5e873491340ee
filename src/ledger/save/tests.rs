//! What a checkpoint keeps of differences: whole, in parts, and of an older version.

use super::{
    super::{
        SharedLedger, State,
        fixture::{Bench, key, plan},
        tests::say_all,
    },
    *,
};

/// A ledger that goes on from what was saved, of which the tables give back what these words say.
fn restored(plan: crate::plan::Plan, save: &LedgerSave, given_back: &str) -> Bench {
    let mut bench = Bench::new();
    bench.ledger = SharedLedger::new(Ledger::resume(Arc::new(plan), save, (&[], &[])).unwrap());
    bench.sealed = Sealed { hydrated: false, restored: true, ..bench.sealed };
    say_all(&mut bench, given_back);
    bench.close(save.tick);
    bench.sealed = Sealed { hydrated: true, restored: false, ..bench.sealed };
    bench
}

/// Of what stands, a cut says what came, what went, what is confirmed by now, and which keys are ahead; and nothing else.
#[test]
fn a_cut_says_what_changed_since_the_cut_before() {
    let mut bench = Bench::new();
    let mut ledger = Ledger::new(Arc::new(plan()));
    ledger.keep();
    bench.ledger = SharedLedger::new(ledger);
    let mut parts = Vec::new();
    let ticks = [
        ("crm@100 erp@90 1:A/-@100/ 2:A/-@100/ 3:-/A@/205", 3),
        ("", 0),
        ("1:=@101/ 4:A/-@102/", 1),
        ("crm@150 erp@150", 2),
        ("4:=@150/ 4:A/-@151/ 3:=@/206", 1),
        ("crm@300 erp@300 5:A/-@290/ 5:=@291/", 1),
    ];
    for (tick, (said, changed)) in ticks.into_iter().enumerate() {
        say_all(&mut bench, said);
        bench.sealed.cut = Some(if tick == 0 { Cut::Whole } else { Cut::Changes });
        let own = bench.close(tick as Tick + 1).save.expect("it is a cut").differences.remove(0).remove(0);
        let standing = unpack(std::slice::from_ref(&own)).expect("it was packed").0.len();
        assert_eq!(standing, changed, "{said}");
        parts.push(own);
        let whole = bench.ledger.read().save(Cut::Whole).differences.remove(0).remove(0);
        assert_eq!(Packed::whole(&parts), Some(whole), "{said}");
    }
}

#[test]
fn a_checkpoint_keeps_how_far_keys_are_ahead() {
    let mut bench = Bench::new();
    say_all(&mut bench, "crm@100 erp@210 1:A/-@100/ 2:A/-@100/ 3:-/A@/205");
    bench.close(1);
    say_all(&mut bench, "1:A/B@/210 3:=@/206");
    bench.sealed.cut = Some(Cut::Whole);
    let save = bench.close(2).save.expect("it is a cut");
    // What a version wrote that knew nothing of this: a key of two bytes, a tick, two times, and whether it had passed.
    let old: Vec<u8> = {
        let base = 100_000i64.to_le_bytes();
        [1, 2].iter().flat_map(|id| [&[2][..], &key(*id), &[1], &base, &base, &[1]].concat()).collect()
    };
    let old = vec![vec![Packed { cut: Cut::Whole, bytes: old }]];
    for (differences, ahead) in [(save.differences.clone(), true), (old, false)] {
        let mut again = restored(plan(), &LedgerSave { differences, ..save.clone() }, "1:A/B@/ 2:A/-@/");
        say_all(&mut again, "crm@150 3:A/-@150/");
        again.close(3);
        let state = |bench: &Bench| bench.ledger.read().differences(0, None).map(|d| d.state).collect::<Vec<_>>();
        let late = if ahead { State::Undetermined } else { State::Confirmed };
        assert_eq!(state(&again), [late, State::Confirmed, late]);
        say_all(&mut again, "crm@206");
        again.close(4);
        assert_eq!(state(&again), [late, State::Confirmed, State::Confirmed]);
        say_all(&mut again, "crm@210");
        again.close(5);
        assert_eq!(state(&again), [State::Confirmed; 3]);
    }
}

/// What is shown first after a restart follows from what was shown before it, also where what differs is the same: what was stale
/// is not any more, or the grace is another one.
#[test]
fn a_state_that_is_another_one_after_a_restart_is_told() {
    let with_grace = |seconds: u64| {
        let mut plan = plan();
        plan.comparisons[0].grace = std::time::Duration::from_secs(seconds);
        plan
    };
    for (said, shown, grace, after, told) in [
        ("crm@100 erp@150 1:A/-@100/", State::Confirmed, 30, "", None),
        ("crm@100 erp@150 1:A/-@100/ erp.trouble", State::Undetermined, 30, "", Some(State::Confirmed)),
        ("crm@100 erp@150 1:A/-@100/ erp.trouble", State::Undetermined, 30, "erp.trouble", None),
        ("crm@100 erp@110 1:A/-@100/ erp.trouble", State::Undetermined, 30, "", Some(State::InFlight)),
        ("crm@100 erp@110 1:A/-@100/", State::InFlight, 30, "", None),
        ("crm@100 erp@110 1:A/-@100/", State::InFlight, 5, "", Some(State::Confirmed)),
        ("crm@100 erp@150 1:A/-@100/", State::Confirmed, 90, "", Some(State::InFlight)),
    ] {
        let mut bench = Bench::new();
        say_all(&mut bench, said);
        bench.sealed.cut = Some(Cut::Whole);
        let save = bench.close(1).save.expect("it is a cut");
        assert_eq!(bench.ledger.read().differences(0, None).map(|d| d.state).collect::<Vec<_>>(), [shown], "{said}");
        let mut again = restored(with_grace(grace), &save, "1:A/-@/");
        say_all(&mut again, after);
        let output = again.close(2);
        let changes: Vec<_> = output.changes.of(0).iter().map(|change| [&change.before, &change.after].map(|d| d.as_ref().map(|d| d.state))).collect();
        let expected: Vec<_> = told.map(|told| [Some(shown), Some(told)]).into_iter().collect();
        assert_eq!(changes, expected, "{said}, then {after:?} with {grace} s");
    }
}

/// A run that begins asks first whether a side stood still while nobody was there, and one that did before does so until it moves.
/// That it begins is said in its first tick: so one that is made again says what it said, whoever makes it.
#[test]
fn a_side_stands_still_over_a_restart_and_ticks_that_are_made_again_say_the_same() {
    let mut bench = Bench::new();
    say_all(&mut bench, "wall=0 crm@100 erp@150");
    bench.close(1);
    say_all(&mut bench, "wall=50 crm@160");
    bench.sealed.cut = Some(Cut::Whole);
    let save = bench.close(2).save.expect("it is a cut");
    let ticks = [
        ("wall=59 crm@161", false, false),
        ("wall=61 crm@162", false, true),
        ("wall=62 erp@151", false, false),
        ("wall=300 crm@163", true, false),
        ("wall=359 crm@164", false, false),
        ("wall=361 crm@165", false, true),
        ("wall=400 crm@166", true, true),
        ("wall=401 erp@152", false, false),
    ];
    // Made again up to one of them, and live from there on.
    for made_again in 0..=ticks.len() {
        let mut again = restored(plan(), &save, "wall=50");
        for (n, (said, first, stale)) in ticks.into_iter().enumerate() {
            again.sealed = Sealed { replay: n < made_again, first, ..again.sealed };
            say_all(&mut again, said);
            again.close(3 + n as Tick);
            assert_eq!(again.ledger.read().status(0).state.cause().is_some(), stale, "{said}, with {made_again} made again");
        }
    }
}
