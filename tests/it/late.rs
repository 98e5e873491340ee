//! A system that always follows within the grace is never alarmed on, however late either side's log comes: what the actual side
//! has applied already may be what the expected side's connector has yet to send.

use std::time::Duration;

use proptest::{prelude::*, test_runner::RngSeed};
use tieout::{
    config::{self, Need},
    ledger::State,
    scenario::{START_MS, Scenario},
};

const CONFIG: &str = "connections:\n  crm: { kind: file, dir: . }\n  erp: { kind: file, dir: . }\n";
const DATAFLOW: &str = "\
dataflow: d
sources:
  wanted: { connection: crm, files: [wanted.ndjson], format: debezium-json, key: [id], columns: { id: bigint, v: bigint } }
  there: { connection: erp, files: [there.ndjson], format: debezium-json, key: [id], columns: { id: bigint, v: bigint } }
targets:
  wanted_sums: { key: [part], sql: 'SELECT id % 2 AS part, sum(v) AS v FROM wanted GROUP BY id % 2' }
  sums_there: { key: [part], sql: 'SELECT id % 2 AS part, sum(v) AS v FROM there GROUP BY id % 2' }
comparisons:
  rows: { expected: wanted, actual: there, grace: 1s, stale_after: 365d }
  sums: { expected: wanted_sums, actual: sums_there, grace: 1s, stale_after: 365d }
";
const GRACE_MS: i64 = 1_000;

/// A change of the expected side: how long after the one before, which key, to what (`None`: gone), and how long the actual
/// side takes.
type Step = (i64, i64, Option<i64>, i64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let apart = prop_oneof![1..50i64, 1..3_000i64];
    // Few keys and values, so that rows come back to what they were.
    let step = (apart, 0..4i64, prop_oneof![Just(None), (1..3i64).prop_map(Some)], 1..GRACE_MS);
    prop::collection::vec(step, 1..40)
}

/// What both logs say, with source times.
fn logs(steps: &[Step]) -> [Vec<(i64, String)>; 2] {
    let (mut now, mut free) = (START_MS, [0; 4]);
    let mut logs: [Vec<(i64, String)>; 2] = Default::default();
    for (apart, id, value, takes) in steps {
        now += apart;
        // The changes of one key are applied in their order.
        let applied = (now + takes).max(free[*id as usize] + 1);
        free[*id as usize] = applied;
        for (log, time) in logs.iter_mut().zip([now, applied]) {
            let row = value.map_or_else(|| format!(r#""op":"d","before":{{"id":{id},"v":0}}"#), |v| format!(r#""op":"u","after":{{"id":{id},"v":{v}}}"#));
            log.push((time, format!(r#"{{{row},"source":{{"ts_ms":{time}}}}}"#)));
        }
    }
    logs.iter_mut().for_each(|log| log.sort_by_key(|(time, _)| *time));
    logs
}

fn confirmed(scenario: &Scenario) -> Vec<String> {
    let ledger = scenario.ledger();
    let of =
        |c: usize| ledger.differences(c, None).filter(|d| d.state == State::Confirmed).map(move |d| format!("{} {d:?}", ledger.plan().comparisons[c].name));
    (0..2).flat_map(of).collect()
}

/// `TIEOUT_ORACLE_CASES` and `TIEOUT_ORACLE_SEED`, as for the oracle: the same cases every time unless they say otherwise.
fn config() -> ProptestConfig {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seed = RngSeed::Fixed(number("TIEOUT_ORACLE_SEED").unwrap_or(20_261_121));
    ProptestConfig { cases: number("TIEOUT_ORACLE_CASES").unwrap_or(60) as u32, failure_persistence: None, rng_seed: seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn who_follows_in_time_is_never_alarmed_on(steps in steps(), turns in prop::collection::vec((any::<bool>(), 1..30usize, 0..20u8), 0..30), workers in 1..3usize) {
        let plan = config::load_texts(("config.yaml", CONFIG), &[("dataflows/d.yaml", DATAFLOW)], &|_| None, Need::Connections).expect("it holds");
        let mut scenario = Scenario::new(tieout::plan::Plan { workers, ..plan });
        let logs = logs(&steps);
        let mut at = [0; 2];
        // By turns one of them comes, a message a tick, and the other is late; at the end all of both has come.
        for (first, many, restart) in turns.into_iter().chain([(true, usize::MAX, 1), (false, usize::MAX, 1)]) {
            let of = usize::from(!first);
            for (_, message) in logs[of][at[of]..].iter().take(many) {
                scenario.feed(of, &[(None, Some(message.as_bytes()))]);
                scenario.seal();
                at[of] += 1;
                let confirmed = confirmed(&scenario);
                prop_assert!(confirmed.is_empty(), "after {at:?} of\n{:#?}\n{confirmed:#?}", logs);
            }
            if restart == 0 {
                scenario.restart(workers);
            }
        }
        scenario.advance(Duration::from_secs(1_000));
        scenario.seal();
        prop_assert_eq!(scenario.ledger().status(0).counts.total() + scenario.ledger().status(1).counts.total(), 0);
        // And one that does not follow is, once both are known so far.
        scenario.feed(0, &[(None, Some(br#"{"op":"u","after":{"id":1,"v":7}}"#))]);
        scenario.seal();
        scenario.advance(Duration::from_secs(1));
        scenario.seal();
        prop_assert_eq!(confirmed(&scenario).len(), 2);
        scenario.stop();
    }
}
