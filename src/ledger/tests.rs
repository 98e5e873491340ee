//! The ledger as a script: ticks go in, states and counts are expected.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    fixture::{Bench, CRM, ERP, plan, row},
    run::Collector,
    *,
};
use crate::{
    engine::{Counts, Part, Side, Sides, SourceReport},
    row::source_time_text,
};

/// Plays a script and compares what the comparison shows after each tick.
///
/// Each line is `TICK words => shown`. Words: `crm@T`, `erp@T` a record with that source time (seconds); `crm.end` read to
/// its end, `crm.more` not so; `erp.trouble`, `erp.fine`; `wall=S` the wall clock; `hydrating`, `hydrated`; `ended` all logs;
/// `KEY:E/A@e` a key's sides and which changed at what time (`@5/` expected at 5 s, `@/5` actual, `@4/5` both, `@/` no time
/// known), where a side is `-` absent, `X` a row with that status, `X5` with amount 5, `X?` with unknown amount, `!` a
/// reject, `X+Y` two rows; `KEY:=` they agree. Shown: the comparison's state, then `KEY kind state base` by key.
#[track_caller]
fn check(script: &str) {
    let mut bench = Bench::new();
    bench.sealed.hydrated = true;
    let (mut now, mut want) = (String::new(), String::new());
    // What a reader of changes knows must always be what stands.
    let mut followed: BTreeMap<Arc<[u8]>, Arc<Difference>> = BTreeMap::new();
    for line in script.trim().lines() {
        let (input, shown) = line.trim().split_once("=>").expect("every line has `=>`");
        let mut words = input.split_whitespace();
        let tick = words.next().unwrap().parse().unwrap();
        words.for_each(|word| say(&mut bench, word));
        let output = bench.close(tick);
        for change in output.changes.of(0) {
            assert_eq!(followed.get(change.key()), change.before.as_ref(), "before of {change:?}");
            assert_ne!(change.before, change.after);
            match &change.after {
                Some(after) => followed.insert(after.key.clone(), after.clone()),
                None => followed.remove(change.key()),
            };
        }
        let ledger = bench.ledger.read();
        assert!(ledger.differences(0, None).eq(followed.values()), "tick {tick}: changes add up to what stands");
        let mut counts = BTreeMap::new();
        ledger.differences(0, None).for_each(|d| *counts.entry((d.kind, d.state)).or_default() += 1);
        for (kind, state) in Kind::ALL.into_iter().flat_map(|k| State::ALL.map(|s| (k, s))) {
            assert_eq!(ledger.status(0).counts.of(kind, state), counts.get(&(kind, state)).copied().unwrap_or(0u64));
        }
        let mut line = format!("{tick} {}", ledger.status(0).state.name());
        for d in ledger.differences(0, None) {
            let key = show::key_text(&plan(), &plan().comparisons[0], &d.key);
            let _ = write!(line, "; {key} {} {} {}", d.kind, d.state, d.base as f64 / 1000.0);
        }
        let _ = writeln!(now, "{line}");
        let _ = writeln!(want, "{tick} {}", shown.trim());
    }
    assert_eq!(now, want);
}

pub(super) fn say_all(bench: &mut Bench, words: &str) {
    words.split_whitespace().for_each(|word| say(bench, word));
}

fn say(bench: &mut Bench, word: &str) {
    let source = |name: &str| if name == "crm" { CRM } else { ERP };
    let ms = |text: &str| (text.parse::<f64>().unwrap() * 1000.0) as i64;
    if let Some((key, rest)) = word.split_once(':') {
        let (sides, times) = rest.split_once('@').unwrap_or((rest, "/"));
        let (expected, actual) = times.split_once('/').unwrap();
        let time = |t: &str| (!t.is_empty()).then(|| ms(t));
        let now = sides.split_once('/').map(|(e, a)| (side(e), side(a)));
        bench.change(key.parse().unwrap(), now, time(expected), time(actual));
    } else if let Some((name, time)) = word.split_once('@') {
        bench.read(source(name), ms(time));
    } else if let Some(seconds) = word.strip_prefix("wall=") {
        bench.sealed.wall_ms = ms(seconds);
    } else if let Some((name, what)) = word.split_once('.') {
        let sealed = &mut bench.sealed.sources[source(name)];
        match what {
            "end" => sealed.caught_up = true,
            "more" => sealed.caught_up = false,
            "trouble" => sealed.trouble = Some("the file is gone".into()),
            _ => sealed.trouble = None,
        }
    } else if word == "ended" {
        bench.sealed.ended = true;
    } else {
        bench.sealed.hydrated = word == "hydrated";
    }
}

fn side(text: &str) -> Side {
    let one = |text: &str| {
        let amount = text[1..].parse::<i64>().map_or_else(|_| (text.len() == 1).then_some(1), |n| Some(n * 100));
        row(&text[..1], amount)
    };
    match text {
        "-" => Side::Absent,
        "!" => Side::Rejected,
        _ if text.contains('+') => Side::Duplicate(
            text.split('+')
                .map(|t| match one(t) {
                    Side::Row(row) => row,
                    _ => unreachable!(),
                })
                .collect(),
        ),
        _ => one(text),
    }
}

#[test]
fn a_difference_heals_in_flight() {
    check(
        "1 crm@100 erp@100                 => tied_out
         2 crm@110 erp@105 1:A/-@110/      => in_flight; 1 missing in_flight 110
         3 crm@111 erp@139.999             => in_flight; 1 missing in_flight 110
         4 erp@140 1:=@/140                => tied_out",
    );
}

#[test]
fn a_difference_is_confirmed_when_the_actual_side_had_its_time() {
    check(
        "1 crm@100 erp@100 1:A/-@100/      => in_flight; 1 missing in_flight 100
         2 erp@129                         => in_flight; 1 missing in_flight 100
         3 erp@130                         => open; 1 missing confirmed 100
         4 crm@200 erp@200                 => open; 1 missing confirmed 100
         5 erp@201 1:=@/201                => tied_out",
    );
}

#[test]
fn a_row_that_is_late_from_the_start_is_confirmed_at_once() {
    check("1 crm@100 erp@200 1:A/-@100/ => open; 1 missing confirmed 100");
}

#[test]
fn a_difference_is_undetermined_until_the_expected_side_is_closed_up_to_it() {
    check(
        "1 crm@100 erp@200 1:-/A@/150      => in_flight; 1 unexpected undetermined 150
         2 crm@149                         => in_flight; 1 unexpected undetermined 150
         3 crm@150                         => open; 1 unexpected confirmed 150
         4 erp@210 2:-/A@/210              => open; 1 unexpected confirmed 150; 2 unexpected undetermined 210
         5 crm@215                         => open; 1 unexpected confirmed 150; 2 unexpected in_flight 210
         6 erp@240                         => open; 1 unexpected confirmed 150; 2 unexpected confirmed 210",
    );
}

#[test]
fn a_change_of_the_expected_side_restarts_the_grace_and_one_of_the_actual_side_does_not() {
    check(
        "1 crm@100 erp@100 1:A/-@100/      => in_flight; 1 missing in_flight 100
         2 crm@125 erp@125 1:A/B@/125      => in_flight; 1 mismatched in_flight 100
         3 erp@130                         => open; 1 mismatched confirmed 100
         4 crm@131 erp@131 1:A/C@/131      => open; 1 mismatched confirmed 100
         5 crm@140 erp@141 1:B/C@140/      => in_flight; 1 mismatched in_flight 140
         6 erp@169                         => in_flight; 1 mismatched in_flight 140
         7 erp@170                         => open; 1 mismatched confirmed 140",
    );
}

/// The actual side may have applied what the expected side's connector has yet to send.
#[test]
fn a_newer_change_of_the_actual_side_waits_for_the_expected_side_to_come_so_far() {
    check(
        "1 crm@100 erp@100 1:A/-@100/ 2:A/-@100/ => in_flight; 1 missing in_flight 100; 2 missing in_flight 100
         2 erp@210 1:A/B@/210              => open; 1 mismatched undetermined 100; 2 missing confirmed 100
         3 crm@150 1:C/B@150/              => open; 1 mismatched undetermined 150; 2 missing confirmed 100
         4 crm@205 1:=@205/                => open; 2 missing confirmed 100
         5 crm@206 2:A/D@/209              => in_flight; 2 mismatched undetermined 100
         6 crm@209                         => open; 2 mismatched confirmed 100
         7 erp@220 2:A/-@/220              => in_flight; 2 missing undetermined 100
         8 crm@221                         => open; 2 missing confirmed 100",
    );
}

#[test]
fn what_the_actual_side_did_is_known_though_the_key_agreed_meanwhile() {
    check(
        "1 crm@90 erp@105 1:-/A@/105       => in_flight; 1 unexpected undetermined 105
         2 erp@155 1:=@/155                => tied_out
         3 erp@200 crm@100 1:A/-@100/      => in_flight; 1 missing undetermined 100
         4 crm@140 1:B/-@140/              => in_flight; 1 missing undetermined 140
         5 crm@150 1:=@150/                => tied_out
         6 crm@154 1:A/-@154/              => in_flight; 1 missing undetermined 154
         7 crm@155                         => open; 1 missing confirmed 154
         8 crm@156 1:=@156/                => tied_out
         9 crm@157 1:A/-@157/              => open; 1 missing confirmed 157",
    );
}

/// Nobody must wait for what can't come.
#[test]
fn at_the_end_of_all_logs_no_expected_change_is_late() {
    check(
        "1 hydrating crm@100 erp@100 1:A/-@100/ 2:A/-@100/ => hydrating
         2 erp@210 1:A/B@/210 3:-/A@/210   => hydrating
         3 hydrated ended                  => open; 1 mismatched confirmed 100; 2 missing confirmed 100; 3 unexpected undetermined 210
         4 2:A/B@/209                      => open; 1 mismatched confirmed 100; 2 mismatched confirmed 100; 3 unexpected undetermined 210",
    );
}

/// The other way round: the actual side's connector is late, and shows what it did before the expected side's newest change.
#[test]
fn grace_counts_from_what_was_expected_last_though_the_key_agreed_meanwhile() {
    check(
        "1 crm@100 erp@90 1:A/-@100/       => in_flight; 1 missing in_flight 100
         2 crm@150 1:=@150/                => tied_out
         3 erp@105 1:-/A@/105              => in_flight; 1 unexpected in_flight 150
         4 erp@140                         => in_flight; 1 unexpected in_flight 150
         5 erp@155 1:=@/155                => tied_out
         6 crm@160 erp@160 1:-/A@/156      => in_flight; 1 unexpected in_flight 156",
    );
}

#[test]
fn an_expected_change_without_a_time_is_seen_by_its_row() {
    check(
        "1 crm@100 erp@130 1:A/B@100/      => open; 1 mismatched confirmed 100
         2 crm@120 1:C/B@/                 => in_flight; 1 mismatched in_flight 120",
    );
}

#[test]
fn since_stays_while_the_difference_is_open_and_is_new_when_it_opens_again() {
    let mut bench = Bench::new();
    let mut since = |tick, words: &str| {
        say_all(&mut bench, words);
        bench.close(tick);
        let ledger = bench.ledger.read();
        ledger.differences(0, None).next().map(|d| (d.since.tick, d.since.source_time / 1000))
    };
    assert_eq!(since(1, "crm@100 erp@100 1:A/-@100/"), Some((1, 100)));
    assert_eq!(since(2, "crm@110 1:B/-@110/"), Some((1, 100)));
    assert_eq!(since(3, "erp@120 1:=@/120"), None);
    assert_eq!(since(4, "erp@130 1:B/C@/130"), Some((4, 130)));
}

#[test]
fn a_side_that_stands_still_makes_the_comparison_stale_neither_green_nor_red() {
    check(
        "1 wall=0 crm@100 erp@100 1:A/-@100/ 2:A/-@50/ => open; 1 missing in_flight 100; 2 missing confirmed 50
         2 wall=60 crm@160                    => open; 1 missing in_flight 100; 2 missing confirmed 50
         3 wall=61 crm@161                    => stale; 1 missing undetermined 100; 2 missing undetermined 50
         4 wall=62 crm@162 3:A/-@162/         => stale; 1 missing undetermined 100; 2 missing undetermined 50; 3 missing undetermined 162
         5 wall=63 erp@140 2:=@/140           => open; 1 missing confirmed 100; 3 missing in_flight 162
         6 wall=130 crm@163                   => stale; 1 missing undetermined 100; 3 missing undetermined 162",
    );
    check(
        "1 wall=0 crm@100 erp@100            => tied_out
         2 wall=70 erp@170                    => stale",
    );
}

#[test]
fn a_side_stands_still_over_restarts_and_a_backlog_is_no_stand_still() {
    let close = |bench: &mut Bench, second: i64, first: bool| {
        (bench.sealed.wall_ms, bench.sealed.first) = (1_000_000 + second * 1_000, first);
        bench.close(second as Tick + 1);
        bench.ledger.read().status(0).state.cause()
    };
    let caught_up = |bench: &mut Bench, is: bool| bench.sealed.sources.iter_mut().for_each(|source| source.caught_up = is);
    let mut bench = Bench::new();
    caught_up(&mut bench, true);
    bench.read(CRM, 100).read(ERP, 100);
    assert_eq!(close(&mut bench, 0, true), None);
    bench.read(CRM, 150);
    assert_eq!(close(&mut bench, 50, false), None);
    // The ERP has shown nothing since second 0, whatever begins again, and is known to as soon as it is read to its end.
    assert_eq!([55, 58, 60].map(|second| close(&mut bench, second, true)), [None; 3]);
    assert_eq!(close(&mut bench, 61, false), Some(Cause::Still));
    caught_up(&mut bench, false);
    assert_eq!([63, 66].map(|second| close(&mut bench, second, second == 63)), [Some(Cause::Still); 2]);
    // What did not is asked first, however long nobody was there.
    bench.read(CRM, 180).read(ERP, 180);
    assert_eq!(close(&mut bench, 70, false), None);
    assert_eq!([200, 204].map(|second| close(&mut bench, second, second == 200)), [None; 2]);
    caught_up(&mut bench, true);
    assert_eq!(close(&mut bench, 205, false), Some(Cause::Still));
    bench.read(CRM, 190).read(ERP, 190);
    assert_eq!(close(&mut bench, 210, false), None);
    // A backlog that takes long to read, of what came while nobody was there.
    caught_up(&mut bench, false);
    assert_eq!(close(&mut bench, 300, true), None);
    bench.read(CRM, 200).read(ERP, 200);
    assert_eq!(close(&mut bench, 350, false), None);
    caught_up(&mut bench, true);
    assert_eq!([351, 410, 411].map(|second| close(&mut bench, second, false)), [None, None, Some(Cause::Still)]);
}

#[test]
fn trouble_of_a_source_makes_the_comparison_stale_at_once() {
    check(
        "1 crm@100 erp@150 1:A/-@100/ => open; 1 missing confirmed 100
         2 erp.trouble             => stale; 1 missing undetermined 100
         3 erp.fine                => open; 1 missing confirmed 100",
    );
    let mut bench = Bench::new();
    say(&mut bench, "crm.trouble");
    bench.close(1);
    let status = bench.ledger.read().status(0);
    assert_eq!(status.state.reason(), Some("source opportunity of the expected side: the file is gone"));
    assert_eq!(status.state.cause(), Some(Cause::Trouble));
    // What needs somebody is named before what may pass by itself.
    let erp = &mut bench.sealed.sources[ERP];
    (erp.trouble, erp.refused) = (Some("SCHEMA_CHANGED".into()), true);
    bench.close(2);
    let status = bench.ledger.read().status(0);
    assert_eq!((status.state.cause(), status.state.reason()), (Some(Cause::Schema), Some("source sales_order of the actual side: SCHEMA_CHANGED")));
}

#[test]
fn a_quiet_source_that_is_read_to_its_end_is_known_as_far_as_its_connection() {
    let mut plan = plan();
    plan.sources[ERP].connection = 0;
    let mut bench = Bench::of(plan);
    let mut times = |tick, words: &str| {
        say_all(&mut bench, words);
        bench.close(tick);
        let ledger = bench.ledger.read();
        (ledger.status(0).expected.time, ledger.status(0).actual.time)
    };
    assert_eq!(times(1, "crm@1 erp@2"), (1000, 2000));
    assert_eq!(times(2, "erp@3 erp.end"), (1000, 3000));
    assert_eq!(times(3, "crm.end"), (3000, 3000));
    assert_eq!(times(4, "erp@4 erp.more"), (3000, 4000));
    assert_eq!(times(5, "crm.more crm@2"), (3000, 4000), "what was known once stays known");
}

#[test]
fn what_came_after_a_log_was_asked_tells_nothing_of_it() {
    let mut plan = plan();
    plan.sources[ERP].connection = 0;
    let mut bench = Bench::of(plan);
    let mut known = |tick: i64, asked: i64, words: &str| {
        say_all(&mut bench, words);
        bench.sealed.wall_ms = 1_000_000 + tick;
        bench.sealed.sources[ERP].asked_ms = Some(1_000_000 + asked);
        bench.close(tick as u64);
        bench.ledger.read().status(0).actual.time
    };
    assert_eq!(known(100, 50, "crm.end crm@1 erp.end erp@0"), 0);
    assert_eq!(known(200, 50, "crm@5"), 0, "its log was asked before that came");
    assert_eq!(known(300, 150, "crm@9"), 1000);
    assert_eq!(known(400, 350, ""), 9000);
}

#[test]
fn without_source_times_the_tick_stands_in() {
    let mut bench = Bench::new();
    bench.report.sources[CRM].counts = vec![(0, Counts { read: 1, applied: 1, ..Counts::default() })];
    bench.report.sources[ERP].counts = vec![(0, Counts { read: 1, applied: 1, ..Counts::default() })];
    bench.change(1, Some((side("A"), Side::Absent)), None, None);
    bench.close(5_000);
    let state = |bench: &Bench| bench.ledger.read().differences(0, None).map(|d| (d.state, d.base)).collect::<Vec<_>>();
    assert_eq!(state(&bench), [(State::InFlight, 5_000)]);
    bench.close(34_999);
    assert_eq!(state(&bench), [(State::InFlight, 5_000)]);
    bench.close(35_000);
    assert_eq!(state(&bench), [(State::Confirmed, 5_000)]);
}

#[test]
fn an_input_that_was_never_read_holds_everything_back() {
    check("1 erp@100 1:-/A@/100 => in_flight; 1 unexpected undetermined 100");
    let mut bench = Bench::new();
    bench.read(ERP, 1).close(1);
    assert_eq!(bench.ledger.read().status(0).expected.held_by, Some(CRM));
    assert_eq!(bench.ledger.read().status(0).expected.time, i64::MIN);
}

#[test]
fn an_unknown_field_makes_no_difference_and_keeps_a_mismatch_undetermined() {
    check(
        "1 crm@100 erp@200 1:A?/A@100/   => tied_out
         2 2:A?/B@100/                   => in_flight; 2 mismatched undetermined 100
         3 3:A?/-@100/                   => open; 2 mismatched undetermined 100; 3 missing confirmed 100
         4 crm@201 2:A/B@100/            => open; 2 mismatched confirmed 100; 3 missing confirmed 100
         5 crm@202 3:A?/A@/150           => open; 2 mismatched confirmed 100
         6 crm@203 2:B?/B@203/           => tied_out",
    );
}

#[test]
fn a_reject_is_undetermined_whatever_the_time() {
    check(
        "1 crm@100 erp@200 1:!/A@100/ 2:!/-@100/ 3:A/!@100/ 4:-/!@/100 => in_flight; 1 mismatched undetermined 100; \
         2 missing undetermined 100; 3 mismatched undetermined 100; 4 unexpected undetermined 100
         2 crm@300 erp@300 1:= 2:= 3:= 4:= => tied_out",
    );
}

#[test]
fn several_rows_of_one_key_are_a_duplicate_on_either_side() {
    check(
        "1 crm@100 erp@200 1:A+B/A@100/ 2:A/A+B@/100 3:A+B/-@100/ => open; 1 duplicate confirmed 100; \
         2 duplicate confirmed 100; 3 duplicate confirmed 100
         2 crm@201 1:A/A+B@201/     => open; 1 duplicate in_flight 201; 2 duplicate confirmed 100; 3 duplicate confirmed 100",
    );
}

#[test]
fn nothing_is_shown_while_hydrating_and_all_of_it_at_once_after() {
    check(
        "1 hydrating crm@100 erp@100 1:A/-@100/ 2:A/B@100/ => hydrating
         2 erp@120 2:=@/120           => hydrating
         3 wall=5000 erp@125 3:A/B@100/ => hydrating
         4 hydrated erp@126           => in_flight; 1 missing in_flight 100; 3 mismatched in_flight 100
         5 hydrating erp@130          => open; 1 missing confirmed 100; 3 mismatched confirmed 100",
    );
}

#[test]
fn the_first_hydrated_tick_tells_when_each_difference_really_opened() {
    let mut bench = Bench::new();
    bench.sealed.hydrated = false;
    say(&mut bench, "1:A/-@100/");
    assert!(bench.close(3).changes.comparisons.is_empty());
    bench.sealed.hydrated = true;
    let output = bench.close(9);
    let [Change { before: None, after: Some(after) }] = output.changes.of(0) else { panic!("one difference appears") };
    assert_eq!(after.since, Since { tick: 3, source_time: 100_000 });
    assert!(bench.ledger.read().changes_after(3).is_none(), "what appears after hydration is for snapshots");
    assert_eq!(bench.ledger.read().changes_after(9).unwrap().count(), 0);
}

#[test]
fn changes_of_recent_ticks_can_be_asked_for() {
    let mut bench = Bench::new();
    bench.close(1);
    say(&mut bench, "1:A/-@100/");
    bench.close(2);
    bench.close(3);
    say(&mut bench, "1:=@/100");
    bench.close(4);
    let ledger = bench.ledger.read();
    let ticks = |after| ledger.changes_after(after).map(|c| c.map(|c| c.tick).collect::<Vec<_>>());
    assert_eq!(ticks(0), None, "before the first hydrated tick");
    assert_eq!(ticks(1), Some(vec![2, 4]));
    assert_eq!(ticks(2), Some(vec![4]));
    assert_eq!(ticks(4), Some(vec![]));
    assert_eq!(ticks(5), None, "a tick that is not closed yet");
}

#[test]
fn rejects_are_a_multiset_and_go_when_mended() {
    let mut bench = Bench::new();
    let standing = |bench: &Bench| bench.ledger.read().rejects().map(|(r, n)| (r.offset, n)).collect::<Vec<_>>();
    bench.reject(5, 1).reject(3, 1).reject(5, 1).reject(9, 1).reject(9, -1);
    assert_eq!(bench.close(1).rejects.iter().map(|(r, n)| (r.offset, *n)).collect::<Vec<_>>(), [(3, 1), (5, 2)]);
    assert_eq!(standing(&bench), [(3, 1), (5, 2)]);
    bench.reject(5, -1);
    bench.close(2);
    assert_eq!(standing(&bench), [(3, 1), (5, 1)]);
    let mut csv = Vec::new();
    bench.ledger.read().export_rejects(&mut csv).unwrap();
    let csv = String::from_utf8(csv).unwrap();
    assert_eq!(csv.lines().next(), Some("source,code,cause,key,partition,offset"));
    assert_eq!(csv.lines().nth(1), Some("opportunity,MAPPING_NOT_FOUND,\"no rule for `Thinking`, and no else\",7,0,3"));
}

#[test]
#[should_panic(expected = "a reject went that never came")]
fn a_reject_that_never_came_can_not_go() {
    let mut bench = Bench::new();
    bench.reject(1, -1);
    bench.close(1);
}

#[test]
#[should_panic(expected = "as_of never goes back")]
fn as_of_never_goes_back() {
    let mut bench = Bench::new();
    bench.close(2);
    bench.close(1);
}

#[test]
fn null_and_the_empty_text_are_told_apart_in_csv() {
    let mut csv = Vec::new();
    write_csv(&mut csv, [None, Some(""), Some("a b"), Some("a,\"b\""), Some("two\nlines"), None]).unwrap();
    assert_eq!(String::from_utf8(csv).unwrap(), ",\"\",a b,\"a,\"\"b\"\"\",\"two\nlines\",\n");
}

#[test]
fn differences_are_exported_in_the_types_that_each_side_declared() {
    let mut bench = Bench::new();
    "crm@100 erp@200 10:A5/B7@100/ 2:A3/-@100/ 3:-/B@/100 4:A+B/-@100/".split(' ').for_each(|word| say(&mut bench, word));
    bench.close(1);
    let mut csv = Vec::new();
    bench.ledger.read().export_differences(0, &mut csv).unwrap();
    let since = source_time_text(100_000);
    let want = format!(
        r#"key,kind,state,field,expected,actual,since
2,missing,confirmed,,"{{""status"":""A"",""amount"":""3.00""}}",,{since}
3,unexpected,confirmed,,,"{{""status"":""B"",""amount"":""0.0100""}}",{since}
4,duplicate,confirmed,,"[{{""status"":""A"",""amount"":""0.01""}},{{""status"":""B"",""amount"":""0.01""}}]",,{since}
10,mismatched,confirmed,amount,5.00,7.0000,{since}
10,mismatched,confirmed,status,A,B,{since}
"#
    );
    assert_eq!(String::from_utf8(csv).unwrap(), want);
    let summary = bench.ledger.read().summary();
    assert_eq!(summary["differences"]["orders_in_erp"]["kinds"]["missing"]["confirmed"], 1);
    assert_eq!(summary["sources"]["opportunity"]["read"], 1);
}

#[test]
fn values_turn_back_into_declared_types() {
    use crate::row::{Type::*, Value};
    let cases = [
        (Value::Decimal(15_000), Decimal(20, 4), Decimal(18, 2), Some(Value::Decimal(150))),
        (Value::Decimal(15_001), Decimal(20, 4), Decimal(18, 2), None),
        (Value::Decimal(700), Decimal(20, 2), Int(32), Some(Value::Int(7))),
        (Value::Double(1.1), Double, Decimal(10, 2), Some(Value::Decimal(110))),
        (Value::Double(7.0), Double, Int(64), Some(Value::Int(7))),
        (Value::Double(7.5), Double, Int(64), None),
        (Value::Timestamp(2 * 86_400_000_000), Timestamp(6, false), Date, Some(Value::Date(2))),
        (Value::Null, Decimal(20, 4), Int(8), Some(Value::Null)),
    ];
    for (value, from, to, want) in cases {
        assert_eq!(show::convert(value.clone(), from, to), want, "{value:?} {from} → {to}");
    }
}

#[test]
fn a_key_of_several_columns_is_a_json_array() {
    use crate::row::Type::*;
    let columns = [("region", Varchar(0)), ("year", Int(32)), ("closed", Date)];
    let key = show::parse_key(&columns, r#"["EMEA", 2026, null]"#).unwrap();
    let same = show::parse_key(&columns, r#"["EMEA", "2026", null]"#).unwrap();
    assert_eq!(key, same);
    let error = show::parse_key(&columns, r#"["EMEA"]"#).unwrap_err();
    assert_eq!(error, r#"`["EMEA"]` is not a JSON array of 3 values (region, year, closed)"#);
    assert!(show::parse_key(&columns[..1], "any text at all").is_ok());
}

#[test]
fn a_tick_is_whole_when_the_clock_and_every_worker_have_spoken() {
    let mut collector = Collector::new(2, 1);
    let report = |worker, tick| Report { worker, tick, ..Report::default() };
    let sealed = |tick| Sealed { tick, wall_ms: 0, hydrated: true, ..Sealed::default() };
    collector.report(report(1, 10));
    collector.report(report(1, 20));
    collector.report(report(0, 10));
    assert!(collector.pop().unwrap().is_none());
    collector.sealed(sealed(10));
    collector.sealed(sealed(20));
    let (tick, reports) = collector.pop().unwrap().unwrap();
    assert_eq!((tick.tick, reports.iter().map(|r| r.worker).collect::<Vec<_>>()), (10, vec![0, 1]));
    assert!(collector.pop().unwrap().is_none());
    collector.report(report(0, 20));
    assert_eq!(collector.pop().unwrap().unwrap().0.tick, 20);
}

#[test]
fn of_several_processes_each_must_have_said_what_it_sealed() {
    let mut collector = Collector::new(2, 2);
    let tell = |collector: &mut Collector, tick| (0..2).for_each(|worker| collector.report(Report { worker, tick, ..Report::default() }));
    tell(&mut collector, 10);
    collector.sealed(Sealed { tick: 10, restored: true, ..Sealed::default() });
    assert_eq!(collector.pop().unwrap().unwrap().0.tick, 10);
    tell(&mut collector, 20);
    collector.sealed(Sealed { tick: 20, ..Sealed::default() });
    assert!(collector.pop().unwrap().is_none());
    collector.part(Part { process: 1, tick: 20, ..Part::default() });
    assert_eq!(collector.pop().unwrap().unwrap().0.tick, 20);
}

#[test]
fn the_loop_applies_what_came_and_ends_with_the_workers() {
    let ledger = SharedLedger::new(Ledger::new(Arc::new(plan())));
    let (to_sealed, sealed) = crossbeam_channel::unbounded();
    let (to_reports, reports) = crossbeam_channel::unbounded();
    for tick in 1..=3 {
        let counts = SourceReport { counts: vec![(0, Counts { read: 2, applied: 2, ..Counts::default() })], source_time: i64::MIN, handled: None, beat: None };
        to_reports.send(Report { tick, sources: vec![counts; 2], ..Report::default() }).unwrap();
        to_sealed.send(Sealed { tick, wall_ms: 1, hydrated: true, ..Sealed::default() }).unwrap();
    }
    drop((to_sealed, to_reports));
    let mut seen = Vec::new();
    run(&ledger, &sealed, &crossbeam_channel::never(), &reports, |output| seen.push(output.tick)).expect("there is one process");
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(ledger.read().sources()[CRM].counts().read, 6);
    assert_eq!(*ledger.closed().borrow(), 3);
}

/// The states once more, from scratch at every tick and without queues: what a difference is follows from its base, the newest
/// change of the actual side, the two side times and whether the comparison is stale. It shares the classification of sides with the ledger, nothing else.
#[test]
fn states_equal_those_computed_from_scratch_at_every_tick() {
    struct Known {
        unclear: bool,
        kind: Kind,
        base: i64,
        expected: Side,
    }
    for seed in 1..=200u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        let (plan, mut bench) = (plan(), Bench::new());
        let (grace, stale_after) = (30_000, 60_000);
        let mut known: BTreeMap<i64, Known> = BTreeMap::new();
        // By key, the newest change of the actual side.
        let mut reached: BTreeMap<i64, i64> = BTreeMap::new();
        // And of keys that agree, of the expected side while the actual side has not come so far.
        let mut asked: BTreeMap<i64, i64> = BTreeMap::new();
        let mut times = [i64::MIN; 2];
        let mut moved = [0i64; 2];
        bench.sealed.hydrated = false;
        for tick in 1..=120u64 {
            bench.sealed.hydrated |= tick > 20;
            bench.sealed.wall_ms += if next(12) == 0 { 45_000 } else { 1_000 };
            let wall_ms = bench.sealed.wall_ms;
            for source in [CRM, ERP] {
                bench.sealed.sources[source].trouble = (next(25) == 0).then(|| "gone".to_string());
                if next(3) > 0 {
                    let time = times[source].max(0) + 1 + next(12_000) as i64;
                    bench.read(source, time);
                    times[source] = times[source].max(time);
                    moved[source] = wall_ms;
                }
            }
            if times.contains(&i64::MIN) {
                // Until both have a time the tick stands in; that has a test of its own.
                [CRM, ERP].into_iter().for_each(|s| {
                    bench.read(s, 0);
                });
                times = times.map(|t| t.max(0));
                moved = [wall_ms; 2];
            }
            if tick == 21 {
                moved = [wall_ms; 2];
            }
            let mut touched = std::collections::BTreeSet::new();
            for _ in 0..next(4) {
                let id = next(6) as i64;
                if !touched.insert(id) {
                    continue;
                }
                let mut side = || match next(6) {
                    0 => Side::Absent,
                    1 => Side::Rejected,
                    2 => row("A", None),
                    n => row(["A", "B", "C"][n as usize % 3], Some(1)),
                };
                let (expected, actual) = (side(), side());
                let mut at = |now: i64| (next(2) == 0).then(|| (now - next(40_000) as i64).max(0));
                let (expected_time, actual_time) = (at(times[CRM]), at(times[ERP]));
                let sides = Sides { expected: expected.clone(), actual };
                let classified = classify(&plan.comparisons[0], &sides);
                let now = (sides.expected, sides.actual);
                let before = known.remove(&id);
                let last = before.as_ref().map(|b| b.base).or_else(|| asked.remove(&id)).unwrap_or(i64::MIN);
                if let Some((kind, unclear)) = classified.clone() {
                    let or_else = |time: Option<i64>| time.unwrap_or(times[CRM]);
                    let base = match before {
                        Some(b) if b.expected == expected => b.base,
                        Some(_) => or_else(expected_time),
                        None => or_else(expected_time.max(actual_time)).max(last),
                    };
                    known.insert(id, Known { unclear: unclear.is_some(), kind, base, expected });
                } else {
                    asked.insert(id, last.max(expected_time.unwrap_or(i64::MIN)));
                }
                let newest = reached.entry(id).or_insert(i64::MIN);
                *newest = (*newest).max(actual_time.unwrap_or(i64::MIN));
                bench.change(id, classified.is_some().then_some(now), expected_time, actual_time);
            }
            let trouble = bench.sealed.sources.iter().any(|s| s.trouble.is_some());
            let stale = trouble || moved.iter().any(|m| wall_ms - m > stale_after);
            bench.close(tick);
            asked.retain(|_, time| *time > times[ERP]);
            let ledger = bench.ledger.read();
            let shown: Vec<_> = ledger.differences(0, None).map(|d| (d.kind, d.state, d.base)).collect();
            let want: Vec<_> = known
                .iter()
                .map(|(id, k)| {
                    let state = if stale || k.unclear || times[CRM] < k.base.max(reached[id]) {
                        State::Undetermined
                    } else if times[ERP] < k.base + grace {
                        State::InFlight
                    } else {
                        State::Confirmed
                    };
                    (k.kind, state, k.base)
                })
                .collect();
            assert_eq!(shown, if bench.sealed.hydrated { want } else { Vec::new() }, "seed {seed}, tick {tick}");
        }
    }
}
